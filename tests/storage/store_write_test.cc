// Writing: prefix rule, pipeline, keys, lanes, registers, convergence.
#include <algorithm>

#include <gmock/gmock.h>
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
using testing::reg;
using testing::StoreBox;

constexpr WriterId kOther{600};

class StoreWrite : public ::testing::Test {
 protected:
  void SetUp() override { box.open(); }
  Store& store() { return *box.store; }
  PartitionId part(const MailboxId& mailbox = kAlice) { return store().partition_of(mailbox); }
  Applied apply(const Dot& dot, const ChangeView& change) {
    const auto result = store().apply(part(change.mailbox), dot, encode(change, dot));
    EXPECT_TRUE(result.ok()) << result.error().text;
    return *result;
  }
  StoreBox box;
};

RangeStatement::Item item(WriterId writer, std::uint64_t n, const ChangeView& change) {
  return {n, {encode(change, {writer, n})}};
}

// --- Dots. ---

TEST_F(StoreWrite, NumbersOurChangesWithoutGapsPerPartition) {
  EXPECT_EQ(store().append(entry(kAlice, 1, 10)).dot, (Dot{store().writer(), 1}));
  EXPECT_EQ(store().append(entry(kCarol, 1, 11)).dot, (Dot{store().writer(), 1}));
  EXPECT_EQ(store().append(entry(kBob, 1, 12)).dot, (Dot{store().writer(), 2}));
  EXPECT_EQ(store().held(part(), store().writer()), 2u);
  EXPECT_EQ(store().synced(part(), store().writer()), 0u);
  box.sync();
  EXPECT_EQ(store().synced(part(), store().writer()), 2u);
  EXPECT_THAT(store().touched(), ::testing::ElementsAre(part(kAlice), part(kCarol)));
}

TEST_F(StoreWrite, PrevIsTheLastChangeOfThisWriterInTheSameMailbox) {
  auto prev = [&](const MailboxId& mailbox, std::uint64_t seq) {
    const auto appended = store().append(entry(mailbox, seq, seq));
    return decode(*appended.bytes, appended.dot)->prev;
  };
  EXPECT_EQ(prev(kAlice, 1), 0u);
  EXPECT_EQ(prev(kBob, 1), 0u);
  EXPECT_EQ(prev(kAlice, 2), 1u);
  box.sync();
  EXPECT_EQ(prev(kBob, 2), 2u);
  EXPECT_EQ(prev(kAlice, 3), 3u);
}

TEST_F(StoreWrite, AcceptsAForeignChangeOnlyBehindItsPrefix) {
  EXPECT_EQ(apply({kPeer, 2}, entry(kAlice, 2, 2)), Applied::kGap);
  EXPECT_EQ(apply({kPeer, 1}, entry(kAlice, 1, 1)), Applied::kNew);
  EXPECT_EQ(apply({kPeer, 1}, entry(kAlice, 1, 1)), Applied::kAlready);
  EXPECT_EQ(apply({kPeer, 3}, entry(kAlice, 3, 3)), Applied::kGap);
  EXPECT_EQ(apply({kPeer, 2}, entry(kAlice, 2, 2)), Applied::kNew);
  EXPECT_EQ(store().held(part(), kPeer), 2u);
  EXPECT_EQ(store().stats().pending, 2u);
}

TEST_F(StoreWrite, RefusesDamagedAndMisplacedChangesAndCountsThem) {
  const Dot dot{kPeer, 1};
  Bytes bytes = encode(entry(kAlice, 1, 1), dot);
  EXPECT_EQ(store().apply(part(kCarol), dot, bytes).code(), Errc::kCorrupt);
  bytes[40] ^= 1;
  EXPECT_EQ(store().apply(part(), dot, bytes).code(), Errc::kCorrupt);
  bytes[0] = 9;
  testing::seal(bytes, dot);
  EXPECT_EQ(store().apply(part(), dot, bytes).code(), Errc::kUnsupported);
  EXPECT_EQ(store().stats().corrupt, 2u);
  EXPECT_EQ(store().held(part(), kPeer), 0u);
}

