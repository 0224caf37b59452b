#include "storage/engine.h"

#include <algorithm>
#include <cstdarg>

#include <rocksdb/cache.h>
#include <rocksdb/convenience.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>

namespace starling::storage {
namespace {

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
    options.avoid_flush_during_shutdown = true;
    options.info_log = std::make_shared<NoLog>();
  }
  return options;
}

rocksdb::ColumnFamilyOptions family_options(const EngineOptions& from, bool bloom,
                                            const std::shared_ptr<rocksdb::Cache>& cache) {
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = cache;
  table.cache_index_and_filter_blocks = true;
  table.pin_l0_filter_and_index_blocks_in_cache = true;
  if (bloom) table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  rocksdb::ColumnFamilyOptions options;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  options.compression = best_compression();
  options.write_buffer_size = kWriteBufferBytes;
  options.level_compaction_dynamic_level_bytes = true;
  if (!from.background_work) {
    options.disable_auto_compactions = true;
    options.write_buffer_size = std::size_t{1} << 30;
    options.arena_block_size = 16 << 10;
  }
  return options;
}

bool has_bloom(std::string_view family) {
  return family == "keys" || family == "lanes" || family == "registers";
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
  const auto options = database_options(from);
  const auto cache = rocksdb::NewLRUCache(kBlockCacheBytes);
  std::vector<rocksdb::ColumnFamilyDescriptor> families;
  for (const auto& name : family_names(options, from.path)) {
    families.emplace_back(name, family_options(from, has_bloom(name), cache));
  }
  std::unique_ptr<Engine> engine(new Engine);
  rocksdb::DB* db = nullptr;
  const auto status = rocksdb::DB::Open(options, from.path, families, &engine->handles_, &db);
  if (!status.ok()) return to_error(status, "opening " + from.path);
  engine->db_.reset(db);
  return engine;
}

Engine::~Engine() {
  if (!db_) return;
  for (auto* handle : handles_) db_->DestroyColumnFamilyHandle(handle);
  // What is not synced was not promised; a failed close changes nothing.
  db_->Close().PermitUncheckedError();
}

Result<bool> Engine::get(ColumnFamily family, View key, rocksdb::PinnableSlice& out) {
  const auto status = db_->Get(rocksdb::ReadOptions(), handle(family), slice(key), &out);
  if (status.IsNotFound()) return false;
  if (!status.ok()) return to_error(status, "a read");
  return true;
}

Engine::Scan::Scan(Engine& engine, ColumnFamily family, View prefix)
    : lower_(prefix), upper_(after_prefix(prefix)), lower_slice_(lower_), upper_slice_(upper_) {
  rocksdb::ReadOptions options;
  options.iterate_lower_bound = &lower_slice_;
  if (!upper_.empty()) options.iterate_upper_bound = &upper_slice_;
  it_.reset(engine.db_->NewIterator(options, engine.handle(family)));
}

Status Engine::Scan::status() const {
  if (const auto status = it_->status(); !status.ok()) return to_error(status, "a scan");
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

Status Engine::write_synced(rocksdb::WriteBatch& batch) {
  rocksdb::WriteOptions options;
  options.sync = true;
  if (const auto status = db_->Write(options, &batch); !status.ok()) {
    return to_error(status, "a synced write");
  }
  return ok_status();
}

}  // namespace starling::storage
