// HlcClock: the hybrid logical clock of a node (Kulkarni et al. 2014, figure 5).
//
// A reading is (milliseconds, logical) in one number (storage/ids.h), so comparing readings
// compares numbers, and a logical part that runs over carries into the milliseconds by itself.
// Invariants: (1) next() is above every reading given out, and above every one observed before that was not more than
//                 kHlcAheadMax above the wall clock then: what must be above one further ahead compares, and waits;
//             (2) nobody pulls the clock more than kHlcAheadMax above the own wall clock;
//             (3) nothing the wall clock does makes it go back.
// A node observes a peer's clock before its first next(), or starts from its stored last().
// Thread: one loop.
#pragma once

#include <cstdint>

#include "crypto/result.h"
#include "overlay/loop/clock.h"
#include "storage/ids.h"

namespace starling::overlay {

// Floors further ahead of our wall clock are refused, and our clock is pulled no further.
inline constexpr Duration kHlcAheadMax = 5s;
// What the clocks of two nodes may differ by without either being off.
inline constexpr Duration kClocksApartMax = 5s;
// Good enough to tell what has expired (hazards F12).
inline constexpr Duration kClocksNearMax = 60s;
// Live changes and clocks of peers further ahead are refused: a peer whose clock is ahead of ours, as it may be, may
// have taken a floor that was ahead of its own.
inline constexpr Duration kLiveAheadMax = kHlcAheadMax + kClocksApartMax;

class HlcClock {
 public:
  explicit HlcClock(Hlc last = 0) : last_(last) {}

  // A new reading, above last() and above `floor`. REQUIRES: `floor` passed check().
  Hlc next(std::int64_t now_wall_ms, Hlc floor = 0);

  // kClock when `remote` is more than `ahead_max` above `now_wall_ms`.
  [[nodiscard]] static Status check(Hlc remote, std::int64_t now_wall_ms, Duration ahead_max = kHlcAheadMax);

  // Checks the reading of a live change or of a peer's clock against kLiveAheadMax, and merges it as far as invariant
  // 2 allows. When refused, nothing has changed.
  Status observe(Hlc remote, std::int64_t now_wall_ms);

  // Merges a reading met in repair traffic: old data is taken as it is, but moves the clock no
  // further than kHlcAheadMax above the own wall clock.
  void observe_repair(Hlc remote, std::int64_t now_wall_ms);

  [[nodiscard]] Hlc last() const { return last_; }

 private:
  Hlc last_;
};

}  // namespace starling::overlay
