// What the engine does with whole files: names them, erases ranges without reading them.

#include <algorithm>
#include <cstdlib>

#include <rocksdb/convenience.h>
#include <rocksdb/metadata.h>

#include "storage/engine/engine.h"

namespace starling::storage {
namespace {

const char* name_of(ColumnFamily family) {
  return kColumnFamilyNames[static_cast<std::size_t>(family)];
}

std::optional<ColumnFamily> family_named(const std::string& name) {
  const auto it = std::find(kColumnFamilyNames.begin(), kColumnFamilyNames.end(), name);
  if (it == kColumnFamilyNames.end()) return std::nullopt;
  return static_cast<ColumnFamily>(it - kColumnFamilyNames.begin());
}

}  // namespace

std::vector<Engine::File> Engine::suspects(ColumnFamily family, View key,
                                           const std::string& text) {
  std::vector<rocksdb::LiveFileMetaData> live;
  db_->GetLiveFilesMetaData(&live);
  std::vector<File> named, holding;
  for (auto& file : live) {
    const auto of = family_named(file.column_family_name);
    if (!of) continue;
    const bool holds = *of == family && View(file.smallestkey) <= key && key <= file.largestkey;
    const bool is_named = text.find(file.name) != std::string::npos;
    const File found{file.file_number, *of, std::move(file.smallestkey),
                     std::move(file.largestkey)};
    if (is_named) named.push_back(found);
    if (holds) holding.push_back(found);
  }
  return named.empty() ? holding : named;
}

void Engine::tell_unreadable_inputs() {
  for (const auto& text : watch_->take()) {
    for (const auto& file : suspects(ColumnFamily::kLog, {}, text)) {
      // A failure costs a second compaction that ends the same way.
      db_->SetOptions(handle(file.family), {{"disable_auto_compactions", "true"}}).PermitUncheckedError();
      watch_->leave_out(handle(file.family));
    }
    if (unreadable_) unreadable_(ColumnFamily::kLog, {}, text);
  }
}

bool Engine::has_file(std::uint64_t number, std::optional<ColumnFamily> of) {
  std::vector<rocksdb::LiveFileMetaData> live;
  db_->GetLiveFilesMetaData(&live);
  return std::any_of(live.begin(), live.end(),
                     [&](const auto& file) {
                       return file.file_number == number && (!of || family_named(file.column_family_name) == of);
                     });
}

bool Engine::has_range_deletions(ColumnFamily family) {
  rocksdb::TablePropertiesCollection files;
  if (!db_->GetPropertiesOfAllTables(handle(family), &files).ok()) return true;
  return std::any_of(files.begin(), files.end(), [](const auto& file) { return file.second->num_range_deletions > 0; });
}

// Behind every key: a seek opens the files of level 0, and reads no row of theirs.
rocksdb::Status Engine::open_level_0(ColumnFamily family) {
  rocksdb::ReadOptions options;
  options.ignore_range_deletions = true;
  const std::unique_ptr<rocksdb::Iterator> behind(db_->NewIterator(options, handle(family)));
  behind->Seek(slice(Bytes(kRowKeySizeMax, '\xff')));
  return behind->status();
}

// The tombstone first: a file that goes may hide older rows of the same keys below it.
Status Engine::empty(ColumnFamily family, View first, View last) {
  const Bytes end(kRowKeySizeMax, '\xff');  // After every key.
  rocksdb::WriteBatch batch;
  erase_range(batch, family, first, last.empty() ? View(end) : last);
  TRY(write_synced(batch));
  const rocksdb::Slice from = slice(first);
  const rocksdb::Slice to = slice(last.empty() ? View(end) : last);
  const rocksdb::RangePtr range(&from, &to);
  const auto status = rocksdb::DeleteFilesInRanges(db_.get(), handle(family), &range, 1, false);
  if (!status.ok()) return to_error(status, std::string("emptying ") + name_of(family));
  return ok_status();
}

Status Engine::recreate(ColumnFamily family) {
  auto& handle = handles_[static_cast<std::size_t>(family)];
  const std::string doing = std::string("beginning ") + name_of(family) + " anew";
  watch_->follow(nullptr, {});
  if (const auto status = db_->DropColumnFamily(handle); !status.ok()) {
    return to_error(status, doing);
  }
  db_->DestroyColumnFamilyHandle(handle);
  const auto& options = family_options_[static_cast<std::size_t>(family)];
  const auto status = db_->CreateColumnFamily(options, name_of(family), &handle);
  if (!status.ok()) {
    handles_.erase(handles_.begin() + static_cast<std::ptrdiff_t>(family));  // Not ours to close.
    return to_error(status, doing);
  }
  watch_->follow(db_.get(), handles_);
  range_deletions_[static_cast<std::size_t>(family)] = false;
  return ok_status();
}

DiskUse Engine::disk_use() const {
  using Properties = rocksdb::DB::Properties;
  const auto sum = [this](const std::string& property) {
    std::uint64_t out = 0;
    for (auto* family : handles_) {
      std::uint64_t value = 0;
      if (db_->GetIntProperty(family, property, &value)) out += value;
    }
    return out;
  };
  DiskUse out;
  out.file_bytes = sum(Properties::kTotalSstFilesSize);
  out.debt_bytes = sum(Properties::kEstimatePendingCompactionBytes);
  double written = 0, stalls = 0;
  for (auto* family : handles_) {
    std::map<std::string, std::string> stats;
    if (!db_->GetMapProperty(family, Properties::kCFStats, &stats)) continue;
    written += std::strtod(stats["compaction.Sum.WriteGB"].c_str(), nullptr);
    for (const char* kind : {"total_slowdown", "total_stop"}) {
      stalls += std::strtod(stats[std::string("io_stalls.") + kind].c_str(), nullptr);
    }
  }
  out.table_bytes = static_cast<std::uint64_t>(written * (1 << 30));
  out.stalls = static_cast<std::uint64_t>(stalls);
  return out;
}

void Engine::tend() {
  if (!options_.background_work) return;
  rocksdb::FlushOptions flush;
  flush.wait = false;
  const std::string period = std::to_string(options_.compaction_period_s);
  for (std::size_t i = 0; i < kColumnFamilyNames.size(); ++i) {
    // A flush that cannot be is no harm: the log has everything, the next one comes.
    db_->Flush(flush, handles_[i]).PermitUncheckedError();
    // Setting an option makes RocksDB look at the age of every file.
    db_->SetOptions(handles_[i], {{"periodic_compaction_seconds", period}}).PermitUncheckedError();
  }
}

}  // namespace starling::storage
