// Positions: where two copies of one message met in the sender's mailbox, the recipient's hears of the one that won.
//
// A coordinator of a message has the sender's copy made under the same id (hazards F23). When it dies with the message,
// the copy may outlive it; the retry makes the message anew, at a larger id, and its copy, too, where nobody knows of
// the first one yet. Later the two copies meet, and the smaller id is the position in the sender's mailbox; the
// recipient's would never hear of it. So every owner that sees two copies meet asks for the smaller id there
// (kAppendPosition), until that is acknowledged; until then the second copy stays, which is the record of the duty.
// A void is the same: its copy may outlive what it is the copy of, and beats the message in the sender's mailbox alone.
// Mostly the recipient's mailbox has that id, or void, already, and the request only confirms it.
// Bounded: so many looked at in a turn, and so many asked for at once, round and round; so those that nobody
// acknowledges hold up no others. Thread: one loop.
// docs/decisions/0052-two-copies-settle-the-position.md
#pragma once

#include <map>
#include <memory>
#include <set>

#include "node/replication/append/forward.h"
#include "node/replication/view.h"

namespace starling::node {

inline constexpr std::size_t kPositionsAtOnceMax = 64;

class Positions {
 public:
  Positions(ClusterView& view, Forwarder& forwarder);
  ~Positions() { *alive_ = false; }

  // Is nothing owed for it any more, so that the change that lost may be erased?
  [[nodiscard]] bool is_settled(PartitionId partition, const storage::Superseded& pair) const;
  [[nodiscard]] std::size_t asking() const { return asking_.size(); }

 private:
  using At = std::pair<PartitionId, storage::Superseded>;

  struct Budget {  // Of one turn.
    std::size_t looks;
    std::size_t passed;
  };

  void tick();
  // The pairs of the partition from next_ on. False: it did not come to their end.
  bool pass(PartitionId partition, Budget& budget);
  // False: it could not be looked at now.
  bool look(const At& at);
  void ask(const At& at, const storage::ChangeView& copy);

  ClusterView& view_;
  Forwarder& forwarder_;
  std::map<PartitionId, std::set<storage::Superseded>> settled_;  // Of those that are not erased yet.
  std::set<At> asking_;
  At next_;  // Where the next turn begins.
  overlay::Timer tick_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace starling::node
