// LatencyBuckets: a histogram of durations that costs an increment, for hot paths.
//
// Plain integers over fixed bounds; the scrape turns them into a Prometheus histogram.
// Thread: one loop.
#pragma once

#include <array>
#include <cstdint>

#include "overlay/clock.h"

namespace starling::node {

class LatencyBuckets {
 public:
  // Upper bounds, inclusive. One more count holds what is above the last.
  static constexpr std::array<Duration, 17> kBounds = {
      50us, 100us, 250us, 500us, 1ms,  2500us, 5ms, 10ms, 25ms,
      50ms, 100ms, 250ms, 500ms, 1s, 2500ms, 5s,  10s};

  void record(Duration d) {
    std::size_t i = 0;
    while (i < kBounds.size() && d > kBounds[i]) ++i;
    ++counts_[i];
    ++count_;
    sum_ += d;
  }
  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] Duration sum() const { return sum_; }
  // Samples in (bound i-1, bound i]; the last is open.
  [[nodiscard]] const std::array<std::uint64_t, kBounds.size() + 1>& counts() const { return counts_; }

 private:
  std::array<std::uint64_t, kBounds.size() + 1> counts_{};
  std::uint64_t count_ = 0;
  Duration sum_{};
};

}  // namespace starling::node
