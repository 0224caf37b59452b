// What an operator is told of a change that he began, or wants taken back, when others change the ring, too.
#include <optional>

#include "tests/sim/moves/moves.h"
#include "tests/sim/world/raw_peer.h"

namespace starling::sim {
namespace {

class Outcomes : public Moves {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Moves::SetUp());
    d = 6 - a - b - c;
  }
  // The number of the version that opened it, once all others have heard of it.
  std::uint64_t begin(std::size_t at, const std::string& method, std::size_t node, Json more = Json::object()) {
    more["nodes"] = {cluster.id(node)};
    const auto begun = cluster.admin(at, method, more);
    EXPECT_TRUE(begun) << (begun ? "" : begun.error().text);
    EXPECT_TRUE(all_see(method));
    return begun ? begun->at("ring").get<std::uint64_t>() : 0;
  }
  // b, c and d.
  bool all_see(const std::string& change, Duration limit = 60s) {
    return until([&] { return open_change(b) == change && open_change(c) == change && open_change(d) == change; }, limit);
  }
  std::string outcome(std::uint64_t number) {
    const auto movement = cluster.admin(c, "movement", {{"of", number}});
    return movement ? movement->at("outcome").get<std::string>() : movement.error().text;
  }
  std::size_t d = 0;
};
INSTANTIATE_TEST_SUITE_P(Seeds, Outcomes, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(4)));

// It could hand nothing over, and what it has would be waited for.
TEST_P(Outcomes, ANodeThatDoesNotAnswerIsNotAskedToLeave) {
  cluster.crash(a, Crash::kPower);
  believes_dead(b, a);
  for (const bool force : {false, true}) {
    EXPECT_TRUE(refused(cluster.admin(b, "leave", {{"nodes", {cluster.id(a)}}, {"force", force}}), Errc::kUnavailable,
                        "starling remove"));
  }
  EXPECT_EQ(open_change(b), "");
  ASSERT_TRUE(cluster.restart(a));
  believes_alive(b, a);
  ASSERT_TRUE(change(b, "leave", {a}));
  EXPECT_TRUE(departs(a));
  cluster.retire(a);
  finish();
}

// Who follows a change hears what came of it, whatever else is under way by then.
TEST_P(Outcomes, WhatCameOfAChangeIsToldByItsNumber) {
  ASSERT_TRUE(cluster.admin(b, "pause", Json::object()));
  const auto first = begin(b, "leave", a);
  EXPECT_EQ(outcome(first), "open");
  ASSERT_TRUE(cluster.admin(d, "abort", Json::object()));
  EXPECT_TRUE(all_see(""));
  EXPECT_EQ(outcome(first), "taken back");
  const auto second = begin(b, "weight", a, {{"weight", 200}});
  EXPECT_EQ(outcome(first), "taken back");
  EXPECT_EQ(outcome(second), "open");
  ASSERT_TRUE(cluster.admin(b, "resume", Json::object()));
  EXPECT_TRUE(all_see(""));
  EXPECT_EQ(outcome(second), "done");
  const auto third = begin(b, "leave", a);
  EXPECT_TRUE(departs(a));
  EXPECT_EQ(outcome(third), "done");
  cluster.retire(a);
  const auto joined = cluster.add_node(120s);
  ASSERT_TRUE(joined) << joined.error().text;
  EXPECT_EQ(outcome(third), "done");
  EXPECT_EQ(outcome(first), "taken back");
  EXPECT_FALSE(cluster.admin(c, "movement", Json::object())->contains("outcome")) << "nobody asked";
  finish();
}

// Its operator meant the new weight. While his node could ask nobody that completed, and another change began.
TEST_P(Outcomes, AnAbortTakesBackNoOtherChangeThanTheOneThatWasUnderWay) {
  ASSERT_TRUE(cluster.admin(b, "pause", Json::object()));
  begin(b, "weight", a, {{"weight", 200}});
  (void)cluster.index_of("nobody");  // The tap knows them all from now on.
  tap.on_leave = [this](const TapMessage& m) {
    return m.method == overlay::Method::kPaxos && m.from == c && m.to != c ? Fate::kHold : Fate::kPass;
  };
  std::optional<Result<Json>> told;
  cluster.ask(c, "abort", Json::object(), [&](const Result<Json>& answer) { told = answer; });
  world.run_for(10ms);
  ASSERT_TRUE(cluster.admin(b, "resume", Json::object()));
  ASSERT_TRUE(all_see("", 8s)) << "others drive it, too";
  ASSERT_TRUE(cluster.admin(b, "pause", Json::object()));
  begin(b, "leave", a);
  ASSERT_FALSE(told);
  tap.clear();
  ASSERT_TRUE(until([&] { return told.has_value(); }, 30s));
  EXPECT_TRUE(refused(*told, Errc::kStaleRing, "ended meanwhile"));
  EXPECT_EQ(open_change(b), "leave");
  ASSERT_TRUE(cluster.admin(b, "resume", Json::object()));
  EXPECT_TRUE(departs(a));
  cluster.retire(a);
  finish();
}

}  // namespace
}  // namespace starling::sim
