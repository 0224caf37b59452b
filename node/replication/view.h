// ClusterView: what this node believes about the cluster at this moment, and the services that every part of
// replication shares.
//
// The ring says who owns what and is agreed; liveness is an opinion and only moves traffic. The
// coordinator of a partition is its first reachable home owner that is not catching up or, when all reachable
// ones are, the first of those; any home owner can be it. Without a policy of sites all owners are at home.
// Thread: one loop. Everything referred to outlives the ClusterView's users.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string_view>
#include <vector>

#include "node/replication/copies/round_trip.h"
#include "overlay/links/rpc.h"
#include "overlay/loop/hlc.h"
#include "overlay/loop/log.h"
#include "overlay/loop/loop.h"
#include "overlay/loop/task.h"
#include "overlay/ring/ring.h"
#include "storage/store.h"

namespace starling::node {

using RingPtr = std::shared_ptr<const overlay::Ring>;

// Named times of replication; one place, so that their relations can be seen.
inline constexpr Duration kAppendDeadline = 4s;      // Of a coordinator for its quorum.
inline constexpr Duration kForwardDeadline = 4500ms; // Of a gateway for one coordinator.
inline constexpr Duration kReadDeadline = 3s;
inline constexpr Duration kCompareEvery = 2s;        // Anti-entropy, one peer after the other.
static_assert(kAppendDeadline < kForwardDeadline);

inline constexpr std::int64_t kClockStepMaxMs = 2000;  // Under overlay::kHlcAheadMax.

struct NodeCounters {
  std::uint64_t appends = 0;         // Accepted as coordinator.
  std::uint64_t append_errors = 0;
  std::uint64_t dedup_hits = 0;
  std::uint64_t lane_gaps = 0;
  std::uint64_t copies_driven = 0;
  std::uint64_t replicated_out = 0;  // Changes sent to other owners.
  std::uint64_t replicated_in = 0;
  std::uint64_t retransmits = 0;
  std::uint64_t hints_held = 0;      // Changes taken as a stand-in.
  std::uint64_t hints_home = 0;      // Segments that an owner said it has.
  std::uint64_t fetches = 0;
  std::uint64_t fetched_changes = 0;
  std::uint64_t pushes = 0;          // Changes pushed to followers.
  std::uint64_t deliveries = 0;      // Entries written to client sessions.
  std::uint64_t sends = 0;           // Sends by clients of this gateway.
  std::uint64_t send_errors = 0;
  std::uint64_t recalls = 0;         // Asked for by clients of this gateway.
  std::uint64_t recall_errors = 0;
  std::uint64_t logins = 0;
  std::uint64_t login_failures = 0;
  std::uint64_t fell_behind = 0;
  std::uint64_t clock_refused = 0;
  std::uint64_t forged = 0;          // Messages under another member's writer.
  std::uint64_t lost_told = 0;       // Times that a device was told of a message that was written off.
  // What was refused, by why.
  using Refused = std::map<std::string_view, std::uint64_t>;
  Refused notices_refused;           // Of other nodes; and changes in them.
  Refused frames_refused;            // Of clients.
  Refused cursors_refused;
  std::uint64_t sessions = 0;        // Gauge.
};

class ClusterView {
 public:
  // Opinion about other nodes; ourselves we are always alive.
  struct Liveness {
    std::function<bool(const NodeId&)> alive;
    std::function<bool(const NodeId&)> reachable;  // By a link; sooner to doubt than `alive`.
    std::function<bool(const NodeId&)> catching_up;
    std::function<std::size_t(const NodeId&)> queued = {};  // Bytes that wait for its link. May be empty.
    // The member that says of itself, signed, that it runs under this writer. May be empty.
    std::function<std::optional<NodeId>(WriterId)> runner = {};
  };

  ClusterView(NodeId self, overlay::Loop& loop, overlay::Rpc& rpc, storage::Store& store, overlay::HlcClock& hlc,
       Random& random, overlay::Log& log)
      : self(self), loop(loop), rpc(rpc), store(store), hlc(hlc), random(random), log(log) {}

  // Set at construction.
  const NodeId self;
  overlay::Loop& loop;
  overlay::Rpc& rpc;
  storage::Store& store;
  overlay::HlcClock& hlc;
  Random& random;
  overlay::Log& log;

