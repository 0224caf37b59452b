// The message that the micro benchmarks send around: 100 bytes from @alice to @bob.
#pragma once

#include "storage/change.h"

namespace starling::bench {

inline constexpr std::size_t kBodyBytes = 100;
inline constexpr std::uint64_t kWallMs = 1'700'000'000'000;
inline constexpr WriterId kWriter{7};

inline storage::ChangeView message(std::uint64_t i, View body) {
  storage::ChangeView change;
  change.mailbox.raw = {0x12, 0x34, static_cast<std::uint8_t>(i % 100)};
  change.entry.id = {hlc_at(kWallMs + i), kWriter};
  change.entry.key.device.raw[0] = static_cast<std::uint8_t>(i % 100);
  change.entry.key.lane = 5;
  change.entry.key.seq = i / 100 + 1;
  change.entry.conversation.raw[5] = static_cast<std::uint8_t>(i % 20);
  change.entry.expires_ms = kWallMs + (30ull << 30);
  change.entry.from = "@alice";
  change.entry.to = "@bob";
  change.entry.body = body;
  return change;
}

}  // namespace starling::bench
