// Stand-ins with segments of a parent: each goes home child by child, also from a stand-in that split late.
#include "tests/sim/doubling/doubling.h"
#include "tests/sim/judge/owners_equal.h"

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
    held_by_who_is_there();
  }
  void held_by_who_is_there() {
    world.run_for(15s);  // Until the others are taken for dead.
    holders.clear();
    held = say_both(3);
    for (const auto m : held) ASSERT_EQ(record(m).copies, 2);
    ASSERT_FALSE(holders.empty());
  }
  // alice2's messages that burn, which a alone has: nobody is told of them before they expired.
  void expires_unheld() {
    ASSERT_NO_FATAL_FAILURE(double_all(a));
    ASSERT_NO_FATAL_FAILURE(settle_all());
    start(*alice2, a);
    cluster.partition({{a, d, e}, {b, c}});
    world.run_for(15s);
    std::size_t kept_back = 0;
    tap.on_leave = [&](const TapMessage& m) {
      const bool hint = m.method == Method::kHint && m.from == a;
      kept_back += hint ? 1 : 0;
      return hint ? Fate::kLose : Fate::kPass;
    };
    for (const auto& to : {std::string("#g"), sibling}) {
      ASSERT_TRUE(alice2->client().send(to, "burn after reading", {.lifetime_s = 60}, [](Result<node::Sent>) {}));
    }
    ASSERT_TRUE(until([&] { return kept_back > 1; }));
    alice2->close();
    world.run_for(120s);
    tap.on_leave = nullptr;
  }
  void all_equal_in_time() {
    tap.clear();
    ASSERT_TRUE(cluster.end_faults());
    EXPECT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
    EXPECT_TRUE(cluster.run_until_quiet(60s));
    world.run_for(90s);  // Those that were cut off come to know how late it is.
    const auto stores = cluster.stop_and_export();
    ASSERT_TRUE(stores) << stores.error().text;
    const auto found = check_rows(*stores, {});
    EXPECT_TRUE(found.empty()) << text(found);
  }
  std::uint64_t bytes_held(std::size_t i) {
    const auto status = cluster.admin(i, "status", Json::object());
    return status ? status->at("rates").at("hints_bytes").get<std::uint64_t>() : 0;
  }

  std::size_t d = 0, e = 0;
  std::set<std::size_t> holders;
  std::vector<SendIndex> held;
};

INSTANTIATE_TEST_SUITE_P(Seeds, DoublingStandIns, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

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
  cluster.partition({{a, d}, {b, c}, {e}});
  ASSERT_NO_FATAL_FAILURE(held_by_who_is_there());
  cluster.crash(a, Crash::kPower);
  cluster.crash(d, GetParam() % 2 == 0 ? Crash::kPower : Crash::kProcess);
  cluster.heal();
  world.run_for(15s);
  ASSERT_TRUE(agree(b)) << world.trace().text("", 60);
  ASSERT_TRUE(until([&] { return have({b, c, e}, 2 * before()); }, 30s));
  ASSERT_TRUE(cluster.restart(d));
  start(*bob2, b);
  all_shown(held);
  finish();
}

// It expired before a stand-in took it, so the owners that take it home read nothing of it: but its lane they must know.
TEST_P(DoublingStandIns, WhatExpiredBeforeItWasHeldLeavesItsLane) {
  ASSERT_NO_FATAL_FAILURE(expires_unheld());
  held = say_both();
  for (const auto m : held) ASSERT_EQ(record(m).copies, 2);
  cluster.crash(a, Crash::kPower);
  cluster.heal();
  start(*bob2, b);
  all_shown(held);
  ASSERT_NO_FATAL_FAILURE(all_equal_in_time());
}

// The same, and it was erased from the log: the stand-in is told that there is nothing. Its lane comes from an owner.
TEST_P(DoublingStandIns, WhatIsErasedBeforeItWasHeldLeavesItsLane) {
  ASSERT_NO_FATAL_FAILURE(expires_unheld());
  tap.alter = [&](const TapMessage& m, Bytes& body) {
    auto hint = m.method == Method::kHint ? unpack<node::Replicate>(body) : Result<node::Replicate>(Error{});
    if (!hint || hint->runs.empty() || hint->runs[0].changes.size() < 2) return;
    hint->runs[0].changes[0].data = {};
    body = pack(*hint);
  };
  held = say_both();
  for (const auto m : held) ASSERT_EQ(record(m).copies, 2);
  tap.alter = nullptr;
  tap.on_leave = [&](const TapMessage& m) {  // They take it from the stand-ins.
    const bool from_a = m.method == Method::kReplicate && m.from == a;
    return from_a || (m.method == Method::kFetch && m.to == a) ? Fate::kLose : Fate::kPass;
  };
  cluster.heal();
  start(*bob2, b);
  all_shown(held);
  ASSERT_NO_FATAL_FAILURE(all_equal_in_time());
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