  // Loop state.
  NodeCounters counters;
  Liveness liveness;
  bool catching_up = false;  // Ours; true from a return until covered (replication/catch_up).
  bool read_only = false;    // No disk space: we store nothing.
  bool giving_up = false;    // Read-only until the next start, which empties what cannot be read.
  bool clock_off = false;    // Our clock is not one of a majority that agrees: we coordinate nothing.
  // It was compared in this run, or there is nobody to compare with: a node that starts with a wrong clock,
  // before it has heard of another, mints nothing.
  bool clock_compared = false;
  // Wall minus steady time when the clock was last found good. A step since then is not trusted, so no id
  // is minted between a step and the next look at the members' clocks.
  std::int64_t good_clock_ms = 0;
  // Called when a peer speaks of a newer ring version than ours.
  std::function<void(const NodeId& peer, RingNumber newer)> on_newer_ring;
  // Has this away owner of the partition lacked something of ours for a while? Set by AwayLag.
  std::function<bool(PartitionId, const NodeId& owner)> lags;
  // How soon members answer what they are asked to read.
  std::map<NodeId, RoundTrip> reads;

  [[nodiscard]] std::int64_t wall_minus_steady_ms() const {
    return loop.wall_ms() - to_ms(loop.now().time_since_epoch());
  }
  [[nodiscard]] bool clock_trusted() const {
    const std::int64_t step = wall_minus_steady_ms() - good_clock_ms;
    return clock_compared && !clock_off && step < kClockStepMaxMs && step > -kClockStepMaxMs;
  }
  // Of a live change or a peer's clock: kClock when it is too far ahead. Our own clock takes it over only while
  // it is trusted: what two wrong clocks agree upon would stay in it when both are right again (decision 0034).
  Status observe(Hlc time);
  // Of repair traffic, which is taken as it is.
  void observe_repair(Hlc time);
  [[nodiscard]] bool in_ring() const { return ring_ != nullptr; }
  [[nodiscard]] const overlay::Ring& ring() const { return *ring_; }
  [[nodiscard]] RingPtr ring_ptr() const { return ring_; }
  [[nodiscard]] RingPtr previous_ring() const { return previous_; }
  void set_ring(RingPtr ring);
  void on_ring(std::function<void()> watcher) { ring_watchers_.push_back(std::move(watcher)); }
  // Partition p is 2p and 2p + 1 from now on, in the ring and in the store. Before those of on_ring; what is put into
  // the store meanwhile is durable with its split.
  void on_doubled(std::function<void()> watcher) { doubled_watchers_.push_back(std::move(watcher)); }
  void heard_of_ring(const NodeId& peer, RingNumber number) {
    if (in_ring() && number > ring_->number() && on_newer_ring) on_newer_ring(peer, number);
  }

