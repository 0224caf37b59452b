#include "node/replication/catch_up/turns.h"

#include <gtest/gtest.h>

#include "tests/overlay/ring_fixture.h"
#include "tests/sim/world/sim_loop.h"

namespace starling::node {
namespace {

using overlay::test_id;

class TurnsTest : public ::testing::Test {
 protected:
  // `cost`: what it is, if its doer says so.
  overlay::Task<Done> wait(NodeId who, std::string name, Instant until, std::optional<std::size_t> cost) {
    auto turn = turns.take(who, until);
    const bool mine = co_await turn;
    if (mine) times.push_back(world.now());
    if (mine && cost) turns.did(*cost);
    order.push_back(mine ? name : "late " + name);
    co_return Done{};
  }
  void ask(std::uint32_t who, const std::string& name, Duration patience = 1h, std::optional<std::size_t> cost = {}) {
    loop.enter([&] { scope.spawn(wait(test_id(who), name, world.now() + patience, cost)); });
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

// The last changes of an owner that returns: each turn and rest would bring a few of them only.
TEST_F(TurnsTest, ShortPiecesShareATurn) {
  constexpr std::size_t kPieces = 50, kShort = 2000;
  for (std::size_t i = 0; i < kPieces; ++i) ask(1, "a", 1h, kShort);
  world.run_for(100ms);
  ASSERT_EQ(times.size(), kPieces);
  std::map<Instant, std::size_t> turn;
  for (const auto at : times) ++turn[at];
  constexpr std::size_t kInATurn = kTurnRoom / 2 / (kShort + kPieceCost);
  EXPECT_LE(times.back() - times.front(), Duration(1ms) * (kPieces / kInATurn + 1));
  for (const auto& [at, pieces] : turn) EXPECT_LE(pieces * (kShort + kPieceCost), kTurnRoom);
}

TEST_F(TurnsTest, BehindHalfATurnOfShortPiecesALongOneWaitsForTheNext) {
  for (int i = 0; i < 20; ++i) ask(1, "short", 1h, 2000);
  ask(2, "long", 1h);
  ask(3, "short", 1h, 2000);
  world.run_for(100ms);
  ASSERT_EQ(times.size(), 22u);
  std::map<Instant, std::size_t> cost;
  for (std::size_t i = 0; i < times.size(); ++i) cost[times[i]] += order[i] == "long" ? kTurnRoom : 2000 + kPieceCost;
  for (const auto& [at, used] : cost) EXPECT_LE(used, kTurnRoom * 3 / 2);
}

// A short piece rests for its part of the turn's room.
TEST_F(TurnsTest, ShortPiecesRestLittle) {
  ask(1, "a", 1h, kTurnRoom / 8 - kPieceCost);
  loop.pause();
  world.run_for(9ms);
  loop.resume();  // 8 ms late: half of it, an eighth of that.
  world.run_for(1us);
  ask(1, "b", 1h, 0);
  world.run_for(490us);
  EXPECT_EQ(order.size(), 1u);
  world.run_for(20us);
  EXPECT_EQ(order.size(), 2u);
}

// It is not taken for somebody who comes alone each time.
TEST_F(TurnsTest, WhoAsksForOnePieceAtATimeRestsToo) {
  ask(1, "a");
  loop.pause();
  world.run_for(5ms);
  loop.resume();
  world.run_for(1us);
  ask(1, "b");
  EXPECT_EQ(order, std::vector<std::string>{"a"}) << "the loop was 4 ms late behind it";
  world.run_for(2ms);
  EXPECT_EQ(order, (std::vector<std::string>{"a", "b"}));
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
