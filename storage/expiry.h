// Expiry: which entries are gone by time; one rule for reads and for compaction.
//
// `expires_ms` is stamped into the entry when it is made. Rows carry it in whole seconds, rounded
// up, so nothing goes early. An entry is expired once the store's expiry time has reached that second.
// The expiry time is the node's business (hazards F12); here it only moves forward, and only after
// it is on disk, so that what was hidden once stays hidden after a crash.
// The filter erases expired rows of log, entries, mailbox_dots and keys, and the traces in node, when a file is compacted.
// A lane lives on: it still knows a number whose message is gone.
// Thread: ExpiryTime any; the filter on RocksDB's threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>

#include <rocksdb/compaction_filter.h>

namespace starling::storage {

enum class ColumnFamily : std::uint8_t;

using ExpirySeconds = std::uint32_t;  // 0: never. Good until the year 2106.

inline constexpr ExpirySeconds expiry_seconds(std::uint64_t expires_ms) {
  constexpr std::uint64_t kMax = std::numeric_limits<ExpirySeconds>::max();
  const std::uint64_t seconds = expires_ms / 1000 + (expires_ms % 1000 != 0 ? 1 : 0);
  return static_cast<ExpirySeconds>(seconds < kMax ? seconds : kMax);
}

// True when what expires at `expiry` is gone at `time_ms`.
inline constexpr bool is_expired(ExpirySeconds expiry, std::uint64_t time_ms) {
  return expiry != 0 && expiry <= time_ms / 1000;
}

class ExpiryTime {
 public:
  [[nodiscard]] std::uint64_t ms() const { return ms_.load(std::memory_order_acquire); }
  // Forward only. One writer.
  void advance(std::uint64_t ms) {
    if (ms > this->ms()) ms_.store(ms, std::memory_order_release);
  }
  [[nodiscard]] bool expired(ExpirySeconds expiry) const { return is_expired(expiry, ms()); }

 private:
  std::atomic<std::uint64_t> ms_{0};
};

// Null for a family whose rows do not expire.
std::shared_ptr<rocksdb::CompactionFilterFactory> expiry_filter(
    ColumnFamily family, std::shared_ptr<const ExpiryTime> time);

}  // namespace starling::storage