  [[nodiscard]] bool alive(const NodeId& node) const {
    return node == self || liveness.alive(node);
  }
  // Stand-ins are told, by changes without bytes, which numbers of a run have nothing in the partition: all nodes know
  // that since the partitions were doubled (decision 0025), and before that there are hardly any.
  [[nodiscard]] bool says_gaps() const { return in_ring() && ring_->version().format >= overlay::kRingFormatDoubled; }
  // Its record may still name the writer of an earlier run, or not be heard of: only a known runner excludes others.
  [[nodiscard]] bool may_run(const NodeId& node, WriterId writer) const {
    const auto runner = liveness.runner ? liveness.runner(writer) : std::nullopt;
    return !runner || *runner == node;
  }
  // Alive, and our links do not say otherwise: whom to send to, and who does the chores of a partition
  // (coordinates()). Both sides of a doubt may be told yes, or both no. So nothing follows from it that may be
  // done once only, or must not be left out: chores are idempotent, and a doubt ends.
  [[nodiscard]] bool reachable(const NodeId& node) const {
    return node == self || (liveness.alive(node) && liveness.reachable(node));
  }
  [[nodiscard]] std::size_t queued(const NodeId& node) const { return liveness.queued ? liveness.queued(node) : 0; }
  [[nodiscard]] bool behind(const NodeId& node) const {
    return node == self ? catching_up || read_only : liveness.catching_up(node);
  }
  // May we answer for the partition? kNotOwner; kCorrupt: something of it is damaged here, so what we say
  // would be less than what another owner knows.
  [[nodiscard]] Status answers_for(PartitionId partition) const;
  [[nodiscard]] Status answers_for(const MailboxId& mailbox) const {
    return answers_for(store.partition_of(mailbox));
  }
  // A file of the partition cannot be read: nothing is stored in it until it was emptied.
  [[nodiscard]] bool awaits_refill(PartitionId partition) const;
  // We left, or were removed: we hold what others need, and take part in nothing (hazards F34).
  [[nodiscard]] bool is_holder() const {
    const auto* member = in_ring() ? ring_->member(self) : nullptr;
    return member != nullptr && member->gone();
  }
  // A partition's number says nothing without the count of partitions that it is of, and that doubles. So each message
  // that names one says the count, and who waits with one in hand asks behind the wait whether that still stands.
  // 0, of a node from before doublings: as many as owners were placed by. kStaleRing: it is not ours.
  [[nodiscard]] std::uint32_t partitions() const { return store.partitions(); }
  [[nodiscard]] Status same_count(std::uint32_t partitions) const;
  // Of a message: more than ours are of a ring version that we have not heard of.
  [[nodiscard]] Status same_count(const NodeId& peer, std::uint32_t partitions) const;
  // Whatever a peer names: the ring and the store take only partitions that there are.
  [[nodiscard]] bool exists(PartitionId partition) const {
    return in_ring() && partition.value < ring_->partitions();
  }
  [[nodiscard]] bool is_owner(PartitionId partition) const {
    return exists(partition) && ring_->is_owner(partition, self);
  }
  [[nodiscard]] bool is_owner_to_be(PartitionId partition) const {
    return exists(partition) && ring_->is_owner_to_be(partition, self);
  }
  // Do we count among its owners? Away owners store, and answer where no other can.
  [[nodiscard]] bool is_home(PartitionId partition) const {
    return exists(partition) && ring_->is_home(partition, self);
  }
  // Notices of this kind that decode. The others are counted: nobody hears of a refusal.
  template <class T, class Hear>
  void on_notice(overlay::Method method, Hear hear) {
    rpc.on_notice(method, [this, method, hear = std::move(hear)](const NodeId& from, View body) {
      const auto message = unpack<T>(body);
      if (!message) return bad_notice("malformed", from, method, message.error());
      hear(from, *message);
    });
  }
  // `reason` is a literal: "malformed", or what in it cannot be taken.
  void bad_notice(std::string_view reason, const NodeId& from, overlay::Method method, const Error& error);
  // When everything that the store has accepted so far is synced.
  [[nodiscard]] overlay::Future<bool> durable();
  // "Our own writer has come as far as n": false, and this run is over, when it has not. A folder that
  // was copied after a clean stop and put back keeps its writer; going on would reuse dots (hazards F3).
  // A writer drawn in this run was never anywhere else, so for that one n is a peer's error.
  [[nodiscard]] bool own_dots_hold(PartitionId partition, std::uint64_t n);

  // Home owners in the order a request should try them: reachable and caught up, reachable, the rest.
  [[nodiscard]] std::vector<NodeId> candidates(PartitionId partition) const;
  // The same and, behind those that are alive, the away owners: whom to read from.
  [[nodiscard]] std::vector<NodeId> readers(PartitionId partition) const;
  [[nodiscard]] std::size_t reachable_home(PartitionId partition) const;
  // Who holds copies while fewer than W home owners are reachable: that many other members as are missing. Of the home
  // site, where nobody waits for the way; then away owners, which keep them anyway; then others, in an order that is
  // the same everywhere; last away owners that lag: their copy counts only when they have all that came before, so
  // each send would wait for that. Empty otherwise.
  [[nodiscard]] std::vector<NodeId> stand_ins(PartitionId partition) const;
  // How many can be reached that may store a change for a quorum, and are enough of them?
  [[nodiscard]] std::size_t storing_nodes(PartitionId partition) const {
    return reachable_home(partition) + stand_ins(partition).size();
  }
  // Whether we are the first candidate. By reachability, not by liveness: an owner that gossips and
  // whose links are dead gets nothing done, and would hold the chores for as long as that lasts.
  [[nodiscard]] bool coordinates(PartitionId partition) const;

 private:
  [[nodiscard]] std::vector<NodeId> by_state(const overlay::NodeList& owners) const;
  // Of a stand-in; the highest are asked.
  [[nodiscard]] int stand_in_rank(PartitionId partition, const overlay::RingMember& member) const;

  RingPtr ring_;
  RingPtr previous_;
  std::vector<std::function<void()>> ring_watchers_;
  std::vector<std::function<void()>> doubled_watchers_;
};

}  // namespace starling::node
