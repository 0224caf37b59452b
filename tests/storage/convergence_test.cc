// Convergence: whatever the order, the repeats and the cuts of delivery, one state.
//
// Random histories from seeds; a failure prints its seed, STARLING_SEED=n runs that one alone.
#include <algorithm>
#include <cstdlib>

#include <gtest/gtest.h>

#include "storage/export.h"
#include "storage/install.h"
#include "tests/storage/support.h"

namespace starling::storage {
namespace {

using testing::closing;
using testing::entry;
using testing::for_each_seed;
using testing::kAlice;
using testing::kBob;
using testing::reg;
using testing::StoreBox;

template <class T>
void shuffle(std::vector<T>& items, SeededRandom& random) {
  for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[random.below(i)]);
}

// --- Registers: the winner of a set of writes is one, by whatever tree of merges. ---

TEST(Convergence, RegistersOfEachKindMergeInAnyOrderAndGrouping) {
  for (const auto kind : {MergeKind::kLww, MergeKind::kMax, MergeKind::kMember}) {
    for_each_seed(200, [kind](SeededRandom& random) {
      std::vector<Bytes> values;
      for (int i = 0; i < 12; ++i) {
        values.push_back(kind == MergeKind::kMember && random.below(8) != 0
                             ? pack(MemberValue{random.below(3), random.below(2) == 1,
                                                static_cast<std::uint8_t>(random.below(3)), "@x"})
                             : Bytes(1 + random.below(2), static_cast<char>(random.below(3))));
      }
      std::vector<RegisterView> writes;
      for (const auto& value : values) {
        writes.push_back({kind, {random.below(4), WriterId{random.below(3)}}, "k", value});
      }
      const auto merge = [](const RegisterView& a, const RegisterView& b) {
        return wins(b, a) ? b : a;
      };
      const auto fold = [&](std::vector<RegisterView> items) {
        while (items.size() > 1) {  // Any two neighbours, again and again.
          const std::size_t i = random.below(items.size() - 1);
          items[i] = merge(items[i], items[i + 1]);
          items.erase(items.begin() + static_cast<std::ptrdiff_t>(i) + 1);
        }
        return items.front();
      };
      const auto expected = fold(writes);
      for (int round = 0; round < 5; ++round) {
        auto again = writes;
        again.insert(again.end(), writes.begin(), writes.begin() + 5);  // Repeats.
        shuffle(again, random);
        const auto found = fold(again);
        EXPECT_EQ(found.value, expected.value);
        EXPECT_EQ(found.stamp, expected.stamp);
      }
    });
  }
}

// --- Stores. ---

struct Made {
  Dot dot;
  MailboxId mailbox;
  Bytes bytes;
};

// Few keys, devices and registers, so that copies, voids and writes meet all the time.
std::vector<std::vector<Made>> random_runs(SeededRandom& random) {
  const Bytes member[] = {pack(MemberValue{1, false, 1, "@x"}), pack(MemberValue{1, true, 0, "@x"}),
                          pack(MemberValue{2, false, 0, "@x"})};
  std::vector<std::vector<Made>> runs;
  std::uint64_t time = 1;
  for (const WriterId writer : {WriterId{11}, WriterId{22}, WriterId{33}}) {
    std::vector<Made> run;
    for (std::uint64_t n = 1; n <= 40; ++n) {
      const MailboxId& mailbox = random.below(2) == 0 ? kAlice : kBob;
      const std::uint64_t seq = 1 + random.below(12);
      // Every third position is the same in all copies of a key, as with the sender's own copy.
      const Hlc at = random.below(3) == 0 ? 100'000 + seq : random.below(50'000) * 1000 + time++;
      ChangeView change;
      switch (random.below(5)) {
        case 0: change = closing(mailbox, seq, at); break;
        case 1: change = reg(mailbox, "mark", random.below(2) == 0 ? "1" : "2", random.below(3),
                             MergeKind::kMax, WriterId{random.below(2)}); break;
        case 2: change = reg(mailbox, "role", member[random.below(3)], random.below(3),
                             MergeKind::kMember, WriterId{random.below(2)}); break;
        default: change = entry(mailbox, seq, at, random.below(2) == 0 ? "x" : "y"); break;
      }
      if (change.kind != ChangeKind::kRegister) change.entry.id.writer = WriterId{random.below(3)};
      const Dot dot{writer, n};
      run.push_back({dot, mailbox, encode(change, dot)});
    }
    runs.push_back(std::move(run));
  }
  return runs;
}

