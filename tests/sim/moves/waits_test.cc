// How long a return waits for owners of before who left: not at all for those who handed over everything, and not
// longer because a change is taken back meanwhile.
#include "tests/sim/moves/moves.h"

namespace starling::sim {
namespace {

class Waits : public Moves {
 protected:
  Waits() : Moves(5) {}

  // Two of the three owners of #g leave while the third is down, so that it has nobody left of before.
  void two_owners_leave() {
    cluster.crash(c, Crash::kPower);
    believes_dead(a, c);
    d = other_than({a, b, c});
    ASSERT_TRUE(change(d, "leave", {a, b}));
    ASSERT_TRUE(comes_to(a, "left", d)) << waits_for(d);
    say();
  }
  bool serves(std::size_t i, Duration limit) {
    return until([&] { return cluster.up(i) && cluster.node(i).serving(); }, limit);
  }

  std::size_t d = 0;
};
INSTANTIATE_TEST_SUITE_P(Seeds, Waits, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(4)));

TEST_P(Waits, WhoIsSafeToPowerOffIsNotWaitedFor) {
  ASSERT_NO_FATAL_FAILURE(two_owners_leave());
  ASSERT_FALSE(cluster.departed(a) || cluster.departed(b)) << "c has not got what they hold";
  tap.on_leave = [this](const TapMessage& m) {  // It does not come to ask them.
    const bool asks = m.method == Method::kCompare && m.from == c && (m.to == a || m.to == b);
    return asks ? Fate::kHold : Fate::kPass;
  };
  ASSERT_TRUE(cluster.restart(c));
  ASSERT_TRUE(departs(a) && departs(b)) << waits_for(d);
  cluster.retire(a);
  cluster.retire(b);
  EXPECT_TRUE(serves(c, 20s)) << waits_for(c);
  tap.clear();
  ASSERT_TRUE(change(d, "weight", {c}, {{"weight", 150}}));
  for (int turn = 0; turn < 100 && open_change(d) != ""; ++turn) world.run_for(100ms);
  EXPECT_EQ(open_change(d), "") << waits_for(d);
  finish();
}

// They died before they had handed over what c lacks: it waits a minute, and no longer.
TEST_P(Waits, AChangeThatIsTakenBackBeginsNoWaitAnew) {
  ASSERT_NO_FATAL_FAILURE(two_owners_leave());
  cluster.crash(a, Crash::kPower);
  cluster.crash(b, Crash::kPower);
  believes_gone(d, a);
  believes_gone(d, b);
  ASSERT_TRUE(cluster.restart(c));
  believes_alive(d, c);  // Nobody waits for who is dead.
  int taken_back = 0;
  for (const Instant end = world.now() + 90s; world.now() < end && !cluster.node(c).serving();) {
    ASSERT_TRUE(change(d, "weight", {c}, {{"weight", 150 + taken_back}}));
    for (int turn = 0; turn < 150 && !cluster.node(c).serving(); ++turn) world.run_for(100ms);
    if (cluster.node(c).serving()) break;
    ASSERT_TRUE(cluster.admin(d, "abort", Json::object())) << "it could not complete";
    ++taken_back;
  }
  EXPECT_GE(taken_back, 2) << "it did not wait at all";
  EXPECT_TRUE(cluster.node(c).serving()) << waits_for(c);
  for (const auto i : {a, b}) ASSERT_TRUE(cluster.restart(i));
  ASSERT_TRUE(departs(a) && departs(b)) << waits_for(d);
  cluster.retire(a);
  cluster.retire(b);
  for (int turn = 0; turn < 300 && open_change(d) != ""; ++turn) world.run_for(100ms);
  finish();
}

}  // namespace
}  // namespace starling::sim
