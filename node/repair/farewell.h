// Farewell: when a node that left the ring, or was removed from it, may be switched off for good.
//
// It is a holder then: it stores nothing, hands home what it has (hand_over.h, stand_in.h) and answers
// for the names it voted on (tenure.h). It may go when
//   (1) it holds no partition any more: every owner covers what it held (invariant 6);
//   (2) it holds nothing for owners that were away;
//   (3) of every partition that it could vote on, a majority of the present owners votes: whoever takes
//       over names later meets one of those, so nobody will need to ask this node (decision 0020).
// It tells the members, who write it down: when those that had the names from it are lost by force, nobody waits for
// it (decision 0057). That it went so far is written down here, too: the folder is of no use but to be emptied and join as a new node.
// Thread: one loop.
#pragma once

#include <optional>
#include <set>
#include <string>

#include "node/repair/hand_over.h"
#include "node/replication/stand_ins/stand_in.h"
#include "node/replication/view.h"
#include "node/ring/tenure.h"
#include "overlay/loop/task.h"

namespace starling::node {

class Farewell {
 public:
  Farewell(ClusterView& view, const HandOver& hand_over, const StandIn& stand_in, const Tenures& tenures);

  // Nobody needs this node any more.
  [[nodiscard]] bool safe() const { return safe_; }
  // Partitions of which names are not known to be home.
  [[nodiscard]] std::size_t names() const;
  // What it waits for; empty when it gets on, or is a member.
  [[nodiscard]] std::string waits_for() const;
  // An earlier run of this folder came to its end.
  static bool was_safe(storage::Store& store);

 private:
  overlay::Task<Done> run();
  overlay::Task<Done> ask_owners();
  overlay::Task<bool> tell_members();
  [[nodiscard]] bool all_home() const;

  ClusterView& view_;
  const HandOver& hand_over_;
  const StandIn& stand_in_;
  const Tenures& tenures_;
  std::set<PartitionId> home_;  // Their names.
  std::set<NodeId> told_;       // Members that wrote down that this node is not needed.
  std::optional<Instant> telling_since_;
  bool safe_ = false;
  overlay::Scope scope_;        // Last.
};

}  // namespace starling::node
