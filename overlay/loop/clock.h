// Instant and Duration: steady time as numbers. Pure machines get `now` as an argument; only a Loop
// can read a clock, and time does not move within one turn of it.
// Wall time is Unix milliseconds (std::int64_t, named *_wall_ms); it may jump.
#pragma once

#include <chrono>
#include <cstdint>

namespace starling {

using Duration = std::chrono::nanoseconds;

inline Duration to_duration(double seconds) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}
struct SteadyTag {
  using duration = Duration;
  using rep = Duration::rep;
  using period = Duration::period;
  using time_point = std::chrono::time_point<SteadyTag, Duration>;
  static constexpr bool is_steady = true;
};
using Instant = SteadyTag::time_point;  // Only differences mean anything.
inline constexpr Instant kNever = Instant::max();
inline constexpr std::int64_t kWallMsMax = (std::int64_t{1} << 48) - 1;  // What an Hlc holds.

using namespace std::chrono_literals;

constexpr std::int64_t to_ms(Duration d) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(d).count();
}

}  // namespace starling
