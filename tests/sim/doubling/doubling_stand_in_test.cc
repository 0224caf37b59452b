// Stand-ins with segments of a parent: each goes home child by child, also from a stand-in that split late.
#include "tests/sim/doubling/doubling.h"

namespace starling::sim {
namespace {

// Five nodes: a, b and c own the groups, d and e stand in. alice writes through a.
class DoublingStandIns : public Doubling {
 protected:
  DoublingStandIns() : Doubling(5) {}
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Doubling::SetUp());
    d = other_than({a, b, c});
    e = other_than({a, b, c, d});
    alice->close();
    bob->close();
    start(*alice, a);
    start(*bob, d);
    tap.on_arrive = [this](const TapMessage& m) {
      if (m.method != Method::kHint) return;
      if (!carried(m).empty()) holders.insert(m.to);
    };
  }
  // Acknowledged by a and one of d and e, to both groups.
  void held_by_stand_ins() {
    cluster.partition({{a, d, e}, {b, c}});
    world.run_for(15s);  // Until they are taken for dead.
    holders.clear();
    held = say_both(3);
    for (const auto m : held) ASSERT_EQ(record(m).copies, 2);
    ASSERT_FALSE(holders.empty());
  }
  std::uint64_t bytes_held(std::size_t i) {
    const auto status = cluster.admin(i, "status", Json::object());
    return status ? status->at("rates").at("hints_bytes").get<std::uint64_t>() : 0;
  }

  std::size_t d = 0, e = 0;
  std::set<std::size_t> holders;
  std::vector<SendIndex> held;
};

INSTANTIATE_TEST_SUITE_P(Seeds, DoublingStandIns, ::testing::Range<std::uint64_t>(1, 6));

// a, which has it all, is gone before b and c are back.
TEST_P(DoublingStandIns, ASegmentOfAParentComesHomeToItsChildren) {
  ASSERT_NO_FATAL_FAILURE(held_by_stand_ins());
  ASSERT_TRUE(agree(a));
  ASSERT_TRUE(until([&] { return have({a, d, e}, 2 * before()); }, 30s));
  for (const auto m : say_both(3)) held.push_back(m);
  cluster.crash(a, Crash::kPower);
  tap.clear();
  cluster.heal();
  start(*bob2, b);
  all_shown(held);
  EXPECT_TRUE(until([&] { return bytes_held(d) + bytes_held(e) == 0 || !cluster.up(a); }, 60s));
  finish();
}

// The stand-in alone has the old count when it meets the owners again.
TEST_P(DoublingStandIns, AStandInThatWasAwaySplitsItsSegments) {
  ASSERT_NO_FATAL_FAILURE(held_by_stand_ins());
  cluster.crash(a, Crash::kPower);
  for (const auto i : holders) cluster.crash(i, GetParam() % 2 == 0 ? Crash::kPower : Crash::kProcess);
  const std::size_t rest = cluster.up(d) ? d : e;
  if (!cluster.up(rest)) GTEST_SKIP() << "both hold, and three of five are away: nothing can be agreed on";
  cluster.heal();
  world.run_for(15s);
  ASSERT_TRUE(agree(b)) << world.trace().text("", 60);
  ASSERT_TRUE(until([&] { return have({b, c, rest}, 2 * before()); }, 30s));
  for (const auto i : holders) ASSERT_TRUE(cluster.restart(i));
  start(*bob2, b);
  all_shown(held);
  finish();
}

// Power is lost there while the segments are split.
TEST_P(DoublingStandIns, APowerLossInTheStageOfSegmentsLosesNone) {
  ASSERT_NO_FATAL_FAILURE(held_by_stand_ins());
  const std::size_t holder = *holders.begin();
  std::uint64_t left = GetParam() - 1;
  cluster.disk(holder).on_commit([&](std::uint64_t) {
    if (cluster.partitions(holder) == before() || cluster.settled(holder) || left-- > 0) return;
    cluster.disk(holder).on_commit(nullptr);
    cluster.crash(holder, Crash::kPower);
  });
  ASSERT_TRUE(agree(a));
  const bool fell = until([&] { return !cluster.up(holder); }, 10s);
  ASSERT_TRUE(fell || GetParam() > 2) << "it has commits to fall in";
  cluster.disk(holder).on_commit(nullptr);
  cluster.crash(a, Crash::kPower);
  tap.clear();
  cluster.heal();
  ASSERT_TRUE(cluster.restart(holder));
  start(*bob2, b);
  all_shown(held);
  finish();
}

}  // namespace
}  // namespace starling::sim
