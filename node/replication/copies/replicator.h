// Replicator: carries our own writer's changes to the other owners and counts their synced copies.
//
// A change leaves for the other owners in the turn it is made, while our own disk syncs (hazards F20:
// safe because a writer ends with its run). Each owner answers with the highest n it has synced; a
// change counts as replicated when W home owners of the current ring version cover it, so 1..n are too (F38).
// What gets lost on the way is sent again from the last acknowledged n when the peer's own round trips say so
// (retransmission.h), or fetched by the receiver when it sees a gap: backlog and live traffic are one stream.
// Away owners (overlay/ring/sites.h) get the same and are waited for by nobody but `all`. One that lacks something for
// long is sent our last change now and then: it says what it has, or fetches the gap.
// While fewer than W home owners are reachable, stand-ins get the changes too, from the first that is not on W
// nodes; a stand-in's segment counts for what it covers from there on without a hole. An away owner may be one:
// what it has synced of our log is a segment from 1.
// An owner whose link does not keep up is left out, and fetches what it misses as after a gap; where W home owners
// cannot take more, nothing is accepted (has_room). So no flood fills a link's queue, which would end the link.
// Invariants: (1) a copy counts only when synced, ours included; (2) waiters of a partition complete in
// order of n; (3) only home owners in the ring version of the moment count, and, for a quorum that they cannot make,
// members of it as stand-ins.
// Thread: one loop.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <unordered_map>

#include <boost/container/deque.hpp>

#include "node/replication/copies/away_lag.h"
#include "node/replication/messages.h"
#include "node/replication/copies/retransmission.h"
#include "node/replication/view.h"

namespace starling::node {

inline constexpr std::size_t kWaitersMax = 200'000;  // Above: kOverloaded.
inline constexpr std::size_t kHomesMax = 4096;       // Writers of other nodes that are remembered.
inline constexpr std::size_t kEarlyAcksMax = 1024;   // Of newer ring versions; more are sent again.
// What may wait for one owner. The other half of a link's queue is for answers, copies and pushes.
inline constexpr std::size_t kOwnerQueueBytesMax = overlay::kLinkQueueBytesMax / 2;

class Replicator {
 public:
  // Copies synced at completion. kTimeout; kUnavailable, as soon as too few nodes that may store it can be
  // reached: of both the outcome is unknown.
  using Done = std::function<void(Result<std::uint8_t> copies)>;
  using Gap = std::function<void(const NodeId& peer, PartitionId partition, WriterId writer, std::uint64_t n)>;

  // `on_gap`: a peer's run, up to n, does not extend what we hold; fetch the part between, and it.
  Replicator(ClusterView& view, Gap on_gap);

  // REQUIRES: the change was just appended to our store.
  void send(const storage::Appended& appended);
  // Of our change n of the mailbox's partition. `all`: every owner, home and away, not W.
  void when_replicated(const MailboxId& mailbox, std::uint64_t n, bool all, Done done);
  [[nodiscard]] std::size_t waiting() const { return waiters_; }
  [[nodiscard]] bool overloaded() const { return waiters_ >= kWaitersMax; }
  // Of the home owners that can be reached, W can take one more change; or none has too much waiting for it.
  [[nodiscard]] bool has_room(PartitionId partition) const;
  // How full that is, 0 to 1: of the members that can be reached, the W - 1 with the least waiting for them.
  [[nodiscard]] double crowding() const;
  // Told by Obligations: travels with every run.
  void set_settled(PartitionId partition, std::uint64_t n);
  // Of any writer: 1..covered is on W home owners, as far as it told. Zero when it told nothing lately.
  [[nodiscard]] std::uint64_t covered(PartitionId partition, WriterId writer) const;
  // A node says what it holds of a writer that is not ours.
  std::function<void(const NodeId& from, const Hinted&)> on_held;
  // A peer told us how far its writer's obligations are met.
  std::function<void(PartitionId, WriterId, std::uint64_t)> on_settled;

  // When the newest change was made that came from that node in this run; zero: none did.
  [[nodiscard]] std::uint64_t newest_from(const NodeId& node) const;

