// Backoff: how long to wait before the next attempt; doubles, with jitter, up to a limit.
//
// Half of the wait is fixed and half is drawn, so that a thousand clients of a killed node do not
// return in one instant.
// Thread: value type.
#pragma once

#include <algorithm>

#include "crypto/random.h"
#include "overlay/loop/clock.h"

namespace starling::node {

inline constexpr Duration kBackoffMin = 50ms;
inline constexpr Duration kBackoffMax = 2s;

// REQUIRES: failures >= 1.
inline Duration backoff(unsigned failures, Random& random) {
  const Duration whole = std::min(kBackoffMax, kBackoffMin * (1 << std::min(failures - 1, 10u)));
  return whole / 2 + std::chrono::duration_cast<Duration>(whole * random.unit() / 2);
}

}  // namespace starling::node
