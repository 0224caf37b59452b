// CompactionWatch: a compaction that meets a damaged file stops nobody.
//
// RocksDB would take no write any more after it, and after each restart the same compaction would come first. What it
// met is one file with a damaged block, which the node can replace from other owners: so the error is taken back, and
// told by whoever asks.
// Thread: RocksDB's tell, the loop takes.
#pragma once

#include <atomic>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <rocksdb/listener.h>

namespace starling::storage {

class CompactionWatch final : public rocksdb::EventListener {
 public:
  void OnBackgroundError(rocksdb::BackgroundErrorReason reason, rocksdb::Status* error) override {
    if (reason != rocksdb::BackgroundErrorReason::kCompaction || !error->IsCorruption()) return;
    const std::lock_guard lock(mutex_);
    if (texts_.size() < kTextsMax) texts_.push_back(error->ToString());
    any_ = true;
    *error = rocksdb::Status::OK();
  }

  // What compactions met since the last time.
  std::vector<std::string> take() {
    if (!any_) return {};
    const std::lock_guard lock(mutex_);
    any_ = false;
    return std::exchange(texts_, {});
  }

 private:
  static constexpr std::size_t kTextsMax = 64;  // It is tried again every second.
  std::atomic<bool> any_ = false;
  std::mutex mutex_;
  std::vector<std::string> texts_;
};

}  // namespace starling::storage
