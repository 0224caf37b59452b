// Holding: a change of another writer, met again by an owner that has it, on to W nodes.
//
// A retry finds its message here, made by a coordinator that cannot be reached any more. The owners that can be are
// asked to hold it, too. While those are fewer than W, stand-ins are, and counted by the rule of fresh sends
// (replicator.h, hazards F38): what a stand-in holds of the writer begins no later than its first change that is not on
// W owners. How far those are the writer told with its last changes; the log of an owner, ours, has no holes behind
// that. An away owner that stands in keeps the whole log.
// Invariant: a copy counts when it is synced.
// Bounded: what is more than kHandedBytesMax, or was told of by nobody and has gaps by now, waits for owners. What a
// stand-in was sent already is not sent again for the next number.
// Thread: one loop.
#pragma once

#include <list>
#include <map>
#include <tuple>

#include "node/replication/messages.h"
#include "node/replication/replicator.h"
#include "node/replication/view.h"
#include "node/session/protocol.h"
#include "overlay/loop/task.h"

namespace starling::node {

inline constexpr std::size_t kHandedBytesMax = 1 << 20;  // To one stand-in, of one run, at once.
inline constexpr std::size_t kHandedRunsMax = 4096;      // Remembered; above, all are forgotten.

class Holding {
 public:
  Holding(ClusterView& view, Replicator& replicator);

  // REQUIRES: we have synced it. How many hold it; kTimeout: too few do yet.
  overlay::Task<Result<std::uint8_t>> hold(PartitionId partition, Dot dot, protocol::Grade grade);

 private:
  using Run = std::tuple<NodeId, PartitionId, WriterId>;  // At that stand-in.
  struct Handed {
    std::uint64_t from = 0;  // Sent from there,
    std::uint64_t sent = 0;  // to there,
    std::uint64_t held = 0;  // and synced to there.
  };
  struct Wait {
    Run run;
    std::uint64_t n = 0;
    overlay::Completer<bool> done;
    overlay::Timer patience;
  };

  overlay::Task<bool> ask_owner(NodeId owner, PartitionId partition, Dot dot);
  overlay::Task<bool> hand(NodeId stand_in, PartitionId partition, Dot dot);
  bool send(const Run& run, Handed& handed, std::uint64_t to);
  void received(const NodeId& from, const Hinted& message);
  void finish(Run run, std::uint64_t held, bool given_up);

  ClusterView& view_;
  Replicator& replicator_;
  std::map<Run, Handed> handed_;
  std::list<Wait> waits_;
};

}  // namespace starling::node
