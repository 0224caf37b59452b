#include "node/replication/catch_up/turns.h"

#include <gtest/gtest.h>

#include "tests/overlay/ring_fixture.h"
#include "tests/sim/world/sim_loop.h"

namespace starling::node {
namespace {

using overlay::test_id;

class TurnsTest : public ::testing::Test {
 protected:
  overlay::Task<Done> wait(NodeId who, std::string name, Instant until) {
    auto turn = turns.take(who, until);
    const bool mine = co_await turn;
    if (mine) times.push_back(world.now());
    order.push_back(mine ? name : "late " + name);
    co_return Done{};
  }
  void ask(std::uint32_t who, const std::string& name, Duration patience = 1h) {
    loop.enter([&] { scope.spawn(wait(test_id(who), name, world.now() + patience)); });
  }

  sim::World world{1};
  sim::SimLoop loop{world, "turns"};
  Turns turns{loop};
  overlay::Scope scope{loop};
  std::vector<std::string> order;
  std::vector<Instant> times;
};

TEST_F(TurnsTest, WhoeverComesAloneNeedNotWait) {
  ask(1, "a");
  EXPECT_EQ(order, std::vector<std::string>{"a"});
}

TEST_F(TurnsTest, OnePieceIsDoneInATurnInTheOrderOfTheLine) {
  for (const auto* name : {"a", "b", "c", "d"}) ask(1, name);
  world.run_for(100ms);
  EXPECT_EQ(order, (std::vector<std::string>{"a", "b", "c", "d"}));
  for (std::size_t i = 1; i < times.size(); ++i) EXPECT_LT(times[i - 1], times[i]);
}

TEST_F(TurnsTest, WhoAsksForMuchHoldsUpItselfOnly) {
  for (int i = 0; i < 500; ++i) ask(1, "greedy");
  ask(2, "modest");
  ask(3, "modest");
  world.run_for(5ms);
  EXPECT_EQ(std::count(order.begin(), order.end(), "modest"), 2);
  world.run_for(1s);
  EXPECT_EQ(order.size(), 502u);
}

TEST_F(TurnsTest, WhatNobodyWaitsForAnyMoreIsNotDoneAndCostsNoTurn) {
  ask(1, "first");
  for (int i = 0; i < 5; ++i) ask(2, "hasty", 1ns);
  ask(2, "patient");
  world.run_for(1ms + 1us);
  EXPECT_EQ(times.size(), 2u);
  EXPECT_EQ(order.back(), "patient");
  EXPECT_EQ(std::count(order.begin(), order.end(), "late hasty"), 5);
  EXPECT_EQ(turns.waiting(), 0u);
}

// Held up by other work, or by the piece before: half as long again is for what lives.
TEST_F(TurnsTest, ALoopThatIsLateRestsHalfAsLong) {
  for (const auto* name : {"a", "b", "c"}) ask(1, name);
  loop.pause();
  world.run_for(4ms);
  loop.resume();
  world.run_for(1400us);
  EXPECT_EQ(order, std::vector<std::string>{"a"}) << "b was due after 1 ms, 3 ms late";
  world.run_for(200us);
  EXPECT_EQ(order, (std::vector<std::string>{"a", "b"}));
  world.run_for(1100us);
  EXPECT_EQ(order, (std::vector<std::string>{"a", "b", "c"})) << "it is not late again";
}

TEST_F(TurnsTest, AnHourOfLatenessIsNotRested) {
  for (const auto* name : {"a", "b"}) ask(1, name, 2h);
  loop.pause();
  world.run_for(1h);
  loop.resume();
  world.run_for(kTurnsRestMax + 1ms);
  EXPECT_EQ(order, (std::vector<std::string>{"a", "b"}));
}

TEST_F(TurnsTest, ALineIsBounded) {
  ask(1, "first");
  for (std::size_t i = 0; i <= kTurnsWaitingMax; ++i) ask(2, "x");
  EXPECT_EQ(order.back(), "late x");
  EXPECT_EQ(turns.waiting(), kTurnsWaitingMax);
}

}  // namespace
}  // namespace starling::node
