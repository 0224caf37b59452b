// Changes of the ring when some are cut off or gone for good: which side may decide (hazard F1), what a removal would
// lose, nodes that are forced out without a majority, and changes that are asked for at once.
#include "overlay/ring/paxos_wire.h"
#include "tests/sim/moves/moves.h"

namespace starling::sim {
namespace {

class Splits : public Moves {
 protected:
  Splits() : Moves(5) {}
};
INSTANTIATE_TEST_SUITE_P(Seeds, Splits, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(4)));

// Both sides of a split remove the other.
TEST_P(Splits, F01_OnlyTheSideWithTheMajorityChangesTheRing) {
  std::vector<std::size_t> many, few;
  for (std::size_t i = 0; i < 5; ++i) (i < 3 ? many : few).push_back(i);
  cluster.partition({many, few});
  for (const auto i : few) believes_dead(many[0], i);
  for (const auto i : many) believes_dead(few[0], i);
  const auto by_few = cluster.admin(few[0], "remove", {{"nodes", {cluster.id(many[0])}}});
  EXPECT_FALSE(by_few);
  const auto by_many = cluster.admin(many[0], "remove", {{"nodes", {cluster.id(few[0])}}});
  EXPECT_TRUE(by_many) << by_many.error().text;
  world.run_for(10s);
  cluster.heal();
  ASSERT_TRUE(comes_to(few[0], "removed", many[0])) << waits_for(many[0]);
  ASSERT_TRUE(departs(few[0]));
  cluster.retire(few[0]);
  EXPECT_EQ(state_of(many[0], few[1]), "serving");
  finish();
}

// A removal that would leave a partition without a majority of its owners is not for the asking.
TEST_P(Splits, ARemovalThatWouldLoseNamesOrMessagesIsRefused) {
  cluster.crash(a, Crash::kPower);
  cluster.crash(b, Crash::kPower);
  believes_dead(c, a);
  believes_dead(c, b);
  const auto refused = change(c, "remove", {a, b});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text.find("--force"), std::string::npos) << refused.error().text;
  finish();
}

TEST_P(Splits, TwoJoinsAndALeaveAskedAtOnceComeOneAfterTheOther) {
  work.start();
  const auto first = cluster.begin_join(b);
  const auto second = cluster.begin_join(c);
  ASSERT_TRUE(first && second);
  ASSERT_TRUE(change(b, "leave", {a}));
  ASSERT_TRUE(departs(a));
  cluster.retire(a);
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 180s));
  work.stop();
  finish();
}

// c has not heard what the others agreed on last. If that doubled the partitions, what they hold could not come home.
TEST_P(Splits, WhoWasAheadIsNamedBeforeItIsForcedOut) {
  tap.alter = [this](const TapMessage& m, Bytes& body) {
    const bool of_ring = m.method == Method::kRingDecided || m.method == Method::kPaxos;
    if (m.to == c && m.from != c && of_ring) body = "?";
  };
  tap.alter_answer = [this](const TapMessage& m, Bytes& answer) {
    if (m.from == c && m.to != c && m.method == Method::kRingGet) answer = "?";
  };
  const auto lost = [this] {
    const auto told = cluster.admin(c, "remove", {{"nodes", {cluster.id(a)}}, {"force", true}, {"dry_run", true}});
    return told ? told->at("lost").get<std::string>() : told.error().text;
  };
  ASSERT_TRUE(change(a, "weight", {a}, {{"weight", 200}}));
  // By gossip: of all others, as it is not known whose word comes first.
  const auto ahead = [this] {
    const auto status = cluster.admin(c, "status", Json::object());
    if (!status) return false;
    const auto& members = status->at("members");
    const auto ours = std::find_if(members.begin(), members.end(), [](const Json& member) { return member.at("self").get<bool>(); });
    return std::all_of(members.begin(), members.end(), [&](const Json& member) {
      return member.at("self").get<bool>() || member.at("ring") > ours->at("ring");
    });
  };
  ASSERT_TRUE(until(ahead, 30s));
  std::vector<std::size_t> others;
  for (std::size_t i = 0; i < 5; ++i) {
    if (i != c) others.push_back(i);
  }
  for (const auto i : others) cluster.crash(i, Crash::kPower);
  for (const auto i : others) believes_dead(c, i);
  EXPECT_NE(lost().find("was at ring version"), std::string::npos) << lost();
  tap.alter = nullptr;
  tap.alter_answer = nullptr;
  for (const auto i : others) ASSERT_TRUE(cluster.restart(i));
  ASSERT_TRUE(until([&] { return cluster.all_serving() && open_change(c).empty(); }, 180s)) << waits_for(c);
  cluster.crash(a, Crash::kPower);
  believes_dead(c, a);
  EXPECT_EQ(lost().find("was at ring version"), std::string::npos) << lost();
  ASSERT_TRUE(cluster.restart(a));
  finish();
}

