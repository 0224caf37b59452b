// Reading: pages of a mailbox, ranges of a log, history, damage.
#include <map>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage/rocks/rocks_store.h"
#include "tests/storage/support.h"

namespace starling::storage {
namespace {

using testing::entry;
using testing::kAlice;
using testing::kBob;
using testing::kCarol;
using testing::reg;
using testing::StoreBox;

class StoreRead : public ::testing::Test {
 protected:
  void SetUp() override { box.open(); }
  Store& store() { return *box.store; }
  PartitionId part() { return store().partition_of(kAlice); }
  void apply(const Dot& dot, const ChangeView& change) {
    const auto partition = store().partition_of(change.mailbox);
    const auto result = store().apply(partition, dot, encode(change, dot));
    ASSERT_TRUE(result.ok()) << result.error().text;
    ASSERT_EQ(*result, Applied::kNew);
  }
  StoreBox box;
};

TEST_F(StoreRead, PagesReturnEveryChangeOfTheMailboxOnce) {
  SeededRandom random(5);
  std::set<Dot> expected;
  const std::uint64_t runs = 7;
  for (std::uint64_t n = 1; n <= 120; ++n) {
    for (std::uint64_t writer = 1; writer <= runs; ++writer) {
      const MailboxId& mailbox = random.below(3) == 0 ? kBob : kAlice;
      const Dot dot{WriterId{writer}, n};
      const Hlc time = 1 + random.below(10'000);
      if (random.below(5) == 0) {
        apply(dot, reg(mailbox, "k", "v", time));
      } else {
        apply(dot, entry(mailbox, n, time, "body", WriterId{writer}));
      }
      if (mailbox == kAlice) expected.insert(dot);
    }
    if (n % 10 == 0) box.sync();
  }
  box.sync();
  for (const std::size_t page_size : {1u, 7u, 33u, 1000u}) {
    std::set<Dot> seen;
    VersionVector cursor;
    bool more = true;
    while (more) {
      const auto page = store().read_mailbox(kAlice, cursor, page_size, 1 << 20);
      ASSERT_TRUE(page.ok()) << page.error().text;
      EXPECT_LE(page->changes.size(), page_size);
      EXPECT_EQ(page->covered, store().vector(part()));
      EXPECT_TRUE(page->cursor.covers(cursor));
      std::map<WriterId, std::uint64_t> last;
      for (const auto& change : page->changes) {
        EXPECT_TRUE(seen.insert(change.dot).second) << "twice";
        EXPECT_FALSE(cursor.covers(change.dot));
        EXPECT_TRUE(page->cursor.covers(change.dot));
        EXPECT_GT(change.dot.n, last[change.dot.writer]);
        last[change.dot.writer] = change.dot.n;
      }
      more = page->more;
      EXPECT_TRUE(!more || !page->changes.empty());
      cursor = page->cursor;
    }
    EXPECT_EQ(seen, expected) << page_size;
  }
}

// A large roster between two messages: the cursor passes it, a bounded number of rows at a time.
TEST_F(StoreRead, RegistersCanBeLeftOutOfAPageAndCountAsRead) {
  const std::uint64_t count = kRowsPassedMax + 10;
  apply({WriterId{1}, 1}, entry(kAlice, 1, 1));
  for (std::uint64_t n = 2; n < count; ++n) {
    apply({WriterId{1}, n}, reg(kAlice, "member/@" + std::to_string(n), "v", n));
  }
  apply({WriterId{1}, count}, entry(kAlice, 2, count));
  box.sync();
  VersionVector cursor;
  std::vector<std::uint64_t> seen;
  std::size_t pages = 0;
  for (bool more = true; more && pages < 5; ++pages) {
    const auto page = store().read_mailbox(kAlice, cursor, 99, 1 << 20, Store::Kinds::kEntries);
    ASSERT_TRUE(page.ok()) << page.error().text;
    for (const auto& change : page->changes) seen.push_back(change.dot.n);
    EXPECT_TRUE(page->cursor.covers(cursor) && page->cursor != cursor);
    more = page->more;
    cursor = page->cursor;
  }
  EXPECT_EQ(pages, 2u);
  EXPECT_EQ(seen, (std::vector<std::uint64_t>{1, count}));
  EXPECT_EQ(cursor, *store().mailbox_vector(kAlice));
}

// What a reader of the whole mailbox has as its cursor, and nothing of other mailboxes.
TEST_F(StoreRead, TheVectorOfAMailboxIsTheCursorAtItsEnd) {
  EXPECT_TRUE(store().mailbox_vector(kAlice)->empty());
  for (std::uint64_t n = 1; n <= 30; ++n) {
    for (const std::uint64_t writer : {std::uint64_t{1}, std::uint64_t{2}, ~std::uint64_t{0}}) {
      apply({WriterId{writer}, n}, entry((n + writer) % 3 == 0 ? kBob : kAlice, n, 10 * n, "x", WriterId{writer}));
    }
  }
  box.sync();
  for (const auto& mailbox : {kAlice, kBob, kCarol}) {
    const auto page = store().read_mailbox(mailbox, {}, 1000, 1 << 20);
    ASSERT_TRUE(page.ok());
    const auto vector = store().mailbox_vector(mailbox);
    ASSERT_TRUE(vector.ok());
    EXPECT_EQ(*vector, page->cursor);
    EXPECT_EQ(vector->digest(), page->cursor.digest());
  }
}

TEST_F(StoreRead, AnEntryIsFoundByItsPositionInAnyConversation) {
  auto first = entry(kAlice, 1, 10);
  auto second = entry(kAlice, 2, 20);
  second.entry.conversation = kCarol;
  apply({WriterId{1}, 1}, first);
  apply({WriterId{1}, 2}, second);
  box.sync();
  for (const auto& change : {first, second}) {
    const auto found = store().find_entry(kAlice, change.entry.id);
    ASSERT_TRUE(found.ok() && found->has_value());
    EXPECT_EQ(decode(*(*found)->bytes, (*found)->dot)->entry.key, change.entry.key);
  }
  EXPECT_FALSE(store().find_entry(kAlice, {15, WriterId{77}})->has_value());
  EXPECT_FALSE(store().find_entry(kBob, first.entry.id)->has_value());
}

TEST_F(StoreRead, AcrossWritersAPageFollowsThePositions) {
  apply({WriterId{1}, 1}, entry(kAlice, 1, 10));
  apply({WriterId{1}, 2}, entry(kAlice, 2, 40));
  apply({WriterId{2}, 1}, entry(kAlice, 3, 20));
  apply({WriterId{2}, 2}, entry(kAlice, 4, 30));
  box.sync();
  std::vector<std::uint64_t> seqs;
  const auto page = store().read_mailbox(kAlice, {}, 10, 1 << 20);
  for (const auto& change : page->changes) {
    seqs.push_back(decode(*change.bytes, change.dot)->entry.key.seq);
  }
  EXPECT_THAT(seqs, ::testing::ElementsAre(1, 3, 4, 2));
}

TEST_F(StoreRead, APageIsBoundedByBytesButNeverEmpty) {
  const Bytes body(1000, 'b');
  for (std::uint64_t n = 1; n <= 5; ++n) apply({WriterId{1}, n}, entry(kAlice, n, n, body));
  box.sync();
  auto page = store().read_mailbox(kAlice, {}, 100, 1);
  EXPECT_EQ(page->changes.size(), 1u);
  EXPECT_TRUE(page->more);
  page = store().read_mailbox(kAlice, page->cursor, 100, 2500);
  EXPECT_EQ(page->changes.size(), 2u);
  EXPECT_TRUE(page->more);
  page = store().read_mailbox(kAlice, page->cursor, 2, 1 << 20);
  EXPECT_EQ(page->changes.size(), 2u);
  EXPECT_FALSE(page->more);
}

TEST_F(StoreRead, ShowsOnlyWhatIsSynced) {
  apply({WriterId{1}, 1}, entry(kAlice, 1, 1));
  EXPECT_TRUE(store().read_mailbox(kAlice, {}, 9, 1 << 20)->changes.empty());
  EXPECT_TRUE(store().read_writer(part(), WriterId{1}, 1, 1 << 20)->live.empty());
  EXPECT_TRUE(store().history(kAlice, kBob, {}, 9)->empty());
  EXPECT_EQ(store().read_change(part(), {WriterId{1}, 1}).code(), Errc::kNotFound);
  box.sync();
  EXPECT_EQ(store().read_mailbox(kAlice, {}, 9, 1 << 20)->changes.size(), 1u);
}

TEST_F(StoreRead, ACursorFromElsewhereNeitherSkipsNorRepeats) {
  for (std::uint64_t n = 1; n <= 3; ++n) apply({WriterId{5}, n}, entry(kAlice, n, n));
  box.sync();
  VersionVector cursor;
  cursor.raise(WriterId{1}, 4);                   // A writer that this store never met.
  cursor.raise(WriterId{5}, ~std::uint64_t{0});   // Ahead of this store.
  const auto page = store().read_mailbox(kAlice, cursor, 9, 1 << 20);
  EXPECT_TRUE(page->changes.empty());
  EXPECT_FALSE(page->more);
  EXPECT_EQ(page->cursor, cursor);
}

TEST_F(StoreRead, AWriterIsReadInRangesThatSayUpToWhereTheyAreWhole) {
  const Bytes body(1000, 'b');
  RangeStatement sparse{WriterId{1}, 1, 20, {}};
  for (const std::uint64_t n : {2, 3, 9, 15}) {
    sparse.live.push_back({n, {encode(entry(kAlice, n, n, body), {WriterId{1}, n})}});
  }
  ASSERT_TRUE(store().apply(part(), sparse).ok());
  box.sync();
  const auto first = store().read_writer(part(), WriterId{1}, 1, 3000);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(first->live.size(), 2u);
  EXPECT_EQ(first->to, 8u);  // 4..8 are gone.
  const auto second = store().read_writer(part(), WriterId{1}, first->to + 1, 1 << 20);
  EXPECT_EQ(second->from, 9u);
  EXPECT_EQ(second->live.size(), 2u);
  EXPECT_EQ(second->to, 20u);
  const auto tail = store().read_writer(part(), WriterId{1}, 16, 1);
  EXPECT_TRUE(tail->live.empty());
  EXPECT_EQ(tail->to, 20u);
  const auto beyond = store().read_writer(part(), WriterId{1}, 21, 1 << 20);
  EXPECT_LT(beyond->to, beyond->from);
}

TEST_F(StoreRead, RangesRebuildAReplica) {
  for (std::uint64_t n = 1; n <= 50; ++n) {
    apply({WriterId{1}, n}, entry(n % 2 == 0 ? kAlice : kBob, n, n));
  }
  box.sync();
  StoreBox copy;
  copy.open();
  while (copy.store->held(part(), WriterId{1}) < 50) {
    const auto from = copy.store->held(part(), WriterId{1}) + 1;
    const auto range = store().read_writer(part(), WriterId{1}, from, 700);
    ASSERT_EQ(*copy.store->apply(part(), *range), Applied::kNew);
  }
  copy.close_cleanly();
  box.close_cleanly();
  const auto families = {ColumnFamily::kLog, ColumnFamily::kEntries, ColumnFamily::kKeys};
  EXPECT_EQ(copy.rows(families), box.rows(families));
}

TEST_F(StoreRead, HistoryGoesBackwardsInOneConversation) {
  for (std::uint64_t n = 1; n <= 6; ++n) {
    auto change = entry(kAlice, n, 10 * n);
    if (n == 3) change.entry.conversation = kCarol;
    apply({WriterId{1}, n}, change);
  }
  box.sync();
  auto seqs = [&](const EntryId& before, std::size_t limit) {
    std::vector<std::uint64_t> out;
    const auto found = store().history(kAlice, kBob, before, limit);
    for (const auto& change : *found) {
      out.push_back(decode(*change.bytes, change.dot)->entry.key.seq);
    }
    return out;
  };
  EXPECT_THAT(seqs({}, 3), ::testing::ElementsAre(6, 5, 4));
  EXPECT_THAT(seqs({40, WriterId{77}}, 10), ::testing::ElementsAre(2, 1));
  EXPECT_THAT(seqs({45, WriterId{1}}, 1), ::testing::ElementsAre(4));
  EXPECT_TRUE(seqs({10, WriterId{77}}, 10).empty());
}

TEST_F(StoreRead, RegistersAreScannedByPrefixInPages) {
  std::uint64_t n = 0;
  for (const View key : {"a", "m/1", "m/2", "m/3", "z"}) {
    apply({WriterId{1}, ++n}, reg(kAlice, key, key, 1));
  }
  apply({WriterId{1}, ++n}, reg(kBob, "m/4", "other mailbox", 1));
  box.sync();
  auto keys = [&](View prefix, View after, std::size_t limit) {
    std::vector<Bytes> out;
    for (const auto& found : store().scan_registers(kAlice, prefix, after, limit)) {
      EXPECT_EQ(found.key, found.value);
      out.push_back(found.key);
    }
    return out;
  };
  EXPECT_THAT(keys("m/", "", 2), ::testing::ElementsAre("m/1", "m/2"));
  EXPECT_THAT(keys("m/", "m/2", 2), ::testing::ElementsAre("m/3"));
  EXPECT_THAT(keys("", "", 10), ::testing::ElementsAre("a", "m/1", "m/2", "m/3", "z"));
  EXPECT_THAT(keys("m/", "z", 10), ::testing::IsEmpty());
}

TEST_F(StoreRead, MailboxesAreFoundByARegisterTheyHave) {
  const Bytes last(kRegisterKeySizeMax, '\xff');  // The walk passes even the last possible key.
  std::uint64_t n = 0;
  for (const MailboxId& mailbox : {kAlice, kBob}) {
    for (const View key : {View("a"), View("z"), View(last)}) {
      apply({WriterId{1}, ++n}, reg(mailbox, key, "v", 1));
    }
  }
  apply({WriterId{1}, ++n}, reg(kBob, "name", "bob", 1));
  apply({WriterId{1}, 1}, reg(kCarol, "name", "carol", 1));
  box.sync();
  const auto all = store().find_mailboxes("name", {}, 10);
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].first, kBob);
  EXPECT_EQ(all[0].second.value, "bob");
  EXPECT_EQ(all[1].first, kCarol);
  EXPECT_EQ(store().find_mailboxes("name", {}, 1).size(), 1u);
  ASSERT_EQ(store().find_mailboxes("name", kBob, 10).size(), 1u);
  EXPECT_EQ(store().find_mailboxes("name", kBob, 10)[0].first, kCarol);
  EXPECT_TRUE(store().find_mailboxes("none", {}, 10).empty());
}

}  // namespace
}  // namespace starling::storage
