// CompactionWatch: how far compactions are behind; and one that meets a damaged file stops nobody.
//
// RocksDB would take no write any more after it, and after each restart the same compaction would come first. What it
// met is one file with a damaged block, which the node can replace from other owners: so the error is taken back, and
// told by whoever asks.
// Thread: RocksDB's tell; any may ask.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <rocksdb/db.h>
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
  void OnFlushCompleted(rocksdb::DB*, const rocksdb::FlushJobInfo&) override { count(); }
  void OnCompactionCompleted(rocksdb::DB*, const rocksdb::CompactionJobInfo&) override { count(); }

  // Counts the files of these families from now on; none: not any more, as before a handle goes.
  void follow(rocksdb::DB* db, std::vector<rocksdb::ColumnFamilyHandle*> families) {
    const std::lock_guard lock(families_mutex_);
    db_ = db;
    families_ = std::move(families);
    level0_files_ = 0;
  }
  // It is not compacted any more.
  void leave_out(const rocksdb::ColumnFamilyHandle* family) {
    const std::lock_guard lock(families_mutex_);
    std::erase(families_, family);
  }
  // Of the family that has most in level 0.
  [[nodiscard]] int level0_files() const { return level0_files_; }

  // What compactions met since the last time.
  std::vector<std::string> take() {
    if (!any_) return {};
    const std::lock_guard lock(mutex_);
    any_ = false;
    return std::exchange(texts_, {});
  }

 private:
  void count() {
    const std::lock_guard lock(families_mutex_);
    int most = 0;
    for (auto* family : families_) {
      std::string files;
      if (db_->GetProperty(family, rocksdb::DB::Properties::kNumFilesAtLevelPrefix + "0", &files)) {
        most = std::max(most, std::atoi(files.c_str()));
      }
    }
    level0_files_ = most;
  }

  static constexpr std::size_t kTextsMax = 64;  // It is tried again every second.
  std::atomic<int> level0_files_ = 0;
  std::mutex families_mutex_;  // Held while RocksDB's own is taken, never the other way round.
  rocksdb::DB* db_ = nullptr;
  std::vector<rocksdb::ColumnFamilyHandle*> families_;

  std::atomic<bool> any_ = false;
  std::mutex mutex_;
  std::vector<std::string> texts_;
};

}  // namespace starling::storage
