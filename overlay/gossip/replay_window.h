// ReplayWindow: accepts each number of a sender once, in nearly any order (RFC 6479).
//
// A ring of 64-bit words covers the newest numbers; moving forward clears whole words instead of
// shifting bits. One word is always being cleared, so the usable window is kWindow.
// Thread: one loop; pure.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace starling::overlay {

class ReplayWindow {
 public:
  static constexpr std::uint64_t kBits = 1024;
  static constexpr std::uint64_t kWindow = kBits - 64;
  // No sender says so much between two numbers that arrive. What jumps further is none of its own, and would make
  // all that follows look old.
  static constexpr std::uint64_t kJumpMax = std::uint64_t{1} << 32;

  // True the first time for a number >= 1 that is not kWindow or more behind the newest, nor more than kJumpMax ahead.
  bool accept(std::uint64_t number) {
    if (number == 0 || (number > newest_ && number - newest_ > kJumpMax)) return false;
    if (newest_ >= kWindow && number <= newest_ - kWindow) return false;
    const std::uint64_t word = number / 64;
    if (number > newest_) {
      const std::uint64_t top = newest_ / 64;
      const std::uint64_t steps = std::min<std::uint64_t>(word - top, kWords);
      for (std::uint64_t i = 1; i <= steps; ++i) words_[(top + i) % kWords] = 0;
      newest_ = number;
    }
    const std::uint64_t bit = std::uint64_t{1} << (number % 64);
    std::uint64_t& seen = words_[word % kWords];
    if ((seen & bit) != 0) return false;
    seen |= bit;
    return true;
  }

  [[nodiscard]] std::uint64_t newest() const { return newest_; }  // 0: none yet.

 private:
  static constexpr std::uint64_t kWords = kBits / 64;
  std::array<std::uint64_t, kWords> words_{};
  std::uint64_t newest_ = 0;
};

}  // namespace starling::overlay
