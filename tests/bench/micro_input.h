// The message that the micro benchmarks send around: 100 bytes from @alice to @bob.
#pragma once

#include "storage/change.h"

namespace starling::bench {

inline constexpr std::size_t kBodyBytes = 100;
inline constexpr std::uint64_t kWallMs = 1'700'000'000'000;
inline constexpr WriterId kWriter{7};

// As ids are: hashes, of which no byte is like that of another.
template <class Id>
Id scattered(std::uint64_t number) {
  Id id;
  std::uint64_t state = (number + 1) * 0x9e3779b97f4a7c15;
  for (auto& byte : id.raw) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    byte = static_cast<std::uint8_t>(state * 0x2545f4914f6cdd1d >> 56);
  }
  return id;
}

// Message i of 100 devices in turn, each to a mailbox of its own, all of one partition.
inline storage::ChangeView message(std::uint64_t i, View body) {
  storage::ChangeView change;
  change.mailbox = scattered<MailboxId>(i % 100);
  change.mailbox.raw[0] = 0x12;
  change.mailbox.raw[1] = 0x34;
  change.entry.id = {hlc_at(kWallMs + i), kWriter};
  change.entry.key.device = scattered<DeviceId>(1000 + i % 100);
  change.entry.key.lane = 5;
  change.entry.key.seq = i / 100 + 1;
  change.entry.conversation = scattered<MailboxId>(2000 + i % 20);
  change.entry.expires_ms = kWallMs + (30ull << 30);
  change.entry.from = "@alice";
  change.entry.to = "@bob";
  change.entry.body = body;
  return change;
}

}  // namespace starling::bench
