// What is kept of messages that were written off, and what readers of it pay: look-ups are counted by RocksDB.
#include <algorithm>

#include <gmock/gmock.h>
#include <rocksdb/perf_context.h>
#include <rocksdb/perf_level.h>

#include "storage/layout.h"
#include "tests/storage/support.h"

namespace starling::storage {
namespace {

using namespace starling::testing;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr WriterId kOld{5}, kThird{6};
constexpr std::size_t kPage = 500;

class StoreTraces : public ::testing::Test {
 protected:
  void SetUp() override {
    box.open();
    // The look-up of a key in an empty memtable is not counted.
    const auto live = entry(kAlice, 1'000'000, 1);
    ASSERT_TRUE(store().apply(part(), {WriterId{4}, 1}, encode(live, {WriterId{4}, 1})).ok());
    box.sync();
  }
  Store& store() { return *box.store; }
  [[nodiscard]] PartitionId part() { return store().partition_of(kAlice); }
  static Trace trace(const Dot& dot, ExpirySeconds expiry) {
    return {kAlice, kBob, {device(1), 5, 100 * dot.n + dot.writer.value}, {1000 + dot.n, dot.writer}, dot, false, 1, expiry};
  }
  // As another owner tells it.
  void lose(WriterId writer, std::uint64_t count, ExpirySeconds expiry = 0) {
    const std::uint64_t held = store().held(part(), writer);
    RangeStatement range{writer, held + 1, held + count, {}, {}, {}};
    for (std::uint64_t n = held + 1; n <= held + count; ++n) {
      range.lost.push_back(n);
      range.traces.push_back(trace({writer, n}, expiry));
    }
    ASSERT_TRUE(store().apply(part(), range).ok());
    box.sync();
  }
  static std::uint64_t look_ups(const std::function<void()>& read) {
    rocksdb::SetPerfLevel(rocksdb::PerfLevel::kEnableCount);
    rocksdb::get_perf_context()->Reset();
    read();
    const auto count = rocksdb::get_perf_context()->get_from_memtable_count;
    rocksdb::SetPerfLevel(rocksdb::PerfLevel::kDisable);
    return count;
  }
  static std::vector<std::uint64_t> numbers(const std::vector<Trace>& traces) {
    std::vector<std::uint64_t> out;
    for (const auto& trace : traces) out.push_back(trace.dot.n);
    return out;
  }
  std::vector<Trace> all_lost(std::size_t limit = 100) { return store().lost_after(kAlice, {}, nullptr, limit).messages; }
  // On disk. Ends the store.
  std::size_t rows_after_compaction(std::uint64_t time_ms) {
    box.close_cleanly();
    const auto time = std::make_shared<ExpiryTime>();
    time->advance(time_ms);
    box.compact(time);
    const auto rows = box.rows({ColumnFamily::kNode}).front();
    const auto count = std::count_if(rows.begin(), rows.end(), [](const auto& row) { return row.first.starts_with(kNodeLost); });
    box.open();
    return static_cast<std::size_t>(count);
  }
  StoreBox box;
};

TEST_F(StoreTraces, AReaderPaysForWhatItWasNotToldYet) {
  constexpr std::uint64_t kLost = 10'000;
  lose(kOld, kLost);
  VersionVector cursor;
  std::uint64_t told = 0;
  for (int page = 0; told < kLost; ++page) {
    ASSERT_LT(page, 100);
    LostPage lost;
    EXPECT_EQ(look_ups([&] { lost = store().lost_after(kAlice, cursor, nullptr, kPage); }), kPage);
    ASSERT_EQ(lost.messages.size(), kPage);
    EXPECT_EQ(lost.messages.front().dot.n, told + 1);
    told += lost.messages.size();
    EXPECT_EQ(lost.next, told == kLost ? std::vector<Dot>{} : (std::vector<Dot>{{kOld, told + 1}}));
    cursor.merge(lost.passed);
  }
  // Who was told of all pays nothing more, nor does the question who has news.
  EXPECT_EQ(look_ups([&] { EXPECT_TRUE(store().lost_after(kAlice, cursor, nullptr, kPage).messages.empty()); }), 0u);
  EXPECT_EQ(look_ups([&] { EXPECT_EQ(store().lost_vector(kAlice), cursor); }), 0u);
  // Nor does a page of a mailbox that ends before them, or of a conversation that lies between.
  VersionVector end;
  end.raise(kOld, 3);
  EXPECT_EQ(look_ups([&] { EXPECT_EQ(store().lost_after(kAlice, {}, &end, kPage).messages.size(), 3u); }), 3u);
  const auto id = [](std::uint64_t n) { return EntryId{1000 + n, kOld}; };
  EXPECT_EQ(look_ups([&] {
    EXPECT_THAT(numbers(store().lost_before(kAlice, kBob, id(5000), id(4996), kPage).messages), ElementsAre(4999, 4998, 4997));
  }), 3u);
  EXPECT_EQ(look_ups([&] { EXPECT_TRUE(store().lost_before(kAlice, kCarol, {}, {}, kPage).messages.empty()); }), 0u);
}

TEST_F(StoreTraces, OfEachWriterAPageSaysWhereTheNextBegins) {
  lose(kOld, 3);
  lose(kThird, 2);
  const auto page = store().lost_after(kAlice, {}, nullptr, 2);
  EXPECT_THAT(numbers(page.messages), ElementsAre(1, 2));
  EXPECT_THAT(page.next, ElementsAre(Dot{kOld, 3}, Dot{kThird, 1}));
  EXPECT_EQ(page.passed.get(kThird), 0u);
  const auto newest = store().lost_before(kAlice, kBob, {}, {}, 3);
  EXPECT_THAT(numbers(newest.messages), ElementsAre(3, 2, 2));
  EXPECT_EQ(newest.next, (EntryId{1001, kThird}));
  const auto rest = store().lost_before(kAlice, kBob, newest.messages.back().id, {}, 3);
  EXPECT_THAT(numbers(rest.messages), ElementsAre(1, 1));
  EXPECT_TRUE(rest.next.is_zero());
}

// It is passed, so that nobody looks for it again.
TEST_F(StoreTraces, WhatStandsInAnotherCopyIsNotMissing) {
  lose(kOld, 2);
  auto again = entry(kAlice, 0, 5000);
  again.entry.key = trace({kOld, 2}, 0).key;
  ASSERT_TRUE(store().apply(part(), {kThird, 1}, encode(again, {kThird, 1})).ok());
  box.sync();
  const auto page = store().lost_after(kAlice, {}, nullptr, kPage);
  EXPECT_THAT(numbers(page.messages), ElementsAre(1));
  EXPECT_EQ(page.passed.get(kOld), 2u);
  EXPECT_EQ(store().lost_vector(kAlice).get(kOld), 2u);
  EXPECT_THAT(numbers(store().lost_before(kAlice, kBob, {}, {}, kPage).messages), ElementsAre(1));
}

TEST_F(StoreTraces, GoWhenTheirMessagesWouldHaveExpired) {
  lose(kOld, 2, 100);
  lose(kOld, 1, 200);
  lose(kOld, 1);
  const auto lost = store().lost(part());
  ASSERT_EQ(all_lost().size(), 4u);
  store().set_expiry_time(150'000);
  box.sync();
  EXPECT_THAT(numbers(all_lost()), ElementsAre(3, 4));
  EXPECT_FALSE(store().trace(kAlice, trace({kOld, 1}, 100).key)) << "nobody keeps it";
  EXPECT_TRUE(store().trace(kAlice, trace({kOld, 3}, 200).key));
  EXPECT_EQ(rows_after_compaction(150'000), 2u);
  EXPECT_THAT(numbers(all_lost()), ElementsAre(3, 4)) << "after a restart";
  // What owners compare stays: each of them erases in its own time.
  EXPECT_EQ(store().lost(part()), lost);
  store().set_expiry_time(200'000);
  box.sync();
  EXPECT_EQ(rows_after_compaction(200'000), 1u);
  EXPECT_THAT(numbers(all_lost()), ElementsAre(4)) << "one that never expires";
  EXPECT_EQ(store().lost(part()), lost);
  EXPECT_EQ(store().partitions(), kTestPartitions) << "nothing else of the family went";
  // One that an owner tells of afterwards is not taken.
  lose(kThird, 1, 200);
  EXPECT_EQ(store().lost_vector(kAlice).get(kThird), 0u);
}

TEST_F(StoreTraces, ThatManyExpireAtOnceHoldsNothingUp) {
  lose(kOld, 25'000, 100);
  store().set_expiry_time(100'000);
  box.sync();
  EXPECT_THAT(all_lost(), IsEmpty()) << "those that wait to go, too";
  EXPECT_TRUE(store().lost_vector(kAlice).empty());
  EXPECT_TRUE(store().lost_before(kAlice, kBob, {}, {}, kPage).messages.empty());
  store().set_expiry_time(110'000);
  box.sync();
  EXPECT_TRUE(store().trace(kAlice, trace({kOld, 25'000}, 100).key)) << "10,000 at a time";
  store().set_expiry_time(120'000);
  box.sync();
  EXPECT_FALSE(store().trace(kAlice, trace({kOld, 25'000}, 100).key));
}

TEST_F(StoreTraces, GoOnInBothHalvesOfAPartition) {
  lose(kOld, 3);
  ASSERT_TRUE(store().split().ok());
  box.sync();
  EXPECT_THAT(numbers(all_lost()), ElementsAre(1, 2, 3));
  const auto run = store().read_writer(store().partition_of(kAlice), kOld, 1, 1 << 20);
  ASSERT_TRUE(run.ok()) << run.error().text;
  EXPECT_THAT(numbers(run->traces), ElementsAre(1, 2, 3));
}

}  // namespace
}  // namespace starling::storage
