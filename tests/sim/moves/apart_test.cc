// Changes of the ring that are asked for, or under way, while the network is apart: both halves of four (hazards F1),
// and each party of a join (F32, F33).
#include "tests/sim/moves/moves.h"

namespace starling::sim {
namespace {

class Halves : public Moves {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Moves::SetUp());
    before = ring(0);
    cluster.partition({one, other});
    for (const auto i : one) {
      for (const auto k : other) {
        believes_dead(i, k);
        believes_dead(k, i);
      }
    }
  }
  Json ring(std::size_t i) {
    const auto answer = cluster.admin(i, "ring", Json::object());
    return answer ? *answer : Json::object();
  }
  // All know the same version, which is no intent.
  bool all_rest() {
    for (std::size_t i = 0; i < cluster.size(); ++i) {
      if (ring(i) != ring(0) || open_change(i) != "") return false;
    }
    return true;
  }
  // What all nodes that are up say of it.
  bool all_at(const Json& number) {
    for (std::size_t i = 0; i < cluster.size(); ++i) {
      if (cluster.up(i) && !cluster.retired(i) && ring(i).value("number", Json()) != number) return false;
    }
    return true;
  }
  // At one node after the other, which does not wait: its answer, once it is there.
  using Answer = std::shared_ptr<std::optional<Result<Json>>>;
  Answer ask(std::size_t at, const std::string& method, const Json& arguments) {
    auto answer = std::make_shared<std::optional<Result<Json>>>();
    cluster.ask(at, method, arguments, [answer](Result<Json> r) { answer->emplace(std::move(r)); });
    return answer;
  }
  // A host of its own side, which hears nobody of the other.
  std::size_t joins_one_side(std::size_t inviter, std::vector<std::size_t>& side,
                             const std::vector<std::size_t>& others) {
    const auto joining = cluster.begin_join(inviter);
    EXPECT_TRUE(joining);
    side.push_back(*joining);
    cluster.partition({side, others});
    return *joining;
  }

  std::vector<std::size_t> one{0, 1}, other{2, 3};
  Json before;
};
INSTANTIATE_TEST_SUITE_P(Seeds, Halves, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

// Each half takes the other for dead, and neither is a majority: nothing is agreed, and both go on.
TEST_P(Halves, F01_NeitherHalfOfFourRemovesTheOther) {
  for (const auto& [side, others] : {std::pair{one, other}, std::pair{other, one}}) {
    for (const auto at : side) {
      for (const auto gone : others) EXPECT_FALSE(change(at, "remove", {gone})) << at << " removed " << gone;
      EXPECT_FALSE(change(at, "remove", others)) << at << " removed the other half";
    }
  }
  EXPECT_TRUE(all_at(before["number"]));
  say();  // Owners and those who stand in are W.
  start(*alice2, 0);
  start(*bob2, 2);
  const auto at_one = send(*alice2), at_other = send(*bob2);
  EXPECT_TRUE(acked(at_one) && acked(at_other));
  cluster.heal();
  EXPECT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
  EXPECT_EQ(ring(0), ring(3));
  EXPECT_EQ(ring(0)["number"], before["number"]);
  finish();
}

// Side one joins E, side two F: each would be the version after the same one.
TEST_P(Halves, F01_JoinsOfBothHalvesWaitForTheHealAndComeOneAfterTheOther) {
  const auto e = joins_one_side(0, one, other);
  const auto f = joins_one_side(2, other, one);
  world.run_for(30s);
  EXPECT_TRUE(all_at(before["number"]) || (!cluster.node(e).serving() && !cluster.node(f).serving()));
  for (const std::size_t i : {0, 1, 2, 3}) EXPECT_EQ(ring(i)["number"], before["number"]) << i;
  cluster.heal();
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 180s)) << waits_for(0);
  EXPECT_EQ(state_of(e, 3), "serving");
  EXPECT_EQ(state_of(f, 0), "serving");
  // Two joins of two versions each, and nothing else, the same everywhere.
  const auto number = before["number"].get<int>() + 4;
  EXPECT_TRUE(all_at(number)) << ring(0)["number"];
  for (std::size_t i = 1; i < cluster.size(); ++i) EXPECT_EQ(ring(i), ring(0)) << i;
  say();
  finish();
}

// Operators of both sides ask on while the network comes back: of two intents for one number one is agreed, and the
// other operator is told so.
TEST_P(Halves, F01_OfIntentsAtTheMomentOfTheHealOneIsAgreed) {
  const auto first = ask(0, "weight", {{"nodes", {cluster.id(1)}}, {"weight", 250}});
  const auto second = ask(2, "weight", {{"nodes", {cluster.id(3)}}, {"weight", 50}});
  world.run_for(std::chrono::milliseconds(100 * GetParam()));
  cluster.heal();
  const auto third = ask(1, "weight", {{"nodes", {cluster.id(0)}}, {"weight", 170}});
  const auto fourth = ask(3, "leave", {{"nodes", {cluster.id(2)}}});
  ASSERT_TRUE(until([&] { return *first && *second && *third && *fourth; }, 60s));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
  std::size_t agreed = 0;
  for (const auto& answer : {first, second, third, fourth}) agreed += (*answer)->ok() ? 1 : 0;
  for (int turn = 0; turn < 600 && !all_rest(); ++turn) world.run_for(100ms);
  ASSERT_TRUE(all_rest()) << waits_for(0);
  const auto now = ring(0);
  EXPECT_GE(now["number"].get<std::size_t>(), before["number"].get<std::size_t>() + 2 * agreed) << "told yes, and lost";
  std::size_t weights = 0;
  for (const auto& member : now["members"]) weights += member["weight"] != 100 ? 1 : 0;
  const bool left = state_of(2, 0) == "left";
  // Who was told no may still have been heard of by those who were, as one that has no answer: it is not undone.
  EXPECT_GE(weights + (left ? 1 : 0), agreed);
  if (agreed == 0) {
    ASSERT_TRUE(change(0, "weight", {3}, {{"weight", 60}}));
  }
  if (left) {
    ASSERT_TRUE(departs(2));
    cluster.retire(2);
  }
  say();
  finish();
}