// Three of five machines are gone for good, and with them every majority.
TEST_P(Splits, WhatIsLeftGoesOnUnderANewLineageOnceTheDeadAreForcedOut) {
  std::vector<std::size_t> dead{a, b}, left{c};
  for (std::size_t i = 0; i < 5; ++i) {
    if (i != a && i != b && i != c) (dead.size() < 3 ? dead : left).push_back(i);
  }
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  const auto lineage = [&](std::size_t i) {
    const auto ring = cluster.admin(i, "ring", Json::object());
    return ring ? ring->at("lineage").get<std::string>() : "";
  };
  const std::string before = lineage(c);
  // Their accounts may be where nobody is left of the owners.
  alice->close();
  bob->close();
  for (const auto i : dead) cluster.crash(i, Crash::kPower);
  for (const auto i : dead) believes_dead(c, i);
  for (const auto i : dead) believes_dead(left[1], i);
  const auto refused = change(c, "remove", dead);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text.find("--force"), std::string::npos) << refused.error().text;
  ASSERT_TRUE(change(c, "remove", dead, {{"force", true}}));
  EXPECT_NE(lineage(c), before);
  ASSERT_TRUE(until([&] { return cluster.node(c).serving() && cluster.node(left[1]).serving(); }, 60s));
  for (int turn = 0; turn < 300 && lineage(left[1]) != lineage(c); ++turn) world.run_for(100ms);
  EXPECT_EQ(lineage(left[1]), lineage(c));
  ASSERT_TRUE(work.add_user("@late"));  // Names go on, also where both are left of no majority.
  ASSERT_TRUE(work.add_user("@later"));
  ASSERT_TRUE(work.add_user("@latest"));
  // One of the dead was only asleep: it follows, and brings home what was given up.
  ASSERT_TRUE(cluster.restart(dead[0]));
  ASSERT_TRUE(departs(dead[0])) << world.trace().text("", 60);
  EXPECT_EQ(lineage(dead[0]), lineage(c));
  work.wake_all();
  say();
  for (const auto i : dead) cluster.retire(i);
  finish();
}

// At two of the nodes that are left, in the same moment: they make one version, not two clusters.
TEST_P(Splits, TwoOperatorsWhoForceTheSameNodesOutMakeOneCluster) {
  std::vector<std::size_t> dead{a, b};
  std::vector<std::size_t> left{c};
  for (std::size_t i = 0; i < 5; ++i) {
    if (i != a && i != b && i != c) (dead.size() < 3 ? dead : left).push_back(i);
  }
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  alice->close();
  bob->close();
  for (const auto i : dead) cluster.crash(i, Crash::kPower);
  for (const auto i : left) {
    for (const auto gone : dead) believes_dead(i, gone);
  }
  Json force = {{"force", true}, {"nodes", Json::array()}};
  for (const auto i : dead) force["nodes"].push_back(cluster.id(i));
  int made = 0;
  for (const auto i : left) {
    cluster.ask(i, "remove", force, [&made](const Result<Json>& answer) { made += answer ? 1 : 0; });
    std::reverse(force["nodes"].begin(), force["nodes"].end());
  }
  ASSERT_TRUE(until([&] { return made == 2; }));
  const auto ring = [&](std::size_t i) {
    const auto answer = cluster.admin(i, "ring", Json::object());
    return answer ? *answer : Json();
  };
  EXPECT_EQ(ring(left[0]), ring(left[1]));
  ASSERT_TRUE(until([&] { return cluster.node(c).serving() && cluster.node(left[1]).serving(); }, 60s));
  ASSERT_TRUE(cluster.restart(dead[0]));  // What only the dead had comes home.
  ASSERT_TRUE(departs(dead[0])) << world.trace().text("", 60);
  work.wake_all();
  say();
  for (const auto i : dead) cluster.retire(i);
  finish();
}

