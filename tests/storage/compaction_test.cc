// A compaction that meets a damaged file: it is told, and writes go on.
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "crypto/random.h"
#include "storage/engine/engine.h"
#include "storage/engine/pace.h"
#include "tests/storage/support.h"
#include "tests/temp_folder.h"

namespace starling::storage {
namespace {

namespace fs = std::filesystem;

class Compaction : public ::testing::Test {
 protected:
  void open() {
    auto opened = Engine::open({.path = folder});
    ASSERT_TRUE(opened.ok()) << opened.error().text;
    engine = std::move(*opened);
  }
  Status write(int number) {
    Bytes value(1'000, '\0');
    random.fill({reinterpret_cast<std::uint8_t*>(value.data()), value.size()});
    rocksdb::WriteBatch batch;
    engine->put(batch, ColumnFamily::kLog, Bytes(8, 'k') + std::to_string(number), value);
    return engine->write_synced(batch);
  }
  // A file of level 0; so many (kLevel0Compacted) make RocksDB compact them.
  void file() {
    for (int i = 0; i < 50; ++i) ASSERT_TRUE(write(i).ok());
    ASSERT_TRUE(engine->db().Flush({}, engine->handle(ColumnFamily::kLog)).ok());
  }
  std::string a_file() const {
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (entry.path().extension() == ".sst" && entry.file_size() > 40'000) return entry.path().string();
    }
    return "";
  }

  const TempFolder temp;
  const std::string& folder = temp.path();
  SeededRandom random{1};
  std::unique_ptr<Engine> engine;
};

TEST_F(Compaction, OfADamagedFileIsToldAndWritesGoOn) {
  open();
  for (int i = 1; i < kLevel0Compacted; ++i) file();
  const std::string damaged = a_file();
  ASSERT_FALSE(damaged.empty());
  engine.reset();
  std::fstream bytes(damaged, std::ios::in | std::ios::out | std::ios::binary);
  bytes.seekg(10'000);
  const int byte = bytes.get();
  bytes.seekp(10'000);
  bytes.put(static_cast<char>(byte ^ 1));
  bytes.close();
  open();
  std::string told;
  engine->on_unreadable([&](ColumnFamily, View, const std::string& text) { told = text; });
  file();
  EXPECT_TRUE(testing::eventually([&] {
    engine->tell_unreadable_inputs();
    return !told.empty();
  }));
  ASSERT_NE(told.find(fs::path(damaged).filename().string()), std::string::npos) << told;
  EXPECT_EQ(engine->suspects(ColumnFamily::kLog, {}, told).size(), 1u);
  for (int i = 0; i < 100; ++i) {
    const auto status = write(i);
    ASSERT_TRUE(status.ok()) << status.error().text;
  }
}

}  // namespace
}  // namespace starling::storage