// --- A join, while its parties are cut off. ---

// Of three nodes each owns everything; who joins gains three quarters of it, so slowly that there is a middle.
class JoinsApart : public Moves {
 protected:
  JoinsApart() : Moves(3) {}
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Moves::SetUp());
    SendIndex last = kUnsent;
    for (int g = 0; g < 8; ++g) {
      const std::string group = "#f" + std::to_string(g);
      ASSERT_TRUE(work.add_group(group, {"@alice", "@bob"}));
      for (int i = 0; i < 10; ++i) last = alice->send(group, work.body(*alice, 100));
    }
    ASSERT_TRUE(acked(last));
    ASSERT_TRUE(cluster.run_until_quiet(60s));
    ASSERT_TRUE(cluster.admin(b, "throttle", {{"rate", 64 << 10}}));
    const auto joining = cluster.begin_join(b);
    ASSERT_TRUE(joining);
    d = *joining;
    (void)cluster.index_of("nobody");
    std::size_t came = 0;
    tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
      if (m.method == Method::kFetch && m.from == d && m.to != d && answer) {
        ++came;
        donor = m.to;
      }
      return Fate::kPass;
    };
    ASSERT_TRUE(until([&] { return came >= 2; }, 60s));
    tap.clear();
    ASSERT_EQ(open_change(b), "join");
    ASSERT_FALSE(cluster.node(d).serving());
  }
  void go_on(std::size_t at) { ASSERT_TRUE(cluster.admin(at, "throttle", {{"rate", 0}})); }
  // The join is taken back: the joiner is told once it hears somebody, and another one comes in.
  void take_back(std::size_t at) {
    const auto aborted = cluster.admin(at, "abort", Json::object());
    ASSERT_TRUE(aborted) << aborted.error().text;
    go_on(at);
    const auto next = cluster.begin_join(at);
    ASSERT_TRUE(next);
    ASSERT_TRUE(until([&] { return cluster.up(*next) && cluster.node(*next).serving(); }, 120s)) << waits_for(at);
    cluster.heal();
    ASSERT_TRUE(until([&] { return cluster.retired(d); }, 60s));
    EXPECT_EQ(state_of(d, at), "");
  }
  bool takes_back() { return GetParam() % 2 == 0; }
  bool all_serve() {
    return until([&] { return cluster.all_serving(); }, 180s);
  }

  std::size_t d = 0, donor = 0;
};
INSTANTIATE_TEST_SUITE_P(Seeds, JoinsApart, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(6)));

TEST_P(JoinsApart, F33_AJoinerCutOffMidwayIsWaitedForUntilItIsBackOrTakenBack) {
  isolate(d);
  believes_dead(a, d);
  go_on(a);
  world.run_for(10s);
  EXPECT_EQ(open_change(a), "join");
  EXPECT_NE(waits_for(a).find("is away"), std::string::npos) << waits_for(a);
  EXPECT_FALSE(cluster.node(d).serving());
  say();  // Nobody counts it.
  if (takes_back()) {
    take_back(a);
  } else {
    cluster.heal();
    EXPECT_TRUE(all_serve()) << waits_for(a);
    EXPECT_EQ(state_of(d, a), "serving");
  }
  finish();
}

TEST_P(JoinsApart, F32_ADonorCutOffMidwayIsFollowedByAnother) {
  const std::size_t cut = donor;
  isolate(cut);
  const std::size_t at = other_than({cut, d});
  believes_dead(at, cut);
  if (takes_back()) {
    const auto aborted = cluster.admin(at, "abort", Json::object());
    ASSERT_TRUE(aborted) << aborted.error().text;
    go_on(at);
    EXPECT_TRUE(until([&] { return cluster.retired(d); }, 60s)) << "it hears the others";
    cluster.heal();
    const auto next = cluster.begin_join(at);
    ASSERT_TRUE(next);
  } else {
    go_on(at);
    EXPECT_TRUE(until([&] { return cluster.node(d).serving(); }, 120s)) << waits_for(at);
    EXPECT_FALSE(state_of(d, cut) == "serving") << "it was cut off";
    cluster.heal();
  }
  EXPECT_TRUE(all_serve()) << waits_for(at);
  say();
  finish();
}

// Inviter and guest on one side, the majority on the other: the guest may fetch, and does not get in.
TEST_P(JoinsApart, F33_AMinorityWithTheInviterLetsNobodyIn) {
  cluster.partition({{b, d}, {a, c}});
  believes_dead(a, b);
  believes_dead(b, a);
  const auto at = cluster.admin(b, "ring", Json::object())->at("number");
  go_on(b);  // It has all it can get, after a while.
  world.run_for(20s);
  EXPECT_FALSE(cluster.node(d).serving());
  EXPECT_EQ(cluster.admin(b, "ring", Json::object())->at("number"), at);
  EXPECT_FALSE(cluster.admin(b, "abort", Json::object())) << "nor takes it back";
  start(*bob2, a);
  const auto said = send(*bob2);
  EXPECT_TRUE(acked(said)) << "two of three owners";
  if (takes_back()) {
    take_back(a);
  } else {
    cluster.heal();
  }
  EXPECT_TRUE(all_serve()) << waits_for(a);
  say();
  finish();
}

}  // namespace
}  // namespace starling::sim
