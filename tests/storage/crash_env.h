// CrashEnv: a disk in memory that forgets what was not synced.
//
// freeze() is the instant of the crash: from then on nothing changes on the disk (a write pretends to
// succeed, because a dying process must not notice), so the objects of the process can be destroyed.
// Then thaw() brings back a killed process, whose writes sit in the page cache, and
// drop_unsynced() + thaw() a machine that lost power. A torn tail keeps a part of the unsynced bytes.
// Directory entries are durable at once: RocksDB syncs its directories, and we test its users, not it.
// Thread: any; REQUIRES: no open file during drop_unsynced().
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include "crypto/random.h"

namespace starling::testing {

class CrashEnv {
 public:
  CrashEnv()
      : base_(rocksdb::NewMemEnv(rocksdb::Env::Default())),
        files_(std::make_shared<Files>(base_->GetFileSystem())),
        env_(rocksdb::NewCompositeEnv(files_)) {}

  [[nodiscard]] rocksdb::Env* env() { return env_.get(); }

  void freeze() { files_->frozen = true; }
  // The same, before the n-th change of the disk from now on: an append, a sync, a new, renamed or
  // deleted file.
  void freeze_in(std::uint64_t changes) { files_->changes_left = static_cast<std::int64_t>(changes); }
  // From now on there is no room for new files whose name has this in it; empty: there is.
  void no_room_for(std::string part) { files_->no_room_for(std::move(part)); }
  // A bit of each block that is written to files of such names flips.
  void spoil(std::string part) { files_->spoil(std::move(part)); }
  [[nodiscard]] bool frozen() const { return files_->frozen; }
  void thaw() {
    files_->changes_left = 0;
    files_->frozen = false;
  }
  // Cuts every file to its last sync; with `torn`, to a random place after it.
  void drop_unsynced(Random* torn = nullptr) { files_->drop_unsynced(torn); }
  [[nodiscard]] std::uint64_t syncs() const { return files_->syncs; }

 private:
  using IOStatus = rocksdb::IOStatus;
  using IOOptions = rocksdb::IOOptions;
  using Debug = rocksdb::IODebugContext;

  class Files;
  class File final : public rocksdb::FSWritableFileOwnerWrapper {
   public:
    File(std::unique_ptr<rocksdb::FSWritableFile> file, std::string name, Files& files)
        : FSWritableFileOwnerWrapper(std::move(file)), name_(std::move(name)), files_(files) {}
    IOStatus Append(const rocksdb::Slice& data, const IOOptions& o, Debug* d) override {
      if (files_.stopped()) return IOStatus::OK();
      if (data.empty() || !files_.is_spoilt(name_)) return target()->Append(data, o, d);
      std::string spoilt = data.ToString();
      spoilt[0] = static_cast<char>(spoilt[0] ^ 1);
      return target()->Append(spoilt, o, d);
    }
    IOStatus Append(const rocksdb::Slice& data, const IOOptions& o,
                    const rocksdb::DataVerificationInfo&, Debug* d) override {
      return Append(data, o, d);
    }
    IOStatus Truncate(std::uint64_t size, const IOOptions& o, Debug* d) override {
      return files_.frozen ? IOStatus::OK() : target()->Truncate(size, o, d);
    }
    IOStatus Sync(const IOOptions& o, Debug* d) override {
      if (files_.stopped()) return IOStatus::OK();
      files_.synced(name_, target()->GetFileSize(o, d));
      return target()->Sync(o, d);
    }
    IOStatus Fsync(const IOOptions& o, Debug* d) override { return Sync(o, d); }
    bool IsSyncThreadSafe() const override { return true; }

   private:
    const std::string name_;
    Files& files_;
  };

  class Files final : public rocksdb::FileSystemWrapper {
   public:
    explicit Files(const std::shared_ptr<rocksdb::FileSystem>& base) : FileSystemWrapper(base) {}
    static const char* kClassName() { return "CrashEnv"; }
    const char* Name() const override { return kClassName(); }

    IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& o,
                             std::unique_ptr<rocksdb::FSWritableFile>* out, Debug* d) override {
      // RocksDB writes its options down for people, reads them back and compares; without them it
      // goes on. That was an eighth of a simulated run (measured).
      if (name.find("/OPTIONS-") != std::string::npos) {
        return IOStatus::NotSupported("no options files on this disk");
      }
      if (has(no_room_, name)) return IOStatus::NoSpace("no room on this disk");
      // A frozen disk gives a file that takes nothing and is nowhere.
      const bool nowhere = stopped();
      const std::string at = nowhere ? name + ".after-the-crash" : name;
      if (auto s = target()->NewWritableFile(at, o, out, d); !s.ok()) return s;
      if (nowhere) {
        (void)target()->DeleteFile(at, IOOptions(), d);
      } else {
        const std::lock_guard lock(mutex_);
        synced_[name] = 0;
      }
      *out = std::make_unique<File>(std::move(*out), name, *this);
      return IOStatus::OK();
    }
    IOStatus ReopenWritableFile(const std::string& name, const rocksdb::FileOptions& o,
                                std::unique_ptr<rocksdb::FSWritableFile>* out, Debug* d) override {
      if (auto s = target()->ReopenWritableFile(name, o, out, d); !s.ok()) return s;
      const std::lock_guard lock(mutex_);
      synced_.try_emplace(name, 0);
      *out = std::make_unique<File>(std::move(*out), name, *this);
      return IOStatus::OK();
    }
    IOStatus DeleteFile(const std::string& name, const IOOptions& o, Debug* d) override {
      if (stopped()) return IOStatus::OK();
      const std::lock_guard lock(mutex_);
      synced_.erase(name);
      return target()->DeleteFile(name, o, d);
    }
    IOStatus RenameFile(const std::string& from, const std::string& to, const IOOptions& o,
                        Debug* d) override {
      if (stopped()) return IOStatus::OK();
      const std::lock_guard lock(mutex_);
      if (auto it = synced_.find(from); it != synced_.end()) {
        synced_[to] = it->second;
        synced_.erase(from);
      }
      return target()->RenameFile(from, to, o, d);
    }
    // Another name for a file, and for what of it is safe.
    IOStatus LinkFile(const std::string& from, const std::string& to, const IOOptions& o, Debug* d) override {
      if (stopped()) return IOStatus::OK();
      const std::lock_guard lock(mutex_);
      if (auto s = target()->LinkFile(from, to, o, d); !s.ok()) return s;
      if (auto it = synced_.find(from); it != synced_.end()) synced_[to] = it->second;
      return IOStatus::OK();
    }
    IOStatus Truncate(const std::string& name, std::size_t size, const IOOptions& o,
                      Debug* d) override {
      return frozen ? IOStatus::OK() : target()->Truncate(name, size, o, d);
    }

    void no_room_for(std::string part) { set(no_room_, std::move(part)); }
    void spoil(std::string part) { set(spoilt_, std::move(part)); }
    bool is_spoilt(const std::string& name) { return has(spoilt_, name); }

    void synced(const std::string& name, std::uint64_t size) {
      ++syncs;
      const std::lock_guard lock(mutex_);
      if (auto it = synced_.find(name); it != synced_.end()) it->second = size;
    }
    void drop_unsynced(Random* torn) {
      const std::lock_guard lock(mutex_);
      for (auto& [name, size] : synced_) {
        std::uint64_t now = 0;
        if (!target()->GetFileSize(name, IOOptions(), &now, nullptr).ok() || now <= size) continue;
        const std::uint64_t keep = torn ? size + torn->below(now - size + 1) : size;
        cut(name, keep);
        size = keep;
      }
    }

    // Counts a change; true when it must not happen.
    bool stopped() {
      if (changes_left > 0 && --changes_left == 0) frozen = true;
      return frozen;
    }

    std::atomic<bool> frozen{false};
    std::atomic<std::int64_t> changes_left{0};  // Until the crash; 0: none is planned.
    std::atomic<std::uint64_t> syncs{0};

   private:
    void cut(const std::string& name, std::uint64_t size) {
      const rocksdb::FileOptions options;
      std::string content(size, '\0');
      rocksdb::Slice read;
      std::unique_ptr<rocksdb::FSSequentialFile> in;
      (void)target()->NewSequentialFile(name, options, &in, nullptr);
      if (!in || !in->Read(size, IOOptions(), &read, content.data(), nullptr).ok()) return;
      const std::string kept = read.ToString();
      std::unique_ptr<rocksdb::FSWritableFile> out;
      (void)target()->DeleteFile(name, IOOptions(), nullptr);
      (void)target()->NewWritableFile(name, options, &out, nullptr);
      if (!out) return;
      (void)out->Append(kept, IOOptions(), nullptr);
      (void)out->Close(IOOptions(), nullptr);
    }

    void set(std::string& part, std::string to) {
      const std::lock_guard lock(mutex_);
      part = std::move(to);
    }
    bool has(const std::string& part, const std::string& name) {
      const std::lock_guard lock(mutex_);
      return !part.empty() && name.find(part) != std::string::npos;
    }

    std::mutex mutex_;
    std::map<std::string, std::uint64_t> synced_;  // File -> bytes that are safe.
    std::string no_room_, spoilt_;
  };

  std::unique_ptr<rocksdb::Env> base_;
  std::shared_ptr<Files> files_;
  std::unique_ptr<rocksdb::Env> env_;
};

}  // namespace starling::testing
