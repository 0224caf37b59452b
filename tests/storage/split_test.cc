// Splitting: at every point of it a store reads like one that always had twice as many partitions, and in the end it
// is the same, byte for byte. STARLING_SEED=n runs that seed alone.
#include <algorithm>
#include <cstdlib>
#include <functional>
#include <set>

#include <gtest/gtest.h>

#include "storage/export.h"
#include "storage/layout.h"
#include "tests/storage/split.h"

namespace starling::storage {
namespace {

using testing::closing;
using testing::device;
using testing::entry;
using testing::for_each_seed;
using testing::kAfter;
using testing::kAlice;
using testing::kBob;
using testing::kEve;
using testing::kOfAlice;
using testing::kOfCarol;
using testing::kPeer;
using testing::kTestPartitions;
using testing::open_with;
using testing::page_of;
using testing::reg;
using testing::settle_all;
using testing::settle_some;
using testing::shown;
using testing::Shown;
using testing::StoreBox;
using testing::told_of;

// --- A history, and how it is delivered. ---

struct Planned {
  MailboxId mailbox;
  Bytes bytes;
};
// Of one writer, in one of the partitions before the split.
struct Sent {
  std::vector<MailboxId> of;
  WriterId writer;
  std::vector<Planned> changes;
  std::uint64_t sent = 0;
};

std::vector<Sent> sent_runs(SeededRandom& random) {
  std::vector<Sent> runs;
  std::uint64_t time = 1;
  for (const auto& of : {kOfAlice, kOfCarol}) {
    for (const WriterId writer : {WriterId{11}, WriterId{22}, WriterId{33}}) {
      Sent run{of, writer, {}};
      for (std::uint64_t n = 1; n <= 40; ++n) {
        const MailboxId& mailbox = of[random.below(of.size())];
        const std::uint64_t seq = 1 + random.below(8);
        const Hlc at = random.below(50'000) * 1000 + time++;
        ChangeView change;
        switch (random.below(6)) {
          case 0: change = closing(mailbox, seq, at); break;
          case 1: change = reg(mailbox, "mark", random.below(2) == 0 ? "1" : "2", random.below(9), MergeKind::kMax); break;
          default: change = entry(mailbox, seq, at, random.below(2) == 0 ? "x" : "longer than that"); break;
        }
        run.changes.push_back({mailbox, encode(change, Dot{writer, n})});
      }
      runs.push_back(std::move(run));
    }
  }
  return runs;
}

// Up to `run.sent`, as other owners tell it: of each partition that the store has now.
void deliver(StoreBox& box, const Sent& run) {
  std::set<PartitionId> partitions;
  for (const auto& mailbox : run.of) partitions.insert(box.store->partition_of(mailbox));
  for (const auto partition : partitions) {
    RangeStatement range{run.writer, box.store->held(partition, run.writer) + 1, run.sent, {}, {}};
    for (std::uint64_t n = range.from; n <= range.to; ++n) {
      const Planned& made = run.changes[n - 1];
      if (box.store->partition_of(made.mailbox) == partition) range.live.push_back({n, {made.bytes}});
    }
    const auto applied = box.store->apply(partition, range);
    ASSERT_TRUE(applied.ok()) << applied.error().text;
  }
}

void erase_superseded(StoreBox& box) {
  for (const auto partition : box.store->with_superseded()) {
    const auto changes = box.store->superseded(partition);
    ASSERT_TRUE(box.store->erase_superseded(partition, changes).ok());
  }
  box.sync();
}

Shown history_of(StoreBox& box, const MailboxId& mailbox) {
  const auto entries = box.store->history(mailbox, kBob, {}, 1000);
  EXPECT_TRUE(entries.ok()) << entries.error().text;
  return entries ? shown(*entries) : Shown();
}
Export::Digest digest_of(StoreBox& box, PartitionId partition) {
  const auto exported = box.store->export_partition(partition, 0);
  while (*exported->next()) {
  }
  return exported->digest();
}

void expect_same(StoreBox& one, StoreBox& other, const std::string& when) {
  SCOPED_TRACE(when);
  for (const auto& group : {kOfAlice, kOfCarol}) {
    for (const auto& mailbox : group) {
      EXPECT_EQ(page_of(one, mailbox), page_of(other, mailbox));
      EXPECT_EQ(history_of(one, mailbox), history_of(other, mailbox));
      EXPECT_EQ(one.store->lane_high(mailbox, device(1), 5), other.store->lane_high(mailbox, device(1), 5));
      for (std::uint64_t seq = 1; seq <= 8; ++seq) {
        const auto a = one.store->find_key(mailbox, {device(1), 5, seq});
        const auto b = other.store->find_key(mailbox, {device(1), 5, seq});
        ASSERT_EQ(a.has_value(), b.has_value());
        if (a) {
          EXPECT_EQ(a->dot, b->dot);
        }
      }
      if (one.store->partitions() != other.store->partitions()) continue;
      const auto partition = one.store->partition_of(mailbox);
      EXPECT_EQ(one.store->vector(partition), other.store->vector(partition));
      EXPECT_EQ(digest_of(one, partition), digest_of(other, partition));
      for (const WriterId writer : {WriterId{11}, WriterId{22}, WriterId{33}}) {
        EXPECT_EQ(told_of(one, partition, writer), told_of(other, partition, writer));
      }
    }
  }
}

std::vector<StoreBox::Rows> rows_of(StoreBox& box) {
  box.close_cleanly();
  std::vector<StoreBox::Rows> out;
  for (const auto family : kReplicatedFamilies) out.push_back(box.rows({family}).front());
  out.push_back(box.rows({ColumnFamily::kDamage}).front());
  return out;
}

// --- A store that is split against one that never was. ---

class Together {
 public:
  // `crashes`: power is lost now and then, and nothing is erased meanwhile: a restart forgets what was superseded.
  Together(SeededRandom& random, bool crashes) : random_(random), crashes_(crashes), runs_(sent_runs(random)) {
    split_.open();
    open_with(plain_, kAfter);
  }

  void run() {
    const std::uint64_t at = 5 + random_.below(60);
    for (std::uint64_t step = 0; step < 120; ++step) {
      if (step == at) begin();
      act();
      if (step % 8 == 0 || (step > at && step < at + 20)) compare("step " + std::to_string(step));
      if (::testing::Test::HasFailure()) return;
    }
    end();
  }

 private:
  void begin() {
    if (!crashes_) erase();  // What was noted before is forgotten by the one, and not by the other.
    ASSERT_TRUE(split_.store->split().ok());
    ASSERT_EQ(split_.store->partitions(), kAfter);
  }
  void act() {
    switch (random_.below(9)) {
      case 0: split_.store->flush(); break;
      case 1:
        if (split_.commits.waiting() > 0) split_.commits.finish_one();
        break;
      case 2:
      case 3: (void)settle_some(split_, 100 + random_.below(800)); break;
      case 4:
        if (!crashes_) erase();
        break;
      case 5:
        if (crashes_ && random_.below(3) == 0) lose_power();
        break;
      case 6:
        if (random_.below(4) == 0) {
          EXPECT_EQ(split_.scrub(700).mended, 0u);
        }
        break;
      default: deliver_some(); break;
    }
  }
  void deliver_some() {
    Sent& run = runs_[random_.below(runs_.size())];
    run.sent = std::min<std::uint64_t>(run.sent + 1 + random_.below(5), run.changes.size());
    deliver(split_, run);
    deliver(plain_, run);
    plain_.sync();
  }
  void deliver_all() {
    for (const Sent& run : runs_) {
      deliver(split_, run);
      deliver(plain_, run);
    }
    split_.sync();
    plain_.sync();
  }
  void erase() {
    deliver_all();
    erase_superseded(split_);
    erase_superseded(plain_);
  }
  void lose_power() {
    const bool began = split_.store->partitions() == kAfter;
    split_.lose_power();
    ASSERT_NO_FATAL_FAILURE(split_.open());
    if (began && split_.store->partitions() != kAfter) {
      ASSERT_TRUE(split_.store->split().ok());
    }
    for (const Sent& run : runs_) deliver(split_, run);
  }
  void compare(const std::string& when) {
    deliver_all();
    expect_same(split_, plain_, when);
  }
  void end() {
    for (Sent& run : runs_) run.sent = run.changes.size();
    compare("all delivered");
    settle_all(split_);
    compare("settled");
    for (StoreBox* box : {&split_, &plain_}) {
      const auto scrubbed = box->scrub(2000);
      EXPECT_EQ(scrubbed.mended, 0u);
      EXPECT_EQ(scrubbed.damaged, 0u);
      erase_superseded(*box);
    }
    compare("erased");
    const auto mine = rows_of(split_);
    const auto theirs = rows_of(plain_);
    for (std::size_t i = 0; i < mine.size(); ++i) EXPECT_EQ(mine[i], theirs[i]) << "family " << i;
    EXPECT_FALSE(mine.front().empty());
  }

  SeededRandom& random_;
  const bool crashes_;
  std::vector<Sent> runs_;
  StoreBox split_, plain_;
};

TEST(StoreSplit, ReadsLikeAStoreThatWasNeverSplitAndEndsAsOne) {
  for_each_seed(8, [](SeededRandom& random) { Together(random, /*crashes=*/false).run(); });
}

TEST(StoreSplit, GoesOnAfterLossesOfPower) {
  for_each_seed(8, [](SeededRandom& random) { Together(random, /*crashes=*/true).run(); });
}

// At each change of the disk.
TEST(StoreSplit, ACrashAtAnyPointLosesNothingAndItGoesOn) {
  for (const bool power : {false, true}) {
    bool whole = false;
    for (std::uint64_t at = 1; !whole; ++at) {
      ASSERT_LT(at, 1000u);
      SCOPED_TRACE((power ? "power lost at change " : "killed at change ") + std::to_string(at));
      StoreBox box;
      box.open();
      Sent run{kOfAlice, kPeer, {}, 20};
      for (std::uint64_t n = 1; n <= run.sent; ++n) {
        const MailboxId& mailbox = kOfAlice[n % kOfAlice.size()];
        run.changes.push_back({mailbox, encode(entry(mailbox, n, n), Dot{kPeer, n})});
      }
      deliver(box, run);
      box.sync();
      const auto alice = page_of(box, kAlice), eve = page_of(box, kEve);
      ASSERT_FALSE(alice.empty() || eve.empty());
      box.disk.freeze_in(at);
      ASSERT_TRUE(box.store->split().ok());
      for (int turn = 0; turn < 100 && !box.store->is_split_settled(); ++turn) {
        (void)box.store->settle_split(600);
        box.store->flush();
        while (box.commits.waiting() > 0) box.commits.try_one();
      }
      whole = !box.disk.frozen();
      box.disk.freeze();
      box.store.reset();
      if (power) box.disk.drop_unsynced();
      box.disk.thaw();
      ASSERT_NO_FATAL_FAILURE(box.open());
      EXPECT_EQ(page_of(box, kAlice), alice);
      EXPECT_EQ(page_of(box, kEve), eve);
      if (box.store->partitions() == kTestPartitions) {
        ASSERT_TRUE(box.store->split().ok());
      }
      settle_all(box);
      EXPECT_EQ(page_of(box, kAlice), alice);
      EXPECT_EQ(page_of(box, kEve), eve);
      for (const auto& mailbox : {kAlice, kEve}) {
        EXPECT_EQ(box.store->vector(box.store->partition_of(mailbox)).get(kPeer), 20u);
      }
      box.store.reset();
      const auto log = box.rows({ColumnFamily::kLog});
      EXPECT_EQ(log.front().size(), 20u);
      for (const auto& [key, value] : log.front()) {
        const auto change = decode(value, *parse_dot_key(key, sizeof(Slot)));
        ASSERT_TRUE(change.ok());
        EXPECT_EQ(BytesReader(key).u16be(), first_slot(partition_of(slot_of(change->mailbox), kAfter), kAfter));
      }
    }
  }
}

}  // namespace
}  // namespace starling::storage
