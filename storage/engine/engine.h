// Engine: RocksDB with our families, options and errors; knows bytes, not meaning.
//
// Small synced batches: one write buffer and one block cache for all families, bloom filters where
// most look-ups find nothing. The WAL is recovered with kTolerateCorruptedTailRecords: a cut tail
// was never acknowledged, damage in the middle refuses to open (the default drops all behind it).
// paranoid_checks is on: a file of a wrong size or with a damaged index refuses to open too; a
// damaged block shows when it is read, by its checksum, and goes to on_unreadable().
// A scan heeds range deletions only where there may be some: RocksDB 7.8 goes wrong over them beside files that cannot
// be read (docs/decisions/0072).
// Families of a newer format are opened and left alone, so that the format can be read.
// Thread: reads from the loop, while the committer writes.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/iterator.h>
#include <rocksdb/snapshot.h>
#include <rocksdb/sst_file_writer.h>
#include <rocksdb/write_batch.h>

#include "crypto/bytes.h"
#include "crypto/result.h"
#include "storage/disk_use.h"
#include "storage/engine/compaction_watch.h"
#include "storage/expiry.h"
#include "storage/layout.h"

namespace starling::storage {

inline rocksdb::Slice slice(View bytes) { return {bytes.data(), bytes.size()}; }
inline View view(const rocksdb::Slice& bytes) { return {bytes.data(), bytes.size()}; }

// Threads that flush and compact, for so many stores of the process: RocksDB itself makes as many as one needs.
void make_threads_for(int stores);

// kFull, kCorrupt or kIo, with what was being done and the next step. REQUIRES: !status.ok().
Error to_error(const rocksdb::Status& status, std::string_view doing);

struct EngineOptions {
  std::string path;
  rocksdb::Env* env = nullptr;  // nullptr: the operating system's.
  bool background_work = true;  // false: no flush, no compaction, no thread but the caller's.
  std::shared_ptr<const ExpiryTime> expiry = std::make_shared<ExpiryTime>();
  std::uint64_t compaction_period_s = 0;  // How old a file may grow uncompacted; 0: any age.
};

// How to read: as of a snapshot (null: as it is now), whether the blocks stay in the cache, and how much a scan
// fetches from a file at once (0: a block, later more).
struct ReadMode {
  const rocksdb::Snapshot* snapshot = nullptr;
  bool fill_cache = true;
  std::size_t ahead_bytes = 0;
};

inline constexpr std::size_t kBlockCacheBytes = 64 << 20;
inline constexpr std::size_t kWriteBufferBytes = 128 << 20;  // All families together.
// The level below level 0 is up to this large, each further one so many times as the one above (decision 0077).
inline constexpr std::uint64_t kFirstLevelBytes = std::uint64_t{1} << 30;
inline constexpr double kLevelGrowth = 5;
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

  // Called for a read that met a damaged or unreadable file, with the key that was looked for or the lowest of the
  // scan, inside that read; not again for the same as the last. Such a read ends with kCorrupt.
  using Unreadable = std::function<void(ColumnFamily, View key, const std::string& text)>;
  void on_unreadable(Unreadable hook) { unreadable_ = std::move(hook); }
  // The same for what compactions met by now. Their families are not compacted any more until the next open.
  void tell_unreadable_inputs();

  // True and `out` filled, or false for an absent key.
  Result<bool> get(ColumnFamily family, View key, rocksdb::PinnableSlice& out, ReadMode mode = {});

  // Over the keys that begin with `prefix`, or lie in [first, last) (last empty: no end), as of its
  // construction; to be positioned first.
  class Scan {
   public:
    Scan(Engine& engine, ColumnFamily family, View prefix, ReadMode mode = {});
    Scan(Engine& engine, ColumnFamily family, Bytes first, Bytes last, ReadMode mode);
    Scan(const Scan&) = delete;  // RocksDB borrows the bounds.
    Scan& operator=(const Scan&) = delete;
    rocksdb::Iterator* operator->() { return it_.get(); }
    [[nodiscard]] bool valid() const { return it_->Valid(); }
    [[nodiscard]] View key() const { return view(it_->key()); }
    [[nodiscard]] View value() const { return view(it_->value()); }
    // An ended scan has met the end, or an error.
    [[nodiscard]] Status status() const;

