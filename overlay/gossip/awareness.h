// Awareness: how much this node trusts its own eyes (Lifeguard, arXiv 1707.00788, section IV-A:
// the local health multiplier).
//
// A node that misses answers it should have had is probably slow itself. Each such sign raises the
// score, each good probe lowers it; a high score makes the node probe more slowly and wait longer,
// so that it does not accuse healthy peers.
// Invariant: 0 <= score < max.   Thread: one loop; pure.
#pragma once

#include <algorithm>

#include "overlay/loop/clock.h"

namespace starling::overlay {

class Awareness {
 public:
  // `max` is the largest factor that scale() may apply.
  explicit Awareness(int max) : max_(std::max(max, 1)) {}

  // Good probe: -1. Failed probe without a nack that should have come, own death refuted: +1 each.
  void apply(int delta) { score_ = std::clamp(score_ + delta, 0, max_ - 1); }

  [[nodiscard]] int score() const { return score_; }  // 0 is healthy.
  [[nodiscard]] Duration scale(Duration d) const { return d * (score_ + 1); }

 private:
  int max_;
  int score_ = 0;
};

}  // namespace starling::overlay
