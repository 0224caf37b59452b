// RoundTrip: how long a peer takes to answer, from the answers of late (RFC 6298: the smoothed round trip, and
// deviations from it).
//
// Thread: value type; pure.
#pragma once

#include <algorithm>

#include "overlay/loop/clock.h"

namespace starling::node {

class RoundTrip {
 public:
  [[nodiscard]] bool known() const { return known_; }
  // Almost every answer has come by then; `slack` is for what varies by less than anybody measures.
  // REQUIRES: known().
  [[nodiscard]] Duration nearly_all(Duration slack) const { return smoothed_ + std::max(slack, 4 * deviation_); }

  void took(Duration trip) {
    if (!known_) {
      smoothed_ = trip;
      deviation_ = trip / 2;
      known_ = true;
      return;
    }
    deviation_ = (3 * deviation_ + std::chrono::abs(smoothed_ - trip)) / 4;
    smoothed_ = (7 * smoothed_ + trip) / 8;
  }

 private:
  bool known_ = false;
  Duration smoothed_{};
  Duration deviation_{};
};

}  // namespace starling::node