TEST_F(StoreWrite, RefusesDotsOfItsOwnRunThatItDidNotMake) {
  store().append(entry(kAlice, 1, 1));
  const Dot known{store().writer(), 1};
  const Dot unknown{store().writer(), 2};
  EXPECT_EQ(apply(known, entry(kAlice, 1, 1)), Applied::kAlready);
  EXPECT_EQ(store().apply(part(), unknown, encode(entry(kAlice, 2, 2), unknown)).code(),
            Errc::kCorrupt);
  EXPECT_EQ(store().apply(part(), RangeStatement{store().writer(), 2, 5, {}}).code(),
            Errc::kCorrupt);
}

// --- Ranges. ---

TEST_F(StoreWrite, ARangeCountsAbsentDotsAsSeen) {
  RangeStatement range{kPeer, 1, 9, {item(kPeer, 3, entry(kAlice, 1, 1)),
                                     item(kPeer, 7, entry(kAlice, 2, 2))}};
  EXPECT_EQ(*store().apply(part(), range), Applied::kNew);
  EXPECT_EQ(store().held(part(), kPeer), 9u);
  EXPECT_EQ(store().synced(part(), kPeer), 0u);
  box.sync();
  EXPECT_EQ(store().synced(part(), kPeer), 9u);
  EXPECT_EQ(*store().apply(part(), range), Applied::kAlready);
  EXPECT_EQ(apply({kPeer, 10}, entry(kAlice, 3, 3)), Applied::kNew);
  EXPECT_TRUE(store().read_change(part(), {kPeer, 7}).ok());
  EXPECT_EQ(store().read_change(part(), {kPeer, 5}).code(), Errc::kNotFound);
}

TEST_F(StoreWrite, ARangeOfNothingButGoneChangesStillMovesTheVector) {
  EXPECT_EQ(*store().apply(part(), RangeStatement{kPeer, 1, 4, {}}), Applied::kNew);
  box.sync();
  EXPECT_EQ(store().vector(part()).get(kPeer), 4u);
}

TEST_F(StoreWrite, ARangeExtendsWhatItOverlapsAndLeavesNoGap) {
  apply({kPeer, 1}, entry(kAlice, 1, 1));
  EXPECT_EQ(*store().apply(part(), RangeStatement{kPeer, 3, 4, {}}), Applied::kGap);
  RangeStatement overlapping{kPeer, 1, 2, {item(kPeer, 1, entry(kAlice, 1, 1)),
                                           item(kPeer, 2, entry(kAlice, 2, 2))}};
  EXPECT_EQ(*store().apply(part(), overlapping), Applied::kNew);
  EXPECT_EQ(store().held(part(), kPeer), 2u);
  EXPECT_EQ(store().stats().pending, 2u);
}

TEST_F(StoreWrite, ADamagedRangeStoresNothingAtAll) {
  auto good = item(kPeer, 1, entry(kAlice, 1, 1));
  auto bad = item(kPeer, 2, entry(kAlice, 2, 2));
  bad.change.data[30] ^= 1;
  const std::vector<RangeStatement> damaged = {
      {kPeer, 1, 2, {good, bad}},
      {kPeer, 1, 2, {item(kPeer, 2, entry(kAlice, 2, 2)), good}},  // Not ascending.
      {kPeer, 2, 0, {}},                                           // Nothing, not an error.
      {kPeer, 1, 1, {item(kPeer, 3, entry(kAlice, 3, 3))}},        // Outside.
      {kPeer, 1, ~std::uint64_t{0}, {}},                           // Poison.
  };
  EXPECT_EQ(store().apply(part(), damaged[0]).code(), Errc::kCorrupt);
  EXPECT_EQ(store().apply(part(), damaged[1]).code(), Errc::kCorrupt);
  EXPECT_EQ(*store().apply(part(), damaged[2]), Applied::kAlready);
  EXPECT_EQ(store().apply(part(), damaged[3]).code(), Errc::kCorrupt);
  EXPECT_EQ(store().apply(part(), damaged[4]).code(), Errc::kCorrupt);
  EXPECT_EQ(store().held(part(), kPeer), 0u);
  EXPECT_EQ(store().stats().pending, 0u);
}

