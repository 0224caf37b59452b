// Heads: an owner's side of a login. Which of a session's mailboxes have something that its cursors lack?
//
// A cursor read from a mailbox to its end is the vector of its last changes, those that were written off included, so
// digests tell. When they
// differ for another reason (a writer's last change was superseded since), the read finds nothing.
// And of our own writer, of which nobody knows more than we do: which numbers did it never give out (decision 0067)?
// Thread: one loop.
#pragma once

#include "node/replication/follow/follow_messages.h"
#include "node/replication/view.h"

namespace starling::node {

class Heads {
 public:
  explicit Heads(ClusterView& view);

 private:
  [[nodiscard]] Result<Bytes> answer(const HeadsRequest& request) const;

  ClusterView& view_;
};

}  // namespace starling::node
