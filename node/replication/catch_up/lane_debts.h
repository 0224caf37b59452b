// LaneDebts: of which owners the lanes of a partition still have to be merged.
//
// What a run leaves out because it expired raised lanes, and who gives the run gives the lanes with it. A stand-in has
// none: then the other owners are asked, and one that cannot be reached owes its lanes from then on. A lane that stays
// lower takes an old number for a new message (invariant 2), and equal vectors do not show it, so a debt is on disk no
// later than the run that it is of, and ends when the lanes were merged or the owner is none any more. Whoever takes a
// run from an owner with debts has the same.
// Thread: one loop.
#pragma once

#include <set>
#include <utility>
#include <vector>

#include "node/replication/view.h"

namespace starling::node {

class LaneDebts {
 public:
  explicit LaneDebts(ClusterView& view);

  void owe(PartitionId partition, const NodeId& owner);
  void paid(PartitionId partition, const NodeId& owner);
  [[nodiscard]] std::vector<NodeId> in(PartitionId partition) const;
  // Of this owner. Debts of partitions and owners that are such no more are forgotten.
  [[nodiscard]] std::vector<PartitionId> of(const NodeId& owner);
  [[nodiscard]] std::size_t size() const { return owed_.size(); }

 private:
  void load();
  void put(PartitionId partition, const NodeId& owner, bool owed);
  void partitions_doubled();

  ClusterView& view_;
  std::set<std::pair<PartitionId, NodeId>> owed_;
};

}  // namespace starling::node
