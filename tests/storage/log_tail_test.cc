// A log that lost its end is opened without it; one that lost more is refused.
#include "storage/engine/log_tail.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <gtest/gtest.h>
#include <stdlib.h>

#include "crypto/random.h"
#include "storage/engine/engine.h"
#include "storage/engine/log_files.h"

namespace starling::storage {
namespace {

namespace fs = std::filesystem;

class LogTail : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/starling-logs-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder = name;
  }
  void TearDown() override { fs::remove_all(folder); }

  std::string path() const { return folder + "/db"; }
  void open() {
    auto opened = Engine::open({.path = path()});
    ASSERT_TRUE(opened.ok()) << opened.error().text;
    engine = std::move(*opened);
  }
  // One synced write each.
  void write(int count, std::size_t bytes) {
    for (int i = 0; i < count; ++i) {
      Bytes value(bytes, '\0');
      random.fill({reinterpret_cast<std::uint8_t*>(value.data()), value.size()});
      rocksdb::WriteBatch batch;
      engine->put(batch, ColumnFamily::kNode, key(written), value);
      ASSERT_TRUE(engine->write_synced(batch).ok());
      ++written;
    }
  }
  static Bytes key(int number) { return "key" + std::to_string(number); }
  // So that the log is done with, and its file free for another.
  void flush() {
    ASSERT_TRUE(engine->db().Flush({}, engine->handle(ColumnFamily::kNode)).ok());
  }
  // As a crash leaves it: the log has what no table has.
  void copy_of_now() {
    fs::remove_all(folder + "/now");
    fs::copy(path(), folder + "/now", fs::copy_options::recursive);
    fs::remove(folder + "/now/LOCK");
  }
  static std::vector<std::string> logs(const std::string& in) {
    std::vector<std::string> out;
    for (const auto& file : fs::directory_iterator(in)) {
      if (file.path().extension() == ".log" && file.file_size() > 0) out.push_back(file.path().string());
    }
    std::sort(out.begin(), out.end());
    return out;
  }
  static std::string read(const std::string& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  static void put(const std::string& file, const std::string& bytes) {
    std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
  }

  // The copy with other bytes in that log.
  void with(const std::string& log, const std::string& bytes) {
    fs::remove_all(folder + "/then");
    fs::copy(folder + "/now", folder + "/then", fs::copy_options::recursive);
    put(folder + "/then/" + fs::path(log).filename().string(), bytes);
  }
  Status checked() const { return cut_torn_tails(*env, folder + "/then"); }
  // How many of the writes are there; -1: it does not open.
  int there() {
    auto opened = Engine::open({.path = folder + "/then"});
    if (!opened.ok()) return -1;
    for (int i = 0; i < written; ++i) {
      rocksdb::PinnableSlice value;
      const auto found = (*opened)->get(ColumnFamily::kNode, key(i), value);
      if (!found.ok() || !*found) return i;
    }
    return written;
  }
  // Wherever one byte of the newest log changes, no more than the last write is lost unless it is said.
  void no_flip_loses_more_than_the_end() {
    const std::string log = logs(folder + "/now").back();
    const std::string good = read(log);
    int refused = 0, ends = 0;
    const std::size_t end = good.find_last_not_of('\0');
    for (std::size_t at = 3; at <= end; at += end / 60) {
      std::string bytes = good;
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << (at % 8)));
      with(log, bytes);
      if (const auto status = checked(); !status.ok()) {
        EXPECT_EQ(status.code(), Errc::kCorrupt);
        ++refused;
        continue;
      }
      const int left = there();
      EXPECT_GE(left, written - 1) << "byte " << at << " of " << good.size();
      if (left == written - 1) ++ends;
    }
    EXPECT_GT(refused, 10);
    EXPECT_LT(ends, 10);
  }

  const std::unique_ptr<rocksdb::Env> env = rocksdb::NewCompositeEnv(log_files(rocksdb::FileSystem::Default()));
  SeededRandom random{1};
  std::string folder;
  std::unique_ptr<Engine> engine;
  int written = 0;
};

TEST_F(LogTail, NothingAndAnEmptyLogAreFine) {
  EXPECT_TRUE(cut_torn_tails(*env, folder + "/none").ok());
  open();
  EXPECT_TRUE(cut_torn_tails(*env, path()).ok());
}

TEST_F(LogTail, DamageIsToldFromATornEnd) {
  open();
  write(60, 1'000);
  write(3, 70'000);  // Over several blocks.
  write(5, 1'000);
  copy_of_now();
  no_flip_loses_more_than_the_end();
}

TEST_F(LogTail, ZerosAheadAreNoTear) {
  open();
  write(10, 1'000);
  copy_of_now();
  const std::string log = logs(folder + "/now").back();
  const std::string bytes = read(log);
  ASSERT_GT(bytes.size() - bytes.find_last_not_of('\0'), kLogAheadBytes / 2);
  with(log, bytes);
  EXPECT_TRUE(checked().ok());
  EXPECT_EQ(fs::file_size(folder + "/then/" + fs::path(log).filename().string()), bytes.size());
  EXPECT_EQ(there(), written);
  engine.reset();
  for (const auto& closed : logs(path())) EXPECT_LT(fs::file_size(closed), kLogAheadBytes) << "its true size";
}

TEST_F(LogTail, ATornEndIsCutWhereverItIsTorn) {
  open();
  for (int round = 0; round < 3; ++round) {
    write(200, 1'000);
    flush();
  }
  write(10, 1'000);
  copy_of_now();
  const std::string log = logs(folder + "/now").back();
  const std::string before = read(log);
  write(1, 100'000);  // Under way when the power went.
  const std::string after = read(log.substr(0, folder.size()) + "/db/" + fs::path(log).filename().string());
  ASSERT_GE(after.size(), before.size());
  std::vector<std::size_t> differ;  // Pages of the write.
  constexpr std::size_t kPage = 4096;
  for (std::size_t at = 0; at < after.size(); at += kPage) {
    if (after.substr(at, kPage) != (at < before.size() ? before.substr(at, kPage) : "")) differ.push_back(at);
  }
  ASSERT_GT(differ.size(), 20u);
  for (int i = 0; i < 25; ++i) {
    std::string torn = before;
    torn.resize(after.size());
    for (const auto at : differ) {  // Any of them may have reached the disk.
      if (random.below(2) == 0) torn.replace(at, kPage, after.substr(at, kPage));
    }
    with(log, torn);
    const auto status = checked();
    EXPECT_TRUE(status.ok()) << i << (status.ok() ? "" : status.error().text);
    EXPECT_GE(there(), written - 1) << i;
  }
}

TEST_F(LogTail, TheLastWriteOfAnOlderLogCannotBeTorn) {
  open();
  write(20, 1'000);
  // Another family's log begins; this one still has what no table has.
  rocksdb::WriteBatch batch;
  engine->put(batch, ColumnFamily::kPaxos, "x", "y");
  ASSERT_TRUE(engine->write_synced(batch).ok());
  ASSERT_TRUE(engine->db().Flush({}, engine->handle(ColumnFamily::kPaxos)).ok());
  write(5, 1'000);
  copy_of_now();
  const auto both = logs(folder + "/now");
  ASSERT_EQ(both.size(), 2u);
  std::string bytes = read(both[0]);
  const auto last = bytes.find_last_not_of('\0');
  bytes[last] = static_cast<char>(bytes[last] ^ 1);
  with(both[0], bytes);
  EXPECT_EQ(checked().code(), Errc::kCorrupt);
  EXPECT_EQ(there(), -1);
}

}  // namespace
}  // namespace starling::storage
