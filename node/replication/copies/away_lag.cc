#include "node/replication/copies/away_lag.h"

#include <algorithm>

#include "node/replication/children.h"

namespace starling::node {

AwayLag::AwayLag(ClusterView& view) : view_(view) {
  view_.lags = [this](PartitionId partition, const NodeId& owner) { return lags({partition, owner}); };
  view_.on_doubled([this] { split_keys(marks_); });  // One may lack nothing: the next comparison tells.
  view_.on_ring([this] {
    std::erase_if(marks_, [this](const auto& mark) { return !is_away(mark.first); });
    std::erase_if(heard_, [this](const NodeId& node) { return view_.ring().member(node) == nullptr; });
  });
}

// Of what we are at home for.
bool AwayLag::is_away(const Copy& copy) const {
  const auto& [partition, owner] = copy;
  return view_.is_home(partition) && view_.ring().is_owner(partition, owner) && !view_.ring().is_home(partition, owner);
}

void AwayLag::note(PartitionId partition, const NodeId& owner, std::uint64_t has, std::uint64_t held) {
  const Copy copy{partition, owner};
  if (has >= held) {
    marks_.erase(copy);
    return;
  }
  if (!is_away(copy)) return;
  Mark& mark = marks_[copy];
  mark.has = has;
  mark.held = held;
  mark.noted = view_.loop.now();
  if (has < mark.n) return;
  mark.n = held;
  mark.since = view_.loop.now();
}

void AwayLag::compared(const NodeId& owner, Instant begun) {
  heard_.insert(owner);
  std::erase_if(marks_, [&](const auto& mark) {
    const auto& [partition, node] = mark.first;
    // What is not whole here is not compared.
    return node == owner && mark.second.noted < begun && view_.store.is_whole(partition);
  });
}

bool AwayLag::lags(const Copy& copy) const {
  const auto mark = marks_.find(copy);
  return mark != marks_.end() && view_.loop.now() - mark->second.since > kLagsAfter;
}

std::vector<AwayLag::Copy> AwayLag::some(std::size_t most) {
  std::vector<Copy> copies;
  auto at = marks_.upper_bound(last_);
  for (std::size_t left = marks_.size(); left > 0 && copies.size() < most; --left, ++at) {
    if (at == marks_.end()) at = marks_.begin();
    if (!lags(at->first) || !view_.reachable(at->first.second)) continue;
    copies.push_back(at->first);
    last_ = at->first;
  }
  return copies;
}

std::set<std::string> AwayLag::unheard_sites() const {
  std::set<std::string> sites;
  const auto members = view_.ring().members();
  const bool all_heard = std::all_of(members.begin(), members.end(), [this](const auto& member) {
    return member.id == view_.self || !member.owns() || heard_.contains(member.id);
  });
  if (all_heard) return sites;
  for (const auto partition : view_.ring().partitions_of(view_.self)) {
    if (!view_.is_home(partition)) continue;
    std::map<std::string, bool> heard;
    for (const auto& owner : view_.ring().owners(partition)) {
      if (view_.ring().is_home(partition, owner)) continue;
      bool& one = heard[view_.ring().member(owner)->zone];
      one = one || heard_.contains(owner);
    }
    for (const auto& [zone, one] : heard) {
      if (!one) sites.insert(zone);
    }
  }
  return sites;
}

std::map<std::string, std::optional<AwayLag::Lag>> AwayLag::by_site() const {
  std::map<std::string, std::optional<Lag>> sites;
  if (!view_.in_ring() || !view_.ring().by_site()) return sites;
  const auto* self = view_.ring().member(view_.self);
  for (const auto& member : view_.ring().members()) {
    if (member.owns() && self != nullptr && member.zone != self->zone) sites[member.zone] = Lag{};
  }
  for (const auto& zone : unheard_sites()) sites[zone].reset();
  std::map<std::pair<PartitionId, std::string>, Lag> furthest;
  for (const auto& [copy, mark] : marks_) {
    const std::string& zone = view_.ring().member(copy.second)->zone;
    const Lag lag{mark.held - mark.has, view_.loop.now() - mark.since};
    const auto [at, fresh] = furthest.emplace(std::pair(copy.first, zone), lag);
    if (!fresh && lag.changes < at->second.changes) at->second = lag;
  }
  for (const auto& [where, lag] : furthest) {
    // Another copy there that lacks nothing has no mark.
    const auto owners = view_.ring().owners(where.first);
    const bool is_there = std::any_of(owners.begin(), owners.end(), [&, zone = where.second](const NodeId& owner) {
      return is_away({where.first, owner}) && heard_.contains(owner) && !marks_.contains({where.first, owner}) &&
             view_.ring().member(owner)->zone == zone;
    });
    auto& site = sites[where.second];
    if (is_there || !site) continue;
    site->changes += lag.changes;
    site->age = std::max(site->age, lag.age);
  }
  return sites;
}

}  // namespace starling::node
