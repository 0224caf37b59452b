// The journal: whatever is raised, dropped or forgotten, and wherever a crash falls, rows and journal together say
// what was said last.
#include "storage/rocks/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage/export.h"
#include "tests/storage/support.h"

namespace starling::storage {
namespace {

using testing::device;
using testing::entry;
using testing::kAlice;
using testing::kCarol;
using testing::StoreBox;

constexpr std::uint32_t kWidth = kSlotCount / 16;
constexpr std::size_t kLimit = 2000;

MailboxId mailbox_at(Slot slot, std::uint8_t number) {
  MailboxId id;
  id.raw = {static_cast<std::uint8_t>(slot >> 8), static_cast<std::uint8_t>(slot), number};
  return id;
}

// Rows as a disk has them, and what they ought to say.
class Model {
 public:
  using Numbers = std::map<Bytes, std::uint64_t>;

  void raise(SeededRandom& random, JournalRow& row) {
    const Slot first = slot(random);
    const std::uint64_t key = random.below(20);
    if (random.below(2) == 0) {
      const std::uint64_t n = ++truth_[Bytes(partition_key(first, WriterId{key + 1}).view())];
      row.runs.push_back({first, WriterId{key + 1}, n});
    } else {
      const LaneId id{mailbox_at(first + 5, static_cast<std::uint8_t>(key)), device(1), 3};
      row.lanes.push_back({id, truth_[Bytes(lane_key(id).view())] += 1 + random.below(3)});
    }
  }
  void drop(Slot first) {
    journal.drop(first, first + kWidth);
    for (auto* numbers : {&truth_, &rows_}) {
      std::erase_if(*numbers, [&](const auto& row) { return BytesReader(row.first).u16be() / kWidth == first / kWidth; });
    }
  }
  void forget(const PartitionRowKey& run) {
    journal.forget(run);
    for (auto* numbers : {&truth_, &rows_}) numbers->erase(Bytes(partition_key(run.first_slot, run.writer).view()));
  }
  void write(const Journal::Batch& batch) {
    if (batch.seq != 0) journal_.emplace(batch.seq, journal_value(batch.raised));
    for (const auto& run : batch.runs) rows_[Bytes(partition_key(run.first_slot, run.writer).view())] = run.n;
    for (const auto& lane : batch.lanes) rows_[Bytes(lane_key(lane.id).view())] = lane.high;
    if (batch.erase_before != 0) journal_.erase(journal_.begin(), journal_.lower_bound(batch.erase_before));
  }
  // What an open would find.
  [[nodiscard]] Numbers recovered() const {
    JournalReplay said(kWidth);
    for (const auto& [seq, row] : journal_) said.apply(*parse_journal_row(row));
    Numbers out = rows_;
    for (const auto& [key, n] : said.runs()) out[key] = n;
    for (const auto& [key, n] : said.lanes()) out[key] = n;
    return out;
  }
  [[nodiscard]] std::size_t journal_bytes() const {
    std::size_t out = 0;
    for (const auto& [seq, row] : journal_) out += row.size();
    return out;
  }
  void expect_lanes_known() const {
    for (const auto& [key, high] : truth_) {
      const auto id = parse_lane_key(key);
      if (!id) continue;
      const auto row = rows_.find(key);
      const auto* raised = journal.lane(*id);
      EXPECT_EQ(raised != nullptr ? *raised : row == rows_.end() ? 0 : row->second, high);
    }
  }
  [[nodiscard]] const Numbers& truth() const { return truth_; }
  [[nodiscard]] std::size_t rows_written() const { return rows_.size(); }

  Journal journal{kLimit};

 private:
  static Slot slot(SeededRandom& random) { return static_cast<Slot>(random.below(4) * kWidth); }
  Numbers truth_, rows_;
  std::map<std::uint64_t, Bytes> journal_;
};

TEST(Journal, WithItsRowsItSaysWhatWasSaidLast) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    SeededRandom random(seed);
    Model disk;
    bool had_rows = false;
    for (int batch = 0; batch < 400; ++batch) {
      JournalRow row;
      if (random.below(40) == 0) {
        row.dropped.push_back(static_cast<Slot>(random.below(4) * kWidth));
        disk.drop(row.dropped.front());
      }
      if (random.below(20) == 0) {
        row.forgotten.push_back({static_cast<Slot>(random.below(4) * kWidth), WriterId{1 + random.below(20)}});
        disk.forget(row.forgotten.front());
      }
      for (std::uint64_t raises = random.below(12); raises > 0; --raises) disk.raise(random, row);
      const auto sealed = disk.journal.seal(std::move(row));
      disk.write(sealed);
      ASSERT_EQ(disk.recovered(), disk.truth()) << "seed " << seed << ", batch " << batch;  // A crash here.
      disk.journal.settle(sealed);
      disk.expect_lanes_known();
      EXPECT_LE(disk.journal_bytes(), 4 * kLimit) << "seed " << seed << ", batch " << batch;
      had_rows = had_rows || disk.rows_written() > 0;
    }
    EXPECT_TRUE(had_rows);
    disk.write(disk.journal.close());
    EXPECT_EQ(disk.journal_bytes(), 0u);
    EXPECT_EQ(disk.recovered(), disk.truth());
  }
}

