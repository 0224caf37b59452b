// Splitting one store: what is counted, damaged, dropped, held for others or expired, before, meanwhile and after.
#include <algorithm>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage/install.h"
#include "storage/layout.h"
#include "tests/storage/split.h"

namespace starling::storage {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::device;
using testing::entry;
using testing::kAfter;
using testing::kAlice;
using testing::kBob;
using testing::kCarol;
using testing::kEve;
using testing::kPeer;
using testing::kTestPartitions;
using testing::Numbers;
using testing::open_with;
using testing::page_of;
using testing::settle_all;
using testing::StoreBox;
using testing::told_of;

class SplitOfOne : public ::testing::Test {
 protected:
  void SetUp() override { box.open(); }
  Store& store() { return *box.store; }
  PartitionId of(const MailboxId& mailbox) { return store().partition_of(mailbox); }
  void apply(std::uint64_t n, const ChangeView& change) {
    const Dot dot{kPeer, n};
    const auto applied = store().apply(of(change.mailbox), dot, encode(change, dot));
    ASSERT_TRUE(applied.ok()) << applied.error().text;
  }
  // Dots 1 and 3 are of kAlice, 2 and 4 of kEve.
  void fill() {
    apply(1, entry(kAlice, 1, 1));
    apply(2, entry(kEve, 1, 2));
    apply(3, entry(kAlice, 2, 3));
    apply(4, entry(kEve, 2, 4));
    box.sync();
  }
  void split() {
    ASSERT_TRUE(store().split().ok());
    box.sync();
  }
  Numbers live(const MailboxId& mailbox, WriterId writer = kPeer) {
    Numbers out;
    const auto told = told_of(box, of(mailbox), writer);
    for (const auto& [n, bytes] : told.live) out.push_back(n);
    return out;
  }
  std::optional<std::uint64_t> node_number(View key) {
    const auto rows = box.rows({ColumnFamily::kNode});
    for (const auto& [at, value] : rows.front()) {
      if (at == key) return parse_number(value);
    }
    return std::nullopt;
  }
  bool has_node(View key) {
    const auto rows = box.rows({ColumnFamily::kNode});
    return std::any_of(rows.front().begin(), rows.front().end(), [&](const auto& row) { return row.first == key; });
  }
  StoreBox box;
};

TEST_F(SplitOfOne, OurOwnRunGoesOnInEachChild) {
  std::vector<SyncedChange> heard;
  store().on_synced([&](std::span<const SyncedChange> changes) {
    for (const auto& change : changes) {
      EXPECT_EQ(change.partition, of(change.view.mailbox)) << change.dot.n;
      heard.push_back(change);
    }
  });
  store().append(entry(kAlice, 1, 1));
  store().append(entry(kEve, 1, 2));
  store().flush();  // In flight,
  store().append(entry(kAlice, 2, 3));  // and gathered.
  ASSERT_TRUE(store().split().ok());
  EXPECT_NE(of(kAlice), of(kEve));
  EXPECT_EQ(of(kAlice), of(kBob));
  EXPECT_EQ(store().held(of(kEve), store().writer()), 3u);
  EXPECT_EQ(store().synced(of(kEve), store().writer()), 0u);
  EXPECT_EQ(store().append(entry(kAlice, 3, 4)).dot.n, 4u);
  const auto of_eve = store().append(entry(kEve, 2, 5));
  EXPECT_EQ(of_eve.dot.n, 4u);
  EXPECT_EQ(of_eve.partition, of(kEve));
  EXPECT_EQ(decode(*of_eve.bytes, of_eve.dot)->prev, 2u);
  box.commits.finish_one();
  EXPECT_EQ(store().synced(of(kEve), store().writer()), 2u);
  EXPECT_EQ(store().synced(of(kAlice), store().writer()), 2u);
  EXPECT_EQ(heard.size(), 2u);
  box.sync();
  EXPECT_EQ(heard.size(), 5u);
  const WriterId writer = store().writer();
  EXPECT_EQ(store().vector(of(kAlice)).get(writer), 4u);
  EXPECT_EQ(store().vector(of(kEve)).get(writer), 4u);
  EXPECT_EQ(live(kAlice, writer), (Numbers{1, 3, 4}));
  EXPECT_EQ(live(kEve, writer), (Numbers{2, 4}));
  box.close_cleanly();  // Half way.
  box.open();
  ASSERT_TRUE(store().kept_writer());
  EXPECT_EQ(store().append(entry(kEve, 3, 6)).dot.n, 5u);
  settle_all(box);
  EXPECT_EQ(live(kAlice, writer), (Numbers{1, 3, 4}));
  EXPECT_EQ(live(kEve, writer), (Numbers{2, 4, 5}));
}

TEST_F(SplitOfOne, IsDurableWithWhatWasPutInTheSameTurn) {
  fill();
  ASSERT_TRUE(store().split().ok());
  store().put(Store::Family::kNode, "ring", "doubled");
  box.lose_power();
  box.open();
  EXPECT_EQ(store().partitions(), kTestPartitions);
  EXPECT_FALSE(store().get(Store::Family::kNode, "ring"));
  EXPECT_TRUE(store().is_split_settled());
  ASSERT_TRUE(store().split().ok());
  store().put(Store::Family::kNode, "ring", "doubled");
  box.sync();
  box.lose_power();
  box.open();
  EXPECT_EQ(store().partitions(), kAfter);
  EXPECT_EQ(store().get(Store::Family::kNode, "ring"), "doubled");
  EXPECT_FALSE(store().is_split_settled());
  EXPECT_EQ(live(kEve), (Numbers{2, 4}));
}

TEST_F(SplitOfOne, MayBeDoneAgainOnceItIsSettled) {
  fill();
  split();
  EXPECT_EQ(store().split().code(), Errc::kOverloaded);
  settle_all(box);
  split();
  EXPECT_EQ(store().partitions(), 2 * kAfter);
  settle_all(box);
  EXPECT_EQ(live(kAlice), (Numbers{1, 3}));
  EXPECT_EQ(live(kEve), (Numbers{2, 4}));
  EXPECT_EQ(box.scrub().mended, 0u);
}

TEST_F(SplitOfOne, EndsAtTheMostPartitionsThereCanBe) {
  StoreBox most;
  open_with(most, kSlotCount / 2);
  ASSERT_TRUE(most.store->apply(most.store->partition_of(kEve), Dot{kPeer, 1},
                                encode(entry(kEve, 1, 1), Dot{kPeer, 1})).ok());
  most.sync();
  ASSERT_TRUE(most.store->split().ok());
  settle_all(most);
  EXPECT_EQ(page_of(most, kEve).size(), 1u);
  EXPECT_EQ(most.store->split().code(), Errc::kInvalid);
}

TEST_F(SplitOfOne, NothingIsDroppedOrInstalledBeforeItIsSettled) {
  fill();
  split();
  EXPECT_EQ(store().drop(of(kAlice)).code(), Errc::kOverloaded);
  const PartitionId other = of(kCarol);
  EXPECT_FALSE(store().install(std::span(&other, 1)).ok());
  settle_all(box);
  ASSERT_TRUE(store().drop(of(kAlice)).ok());
  box.sync();
  EXPECT_EQ(live(kEve), (Numbers{2, 4}));
  EXPECT_TRUE(store().vector(of(kAlice)).empty());
  auto install = store().install(std::span(&other, 1));
  ASSERT_TRUE(install.ok());
  EXPECT_EQ(store().split().code(), Errc::kOverloaded);
}

TEST_F(SplitOfOne, OurDotsInADroppedPartitionAreCountedInBothChildren) {
  store().append(entry(kAlice, 1, 1));
  store().append(entry(kEve, 1, 2));
  box.sync();
  ASSERT_TRUE(store().drop(of(kAlice)).ok());
  ASSERT_TRUE(store().split().ok());  // In one batch.
  EXPECT_FALSE(store().is_whole(of(kEve)));
  box.sync();
  EXPECT_TRUE(store().touched().empty());
  for (int restart = 0; restart < 2; ++restart) {
    EXPECT_EQ(store().issued(of(kAlice)), 2u);
    EXPECT_EQ(store().issued(of(kEve)), 2u);
    if (restart == 0) {
      box.close_cleanly();
      box.open();
    }
  }
}

// Rows of the journal from before say partitions of twice the width.
TEST_F(SplitOfOne, WhatWasDroppedBeforeDoesNotComeBackWithACrash) {
  const LaneRow lanes[] = {{kAlice, device(1), 5, 7}, {kEve, device(1), 5, 8}};
  ASSERT_TRUE(store().merge_lanes(of(kAlice), lanes).ok());
  box.sync();
  ASSERT_TRUE(store().drop(of(kAlice)).ok());
  box.sync();
  split();
  box.lose_power();
  box.open();
  EXPECT_EQ(store().partitions(), kAfter);
  EXPECT_EQ(store().lane_high(kAlice, device(1), 5), 0u);
  EXPECT_EQ(store().lane_high(kEve, device(1), 5), 0u);
  EXPECT_THAT(*store().read_lanes(of(kEve), std::nullopt, 9), IsEmpty());
}

TEST_F(SplitOfOne, ItsFormatIsKeptForGood) {
  fill();
  box.close_cleanly();
  EXPECT_EQ(node_number(kNodeFormat), kFormatClosed);
  box.open();
  split();
  box.close_cleanly();
  EXPECT_EQ(node_number(kNodeFormat), kFormatSplit);
  EXPECT_TRUE(has_node(kNodeSplit));
  box.open();
  settle_all(box);
  box.close_cleanly();
  EXPECT_EQ(node_number(kNodeFormat), kFormatSplit);
  EXPECT_FALSE(has_node(kNodeSplit));
}

// A record that cannot be read is of either child: one hears that it is gone there, the other gets it.
TEST_F(SplitOfOne, ADamagedRecordIsMendedInTheChildThatItIsOf) {
  fill();
  const Dot dot{kPeer, 2};
  const auto bytes = encode(entry(kEve, 1, 2), dot);
  box.close_cleanly();
  box.tamper(ColumnFamily::kLog, 1, [](Bytes& value) { value[value.size() / 2] ^= 1; });
  box.open();
  split();
  settle_all(box);
  EXPECT_THAT(store().damaged(of(kAlice)), ElementsAre(dot));
  EXPECT_THAT(store().damaged(of(kEve)), ElementsAre(dot));
  EXPECT_EQ(store().read_mailbox(kEve, {}, 9, 1 << 20).code(), Errc::kCorrupt);
  ASSERT_TRUE(store().mend(of(kEve), dot, bytes).ok());
  const RangeStatement gone{kPeer, 2, 2, {}, {}};
  for (int i = 0; i < 9; ++i) {
    const auto mended = store().mend(of(kAlice), gone);
    if (mended) break;
    ASSERT_EQ(mended.code(), Errc::kOverloaded);
  }
  box.sync();
  EXPECT_TRUE(store().damaged_partitions().empty());
  EXPECT_EQ(live(kAlice), (Numbers{1, 3}));
  EXPECT_EQ(live(kEve), (Numbers{2, 4}));
  EXPECT_EQ(box.scrub().damaged, 0u);
}

TEST_F(SplitOfOne, DamageThatWasKnownBeforeIsKnownInBothChildrenAfterARestart) {
  fill();
  box.close_cleanly();
  box.tamper(ColumnFamily::kLog, 1, [](Bytes& value) { value[value.size() / 2] ^= 1; });
  box.open();
  EXPECT_GT(box.scrub().damaged, 0u);
  split();
  box.lose_power();
  box.open();
  EXPECT_THAT(store().damaged(of(kAlice)), ElementsAre(Dot{kPeer, 2}));
  EXPECT_THAT(store().damaged(of(kEve)), ElementsAre(Dot{kPeer, 2}));
}

// Mended in the batch before, which is on its way.
TEST_F(SplitOfOne, DamageThatIsBeingMendedEndsInBothChildren) {
  fill();
  const Dot dot{kPeer, 2};
  box.close_cleanly();
  box.tamper(ColumnFamily::kLog, 1, [](Bytes& value) { value[value.size() / 2] ^= 1; });
  box.open();
  (void)box.scrub();
  ASSERT_TRUE(store().mend(of(kEve), dot, encode(entry(kEve, 1, 2), dot)).ok());
  store().flush();
  ASSERT_TRUE(store().split().ok());
  box.sync();
  EXPECT_TRUE(store().damaged_partitions().empty());
  settle_all(box);
  EXPECT_EQ(live(kEve), (Numbers{2, 4}));
  box.lose_power();
  box.open();
  EXPECT_TRUE(store().damaged_partitions().empty());
}

// Rows of one child lie in files of the other.
TEST_F(SplitOfOne, AFileThatCannotBeReadEmptiesBothChildren) {
  fill();
  split();
  const auto children = std::vector{of(kAlice), of(kEve)};
  box.store.reset();
  box.compact();
  box.rot(ColumnFamily::kLog);
  box.open();
  (void)store().read_writer(of(kAlice), kPeer, 1, 1 << 20);
  EXPECT_EQ(store().to_refill(), children);
  ASSERT_TRUE(store().permit_refill().ok());
  box.store.reset();
  box.open();
  EXPECT_EQ(store().refilled(), children);
  settle_all(box);
  EXPECT_TRUE(store().touched().empty());
  EXPECT_TRUE(page_of(box, kEve).empty());
}

// The store may open with the numbering of before: a mark of a child would empty half of a neighbour then.
TEST_F(SplitOfOne, AFileThatIsFoundUnreadableBeforeTheSplitIsOnDiskMarksNoNumberOfAChild) {
  fill();
  box.sync();
  box.store.reset();
  box.compact();
  box.rot(ColumnFamily::kLog);
  box.open();
  ASSERT_TRUE(store().split().ok());
  (void)store().read_writer(of(kAlice), kPeer, 1, 1 << 20);
  ASSERT_FALSE(store().to_refill().empty());
  box.lose_power();
  box.open();
  ASSERT_EQ(store().partitions(), kTestPartitions);
  const auto marked = store().to_refill();
  ASSERT_FALSE(marked.empty());
  EXPECT_EQ(std::set(marked.begin(), marked.end()).size(), marked.size());
}

TEST_F(SplitOfOne, WhatExpiredStaysHiddenAndIsErasedWhereverItLies) {
  for (const std::uint64_t n : {1, 2}) {
    auto change = entry(n == 1 ? kAlice : kEve, 1, n);
    change.entry.expires_ms = 10'000;
    apply(n, change);
  }
  apply(3, entry(kEve, 2, 3));
  box.sync();
  split();
  EXPECT_EQ(live(kEve), (Numbers{2, 3}));
  store().set_expiry_time(20'000);
  box.sync();
  EXPECT_EQ(live(kEve), (Numbers{3}));
  settle_all(box);
  EXPECT_EQ(live(kEve), (Numbers{3}));
  EXPECT_EQ(live(kAlice), Numbers{});
  box.close_cleanly();
  auto expiry = std::make_shared<ExpiryTime>();
  expiry->advance(20'000);
  box.compact(expiry);
  EXPECT_EQ(box.rows({ColumnFamily::kLog}).front().size(), 1u);
}

TEST_F(SplitOfOne, ARunWithNothingLeftInOneChildIsForgottenThereAlone) {
  apply(1, entry(kEve, 1, 1));
  box.sync();
  split();
  EXPECT_TRUE(store().is_spent(of(kAlice), kPeer));
  EXPECT_FALSE(store().is_spent(of(kEve), kPeer));
  ASSERT_TRUE(store().forget(of(kAlice), kPeer));
  box.sync();
  EXPECT_TRUE(store().vector(of(kAlice)).empty());
  EXPECT_EQ(live(kEve), (Numbers{1}));
  settle_all(box);
  EXPECT_EQ(live(kEve), (Numbers{1}));
}

// --- What is held for others. ---

TEST_F(SplitOfOne, ASegmentHeldForOthersHasNoHolesInEitherChild) {
  const auto parent = of(kAlice);
  for (std::uint64_t n = 3; n <= 6; ++n) {
    const auto change = entry(n % 2 == 1 ? kAlice : kEve, n, n);
    EXPECT_TRUE(store().hold(parent, {kPeer, n}, encode(change, {kPeer, n})));
  }
  box.sync();
  ASSERT_TRUE(store().split().ok());
  const auto next = encode(entry(kEve, 7, 7), {kPeer, 7});
  EXPECT_FALSE(store().hold(of(kEve), {kPeer, 7}, next));
  EXPECT_THAT(store().hints(), IsEmpty());
  box.sync();
  box.lose_power();
  box.open();
  settle_all(box);
  EXPECT_EQ(store().hints().size(), 8u);
  EXPECT_TRUE(store().hold(of(kEve), {kPeer, 7}, next));
  box.sync();
  const auto sizes = [&](const MailboxId& mailbox) {
    std::vector<std::pair<std::uint64_t, bool>> out;  // And whether it is here.
    for (const auto& change : store().read_held(of(mailbox), {kPeer, 3}, 1 << 20)) {
      out.emplace_back(change.dot.n, !change.bytes->empty());
    }
    return out;
  };
  using Pair = std::pair<std::uint64_t, bool>;
  EXPECT_THAT(sizes(kAlice), ElementsAre(Pair(3, true), Pair(4, false), Pair(5, true), Pair(6, false)));
  const auto of_eve = sizes(kEve);
  EXPECT_THAT(of_eve, ElementsAre(Pair(3, false), Pair(4, true), Pair(5, false), Pair(6, true), Pair(7, true)));
  store().release(of(kAlice), kPeer);
  box.sync();
  EXPECT_THAT(sizes(kAlice), IsEmpty());
  EXPECT_EQ(sizes(kEve), of_eve);
}

// It is of one of the children, and nobody can tell of which: that is said, and the rest has its place.
TEST_F(SplitOfOne, ADamagedChangeHeldForOthersIsSaidAndHoldsUpNothing) {
  const auto parent = of(kAlice);
  for (std::uint64_t n = 3; n <= 6; ++n) {
    Bytes bytes = encode(entry(n % 2 == 1 ? kAlice : kEve, n, n), {kPeer, n});
    if (n == 4) bytes.back() ^= 1;
    EXPECT_TRUE(store().hold(parent, {kPeer, n}, bytes));
  }
  box.sync();
  std::vector<Damage> said;
  store().on_damage([&](const Damage& damage) { said.push_back(damage); });
  EXPECT_EQ(store().read_held(parent, {kPeer, 3}, 1 << 20).size(), 1u) << "it is not handed on, nor what lies behind it";
  ASSERT_EQ(said.size(), 1u);
  ASSERT_TRUE(store().split().ok());
  box.sync();
  settle_all(box);
  EXPECT_EQ(store().read_held(of(kEve), {kPeer, 5}, 1 << 20).size(), 2u);
  EXPECT_EQ(store().read_held(of(kAlice), {kPeer, 5}, 1 << 20).size(), 2u);
  EXPECT_EQ(said.size(), 1u) << "once";
  EXPECT_THAT(said[0].text, ::testing::HasSubstr("held here for its owners"));
}

}  // namespace
}  // namespace starling::storage
