// Range deletions: heeded by scans wherever there are some, and beside files that cannot be opened a scan fails, and
// ends nobody's process.
#include <gtest/gtest.h>

#include "tests/storage/support.h"

namespace starling::storage {
namespace {

using testing::StoreBox;

constexpr int kRows = 20;

Bytes numbered_key(int row) { return Bytes(12, 'k') + static_cast<char>('a' + row); }

class RangeDeletion : public ::testing::Test {
 protected:
  Result<std::unique_ptr<Engine>> open() { return Engine::open({"/store", box.disk.env(), false}); }
  static ColumnFamily family(std::size_t i) { return static_cast<ColumnFamily>(i); }
  // In every family a file of rows (`deep`: in the last level), and a younger one that erases the first half of them.
  void fill(bool deep) {
    auto engine = open();
    ASSERT_TRUE(engine.ok()) << engine.error().text;
    for (const bool erases : {false, true}) {
      rocksdb::WriteBatch batch;
      for (std::size_t i = 0; i < kColumnFamilyNames.size(); ++i) {
        if (erases) (*engine)->erase_range(batch, family(i), "k", numbered_key(kRows / 2));
        for (int row = 0; row < kRows && !erases; ++row) (*engine)->put(batch, family(i), numbered_key(row), "value");
      }
      ASSERT_TRUE((*engine)->write_synced(batch).ok());
      for (std::size_t i = 0; i < kColumnFamilyNames.size(); ++i) {
        ASSERT_TRUE((*engine)->db().Flush({}, (*engine)->handle(family(i))).ok());
        if (erases || !deep) continue;
        ASSERT_TRUE((*engine)->db().CompactRange({}, (*engine)->handle(family(i)), nullptr, nullptr).ok());
      }
    }
  }
  // The number of rows, or the error.
  static Result<int> scanned(Engine& engine, ColumnFamily family) {
    Engine::Scan rows(engine, family, {});
    int count = 0;
    for (rows->SeekToFirst(); rows.valid(); rows->Next()) ++count;
    TRY(rows.status());
    return count;
  }
  // The oldest file of a family cannot be opened: its last bytes, which name its kind, are others.
  void spoil(std::size_t i) {
    std::vector<rocksdb::LiveFileMetaData> files;
    {
      auto engine = open();
      ASSERT_TRUE(engine.ok()) << engine.error().text;
      (*engine)->db().GetLiveFilesMetaData(&files);
    }
    std::erase_if(files, [&](const auto& file) { return file.column_family_name != kColumnFamilyNames[i]; });
    ASSERT_EQ(files.size(), 2u);
    const auto oldest = std::min_element(files.begin(), files.end(), [](const auto& one, const auto& other) {
      return one.file_number < other.file_number;
    });
    box.flip(oldest->db_path + oldest->name, oldest->size - 1);
  }
  StoreBox box;
};

TEST_F(RangeDeletion, IsHeededByTheEngineThatWroteItAndByTheNextOne) {
  {
    auto engine = open();
    ASSERT_TRUE(engine.ok());
    rocksdb::WriteBatch batch;
    for (int row = 0; row < kRows; ++row) (*engine)->put(batch, ColumnFamily::kHints, numbered_key(row), "value");
    ASSERT_TRUE((*engine)->write_synced(batch).ok());
    EXPECT_EQ(*scanned(**engine, ColumnFamily::kHints), kRows);
    rocksdb::WriteBatch erasing;
    (*engine)->erase_range(erasing, ColumnFamily::kHints, "k", numbered_key(kRows / 2));
    ASSERT_TRUE((*engine)->write_synced(erasing).ok());
    EXPECT_EQ(*scanned(**engine, ColumnFamily::kHints), kRows / 2);
  }
  for (int time = 0; time < 2; ++time) {  // The first one reads it from the log, and writes a file.
    auto engine = open();
    ASSERT_TRUE(engine.ok());
    EXPECT_EQ(*scanned(**engine, ColumnFamily::kHints), kRows / 2);
  }
}

TEST_F(RangeDeletion, OfAFamilyThatIsEmptiedIsHeededBeforeItIsInAFile) {
  fill(false);
  auto engine = open();
  ASSERT_TRUE(engine.ok());
  rocksdb::WriteBatch batch;
  (*engine)->put(batch, ColumnFamily::kLog, numbered_key(0), "value");
  ASSERT_TRUE((*engine)->write_synced(batch).ok());
  ASSERT_TRUE((*engine)->empty(ColumnFamily::kLog, "k", {}).ok());
  EXPECT_EQ(*scanned(**engine, ColumnFamily::kLog), 0);
  ASSERT_TRUE((*engine)->recreate(ColumnFamily::kKeys).ok());
  EXPECT_EQ(*scanned(**engine, ColumnFamily::kKeys), 0);
}

TEST_F(RangeDeletion, BesideAFileThatCannotBeOpenedScansFail) {
  for (const bool deep : {false, true}) {
    int opened = 0;
    for (std::size_t i = 0; i < kColumnFamilyNames.size(); ++i) {
      SCOPED_TRACE(kColumnFamilyNames[i]);
      box.~StoreBox();
      new (&box) StoreBox();
      fill(deep);
      spoil(i);
      auto engine = open();
      if (!engine.ok()) {  // RocksDB opens the first files at once, and refuses.
        EXPECT_EQ(engine.code(), Errc::kCorrupt);
        continue;
      }
      ++opened;
      for (std::size_t of = 0; of < kColumnFamilyNames.size(); ++of) {
        const auto rows = scanned(**engine, family(of));
        if (of == i) {
          EXPECT_EQ(rows.code(), Errc::kCorrupt);
        } else {
          ASSERT_TRUE(rows.ok());
          EXPECT_EQ(*rows, kRows / 2);
        }
      }
      ASSERT_TRUE((*engine)->recreate(family(i)).ok());
      EXPECT_EQ(*scanned(**engine, family(i)), 0);
    }
    EXPECT_GT(opened, 0);
  }
}

}  // namespace
}  // namespace starling::storage
