#include "storage/engine/log_tail.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include <boost/crc.hpp>

#include "crypto/bytes.h"
#include "storage/engine/engine.h"

namespace starling::storage {
namespace {

constexpr std::size_t kBlock = 32 << 10;  // No fragment of a write crosses the end of one.
constexpr std::size_t kHeader = 7;        // checksum:u32le length:u16le type:u8
enum Type : std::uint8_t { kFull = 1, kFirst = 2, kMiddle = 3, kLast = 4 };

using Crc32c = boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true>;

std::uint32_t number_at(View bytes, std::size_t at, std::size_t size) {
  std::uint32_t out = 0;
  for (std::size_t i = size; i-- > 0;) out = out << 8 | static_cast<std::uint8_t>(bytes[at + i]);
  return out;
}

// A checksum of bytes that hold checksums is stored altered (RocksDB, util/crc32c.h).
std::uint32_t unmasked(std::uint32_t stored) {
  const std::uint32_t rotated = stored - 0xa282ead8;
  return rotated >> 17 | rotated << 15;
}

struct Fragment {
  Type type{};
  std::size_t size = 0;  // With its header.
  [[nodiscard]] bool begins() const { return type == kFull || type == kFirst; }
  [[nodiscard]] bool ends() const { return type == kFull || type == kLast; }
};

std::optional<Fragment> fragment_at(View block, std::size_t at) {
  const auto type = static_cast<std::uint8_t>(block[at + 6]);
  const std::size_t size = kHeader + number_at(block, at + 4, 2);
  if (type < kFull || type > kLast || size > block.size() - at) return std::nullopt;
  Crc32c crc;
  crc.process_bytes(block.data() + at + 6, size - 6);
  if (crc.checksum() != unmasked(number_at(block, at, 4))) return std::nullopt;
  return Fragment{static_cast<Type>(type), size};
}

bool is_zero(View bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](char c) { return c == 0; });
}

// The next block, or less at the end of the file.
Result<View> next_block(rocksdb::SequentialFile& file, std::vector<char>& scratch) {
  std::size_t size = 0;
  while (size < kBlock) {
    rocksdb::Slice read;
    const auto status = file.Read(kBlock - size, &read, scratch.data() + size);
    if (!status.ok()) return to_error(status, "reading the write-ahead log");
    if (read.empty()) break;
    if (read.data() != scratch.data() + size) std::copy_n(read.data(), read.size(), scratch.data() + size);
    size += read.size();
  }
  return View(scratch.data(), size);
}

struct Look {
  std::uint64_t end = 0;  // Of the last whole write; 0: there is none.
  bool torn = false;      // Behind it is more than zeros.
  bool damaged = false;   // And behind that a write begins.
};

Result<Look> look_through(rocksdb::Env& env, const std::string& path) {
  std::unique_ptr<rocksdb::SequentialFile> file;
  const auto status = env.NewSequentialFile(path, &file, rocksdb::EnvOptions());
  if (!status.ok()) return to_error(status, "opening " + path);
  std::vector<char> scratch(kBlock);
  Look out;
  bool lost = false;  // Something could not be read.
  for (std::uint64_t block_at = 0;; block_at += kBlock) {
    TRY_ASSIGN(const View block, next_block(*file, scratch));
    if (block.empty()) return out;
    if (is_zero(block)) {
      lost = true;
      continue;
    }
    std::size_t at = 0;
    while (block.size() - at >= kHeader) {
      const auto fragment = fragment_at(block, at);
      if (!fragment) {
        // What can be read goes on anywhere behind it.
        lost = true;
        out.torn |= block[at] != 0;
        ++at;
        continue;
      }
      at += fragment->size;
      out.damaged |= lost && fragment->begins();
      if (out.damaged) return out;
      out.torn = lost || !fragment->ends();
      if (!out.torn) out.end = block_at + at;
    }
    // Less than a header is left empty, unless the file was cut there.
    out.torn |= !is_zero(block.substr(at));
  }
}

// Durably: what is written next goes into another log, and this one would be an older one with a torn end.
Status cut(rocksdb::Env& env, const std::string& path, std::uint64_t end) {
  auto status = env.Truncate(path, end);
  std::unique_ptr<rocksdb::WritableFile> file;
  if (status.ok()) status = env.ReopenWritableFile(path, &file, rocksdb::EnvOptions());
  if (status.ok()) status = file->Fsync();
  if (status.ok()) status = file->Close();
  return status.ok() ? ok_status() : Status(to_error(status, "cutting " + path));
}

}  // namespace

Status cut_torn_tails(rocksdb::Env& env, const std::string& path) {
  std::vector<std::string> names;
  if (!env.GetChildren(path, &names).ok()) return ok_status();  // No folder yet.
  std::vector<std::uint64_t> numbers;
  for (const auto& name : names) {
    std::uint64_t number = 0;
    const char* const last = name.data() + name.size();
    const auto [end, error] = std::from_chars(name.data(), last, number);
    if (error == std::errc() && std::string_view(end, last) == ".log") numbers.push_back(number);
  }
  std::sort(numbers.begin(), numbers.end(), std::greater<>());
  bool newest = true;  // Of those that were written to.
  for (const auto number : numbers) {
    char name[32];
    std::snprintf(name, sizeof name, "/%06llu.log", static_cast<unsigned long long>(number));
    TRY_ASSIGN(const Look look, look_through(env, path + name));
    if (look.damaged || (look.torn && !newest)) {
      return to_error(rocksdb::Status::Corruption("a write in " + path + name + " cannot be read"),
                      "reading the write-ahead log");
    }
    if (look.torn) TRY(cut(env, path + name, look.end));
    newest = newest && look.end == 0 && !look.torn;
  }
  return ok_status();
}

}  // namespace starling::storage