// --- The pipeline. ---

TEST_F(StoreWrite, WatchersHearAfterTheSyncInApplyOrder) {
  std::vector<std::uint64_t> heard;
  store().on_synced([&](std::span<const SyncedChange> changes) {
    for (const auto& change : changes) {
      EXPECT_LE(change.dot.n, store().synced(change.partition, change.dot.writer));
      EXPECT_EQ(change.view.mailbox, kAlice);
      heard.push_back(change.view.entry.key.seq);
    }
  });
  apply({kPeer, 1}, entry(kAlice, 1, 1));
  store().append(entry(kAlice, 2, 2));
  store().flush();
  apply({kPeer, 2}, entry(kAlice, 3, 3));
  EXPECT_TRUE(heard.empty());
  box.commits.finish_one();
  EXPECT_THAT(heard, ::testing::ElementsAre(1, 2));
  box.commits.finish_one();  // The batch that gathered meanwhile followed by itself.
  EXPECT_THAT(heard, ::testing::ElementsAre(1, 2, 3));
  EXPECT_EQ(box.commits.waiting(), 0u);
}

TEST_F(StoreWrite, OneBatchIsInFlightWhileTheNextGathers) {
  store().append(entry(kAlice, 1, 1));
  store().flush();
  store().append(entry(kAlice, 2, 2));
  store().flush();
  store().append(entry(kAlice, 3, 3));
  EXPECT_EQ(box.commits.waiting(), 1u);
  box.commits.finish_one();
  EXPECT_EQ(box.commits.waiting(), 1u);
  EXPECT_EQ(store().synced(part(), store().writer()), 1u);
  box.commits.finish_one();
  EXPECT_EQ(store().synced(part(), store().writer()), 3u);
  EXPECT_EQ(store().stats().commits, 2u);
}

TEST_F(StoreWrite, AsksForAFlushOncePerGatheredBatch) {
  int asked = 0;
  store().on_dirty([&] { ++asked; });
  store().append(entry(kAlice, 1, 1));
  store().append(entry(kAlice, 2, 2));
  EXPECT_EQ(asked, 1);
  box.sync();
  store().append(entry(kAlice, 3, 3));
  EXPECT_EQ(asked, 2);
}

TEST_F(StoreWrite, WhenDurableWaitsForWhatWasAcceptedAndNoMore) {
  std::string order;
  store().append(entry(kAlice, 1, 1));
  store().when_durable([&] { order += 'a'; });
  store().flush();
  store().when_durable([&] { order += 'b'; });  // Nothing gathers: the batch in flight decides.
  store().append(entry(kAlice, 2, 2));
  store().when_durable([&] { order += 'c'; });
  EXPECT_EQ(order, "");
  box.commits.finish_one();
  EXPECT_EQ(order, "ab");
  box.commits.finish_one();
  EXPECT_EQ(order, "abc");
  store().when_durable([&] { order += 'd'; });
  EXPECT_EQ(order, "abc");  // Never inside the call.
  store().flush();
  EXPECT_EQ(order, "abcd");
  EXPECT_EQ(box.commits.waiting(), 0u);
}

TEST_F(StoreWrite, CallbacksMayWriteAndFlush) {
  int rounds = 0;
  store().on_synced([&](std::span<const SyncedChange>) {
    if (++rounds < 3) store().append(entry(kAlice, 1 + static_cast<std::uint64_t>(rounds), 9));
    store().flush();
  });
  store().append(entry(kAlice, 1, 1));
  box.sync();
  EXPECT_EQ(rounds, 3);
  EXPECT_EQ(store().synced(part(), store().writer()), 3u);
}

TEST_F(StoreWrite, AFailureOfBeforeAnybodyListenedIsTold) {
  store().fail({Errc::kCorrupt, "what was read while the store was opened"});
  int fatal = 0;
  store().on_fatal([&](const Error& error) { fatal += error.code == Errc::kCorrupt ? 1 : 0; });
  EXPECT_EQ(fatal, 1);
  store().fail({Errc::kIo, "once more"});
  EXPECT_EQ(fatal, 1);
}

