// Install: partitions filled by files. That they hold the same rows as if filled change by change is shown in
// convergence_test.cc.
#include "storage/install.h"

#include <gtest/gtest.h>

#include "tests/storage/support.h"

namespace starling::storage {
namespace {

using testing::closing;
using testing::entry;
using testing::kAlice;
using testing::kBob;
using testing::kCarol;
using testing::kPeer;
using testing::kTestPartitions;
using testing::reg;
using testing::StoreBox;

const MailboxId kDave = [] {  // Between kAlice's partition and kCarol's.
  MailboxId id;
  id.raw = {0x72, 0x01, 'd', 'a', 'v', 'e'};
  return id;
}();

// The first `count` changes of a peer in a mailbox: messages, a register now and then.
RangeStatement run_of(const MailboxId& mailbox, std::uint64_t count, WriterId writer = kPeer) {
  RangeStatement range{writer, 1, count, {}, {}};
  for (std::uint64_t n = 1; n <= count; ++n) {
    const Bytes key = "k" + std::to_string(n % 3);
    const auto change = n % 5 == 0 ? reg(mailbox, key, "v", n) : entry(mailbox, n, n);
    range.live.push_back({n, {encode(change, {writer, n})}});
  }
  return range;
}

class StoreInstall : public ::testing::Test {
 protected:
  void SetUp() override { box.open(); }
  Store& store() { return *box.store; }
  PartitionId part(const MailboxId& mailbox = kAlice) { return store().partition_of(mailbox); }
  std::shared_ptr<Install> begin(std::vector<MailboxId> mailboxes = {kAlice}) {
    std::vector<PartitionId> partitions;
    for (const auto& mailbox : mailboxes) partitions.push_back(part(mailbox));
    auto install = store().install(partitions);
    EXPECT_TRUE(install.ok()) << install.error().text;
    return *install;
  }
  // Commits and works until nothing is left to do.
  void settle() {
    do {
      box.sync();
      while (box.commits.works() > 0) (void)box.commits.do_work();
      store().flush();
    } while (box.commits.waiting() > 0 || box.commits.works() > 0);
  }
  Status finish(const std::shared_ptr<Install>& install) {
    std::optional<Status> ended;
    install->finish([&](Status status) { ended = std::move(status); });
    settle();
    EXPECT_TRUE(ended.has_value());
    return ended ? *ended : Status(Error{Errc::kTimeout, "it never ended"});
  }
  std::size_t rows_of(const MailboxId& mailbox) {  // In all families; closes the store.
    box.store.reset();
    std::size_t count = 0;
    for (const auto family : kReplicatedFamilies) {
      const auto rows = box.rows({family});
      for (const auto& [key, value] : rows.front()) {
        count += partition_of(BytesReader(key).u16be(), kTestPartitions) ==
                 partition_of(slot_of(mailbox), kTestPartitions);
      }
    }
    return count;
  }
  std::size_t unfinished_files() {
    std::vector<std::string> names;
    (void)box.disk.env()->GetChildren("/store", &names);
    return static_cast<std::size_t>(std::count_if(
        names.begin(), names.end(), [](const auto& name) { return name.find("installing") != std::string::npos; }));
  }
  StoreBox box;
};

// Lanes come without a run, too: what was known of them is not more than what the files say.
TEST_F(StoreInstall, LanesThatWereKnownBeforeGiveWayToItsOwn) {
  const LaneRow old{kAlice, testing::device(1), 5, 7};
  ASSERT_TRUE(store().merge_lanes(part(), std::span(&old, 1)).ok());
  box.sync();
  const auto install = begin();
  ASSERT_TRUE(install->apply(part(), run_of(kAlice, 20)).ok());
  ASSERT_TRUE(finish(install).ok());
  EXPECT_EQ(store().lane_high(kAlice, testing::device(1), 5), 19u);
  EXPECT_EQ(store().read_lanes(part(), std::nullopt, 10)->at(0).high, 19u);
  box.lose_power();
  box.open();
  EXPECT_EQ(store().lane_high(kAlice, testing::device(1), 5), 19u);
}

TEST_F(StoreInstall, NothingOfItShowsBeforeItsVectorIsOnDisk) {
  const auto install = begin();
  EXPECT_FALSE(store().is_whole(part()));
  ASSERT_TRUE(install->apply(part(), run_of(kAlice, 20)).ok());
  EXPECT_EQ(install->held(part(), kPeer), 20u);
  EXPECT_GT(install->gathered(), 0u);
  EXPECT_EQ(store().held(part(), kPeer), 0u);
  bool ended = false;
  install->finish([&](const Status& status) { ended = status.ok(); });
  EXPECT_EQ(box.commits.works(), 0u) << "before the mark is synced";
  box.sync();
  ASSERT_EQ(box.commits.works(), 1u);
  ASSERT_TRUE(box.commits.do_work().ok());
  EXPECT_EQ(store().synced(part(), kPeer), 0u);
  EXPECT_FALSE(ended);
  box.sync();
  EXPECT_TRUE(ended);
  EXPECT_TRUE(store().is_whole(part()));
  EXPECT_EQ(store().synced(part(), kPeer), 20u);
  EXPECT_EQ(store().highest_time(), 20u);
  EXPECT_EQ(store().lane_high(kAlice, testing::device(1), 5), 19u);
  EXPECT_EQ(store().read_mailbox(kAlice, {}, 100, 1 << 20)->changes.size(), 20u);
  EXPECT_EQ(store().stats().installed, 20u);
  EXPECT_EQ(store().stats().installed_files, 6u);
  EXPECT_EQ(unfinished_files(), 0u);
  box.lose_power();
  box.open();
  EXPECT_EQ(store().vector(part()).get(kPeer), 20u);
  EXPECT_EQ(box.scrub().damaged, 0u);
  EXPECT_EQ(store().highest_time(), 20u);
}

TEST_F(StoreInstall, WhatCameBeforeStaysKnownInMemory) {
  EXPECT_EQ(store().lane_high(kAlice, testing::device(1), 5), 0u);
  EXPECT_FALSE(store().find_register(kAlice, "k0"));
  const auto install = begin();
  ASSERT_TRUE(install->apply(part(), run_of(kAlice, 20)).ok());
  ASSERT_TRUE(finish(install).ok());
  EXPECT_EQ(store().lane_high(kAlice, testing::device(1), 5), 19u);
  EXPECT_TRUE(store().find_register(kAlice, "k0"));
  EXPECT_TRUE(store().find_key(kAlice, {testing::device(1), 5, 1}));
}

TEST_F(StoreInstall, NobodyElseWritesToThePartitionMeanwhile) {
  const auto install = begin();
  const auto change = encode(entry(kAlice, 1, 1), Dot{kPeer, 1});
  EXPECT_EQ(store().apply(part(), {kPeer, 1}, change).code(), Errc::kOverloaded);
  EXPECT_EQ(store().apply(part(), run_of(kAlice, 3)).code(), Errc::kOverloaded);
  EXPECT_EQ(store().drop(part()).code(), Errc::kOverloaded);
  const auto same = part();
  EXPECT_EQ(store().install(std::span(&same, 1)).code(), Errc::kOverloaded);
  ASSERT_TRUE(store().apply(part(kCarol), run_of(kCarol, 3)).ok()) << "of others all the same";
  ASSERT_TRUE(install->apply(part(), run_of(kAlice, 3)).ok());
  ASSERT_TRUE(finish(install).ok());
  EXPECT_EQ(*store().apply(part(), {kPeer, 4}, encode(entry(kAlice, 4, 4), Dot{kPeer, 4})), Applied::kNew);
  EXPECT_EQ(store().install(std::span(&same, 1)).code(), Errc::kInvalid) << "something is here";
}

// Of which something is here, or which is being filled: it comes run by run, and holds up no other.
TEST_F(StoreInstall, WhatCannotBeFilledIsLeftOutAndTheRestIsTaken) {
  ASSERT_TRUE(store().apply(part(kDave), run_of(kDave, 3)).ok());  // Not on disk yet.
  const auto other = begin({kAlice});
  const auto install = begin({kAlice, kDave, kCarol});
  EXPECT_FALSE(store().is_installing(part(kDave)));
  ASSERT_TRUE(install->apply(part(kCarol), run_of(kCarol, 20)).ok());
  ASSERT_TRUE(finish(install).ok());
  EXPECT_EQ(store().vector(part(kCarol)).get(kPeer), 20u);
  EXPECT_EQ(store().vector(part(kDave)).get(kPeer), 3u);
  EXPECT_TRUE(store().is_installing(part(kAlice))) << "the other one's";
  ASSERT_TRUE(other->apply(part(kAlice), run_of(kAlice, 20)).ok());
  ASSERT_TRUE(finish(other).ok());
  EXPECT_EQ(store().vector(part(kAlice)).get(kPeer), 20u);
}

// The node stops, and what fetches for it has not heard of that yet.
TEST_F(StoreInstall, NothingIsWrittenOnceTheStoreIsClosed) {
  const auto install = begin();
  ASSERT_TRUE(install->apply(part(), run_of(kAlice, 20)).ok());
  box.sync();
  ASSERT_TRUE(store().close_cleanly().ok());
  install->write();
  bool ended = false;
  install->finish([&](const Status&) { ended = true; });
  EXPECT_EQ(box.commits.works(), 0u);
  EXPECT_FALSE(ended);
  box.store.reset();
  box.open();
  EXPECT_TRUE(store().kept_writer());
  EXPECT_TRUE(store().vector(part()).empty());
}

// So does what its peers ask of it, and what it asks of itself: the next run keeps the writer, and nothing of this.
TEST_F(StoreInstall, AClosedStoreRefusesInsteadOfWriting) {
  ASSERT_TRUE(store().apply(part(kDave), run_of(kDave, 3)).ok());
  box.sync();
  bool refused = false, acknowledged = false;
  store().when_durable([&] {  // Of the same batch as the last word of the node.
    ASSERT_TRUE(store().close_cleanly().ok());
  });
  store().when_durable([&] {
    EXPECT_EQ(store().apply(part(), run_of(kAlice, 3)).code(), Errc::kUnavailable);
    EXPECT_EQ(store().mend(part(), run_of(kAlice, 3)).code(), Errc::kUnavailable);
    EXPECT_EQ(store().install(std::vector{part()}).code(), Errc::kUnavailable);
    store().put(Store::Family::kPaxos, "key", "value");
    store().when_durable([&] { acknowledged = true; });
    refused = true;
  });
  box.sync();
  EXPECT_TRUE(refused);
  EXPECT_FALSE(acknowledged);
  box.store.reset();
  box.open();
  EXPECT_TRUE(store().kept_writer());
  EXPECT_FALSE(store().get(Store::Family::kPaxos, "key"));
  EXPECT_EQ(store().vector(part(kDave)).get(kPeer), 3u);
}

// Whoever waits for room must not wait for ever.
TEST_F(StoreInstall, WhatIsNeverWrittenTakesNoRoom) {
  const auto install = begin();
  ASSERT_TRUE(install->apply(part(), run_of(kAlice, 7)).ok());
  install->write();
  ASSERT_TRUE(install->apply(part(), run_of(kAlice, 20)).ok());  // While the first part is under way.
  box.disk.no_room_for("installing");
  settle();
  box.disk.no_room_for("");
  ASSERT_FALSE(install->writing());
  EXPECT_GT(install->gathered(), 0u);
  install->write();
  EXPECT_EQ(install->gathered(), 0u);
  EXPECT_EQ(install->apply(part(), run_of(kAlice, 30)).code(), Errc::kFull);
  EXPECT_EQ(finish(install).code(), Errc::kFull);
  EXPECT_TRUE(store().vector(part()).empty());
  // Nor what a closed store will not take.
  const auto other = begin({kCarol});
  ASSERT_TRUE(other->apply(part(kCarol), run_of(kCarol, 7)).ok());
  box.sync();
  ASSERT_TRUE(store().close_cleanly().ok());
  other->write();
  EXPECT_EQ(other->gathered(), 0u);
}

// A record is checked under its dot, and each run has no holes.
TEST_F(StoreInstall, WhatIsDamagedOrOutOfOrderIsRefusedAndTheRestIsTaken) {
  const auto install = begin();
  ASSERT_TRUE(install->apply(part(), run_of(kAlice, 5)).ok());
  auto next = run_of(kAlice, 9);
  auto bad = next;
  bad.live[7].change.data[30] ^= 1;
  const auto before = store().stats().corrupt;
  EXPECT_EQ(install->apply(part(), bad).code(), Errc::kCorrupt);
  EXPECT_EQ(store().stats().corrupt, before + 1);
  std::swap(bad.live[7], next.live[8]);
  EXPECT_EQ(install->apply(part(), bad).code(), Errc::kCorrupt) << "under another dot";
  auto gap = run_of(kAlice, 9);
  gap.from = 7;
  gap.live.erase(gap.live.begin(), gap.live.begin() + 6);
  EXPECT_EQ(*install->apply(part(), gap), Applied::kGap);
  EXPECT_EQ(install->apply(part(), run_of(kCarol, 9)).code(), Errc::kCorrupt) << "another partition's";
  auto own = run_of(kAlice, 2, store().writer());
  EXPECT_EQ(install->apply(part(), own).code(), Errc::kCorrupt) << "more of our own run than we wrote";
  EXPECT_EQ(install->held(part(), kPeer), 5u);
  const LaneRow lane{kCarol, testing::device(1), 5, 9};
  EXPECT_EQ(install->merge_lanes(part(), std::span(&lane, 1)).code(), Errc::kInvalid);
  ASSERT_TRUE(install->apply(part(), run_of(kAlice, 9)).ok());
  ASSERT_TRUE(finish(install).ok());
  EXPECT_EQ(store().vector(part()).get(kPeer), 9u);
  EXPECT_EQ(store().read_writer(part(), kPeer, 1, 1 << 20)->live.size(), 9u);
}

TEST_F(StoreInstall, GapsLanesAndLossesComeAlong) {
  const auto install = begin();
  auto range = run_of(kAlice, 10);
  range.live.erase(range.live.begin() + 3);  // 4 is gone, and 9 was lost.
  range.live.erase(range.live.begin() + 7);
  range.lost = {9};
  ASSERT_TRUE(install->apply(part(), range).ok());
  const std::vector<LaneRow> lanes{{kAlice, testing::device(1), 5, 4}, {kAlice, testing::device(2), 5, 77}};
  ASSERT_TRUE(install->merge_lanes(part(), lanes).ok());
  ASSERT_TRUE(finish(install).ok());
  EXPECT_EQ(store().lane_high(kAlice, testing::device(1), 5), 8u);
  EXPECT_EQ(store().lane_high(kAlice, testing::device(2), 5), 77u);
  EXPECT_EQ(store().lost(part()), (std::vector<Dot>{{kPeer, 9}}));
  const auto read = store().read_writer(part(), kPeer, 1, 1 << 20);
  EXPECT_EQ(read->live.size(), 8u);
  EXPECT_EQ(read->lost, (std::vector<std::uint64_t>{9}));
}

// The disk stops at every change that it makes; a killed process, and a machine without power.
TEST_F(StoreInstall, ACrashAtAnyPointLeavesAllOfItOrNothing) {
  for (const bool power : {false, true}) {
    bool whole = false;
    for (std::uint64_t at = 1; !whole; ++at) {
      ASSERT_LT(at, 1000u);
      SCOPED_TRACE((power ? "power lost at change " : "killed at change ") + std::to_string(at));
      StoreBox fresh;
      fresh.open();
      const auto partition = fresh.store->partition_of(kAlice);
      fresh.store->append(entry(kCarol, 1, 1));
      fresh.sync();
      auto install = *fresh.store->install(std::span(&partition, 1));
      fresh.disk.freeze_in(at);
      bool ended = false;
      ASSERT_TRUE(install->apply(partition, run_of(kAlice, 7)).ok());
      install->write();
      for (const std::uint64_t more : {9, 20}) {
        if (more == 20) {
          EXPECT_TRUE(install->apply(partition, run_of(kAlice, 20)).ok() || fresh.disk.frozen());
          install->finish([&](const Status& status) { ended = status.ok(); });
        }
        fresh.store->flush();
        while (fresh.commits.waiting() > 0 || fresh.commits.works() > 0) {
          // A frozen disk may fail the process; it is as good as dead.
          if (fresh.commits.waiting() > 0) fresh.commits.try_one();
          if (fresh.commits.works() > 0) (void)fresh.commits.do_work();
          fresh.store->flush();
        }
      }
      whole = !fresh.disk.frozen();
      fresh.disk.freeze();
      install.reset();
      fresh.store.reset();
      if (power) fresh.disk.drop_unsynced();
      fresh.disk.thaw();
      ASSERT_NO_FATAL_FAILURE(fresh.open());
      const auto vector = fresh.store->vector(partition);
      EXPECT_TRUE(vector.empty() || vector.get(kPeer) == 20) << vector.get(kPeer);
      EXPECT_TRUE(!whole || (ended && vector.get(kPeer) == 20));
      EXPECT_TRUE(fresh.store->is_whole(partition));
      EXPECT_EQ(fresh.scrub().damaged, 0u);
      if (vector.empty()) {
        EXPECT_EQ(fresh.store->lane_high(kAlice, testing::device(1), 5), 0u);
        EXPECT_FALSE(fresh.store->find_key(kAlice, {testing::device(1), 5, 1}));
        EXPECT_FALSE(fresh.store->find_register(kAlice, "k0"));
      }
      // It can be filled again, and what was erased stays erased.
      ASSERT_TRUE(fresh.store->apply(partition, run_of(kAlice, 20)).ok());
      fresh.sync();
      EXPECT_EQ(fresh.store->read_mailbox(kAlice, {}, 100, 1 << 20)->changes.size(), 20u);
      std::vector<std::string> names;
      (void)fresh.disk.env()->GetChildren("/store", &names);
      for (const auto& name : names) EXPECT_EQ(name.find("installing"), std::string::npos) << name;
    }
  }
}

// Of a full disk and of a file that is not what was written: the partition is as if nothing had come.
TEST_F(StoreInstall, AFailureLeavesNothingAndFreesThePartition) {
  for (const bool full : {true, false}) {
    const auto install = begin();
    ASSERT_TRUE(install->apply(part(), run_of(kAlice, 7)).ok());
    install->write();
    settle();
    ASSERT_TRUE(install->apply(part(), run_of(kAlice, 20)).ok());
    (full ? box.disk.no_room_for("installing") : box.disk.spoil("installing"));
    const auto ended = finish(install);
    ASSERT_FALSE(ended.ok());
    EXPECT_EQ(ended.code(), full ? Errc::kFull : Errc::kCorrupt) << ended.error().text;
    box.disk.no_room_for("");
    box.disk.spoil("");
    EXPECT_EQ(unfinished_files(), 0u);
    EXPECT_TRUE(store().is_whole(part()));
    EXPECT_TRUE(store().vector(part()).empty());
    EXPECT_FALSE(store().find_key(kAlice, {testing::device(1), 5, 1}));
  }
  ASSERT_TRUE(store().apply(part(), run_of(kAlice, 20)).ok());
  settle();
  EXPECT_EQ(store().read_mailbox(kAlice, {}, 100, 1 << 20)->changes.size(), 20u);
  EXPECT_EQ(box.scrub().mended, 0u);
}

// Its erasure is still in memory, above everything that comes by files unless that is minded.
TEST_F(StoreInstall, APartitionThatWasDroppedIsFilledAgain) {
  for (int turn = 0; turn < 3; ++turn) {
    const auto install = begin();
    ASSERT_TRUE(install->apply(part(), run_of(kAlice, 20)).ok());
    ASSERT_TRUE(finish(install).ok());
    EXPECT_EQ(store().read_mailbox(kAlice, {}, 100, 1 << 20)->changes.size(), 20u);
    if (turn == 2) break;
    ASSERT_TRUE(store().drop(part()).ok());
    const auto same = part();
    EXPECT_EQ(store().install(std::span(&same, 1)).code(), Errc::kOverloaded) << "it is being erased";
    settle();
  }
  EXPECT_EQ(box.scrub().damaged, 0u);
}

TEST_F(StoreInstall, OurOwnRunComesBackAndGoesOnBehindItsLastDot) {
  RangeStatement own{store().writer(), 1, 0, {}, {}};
  for (std::uint64_t n = 1; n <= 4; ++n) {
    const auto made = store().append(entry(kAlice, n, n));
    own.live.push_back({n, {*made.bytes}});
  }
  settle();
  ASSERT_TRUE(store().drop(part()).ok());
  settle();
  const auto install = begin();
  own.to = 4;
  ASSERT_TRUE(install->apply(part(), own).ok());
  ASSERT_TRUE(finish(install).ok());
  EXPECT_EQ(store().held(part(), store().writer()), store().issued(part()));
  const auto next = store().append(entry(kAlice, 5, 5));
  EXPECT_EQ(next.dot.n, 5u);
  EXPECT_EQ(decode(*next.bytes, next.dot)->prev, 4u);
}

// A file that spanned what another partition has could not go below that.
TEST_F(StoreInstall, FilesAreCutWhereOtherPartitionsHaveRows) {
  const auto fill = [&] {
    const auto install = begin({kAlice, kCarol});
    ASSERT_TRUE(install->apply(part(kAlice), run_of(kAlice, 20)).ok());
    ASSERT_TRUE(install->apply(part(kCarol), run_of(kCarol, 20)).ok());
    ASSERT_TRUE(finish(install).ok());
  };
  fill();
  EXPECT_EQ(store().stats().installed_files, 6u);
  ASSERT_TRUE(store().drop(part(kAlice)).ok());
  ASSERT_TRUE(store().drop(part(kCarol)).ok());
  ASSERT_TRUE(store().apply(part(kDave), run_of(kDave, 20)).ok());
  settle();
  fill();
  EXPECT_EQ(store().stats().installed_files, 6u + 12u);
  for (const auto& mailbox : {kAlice, kCarol, kDave}) {
    EXPECT_EQ(store().read_mailbox(mailbox, {}, 100, 1 << 20)->changes.size(), 20u);
  }
}

// Two at once, of which one is never finished: the next open empties its partition, and no other.
TEST_F(StoreInstall, AnUnfinishedOneIsEmptiedByTheNextOpen) {
  auto left = begin({kAlice});
  const auto right = begin({kCarol});
  ASSERT_TRUE(left->apply(part(kAlice), run_of(kAlice, 20)).ok());
  ASSERT_TRUE(right->apply(part(kCarol), run_of(kCarol, 20)).ok());
  left->write();
  ASSERT_TRUE(finish(right).ok());
  left.reset();
  EXPECT_FALSE(store().is_whole(part(kAlice)));
  box.close_cleanly();
  box.open();
  EXPECT_TRUE(store().kept_writer());
  EXPECT_TRUE(store().is_whole(part(kAlice)));
  EXPECT_TRUE(store().vector(part(kAlice)).empty());
  EXPECT_EQ(store().vector(part(kCarol)).get(kPeer), 20u);
  box.store.reset();
  box.compact();
  EXPECT_EQ(rows_of(kAlice), 0u);
  EXPECT_GT(rows_of(kCarol), 70u);
}

}  // namespace
}  // namespace starling::storage
