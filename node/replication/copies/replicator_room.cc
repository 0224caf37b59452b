// How much waits for the other owners, and whether one more change may.
#include <algorithm>

#include "node/replication/copies/replicator.h"

namespace starling::node {

std::size_t Replicator::waiting_for(const NodeId& node) const {
  const auto gathered = outgoing_bytes_.find(node);
  return view_.queued(node) + (gathered == outgoing_bytes_.end() ? 0 : gathered->second);
}

bool Replicator::has_room(PartitionId partition) const {
  std::size_t room = 0, crowded = 0;
  for (const auto& owner : view_.ring().home(partition)) {
    if (!view_.reachable(owner)) continue;
    ++(owner != view_.self && is_crowded(owner) ? crowded : room);
  }
  return crowded == 0 || room >= view_.ring().w();
}

double Replicator::crowding() const {
  if (!view_.in_ring() || view_.ring().w() < 2) return 0;
  std::vector<std::size_t> waiting;
  for (const auto& member : view_.ring().members()) {
    if (member.id != view_.self && member.owns() && view_.reachable(member.id)) waiting.push_back(waiting_for(member.id));
  }
  if (waiting.empty()) return 0;
  std::sort(waiting.begin(), waiting.end());
  const std::size_t least = waiting[std::min(view_.ring().w() - 1, waiting.size()) - 1];
  return static_cast<double>(least) / static_cast<double>(kOwnerQueueBytesMax);
}

}  // namespace starling::node