// The others are deciding another version in that moment: with a majority alive they decide about the removal, too.
TEST_P(Splits, AForcedRemovalBesideAnotherChangeMakesNoSecondRing) {
  std::vector<std::size_t> left;
  for (std::size_t i = 0; i < 5; ++i) {
    if (i != a) left.push_back(i);
  }
  world.run_for(10s);  // Who has just started forces nobody out.
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  cluster.crash(a, Crash::kPower);
  for (const auto i : left) believes_dead(i, a);
  int answers = 0;
  cluster.ask(b, "weight", {{"nodes", {cluster.id(b)}}, {"weight", 150}}, [&](const Result<Json>&) { ++answers; });
  world.run_for(GetParam() * 300us);  // On the way.
  const Json force = {{"force", true}, {"nodes", {cluster.id(a)}}};
  Result<Json> forced = Error{Errc::kTimeout, "no answer"};
  cluster.ask(c, "remove", force, [&](const Result<Json>& answer) { ++answers; forced = answer; });
  ASSERT_TRUE(until([&] { return answers == 2; }));
  ASSERT_TRUE(forced) << forced.error().text;
  const auto alike = [&] {
    std::set<std::string> rings;
    for (const auto i : left) {
      const auto ring = cluster.admin(i, "ring", Json::object());
      rings.insert(ring ? ring->at("lineage").dump() + ring->at("number").dump() + ring->at("change").dump() : "?");
    }
    return rings.size() == 1;
  };
  EXPECT_TRUE(until(alike, 60s)) << world.trace().text("", 60);
  cluster.retire(a);
  finish();
}

// Alive, and it votes for nothing: whom a revocation gives up is not asked.
TEST_P(Splits, WhoIsForcedOutNeedNotAgree) {
  const std::size_t bad = a;
  std::vector<std::size_t> dead;
  for (std::size_t i = 0; i < 5 && dead.size() < 2; ++i) {
    if (i != a && i != b && i != c) dead.push_back(i);
  }
  world.run_for(10s);
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  for (const auto i : dead) cluster.crash(i, Crash::kPower);
  for (const auto i : dead) {
    believes_dead(b, i);
    believes_dead(c, i);
  }
  tap.on_leave = [&](const TapMessage& m) { return m.to == bad && m.method == Method::kPaxos ? Fate::kHold : Fate::kPass; };
  const auto forced = cluster.admin(c, "revoke", {{"node", cluster.id(bad)}, {"force", true}}, 30s);
  EXPECT_TRUE(forced) << forced.error().text;
  tap.clear();
  cluster.retire(bad);
  for (const auto i : dead) ASSERT_TRUE(cluster.restart(i));
  finish();
}

// c voted for a version that the others know as decided when they die. What it forces them out of follows from that, so
// one of them that comes back finds its way home.
TEST_P(Splits, AForcedRemovalFollowsWhatTheNodeVotedFor) {
  std::vector<std::size_t> dead{a, b}, left{c};
  for (std::size_t i = 0; i < 5; ++i) {
    if (i != a && i != b && i != c) (dead.size() < 3 ? dead : left).push_back(i);
  }
  world.run_for(10s);
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  const auto number = [&](std::size_t i) { return cluster.admin(i, "ring", Json::object())->at("number").get<int>(); };
  const int before = number(c);
  const auto is_left = [&](std::size_t i) { return std::find(left.begin(), left.end(), i) != left.end(); };
  tap.on_leave = [&](const TapMessage& m) {
    if (is_left(m.from) && m.method == Method::kRingGet) return Fate::kHold;
    if (is_left(m.from) || !is_left(m.to)) return Fate::kPass;
    const auto vote = m.method == Method::kPaxos ? overlay::decode_paxos_request(m.body)
                                                 : Result<overlay::PaxosRequest>(Error{});
    if (vote && vote->kind == overlay::PaxosKind::kDecided) return Fate::kHold;
    return m.method == Method::kRingDecided ? Fate::kLose : Fate::kPass;
  };
  cluster.ask(b, "weight", {{"nodes", {cluster.id(b)}}, {"weight", 150}}, [](const Result<Json>&) {});
  ASSERT_TRUE(until([&] { return number(a) == before + 1; }));
  ASSERT_EQ(number(c), before);
  for (const auto i : dead) cluster.crash(i, Crash::kPower);
  tap.clear();
  for (const auto i : left) {
    for (const auto gone : dead) believes_dead(i, gone);
  }
  Json force = {{"force", true}, {"nodes", Json::array()}};
  for (const auto i : dead) force["nodes"].push_back(cluster.id(i));
  const auto forced = cluster.admin(c, "remove", force, 30s);
  ASSERT_TRUE(forced) << forced.error().text;
  EXPECT_EQ(number(c), before + 2);
  ASSERT_TRUE(until([&] { return cluster.node(c).serving() && cluster.node(left[1]).serving(); }, 60s));
  ASSERT_TRUE(cluster.restart(b));
  EXPECT_TRUE(departs(b)) << world.trace().text("", 60);
  for (const auto i : dead) cluster.retire(i);
  finish();
}

}  // namespace
}  // namespace starling::sim
