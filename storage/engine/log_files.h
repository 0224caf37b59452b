// LogFiles: a file system whose write-ahead logs are written over zeros.
//
// A sync of a file that grew has to write down its new size, too, in the file system's journal: half of what it costs,
// in time and in CPU (measured: docs/benchmarks.md). So a log is filled with zeros a little ahead of what is written,
// and most syncs change nothing but the pages. A log that is closed has its true size; after a crash log_tail.h finds
// the end. PostgreSQL and etcd write their logs so.
// Thread: as RocksDB calls it.
#pragma once

#include <memory>

#include <rocksdb/file_system.h>

namespace starling::storage {

inline constexpr std::size_t kLogAheadBytes = 128 << 10;

// Over `target`, whose paths must be those of the operating system.
std::shared_ptr<rocksdb::FileSystem> log_files(const std::shared_ptr<rocksdb::FileSystem>& target);

}  // namespace starling::storage
