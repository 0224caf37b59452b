// Ladder: what a node with too much to do leaves out, what people miss least first.
//
//   typing < presence < receipts < history reads < sends
//
// Pressure is how full the fullest of its bounded queues is, or how late its loop turns, 0 to 1. A rung is given up
// when the pressure stood at its height for kLadderRise, and everything below it with it; rungs are taken back
// one by one, each when the pressure stayed well below its height for kLadderFall. So a moment's peak costs
// nothing, and an overload does not flap. What is left out is refused with `overloaded`, never dropped.
// Thread: one loop; pure.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "overlay/loop/clock.h"

namespace starling::node {

enum class Rung : std::uint8_t { kNone = 0, kTyping = 1, kPresence = 2, kReceipts = 3, kHistory = 4, kSends = 5 };
inline constexpr std::size_t kRungs = 6;
std::string_view name(Rung rung);  // "history reads"

inline constexpr std::array<double, kRungs> kRungHeights = {0, 0.5, 0.6, 0.7, 0.8, 0.95};
inline constexpr double kLadderSlack = 0.8;  // Of a height: below is well below.
inline constexpr Duration kLadderLook = 250ms;
inline constexpr Duration kLadderRise = 750ms;
inline constexpr Duration kLadderFall = 2s;
inline constexpr Duration kLoopLateMax = 1s;  // Pressure 1.
static_assert(kLadderRise >= 3 * kLadderLook, "one late turn is no overload");

class Ladder {
 public:
  // Every kLadderLook or so.
  void look(double pressure, Instant now);

  // The highest rung given up.
  [[nodiscard]] Rung rung() const { return rung_; }
  [[nodiscard]] bool gives_up(Rung what) const { return what <= rung_; }
  // gives_up(), counted as a refusal.
  bool refuses(Rung what) {
    if (!gives_up(what)) return false;
    ++refused_[static_cast<std::size_t>(what)];
    return true;
  }
  [[nodiscard]] std::uint64_t refused(Rung what) const { return refused_[static_cast<std::size_t>(what)]; }
  [[nodiscard]] double pressure() const { return pressure_; }
  // "typing, presence"; empty when all is done.
  [[nodiscard]] std::string left_out() const;

 private:
  Rung rung_ = Rung::kNone;
  double pressure_ = 0;
  std::array<Instant, kRungs> above_since_ = {kNever, kNever, kNever, kNever, kNever, kNever};
  Instant below_since_ = kNever;  // Well below the height of rung_.
  std::array<std::uint64_t, kRungs> refused_{};
};

}  // namespace starling::node
