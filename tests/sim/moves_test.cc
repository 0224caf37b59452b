// Changes of the ring by the operator: each driven step by step, with the interleaving that would lose something
// (hazards F1, F11, F32 to F34). Changes by chance: scenarios_test.cc and `sim --moves`.
#include "tests/sim/moves.h"

namespace starling::sim {
namespace {

INSTANTIATE_TEST_SUITE_P(Seeds, Moves, ::testing::Range<std::uint64_t>(1, 5));

TEST_P(Moves, ALeaverServesUntilTheEndHandsOverAndMaySwitchOff) {
  work.start();
  ASSERT_TRUE(change(a, "leave", {a}));
  ASSERT_TRUE(comes_to(a, "left", b)) << waits_for(b);
  ASSERT_TRUE(departs(a));
  cluster.retire(a);
  world.run_for(5s);
  work.stop();
  say();
  believes_gone(b, a);
  EXPECT_EQ(cluster.admin(b, "status", Json::object())->at("cluster").at("nodes"), 3) << "of those that are left";
  finish();
}

// The operator is told what is at stake before anything happens.
TEST_P(Moves, ALeaveThatLeavesTooFewNodesForTheCopiesIsRefusedWithoutForce) {
  ASSERT_TRUE(change(a, "leave", {a}));
  ASSERT_TRUE(departs(a));
  cluster.retire(a);
  const auto refused = change(b, "leave", {b});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text.find("--force"), std::string::npos) << refused.error().text;
  ASSERT_TRUE(change(c, "leave", {b}, {{"force", true}}));
  ASSERT_TRUE(departs(b));
  cluster.retire(b);
  finish();
}

TEST_P(Moves, ADryRunTellsWhatMovesAndChangesNothing) {
  const auto before = cluster.admin(a, "ring", Json::object());
  const auto told = cluster.admin(a, "leave", {{"dry_run", true}});
  ASSERT_TRUE(told) << told.error().text;
  EXPECT_GT(told->at("moved").get<int>(), 0);
  world.run_for(1s);
  EXPECT_EQ(cluster.admin(a, "ring", Json::object())->at("number"), before->at("number"));
}

// It is killed while the others fetch: they have everything from the other owners, and what it alone holds comes
// home when it is back.
TEST_P(Moves, F33_ALeaverKilledMidwayIsLeftBehindAndComesBackAsAHolder) {
  ASSERT_TRUE(change(b, "leave", {a}));
  cluster.crash(a, Crash::kPower);
  ASSERT_TRUE(comes_to(a, "left", b)) << waits_for(b);
  say();
  ASSERT_TRUE(cluster.restart(a));
  ASSERT_TRUE(departs(a));
  EXPECT_FALSE(cluster.node(a).serving());
  cluster.retire(a);
  finish();
}

// Who began the change dies; another drives it on.
TEST_P(Moves, F33_AChangeGoesOnWhenTheNodeThatBeganItDies) {
  const std::size_t d = other_than({a, b, c});
  ASSERT_TRUE(change(d, "leave", {a}));
  cluster.crash(d, Crash::kProcess);
  world.run_for(2s);
  EXPECT_EQ(state_of(a, b), "leaving");  // It shall own more, and may have what W needs.
  ASSERT_TRUE(cluster.restart(d));
  ASSERT_TRUE(comes_to(a, "left", b)) << waits_for(b);
  ASSERT_TRUE(departs(a));
  cluster.retire(a);
  finish();
}

// Two others die while they are fetched from, one after the other.
TEST_P(Moves, F32_ADonorKilledMidwayLosesNothing) {
  const auto joined = cluster.begin_join(b);
  ASSERT_TRUE(joined);
  world.run_for(300ms);
  cluster.crash(c, Crash::kPower);
  world.run_for(5s);
  ASSERT_TRUE(cluster.restart(c));
  world.run_for(200ms);
  cluster.crash(a, Crash::kPower);
  world.run_for(5s);
  ASSERT_TRUE(cluster.restart(a));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 120s));
  EXPECT_EQ(state_of(*joined, b), "serving");
  say();
  finish();
}