TEST_F(StoreWrite, AFailedCommitIsReportedOnceAndNothingIsDurableAfterIt) {
  int fatal = 0, durable = 0, heard = 0;
  store().on_fatal([&](const Error& error) {
    EXPECT_EQ(error.code, Errc::kIo);
    ++fatal;
  });
  store().on_synced([&](std::span<const SyncedChange>) { ++heard; });
  store().append(entry(kAlice, 1, 1));
  store().when_durable([&] { ++durable; });
  store().flush();
  store().append(entry(kAlice, 2, 2));
  box.commits.fail_one();
  store().when_durable([&] { ++durable; });
  store().flush();
  EXPECT_EQ(box.commits.waiting(), 0u);
  EXPECT_EQ(fatal, 1);
  EXPECT_EQ(durable, 0);
  EXPECT_EQ(heard, 0);
  EXPECT_EQ(store().synced(part(), store().writer()), 0u);
  EXPECT_EQ(store().close_cleanly().code(), Errc::kIo);
}

TEST_F(StoreWrite, ADirectMessageCostsFourPutsPlusWhatABatchShares) {
  for (std::uint64_t seq = 1; seq <= 100; ++seq) store().append(entry(kAlice, seq, seq));
  box.sync();
  // log, entries, mailbox_dots, keys; once, in a row of the journal: the lane, the vector, the highest time.
  EXPECT_EQ(store().stats().puts, 4 * 100u + 1);
  EXPECT_EQ(store().stats().changes, 100u);
}

// --- Keys and lanes. ---

TEST_F(StoreWrite, FindsKeysAndLanesBeforeTheyAreSynced) {
  const auto change = entry(kAlice, 1, 1);
  EXPECT_FALSE(store().find_key(kAlice, change.entry.key));
  const auto appended = store().append(change);
  for (int round = 0; round < 3; ++round) {  // Gathering, in flight, on disk.
    const auto found = store().find_key(kAlice, change.entry.key);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->dot, appended.dot);
    EXPECT_EQ(found->id, change.entry.id);
    EXPECT_FALSE(found->is_void);
    EXPECT_EQ(found->content, content_hash(change.entry, ChangeKind::kEntry));
    EXPECT_EQ(store().lane_high(kAlice, testing::device(1), 5), 1u);
    if (round == 0) store().flush();
    if (round == 1) box.commits.finish_all();
  }
  EXPECT_EQ(store().lane_high(kAlice, testing::device(2), 5), 0u);
  EXPECT_EQ(store().lane_high(kBob, testing::device(1), 5), 0u);
}

TEST_F(StoreWrite, TheLaneKeepsItsHighestNumber) {
  store().append(entry(kAlice, 5, 1));
  store().append(entry(kAlice, 3, 2));
  box.sync();
  EXPECT_EQ(store().lane_high(kAlice, testing::device(1), 5), 5u);
  EXPECT_EQ(store().stats().shadows, 0u);
}

TEST_F(StoreWrite, OfTwoCopiesTheSmallerIdIsThePosition) {
  for (const bool small_first : {true, false}) {
    const std::uint64_t seq = small_first ? 1 : 2;
    const auto small = entry(kAlice, seq, 10 * seq);
    const auto large = entry(kAlice, seq, 10 * seq + 5);
    apply({kPeer, seq}, small_first ? small : large);
    box.sync();
    apply({kOther, seq}, small_first ? large : small);
    box.sync();
    EXPECT_EQ(store().find_key(kAlice, small.entry.key)->id, small.entry.id);
  }
  EXPECT_EQ(store().stats().shadows, 2u);
  const auto entries = store().history(kAlice, kBob, {}, 10);
  ASSERT_EQ(entries->size(), 2u);  // Each key once.
  EXPECT_EQ((*entries)[0].dot, (Dot{kOther, 2}));
  EXPECT_EQ((*entries)[1].dot, (Dot{kPeer, 1}));
  EXPECT_EQ(store().read_mailbox(kAlice, {}, 10, 1 << 20)->changes.size(), 4u);  // Both dots.
}

