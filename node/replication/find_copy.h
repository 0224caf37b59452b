// FindCopy: what this node has of one message, for an operator who asks where it is.
//
// It tells of any node, owner or not: what is held for others counts, too. It changes nothing.
// Thread: one loop.
#pragma once

#include "node/replication/messages.h"
#include "node/replication/publisher.h"
#include "node/replication/stand_in.h"
#include "node/replication/view.h"

namespace starling::node {

class FindCopy {
 public:
  FindCopy(ClusterView& view, const Publisher& publisher, const StandIn& stand_in);

 private:
  [[nodiscard]] Result<Bytes> answer(const FindCopyRequest& request) const;
  void find(const FindCopyRequest& request, FindCopyReply& reply) const;
  [[nodiscard]] CopyState state_of(PartitionId partition, const Dot& dot) const;

  ClusterView& view_;
  const Publisher& publisher_;
  const StandIn& stand_in_;
};

}  // namespace starling::node
