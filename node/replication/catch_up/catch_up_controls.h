// MoveControls: may the data of a change of the ring be copied now, and how fast?
//
// What an operator said at one node holds on all of them: each setting has the time at which it was said, and
// the newer wins. A node keeps both on disk, tells the members at once, and compares with a peer when a link to it
// comes up, with three before it begins to copy, and with one every few seconds while it is paused. So who was away,
// was restarted or joins later heeds them as well (decision 0037). Only copying for a change waits: an owner that was away catches up, and what
// holds acknowledged changes is handed home, whatever was said.
// Thread: one loop.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "node/replication/messages.h"
#include "node/replication/view.h"
#include "overlay/loop/task.h"

namespace starling::node {

inline constexpr std::uint64_t kMoveRateDefault = 16 << 20;
inline constexpr std::uint64_t kReturnRateMin = 32 << 20;  // About 130,000 changes, of 250 bytes each.
inline constexpr std::uint64_t kMoveRateMin = 64 << 10;  // A fetch brings up to twice that.
inline constexpr std::uint64_t kMoveRateMax = std::uint64_t{1} << 40;
inline constexpr Duration kControlsDeadline = 2s;
inline constexpr Duration kPausedLookEvery = 5s;
inline constexpr std::int64_t kSaidAheadMaxMs = std::int64_t{24} * 3600 * 1000;  // What is dated later was said by nobody.

// Takes over from `theirs` what was said later. True when that changed something.
bool merge(MoveSettings& ours, const MoveSettings& theirs);

class MoveControls {
 public:
  explicit MoveControls(ClusterView& view);

  [[nodiscard]] bool paused() const { return settings_.paused; }
  // Bytes a second that a node fetches for changes of the ring; 0: as many as it can.
  [[nodiscard]] std::uint64_t rate() const {
    return settings_.rate_said == EntryId{} ? kMoveRateDefault : settings_.rate;
  }
  // The same for what a returning owner lacks. Not less than that: it has to come faster than the others write.
  [[nodiscard]] std::uint64_t return_rate() const { return rate() == 0 ? 0 : std::max(rate(), kReturnRateMin); }

  struct Told {
    std::vector<NodeId> taken;  // Ourselves included.
    std::vector<NodeId> away;   // They hear of it when they are back.
  };
  // Done when it is on our disk and everybody who can be reached was told.
  overlay::Task<Told> pause(bool paused);
  // kInvalid: 0, or kMoveRateMin to kMoveRateMax.
  overlay::Task<Result<Told>> set_rate(std::uint64_t rate);

  // Both sides know afterwards what either knew. As a call.
  overlay::Task<Status> exchange(NodeId peer);
  // A link to a node that takes part came up.
  void meet(const NodeId& peer);

 private:
  void serve();
  [[nodiscard]] EntryId now_after(const EntryId& said) const;
  Status hear(const MoveSettings& theirs);
  void take(const MoveSettings& theirs);
  void save();
  overlay::Task<Told> tell_members();
  overlay::Task<Done> exchange_in_background(NodeId peer);
  void look_around();

  ClusterView& view_;
  MoveSettings settings_;
  overlay::Timer timer_;
  overlay::Scope scope_;
};

}  // namespace starling::node
