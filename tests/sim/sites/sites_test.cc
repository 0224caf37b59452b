// A policy of sites (decision 0051): who is waited for, who is not, and what goes on while the sites do not hear
// each other.
#include "node/ring/messages.h"
#include "tests/sim/sites/sites.h"

namespace starling::sim {
namespace {

class Sites : public TwoSites {
 protected:
  using TwoSites::TwoSites;

  // alice is connected at b, a coordinates.
  void retry_without_the_coordinator() {
    for (int i = 0; i < 5; ++i) say();
    SendIndex sent = kUnsent;
    bool came = false;
    tap.on_leave = [&](const TapMessage& m) {
      return m.method == Method::kReplicated && m.from == b && m.to == a ? Fate::kLose : Fate::kPass;
    };
    tap.on_arrive = [&](const TapMessage& m) {
      came = came || (m.method == Method::kReplicate && m.from == a && m.to == b && find(m, sent));
    };
    sent = send(*alice);
    ASSERT_TRUE(until([&] { return came; }));
    ASSERT_FALSE(is_acked(sent));
    cluster.crash(a, Crash::kPower);
    tap.clear();
    EXPECT_TRUE(acked(sent, 40s)) << "nobody stood in";
    EXPECT_FALSE(cluster.up(a));
  }
  void bring_back_the_coordinator() {
    ASSERT_TRUE(cluster.restart(a));
    finish();
  }
  // A name whose mailbox has its home there.
  std::string name_at_home_in(const std::string& zone) {
    for (int i = 0; i < 100; ++i) {
      const auto name = "@late-" + std::to_string(i);
      const auto owners = cluster.owners_of(name);
      if (!owners.empty() && cluster.zone(owners.front()) == zone) return name;
    }
    return "";
  }
  bool creates(std::size_t at, const std::string& name) {
    for (int turn = 0; turn < 50; ++turn, world.run_for(200ms)) {
      const auto answer = cluster.admin(at, "user.add", {{"users", {{{"name", name}, {"nonce", 1}}}}});
      if (answer && answer->at("results").at(0).value("created", false)) return true;
    }
    return false;
  }
};
INSTANTIATE_TEST_SUITE_P(Seeds, Sites, ::testing::Values(1, 2, 3));

TEST_P(Sites, AnAckDoesNotWaitForTheOtherSite) {
  ASSERT_EQ(cluster.zone(b), home());
  ASSERT_NE(other(), home());
  for (int i = 0; i < 20; ++i) EXPECT_LT(time_of(*alice), 20ms);
  // Who is connected in the other site is served by the home owners: there and back.
  for (int i = 0; i < 5; ++i) {
    const Duration took = time_of(*bob);
    EXPECT_GE(took, 80ms);
    EXPECT_LT(took, 120ms);
  }
  node::SendOptions all;
  all.grade = node::protocol::Grade::kAll;
  EXPECT_GE(time_of(*alice, all), 80ms) << "--grade all waits for the away copy, too";
  finish();
}

// Of two home owners the one that is left knows every acknowledged message and every name.
TEST_P(Sites, ADeadHomeOwnerIsRemovedWithoutForce) {
  ASSERT_EQ(cluster.zone(b), home());
  const auto early = send(*alice);
  ASSERT_TRUE(acked(early));
  cluster.crash(b, Crash::kPower);
  believes_dead(a, b);
  ASSERT_TRUE(change(a, "remove", {b}));
  ASSERT_TRUE(comes_to(b, "removed", a)) << waits_for(a);
  cluster.retire(b);
  EXPECT_TRUE(acked(send(*alice)));
  EXPECT_TRUE(until([&] { return shown(*bob, early) == 1; }, 10s));
  const auto named = cluster.admin(a, "user.add", {{"users", {{{"name", "@later"}, {"nonce", 1}}}}});
  ASSERT_TRUE(named.ok()) << named.error().text;
  EXPECT_TRUE(named->at("results").at(0).at("created").get<bool>());
  finish();
}

TEST_P(Sites, TheAwayCopyFollowsByItself) {
  for (int i = 0; i < 10; ++i) say();
  EXPECT_TRUE(until([&] { return has_all(c); }, 1s));
  const auto last = send(*alice);
  ASSERT_TRUE(acked(last));
  EXPECT_FALSE(has_all(c)) << "it cannot have come so soon";
  world.run_for(100ms);
  EXPECT_TRUE(has_all(c));
  EXPECT_TRUE(until([&] { return shown(*bob, last) == 1; }, 1s)) << "pushed across";
  finish();
}

// The promise: W of those at home. Two copies on disk are none too few, but one of them is away.
TEST_P(Sites, AnAckWaitsForTheHomeOwners) {
  cluster.disk(b).hold(true);
  const auto sent = send(*alice);
  world.run_for(1s);
  EXPECT_TRUE(has_all(c));
  EXPECT_FALSE(is_acked(sent)) << "an away copy was counted";
  cluster.disk(b).hold(false);
  EXPECT_TRUE(acked(sent));
  finish();
}

TEST_P(Sites, OthersOfTheSiteStandInForAHomeOwnerThatIsDown) {
  start(*alice2, a);
  cluster.crash(b, Crash::kPower);
  believes_dead(a, b);
  for (int i = 0; i < 5; ++i) EXPECT_LT(time_of(*alice2), 20ms);
  ASSERT_TRUE(cluster.restart(b));
  finish();
}

// It has the message of a coordinator that died before it could acknowledge, and is all that is left at home.
TEST_P(Sites, ARetryIsHeldByAStandInWhileOneHomeOwnerIsDown) {
  ASSERT_NO_FATAL_FAILURE(retry_without_the_coordinator());
  bring_back_the_coordinator();
}

TEST_P(Sites, WhileTheSitesAreCutOffEachServesWhatItIsHomeOf) {
  const auto before = send(*alice);
  ASSERT_TRUE(acked(before));
  ASSERT_TRUE(until([&] { return shown(*bob, before) == 1; }));
  const auto name_here = name_at_home_in(home()), name_there = name_at_home_in(other());
  ASSERT_NE(name_here, "");
  ASSERT_NE(name_there, "");
  ASSERT_NO_FATAL_FAILURE(cut_apart({alice}, {bob, bob2}));
  const auto at_home = send(*alice);
  EXPECT_TRUE(acked(at_home, 5s)) << "the other site is asked for nothing";
  const auto away = send(*bob);
  world.run_for(10s);
  EXPECT_FALSE(is_acked(away));
  // What has come can be read, and people can log in.
  start(*bob2, c);
  EXPECT_EQ(shown(*bob2, before), 1u);
  EXPECT_EQ(history_of(*bob2, before).size(), 1u);
  EXPECT_EQ(shown(*bob2, at_home), 0u);
  EXPECT_EQ(where(c).at("owners").size(), 3u) << "operators are answered there";
  // The other site is home of something, too, and a new name is the most that it takes.
  EXPECT_TRUE(creates(c, name_there));
  EXPECT_TRUE(creates(a, name_here));
  cluster.heal();
  EXPECT_TRUE(acked(away));
  EXPECT_TRUE(until([&] { return shown(*bob2, at_home) == 1 && shown(*bob, at_home) == 1; }, 30s));
  finish();
}

// Whatever its away copies lack, a node serves what it is home of.
TEST_P(Sites, AReturnDoesNotWaitForTheOtherSite) {
  cluster.cut_zone(home());
  believes_dead(c, a);
  cluster.crash(c, Crash::kPower);
  world.run_for(3s);
  ASSERT_TRUE(cluster.restart(c));
  EXPECT_TRUE(until([&] { return cluster.up(c) && cluster.node(c).serving(); }, 30s));
  cluster.heal();
  finish();
}

TEST_P(Sites, NodesJoinAndLeaveUnderAPolicy) {
  cluster.set_zone(home());
  const auto joined = cluster.add_node(120s);
  ASSERT_TRUE(joined) << joined.error().text;
  say();
  const std::size_t left = b;
  ASSERT_TRUE(change(a, "leave", {left}));
  ASSERT_TRUE(comes_to(left, "left", a)) << waits_for(a);
  ASSERT_TRUE(departs(left));
  cluster.retire(left);
  say();
  // One more would end the home.
  const auto few = nodes_in(other());
  ASSERT_TRUE(change(a, "leave", {few.back()}));
  ASSERT_TRUE(departs(few.back()));
  cluster.retire(few.back());
  const auto refused = change(a, "leave", {few.front()});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text.find("fewer than the 2 nodes"), std::string::npos) << refused.error().text;
  finish();
}

// With two nodes in each site an away owner is all there is to stand in.
class SmallSites : public Sites {
 protected:
  SmallSites() : Sites(4) {}
  // The one that owns nothing of #g. It could stand in, too.
  std::size_t bystander() {
    const auto there = nodes_in(other());
    return there.front() == c ? there.back() : there.front();
  }
};
INSTANTIATE_TEST_SUITE_P(Seeds, SmallSites, ::testing::Values(1, 2, 3));

TEST_P(SmallSites, AnAwayOwnerStandsInWhenNobodyAtHomeCan) {
  start(*alice2, a);
  cluster.crash(b, Crash::kPower);
  believes_dead(a, b);
  cluster.disk(bystander()).hold(true);
  const auto sent = send(*alice2);
  EXPECT_TRUE(acked(sent, 5s)) << "the copy of the away owner is not counted";
  cluster.disk(bystander()).hold(false);
  ASSERT_TRUE(cluster.restart(b));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
  // Now that it is back it is waited for again.
  cluster.disk(b).hold(true);
  const auto again = send(*alice2);
  world.run_for(1s);
  EXPECT_FALSE(is_acked(again));
  cluster.disk(b).hold(false);
  finish();
}

TEST_P(SmallSites, ARetryIsHeldByAnAwayOwnerWhenNobodyAtHomeCan) {
  cluster.disk(bystander()).hold(true);
  ASSERT_NO_FATAL_FAILURE(retry_without_the_coordinator());
  bring_back_the_coordinator();
}

// Its copy would count only when it has all that it lacks: another member is asked instead.
TEST_P(SmallSites, AnAwayOwnerThatLagsIsNotWaitedForWhileAnotherCanStandIn) {
  start(*alice2, a);
  cluster.disk(c).hold(true);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(acked(send(*alice2)));
  std::set<std::size_t> hinted;
  tap.on_arrive = [&](const TapMessage& m) {
    if (m.method == Method::kHint) hinted.insert(m.to);
  };
  cluster.crash(b, Crash::kPower);
  believes_dead(a, b);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(acked(send(*alice2), 3s));
  EXPECT_EQ(hinted, std::set<std::size_t>{bystander()});
  cluster.disk(c).hold(false);
  ASSERT_TRUE(cluster.restart(b));
  finish();
}

// A cluster without a policy gets one, another, and none, while people write.
class NoSites : public TwoSites {
 protected:
  NoSites() : TwoSites(6, {}) {}
  void change_to(const Json& policy) {
    const auto begun = cluster.admin(a, "sites", policy);
    ASSERT_TRUE(begun) << begun.error().text;
    for (int i = 0; i < 10; ++i) {
      say();
      world.run_for(200ms);
    }
    ASSERT_NO_FATAL_FAILURE(change_is_complete(a));
    say();
  }
};
INSTANTIATE_TEST_SUITE_P(Seeds, NoSites, ::testing::Values(1, 2, 3));

TEST_P(NoSites, APolicyIsSetChangedAndEndedWhilePeopleWrite) {
  const auto dry = cluster.admin(a, "sites", {{"home", 2}, {"away", 1}, {"dry_run", true}});
  ASSERT_TRUE(dry) << dry.error().text;
  EXPECT_GT(dry->at("moved").get<int>(), 0);
  ASSERT_NO_FATAL_FAILURE(change_to({{"home", 2}, {"away", 1}}));
  auto told = cluster.admin(c, "sites", Json::object());
  ASSERT_TRUE(told);
  EXPECT_EQ(told->at("in_force"), true);
  EXPECT_EQ(told->at("home_copies"), 2);
  EXPECT_EQ(told->at("zones").size(), 2u);
  for (const auto& zone : told->at("zones")) EXPECT_GT(zone.at("home_of").get<int>(), 0);
  ASSERT_NO_FATAL_FAILURE(change_to({{"home", 3}, {"away", 2}, {"only", "west"}}));
  told = cluster.admin(c, "sites", Json::object());
  ASSERT_TRUE(told);
  EXPECT_EQ(told->at("zones").at(1).at("home_of"), 16);
  ASSERT_NO_FATAL_FAILURE(change_to({{"off", true}}));
  finish();
}

TEST_P(NoSites, APolicyThatIsTakenBackChangesNothing) {
  tap.on_leave = [](const TapMessage& m) { return m.method == Method::kInstalled ? Fate::kLose : Fate::kPass; };
  const auto owners = cluster.owner_table(a);
  ASSERT_TRUE(cluster.admin(a, "sites", {{"home", 2}, {"away", 1}}));
  EXPECT_EQ(open_change(a), "sites");
  ASSERT_TRUE(cluster.admin(a, "abort", Json::object()));
  EXPECT_EQ(open_change(a), "");
  tap.clear();  // Who has installed says so now.
  world.run_for(10s);
  const auto told = cluster.admin(a, "sites", Json::object());
  ASSERT_TRUE(told);
  EXPECT_EQ(told->at("in_force"), false);
  EXPECT_EQ(told->at("policy").at("home"), 0);
  EXPECT_EQ(cluster.owner_table(a), owners);
  say();
  finish();
}

TEST_P(NoSites, WhatCannotBeKeptIsRefused) {
  const auto why = [&](const Json& policy) {
    const auto answer = cluster.admin(a, "sites", policy);
    EXPECT_FALSE(answer.ok());
    return answer ? std::string() : answer.error().text;
  };
  EXPECT_NE(why({{"home", 4}, {"away", 1}}).find("no zone has the 4 nodes"), std::string::npos);
  EXPECT_NE(why({{"home", 2}, {"away", 4}}).find("only 3 of the 4"), std::string::npos);
  EXPECT_NE(why({{"home", 2}, {"away", 1}, {"only", "north"}}).find("zone north"), std::string::npos);
  EXPECT_NE(why({{"home", 0}, {"away", 1}}).find("1 to 6"), std::string::npos);
  EXPECT_NE(why({{"off", true}}).find("no policy"), std::string::npos);
}

// A node of before would be left behind: the others are asked first.
TEST_P(NoSites, NobodyIsLeftBehindByAFormatThatItCannotRead) {
  tap.alter_answer = [&](const TapMessage& m, Bytes& answer) {
    if (m.method != Method::kMovement || m.to != c) return;
    auto reply = unpack<node::MovementReply>(answer);
    ASSERT_TRUE(reply);
    reply->ring_format = 3;
    answer = pack(*reply);
  };
  for (const bool dry : {true, false}) {
    const auto refused = cluster.admin(a, "sites", {{"home", 2}, {"away", 1}, {"dry_run", dry}});
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().text.find("upgrade it first"), std::string::npos) << refused.error().text;
  }
  EXPECT_EQ(open_change(a), "");
}

}  // namespace
}  // namespace starling::sim
