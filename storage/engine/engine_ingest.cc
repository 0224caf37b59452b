// Sorted files from outside: written beside everything else, taken in whole.

#include "storage/engine/engine.h"

namespace starling::storage {
namespace {

constexpr View kUnfinished = "installing-";  // And a number: RocksDB does not touch files of such names.

rocksdb::Options options_of(Engine& engine, ColumnFamily family) {
  return engine.db().GetOptions(engine.handle(family));
}

}  // namespace

Engine::SortedFile::SortedFile(Engine& engine, ColumnFamily family)
    : engine_(engine),
      path_(engine.options_.path + "/" + std::string(kUnfinished) + std::to_string(engine.next_file_++) + ".sst"),
      writer_(rocksdb::EnvOptions(engine.db().GetDBOptions()), options_of(engine, family), engine.handle(family)) {
  note(writer_.Open(path_));
}

Engine::SortedFile::~SortedFile() {
  if (!finished_) engine_.db().GetEnv()->DeleteFile(path_).PermitUncheckedError();
}

void Engine::SortedFile::note(const rocksdb::Status& status) {
  if (!status.ok() && !failed_) failed_ = to_error(status, "writing " + path_);
}

void Engine::SortedFile::put(View key, View value) {
  if (!failed_) note(writer_.Put(slice(key), slice(value)));
}

void Engine::SortedFile::erase(View key) {
  if (!failed_) note(writer_.Delete(slice(key)));
}

Result<std::string> Engine::SortedFile::finish() {
  if (!failed_) note(writer_.Finish());
  if (failed_) return *failed_;
  finished_ = true;
  return path_;
}

Status Engine::ingest(const Files& files) {
  std::vector<rocksdb::IngestExternalFileArg> args;
  for (const auto& [family, paths] : files) {
    rocksdb::IngestExternalFileArg arg;
    arg.column_family = handle(family);
    arg.external_files = paths;
    arg.options.move_files = true;
    arg.options.write_global_seqno = false;  // A file stays as its checksums say.
    arg.options.verify_checksums_before_ingest = true;
    arg.options.allow_blocking_flush = false;
    args.push_back(std::move(arg));
  }
  if (args.empty()) return ok_status();
  auto status = db_->IngestExternalFiles(args);
  if (status.IsInvalidArgument()) {
    // Something of the range, be it an erasure, is in memory. Written out by ingestion itself it would stop all
    // writers; so it goes before.
    for (auto& arg : args) {
      rocksdb::FlushOptions flush;
      flush.allow_write_stall = false;
      db_->Flush(flush, arg.column_family).PermitUncheckedError();
      arg.options.allow_blocking_flush = true;
    }
    status = db_->IngestExternalFiles(args);
  }
  if (status.ok()) return ok_status();
  remove(files);
  return to_error(status, "taking in files");
}

void Engine::remove(const Files& files) {
  for (const auto& [family, paths] : files) {
    for (const auto& path : paths) db_->GetEnv()->DeleteFile(path).PermitUncheckedError();
  }
}

// Of a run that ended before they were taken in.
void Engine::remove_unfinished() {
  std::vector<std::string> names;
  rocksdb::Env& env = *db_->GetEnv();
  if (!env.GetChildren(options_.path, &names).ok()) return;
  for (const auto& name : names) {
    if (View(name).starts_with(kUnfinished)) env.DeleteFile(options_.path + "/" + name).PermitUncheckedError();
  }
}

}  // namespace starling::storage
