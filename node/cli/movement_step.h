// MoveStep: how far a change of the ring is, from one look at it, in numbers and in words.
//
// Two halves: those who gain fetch; then who left hands home what only it has. What is left in time is told of
// the half under way, from what comes in a second now.
// Thread: value type; pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "node/cli/admin_client.h"

namespace starling::node::cli {

struct MoveStep {
  double share = 0;
  std::string text;
  std::optional<std::uint64_t> seconds_left;
  std::string waits_for;
  bool open = false;  // The change is not complete, or somebody has still something to hand home or to settle.
  bool handing_over = false;  // Of those, one that the command let go, whatever else is under way by now.
};

// From an answer of `movement`, and what the command that began the change was told.
MoveStep move_step(const Json& movement, const Json& begun);
// Of one node that fetches: `movement` of its `status`.
MoveStep own_move_step(const Json& node);
// Of the nodes that settle after a doubling of the partitions: `doubling` of an answer of `movement`.
MoveStep settle_step(const Json& doubling);

}  // namespace starling::node::cli
