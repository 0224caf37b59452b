#include "node/replication/view.h"

#include <algorithm>
#include <array>
#include <tuple>

namespace starling::node {

void ClusterView::set_ring(RingPtr ring) {
  previous_ = std::exchange(ring_, std::move(ring));
  std::erase_if(reads, [this](const auto& read) { return ring_->member(read.first) == nullptr; });
  if (previous_ != nullptr && ring_->partitions() == 2 * previous_->partitions()) {
    for (auto& watcher : doubled_watchers_) watcher();
  }
  for (auto& watcher : ring_watchers_) watcher();
}

Status ClusterView::observe(Hlc time) {
  if (clock_trusted()) return hlc.observe(time, loop.wall_ms());
  // In doubt it is judged by what our clock would be, had it stayed as it was when it was good.
  const std::int64_t steady_ms = to_ms(loop.now().time_since_epoch());
  return overlay::HlcClock::check(time, good_clock_ms != 0 ? steady_ms + good_clock_ms : loop.wall_ms(),
                                  overlay::kLiveAheadMax);
}

void ClusterView::observe_repair(Hlc time) {
  if (clock_trusted()) hlc.observe_repair(time, loop.wall_ms());
}

void ClusterView::bad_notice(std::string_view reason, const NodeId& from, overlay::Method method, const Error& error) {
  ++counters.notices_refused[reason];
  log.warn("a notice cannot be taken", {{"from", from}, {"method", static_cast<std::uint64_t>(method)}, {"cause", error}});
}

overlay::Future<bool> ClusterView::durable() {
  auto [durable, future] = overlay::Completer<bool>::make(loop);
  store.when_durable([durable = durable]() mutable { durable.set(true); });
  return std::move(future);
}

bool ClusterView::own_dots_hold(PartitionId partition, std::uint64_t n) {
  if (store.issued(partition) >= n) return true;
  if (!store.kept_writer()) return false;
  store.fail({Errc::kCorrupt, "a peer holds changes of this node that this folder never heard of: it is an older "
                              "copy. Started again, the node goes on under a new writer and fetches them"});
  return false;
}

Status ClusterView::answers_for(PartitionId partition) const {
  if (!is_owner(partition)) {
    return Error{Errc::kNotOwner, "this node does not own partition " + std::to_string(partition.value) +
                                      " in ring version " +
                                      std::to_string(in_ring() ? ring_->number().value : 0)};
  }
  if (!store.is_whole(partition)) {
    return Error{Errc::kCorrupt, "something of partition " + std::to_string(partition.value) +
                                     " is damaged on this owner and being repaired; ask the next one"};
  }
  return ok_status();
}

Status ClusterView::same_count(std::uint32_t partitions) const {
  if (!in_ring()) return ok_status();  // Here is none (exists).
  const std::uint32_t theirs = partitions != 0 ? partitions : ring_->version().placed();
  if (theirs == store.partitions()) return ok_status();
  return Error{Errc::kStaleRing, "of " + std::to_string(theirs) + " partitions, and here are " +
                                     std::to_string(store.partitions()) + " by now"};
}

Status ClusterView::same_count(const NodeId& peer, std::uint32_t partitions) const {
  if (in_ring() && partitions > store.partitions() && on_newer_ring) on_newer_ring(peer, {});
  return same_count(partitions);
}

bool ClusterView::awaits_refill(PartitionId partition) const {
  if (store.is_whole(partition)) return false;
  const auto refill = store.to_refill();
  return std::find(refill.begin(), refill.end(), partition) != refill.end();
}

std::vector<NodeId> ClusterView::by_state(const overlay::NodeList& owners) const {
  std::array<int, overlay::kCopiesMax> ranks{};
  for (std::size_t i = 0; i < owners.size(); ++i) {
    const NodeId& node = owners[i];
    ranks[i] = !alive(node) ? 3 : !reachable(node) ? 2 : behind(node) ? 1 : 0;
  }
  std::vector<NodeId> nodes;
  nodes.reserve(owners.size());
  for (int rank = 0; rank <= 3; ++rank) {
    for (std::size_t i = 0; i < owners.size(); ++i) {
      if (ranks[i] == rank) nodes.push_back(owners[i]);
    }
  }
  return nodes;
}

std::vector<NodeId> ClusterView::candidates(PartitionId partition) const {
  return by_state(ring().home(partition));
}

std::vector<NodeId> ClusterView::readers(PartitionId partition) const {
  auto nodes = candidates(partition);
  if (ring().copies() == ring().home_copies()) return nodes;
  const auto dead = std::find_if(nodes.begin(), nodes.end(), [this](const auto& node) { return !alive(node); });
  auto all = by_state(ring().owners(partition));
  std::erase_if(all, [&](const auto& node) { return ring().is_home(partition, node); });
  nodes.insert(dead, all.begin(), all.end());
  return nodes;
}

std::size_t ClusterView::reachable_home(PartitionId partition) const {
  std::size_t count = 0;
  for (const auto& node : ring().home(partition)) count += reachable(node) ? 1 : 0;
  return count;
}

int ClusterView::stand_in_rank(PartitionId partition, const overlay::RingMember& member) const {
  if (!ring().by_site()) return 0;
  const auto* home = ring().member(ring().home(partition).front());
  if (home->zone == member.zone) return 3;
  if (!ring().is_owner(partition, member.id)) return 1;
  return lags && lags(partition, member.id) ? 0 : 2;
}

std::vector<NodeId> ClusterView::stand_ins(PartitionId partition) const {
  const std::size_t owners = reachable_home(partition);
  if (owners >= ring().w()) return {};
  // By what owners are computed for, so that both children of a partition have the stand-in that holds their segments.
  const PartitionId unit = starling::covering(partition, ring().partitions(), ring().version().placed());
  std::vector<std::tuple<int, std::size_t, NodeId>> ranked;
  for (const auto& member : ring().members()) {
    if (!member.votes() || ring().is_home(partition, member.id) || !reachable(member.id)) continue;
    if (behind(member.id)) continue;  // No disk space, or not sure of what it has.
    ranked.emplace_back(stand_in_rank(partition, member),
                        std::hash<std::string>{}(Bytes(member.id.view()) + std::to_string(unit.value)),
                        member.id);
  }
  std::sort(ranked.rbegin(), ranked.rend());
  ranked.resize(std::min(ranked.size(), ring().w() - owners));
  std::vector<NodeId> nodes;
  for (const auto& [rank, hash, node] : ranked) nodes.push_back(node);
  return nodes;
}

bool ClusterView::coordinates(PartitionId partition) const {
  return is_home(partition) && candidates(partition).front() == self;
}

}  // namespace starling::node
