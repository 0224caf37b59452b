// Retention: what is expired is hidden at once and erased by compaction; lanes live on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/storage/support.h"
#include "storage/export.h"

namespace starling::storage {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::closing;
using testing::entry;
using testing::kAlice;
using testing::kBob;
using testing::kPeer;
using testing::reg;
using testing::StoreBox;

constexpr std::uint64_t kRetentionDay = 86'400'000;

TEST(Expiry, IsInWholeSecondsAndNeverEarly) {
  EXPECT_EQ(expiry_seconds(0), 0u);
  EXPECT_EQ(expiry_seconds(1), 1u);
  EXPECT_EQ(expiry_seconds(1000), 1u);
  EXPECT_EQ(expiry_seconds(1001), 2u);
  EXPECT_EQ(expiry_seconds(~std::uint64_t{0}), ~ExpirySeconds{0});
  EXPECT_FALSE(is_expired(2, 1999));
  EXPECT_TRUE(is_expired(2, 2000));
  EXPECT_FALSE(is_expired(0, ~std::uint64_t{0}));  // 0: never.
  EXPECT_FALSE(is_expired(1, 0));
}

class StoreRetention : public ::testing::Test {
 protected:
  void SetUp() override { box.open(); }
  Store& store() { return *box.store; }
  PartitionId part() { return store().partition_of(kAlice); }
  // Day n expires at the end of day n.
  void apply(std::uint64_t n, ChangeView change, std::uint64_t day) {
    change.entry.expires_ms = day * kRetentionDay;
    const Dot dot{kPeer, n};
    const auto done = store().apply(part(), dot, encode(change, dot));
    ASSERT_TRUE(done.ok()) << done.error().text;
  }
  void six_days() {
    for (std::uint64_t n = 1; n <= 6; ++n) apply(n, entry(kAlice, n, n), n);
    apply(7, reg(kAlice, "k", "v", 7), 0);
    apply(8, entry(kAlice, 8, 8), 0);  // Kept for ever.
    box.sync();
  }
  void expire(std::uint64_t ms) {
    store().set_expiry_time(ms);
    box.sync();
  }
  std::vector<std::uint64_t> in_mailbox() {
    std::vector<std::uint64_t> out;
    const auto page = store().read_mailbox(kAlice, {}, 99, 1 << 20);
    EXPECT_TRUE(page.ok()) << page.error().text;
    if (page) {
      for (const auto& change : page->changes) out.push_back(change.dot.n);
    }
    return out;
  }
  std::vector<std::uint64_t> in_history() {
    std::vector<std::uint64_t> out;
    const auto found = store().history(kAlice, kBob, {}, 99);
    EXPECT_TRUE(found.ok()) << found.error().text;
    if (found) {
      for (const auto& change : *found) out.push_back(change.dot.n);
    }
    return out;
  }
  bool has_key(std::uint64_t seq) {
    return store().find_key(kAlice, {testing::device(1), 5, seq}).has_value();
  }
  StoreBox box;
};

TEST_F(StoreRetention, HidesFromEveryReadWhatIsExpired) {
  six_days();
  EXPECT_THAT(in_mailbox(), ElementsAre(1, 2, 3, 4, 5, 6, 7, 8));
  expire(3 * kRetentionDay);
  EXPECT_EQ(store().expiry_time(), 3 * kRetentionDay);
  EXPECT_THAT(in_mailbox(), ElementsAre(4, 5, 6, 7, 8));
  EXPECT_THAT(in_history(), ElementsAre(8, 6, 5, 4));
  EXPECT_FALSE(has_key(3));
  EXPECT_TRUE(has_key(4));
  EXPECT_EQ(store().read_change(part(), {kPeer, 3}).code(), Errc::kNotFound);
  EXPECT_TRUE(store().is_whole(part()));  // Gone is not damaged.
}

TEST_F(StoreRetention, WhatIsHiddenCountsAsSeenByACursor) {
  six_days();
  expire(3 * kRetentionDay);
  const auto page = store().read_mailbox(kAlice, {}, 1, 1 << 20);
  EXPECT_EQ(page->changes.size(), 1u);
  EXPECT_EQ(page->cursor.get(kPeer), 4u);
  expire(7 * kRetentionDay);
  EXPECT_EQ(store().read_mailbox(kAlice, {}, 99, 1 << 20)->cursor.get(kPeer), 8u);
}

TEST_F(StoreRetention, OfADamagedChangeItsOtherRowsTellWhetherItExpired) {
  six_days();
  const auto tamper = [&](ColumnFamily family, std::size_t row) {
    box.close_cleanly();
    box.tamper(family, row, [](Bytes& value) { value[value.size() / 2] ^= 1; });
    box.open();
  };
  for (std::size_t row = 0; row < 8; ++row) tamper(ColumnFamily::kLog, row);
  box.scrub();
  ASSERT_EQ(store().damaged(part()).size(), 8u);
  const auto past = [&] {
    std::vector<std::uint64_t> out;
    for (std::uint64_t n = 1; n <= 8; ++n) {
      if (store().is_past(part(), {kPeer, n})) out.push_back(n);
    }
    return out;
  };
  EXPECT_THAT(past(), ElementsAre());
  expire(3 * kRetentionDay);
  EXPECT_THAT(past(), ElementsAre(1, 2, 3));
  box.close_cleanly();
  auto expiry = std::make_shared<ExpiryTime>();
  expiry->advance(3 * kRetentionDay);
  box.compact(expiry);
  ASSERT_EQ(box.rows({ColumnFamily::kMailboxDots}).front().size(), 5u);
  ASSERT_EQ(box.rows({ColumnFamily::kLog}).front().size(), 8u);
  box.open();
  EXPECT_THAT(past(), ElementsAre(1, 2, 3));
}

// Which of the partition's mailboxes the change was in nobody knows; a call looks at a bounded number of them.
TEST_F(StoreRetention, TheMailboxOfADamagedChangeIsSearchedAPartAtATime) {
  constexpr std::uint64_t kMailboxes = 1'000;
  for (std::uint64_t n = 1; n <= kMailboxes; ++n) {
    MailboxId mailbox = kAlice;
    mailbox.raw[MailboxId::kSize - 2] = static_cast<std::uint8_t>(n >> 8);
    mailbox.raw[MailboxId::kSize - 1] = static_cast<std::uint8_t>(n);
    auto change = testing::entry(mailbox, n, hlc_at(kRetentionDay), "x", kPeer);
    change.entry.expires_ms = 2 * kRetentionDay;
    ASSERT_TRUE(store().apply(part(), {kPeer, n}, storage::encode(change, {kPeer, n})).ok());
  }
  box.sync();
  box.close_cleanly();
  box.tamper(ColumnFamily::kLog, kMailboxes - 1, [](Bytes& value) { value[value.size() / 2] ^= 1; });
  box.open();
  box.scrub();
  const auto damaged = store().damaged(part());
  ASSERT_EQ(damaged.size(), 1u);
  EXPECT_FALSE(store().is_past(part(), damaged[0]));
  expire(3 * kRetentionDay);
  std::size_t calls = 1;
  while (!store().is_past(part(), damaged[0])) ASSERT_LT(++calls, 10u);
  EXPECT_GT(calls, 1u) << "a thousand mailboxes in one call";
  EXPECT_TRUE(store().is_past(part(), damaged[0])) << "found at once from then on";
}

TEST_F(StoreRetention, ARunSaysThatTheExpiredIsGoneErasedOrNot) {
  six_days();
  for (const bool erased : {false, true}) {
    expire(3 * kRetentionDay);
    if (erased) {
      box.close_cleanly();
      auto expiry = std::make_shared<ExpiryTime>();
      expiry->advance(3 * kRetentionDay);
      box.compact(expiry);
      box.open();
    }
    const auto range = store().read_writer(part(), kPeer, 1, 1 << 20);
    ASSERT_TRUE(range.ok());
    EXPECT_EQ(range->to, 8u);
    ASSERT_EQ(range->live.size(), 5u);
    EXPECT_EQ(range->live[0].n, 4u);
    StoreBox copy;
    copy.open();
    ASSERT_TRUE(copy.store->apply(part(), *range).ok());
    copy.sync();
    EXPECT_EQ(copy.store->vector(part()), store().vector(part()));
    EXPECT_EQ(copy.scrub().damaged + box.scrub().damaged, 0u);
  }
}

TEST_F(StoreRetention, ARunShowsTheExpiredToWhoKeepsACopyOfTheLog) {
  six_days();
  expire(3 * kRetentionDay);
  const auto shown = store().read_writer(part(), kPeer, 1, 1 << 20, Store::Expired::kShown);
  ASSERT_TRUE(shown.ok());
  EXPECT_EQ(shown->to, 8u);
  ASSERT_EQ(shown->live.size(), 8u);
  StoreBox copy;
  copy.open();
  ASSERT_TRUE(copy.store->apply(part(), *shown).ok());
  copy.sync();
  EXPECT_EQ(copy.store->vector(part()), store().vector(part()));
}

TEST_F(StoreRetention, ALongExpiredRunIsReadInBoundedSteps) {
  const Bytes body(1000, 'b');
  for (std::uint64_t n = 1; n <= 200; ++n) apply(n, entry(kAlice, n, n, body), 1);
  box.sync();
  expire(2 * kRetentionDay);
  std::uint64_t at = 1, steps = 0;
  while (at <= 200) {
    const auto range = store().read_writer(part(), kPeer, at, 2000);
    ASSERT_TRUE(range.ok());
    EXPECT_THAT(range->live, IsEmpty());
    ASSERT_GE(range->to, at);
    at = range->to + 1;
    ++steps;
  }
  EXPECT_GT(steps, 5u);
}

TEST_F(StoreRetention, CompactionErasesInEveryFamilyAndLeavesTheLane) {
  six_days();
  expire(6 * kRetentionDay);
  box.close_cleanly();
  auto expiry = std::make_shared<ExpiryTime>();
  expiry->advance(6 * kRetentionDay);
  box.compact(expiry);
  const auto rows = box.rows({ColumnFamily::kLog, ColumnFamily::kEntries, ColumnFamily::kKeys,
                              ColumnFamily::kMailboxDots, ColumnFamily::kLanes});
  EXPECT_EQ(rows[0].size(), 2u);  // The register and what never expires.
  EXPECT_EQ(rows[1].size(), 1u);
  EXPECT_EQ(rows[2].size(), 1u);
  EXPECT_EQ(rows[3].size(), 2u);
  EXPECT_EQ(rows[4].size(), 1u);
  box.open();
  EXPECT_THAT(in_mailbox(), ElementsAre(7, 8));
  EXPECT_EQ(store().vector(part()).get(kPeer), 8u);
  EXPECT_EQ(box.scrub().damaged, 0u);
}

TEST_F(StoreRetention, CompactionErasesNothingWhileNothingExpires) {
  six_days();
  box.close_cleanly();
  box.compact();
  EXPECT_EQ(box.rows({ColumnFamily::kLog}).front().size(), 8u);
  box.open();
}

// A damaged record whose time seems to be over is not erased as if it were: the bit may lie.
TEST_F(StoreRetention, ARecordThatDoesNotCheckIsNotErased) {
  six_days();
  box.close_cleanly();
  box.tamper(ColumnFamily::kLog, 5, [](Bytes& value) { value[95] = 0; });  // Inside expires_ms.
  auto expiry = std::make_shared<ExpiryTime>();
  expiry->advance(3 * kRetentionDay);
  box.compact(expiry);
  EXPECT_EQ(box.rows({ColumnFamily::kLog}).front().size(), 5u);
  box.open();
}

TEST_F(StoreRetention, TheTimeMovesForwardOnlyAndOnlyOnceDurable) {
  six_days();
  store().set_expiry_time(3 * kRetentionDay);
  EXPECT_EQ(store().expiry_time(), 0u);
  EXPECT_EQ(in_mailbox().size(), 8u);
  store().flush();
  EXPECT_EQ(store().expiry_time(), 0u);
  box.commits.finish_all();
  EXPECT_EQ(store().expiry_time(), 3 * kRetentionDay);
  expire(2 * kRetentionDay);
  EXPECT_EQ(store().expiry_time(), 3 * kRetentionDay);
  expire(0);
  EXPECT_EQ(store().expiry_time(), 3 * kRetentionDay);
  const auto commits = store().stats().commits;
  expire(3 * kRetentionDay + 9'999);  // Less than a step: costs nothing.
  EXPECT_EQ(store().stats().commits, commits);
  box.lose_power();
  box.open();
  EXPECT_EQ(store().expiry_time(), 3 * kRetentionDay);
  EXPECT_THAT(in_mailbox(), ElementsAre(4, 5, 6, 7, 8));
}

// Of a writer whose run is over (hazards F40).
TEST_F(StoreRetention, ASpentRunIsForgottenAsIfItHadNeverBeen) {
  for (std::uint64_t n = 1; n <= 3; ++n) apply(n, entry(kAlice, n, n), n);
  box.sync();
  EXPECT_FALSE(store().is_spent(part(), kPeer));
  expire(2 * kRetentionDay);
  EXPECT_FALSE(store().is_spent(part(), kPeer)) << "the third is live";
  EXPECT_FALSE(store().forget(part(), kPeer));
  EXPECT_EQ(store().synced(part(), kPeer), 3u);
  expire(3 * kRetentionDay);
  EXPECT_TRUE(store().is_spent(part(), kPeer));
  EXPECT_TRUE(store().forget(part(), kPeer));
  EXPECT_EQ(store().held(part(), kPeer), 0u);
  EXPECT_FALSE(store().is_spent(part(), kPeer)) << "not known any more";
  box.sync();
  EXPECT_THAT(store().touched(), ::testing::IsEmpty());
  box.lose_power();
  for (const auto& rows : box.rows({ColumnFamily::kLog, ColumnFamily::kPartitions})) EXPECT_THAT(rows, ::testing::IsEmpty());
  box.open();
  EXPECT_EQ(store().held(part(), kPeer), 0u);
}

TEST_F(StoreRetention, ARunIsNotSpentWhileARegisterStandsOrItIsOurOwnOrOnItsWay) {
  six_days();
  expire(100 * kRetentionDay);
  EXPECT_FALSE(store().is_spent(part(), kPeer)) << "a register, and an entry that is kept for ever";
  auto own = entry(kAlice, 20, 20);
  own.entry.expires_ms = kRetentionDay;
  store().append(own);
  box.sync();
  EXPECT_FALSE(store().is_spent(part(), store().writer()));
  const Dot dot{WriterId{501}, 1};
  auto gone = entry(kAlice, 21, 21);
  gone.entry.expires_ms = kRetentionDay;
  ASSERT_TRUE(store().apply(part(), dot, encode(gone, dot)).ok());
  EXPECT_FALSE(store().is_spent(part(), dot.writer)) << "not synced yet";
  box.sync();
  EXPECT_TRUE(store().is_spent(part(), dot.writer));
}

TEST_F(StoreRetention, WhatWasForgottenCanBeLearntAgain) {
  apply(1, entry(kAlice, 1, 1), 1);
  box.sync();
  expire(kRetentionDay);
  ASSERT_TRUE(store().forget(part(), kPeer));
  ASSERT_TRUE(store().apply(part(), RangeStatement{kPeer, 1, 7, {}, {}}).ok());  // In the same batch.
  EXPECT_EQ(store().held(part(), kPeer), 7u);
  box.sync();
  box.lose_power();
  box.open();
  EXPECT_EQ(store().synced(part(), kPeer), 7u);
}

// What protects from a duplicate when the key is gone: the lane knows that the number was used.
TEST_F(StoreRetention, ANumberWhoseKeyIsGoneIsStillUsed) {
  six_days();
  expire(6 * kRetentionDay);
  box.close_cleanly();
  auto expiry = std::make_shared<ExpiryTime>();
  expiry->advance(6 * kRetentionDay);
  box.compact(expiry);
  box.open();
  EXPECT_FALSE(has_key(5));
  EXPECT_GE(store().lane_high(kAlice, testing::device(1), 5), 5u);
}

// Catching up behind the expiry: the run says "gone", the lanes come by themselves.
TEST_F(StoreRetention, LanesOfWhatIsGoneAreReadFromAnotherOwner) {
  for (std::uint64_t n = 1; n <= 5; ++n) {
    auto change = entry(n % 2 == 0 ? kAlice : kBob, n, n);
    change.entry.key.device = testing::device(static_cast<std::uint8_t>(n));
    apply(n, change, 1);
  }
  box.sync();
  expire(2 * kRetentionDay);
  StoreBox copy;
  copy.open();
  ASSERT_TRUE(copy.store->apply(part(), *store().read_writer(part(), kPeer, 1, 1 << 20)).ok());
  copy.sync();
  EXPECT_EQ(copy.store->lane_high(kAlice, testing::device(4), 5), 0u);
  std::vector<LaneRow> all;
  std::optional<LaneRow> after;
  while (true) {
    const auto page = store().read_lanes(part(), after, 2);
    ASSERT_TRUE(page.ok());
    if (page->empty()) break;
    EXPECT_LE(page->size(), 2u);
    after = page->back();
    all.insert(all.end(), page->begin(), page->end());
    ASSERT_TRUE(copy.store->merge_lanes(part(), *page).ok());
  }
  EXPECT_EQ(all.size(), 5u);
  EXPECT_EQ(copy.store->lane_high(kAlice, testing::device(4), 5), 4u);
  copy.sync();
  const auto digest = [&](StoreBox& of) {
    const auto out = of.store->export_partition(part(), 2 * kRetentionDay);
    while (*out->next()) {
    }
    return out->digest();
  };
  EXPECT_EQ(digest(copy), digest(box));
  const LaneRow lower{kAlice, testing::device(4), 5, 1};
  ASSERT_TRUE(copy.store->merge_lanes(part(), {&lower, 1}).ok());
  EXPECT_EQ(copy.store->lane_high(kAlice, testing::device(4), 5), 4u);
  all.front().mailbox = testing::kCarol;
  EXPECT_EQ(copy.store->merge_lanes(part(), all).code(), Errc::kInvalid);
}

TEST_F(StoreRetention, VoidsExpireLikeTheirContents) {
  apply(1, entry(kAlice, 1, 1), 2);
  apply(2, closing(kAlice, 1, 5), 2);
  box.sync();
  EXPECT_TRUE(has_key(1));
  expire(2 * kRetentionDay);
  EXPECT_FALSE(has_key(1));
  EXPECT_THAT(in_mailbox(), IsEmpty());
}

// RocksDB's own threads: an idle store is compacted when its files are due.
TEST(StoreRetentionInTheBackground, AnIdleFamilyIsErasedToo) {
  testing::CrashEnv disk;
  EngineOptions options{"/store", disk.env(), true};
  options.compaction_period_s = 1;
  auto expiry = std::make_shared<ExpiryTime>();
  options.expiry = expiry;
  auto engine = *Engine::open(options);
  ChangeView change = entry(kAlice, 1, 1);
  change.entry.expires_ms = kRetentionDay;
  const Dot dot{kPeer, 1};
  rocksdb::WriteBatch batch;
  engine->put(batch, ColumnFamily::kLog, log_key(0, dot).view(), encode(change, dot));
  engine->put(batch, ColumnFamily::kMailboxDots, mailbox_dot_key(kAlice, dot).view(),
              mailbox_dot_value({ChangeKind::kEntry, {1, kPeer}, expiry_seconds(kRetentionDay)}).view());
  ASSERT_TRUE(engine->write_synced(batch).ok());
  expiry->advance(2 * kRetentionDay);
  const auto gone = [&](ColumnFamily family) {
    Engine::Scan rows(*engine, family, {});
    rows->SeekToFirst();
    return !rows.valid();
  };
  testing::eventually([&] {
    engine->tend();
    return gone(ColumnFamily::kLog) && gone(ColumnFamily::kMailboxDots);
  }, std::chrono::milliseconds(50));
  EXPECT_TRUE(gone(ColumnFamily::kLog));
  EXPECT_TRUE(gone(ColumnFamily::kMailboxDots));
}

}  // namespace
}  // namespace starling::storage
