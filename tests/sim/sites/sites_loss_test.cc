// A site is lost for good, or so it seems: the other goes on with what had come, and what comes back comes late.
#include "tests/sim/names.h"
#include "tests/sim/sites/sites.h"

namespace starling::sim {
namespace {

class SiteLoss : public TwoSites {
 protected:
  SiteLoss() : TwoSites(6, {2, 1, ""}, 64) {}
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(TwoSites::SetUp());
    for (int i = 0; i < 5; ++i) early.push_back(send(*alice));
    for (const auto i : early) ASSERT_TRUE(acked(i));
    ASSERT_TRUE(cluster.run_until_quiet(30s));
    // Acknowledged at home, and nowhere else yet.
    ASSERT_NO_FATAL_FAILURE(cut_apart({alice, alice2}, {bob, bob2}));
    late = send(*alice);
    ASSERT_TRUE(acked(late));
    lost = nodes_in(home());
    left = nodes_in(other());
  }
  void lose_the_home() {
    for (const auto i : lost) cluster.crash(i, Crash::kPower);
    cluster.heal();
    for (const auto i : lost) believes_dead(c, i);
  }
  void force() {
    const auto refused = cluster.admin(c, "remove", {{"zone", home()}});
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().text.find("--force"), std::string::npos) << refused.error().text;
    const auto before = cluster.admin(c, "ring", Json::object());
    const auto dry = cluster.admin(c, "remove", {{"zone", home()}, {"force", true}, {"dry_run", true}});
    ASSERT_TRUE(dry) << dry.error().text;
    EXPECT_NE(dry->at("lost"), "");
    ASSERT_EQ(dry->at("ring"), before->at("number")) << "a dry run changes nothing";
    const auto forced = cluster.admin(c, "remove", {{"zone", home()}, {"force", true}});
    ASSERT_TRUE(forced) << forced.error().text;
    site = forced->at("site");
    EXPECT_EQ(dry->at("site"), site);
    ASSERT_TRUE(until([&] {
      return std::all_of(left.begin(), left.end(), [&](auto i) { return cluster.node(i).serving(); });
    }, 60s));
  }
  void return_all() {
    for (const auto i : lost) ASSERT_TRUE(cluster.restart(i));
    for (const auto i : lost) ASSERT_TRUE(departs(i));
    for (const auto i : lost) cluster.retire(i);
  }

  std::vector<SendIndex> early;
  SendIndex late = kUnsent;
  std::vector<std::size_t> lost, left;
  Json site;
};
INSTANTIATE_TEST_SUITE_P(Seeds, SiteLoss, ::testing::Values(1, 2, 3));

TEST_P(SiteLoss, WhatHadComeIsThereAtOnceAndTheRestComesLate) {
  const auto pending = send(*bob);
  lose_the_home();
  ASSERT_NO_FATAL_FAILURE(force());
  EXPECT_GT(site.at("taken_over").get<int>(), 0);
  EXPECT_GT(site.at("newest_ms").get<std::uint64_t>(), 0u);
  EXPECT_TRUE(acked(pending)) << "what waited for the home is accepted by the new one";
  start(*bob2, left.front());
  for (const auto i : early) EXPECT_TRUE(until([&] { return shown(*bob2, i) == 1; }, 10s));
  EXPECT_EQ(shown(*bob2, late), 0u);
  for (int i = 0; i < 3; ++i) EXPECT_LT(time_of(*bob), 30ms);
  ASSERT_NO_FATAL_FAILURE(return_all());
  EXPECT_TRUE(until([&] { return shown(*bob2, late) == 1 && shown(*bob, late) == 1; }, 30s));
  finish();
}

// The owners to be home compare with the away owner first, also when that one is down at the moment.
TEST_P(SiteLoss, TheNewHomeWaitsForTheAwayCopies) {
  lose_the_home();
  cluster.crash(c, Crash::kPower);
  const std::size_t d = left.front() == c ? left.back() : left.front();
  believes_dead(d, c);
  const auto forced = cluster.admin(d, "remove", {{"zone", home()}, {"force", true}});
  ASSERT_TRUE(forced) << forced.error().text;
  world.run_for(10s);
  const auto status = cluster.admin(d, "status", Json::object());
  ASSERT_TRUE(status);
  EXPECT_EQ(status->at("node").at("state"), "catching up");
  EXPECT_NE(status->at("node").at("waits_for").get<std::string>().find(cluster.id(c)), std::string::npos);
  ASSERT_TRUE(cluster.restart(c));
  EXPECT_TRUE(until([&] { return cluster.node(d).serving(); }, 60s));
  start(*bob2, d);
  for (const auto i : early) EXPECT_TRUE(until([&] { return shown(*bob2, i) == 1; }, 10s));
  ASSERT_NO_FATAL_FAILURE(return_all());
  finish();
}