  [[nodiscard]] const AwayLag& away() const { return away_; }
  // From anti-entropy: of a partition in which the peer differs from us, what it holds.
  void compared(const NodeId& peer, const CompareReply::Item& theirs);
  // The same is told of all partitions, by a comparison that began then.
  void compared_all(const NodeId& peer, Instant begun) { away_.compared(peer, begun); }

  // From the store's watcher.
  void on_synced(std::span<const storage::SyncedChange> changes);

 private:
  struct Waiter {
    MailboxId mailbox;
    std::uint64_t n;
    Instant since;
    Done done;
  };
  struct Segment {
    std::uint64_t from = 0;
    std::uint64_t to = 0;
  };
  struct Told {  // By a node, of the writer that it runs.
    WriterId writer;
    std::unordered_map<PartitionId, std::uint64_t> covered;
  };
  // Takes no memory while it is empty, which it is in most partitions.
  using Waiters = boost::container::deque<Waiter>;
  struct Progress {
    std::map<NodeId, std::uint64_t> acked;  // Of our current writer, by owner; ourselves included.
    std::map<NodeId, Segment> hinted;       // The same, by stand-in.
    Waiters quorum;                         // Ascending n.
    Waiters all;
    std::uint64_t settled = 0;
    std::map<NodeId, std::uint64_t> sent;  // Highest n that left for it.
    std::map<NodeId, Instant> resent;
  };
  struct Outgoing {
    PartitionId partition;
    std::uint64_t n;
    Shared bytes;
  };

  struct Peer {
    NodeId node;
    bool stand_in = false;
    friend auto operator<=>(const Peer&, const Peer&) = default;
  };

  [[nodiscard]] std::size_t waiting_for(const NodeId& node) const;
  [[nodiscard]] bool is_crowded(const NodeId& node) const { return waiting_for(node) > kOwnerQueueBytesMax; }
  void queue(const Peer& peer, PartitionId partition, std::uint64_t n, Shared bytes);
  void flush();
  void received_hint(const NodeId& from, const Hinted& message);
  void acknowledge(const NodeId& peer, PartitionId partition, WriterId writer, std::uint64_t n);
  void receive(const NodeId& from, const Replicate& message);
  void receive_run(const NodeId& from, const Replicate& message, const Replicate::Run& run);
  void received_ack(const NodeId& from, const Replicated& message);
  // False: another member runs that writer.
  bool is_of(WriterId writer, const NodeId& from);
  void complete(PartitionId partition, Progress& progress);
  static std::uint64_t covered_by(const overlay::NodeList& owners, const Progress& progress, std::size_t copies);
  std::uint64_t covered_with_stand_ins(PartitionId partition, const Progress& progress) const;
  std::uint8_t copies_of(PartitionId partition, const Progress& progress, std::uint64_t n) const;
  void partitions_doubled();
  void tick();
  void nudge();
  void resend(PartitionId partition, Progress& progress, Instant now);
  void resend_to(const Peer& peer, PartitionId partition, Progress& progress, std::uint64_t from, Instant now);
  void probe(const NodeId& owner);

  ClusterView& view_;
  Gap on_gap_;
  std::unordered_map<PartitionId, Progress> progress_;
  std::set<PartitionId> waiting_;                       // Partitions with waiters.
  std::size_t waiters_ = 0;
  std::map<Peer, std::vector<Outgoing>> outgoing_;      // Gathered in this turn,
  std::map<NodeId, std::size_t> outgoing_bytes_;        // and its size.
  std::map<std::pair<NodeId, WriterId>, std::map<PartitionId, std::uint64_t>> acks_;
  std::map<WriterId, NodeId> homes_;                    // Writer -> the node that runs it.
  std::vector<std::pair<NodeId, Replicated>> early_acks_;  // Counted when we are at their ring version, too (F32).
  std::map<NodeId, Told> told_;                         // Of its last writer.
  AwayLag away_;
  Instant nudged_at_{};                                 // Away owners that lag.
  std::map<NodeId, Hlc> newest_;                        // By who sent it.
  std::map<NodeId, Retransmission> retransmissions_;
  std::set<NodeId> probed_;                             // Owners asked for a sign of life.
  bool flush_queued_ = false;
  overlay::Timer tick_;
};

}  // namespace starling::node
