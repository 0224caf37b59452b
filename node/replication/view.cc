#include "node/replication/view.h"

#include <algorithm>

namespace starling::node {

void ClusterView::set_ring(RingPtr ring) {
  previous_ = std::exchange(ring_, std::move(ring));
  for (auto& watcher : ring_watchers_) watcher();
}

bool ClusterView::own_dots_hold(PartitionId partition, std::uint64_t n) {
  if (store.held(partition, store.writer()) >= n) return true;
  if (!store.kept_writer()) return false;
  store.fail({Errc::kCorrupt, "a peer holds changes of this node that this folder never heard of: it is an older "
                              "copy. Started again, the node goes on under a new writer and fetches them"});
  return false;
}

std::vector<NodeId> ClusterView::candidates(PartitionId partition) const {
  std::vector<NodeId> nodes(ring().owners(partition).begin(), ring().owners(partition).end());
  auto rank = [this](const NodeId& node) { return !alive(node) ? 2 : behind(node) ? 1 : 0; };
  std::stable_sort(nodes.begin(), nodes.end(),
                   [&](const NodeId& a, const NodeId& b) { return rank(a) < rank(b); });
  return nodes;
}

std::size_t ClusterView::reachable_owners(PartitionId partition) const {
  std::size_t count = 0;
  for (const auto& node : ring().owners(partition)) count += alive(node) ? 1 : 0;
  return count;
}

bool ClusterView::coordinates(PartitionId partition) const {
  return is_owner(partition) && candidates(partition).front() == self;
}

}  // namespace starling::node
