// Newcomers: connections that have proven nothing yet, and who of them gives way when the places run out.
//
// Anybody can open connections, so a door that is full must not stay shut to others. The oldest of all gives way; or,
// while an address has more than its share, the oldest of the address that holds the most. So who opens many pushes out
// its own, and who comes from many addresses does not push out those that share one (NAT, a balancer) for being many.
// An address is a network (network_of): of IPv6 anybody has 2^64 in one.
// Thread: one loop; pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>

namespace starling::node {

// The host as it counts for bounds: an IPv6 address by its /64; others as they are.
std::string network_of(const std::string& host);

class Newcomers {
 public:
  // A share is a sixteenth of the places.
  explicit Newcomers(std::size_t places) : share_(places / 16) {}

  // The lower id is the older. REQUIRES: not here yet.
  void add(std::uint64_t id, const std::string& address) {
    auto& held = by_address_[address];
    unrank(address, held);
    held.insert(id);
    rank(address, held);
    addresses_.emplace(id, address);
  }
  // It has proven itself, or is gone.
  void remove(std::uint64_t id) {
    const auto known = addresses_.find(id);
    if (known == addresses_.end()) return;
    const auto held = by_address_.find(known->second);
    unrank(held->first, held->second);
    held->second.erase(id);
    rank(held->first, held->second);
    if (held->second.empty()) by_address_.erase(held);
    addresses_.erase(known);
  }
  [[nodiscard]] std::optional<std::uint64_t> to_give_way() const {
    if (ranks_.empty()) return std::nullopt;
    if (std::get<0>(*ranks_.rbegin()) <= share_) return addresses_.begin()->first;
    return *by_address_.at(std::get<2>(*ranks_.rbegin())).begin();
  }
  [[nodiscard]] std::size_t size() const { return addresses_.size(); }

 private:
  using Ids = std::set<std::uint64_t>;
  // By how many it holds; of equals, who holds the oldest is the highest.
  using Rank = std::tuple<std::size_t, std::uint64_t, std::string>;

  static Rank rank_of(const std::string& address, const Ids& held) { return {held.size(), ~*held.begin(), address}; }
  void rank(const std::string& address, const Ids& held) {
    if (!held.empty()) ranks_.insert(rank_of(address, held));
  }
  void unrank(const std::string& address, const Ids& held) {
    if (!held.empty()) ranks_.erase(rank_of(address, held));
  }

  const std::size_t share_;
  std::map<std::uint64_t, std::string> addresses_;
  std::map<std::string, Ids> by_address_;
  std::set<Rank> ranks_;
};

}  // namespace starling::node
