#include "overlay/loop/hlc.h"

#include <algorithm>
#include <string>

namespace starling::overlay {
namespace {

constexpr Hlc kLogicalMax = 0xFFFF;

// A wall clock before 1970 counts as 1970; one after the year 10889 does not fit 48 bits.
Hlc wall(std::int64_t ms) {
  return hlc_at(static_cast<std::uint64_t>(std::clamp<std::int64_t>(ms, 0, kWallMsMax)));
}

Hlc latest_allowed(std::int64_t now_wall_ms, Duration ahead_max = kHlcAheadMax) {
  return wall(now_wall_ms + to_ms(ahead_max));
}

}  // namespace

Hlc HlcClock::next(std::int64_t now_wall_ms, Hlc floor) {
  last_ = std::max({last_ + 1, floor + 1, wall(now_wall_ms)});
  return last_;
}

Status HlcClock::check(Hlc remote, std::int64_t now_wall_ms, Duration ahead_max) {
  // The logical part is not held against the sender: only whole milliseconds are compared.
  if (hlc_ms(remote) <= hlc_ms(latest_allowed(now_wall_ms, ahead_max))) return ok_status();
  const std::uint64_t ahead = hlc_ms(remote) - hlc_ms(wall(now_wall_ms));
  return Error{Errc::kClock, "a clock is " + std::to_string(ahead) +
                                 " ms ahead of ours; set the clocks of both nodes right (NTP)"};
}

Status HlcClock::observe(Hlc remote, std::int64_t now_wall_ms) {
  TRY(check(remote, now_wall_ms, kLiveAheadMax));
  last_ = std::max(last_, std::min(remote, latest_allowed(now_wall_ms) | kLogicalMax));
  return ok_status();
}

void HlcClock::observe_repair(Hlc remote, std::int64_t now_wall_ms) {
  last_ = std::max(last_, std::min(remote, latest_allowed(now_wall_ms)));
}

}  // namespace starling::overlay
