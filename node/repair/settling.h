// Settling: after the partitions were doubled, moves what lies in another place than it should (storage/store.h), bit by
// bit, one step a turn of the loop: with a rest between steps, except where nobody is served meanwhile, and for what is
// held for others, since nothing more can be held until that is in its place.
//
// The store keeps the place in the walk, so a restart goes on there. Until the end nothing is dropped, nothing is filled
// by files, and the next doubling waits. A record of a future format cannot be told to be of either child: that is
// logged, and the walk comes back to it until it is gone, or another program can read it.
// Thread: one loop.
#pragma once

#include <string>

#include "node/replication/view.h"
#include "overlay/loop/task.h"

namespace starling::node {

inline constexpr Duration kSettleLook = 500ms;         // Whether the partitions were doubled.
inline constexpr std::size_t kSettleBytes = 64 << 10;  // A step: a millisecond of a loop.
inline constexpr Duration kSettleRest = 20ms;          // Between steps: 3.2 MB/s, a twentieth of the loop.

class Settling {
 public:
  explicit Settling(ClusterView& view);

  // How much of the walk is done, roughly; 1: everything is in its place.
  [[nodiscard]] double share() const { return view_.store.is_split_settled() ? 1 : share_; }
  // Why it does not get on; empty when it does.
  [[nodiscard]] const std::string& waits_for() const { return waits_for_; }

 private:
  overlay::Task<Done> run();
  overlay::Task<Done> settle();
  [[nodiscard]] Duration rest(const storage::SplitStep& step) const;
  void note(std::string why);

  ClusterView& view_;
  double share_ = 0;
  std::string waits_for_;
  overlay::Scope scope_;
};

}  // namespace starling::node
