// Holding: a change of another writer, met again by an owner that has it, on to W nodes.
//
// A retry finds its message here, made by a coordinator that cannot be reached any more. The owners that can be are
// asked to hold it, too. While those are fewer than W, stand-ins are, and counted by the rule of fresh sends
// (replicator.h, hazards F38): what a stand-in holds of the writer begins no later than its first change that is not on
// W owners. How far those are the writer told with its last changes; the log of an owner, ours, has no holes behind
// that. A stand-in mostly has all that from the writer itself: it is handed the change, and answers with the whole
// segment that it is in; what that lacks at its beginning is handed, too, and all of it when nothing is answered. An away
// owner that stands in keeps the whole log.
// Invariants: a copy counts when it is synced. What is handed joins a segment, or begins at what W owners have: a
// segment behind a hole could go home to nobody if we died.
// Bounded: what lacks more than kHandedBytesMax, or was told of by nobody and has gaps by now (which stand-ins
// can be told only since partitions were doubled), waits for owners, and is
// not looked at again for kHopelessFor.
// Thread: one loop.
#pragma once

#include <map>
#include <tuple>

#include "node/replication/messages.h"
#include "node/replication/copies/replicator.h"
#include "node/replication/view.h"
#include "node/session/protocol.h"
#include "overlay/loop/task.h"

namespace starling::node {

inline constexpr std::size_t kHandedBytesMax = 1 << 20;  // To one stand-in, of one run, at once.
inline constexpr std::uint64_t kGapsHandedMax = 4096;     // Numbers of a piece with gaps.
inline constexpr std::size_t kHandedRunsMax = 4096;      // Under way. More wait for owners,
inline constexpr std::size_t kHandedWaitsMax = 20'000;   // and so do more changes.
inline constexpr Duration kHopelessFor = 5s;

class Holding {
 public:
  Holding(ClusterView& view, Replicator& replicator);

  // REQUIRES: we have synced it. How many hold it; kTimeout: too few do yet.
  overlay::Task<Result<std::uint8_t>> hold(PartitionId partition, Dot dot, protocol::Grade grade);

 private:
  using Run = std::tuple<NodeId, PartitionId, WriterId>;  // At that stand-in.
  struct Segment {
    std::uint64_t from = 0;
    std::uint64_t to = 0;
  };
  struct Wait {
    std::uint64_t from = 0;  // The segment has to begin here, or before,
    bool asks = false;       // or where it begins is the answer.
    overlay::Completer<Segment> done;
    overlay::Timer patience;
  };
  struct Handed {
    std::multimap<std::uint64_t, Wait> waits;  // By the number that is to be held.
    Instant hopeless_until{};
  };

  overlay::Task<bool> ask_owner(NodeId owner, PartitionId partition, Dot dot);
  overlay::Task<bool> hand(NodeId stand_in, PartitionId partition, Dot dot);
  bool make_room();
  // Of our log; 1..covered is on W owners. False: that is too much, or there are gaps that cannot be told.
  bool send(const Run& run, Segment numbers, std::uint64_t covered);
  overlay::Task<Segment> answer(Run run, std::uint64_t from, std::uint64_t n, bool asks);
  void received(const NodeId& from, const Hinted& message);
  void give_up_all();
  void give_up(const Run& run, std::uint64_t n);

  ClusterView& view_;
  Replicator& replicator_;
  std::map<Run, Handed> handed_;
  std::size_t waits_ = 0;
};

}  // namespace starling::node