// Delivers some of a run again or further: one change, or a range that begins anywhere before its
// end and may overlap what is held; sometimes with a gap, which must change nothing.
void deliver_some(StoreBox& box, const std::vector<Made>& run, SeededRandom& random) {
  const WriterId writer = run.front().dot.writer;
  const PartitionId partition = box.store->partition_of(kAlice);
  const std::uint64_t held = box.store->held(partition, writer);
  const std::uint64_t at = random.below(4) == 0 ? random.below(run.size()) : held;
  if (at >= run.size()) return;
  if (random.below(2) == 0) {
    const auto applied = box.store->apply(partition, run[at].dot, run[at].bytes);
    ASSERT_TRUE(applied.ok()) << applied.error().text;
    EXPECT_EQ(*applied, at < held ? Applied::kAlready : at == held ? Applied::kNew : Applied::kGap);
    return;
  }
  RangeStatement range{writer, at + 1, at + 1 + random.below(run.size() - at), {}};
  for (std::uint64_t n = range.from; n <= range.to; ++n) {
    range.live.push_back({n, {run[n - 1].bytes}});
  }
  const auto applied = box.store->apply(partition, range);
  ASSERT_TRUE(applied.ok()) << applied.error().text;
  EXPECT_EQ(*applied, range.to <= held ? Applied::kAlready
                      : at > held      ? Applied::kGap
                                       : Applied::kNew);
}

struct State {
  std::vector<StoreBox::Rows> rows;
  Export::Digest digest{};
};

// Closes the store.
State state_of(StoreBox& box) {
  State out;
  {
    const auto exported = box.store->export_partition(box.store->partition_of(kAlice), 0);
    while (*exported->next()) {
    }
    out.digest = exported->digest();
  }
  box.close_cleanly();
  out.rows = box.rows({ColumnFamily::kLog, ColumnFamily::kEntries, ColumnFamily::kMailboxDots,
                       ColumnFamily::kRegisters, ColumnFamily::kKeys, ColumnFamily::kLanes,
                       ColumnFamily::kPartitions});
  for (const auto& rows : out.rows) EXPECT_FALSE(rows.empty());
  return out;
}

// The state after the runs arrived in a random way.
State state_after(const std::vector<std::vector<Made>>& runs, SeededRandom& random) {
  StoreBox box;
  box.open();
  const PartitionId partition = box.store->partition_of(kAlice);
  const auto all_held = [&] {
    return std::all_of(runs.begin(), runs.end(), [&](const auto& run) {
      return box.store->held(partition, run.front().dot.writer) == run.size();
    });
  };
  while (!all_held()) {
    deliver_some(box, runs[random.below(runs.size())], random);
    if (random.below(4) == 0) box.store->flush();
    if (random.below(4) == 0 && box.commits.waiting() > 0) box.commits.finish_one();
    if (random.below(60) == 0) {
      box.sync();
      box.lose_power();
      box.open();
    }
  }
  box.sync();
  EXPECT_EQ(box.scrub(2000).mended, 0u);
  return state_of(box);
}

// The same when a part of each run comes by files, in one part or several, and the rest one by one.
State state_by_files(const std::vector<std::vector<Made>>& runs, SeededRandom& random) {
  StoreBox box;
  box.open();
  const PartitionId partition = box.store->partition_of(kAlice);
  auto install = box.store->install(std::span(&partition, 1));
  EXPECT_TRUE(install.ok());
  std::vector<std::uint64_t> ends;
  for (const auto& run : runs) ends.push_back(random.below(3) == 0 ? run.size() : random.below(run.size() + 1));
  for (bool more = true; more;) {
    more = false;
    for (std::size_t i = 0; i < runs.size(); ++i) {
      RangeStatement range{runs[i].front().dot.writer, (*install)->held(partition, runs[i].front().dot.writer) + 1, 0,
                           {}, {}};
      range.to = std::min(ends[i], range.from + random.below(10));
      for (std::uint64_t n = range.from; n <= range.to; ++n) range.live.push_back({n, {runs[i][n - 1].bytes}});
      EXPECT_TRUE((*install)->apply(partition, range).ok());
      more = more || range.to < ends[i];
    }
    if (random.below(3) != 0) continue;
    (*install)->write();
    box.sync();
    while (box.commits.works() > 0) EXPECT_TRUE(box.commits.do_work().ok());
  }
  (*install)->finish([](const Status& status) { EXPECT_TRUE(status.ok()); });
  box.sync();
  while (box.commits.works() > 0) EXPECT_TRUE(box.commits.do_work().ok());
  box.sync();
  EXPECT_TRUE(box.store->is_whole(partition));
  for (std::size_t i = 0; i < runs.size(); ++i) {
    EXPECT_EQ(box.store->synced(partition, runs[i].front().dot.writer), ends[i]);
    for (std::uint64_t n = ends[i] + 1; n <= runs[i].size(); ++n) {
      EXPECT_TRUE(box.store->apply(partition, runs[i][n - 1].dot, runs[i][n - 1].bytes).ok());
    }
  }
  box.sync();
  EXPECT_EQ(box.scrub(2000).mended, 0u);
  return state_of(box);
}

TEST(Convergence, ReplicasWithTheSameChangesHoldTheSameBytes) {
  for_each_seed(12, [](SeededRandom& random) {
    const auto runs = random_runs(random);
    const auto expected = state_after(runs, random);
    for (int replica = 0; replica < 4; ++replica) {
      const auto found = replica == 3 ? state_by_files(runs, random) : state_after(runs, random);
      EXPECT_EQ(found.rows, expected.rows);
      EXPECT_EQ(found.digest, expected.digest);
    }
  });
}

}  // namespace
}  // namespace starling::storage