TEST(Journal, WhatIsRaisedAgainAndAgainHasNoRow) {
  Journal journal(kLimit);
  std::size_t rows = 0;
  bool erased = false;
  for (std::uint64_t n = 1; n <= 1000; ++n) {
    JournalRow row;
    row.runs.push_back({0, WriterId{1}, n});
    const auto sealed = journal.seal(std::move(row));
    rows += sealed.runs.size();
    erased = erased || sealed.erase_before > 0;
    journal.settle(sealed);
  }
  EXPECT_TRUE(erased);
  EXPECT_LE(rows, 1000 / (kLimit / 42));  // At most once a generation.
}

TEST(Journal, ABatchWithNothingToSayHasNoRow) {
  Journal journal(kLimit);
  EXPECT_EQ(journal.seal({}).seq, 0u);
}

// --- In the store. ---

class StoreJournal : public ::testing::Test {
 protected:
  StoreJournal() { box.open(); }
  PartitionId part() { return box.store->partition_of(kAlice); }
  // Messages of many lanes, some of which rest and some of which go on: several generations.
  void write_much() {
    for (std::uint64_t round = 1; round <= 40; ++round) {
      for (std::uint64_t lane = 0; lane < 6; ++lane) {
        auto change = entry(kAlice, ++highs[lane == 0 ? 0 : round * 10 + lane], ++time);
        change.entry.key.lane = lane == 0 ? 0 : round * 10 + lane;
        box.store->append(change);
      }
      box.sync();
    }
  }
  void expect_lanes(const std::string& where) {
    const auto rows = box.store->read_lanes(part(), std::nullopt, 10'000);
    ASSERT_TRUE(rows.ok()) << rows.error().text;
    std::map<std::uint64_t, std::uint64_t> read;
    for (const auto& row : *rows) read[row.lane] = row.high;
    EXPECT_EQ(read, highs) << where;
    for (const auto& [lane, high] : highs) EXPECT_EQ(box.store->lane_high(kAlice, device(1), lane), high) << where;
  }
  std::optional<std::uint64_t> node_number(View key) {
    const auto rows = box.rows({ColumnFamily::kNode});
    for (const auto& [at, value] : rows.front()) {
      if (at == key) return parse_number(value);
    }
    return std::nullopt;
  }
  std::size_t journal_rows() { return box.rows({ColumnFamily::kJournal}).front().size(); }

  StoreBox box;
  Hlc time = 0;
  std::map<std::uint64_t, std::uint64_t> highs;
};

TEST_F(StoreJournal, VectorsAndLanesOutliveACrash) {
  write_much();
  expect_lanes("before");
  const auto vector = box.store->vector(part());
  const auto highest = box.store->highest_time();
  box.lose_power();
  EXPECT_GT(journal_rows(), 0u);
  box.open();
  EXPECT_EQ(box.store->vector(part()), vector);
  EXPECT_EQ(box.store->highest_time(), highest);
  expect_lanes("after");
  box.store.reset();
  EXPECT_EQ(journal_rows(), 0u);
  box.open();
  EXPECT_EQ(box.store->vector(part()), vector);
  expect_lanes("after the next");
}

TEST_F(StoreJournal, PagesOfLanesAreInTheOrderOfTheirKeysWhereverTheyStand) {
  write_much();
  std::vector<LaneRow> all = *box.store->read_lanes(part(), std::nullopt, 10'000);
  std::vector<LaneRow> paged;
  while (true) {
    const auto page = *box.store->read_lanes(
        part(), paged.empty() ? std::nullopt : std::optional(paged.back()), 7);
    if (page.empty()) break;
    paged.insert(paged.end(), page.begin(), page.end());
  }
  EXPECT_EQ(paged, all);
  EXPECT_EQ(all.size(), highs.size());
}

TEST_F(StoreJournal, AStoreThatIsClosedCleanlyIsOneOfTheFormerFormat) {
  write_much();
  const auto lanes = highs.size();
  box.close_cleanly();
  EXPECT_EQ(journal_rows(), 0u);
  EXPECT_EQ(box.rows({ColumnFamily::kLanes}).front().size(), lanes);
  EXPECT_EQ(node_number(kNodeFormat), 1u);
  EXPECT_EQ(node_number(kNodeHighestTime), time);
  box.open();
  box.lose_power();
  EXPECT_EQ(node_number(kNodeFormat), kFormatOpen);
}

TEST_F(StoreJournal, ADroppedPartitionDoesNotComeBackWithACrash) {
  write_much();
  box.store->append(entry(kCarol, 1, ++time));
  box.sync();
  ASSERT_TRUE(box.store->drop(part()).ok());
  box.sync();
  box.lose_power();
  box.open();
  EXPECT_TRUE(box.store->vector(part()).empty());
  EXPECT_THAT(*box.store->read_lanes(part(), std::nullopt, 10), ::testing::IsEmpty());
  EXPECT_EQ(box.store->touched(), std::vector{box.store->partition_of(kCarol)});
}

// Lanes are raised without a run, too (merge_lanes), so a drop may meet them on their way.
TEST_F(StoreJournal, ALaneThatWasOnItsWayGoesWithItsPartition) {
  const LaneRow lane{kAlice, device(1), 5, 7};
  const auto raise = [&] { return box.store->merge_lanes(part(), std::span(&lane, 1)).ok(); };
  const auto is_gone = [&](const char* when) {
    EXPECT_EQ(box.store->lane_high(kAlice, device(1), 5), 0u) << when;
    EXPECT_THAT(*box.store->read_lanes(part(), std::nullopt, 10), ::testing::IsEmpty()) << when;
  };
  const auto comes_back = [&](const char* when) {
    ASSERT_TRUE(raise()) << when;
    box.sync();
    box.lose_power();
    box.open();
    EXPECT_EQ(box.store->lane_high(kAlice, device(1), 5), 7u) << when;
  };
  ASSERT_TRUE(raise());
  ASSERT_TRUE(box.store->drop(part()).ok());  // In one batch.
  EXPECT_EQ(box.store->read_lanes(part(), std::nullopt, 10).code(), Errc::kOverloaded);
  box.sync();
  is_gone("one batch");
  comes_back("one batch");
  ASSERT_TRUE(box.store->drop(part()).ok());
  box.sync();
  ASSERT_TRUE(raise());
  box.store->flush();
  ASSERT_TRUE(box.store->drop(part()).ok());  // In the next, while the first is in flight.
  box.sync();
  is_gone("two batches");
  comes_back("two batches");
}

TEST_F(StoreJournal, TheHighestTimeOutlivesTheRowsThatSaidIt) {
  box.store->append(entry(kAlice, 1, 1'000'000));
  box.sync();
  for (std::uint64_t n = 1; n <= 300; ++n) {  // None of them is later.
    const Dot dot{WriterId{9}, n};
    ASSERT_TRUE(box.store->apply(part(), dot, encode(entry(kAlice, n, n), dot)).ok());
    box.sync();
  }
  box.lose_power();
  const auto rows = box.rows({ColumnFamily::kJournal});
  for (const auto& [seq, row] : rows.front()) {
    ASSERT_EQ(parse_journal_row(row)->time, 0u) << "the test is too short";
  }
  box.open();
  EXPECT_EQ(box.store->highest_time(), 1'000'000u);
}

TEST_F(StoreJournal, AForgottenRunDoesNotComeBackWithACrash) {
  RangeStatement gone{WriterId{9}, 1, 5, {}, {}};
  ASSERT_TRUE(box.store->apply(part(), gone).ok());
  box.sync();
  ASSERT_TRUE(box.store->forget(part(), WriterId{9}));
  box.sync();
  box.lose_power();
  box.open();
  EXPECT_TRUE(box.store->vector(part()).empty());
}

// A batch that is on disk and not reported yet: its rows are in the snapshot, so its numbers must be.
TEST_F(StoreJournal, AnExportGoesWithItsSnapshot) {
  box.store->append(entry(kAlice, 1, 1));
  box.sync();
  const auto rows_of = [&] {
    auto out = box.store->export_partition(part(), 0);
    std::size_t rows = 0;
    for (auto row = out->next(); row && *row; row = out->next()) ++rows;
    return std::pair(out->vector().get(box.store->writer()), rows);
  };
  EXPECT_EQ(rows_of(), std::pair(std::uint64_t{1}, std::size_t{2}));  // A key and its lane.
  box.store->append(entry(kAlice, 2, 2));
  box.store->flush();
  EXPECT_EQ(rows_of(), std::pair(std::uint64_t{1}, std::size_t{2}));
  box.commits.write_one();
  EXPECT_EQ(rows_of(), std::pair(std::uint64_t{2}, std::size_t{3}));
  box.commits.finish_all();
  EXPECT_EQ(rows_of(), std::pair(std::uint64_t{2}, std::size_t{3}));
}

TEST_F(StoreJournal, ADamagedOneIsNotGuessedAt) {
  box.store->append(entry(kAlice, 1, 1));
  box.sync();
  box.store.reset();
  box.tamper(ColumnFamily::kJournal, 0, [](Bytes& value) { value.pop_back(); });
  const auto opened = Store::open(box.options());
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.code(), Errc::kCorrupt);
  EXPECT_NE(opened.error().text.find("journal"), std::string::npos);
}

}  // namespace
}  // namespace starling::storage