   private:
    Engine& engine_;
    const ColumnFamily family_;
    Bytes lower_;
    Bytes upper_;
    rocksdb::Slice lower_slice_;
    rocksdb::Slice upper_slice_;
    std::unique_ptr<rocksdb::Iterator> it_;
  };

  void put(rocksdb::WriteBatch& batch, ColumnFamily family, View key, View value);
  void erase(rocksdb::WriteBatch& batch, ColumnFamily family, View key);
  // [first, last). REQUIRES: `first` is of no one run, mailbox or conversation, but of whole slots.
  void erase_range(rocksdb::WriteBatch& batch, ColumnFamily family, View first, View last);
  Status write_synced(rocksdb::WriteBatch& batch);

  // --- Files (engine_files.cc). ---
  struct File {
    std::uint64_t number = 0;
    ColumnFamily family{};
    Bytes smallest, largest;  // Keys.
  };
  // The files that `text` names; if it names none, those of the family that may hold the key.
  std::vector<File> suspects(ColumnFamily family, View key, const std::string& text);
  [[nodiscard]] bool has_file(std::uint64_t number, std::optional<ColumnFamily> of = std::nullopt);
  // Erases [first, last) (last empty: to the end) without reading it, with the files inside it.
  Status empty(ColumnFamily family, View first, View last);
  // Drops the family with all its files, unread, and begins it anew.
  Status recreate(ColumnFamily family);

  // --- Files from outside (engine_ingest.cc). Thread: any one, beside the loop and the committer. ---
  // Rows of one family, to be given in ascending order; goes into a file of its own.
  class SortedFile {
   public:
    SortedFile(Engine& engine, ColumnFamily family);
    ~SortedFile();
    SortedFile(const SortedFile&) = delete;
    SortedFile& operator=(const SortedFile&) = delete;
    void put(View key, View value);
    void erase(View key);  // Of a row that an earlier file has.
    // Synced. The first failure is told here. Its path.
    Result<std::string> finish();

   private:
    void note(const rocksdb::Status& status);
    Engine& engine_;
    const std::string path_;
    rocksdb::SstFileWriter writer_;
    std::optional<Error> failed_;
    bool finished_ = false;  // Else its path is of no use.
  };
  using Files = std::map<ColumnFamily, std::vector<std::string>>;
  // Takes them in, all or none, durably: into the lowest level that holds nothing of their range. Each block is
  // checked first. What was not taken in is deleted.
  Status ingest(const Files& files);
  void remove(const Files& files);

  [[nodiscard]] DiskUse disk_use() const;
  // Of the family that has most; compactions make them fewer. As of the last flush or compaction.
  [[nodiscard]] int level0_files() const { return watch_->level0_files(); }
  // Writes out what only the log has and looks for files that are due for compaction, which RocksDB
  // by itself does only when something changes. Does not wait. Once in a compaction period.
  void tend();

 private:
  Engine() = default;
  // Whether a file of the family has one, or may: what the log had is in a file since the database is open.
  bool has_range_deletions(ColumnFamily family);
  // Of all files that every scan of the family meets.
  rocksdb::Status open_level_0(ColumnFamily family);
  Error failed_read(ColumnFamily family, View key, const rocksdb::Status& status);
  void remove_unfinished();

  std::shared_ptr<CompactionWatch> watch_ = std::make_shared<CompactionWatch>();
  EngineOptions options_;
  std::vector<rocksdb::ColumnFamilyOptions> family_options_;  // Ours by number.
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> handles_;  // Ours by number, then the unknown.
  Unreadable unreadable_;
  std::string told_unreadable_;  // The last text that it got.
  std::array<std::atomic<bool>, kColumnFamilyNames.size()> range_deletions_{};  // There may be some.
  std::atomic<std::uint64_t> next_file_{1};
};

}  // namespace starling::storage
