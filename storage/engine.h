// Engine: RocksDB with our families, options and errors; knows bytes, not meaning.
//
// Small synced batches: one write buffer and one block cache for all families, bloom filters where
// most look-ups find nothing. The WAL is recovered with kTolerateCorruptedTailRecords: a cut tail
// was never acknowledged, damage in the middle refuses to open (the default drops all behind it).
// Families of a newer format are opened and left alone, so that the format can be read.
// Thread: reads from the loop, while the committer writes.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/iterator.h>
#include <rocksdb/write_batch.h>

#include "crypto/bytes.h"
#include "crypto/result.h"
#include "storage/layout.h"

namespace starling::storage {

inline rocksdb::Slice slice(View bytes) { return {bytes.data(), bytes.size()}; }
inline View view(const rocksdb::Slice& bytes) { return {bytes.data(), bytes.size()}; }

// kFull, kCorrupt or kIo, with what was being done and the next step. REQUIRES: !status.ok().
Error to_error(const rocksdb::Status& status, std::string_view doing);

struct EngineOptions {
  std::string path;
  rocksdb::Env* env = nullptr;  // nullptr: the operating system's.
  bool background_work = true;  // false: no flush, no compaction, no thread but the caller's.
};

inline constexpr std::size_t kBlockCacheBytes = 64 << 20;
inline constexpr std::size_t kWriteBufferBytes = 64 << 20;  // All families together.
inline constexpr std::size_t kWalBytesMax = 256 << 20;      // Then cold families are flushed.
inline constexpr int kOpenFilesMax = 512;

class Engine {
 public:
  static Result<std::unique_ptr<Engine>> open(const EngineOptions& options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  [[nodiscard]] rocksdb::DB& db() { return *db_; }
  [[nodiscard]] rocksdb::ColumnFamilyHandle* handle(ColumnFamily family) const {
    return handles_[static_cast<std::size_t>(family)];
  }

  // True and `out` filled, or false for an absent key.
  Result<bool> get(ColumnFamily family, View key, rocksdb::PinnableSlice& out);

  // Over the keys that begin with `prefix`, as of its construction; to be positioned first.
  class Scan {
   public:
    Scan(Engine& engine, ColumnFamily family, View prefix);
    Scan(const Scan&) = delete;  // RocksDB borrows the bounds.
    Scan& operator=(const Scan&) = delete;
    rocksdb::Iterator* operator->() { return it_.get(); }
    [[nodiscard]] bool valid() const { return it_->Valid(); }
    [[nodiscard]] View key() const { return view(it_->key()); }
    [[nodiscard]] View value() const { return view(it_->value()); }
    // An ended scan has met the end, or an error.
    [[nodiscard]] Status status() const;

   private:
    Bytes lower_;
    Bytes upper_;
    rocksdb::Slice lower_slice_;
    rocksdb::Slice upper_slice_;
    std::unique_ptr<rocksdb::Iterator> it_;
  };

  void put(rocksdb::WriteBatch& batch, ColumnFamily family, View key, View value);
  void erase(rocksdb::WriteBatch& batch, ColumnFamily family, View key);
  Status write_synced(rocksdb::WriteBatch& batch);

 private:
  Engine() = default;
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> handles_;  // Ours by number, then the unknown.
};

}  // namespace starling::storage
