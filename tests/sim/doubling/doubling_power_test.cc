// Power is lost at each commit of a doubling, from the one with the ring version to that which ends the settling: a store
// has the old count or the new one, and the promises hold.
#include <set>

#include "storage/engine/engine.h"
#include "storage/layout.h"
#include "tests/sim/doubling/doubling.h"

namespace starling::sim {
namespace {

using storage::ColumnFamily;

// What the disk of a node says that fell.
enum class Phase { kBefore, kHints, kLog, kBetweenSlices, kLastSlice, kSettled };

class DoublingPower : public Doubling {
 protected:
  DoublingPower() : Doubling({.nodes = 3, .partitions = 4}) {}

  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Doubling::SetUp());
    say_both(8, 20'000);  // Some slices (Store::settle_split).
  }

  Phase phase(std::size_t i, std::uint32_t twice) {
    auto engine = storage::Engine::open({cluster.folder(i) + "/store", cluster.disk(i).env(), false});
    EXPECT_TRUE(engine.ok());
    rocksdb::PinnableSlice count, split;
    EXPECT_TRUE((*engine)->get(ColumnFamily::kNode, storage::kNodePartitions, count).ok());
    const auto splitting = (*engine)->get(ColumnFamily::kNode, storage::kNodeSplit, split);
    if (storage::parse_number({count.data(), count.size()}) != twice) return Phase::kBefore;
    if (!splitting || !*splitting) return Phase::kSettled;
    const auto row = storage::parse_split_row({split.data(), split.size()});
    EXPECT_TRUE(row.has_value());
    if (!row || row->stage == storage::SplitRow::Stage::kHints) return Phase::kHints;
    if (row->at.empty()) return Phase::kLog;
    return row->at.front() == '\xff' ? Phase::kLastSlice : Phase::kBetweenSlices;
  }

  // One doubling: power is lost at a, and with it at the others if `all`, in that commit of a after it has adopted.
  void lose_power_in(std::uint64_t commit, bool all) {
    const std::uint32_t twice = 2 * cluster.partitions(b);
    std::uint64_t seen = 0;
    cluster.disk(a).on_commit([&](std::uint64_t) {
      if (cluster.partitions(a) != twice || seen++ != commit) return;
      cluster.disk(a).on_commit(nullptr);
      cluster.crash(a, Crash::kPower);
      if (!all) return;
      for (const auto i : {b, c}) crash_soon(i, Crash::kPower);
    });
    const auto early = send(*alice);
    const auto other = send(*alice, sibling);
    ASSERT_TRUE(agree(b) || !cluster.up(b)) << world.trace().text("", 60);
    ASSERT_TRUE(until([&] { return !cluster.up(a); }, 60s)) << "it has no commit " << commit;
    cluster.disk(a).on_commit(nullptr);
    world.run_for(10ms);
    met.insert(phase(a, twice));
    for (const auto i : {a, b, c}) ASSERT_TRUE(cluster.restart(i));
    ASSERT_TRUE(until([&] { return all_have(twice) || (all && all_have(twice / 2)); }, 60s)) << world.trace().text("", 60);
    EXPECT_TRUE(acked(early)) << world.trace().text("", 60);
    EXPECT_TRUE(acked(other)) << world.trace().text("", 60);
    ASSERT_NO_FATAL_FAILURE(settle_all());
    all_shown({early, other});
  }

  std::set<Phase> met;
};

INSTANTIATE_TEST_SUITE_P(Seeds, DoublingPower, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(4)));

// In memory it has the new count, and nothing of that is on its disk.
TEST_P(DoublingPower, BeforeTheVersionIsOnTheDisk) {
  bob->close();
  start(*bob, b);
  cluster.disk(a).hold(true);
  ASSERT_TRUE(agree(b));
  ASSERT_TRUE(until([&] { return all_have(2 * before()); }, 30s));
  cluster.crash(a, Crash::kPower);
  ASSERT_EQ(phase(a, 2 * before()), Phase::kBefore);
  cluster.disk(a).hold(false);
  const auto said = say_both();
  ASSERT_TRUE(cluster.restart(a));
  ASSERT_TRUE(until([&] { return all_have(2 * before()); }, 30s));
  all_shown(said);
  finish();
}

TEST_P(DoublingPower, InEachCommitOfOneOwner) {
  for (std::uint64_t commit = 0; commit < 9; ++commit) {
    ASSERT_NO_FATAL_FAILURE(lose_power_in(commit, false)) << commit;
  }
  EXPECT_TRUE(met.contains(Phase::kBetweenSlices));
  EXPECT_GE(met.size(), 3u);
  finish();
}

TEST_P(DoublingPower, InEachCommitAndOfAllOwners) {
  for (std::uint64_t commit = 0; commit < 9; ++commit) {
    ASSERT_NO_FATAL_FAILURE(lose_power_in(commit, true)) << commit;
  }
  EXPECT_TRUE(met.contains(Phase::kBetweenSlices));
  EXPECT_GE(met.size(), 3u);
  finish();
}

}  // namespace
}  // namespace starling::sim
