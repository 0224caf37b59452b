#include "overlay/gossip/gossip_queue.h"

#include <cassert>
#include <iterator>
#include <utility>

namespace starling::overlay {
namespace {

constexpr int kMisfitsMax = 16;  // Updates looked at in vain before a packet is full enough.

}  // namespace

int retransmit_limit(int retransmit_mult, std::size_t n) {
  // ceil(log10(n + 1)) without floating point: the smallest d with 10^d >= n + 1.
  int digits = 0;
  for (std::size_t power = 1; power < n + 1; power *= 10) ++digits;
  return retransmit_mult * digits;
}

void GossipQueue::add(UpdateKind kind, const NodeId& node, std::uint64_t incarnation,
                      Shared bytes) {
  const Key key{node, kind};
  if (kind == UpdateKind::kRecord) {
    const Key claim{node, UpdateKind::kClaim};
    const auto place = places_.find(claim);
    if (place != places_.end() && order_.at(place->second).incarnation < incarnation) remove(claim);
  }
  remove(key);
  const Order order{0, next_age_--};
  order_.emplace(order, Item{key, incarnation, std::move(bytes)});
  places_.emplace(key, order);
  if (order_.size() > kGossipQueueMax) {
    const Key last = std::prev(order_.end())->second.key;
    remove(last);
  }
  assert(order_.size() == places_.size());
}

std::size_t GossipQueue::take(std::size_t budget, std::size_t n, std::vector<Shared>& out) {
  std::size_t used = 0;
  int misfits = 0;
  const int limit = retransmit_limit(retransmit_mult_, n);
  std::vector<std::pair<Order, Item>> sent;
  for (auto it = order_.begin(); it != order_.end() && used + kUpdateSizeMin <= budget;) {
    const std::size_t cost = it->second.bytes->size() + kUpdateOverhead;
    if (used + cost > budget) {
      if (++misfits == kMisfitsMax) break;
      ++it;
      continue;
    }
    used += cost;
    out.push_back(it->second.bytes);
    sent.emplace_back(it->first, std::move(it->second));
    it = order_.erase(it);
  }
  // Put back only now, so that no update rides twice on one packet.
  for (auto& [order, item] : sent) {
    const Order next{order.sent + 1, order.age};
    if (next.sent >= limit) {
      places_.erase(item.key);
      continue;
    }
    places_.at(item.key) = next;
    order_.emplace(next, std::move(item));
  }
  assert(order_.size() == places_.size());
  return used;
}

void GossipQueue::clear() {
  order_.clear();
  places_.clear();
}

void GossipQueue::remove(const Key& key) {
  const auto place = places_.find(key);
  if (place == places_.end()) return;
  order_.erase(place->second);
  places_.erase(place);
}

}  // namespace starling::overlay
