// Replicator: carries our own writer's changes to the other owners and counts their synced copies.
//
// A change leaves for the other owners in the turn it is made, while our own disk syncs (hazards F20:
// safe because a writer ends with its run). Each owner answers with the highest n it has synced; a
// change counts as replicated when W owners of the current ring version cover it, so 1..n are too (F38).
// What gets lost on the way is sent again from the last acknowledged n, or fetched by the receiver
// when it sees a gap: backlog and live traffic are one stream.
// Invariants: (1) a copy counts only when synced, ours included; (2) waiters of a partition complete in
// order of n; (3) only owners in the ring version of the moment count.
// Thread: one loop.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <set>
#include <unordered_map>

#include "node/replication/messages.h"
#include "node/replication/view.h"

namespace starling::node {

inline constexpr std::size_t kWaitersMax = 200'000;  // Above: kOverloaded.

class Replicator {
 public:
  // Copies synced at completion, or kTimeout: the outcome is unknown.
  using Done = std::function<void(Result<std::uint8_t> copies)>;
  using Gap = std::function<void(const NodeId& peer, PartitionId partition, WriterId writer)>;

  // `on_gap`: a peer's run does not extend what we hold; fetch the part between.
  Replicator(ClusterView& view, Gap on_gap);

  // REQUIRES: the change was just appended to our store.
  void send(const storage::Appended& appended);
  // `all`: every owner, not W.
  void when_replicated(PartitionId partition, std::uint64_t n, bool all, Done done);
  [[nodiscard]] bool overloaded() const { return waiters_ >= kWaitersMax; }
  // Told by Obligations: travels with every run.
  void set_settled(PartitionId partition, std::uint64_t n);
  // A peer told us how far its writer's obligations are met.
  std::function<void(PartitionId, WriterId, std::uint64_t)> on_settled;

  // From the store's watcher.
  void on_synced(std::span<const storage::SyncedChange> changes);

 private:
  struct Waiter {
    std::uint64_t n;
    Instant since;
    Done done;
  };
  struct Progress {
    std::map<NodeId, std::uint64_t> acked;  // Of our current writer, by owner; ourselves included.
    std::deque<Waiter> quorum;              // Ascending n.
    std::deque<Waiter> all;
    std::uint64_t settled = 0;
    Instant resent{};
  };
  struct Outgoing {
    PartitionId partition;
    std::uint64_t n;
    Shared bytes;
  };

  void queue(const NodeId& peer, PartitionId partition, std::uint64_t n, Shared bytes);
  void flush();
  void acknowledge(const NodeId& peer, PartitionId partition, WriterId writer, std::uint64_t n);
  void receive(const NodeId& from, const Replicate& message);
  void receive_run(const NodeId& from, const Replicate& message, const Replicate::Run& run);
  void received_ack(const NodeId& from, const Replicated& message);
  void complete(PartitionId partition, Progress& progress);
  std::uint64_t covered_by(PartitionId partition, const Progress& progress, std::size_t copies) const;
  std::uint8_t copies_of(PartitionId partition, const Progress& progress, std::uint64_t n) const;
  void tick();
  void resend(PartitionId partition, Progress& progress);

  ClusterView& view_;
  Gap on_gap_;
  std::unordered_map<PartitionId, Progress> progress_;
  std::set<PartitionId> waiting_;                       // Partitions with waiters.
  std::size_t waiters_ = 0;
  std::map<NodeId, std::vector<Outgoing>> outgoing_;    // Gathered in this turn.
  std::map<std::pair<NodeId, WriterId>, std::map<PartitionId, std::uint64_t>> acks_;
  std::map<WriterId, NodeId> homes_;                    // Writer -> the node that runs it.
  bool flush_queued_ = false;
  overlay::Timer tick_;
};

}  // namespace starling::node