TEST_P(Moves, F33_AbortFreesTheRingOfAJoinerThatNeverCame) {
  const auto lost = cluster.begin_join(b);
  ASSERT_TRUE(lost);
  ASSERT_TRUE(until([&] { return !cluster.id(*lost).empty(); }));
  tap.on_leave = [&](const TapMessage& m) {
    return m.from == *lost && m.method == Method::kCompare ? Fate::kLose : Fate::kPass;
  };
  (void)cluster.index_of("nobody");
  for (int turn = 0; turn < 100 && open_change(b) != "join"; ++turn) world.run_for(20ms);
  ASSERT_EQ(open_change(b), "join");
  cluster.crash(*lost, Crash::kPower);
  believes_dead(b, *lost);
  world.run_for(5s);
  EXPECT_EQ(open_change(b), "join");
  EXPECT_NE(waits_for(b).find("is away"), std::string::npos) << waits_for(b);
  EXPECT_FALSE(cluster.admin(b, "leave", {{"nodes", {cluster.id(a)}}}));  // One at a time.
  ASSERT_TRUE(cluster.admin(b, "abort", Json::object()));
  EXPECT_EQ(open_change(b), "");
  tap.clear();
  const auto other = cluster.add_node(120s);
  ASSERT_TRUE(other) << other.error().text;
  // The first comes back, and is told.
  ASSERT_TRUE(cluster.restart(*lost));
  EXPECT_TRUE(until([&] { return cluster.retired(*lost); }, 60s));
  EXPECT_EQ(state_of(*lost, b), "");
  finish();
}

TEST_P(Moves, RemoveOfALiveNodeIsRefused) {
  const auto refused = change(b, "remove", {a});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.code(), Errc::kDenied);
  EXPECT_NE(refused.error().text.find("starling leave"), std::string::npos) << refused.error().text;
}

TEST_P(Moves, WeightsAreBounded) {
  for (const int weight : {0, 1001}) {
    const auto refused = change(b, "weight", {a}, {{"weight", weight}});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.code(), Errc::kInvalid);
  }
  ASSERT_TRUE(change(b, "weight", {a}, {{"weight", 300}}));
  for (int turn = 0; turn < 300 && open_change(b) != ""; ++turn) world.run_for(200ms);
  EXPECT_EQ(open_change(b), "");
  finish();
}

// a has a change that nobody else has, dies, is removed, and comes back.
TEST_P(Moves, F34_ARemovedNodeBringsHomeWhatItAloneHoldsAndDoesNothingElse) {
  start(*alice2, a);
  bool held = true;
  tap.on_leave = [&](const TapMessage& m) {
    const bool copies = m.method == Method::kReplicate || m.method == Method::kHint || m.method == Method::kFetch;
    const bool of_a = m.from == a || m.to == a;
    return held && copies && of_a && m.from != m.to ? Fate::kLose : Fate::kPass;
  };
  const auto only = send(*alice2);
  world.run_for(1s);
  cluster.crash(a, Crash::kProcess);
  held = false;
  tap.clear();
  believes_dead(b, a);
  ASSERT_TRUE(change(b, "remove", {a}));
  ASSERT_TRUE(comes_to(a, "removed", b)) << waits_for(b);
  std::set<Method> answered;
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (m.to == a && m.from != a && answer.ok() && cluster.up(a) && !cluster.node(a).serving()) answered.insert(m.method);
    return Fate::kPass;
  };
  ASSERT_TRUE(cluster.restart(a));
  ASSERT_TRUE(departs(a));
  for (const auto method : {Method::kAppend, Method::kFollow, Method::kRead, Method::kPaxos}) {
    EXPECT_FALSE(answered.contains(method)) << static_cast<int>(method);
  }
  cluster.retire(a);
  EXPECT_TRUE(acked(only));
  finish();
}

