// The scrub: finds what nobody reads, mends rows from the log, in steps of bounded work.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/storage/support.h"

namespace starling::storage {
namespace {

using ::testing::ElementsAre;
using testing::closing;
using testing::entry;
using testing::kAlice;
using testing::kBob;
using testing::kCarol;
using testing::kPeer;
using testing::reg;
using testing::StoreBox;

const auto kFamilies = {ColumnFamily::kLog,       ColumnFamily::kEntries,
                        ColumnFamily::kMailboxDots, ColumnFamily::kRegisters,
                        ColumnFamily::kKeys,      ColumnFamily::kLanes,
                        ColumnFamily::kPartitions, ColumnFamily::kDamage};

class StoreScrub : public ::testing::Test {
 protected:
  void SetUp() override {
    box.open();
    std::uint64_t n = 0, m = 0;
    for (std::uint64_t seq = 1; seq <= 20; ++seq) {
      put(++n, entry(kAlice, seq, 10 * seq));
      put(++n, entry(kBob, seq, 10 * seq + 1));
      put(++m, entry(kCarol, seq, 10 * seq + 2));
      put(++n, reg(kAlice, "k" + std::to_string(seq % 3), "value", seq));
    }
    put(++n, closing(kAlice, 5, 999));
    put(++n, entry(kAlice, 6, 5));  // A second copy of a key, with the smaller id.
    box.sync();
  }
  void put(std::uint64_t n, const ChangeView& change) {
    const Dot dot{kPeer, n};
    const auto done =
        box.store->apply(box.store->partition_of(change.mailbox), dot, encode(change, dot));
    ASSERT_TRUE(done.ok()) << done.error().text;
  }
  std::vector<StoreBox::Rows> rows() {
    box.close_cleanly();
    return box.rows(kFamilies);
  }
  StoreBox box;
};

TEST_F(StoreScrub, OfASoundStoreFindsNothingAndWritesNothing) {
  const auto puts = box.store->stats().puts;
  const auto sum = box.scrub();
  EXPECT_EQ(sum.damaged, 0u);
  EXPECT_EQ(sum.mended, 0u);
  EXPECT_GT(sum.rows, 250u);
  EXPECT_EQ(box.store->stats().puts, puts);
}

TEST_F(StoreScrub, LooksAtEveryRowInStepsOfAnySize) {
  const auto whole = box.scrub();
  for (const std::size_t bytes : {1u, 100u, 5000u}) {
    const auto sum = box.scrub(bytes);
    EXPECT_EQ(sum.rows, whole.rows) << bytes;
    EXPECT_EQ(sum.bytes, whole.bytes);
  }
  const auto step = box.store->scrub({}, 1000);
  EXPECT_LT(step->bytes, 2000u);
  EXPECT_FALSE(step->cursor.empty());
}

TEST_F(StoreScrub, RefusesACursorOfSomethingElse) {
  EXPECT_EQ(box.store->scrub("\x77", 1000).code(), Errc::kInvalid);
}

// Rows of every index family, altered, cut or gone: one walk brings back what was there.
TEST_F(StoreScrub, WritesIndexRowsAgainFromTheLog) {
  const auto before = rows();
  std::size_t family_at = 0;
  for (const auto family : kFamilies) {
    const auto& of_family = before[family_at++];
    if (family == ColumnFamily::kLog || family == ColumnFamily::kPartitions ||
        family == ColumnFamily::kDamage) {
      continue;
    }
    for (const std::size_t row : {std::size_t{0}, of_family.size() - 1}) {
      for (const std::string how : {"gone", "cut", "flipped"}) {
        // A flipped lane or an altered register value is a value like any other.
        if (how == "flipped" &&
            (family == ColumnFamily::kLanes || family == ColumnFamily::kRegisters)) {
          continue;
        }
        box.tamper(family, row, [&](Bytes& value) {
          if (how == "gone") value.clear();
          if (how == "cut") value.pop_back();
          if (how == "flipped") value[value.size() / 2] ^= 4;
        });
        box.open();
        EXPECT_GE(box.scrub().mended, 1u) << static_cast<int>(family) << " " << row << how;
        EXPECT_EQ(rows(), before) << static_cast<int>(family) << " " << row << how;
      }
    }
  }
  box.open();
}

TEST_F(StoreScrub, FindsDamagedAndMissingLogRecords) {
  box.close_cleanly();
  box.tamper(ColumnFamily::kLog, 3, [](Bytes& value) { value[40] ^= 1; });
  box.tamper(ColumnFamily::kLog, 9, [](Bytes& value) { value.clear(); });
  box.open();
  EXPECT_EQ(box.scrub().damaged, 2u);
  EXPECT_THAT(box.store->damaged(box.store->partition_of(kAlice)),
              ElementsAre(Dot{kPeer, 4}, Dot{kPeer, 10}));
  EXPECT_TRUE(box.store->is_whole(box.store->partition_of(kCarol)));
  EXPECT_EQ(box.scrub().damaged, 0u);  // Known already.
}

TEST_F(StoreScrub, TakesBackDamageThatCanBeReadAfterAll) {
  box.close_cleanly();
  box.tamper(ColumnFamily::kLog, 3, [](Bytes& value) { value[40] ^= 1; });
  box.open();
  box.scrub();
  box.close_cleanly();
  box.tamper(ColumnFamily::kLog, 3, [](Bytes& value) { value[40] ^= 1; });
  box.open();
  EXPECT_FALSE(box.store->is_whole(box.store->partition_of(kAlice)));
  box.scrub();
  EXPECT_TRUE(box.store->is_whole(box.store->partition_of(kAlice)));
}

TEST_F(StoreScrub, RowsThatCannotBeReadAreMendedByWhoNeedsThem) {
  const auto before = rows();
  for (const auto family : {ColumnFamily::kKeys, ColumnFamily::kRegisters, ColumnFamily::kLanes,
                            ColumnFamily::kEntries, ColumnFamily::kMailboxDots}) {
    box.tamper(family, 0, [](Bytes& value) { value.resize(3); });
  }
  box.open();
  box.store->on_fatal([](const Error& error) { FAIL() << error.text; });
  EXPECT_TRUE(box.store->find_key(kAlice, {testing::device(1), 5, 1}));
  EXPECT_TRUE(box.store->find_register(kAlice, "k0"));
  EXPECT_EQ(box.store->lane_high(kAlice, testing::device(1), 5), 20u);
  box.sync();
  (void)box.store->history(kAlice, kBob, {}, 99);
  (void)box.store->read_mailbox(kAlice, {}, 99, 1 << 20);
  box.sync();
  EXPECT_EQ(box.store->history(kAlice, kBob, {}, 99)->size(), 19u);
  EXPECT_TRUE(box.store->read_mailbox(kAlice, {}, 99, 1 << 20).ok());
  EXPECT_EQ(rows(), before);
}

// Writing goes on while the scrub looks at older state: it must not bring back what was replaced.
TEST_F(StoreScrub, BesideWritersMendsNothing) {
  Bytes cursor;
  std::uint64_t seq = 20;
  do {
    const auto step = box.store->scrub(cursor, 300);
    ASSERT_TRUE(step.ok());
    EXPECT_EQ(step->mended, 0u);
    EXPECT_EQ(step->damaged, 0u);
    cursor = step->cursor;
    if (++seq > 200) continue;  // Ahead of a writer the walk would not end.
    box.store->append(entry(kAlice, seq, 1000 + seq));
    box.store->append(closing(kAlice, seq - 3, 2000 + seq));
    box.store->append(reg(kAlice, "k1", "v", 1000 + seq));
    if (seq % 3 == 0) box.sync();
    if (seq % 3 == 1) box.store->flush();
  } while (!cursor.empty());
}

}  // namespace
}  // namespace starling::storage
