// Damage: noted for good, never served, mended from other copies, or recorded as lost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage/rocks/damage.h"
#include "tests/storage/support.h"

namespace starling::storage {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::closing;
using testing::entry;
using testing::kAlice;
using testing::kBob;
using testing::kCarol;
using testing::kPeer;
using testing::reg;
using testing::StoreBox;

class StoreDamage : public ::testing::Test {
 protected:
  void SetUp() override { box.open(); }
  Store& store() { return *box.store; }
  PartitionId part() { return store().partition_of(kAlice); }
  static Dot dot(std::uint64_t n) { return {kPeer, n}; }
  void apply(std::uint64_t n, const ChangeView& change) {
    made[n] = encode(change, dot(n));
    const auto result = store().apply(store().partition_of(change.mailbox), dot(n), made[n]);
    ASSERT_TRUE(result.ok()) << result.error().text;
  }
  // Three messages of one run, the second one damaged in the log.
  void damage_the_second() {
    for (std::uint64_t n = 1; n <= 3; ++n) apply(n, entry(kAlice, n, n));
    tamper(ColumnFamily::kLog, 1, [](Bytes& value) { value[60] ^= 1; });
  }
  void tamper(ColumnFamily family, std::size_t row, const std::function<void(Bytes&)>& to) {
    box.close_cleanly();
    box.tamper(family, row, to);
    box.open();
  }
  // As the mender does it, part by part.
  Status write_off(const Dot& dot, int* calls = nullptr) {
    for (int call = 1;; ++call) {
      const Status marked = store().mark_lost(part(), dot);
      if (calls != nullptr) *calls = call;
      if (marked || marked.code() != Errc::kOverloaded || call == 100) return marked;
      box.sync();
    }
  }
  std::vector<std::uint64_t> read() {
    std::vector<std::uint64_t> out;
    const auto page = store().read_mailbox(kAlice, {}, 99, 1 << 20);
    EXPECT_TRUE(page.ok()) << page.error().text;
    if (page) {
      for (const auto& change : page->changes) out.push_back(change.dot.n);
    }
    return out;
  }
  StoreBox box;
  std::map<std::uint64_t, Bytes> made;
};

TEST_F(StoreDamage, IsNotServedAndSaysWhatHappensNext) {
  damage_the_second();
  EXPECT_TRUE(store().is_whole(part()));  // Nobody has looked yet.
  const auto page = store().read_mailbox(kAlice, {}, 9, 1 << 20);
  ASSERT_EQ(page.code(), Errc::kCorrupt);
  EXPECT_THAT(page.error().text, HasSubstr("fetched from another owner"));
  EXPECT_FALSE(store().is_whole(part()));
  EXPECT_THAT(store().damaged(part()), ElementsAre(dot(2)));
  EXPECT_THAT(store().damaged_partitions(), ElementsAre(part()));
  EXPECT_EQ(store().stats().damaged, 1u);
  // Not the mailbox, nor another one of the partition; not the change.
  EXPECT_EQ(store().read_mailbox(kBob, {}, 9, 1 << 20).code(), Errc::kCorrupt);
  EXPECT_EQ(store().history(kAlice, kBob, {}, 9).code(), Errc::kCorrupt);
  EXPECT_EQ(store().read_change(part(), dot(2)).code(), Errc::kCorrupt);
  // What is good goes on to who mends or catches up.
  EXPECT_TRUE(store().read_change(part(), dot(3)).ok());
  const auto before = store().read_writer(part(), kPeer, 1, 1 << 20);
  ASSERT_TRUE(before.ok());
  EXPECT_EQ(before->to, 1u);
  EXPECT_EQ(store().read_writer(part(), kPeer, 2, 1 << 20).code(), Errc::kCorrupt);
  EXPECT_EQ(store().read_writer(part(), kPeer, 3, 1 << 20)->live.size(), 1u);
  EXPECT_TRUE(store().read_mailbox(kCarol, {}, 9, 1 << 20).ok());
}

TEST_F(StoreDamage, IsFoundByAReadOfTheRunToo) {
  damage_the_second();
  EXPECT_EQ(store().read_writer(part(), kPeer, 1, 1 << 20)->to, 1u);
  EXPECT_THAT(store().damaged(part()), ElementsAre(dot(2)));
}

TEST_F(StoreDamage, TellsItsListenerOncePerChange) {
  damage_the_second();
  std::vector<Dot> heard;
  store().on_damage([&](const Damage& damage) {
    EXPECT_EQ(damage.partition, part());
    EXPECT_THAT(damage.text, HasSubstr("wrong checksum"));
    heard.push_back(*damage.dot);
  });
  for (int i = 0; i < 3; ++i) (void)store().read_writer(part(), kPeer, 2, 1 << 20);
  EXPECT_THAT(heard, ElementsAre(dot(2)));
}

TEST_F(StoreDamage, IsKnownAfterARestart) {
  damage_the_second();
  (void)store().read_writer(part(), kPeer, 1, 1 << 20);
  box.sync();
  box.lose_power();
  box.open();
  EXPECT_THAT(store().damaged(part()), ElementsAre(dot(2)));
  EXPECT_EQ(store().read_mailbox(kAlice, {}, 9, 1 << 20).code(), Errc::kCorrupt);
}

TEST_F(StoreDamage, AMissingRecordIsDamageWhenARowNamesIt) {
  for (std::uint64_t n = 1; n <= 3; ++n) apply(n, entry(kAlice, n, n));
  tamper(ColumnFamily::kLog, 2, [](Bytes& value) { value.clear(); });
  EXPECT_EQ(store().history(kAlice, kBob, {}, 9).code(), Errc::kCorrupt);
  EXPECT_THAT(store().damaged(part()), ElementsAre(dot(3)));
  EXPECT_EQ(store().read_writer(part(), kPeer, 1, 1 << 20)->to, 2u);  // Not "gone".
}

TEST_F(StoreDamage, WhatARangeLeftOutIsNotDamage) {
  const RangeStatement range{kPeer, 1, 9, {{4, {encode(entry(kAlice, 1, 1), dot(4))}}}};
  ASSERT_TRUE(store().apply(part(), range).ok());
  box.sync();
  EXPECT_THAT(read(), ElementsAre(4));
  EXPECT_EQ(box.scrub().damaged, 0u);
  EXPECT_TRUE(store().is_whole(part()));
}

TEST_F(StoreDamage, IsMendedByTheBytesOfAnotherOwner) {
  damage_the_second();
  (void)store().read_writer(part(), kPeer, 1, 1 << 20);
  box.sync();
  ASSERT_TRUE(store().mend(part(), dot(2), made[2]).ok());
  EXPECT_FALSE(store().is_whole(part()));  // Until it is on disk.
  box.sync();
  EXPECT_TRUE(store().is_whole(part()));
  EXPECT_THAT(read(), ElementsAre(1, 2, 3));
  EXPECT_EQ(store().read_writer(part(), kPeer, 1, 1 << 20)->live.size(), 3u);
  box.lose_power();
  box.open();
  EXPECT_TRUE(store().is_whole(part()));
  EXPECT_THAT(read(), ElementsAre(1, 2, 3));
}

TEST_F(StoreDamage, IsNotMendedByOtherBytes) {
  damage_the_second();
  (void)store().read_writer(part(), kPeer, 1, 1 << 20);
  EXPECT_EQ(store().mend(part(), dot(2), made[1]).code(), Errc::kCorrupt);
  EXPECT_EQ(store().mend(store().partition_of(kCarol), dot(2), made[2]).code(), Errc::kCorrupt);
  EXPECT_TRUE(store().mend(part(), dot(1), made[1]).ok());  // It is here: nothing to do.
  box.sync();
  EXPECT_THAT(store().damaged(part()), ElementsAre(dot(2)));
}

TEST_F(StoreDamage, IsMendedByARangeAndWhatThatLeavesOutIsGone) {
  for (std::uint64_t n = 1; n <= 4; ++n) apply(n, entry(kAlice, n, n));
  tamper(ColumnFamily::kLog, 1, [](Bytes& value) { value[60] ^= 1; });
  tamper(ColumnFamily::kLog, 2, [](Bytes& value) { value[60] ^= 1; });
  box.scrub();
  EXPECT_THAT(store().damaged(part()), ElementsAre(dot(2), dot(3)));
  // The other owner has 2; 3 expired there.
  ASSERT_TRUE(store().mend(part(), RangeStatement{kPeer, 2, 3, {{2, {made[2]}}}}).ok());
  box.sync();
  EXPECT_TRUE(store().is_whole(part()));
  EXPECT_THAT(read(), ElementsAre(1, 2, 4));
  EXPECT_EQ(store().history(kAlice, kBob, {}, 9)->size(), 3u);
  EXPECT_FALSE(store().find_key(kAlice, {testing::device(1), 5, 3}));
  EXPECT_EQ(store().lane_high(kAlice, testing::device(1), 5), 4u);
  EXPECT_EQ(box.scrub().damaged, 0u);
}

TEST_F(StoreDamage, OfAnyRowIsMendedWithTheChange) {
  for (const auto family : {ColumnFamily::kLog, ColumnFamily::kEntries, ColumnFamily::kKeys,
                            ColumnFamily::kMailboxDots, ColumnFamily::kRegisters}) {
    StoreBox clean;
    clean.open();
    const Bytes message = encode(entry(kAlice, 1, 1), dot(1));
    const Bytes write = encode(reg(kAlice, "k", "v", 2), dot(2));
    for (StoreBox* to : {&box, &clean}) {
      if (!to->store) to->open();
      (void)to->store->apply(to->store->partition_of(kAlice), dot(1), message);
      (void)to->store->apply(to->store->partition_of(kAlice), dot(2), write);
    }
    clean.close_cleanly();
    const std::size_t number = family == ColumnFamily::kRegisters ? 2 : 1;
    box.close_cleanly();
    box.tamper(ColumnFamily::kLog, number - 1, [](Bytes& value) { value[30] ^= 1; });
    if (family != ColumnFamily::kLog) {
      box.tamper(family, 0, [](Bytes& value) { value.clear(); });
    }
    box.open();
    box.scrub();
    ASSERT_THAT(store().damaged(part()), ElementsAre(dot(number)));
    ASSERT_TRUE(store().mend(part(), dot(number), number == 1 ? message : write).ok());
    box.close_cleanly();
    const auto families = {ColumnFamily::kLog, ColumnFamily::kEntries, ColumnFamily::kKeys,
                           ColumnFamily::kMailboxDots, ColumnFamily::kRegisters,
                           ColumnFamily::kLanes, ColumnFamily::kDamage};
    EXPECT_EQ(box.rows(families), clean.rows(families)) << static_cast<int>(family);
    box.open();
  }
}

TEST_F(StoreDamage, MendingDoesNotUndoWhatCameLater) {
  apply(1, entry(kAlice, 1, 10));
  apply(2, closing(kAlice, 1, 20));
  apply(3, reg(kAlice, "k", "old", 1));
  apply(4, reg(kAlice, "k", "new", 2));
  box.close_cleanly();
  for (const std::size_t row : {0, 2}) {
    box.tamper(ColumnFamily::kLog, row, [](Bytes& value) { value[30] ^= 1; });
  }
  box.open();
  box.scrub();
  ASSERT_THAT(store().damaged(part()), ElementsAre(dot(1), dot(3)));
  ASSERT_TRUE(store().mend(part(), dot(1), made[1]).ok());
  ASSERT_TRUE(store().mend(part(), dot(3), made[3]).ok());
  box.sync();
  EXPECT_TRUE(store().find_key(kAlice, {testing::device(1), 5, 1})->is_void);
  EXPECT_THAT(*store().history(kAlice, kBob, {}, 9), IsEmpty());
  EXPECT_EQ(store().find_register(kAlice, "k")->value, "new");
}

// Of three copies of a message the first stood, and nobody can give it any more: the next best is the message.
TEST_F(StoreDamage, WhatLostToAChangeThatIsWrittenOffStandsAgain) {
  const MessageKey key{testing::device(1), 5, 1};
  apply(1, entry(kAlice, 1, 20));
  apply(2, entry(kAlice, 1, 10));
  apply(3, entry(kAlice, 1, 30));
  tamper(ColumnFamily::kLog, 1, [](Bytes& value) { value[60] ^= 1; });
  box.scrub();
  ASSERT_THAT(store().damaged(part()), ElementsAre(dot(2)));
  ASSERT_EQ(store().find_key(kAlice, key)->dot, dot(2));
  ASSERT_TRUE(write_off(dot(2)).ok());
  box.sync();
  ASSERT_TRUE(store().find_key(kAlice, key));
  EXPECT_EQ(store().find_key(kAlice, key)->dot, dot(1));
  const auto shown = store().history(kAlice, kBob, {}, 9);
  ASSERT_EQ(shown->size(), 1u);
  EXPECT_EQ(shown->front().dot, dot(1));
  EXPECT_THAT(store().superseded(part()), ElementsAre(Superseded{dot(3), dot(1)}));
  EXPECT_EQ(box.scrub().mended, 0u);
  ASSERT_TRUE(store().mend(part(), dot(2), made[2]).ok());
  box.sync();
  EXPECT_EQ(store().find_key(kAlice, key)->dot, dot(2));
}

// Who writes one off asks for its copies in every turn, and there may be many pairs.
TEST_F(StoreDamage, WhatLostToOneChangeLiesTogether) {
  apply(1, entry(kAlice, 1, 20));
  apply(2, entry(kAlice, 2, 20));
  apply(3, entry(kAlice, 2, 10));
  apply(4, entry(kAlice, 1, 10));
  apply(5, entry(kAlice, 2, 30));
  const Superseded second{dot(2), dot(3)}, fifth{dot(5), dot(3)}, first{dot(1), dot(4)};
  EXPECT_THAT(store().superseded(part()), ElementsAre(second, fifth, first));
  EXPECT_THAT(store().superseded(part(), dot(3)), ElementsAre(second, fifth));
  EXPECT_THAT(store().superseded(part(), dot(4)), ElementsAre(first));
  EXPECT_THAT(store().superseded(part(), dot(1)), IsEmpty());
}

// Another copy of the message takes its place in the batch that writes it off.
TEST_F(StoreDamage, WritingOffLeavesTheRowsOfWhoCameInItsPlaceMeanwhile) {
  const MessageKey key{testing::device(1), 5, 1};
  apply(1, entry(kAlice, 1, 20));
  apply(2, entry(kAlice, 2, 30));
  tamper(ColumnFamily::kLog, 0, [](Bytes& value) { value[60] ^= 1; });
  box.scrub();
  ASSERT_THAT(store().damaged(part()), ElementsAre(dot(1)));
  ASSERT_EQ(store().mark_lost(part(), dot(1)).code(), Errc::kOverloaded);  // Looks.
  for (const std::uint64_t time : {20u, 10u}) {  // At the same position, of a smaller dot; and before it.
    const Dot better{WriterId{time}, 1};
    ASSERT_TRUE(store().apply(part(), better, encode(entry(kAlice, 1, time), better)).ok());
    ASSERT_EQ(store().find_key(kAlice, key)->dot, better);
  }
  ASSERT_TRUE(store().mark_lost(part(), dot(1)).ok());
  box.sync();
  EXPECT_EQ(store().find_key(kAlice, key)->dot, (Dot{WriterId{10}, 1}));
  EXPECT_EQ(store().history(kAlice, kBob, {}, 9)->size(), 2u);
  EXPECT_EQ(box.scrub().mended, 0u) << "no row was missing";
}

// Its rows are found by looking through the partition's, of which there may be many.
TEST_F(StoreDamage, AWriteOffLooksAtAPartOfThePartitionInACall) {
  constexpr std::uint64_t kMessages = 9'000;  // Three rows each; 10,000 rows are a part.
  for (std::uint64_t n = 1; n <= kMessages; ++n) apply(n, entry(kAlice, n, n));
  tamper(ColumnFamily::kLog, kMessages - 1, [](Bytes& value) { value[60] ^= 1; });
  (void)store().read_change(part(), dot(kMessages));
  ASSERT_THAT(store().damaged(part()), ElementsAre(dot(kMessages)));
  int calls = 0;
  ASSERT_TRUE(write_off(dot(kMessages), &calls).ok());
  EXPECT_EQ(calls, 2 + 9 + 1) << "rows, changes of the mailbox, and what was found";
  box.sync();
  EXPECT_TRUE(store().is_whole(part()));
  EXPECT_FALSE(store().find_key(kAlice, {testing::device(1), 5, kMessages}));
  EXPECT_EQ(store().history(kAlice, kBob, {}, 1)->front().dot, dot(kMessages - 1));
  EXPECT_EQ(box.scrub().damaged, 0u);
}

// What was noted when they met is gone with a restart, and nothing has been looked through since.
TEST_F(StoreDamage, AWriteOffFindsTheOtherCopiesByItself) {
  const MessageKey key{testing::device(1), 5, 1};
  apply(1, entry(kAlice, 1, 20));
  apply(2, entry(kAlice, 1, 10));
  apply(3, entry(kAlice, 2, 40));
  apply(4, entry(kAlice, 1, 30));
  tamper(ColumnFamily::kLog, 1, [](Bytes& value) { value[60] ^= 1; });
  EXPECT_EQ(store().read_change(part(), dot(2)).code(), Errc::kCorrupt);
  ASSERT_THAT(store().superseded(part()), IsEmpty());
  ASSERT_EQ(store().mark_lost(part(), dot(2)).code(), Errc::kOverloaded);
  EXPECT_THAT(store().superseded(part()), ElementsAre(Superseded{dot(1), dot(2)}, Superseded{dot(4), dot(2)}))
      << "whoever writes it off sees them before";
  EXPECT_EQ(store().find_key(kAlice, key)->dot, dot(2));
  ASSERT_TRUE(store().mark_lost(part(), dot(2)).ok());
  box.sync();
  EXPECT_EQ(store().find_key(kAlice, key)->dot, dot(1));
  EXPECT_EQ(store().history(kAlice, kBob, {}, 9)->size(), 2u);
  EXPECT_EQ(box.scrub().mended, 0u);
}

// Three copies, the better two damaged: the third takes the place, in whichever order they are written off.
TEST_F(StoreDamage, ACopyIsFoundPastAnotherOneThatIsDamagedToo) {
  const MessageKey key{testing::device(1), 5, 1};
  apply(1, entry(kAlice, 1, 10));
  apply(2, entry(kAlice, 1, 20));
  apply(3, entry(kAlice, 1, 30));
  tamper(ColumnFamily::kLog, 0, [](Bytes& value) { value[60] ^= 1; });
  tamper(ColumnFamily::kLog, 1, [](Bytes& value) { value[60] ^= 1; });
  for (const std::uint64_t n : {1, 2}) (void)store().read_change(part(), dot(n));
  ASSERT_THAT(store().damaged(part()), ElementsAre(dot(1), dot(2)));
  ASSERT_EQ(store().mark_lost(part(), dot(1)).code(), Errc::kOverloaded);
  EXPECT_THAT(store().superseded(part()), ElementsAre(Superseded{dot(3), dot(1)}));
  ASSERT_TRUE(store().mark_lost(part(), dot(1)).ok());
  EXPECT_EQ(store().find_key(kAlice, key)->dot, dot(3));
  ASSERT_TRUE(write_off(dot(2)).ok());
  box.sync();
  EXPECT_EQ(store().find_key(kAlice, key)->dot, dot(3));
  EXPECT_EQ(store().history(kAlice, kBob, {}, 9)->size(), 1u);
  EXPECT_EQ(box.scrub().mended, 0u);
}

// A peer came back and gave it, while it was about to be written off.
TEST_F(StoreDamage, WhatIsMendedByABatchOnItsWayIsNotWrittenOff) {
  damage_the_second();
  (void)store().read_writer(part(), kPeer, 1, 1 << 20);
  ASSERT_EQ(store().mark_lost(part(), dot(2)).code(), Errc::kOverloaded);
  ASSERT_TRUE(store().mend(part(), dot(2), made[2]).ok());
  EXPECT_EQ(store().mark_lost(part(), dot(2)).code(), Errc::kInvalid);
  // Nor does another one's word count that it is gone.
  EXPECT_TRUE(store().mend(part(), RangeStatement{kPeer, 2, 2, {}, {}}).ok());
  store().flush();  // In flight.
  EXPECT_EQ(store().mark_lost(part(), dot(2)).code(), Errc::kInvalid);
  box.sync();
  EXPECT_THAT(read(), ElementsAre(1, 2, 3));
  EXPECT_THAT(store().lost(part()), IsEmpty());
}

// Two orders to give up that meet.
TEST_F(StoreDamage, WritingOffTwiceIsWritingOffOnce) {
  damage_the_second();
  (void)store().read_writer(part(), kPeer, 1, 1 << 20);
  ASSERT_TRUE(write_off(dot(2)).ok());
  EXPECT_TRUE(store().mark_lost(part(), dot(2)).ok());
  box.sync();
  EXPECT_THAT(store().lost(part()), ElementsAre(dot(2)));
}

// Remembers what was committed last, so that a part of it can be written again, spoiled.
class Recorder final : public Committer {
 public:
  Recorder(std::unique_ptr<Committer> inner, std::string& last) : inner_(std::move(inner)), last_(last) {}
  void commit(std::unique_ptr<rocksdb::WriteBatch> batch, Done done) override {
    last_ = batch->Data();
    inner_->commit(std::move(batch), std::move(done));
  }
  void run(std::function<Status()> work, Done done) override { inner_->run(std::move(work), std::move(done)); }