TEST_P(Moves, ANewNodeTakesThePlaceOfADeadOneInOneChange) {
  const auto early = cluster.begin_replace(b, a);  // While it lives.
  ASSERT_TRUE(early);
  EXPECT_TRUE(until([&] { return cluster.retired(*early); }, 60s));
  cluster.crash(a, Crash::kPower);
  believes_dead(b, a);
  const auto before = cluster.admin(b, "ring", Json::object())->at("number").get<int>();
  const auto heir = cluster.begin_replace(b, a);
  ASSERT_TRUE(heir);
  ASSERT_TRUE(until([&] { return cluster.up(*heir) && cluster.node(*heir).serving(); }, 120s)) << waits_for(b);
  EXPECT_EQ(state_of(a, b), "removed");
  EXPECT_EQ(cluster.admin(b, "ring", Json::object())->at("number"), before + 2);
  ASSERT_TRUE(cluster.restart(a));
  ASSERT_TRUE(departs(a));
  cluster.retire(a);
  finish();
}

// The ring is busy when it comes, and its power is lost before anybody let it in: it still comes in that one's place.
TEST_P(Moves, AReplacerThatIsRestartedBeforeItIsAdmittedStillReplaces) {
  cluster.crash(a, Crash::kPower);
  believes_dead(b, a);
  tap.on_leave = [](const TapMessage& m) { return m.method == Method::kInstalled ? Fate::kLose : Fate::kPass; };
  ASSERT_TRUE(change(b, "weight", {c}, {{"weight", 300}}));
  const auto before = cluster.admin(b, "ring", Json::object())->at("number").get<int>();
  const auto heir = cluster.begin_replace(b, a);
  ASSERT_TRUE(heir);
  for (const auto crash : {Crash::kProcess, Crash::kPower}) {
    world.run_for(3s);
    ASSERT_EQ(state_of(*heir, b), "") << "it is in already";
    cluster.crash(*heir, crash);
    ASSERT_TRUE(cluster.restart(*heir));
  }
  ASSERT_EQ(cluster.admin(b, "ring", Json::object())->at("number"), before);
  tap.clear();
  ASSERT_TRUE(until([&] { return cluster.up(*heir) && cluster.node(*heir).serving(); }, 120s)) << waits_for(b);
  EXPECT_EQ(state_of(a, b), "removed");
  EXPECT_EQ(cluster.admin(b, "ring", Json::object())->at("number"), before + 3) << "one change, not two";
  // What it was started with means nothing once it is in.
  cluster.crash(*heir, Crash::kPower);
  ASSERT_TRUE(cluster.restart(*heir));
  ASSERT_TRUE(until([&] { return cluster.node(*heir).serving(); }, 60s));
  EXPECT_EQ(cluster.admin(b, "ring", Json::object())->at("number"), before + 3);
  ASSERT_TRUE(cluster.restart(a));
  ASSERT_TRUE(departs(a));
  cluster.retire(a);
  finish();
}

// Its admission is answered when it is taken back already: the disk of who lets it in was slow.
TEST_P(Moves, F33_AJoinerWhoseAdmissionWasTakenBackBeforeItHeardOfItEnds) {
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  const auto late = cluster.begin_join(a);
  ASSERT_TRUE(late);
  for (int turn = 0; turn < 2000 && cluster.id(*late).empty(); ++turn) world.run_for(100us);
  cluster.disk(a).hold(true);
  for (int turn = 0; turn < 100 && open_change(b) != "join"; ++turn) world.run_for(20ms);
  ASSERT_EQ(open_change(b), "join");
  ASSERT_TRUE(cluster.admin(b, "abort", Json::object()));
  world.run_for(500ms);
  cluster.disk(a).hold(false);
  EXPECT_TRUE(until([&] { return cluster.retired(*late); }, 60s)) << world.trace().text("", 60);
  EXPECT_EQ(state_of(*late, b), "");
  finish();
}

