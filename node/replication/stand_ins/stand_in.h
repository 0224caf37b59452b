// StandIn: holds runs of other nodes' writers for owners that cannot be reached, and hands them home.
//
// While fewer than W owners are reachable, a coordinator sends its changes to members beyond the owners,
// too (hinted hand-off, Dynamo, SOSP 2007). Such a member only holds: it never coordinates, answers
// reads, votes or makes dots (hazards F14), and it never reports a vector (F38): it holds segments
// from..to of a writer's log, which begin no later than the writer's first change that is not on W nodes.
// Owners that can be reached again are told, one after the other; each fetches what it lacks at its own
// pace. A segment is dropped when every current owner has synced its end. Runs are offered in turn, and one
// that does not get on rests, so that it holds up no other.
// What comes before that beginning does is kept in memory, not held: if the writer dies before it sends the rest, nobody
// has what lies between, so no owner could ever take it.
// When the partitions are doubled, each child has the segments of its parent: what is of its sibling has no bytes in
// it. Until the store has sorted that out nothing is taken, and nothing is known of what is held.
// Invariants: (1) a segment is acknowledged only when synced; (2) it is dropped only after every owner
// of the ring version of the moment said that it has synced 1..to of the writer, or when all that is held of
// the writer expired and an owner cannot take it because it has forgotten what came before (repair/pruner.h).
// Thread: one loop.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>

#include "node/replication/messages.h"
#include "node/replication/view.h"
#include "overlay/loop/task.h"

namespace starling::node {

inline constexpr std::uint64_t kHintBytesMax = 4ull << 30;  // Held for others; above, nothing is taken.
inline constexpr std::size_t kHandHomeAtOnceMax = 4;        // Owners that fetch from here at one time.
inline constexpr std::size_t kEarlyBytesMax = 8 << 20;      // Kept until a segment reaches it; above, it is sent again.
inline constexpr Duration kEarlyFor = 10s;                  // The writer sends what it waits for until then.

class StandIn {
 public:
  explicit StandIn(ClusterView& view);

  // What we hold of a writer, from `from` on: for an owner that fetches. Empty when nothing.
  [[nodiscard]] storage::RangeStatement read(PartitionId partition, WriterId writer,
                                             std::uint64_t from) const;
  [[nodiscard]] bool holds(PartitionId partition, const Dot& dot) const;
  // Writers of whose runs in the partition something is held; and the home owners that have not synced all of it.
  [[nodiscard]] std::vector<WriterId> runs(PartitionId partition) const;
  [[nodiscard]] std::vector<NodeId> waits_for(PartitionId partition, WriterId writer) const;
  // Does this home owner lack something of what is held of the partition, for all that is known?
  [[nodiscard]] bool holds_for(PartitionId partition, const NodeId& owner) const;
  // Is all that is held here known? Not while a split of the store moves it (storage/store.h).
  [[nodiscard]] bool is_known() const { return known_ && view_.store.hints_readable(); }
  [[nodiscard]] std::size_t segments() const { return held_.size(); }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  [[nodiscard]] std::size_t handing() const { return handing_.size(); }  // Owners being told.

 private:
  using Run = std::pair<PartitionId, WriterId>;
  struct Held {
    std::map<std::uint64_t, std::uint64_t> segments;  // from -> to; apart from each other.
    std::uint64_t bytes = 0;
    std::set<NodeId> home;    // Owners that have synced the end.
    std::uint64_t home_to = 0;  // The end that they have.
    Instant rests_until{};    // After an owner could not take it.
  };

  struct Early {
    std::map<std::uint64_t, Bytes> changes;  // By n.
    Instant until{};
  };

  void receive(const NodeId& from, const Replicate& message);
  void receive_run(const NodeId& from, const Replicate& message, const Replicate::Run& run);
  // The segment that n is part of, n now included, held anew unless it was. Nothing: the store does not take it now.
  std::optional<std::pair<std::uint64_t, std::uint64_t>> take(const Run& run, std::uint64_t n, View data);
  void keep_early(const Run& run, std::uint64_t n, View data);
  // What came early and is reached by now. The segment of the last one; nothing when there is none.
  std::optional<std::pair<std::uint64_t, std::uint64_t>> take_early(const Run& run, std::uint64_t covered);
  void drop_early(std::map<Run, Early>::iterator run);
  // Owners have 1..covered: n goes on from there or from a segment.
  [[nodiscard]] bool joins(const Run& run, std::uint64_t n, std::uint64_t covered) const;
  // The segment that n is part of, n now included.
  static std::pair<std::uint64_t, std::uint64_t> extend(Held& held, std::uint64_t n);
  void look();
  void load();
  void tick();
  void let_go(std::map<Run, Held>::iterator run);
  void offer(const Run& run, Held& held);
  overlay::Task<bool> is_spent(Run run);
  [[nodiscard]] bool all_home(const Run& run, const Held& held) const;
  overlay::Task<Done> hand_home(NodeId owner, Run run, std::uint64_t to);

  ClusterView& view_;
  bool known_ = false;
  std::map<Run, Held> held_;
  std::uint64_t bytes_ = 0;
  std::map<Run, Early> early_;
  std::size_t early_bytes_ = 0;
  std::set<NodeId> handing_;  // Owners that are being told.
  Run offered_;               // The last one.
  overlay::Timer tick_;
  overlay::Scope scope_;
};

}  // namespace starling::node
