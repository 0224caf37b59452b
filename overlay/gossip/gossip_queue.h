// GossipQueue: the updates still to be spread, a few riding on every packet (SWIM, DSN 2002,
// section 4.1: infection-style dissemination).
//
// Each update leaves retransmit_mult * ceil(log10(n + 1)) times, least-sent first and newest first
// among equals. A newer record of a node replaces everything older about it; a newer claim replaces
// older claims but not the record, because without the record nobody can use the claim.
// Bounded by kGossipQueueMax: what was sent most often, and of that the oldest, is dropped.
// Thread: one loop; pure.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "overlay/gossip/swim_wire.h"

namespace starling::overlay {

inline constexpr std::size_t kGossipQueueMax = 2 * kMembersMax;  // A claim and a record each.

// How often one update is sent in a cluster of n.
int retransmit_limit(int retransmit_mult, std::size_t n);

class GossipQueue {
 public:
  explicit GossipQueue(int retransmit_mult) : retransmit_mult_(retransmit_mult) {}

  // `bytes` is an encoded update (swim_wire.h) about `node` at `incarnation`.
  void add(UpdateKind kind, const NodeId& node, std::uint64_t incarnation, Shared bytes);

  // Appends updates to `out` that fit in `budget` bytes, each counted with kUpdateOverhead, and
  // counts them as sent once. Returns the bytes used.
  std::size_t take(std::size_t budget, std::size_t n, std::vector<Shared>& out);

  void clear();
  [[nodiscard]] bool empty() const { return order_.empty(); }
  [[nodiscard]] std::size_t size() const { return order_.size(); }

 private:
  struct Key {
    NodeId node;
    UpdateKind kind;
    friend auto operator<=>(const Key&, const Key&) = default;
  };
  struct Order {
    int sent;
    std::uint64_t age;  // Counts down, so a newer update sorts first.
    friend auto operator<=>(const Order&, const Order&) = default;
  };
  struct Item {
    Key key;
    std::uint64_t incarnation;
    Shared bytes;
  };
  void remove(const Key& key);

  int retransmit_mult_;
  std::uint64_t next_age_ = ~std::uint64_t{0};
  std::map<Order, Item> order_;
  std::map<Key, Order> places_;  // Invariant: as many as order_.
};

}  // namespace starling::overlay
