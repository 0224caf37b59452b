// Pace: keeps what is fetched to a rate, and tells the rate at which it came.
//
// A fetch is charged before it leaves with the most that it may bring, and gets back what it did not, so that
// many at once keep to the rate, too. Credit is gathered for kPaceBurst at most.
// Thread: value types; pure.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "overlay/loop/clock.h"

namespace starling::node {

inline constexpr Duration kPaceBurst = 100ms;
inline constexpr Duration kRateWindow = 3s;

class Pace {
 public:
  // How long the next fetch has to wait. `rate` in bytes a second; 0: as fast as it goes.
  Duration wait(std::uint64_t rate, Instant now) {
    refill(rate, now);
    if (rate == 0 || credit_ >= 0) return Duration(0);
    const double seconds = -credit_ / static_cast<double>(rate);
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds)) + 1ns;
  }
  void charge(std::uint64_t bytes) { credit_ -= static_cast<double>(bytes); }
  void give_back(std::uint64_t bytes) { credit_ += static_cast<double>(bytes); }

 private:
  void refill(std::uint64_t rate, Instant now) {
    const double seconds = std::chrono::duration<double>(now - std::exchange(refilled_, now)).count();
    const double most = static_cast<double>(rate) * std::chrono::duration<double>(kPaceBurst).count();
    credit_ = rate == 0 ? 0 : std::min(most, credit_ + seconds * static_cast<double>(rate));
  }

  double credit_ = 0;
  Instant refilled_{};
};

// Of the last seconds; older ones fade.
class RateMeter {
 public:
  void add(std::uint64_t bytes, Instant now) {
    fade(now);
    recent_ += static_cast<double>(bytes);
  }
  [[nodiscard]] std::uint64_t per_second(Instant now) const {
    RateMeter copy = *this;
    copy.fade(now);
    // What began a moment ago has no whole window behind it.
    const double window = std::chrono::duration<double>(kRateWindow).count();
    const double seconds = std::max(0.1, std::chrono::duration<double>(now - began_).count());
    const double seen = window * (1 - std::exp(-seconds / window));
    return static_cast<std::uint64_t>(copy.recent_ / seen);
  }

 private:
  void fade(Instant now) {
    if (last_ == Instant{}) began_ = last_ = now;
    const double seconds = std::chrono::duration<double>(now - std::exchange(last_, now)).count();
    recent_ *= std::exp(-seconds / std::chrono::duration<double>(kRateWindow).count());
  }

  double recent_ = 0;
  Instant last_{};
  Instant began_{};
};

}  // namespace starling::node
