// HandOver: gives up partitions that the ring gave to others (architecture invariant 6, hazards F11).
//
// A ring version that takes a partition away closes it: from then on this node neither coordinates it nor
// accepts changes of it. Once that version is on our disk and everything accepted is synced, our vector is
// final. Every owner of the current version is asked for its own vector; an owner that lacks something
// fetches it from us (kHold). When each of them has said, under our ring version, that it has synced,
// undamaged, all that our final vector names, the partition is dropped. What is lost there and not here, the owner
// fetches first.
// The same comparison permits the store to empty what lies in a file that it cannot read.
// Invariant: nothing is dropped on an answer from before the close, of another ring version, or about
// something that is damaged there or here.
// Thread: one loop.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "node/replication/messages.h"
#include "node/replication/append/obligations.h"
#include "node/replication/view.h"
#include "overlay/loop/task.h"

namespace starling::node {

class HandOver {
 public:
  HandOver(ClusterView& view, const Obligations& obligations);

  // Partitions held here that belong to others, as of now.
  [[nodiscard]] std::vector<PartitionId> leaving() const;
  // The owner that the hand-over waits for, when there is one that cannot be reached.
  [[nodiscard]] std::optional<NodeId> blocked_by() const { return blocked_by_; }
  [[nodiscard]] std::uint64_t dropped() const { return dropped_; }
  std::function<void()> on_missed;  // We stored nothing for a while. REQUIRED.
  std::function<bool()> holds;      // Something for others. REQUIRED.

 private:
  using Covered = std::set<PartitionId>;

  overlay::Task<Done> run();
  overlay::Task<Done> give_up(std::vector<PartitionId> partitions);
  overlay::Task<Done> permit_refill();
  overlay::Task<Covered> covered_by_all(std::vector<PartitionId> partitions);
  // Which of these `owner` covers, having been made to fetch what it lacked. Nothing: it did not answer.
  overlay::Task<std::optional<Covered>> covered_by(NodeId owner, std::vector<PartitionId> partitions);
  // Writers of which an owner lacks something that is here, with our last change of each.
  [[nodiscard]] std::vector<Dot> lacking(const CompareReply::Item& theirs) const;
  overlay::Task<Done> bring_home(NodeId owner, const CompareReply::Item& theirs);

  ClusterView& view_;
  const Obligations& obligations_;
  std::optional<NodeId> blocked_by_;
  std::uint64_t dropped_ = 0;
  PartitionId last_tried_;
  Instant next_refill_{};
  overlay::Scope scope_;
};

}  // namespace starling::node