// Nobody can say of it that it is safe to power off while an owner has not got what it holds.
TEST_P(Moves, F33_ALeaverBlockedByADeadOwnerSaysSo) {
  const std::size_t d = other_than({a, b, c});
  tap.on_leave = [&](const TapMessage& m) {
    if (m.from != a || m.to != d) return Fate::kPass;
    return m.method == Method::kCompare || m.method == Method::kHold ? Fate::kLose : Fate::kPass;
  };
  ASSERT_TRUE(change(b, "leave", {a}));
  ASSERT_TRUE(comes_to(a, "left", b)) << waits_for(b);
  cluster.crash(d, Crash::kPower);
  believes_dead(a, d);
  world.run_for(20s);
  EXPECT_FALSE(cluster.departed(a));
  const auto movement = cluster.admin(a, "movement", Json::object());
  ASSERT_TRUE(movement);
  EXPECT_NE(movement->dump().find("starling remove " + cluster.id(d)), std::string::npos) << movement->dump(2);
  tap.clear();
  ASSERT_TRUE(cluster.restart(d));
  ASSERT_TRUE(departs(a));
  cluster.retire(a);
  finish();
}

TEST_P(Moves, ADrainedNodeHasNoSessionsAndKeepsItsData) {
  start(*alice2, a);
  start(*bob2, a);
  const auto sessions = [&] {
    const auto status = cluster.admin(a, "status", Json::object());
    return status ? status->at("node").at("sessions").get<int>() : -1;
  };
  ASSERT_GE(sessions(), 2);
  ASSERT_TRUE(cluster.admin(a, "drain", Json::object()));
  for (int turn = 0; turn < 150 && sessions() > 0; ++turn) world.run_for(100ms);
  EXPECT_EQ(sessions(), 0);
  EXPECT_TRUE(until([&] { return alice2->ready() && bob2->ready(); }));
  EXPECT_TRUE(cluster.node(a).serving());
  const auto seen_draining = [&](std::size_t by) {
    const auto status = cluster.admin(by, "status", Json::object());
    if (!status) return false;
    for (const auto& member : status->at("members")) {
      if (member.at("short") == cluster.id(a)) return member.at("draining").get<bool>();
    }
    return false;
  };
  for (int turn = 0; turn < 50 && !seen_draining(b); ++turn) world.run_for(100ms);
  EXPECT_TRUE(seen_draining(a) && seen_draining(b));
  ASSERT_TRUE(cluster.admin(a, "undrain", Json::object()));
  for (int turn = 0; turn < 50 && seen_draining(b); ++turn) world.run_for(100ms);
  EXPECT_FALSE(seen_draining(b));
  finish();
}

class Splits : public Moves {
 protected:
  Splits() : Moves(5) {}
};
INSTANTIATE_TEST_SUITE_P(Seeds, Splits, ::testing::Range<std::uint64_t>(1, 5));

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
  world.run_for(2s);
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

class Growth : public Moves {
 protected:
  Growth() : Moves(3) {}
};
INSTANTIATE_TEST_SUITE_P(Seeds, Growth, ::testing::Range<std::uint64_t>(1, 3));

TEST_P(Growth, FromThreeToTenAndBackUnderLoad) {
  work.start();
  for (std::size_t i = 0; i < 7; ++i) ASSERT_TRUE(cluster.begin_join(i % 3));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 300s));
  // The oldest go: nobody that was there in the beginning is left.
  for (std::size_t i = 0; i < 7; ++i) {
    ASSERT_TRUE(change(9, "leave", {i}));
    ASSERT_TRUE(departs(i)) << i << ": " << waits_for(9);
    cluster.retire(i);
  }
  world.run_for(5s);
  work.stop();
  work.wake_all();
  const auto said = send(*alice);
  EXPECT_TRUE(acked(said));
  finish();
}

}  // namespace
}  // namespace starling::sim
