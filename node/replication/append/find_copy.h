// FindCopy: what this node has of one message, for an operator who asks where it is.
//
// It tells of any node, owner or not: what is held for others counts, too. It changes nothing. A message that cannot be
// read, expired or was written off is known by its rows (storage/trace.h); one that is only held for others is looked
// for among all that is held of its partition, a page at a time, kHeldLookedThroughMax at most.
// Thread: one loop.
#pragma once

#include "node/replication/messages.h"
#include "node/replication/follow/publisher.h"
#include "node/replication/stand_ins/stand_in.h"
#include "node/replication/view.h"
#include "overlay/loop/task.h"

namespace starling::node {

inline constexpr std::size_t kHeldLookedThroughMax = 64 << 20;  // Bytes, for one question.

class FindCopy {
 public:
  FindCopy(ClusterView& view, const Publisher& publisher, const StandIn& stand_in);

 private:
  [[nodiscard]] Status may_answer(const FindCopyRequest& request) const;
  overlay::Task<Done> answer(FindCopyRequest request, overlay::Reply reply);
  void find(const FindCopyRequest& request, FindCopyReply& reply) const;
  [[nodiscard]] std::optional<storage::Trace> trace_of(const FindCopyRequest& request) const;
  overlay::Task<FindCopyReply> find_held(FindCopyRequest request, FindCopyReply reply) const;
  [[nodiscard]] CopyState state_of(PartitionId partition, const Dot& dot) const;

  ClusterView& view_;
  const Publisher& publisher_;
  const StandIn& stand_in_;
  overlay::Scope scope_;
};

}  // namespace starling::node