TEST_F(StoreWrite, AVoidBeatsAContentInBothOrders) {
  apply({kPeer, 1}, entry(kAlice, 1, 10));
  apply({kOther, 1}, closing(kAlice, 1, 20));  // In one batch.
  apply({kOther, 2}, closing(kAlice, 2, 10));
  box.sync();
  apply({kPeer, 2}, entry(kAlice, 2, 5));
  box.sync();
  for (const std::uint64_t seq : {1, 2}) {
    const auto found = store().find_key(kAlice, {testing::device(1), 5, seq});
    ASSERT_TRUE(found);
    EXPECT_TRUE(found->is_void);
    EXPECT_EQ(found->dot, (Dot{kOther, seq}));
  }
  EXPECT_TRUE(store().history(kAlice, kBob, {}, 10)->empty());
}

// --- Registers and small state. ---

TEST_F(StoreWrite, RegistersMergeAndShowWhatIsInFlight) {
  store().append(reg(kAlice, "name", "new", 20));
  EXPECT_EQ(store().find_register(kAlice, "name")->value, "new");
  store().flush();
  apply({kPeer, 1}, reg(kAlice, "name", "old", 10));  // Loses to one in flight.
  EXPECT_EQ(store().find_register(kAlice, "name")->value, "new");
  box.commits.finish_all();
  apply({kPeer, 2}, reg(kAlice, "name", "newest", 30));  // Wins against one on disk.
  EXPECT_EQ(store().find_register(kAlice, "name")->value, "newest");
  EXPECT_EQ(store().find_register(kAlice, "name")->stamp.time, 30u);
  EXPECT_EQ(store().scan_registers(kAlice, "", "", 9).front().value, "new");  // Synced only.
  box.sync();
  EXPECT_EQ(store().scan_registers(kAlice, "", "", 9).front().value, "newest");
  EXPECT_FALSE(store().find_register(kBob, "name"));
}

TEST_F(StoreWrite, SmallStateIsReadBackAtOnceAndDurableWithTheBatch) {
  store().put(Store::Family::kPaxos, "ring/1", "promised");
  store().put(Store::Family::kPaxos, "ring/2", "accepted");
  store().put(Store::Family::kNode, "lineage", "L");
  EXPECT_EQ(store().get(Store::Family::kPaxos, "ring/1"), "promised");
  EXPECT_FALSE(store().get(Store::Family::kPaxos, "lineage"));
  box.sync();
  store().put(Store::Family::kPaxos, "ring/1", "again");
  store().put(Store::Family::kPaxos, "ring/0", "first");
  const auto pairs = store().scan(Store::Family::kPaxos, "ring/", "", 2);
  EXPECT_EQ(pairs, (StoreBox::Rows{{"ring/0", "first"}, {"ring/1", "again"}}));
  const auto rest = store().scan(Store::Family::kPaxos, "ring/", "ring/0", 9);  // Written and in flight.
  EXPECT_EQ(rest, (StoreBox::Rows{{"ring/1", "again"}, {"ring/2", "accepted"}}));
  EXPECT_TRUE(store().scan(Store::Family::kPaxos, "ring/", "ring/2", 9).empty());
  EXPECT_EQ(store().scan(Store::Family::kNode, "", "", 10).size(), 1u);  // Not the store's own keys.
}

TEST_F(StoreWrite, RemembersTheHighestTimeEverAccepted) {
  apply({kPeer, 1}, entry(kAlice, 1, 900));
  apply({kPeer, 2}, reg(kAlice, "k", "v", 1000));
  apply({kPeer, 3}, entry(kAlice, 2, 100));
  EXPECT_EQ(store().highest_time(), 1000u);
  box.close_cleanly();
  box.open();
  EXPECT_EQ(store().highest_time(), 1000u);
}

}  // namespace
}  // namespace starling::storage
