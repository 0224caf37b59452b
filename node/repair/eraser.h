// Eraser: erases changes that another one replaced, once every owner has that other one.
//
// A recalled content, a second copy of a message and an old value of a register say nothing any more, and
// the body of a recalled message must not stay on disk. But whoever erases one calls it gone from then on, and
// an owner that hears so without ever getting what replaced it would have neither. So a change goes only
// when what replaced it is causally stable: synced by every owner of the partition (DottedDB, SRDS 2017,
// strips its causal contexts by the same rule). Anti-entropy tells what the others have.
// Some of it is the record of a duty and stays until that is met (positions.h).
// Invariant: what an owner was once heard to have synced it has, or it is a new owner, or it fetches it
// again from the others, who all have it.
// Thread: one loop.
#pragma once

#include <functional>
#include <map>

#include "node/replication/view.h"

namespace starling::node {

class Eraser {
 public:
  // `may_go`: is nothing owed for it any more?
  using MayGo = std::function<bool(PartitionId, const storage::Superseded&)>;
  Eraser(ClusterView& view, MayGo may_go);

  // From anti-entropy: `peer` has synced all that `has` names.
  void covers(const NodeId& peer, PartitionId partition, const storage::VersionVector& has);

 private:
  void tick();
  [[nodiscard]] bool is_stable(PartitionId partition, const Dot& dot) const;

  ClusterView& view_;
  const MayGo may_go_;
  // Only of partitions where something waits to be erased.
  std::map<PartitionId, std::map<NodeId, storage::VersionVector>> has_;
  overlay::Timer tick_;
};

}  // namespace starling::node
