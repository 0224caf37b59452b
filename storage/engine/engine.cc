#include "storage/engine/engine.h"

#include <algorithm>
#include <cstdarg>

#include <rocksdb/cache.h>
#include <rocksdb/convenience.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/slice_transform.h>
#include <rocksdb/table.h>

#include "storage/engine/pace.h"

namespace starling::storage {
namespace {

// One flushes, one compacts; when files gather, up to three do: a small family does not wait for a large one.
constexpr int kBackgroundJobs = 4;

// For simulations: a log file would be written by a background thread.
class NoLog final : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
};

rocksdb::CompressionType best_compression() {
  const auto supported = rocksdb::GetSupportedCompressions();
  const bool lz4 =
      std::find(supported.begin(), supported.end(), rocksdb::kLZ4Compression) != supported.end();
  return lz4 ? rocksdb::kLZ4Compression : rocksdb::kNoCompression;
}

rocksdb::DBOptions database_options(const EngineOptions& from) {
  rocksdb::DBOptions options;
  options.env = from.env != nullptr ? from.env : rocksdb::Env::Default();
  options.create_if_missing = true;
  options.create_missing_column_families = true;
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  options.db_write_buffer_size = kWriteBufferBytes;
  options.max_total_wal_size = kWalBytesMax;
  options.max_open_files = kOpenFilesMax;
  options.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  options.keep_log_file_num = 2;
  options.max_log_file_size = 1 << 20;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  options.bytes_per_sync = 1 << 20;  // A flush or compaction does not burst into a WAL sync.
  if (!from.background_work) {
    options.db_write_buffer_size = 0;
    options.max_total_wal_size = std::uint64_t{1} << 40;
    options.max_background_jobs = 1;
    options.max_file_opening_threads = 1;  // The caller itself.
    options.avoid_flush_during_shutdown = true;
    options.info_log = std::make_shared<NoLog>();
  } else {
    // Compactions take what the loop and the commits leave. Those that are starved make commits wait, and so get their
    // share (pace.h).
    options.max_background_jobs = kBackgroundJobs;
    options.env->LowerThreadPoolCPUPriority(rocksdb::Env::LOW, rocksdb::CpuPriority::kLow).PermitUncheckedError();
  }
  return options;
}

// Changes have bodies, and runs of them are read from end to end: in blocks of 4 KiB each has a row of the index and a
// read of its own.
constexpr std::size_t kLogBlockBytes = 16 << 10;

bool has_bloom(std::string_view family) {
  return family == "keys" || family == "lanes" || family == "registers";
}

std::optional<ColumnFamily> family_of(std::string_view name) {
  const auto it = std::find(kColumnFamilyNames.begin(), kColumnFamilyNames.end(), name);
  if (it == kColumnFamilyNames.end()) return std::nullopt;
  return static_cast<ColumnFamily>(it - kColumnFamilyNames.begin());
}

// Rows below one such prefix come in ascending order (a run, a mailbox, a conversation, a lane), so
// the place of the last insert is where the next one goes. Finding it anew was half the work of
// storing a run (measured). 0: no such order.
std::size_t ascending_prefix(ColumnFamily family) {
  switch (family) {
    case ColumnFamily::kLog:
      return sizeof(Slot) + sizeof(WriterId);
    case ColumnFamily::kEntries:
      return 2 * MailboxId::kSize;
    case ColumnFamily::kMailboxDots:
      return MailboxId::kSize + sizeof(WriterId);
    case ColumnFamily::kKeys:
      return MailboxId::kSize + DeviceId::kSize + 8;
    default:
      return 0;
  }
}

rocksdb::ColumnFamilyOptions family_options(const EngineOptions& from, const std::string& name,
                                            const std::shared_ptr<rocksdb::Cache>& cache) {
  rocksdb::BlockBasedTableOptions table;
  if (name == "log") table.block_size = kLogBlockBytes;
  table.block_cache = cache;
  // In parts of a block each: whole ones are megabytes, read and checked for one look-up once the cache cannot hold them.
  table.index_type = rocksdb::BlockBasedTableOptions::kTwoLevelIndexSearch;
  table.partition_filters = has_bloom(name);
  table.cache_index_and_filter_blocks = true;
  table.pin_l0_filter_and_index_blocks_in_cache = true;
  if (has_bloom(name)) table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  rocksdb::ColumnFamilyOptions options;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  // What a flush writes is compacted soon, so it is compressed then.
  options.compression_per_level = {rocksdb::kNoCompression, best_compression()};
  options.write_buffer_size = kWriteBufferBytes;
  options.level_compaction_dynamic_level_bytes = true;
  options.max_bytes_for_level_base = kFirstLevelBytes;
  options.max_bytes_for_level_multiplier = kLevelGrowth;
  options.level0_file_num_compaction_trigger = kLevel0Compacted;
  options.level0_slowdown_writes_trigger = options.level0_stop_writes_trigger = kLevel0Stop;
  options.periodic_compaction_seconds = from.compaction_period_s;
  if (const auto family = family_of(name)) {
    options.compaction_filter_factory = expiry_filter(*family, from.expiry);
    if (const std::size_t prefix = ascending_prefix(*family); prefix > 0) {
      options.memtable_insert_with_hint_prefix_extractor.reset(
          rocksdb::NewFixedPrefixTransform(prefix));
    }
  }
  if (!from.background_work) {
    options.disable_auto_compactions = true;
    options.write_buffer_size = std::size_t{1} << 30;
    options.arena_block_size = 16 << 10;
  }
  return options;
}

// Ours in the order of ColumnFamily, then those on disk that we do not know.
std::vector<std::string> family_names(const rocksdb::DBOptions& options, const std::string& path) {
  std::vector<std::string> names(kColumnFamilyNames.begin(), kColumnFamilyNames.end());
  std::vector<std::string> on_disk;
  // Fails where no database is yet; what else is wrong, opening says.
  if (!rocksdb::DB::ListColumnFamilies(options, path, &on_disk).ok()) on_disk.clear();
  on_disk.push_back(rocksdb::kDefaultColumnFamilyName);
  for (auto& name : on_disk) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

// The smallest key above all that begin with `prefix`; empty: there is none.
Bytes after_prefix(View prefix) {
  Bytes out(prefix);
  while (!out.empty() && static_cast<unsigned char>(out.back()) == 0xff) out.pop_back();
  if (!out.empty()) out.back() = static_cast<char>(static_cast<unsigned char>(out.back()) + 1);
  return out;
}

}  // namespace

void make_threads_for(int stores) {
  rocksdb::Env::Default()->IncBackgroundThreadsIfNeeded(stores + kBackgroundJobs - 2, rocksdb::Env::LOW);
  rocksdb::Env::Default()->IncBackgroundThreadsIfNeeded(stores, rocksdb::Env::HIGH);
}

Error to_error(const rocksdb::Status& status, std::string_view doing) {
  assert(!status.ok());
  const std::string text = "storage: " + std::string(doing) + " failed: " + status.ToString();
  if (status.IsNoSpace()) return {Errc::kFull, text + "; free disk space"};
  if (status.IsCorruption()) {
    return {Errc::kCorrupt,
            text + "; set the data folder aside and start with an empty one: it is refilled from "
                   "the other owners"};
  }
  if (status.IsIOError() && text.find("lock") != std::string::npos) {
    return {Errc::kIo, text + "; the data folder is in use: stop the other process or choose "
                              "another folder"};
  }
  return {Errc::kIo, text + "; check the disk and the folder's permissions, then start again"};
}

Result<std::unique_ptr<Engine>> Engine::open(const EngineOptions& from) {
  std::unique_ptr<Engine> engine(new Engine);
  auto options = database_options(from);
  options.listeners.push_back(engine->watch_);
  const auto cache = rocksdb::NewLRUCache(kBlockCacheBytes);
  std::vector<rocksdb::ColumnFamilyDescriptor> families;
  for (const auto& name : family_names(options, from.path)) {
    families.emplace_back(name, family_options(from, name, cache));
  }
  engine->options_ = from;
  for (std::size_t i = 0; i < kColumnFamilyNames.size(); ++i) {
    engine->family_options_.push_back(families[i].options);
  }
  rocksdb::DB* db = nullptr;
  const auto status = rocksdb::DB::Open(options, from.path, families, &engine->handles_, &db);
  if (!status.ok()) return to_error(status, "opening " + from.path);
  engine->db_.reset(db);
  engine->watch_->follow(db, engine->handles_);
  engine->remove_unfinished();
  for (std::size_t i = 0; i < kColumnFamilyNames.size(); ++i) {
    engine->range_deletions_[i] = engine->has_range_deletions(static_cast<ColumnFamily>(i));
  }
  return engine;
}

Engine::~Engine() {
  if (!db_) return;
  watch_->follow(nullptr, {});
  for (auto* handle : handles_) db_->DestroyColumnFamilyHandle(handle);
  // What is not synced was not promised; a failed close changes nothing.
  db_->Close().PermitUncheckedError();
}

namespace {

// A file that is damaged or gone, as opposed to a process that ran out of something.
bool is_damage(const rocksdb::Status& status) {
  if (status.IsCorruption()) return true;
  if (!status.IsIOError() || status.IsNoSpace()) return false;
  const std::string text = status.ToString();
  return text.find("Too many open files") == std::string::npos &&
         text.find("Cannot allocate memory") == std::string::npos;
}

}  // namespace

Error Engine::failed_read(ColumnFamily family, View key, const rocksdb::Status& status) {
  Error error = to_error(status, "a read");
  if (!is_damage(status)) return error;
  error.code = Errc::kCorrupt;  // Also what the disk itself cannot read.
  std::string text = status.ToString();
  // One block, met row by row, is told once. A text that names no file may be another file's.
  const bool told = text == told_unreadable_ && text.find(".sst") != std::string::npos;
  if (unreadable_ && !told) unreadable_(family, key, told_unreadable_ = std::move(text));
  return error;
}

Result<bool> Engine::get(ColumnFamily family, View key, rocksdb::PinnableSlice& out,
                         ReadMode mode) {
  rocksdb::ReadOptions options;
  options.snapshot = mode.snapshot;
  options.fill_cache = mode.fill_cache;
  const auto status = db_->Get(options, handle(family), slice(key), &out);
  if (status.IsNotFound()) return false;
  if (!status.ok()) return failed_read(family, key, status);
  return true;
}

Engine::Scan::Scan(Engine& engine, ColumnFamily family, View prefix, ReadMode mode)
    : Scan(engine, family, Bytes(prefix), after_prefix(prefix), mode) {}

Engine::Scan::Scan(Engine& engine, ColumnFamily family, Bytes first, Bytes last, ReadMode mode)
    : engine_(engine),
      family_(family),
      lower_(std::move(first)),
      upper_(std::move(last)),
      lower_slice_(lower_),
      upper_slice_(upper_) {
  rocksdb::ReadOptions options;
  options.snapshot = mode.snapshot;
  options.fill_cache = mode.fill_cache;
  options.readahead_size = mode.ahead_bytes;
  options.iterate_lower_bound = &lower_slice_;
  if (!upper_.empty()) options.iterate_upper_bound = &upper_slice_;
  options.ignore_range_deletions = !engine.range_deletions_[static_cast<std::size_t>(family)];
  if (!options.ignore_range_deletions) {
    if (const auto status = engine.open_level_0(family); !status.ok()) {
      it_.reset(rocksdb::NewErrorIterator(status));
      return;
    }
  }
  it_.reset(engine.db_->NewIterator(options, engine.handle(family)));
}

Status Engine::Scan::status() const {
  if (const auto status = it_->status(); !status.ok()) {
    return engine_.failed_read(family_, lower_, status);
  }
  return ok_status();
}

void Engine::put(rocksdb::WriteBatch& batch, ColumnFamily family, View key, View value) {
  const auto status = batch.Put(handle(family), slice(key), slice(value));
  assert(status.ok());
  (void)status;
}

void Engine::erase(rocksdb::WriteBatch& batch, ColumnFamily family, View key) {
  const auto status = batch.Delete(handle(family), slice(key));
  assert(status.ok());
  (void)status;
}

void Engine::erase_range(rocksdb::WriteBatch& batch, ColumnFamily family, View first, View last) {
  // RocksDB keeps range deletions in a table of their own, and would use the hint of the other for it.
  assert(ascending_prefix(family) == 0 || first.size() < ascending_prefix(family));
  range_deletions_[static_cast<std::size_t>(family)] = true;
  const auto status = batch.DeleteRange(handle(family), slice(first), slice(last));
  assert(status.ok());
  (void)status;
}

Status Engine::write_synced(rocksdb::WriteBatch& batch) {
  rocksdb::WriteOptions options;
  options.sync = true;
  if (const auto status = db_->Write(options, &batch); !status.ok()) {
    return to_error(status, "a synced write");
  }
  return ok_status();
}

}  // namespace starling::storage
