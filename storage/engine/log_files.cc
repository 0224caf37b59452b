#include "storage/engine/log_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>

namespace starling::storage {
namespace {

using rocksdb::IOOptions;
using rocksdb::IOStatus;
using Debug = rocksdb::IODebugContext;

class LogFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  LogFile(std::unique_ptr<rocksdb::FSWritableFile> file, const std::string& path)
      : FSWritableFileOwnerWrapper(std::move(file)), fd_(::open(path.c_str(), O_WRONLY | O_CLOEXEC)) {}
  ~LogFile() override { end(); }

  IOStatus Append(const rocksdb::Slice& data, const IOOptions& options, Debug* debug) override {
    fill_until(written_ + data.size());
    return appended(data, target()->Append(data, options, debug));
  }
  IOStatus Append(const rocksdb::Slice& data, const IOOptions& options, const rocksdb::DataVerificationInfo& info,
                  Debug* debug) override {
    fill_until(written_ + data.size());
    return appended(data, target()->Append(data, options, info, debug));
  }
  IOStatus Truncate(std::uint64_t size, const IOOptions& options, Debug* debug) override {
    written_ = filled_ = size;
    return target()->Truncate(size, options, debug);
  }
  IOStatus Close(const IOOptions& options, Debug* debug) override {
    end();
    return target()->Close(options, debug);
  }

 private:
  // Only ever a help: where it fails, the write itself will say why.
  void fill_until(std::uint64_t end) {
    static constexpr std::array<char, kLogAheadBytes> kZeros{};
    while (fd_ >= 0 && filled_ < end) {
      const std::uint64_t from = std::max(filled_, written_);
      const auto count = ::pwrite(fd_, kZeros.data(), kZeros.size(), static_cast<off_t>(from));
      if (count <= 0) return;
      filled_ = from + static_cast<std::uint64_t>(count);
    }
  }
  IOStatus appended(const rocksdb::Slice& data, IOStatus status) {
    if (status.ok()) written_ += data.size();
    return status;
  }
  void end() {
    if (fd_ < 0) return;
    if (filled_ > written_) (void)!::ftruncate(fd_, static_cast<off_t>(written_));
    ::close(std::exchange(fd_, -1));
  }

  int fd_;
  std::uint64_t written_ = 0;
  std::uint64_t filled_ = 0;
};

class LogFiles final : public rocksdb::FileSystemWrapper {
 public:
  using FileSystemWrapper::FileSystemWrapper;
  static const char* kClassName() { return "StarlingLogFiles"; }
  const char* Name() const override { return kClassName(); }

  IOStatus NewWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                           std::unique_ptr<rocksdb::FSWritableFile>* out, Debug* debug) override {
    const IOStatus status = target()->NewWritableFile(path, options, out, debug);
    if (status.ok() && path.ends_with(".log")) *out = std::make_unique<LogFile>(std::move(*out), path);
    return status;
  }
  // RocksDB has none for files by name.
  IOStatus Truncate(const std::string& path, std::size_t size, const IOOptions&, Debug*) override {
    return ::truncate(path.c_str(), static_cast<off_t>(size)) == 0 ? IOStatus::OK() : IOStatus::IOError(path);
  }
};

}  // namespace

std::shared_ptr<rocksdb::FileSystem> log_files(const std::shared_ptr<rocksdb::FileSystem>& target) {
  return std::make_shared<LogFiles>(target);
}

}  // namespace starling::storage
