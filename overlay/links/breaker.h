// Breaker: whether it is worth trying to reach a peer at all (circuit breaker: Nygard, Release It!, 2007).
//
//   closed     calls go out; a failed dial or a link whose peer fell silent opens it
//   open       calls fail at once, so that callers turn to another node; rests between the attempts
//   half-open  one attempt is under way, by the links themselves and with no caller waiting for it
// The rest doubles with each failure in a row, with jitter, from kRedialMin to a limit. A link that is up closes it.
// Pure.   Thread: one loop.
#pragma once

#include "crypto/result.h"
#include "overlay/loop/clock.h"

namespace starling::overlay {

inline constexpr Duration kRedialMin = 100ms;
inline constexpr Duration kRedialMax = 2s;
inline constexpr Duration kRedialUnwantedMax = 30s;  // To a node that nobody asked for lately.

class Breaker {
 public:
  // `jitter` in [0, 1) shortens the rest by up to a quarter; `longest` is its limit.
  void trip(Instant now, double jitter, Error cause, Duration longest = kRedialMax);
  void close();

  [[nodiscard]] bool closed() const { return failures_ == 0; }
  // Open, and the rest is over.
  [[nodiscard]] bool may_try(Instant now) const { return !closed() && now >= next_; }
  [[nodiscard]] Instant next() const { return next_; }
  // REQUIRES: not closed.
  [[nodiscard]] const Error& cause() const { return cause_; }

 private:
  int failures_ = 0;  // In a row; counted up to kFailuresMax.
  Instant next_{};
  Error cause_{Errc::kUnavailable, ""};
};

}  // namespace starling::overlay
