// Pace: how far apart commits are when compactions fall behind.
//
// Compactions run at low priority, so under a lasting load files gather in level 0, and each read looks into more of
// them. RocksDB's own answer comes late and is a cliff: it divides the rate of writes again for each family and file,
// until nothing is left (measured: 80 KB/s for a minute). So commits slow down long before, in proportion: batches grow,
// which costs less for each change, senders wait for their turn, and compactions get the processor. This is the spring of
// bLSM (Sears, Ramakrishnan: bLSM, SIGMOD 2012). RocksDB's triggers stand where they are not met (docs/decisions/0076).
// Thread: any; pure.
#pragma once

#include <algorithm>
#include <chrono>

namespace starling::storage {

inline constexpr int kLevel0Compacted = 8;  // Files of a family in level 0 from which they are compacted,
inline constexpr int kLevel0Calm = 12;      // up to which commits are not held up,
inline constexpr int kLevel0Full = 36;      // at which they are held up most,
inline constexpr int kLevel0Stop = 96;      // and at which RocksDB takes none until there are fewer.
inline constexpr std::chrono::microseconds kPaceMax{100'000};

// The least time from the end of a commit to the begin of the next, by the files of the family that has most.
inline std::chrono::microseconds commit_pace(int level0_files) {
  const double behind = std::clamp(static_cast<double>(level0_files - kLevel0Calm) / (kLevel0Full - kLevel0Calm), 0.0, 1.0);
  return std::chrono::microseconds(static_cast<std::int64_t>(behind * behind * static_cast<double>(kPaceMax.count())));
}

}  // namespace starling::storage
