// Changes of the ring by the operator: each driven step by step, with the interleaving that would lose something
// (hazards F11, F32 to F34). Changes by chance: scenarios_test.cc and `sim --moves`.
#include "tests/sim/moves/moves.h"

namespace starling::sim {
namespace {

INSTANTIATE_TEST_SUITE_P(Seeds, Moves, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(4)));

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
  EXPECT_NE(refused.error().text.find("2 copies of each message instead of 3, nobody can send while 1 of 2 owners is down, and "
                                      "the loss of 2 disks loses messages"), std::string::npos) << refused.error().text;
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
  tap.on_leave = [&](const TapMessage& m) {
    return m.method == Method::kFetch && m.from != m.to ? Fate::kHold : Fate::kPass;
  };
  ASSERT_TRUE(change(b, "leave", {a}));
  ASSERT_TRUE(until([&] { return tap.held() > 0; }));
  ASSERT_EQ(open_change(b), "leave");
  cluster.crash(a, Crash::kPower);
  tap.clear();
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
  for (int i = 0; i < 12; ++i) {  // So that there is something to give, whatever the newcomer shall own.
    const std::string group = "#h" + std::to_string(i);
    ASSERT_TRUE(work.add_group(group, {"@alice", "@bob"}));
    ASSERT_TRUE(acked(send(*alice, group)));
  }
  const auto joined = cluster.begin_join(b);
  ASSERT_TRUE(joined);
  std::set<std::size_t> asked;
  tap.on_leave = [&](const TapMessage& m) {
    if (m.method != Method::kFetch || m.from != *joined) return Fate::kPass;
    asked.insert(m.to);
    return Fate::kHold;
  };
  ASSERT_TRUE(until([&] { return !asked.empty(); }));
  const std::size_t first = *asked.begin();
  ASSERT_EQ(open_change(first), "join");
  cluster.crash(first, Crash::kPower);
  asked.erase(first);
  world.run_for(5s);
  ASSERT_TRUE(cluster.restart(first));
  ASSERT_TRUE(until([&] { return asked.size() > asked.count(first); }, 60s));
  asked.erase(first);
  const std::size_t second = *asked.begin();
  ASSERT_EQ(open_change(second), "join");
  cluster.crash(second, Crash::kPower);
  tap.clear();
  world.run_for(5s);
  ASSERT_TRUE(cluster.restart(second));
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
    const bool of_a = m.to == a && m.from != a && answer.ok();
    if (of_a && cluster.up(a) && !cluster.node(a).serving()) answered.insert(m.method);
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

class Growth : public Moves {
 protected:
  Growth() : Moves(3) {}
};
INSTANTIATE_TEST_SUITE_P(Seeds, Growth, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(2)));

TEST_P(Growth, FromThreeToTenAndBackUnderLoad) {
  work.start();
  for (std::size_t i = 0; i < 7; ++i) ASSERT_TRUE(cluster.begin_join(i % 3));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 300s));
  for (std::size_t i = 0; i < 10; ++i) EXPECT_EQ(state_of(i, 9), "serving") << i;
  const auto acked_by_now = [this] {
    const auto& sends = work.history().sends();
    return std::count_if(sends.begin(), sends.end(), [](const auto& send) { return send.outcome == Outcome::kAcked; });
  };
  // The oldest go: nobody that was there in the beginning is left.
  for (std::size_t i = 0; i < 7; ++i) {
    const auto acked = acked_by_now();
    ASSERT_TRUE(change(9, "leave", {i}));
    ASSERT_TRUE(departs(i)) << i << ": " << waits_for(9);
    EXPECT_GT(acked_by_now(), acked) << "nobody could send while node " << i << " left";
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
