// Drop: a partition handed over leaves nothing behind but the count of our own dots.
#include <gtest/gtest.h>

#include "tests/storage/support.h"

namespace starling::storage {
namespace {

using testing::entry;
using testing::kAlice;
using testing::kCarol;
using testing::kPeer;
using testing::reg;
using testing::StoreBox;

class StoreDrop : public ::testing::Test {
 protected:
  void SetUp() override { box.open(); }
  Store& store() { return *box.store; }
  PartitionId part() { return store().partition_of(kAlice); }
  // Two messages of ours, one of a peer.
  void fill() {
    store().append(entry(kAlice, 1, 1));
    store().append(entry(kAlice, 2, 2));
    const auto theirs = encode(entry(kAlice, 3, 3), Dot{kPeer, 1});
    ASSERT_TRUE(store().apply(part(), Dot{kPeer, 1}, theirs).ok());
    box.sync();
  }
  RangeStatement ours() {
    auto range = store().read_writer(part(), store().writer(), 1, 1 << 20);
    EXPECT_TRUE(range.ok());
    return *range;
  }
  StoreBox box;
};

TEST_F(StoreDrop, LeavesNoRowsOfThePartitionAndAllOfTheOthers) {
  ASSERT_NE(store().partition_of(kCarol), part());
  fill();
  store().append(entry(kCarol, 9, 9));
  box.sync();
  ASSERT_TRUE(store().drop(part()).ok());
  box.sync();
  EXPECT_TRUE(store().vector(part()).empty());
  EXPECT_EQ(store().lane_high(kAlice, testing::device(1), 5), 0u);
  box.close_cleanly();
  std::size_t left = 0;
  for (const auto family : kReplicatedFamilies) {
    const auto rows = box.rows({family});
    for (const auto& [key, value] : rows.front()) {
      EXPECT_EQ(partition_of(BytesReader(key).u16be(), testing::kTestPartitions),
                partition_of(slot_of(kCarol), testing::kTestPartitions));
      ++left;
    }
  }
  EXPECT_GT(left, 4u);
}

TEST_F(StoreDrop, WaitsForWhatIsOnItsWayToTheDisk) {
  store().append(entry(kAlice, 1, 1));
  EXPECT_EQ(store().drop(part()).code(), Errc::kOverloaded);
  store().flush();
  EXPECT_EQ(store().drop(part()).code(), Errc::kOverloaded);
  box.commits.finish_all();
  EXPECT_TRUE(store().drop(part()).ok());
}

// Dots that left this node must not be made again (invariant 8), whatever was erased.
TEST_F(StoreDrop, OurOwnDotsStayCountedAlsoOverACleanRestart) {
  fill();
  const auto range = ours();
  ASSERT_TRUE(store().drop(part()).ok());
  EXPECT_EQ(store().held(part(), store().writer()), 0u);
  EXPECT_EQ(store().issued(part()), 2u);
  box.close_cleanly();
  box.open();
  ASSERT_TRUE(store().kept_writer());
  EXPECT_EQ(store().issued(part()), 2u);
  // Back from those who took it over; more than we ever wrote is an older copy of the folder.
  auto forged = range;
  forged.to = 3;
  EXPECT_EQ(store().apply(part(), forged).code(), Errc::kCorrupt);
  ASSERT_TRUE(store().apply(part(), range).ok());
  EXPECT_EQ(store().append(entry(kAlice, 3, 3)).dot.n, 3u);
  box.sync();
  EXPECT_EQ(store().issued(part()), 3u);
}

TEST_F(StoreDrop, ARunThatEndedUncleanlyBeginsWithoutCounts) {
  fill();
  ASSERT_TRUE(store().drop(part()).ok());
  box.sync();
  box.lose_power();
  box.open();
  EXPECT_FALSE(store().kept_writer());
  EXPECT_EQ(store().issued(part()), 0u);
  EXPECT_EQ(store().append(entry(kAlice, 1, 1)).dot.n, 1u);
}

TEST_F(StoreDrop, IsAllOrNothingInACrash) {
  fill();
  ASSERT_TRUE(store().drop(part()).ok());
  box.lose_power();  // Before its batch was synced.
  box.open();
  EXPECT_EQ(store().vector(part()).dots().size(), 2u);
  EXPECT_EQ(store().read_mailbox(kAlice, {}, 9, 1 << 20)->changes.size(), 3u);
}

// Until the drop is synced reads see what is on disk; what they remember of it must not outlive that.
TEST_F(StoreDrop, ARegisterReadWhileItsPartitionIsDroppedIsForgottenWithIt) {
  store().append(reg(kAlice, "account", "of alice", 1));
  store().append(reg(kCarol, "account", "of carol", 1));
  box.sync();
  ASSERT_TRUE(store().drop(part()).ok());
  ASSERT_TRUE(store().find_register(kAlice, "account"));
  box.sync();
  EXPECT_FALSE(store().find_register(kAlice, "account"));
  EXPECT_TRUE(store().find_register(kCarol, "account"));
}

// The scrub finds a row missing and writes it again, in the batch that then drops it.
TEST_F(StoreDrop, ARegisterMendedJustBeforeIsForgottenToo) {
  store().append(reg(kAlice, "account", "of alice", 1));
  box.close_cleanly();
  box.tamper(ColumnFamily::kRegisters, 0, [](Bytes& value) { value.clear(); });
  box.open();
  const auto step = store().scrub({}, 1 << 20);
  ASSERT_TRUE(step.ok());
  ASSERT_EQ(step->mended, 1u);
  ASSERT_TRUE(store().drop(part()).ok());
  box.sync();
  EXPECT_FALSE(store().find_register(kAlice, "account"));
  box.close_cleanly();
  EXPECT_TRUE(box.rows({ColumnFamily::kRegisters}).front().empty());
}

#ifndef NDEBUG
TEST_F(StoreDrop, AppendingBeforeOurRunIsBackIsAFault) {
  fill();
  ASSERT_TRUE(store().drop(part()).ok());
  EXPECT_DEATH(store().append(entry(kAlice, 3, 3)), "used once");
}
#endif

}  // namespace
}  // namespace starling::storage