 private:
  const std::unique_ptr<Committer> inner_;
  std::string& last_;
};

// Its rows were looked for when it had none.
TEST_F(StoreDamage, WhatStandsAgainAndRotsAgainLeavesNoRowBehind) {
  const MessageKey key{testing::device(1), 5, 1};
  apply(1, entry(kAlice, 1, 20));
  apply(2, entry(kAlice, 1, 10));
  apply(3, entry(kAlice, 2, 30));
  box.close_cleanly();
  for (const std::size_t row : {0, 1, 2}) {
    box.tamper(ColumnFamily::kLog, row, [](Bytes& value) { value[60] ^= 1; });
  }
  std::string last;
  rocksdb::DB* disk = nullptr;
  auto options = box.options();
  options.committer = [&, inner = options.committer](rocksdb::DB& db) -> std::unique_ptr<Committer> {
    disk = &db;
    return std::make_unique<Recorder>(inner(db), last);
  };
  box.store = std::move(*Store::open(options));
  for (const std::uint64_t n : {1, 2, 3}) (void)store().read_change(part(), dot(n));
  ASSERT_EQ(store().mark_lost(part(), dot(2)).code(), Errc::kOverloaded);  // Looks for the rows of all three.
  ASSERT_TRUE(store().mend(part(), dot(1), made[1]).ok());
  box.sync();
  const std::string mending = last;
  ASSERT_TRUE(write_off(dot(2)).ok());
  box.sync();
  ASSERT_EQ(store().find_key(kAlice, key)->dot, dot(1)) << "it stands again";
  // The record of the log alone: a head of one write, then type, family, key, value (RocksDB's write_batch.cc).
  const auto value_at = mending.find(made[1]);
  ASSERT_NE(value_at, std::string::npos);
  const auto key_at = mending.rfind(Bytes(log_key(first_slot(part(), testing::kTestPartitions), dot(1)).view()), value_at);
  ASSERT_NE(key_at, std::string::npos);
  std::string rotten = std::string(8, '\0') + std::string("\1\0\0\0", 4) + mending.substr(key_at - 3, value_at - key_at + 3) + made[1];
  rotten[rotten.size() - 20] ^= 1;
  rocksdb::WriteBatch batch(rotten);
  ASSERT_TRUE(disk->Write({}, &batch).ok());
  ASSERT_EQ(store().read_change(part(), dot(1)).code(), Errc::kCorrupt);
  ASSERT_THAT(store().damaged(part()), ElementsAre(dot(1), dot(3)));
  for (const std::uint64_t n : {1, 3}) {
    ASSERT_TRUE(write_off(dot(n)).ok());
    box.sync();
  }
  const auto shown = store().history(kAlice, kBob, {}, 9);
  ASSERT_TRUE(shown.ok()) << shown.error().text;
  EXPECT_THAT(*shown, IsEmpty());
  EXPECT_FALSE(store().find_key(kAlice, key));
}

TEST_F(StoreDamage, LostIsForGoodAndCountsAsGone) {
  damage_the_second();
  EXPECT_EQ(store().mark_lost(part(), dot(2)).code(), Errc::kInvalid);  // Nobody found it damaged.
  (void)store().read_writer(part(), kPeer, 1, 1 << 20);
  ASSERT_TRUE(write_off(dot(2)).ok());
  box.sync();
  box.lose_power();
  box.open();
  EXPECT_TRUE(store().is_whole(part()));
  EXPECT_THAT(store().lost(part()), ElementsAre(dot(2)));
  EXPECT_EQ(store().stats().lost, 1u);
  EXPECT_THAT(read(), ElementsAre(1, 3));
  const auto range = store().read_writer(part(), kPeer, 1, 1 << 20);
  EXPECT_EQ(range->to, 3u);
  EXPECT_EQ(range->live.size(), 2u);
  EXPECT_EQ(store().read_change(part(), dot(2)).code(), Errc::kNotFound);
  EXPECT_EQ(box.scrub().damaged, 0u);
  // A copy that turns up after all is taken.
  ASSERT_TRUE(store().mend(part(), dot(2), made[2]).ok());
  box.sync();
  EXPECT_THAT(read(), ElementsAre(1, 2, 3));
  EXPECT_THAT(store().lost(part()), IsEmpty());
}

// Another owner's word about what was written off here: it has it, it knows it to be gone, or it has lost it, too.
TEST_F(StoreDamage, ARangeBringsBackWhatWasLostUnlessItIsLostThereToo) {
  apply(1, entry(kAlice, 1, 1));
  for (const std::uint64_t n : {2, 3, 4}) ASSERT_TRUE(store().mark_lost(part(), dot(n)).ok());
  apply(5, entry(kAlice, 5, 5));
  box.sync();
  ASSERT_THAT(store().lost(part()), ElementsAre(dot(2), dot(3), dot(4)));
  const Bytes two = encode(entry(kAlice, 2, 2), dot(2));
  ASSERT_TRUE(store().mend(part(), RangeStatement{kPeer, 1, 4, {{2, {two}}}, {4}}).ok());
  box.sync();
  EXPECT_THAT(store().lost(part()), ElementsAre(dot(4)));
  EXPECT_THAT(read(), ElementsAre(1, 2, 5));
  box.lose_power();
  box.open();
  EXPECT_THAT(store().lost(part()), ElementsAre(dot(4)));
  EXPECT_THAT(read(), ElementsAre(1, 2, 5));
  const auto range = store().read_writer(part(), kPeer, 1, 1 << 20);
  EXPECT_EQ(range->live.size(), 3u);
  EXPECT_THAT(range->lost, ElementsAre(4));
}

TEST_F(StoreDamage, LostClosesTheTailOfARunThatNobodyHas) {
  apply(1, entry(kAlice, 1, 1));
  EXPECT_EQ(store().mark_lost(part(), dot(3)).code(), Errc::kInvalid);  // 2 comes first.
  ASSERT_TRUE(store().mark_lost(part(), dot(2)).ok());
  apply(3, entry(kAlice, 3, 3));
  box.sync();
  EXPECT_EQ(store().vector(part()).get(kPeer), 3u);
  EXPECT_THAT(read(), ElementsAre(1, 3));
  EXPECT_THAT(store().lost(part()), ElementsAre(dot(2)));
  const Dot own{store().writer(), 1};  // We know what we wrote.
  EXPECT_EQ(store().mark_lost(part(), own).code(), Errc::kInvalid);
}

TEST_F(StoreDamage, TooMuchOfItRefillsThePartition) {
  const std::uint64_t count = kDamagedDotsMax + 1;
  for (std::uint64_t n = 1; n <= count; ++n) apply(n, entry(kAlice, n, n, "x"));
  box.close_cleanly();
  {
    auto rows = box.rows({ColumnFamily::kLog}).front();
    auto engine = Engine::open({"/store", box.disk.env(), false});
    rocksdb::WriteBatch batch;
    for (const auto& [key, value] : rows) (*engine)->put(batch, ColumnFamily::kLog, key, "?");
    ASSERT_TRUE((*engine)->write_synced(batch).ok());
  }
  box.open();
  box.scrub();
  EXPECT_THAT(store().to_refill(), ElementsAre(part()));
}

}  // namespace
}  // namespace starling::storage
