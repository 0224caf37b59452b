// Schedule: when each of a row of sends is due, at a rate that may change on the way.
//
// Whatever was due before a change of the rate stays due, at its time, however late it is said.
// Thread: value type; pure.
#pragma once

#include <cassert>
#include <chrono>
#include <cstdint>
#include <deque>

#include "overlay/loop/clock.h"

namespace starling::node::cli {

class Schedule {
 public:
  // The first is due at `start`.
  Schedule(double per_second, Instant start) : stretches_{{0, start, per_second}} {}

  // From `now` on. REQUIRES: now >= that of the last change.
  void set_rate(double per_second, Instant now) {
    assert(per_second > 0);
    const Stretch& last = stretches_.back();
    std::uint64_t due = 0;  // Of this stretch, by now.
    if (now >= last.start) {
      const double seconds = std::chrono::duration<double>(now - last.start).count();
      due = static_cast<std::uint64_t>(seconds * last.per_second);
      while (last.start + after(due, last.per_second) <= now) ++due;  // As due() rounds.
    }
    stretches_.push_back({last.first + due, now + after(1, per_second), per_second});
    leave_what_is_over();
  }
  // The next to be said.
  [[nodiscard]] std::uint64_t number() const { return number_; }
  [[nodiscard]] Instant due() const {
    const Stretch& stretch = stretches_.front();
    return stretch.start + after(number_ - stretch.first, stretch.per_second);
  }
  void said() {
    ++number_;
    leave_what_is_over();
  }

 private:
  struct Stretch {
    std::uint64_t first = 0;  // Its first number.
    Instant start{};          // When that is due.
    double per_second = 0;
  };
  static Duration after(std::uint64_t count, double per_second) {
    return to_duration(static_cast<double>(count) / per_second);
  }
  void leave_what_is_over() {
    while (stretches_.size() > 1 && number_ >= stretches_[1].first) stretches_.pop_front();
  }

  std::deque<Stretch> stretches_;  // One more for each change that what is due has not reached yet.
  std::uint64_t number_ = 0;
};

}  // namespace starling::node::cli