// It was only cut off, and went on: both did, and in the end there is all of it.
TEST_P(SiteLoss, ASiteThatWasOnlyCutOffHandsHomeWhatItAccepted) {
  ASSERT_NO_FATAL_FAILURE(force());
  const auto there = send(*alice);
  EXPECT_TRUE(acked(there)) << "the other site did not hear that it was given up";
  const auto here = send(*bob);
  EXPECT_TRUE(acked(here));
  cluster.heal();
  for (const auto i : lost) ASSERT_TRUE(departs(i));
  for (const auto i : lost) cluster.retire(i);
  start(*bob2, left.front());
  for (const auto i : {late, there, here}) EXPECT_TRUE(until([&] { return shown(*bob2, i) == 1; }, 30s));
  finish();
}

// The registers that a name leaves are copied like everything else.
TEST_P(SiteLoss, ANameThatHadComeIsNotGivenAway) {
  lose_the_home();
  ASSERT_NO_FATAL_FAILURE(force());
  // The home of this one is lost; those of the users may be.
  std::string why;
  for (int turn = 0; turn < 50 && why != "exists"; ++turn, world.run_for(200ms)) {
    const auto answer = cluster.admin(c, "group.create", {{"group", "#g"}, {"nonce", 7}});
    ASSERT_FALSE(answer.ok()) << "it was given away";
    why = std::string(name(answer.code()));
  }
  EXPECT_EQ(why, "exists");
  for (const char* name : {"alice", "bob"}) {
    Json again = Json::object();
    for (int turn = 0; turn < 50; ++turn, world.run_for(200ms)) {
      const auto answer =
          cluster.admin(c, "user.add", {{"users", {{{"name", name}, {"password", "another"}, {"nonce", 7}}}}});
      if (!answer || !answer->at("results").at(0).contains("error")) continue;
      again = answer->at("results").at(0).at("error");
      if (again.at("name") == "exists") break;
    }
    EXPECT_EQ(again.value("name", ""), "exists") << name << again.dump();
  }
  ASSERT_NO_FATAL_FAILURE(return_all());
  finish();
}

// Three sites: the new home need not be the site where the away copies are.
class NamesOfALostSite : public Moves {
 protected:
  NamesOfALostSite() : Moves(three_sites()) {}
  static ClusterOptions three_sites() {
    auto options = two_sites(9, {2, 1, ""}, 64);
    options.zones = {"east", "north", "west"};
    return options;
  }
  std::vector<std::size_t> nodes_of(const std::string& zone, bool in) {
    std::vector<std::size_t> out;
    for (std::size_t i = 0; i < cluster.size(); ++i) {
      if ((cluster.zone(i) == zone) == in) out.push_back(i);
    }
    return out;
  }
};
INSTANTIATE_TEST_SUITE_P(Seeds, NamesOfALostSite, ::testing::Values(1, 2, 3));

TEST_P(NamesOfALostSite, AreNotGivenAwayWhileTheAwayCopiesAreNotThere) {
  std::vector<std::string> names;
  for (int i = 0; i < 24; ++i) names.push_back("@early-" + std::to_string(i));
  const auto create = [&](std::size_t at, const std::string& name, std::uint64_t nonce) {
    return create_name(cluster, at, {{"name", name}, {"nonce", nonce}});
  };
  for (const auto& name : names) ASSERT_TRUE(create(a, name, 1).at("created").get<bool>());
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  const std::string zone = cluster.zone(a);
  const auto lost = nodes_of(zone, true), left = nodes_of(zone, false);
  for (const auto i : lost) cluster.crash(i, Crash::kPower);
  for (const auto i : lost) believes_dead(c, i);
  cluster.crash(c, Crash::kPower);
  const std::size_t d = left.front() == c ? left.back() : left.front();
  believes_dead(d, c);
  ASSERT_TRUE(cluster.admin(d, "remove", {{"zone", zone}, {"force", true}}));
  world.run_for(5s);
  for (const auto& name : names) EXPECT_FALSE(create(d, name, 2).value("created", false)) << name;
  ASSERT_TRUE(cluster.restart(c));
  ASSERT_TRUE(until([&] { return cluster.node(d).serving() && cluster.node(c).serving(); }, 60s));
  for (const auto& name : names) {
    Json again = Json::object();
    std::string why;
    for (int turn = 0; turn < 50 && why != "exists"; ++turn, world.run_for(200ms)) {
      again = create(d, name, 2);
      why = again.contains("error") ? again.at("error").at("name").get<std::string>() : "";
    }
    EXPECT_EQ(why, "exists") << name << again.dump();
  }
  EXPECT_TRUE(create(d, "@late", 3).value("created", false)) << "a new name is given";
  for (const auto i : lost) ASSERT_TRUE(cluster.restart(i));
  for (const auto i : lost) ASSERT_TRUE(departs(i));
  for (const auto i : lost) cluster.retire(i);
  finish();
}

// Nothing of the home is lost with the other site: it goes on as if nothing were.
TEST_P(SiteLoss, TheOtherSiteMayBeLostWithoutALook) {
  cluster.heal();
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  for (const auto i : left) cluster.crash(i, Crash::kPower);
  for (int i = 0; i < 3; ++i) EXPECT_LT(time_of(*alice), 20ms);
  for (const auto i : left) believes_dead(a, i);
  for (int i = 0; i < 3; ++i) EXPECT_LT(time_of(*alice), 20ms);
  for (const auto i : left) ASSERT_TRUE(cluster.restart(i));
  finish();
}

}  // namespace
}  // namespace starling::sim
