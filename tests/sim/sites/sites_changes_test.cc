// Changes of the ring under a policy of sites: what they do to homes is told before, and nothing moves by mistake.
// And how far the away copies are, which nobody waits for.
#include "tests/sim/sites/sites.h"

namespace starling::sim {
namespace {

class HomeChanges : public TwoSites {
 protected:
  Json zone_of(const Json& told, const std::string& name) {
    for (const auto& zone : told.at("zones")) {
      if (zone.at("zone") == name) return zone;
    }
    return Json::object();
  }
  Json sites(std::size_t asked) {
    const auto told = cluster.admin(asked, "sites", Json::object());
    return told ? *told : Json{{"zones", Json::array()}};
  }
  // The other site: null where it is not known.
  Json behind(std::size_t asked) {
    const auto zone = zone_of(sites(asked), other());
    return zone.contains("behind") ? zone.at("behind") : Json{{"changes", -1}, {"ms", -1}};
  }
  // The other site has as few nodes as a home takes, and one of them is dead.
  std::size_t thin_out() {
    auto west = nodes_in(other());
    const auto left = west.front() == c ? west[1] : west[0];
    EXPECT_TRUE(change(a, "leave", {left}));
    EXPECT_TRUE(departs(left));
    cluster.retire(left);
    west = nodes_in(other());
    const auto dead = west.front() == c ? west[1] : west[0];
    cluster.crash(dead, Crash::kPower);
    believes_dead(a, dead);
    return dead;
  }
};
INSTANTIATE_TEST_SUITE_P(Seeds, HomeChanges, ::testing::Values(1, 2, 3));

TEST_P(HomeChanges, ARemovalThatEndsAHomeSaysSoAndIsMeant) {
  const auto dead = thin_out();
  const auto dry_run = [&](bool end_home) {
    return cluster.admin(a, "remove", {{"nodes", {cluster.id(dead)}}, {"dry_run", true}, {"end_home", end_home}});
  };
  const auto refused = change(a, "remove", {dead});
  ASSERT_FALSE(refused);
  const auto refused_dry = dry_run(false);
  ASSERT_FALSE(refused_dry);
  EXPECT_EQ(refused_dry.error().text, refused.error().text);
  const auto dry = dry_run(true);
  ASSERT_TRUE(dry) << dry.error().text;
  EXPECT_EQ(dry->at("homes").at("end"), Json::array({other()}));
  EXPECT_GT(dry->at("homes").at("moved").get<int>(), 0);
  EXPECT_NE(refused.error().text.find("zone " + other() + " would have fewer than the 2 nodes"), std::string::npos)
      << refused.error().text;
  EXPECT_NE(refused.error().text.find("--end-home"), std::string::npos);
  EXPECT_EQ(open_change(a), "");
  ASSERT_TRUE(change(a, "remove", {dead}, {{"end_home", true}}));
  ASSERT_TRUE(comes_to(dead, "removed", a)) << waits_for(a);
  cluster.retire(dead);
  EXPECT_EQ(zone_of(sites(a), other()).at("home_of"), 0);
  say();
  finish();
}

TEST_P(HomeChanges, AReplacementInAnotherSiteThatEndsAHomeIsRefused) {
  const auto dead = thin_out();
  cluster.set_zone(home());
  const auto refused = cluster.begin_replace(a, dead);
  ASSERT_TRUE(refused);
  EXPECT_TRUE(until([&] { return cluster.retired(*refused); }, 60s)) << "it was let in";
  EXPECT_EQ(open_change(a), "");
  EXPECT_EQ(state_of(dead, a), "serving");
  cluster.set_zone(other());
  const auto heir = cluster.begin_replace(a, dead);
  ASSERT_TRUE(heir);
  ASSERT_TRUE(comes_to(dead, "removed", a)) << waits_for(a);
  cluster.retire(dead);
  EXPECT_GT(zone_of(sites(a), other()).at("home_of").get<int>(), 0);
  finish();
}

// Homes are spread by the weight of the sites: more weight here, and some move here.
TEST_P(HomeChanges, AWeightTellsWhatHomesMove) {
  const auto dry = cluster.admin(a, "weight", {{"nodes", {cluster.id(a)}}, {"weight", 400}, {"dry_run", true}});
  ASSERT_TRUE(dry) << dry.error().text;
  EXPECT_GT(dry->at("homes").at("moved").get<int>(), 0);
  EXPECT_EQ(dry->at("homes").at("end"), Json::array());
  tap.on_leave = [](const TapMessage& m) { return m.method == Method::kInstalled ? Fate::kLose : Fate::kPass; };
  ASSERT_TRUE(change(a, "weight", {a}, {{"weight", 400}}));
  const auto movement = cluster.admin(a, "movement", Json::object());
  ASSERT_TRUE(movement);
  EXPECT_EQ(movement->at("moves").at("homes").at("moved"), dry->at("homes").at("moved"));
  tap.clear();
  ASSERT_NO_FATAL_FAILURE(change_is_complete(a));
  finish();
}

// Most of the nodes are here, and could complete it; the owners that are cut off have no say in it.
TEST_P(HomeChanges, AHomeDoesNotMoveWhileItsSiteIsCutOff) {
  cluster.set_zone(other());
  for (int i = 0; i < 2; ++i) {
    const auto joined = cluster.add_node(120s);
    ASSERT_TRUE(joined) << joined.error().text;
  }
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  tap.on_leave = [](const TapMessage& m) { return m.method == Method::kInstalled ? Fate::kLose : Fate::kPass; };
  const auto before = zone_of(sites(c), home()).at("home_of").get<int>();
  const auto dry = cluster.admin(c, "weight", {{"nodes", {cluster.id(c)}}, {"weight", 800}, {"dry_run", true}});
  ASSERT_TRUE(dry);
  ASSERT_GT(dry->at("homes").at("moved").get<int>(), 0);
  ASSERT_TRUE(change(c, "weight", {c}, {{"weight", 800}}));
  // All heard of it, and have what they shall own.
  world.run_for(10s);
  ASSERT_EQ(open_change(a), "weight");
  ASSERT_NO_FATAL_FAILURE(cut_apart({alice}, {bob}));
  tap.on_leave = nullptr;
  world.run_for(20s);
  EXPECT_EQ(open_change(c), "weight");
  EXPECT_NE(waits_for(c).find("its home would move"), std::string::npos) << waits_for(c);
  EXPECT_EQ(zone_of(sites(c), home()).at("home_of"), before);
  // What it goes on accepting is not behind anybody's back.
  EXPECT_TRUE(acked(send(*alice), 10s));
  cluster.heal();
  ASSERT_NO_FATAL_FAILURE(change_is_complete(c));
  EXPECT_LT(zone_of(sites(c), home()).at("home_of").get<int>(), before);
  say();
  finish();
}

TEST_P(HomeChanges, HowFarTheOtherSiteIsBehindIsTold) {
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  EXPECT_TRUE(until([&] { return behind(a).at("changes") == 0; }, 30s)) << behind(a).dump();
  EXPECT_EQ(sites(a).at("silent"), Json::array());
  ASSERT_NO_FATAL_FAILURE(cut_apart({alice}, {bob}));
  for (int i = 0; i < 5; ++i) say();
  const Instant from = world.now();
  world.run_for(20s);
  EXPECT_GE(behind(a).at("changes").get<int>(), 5);
  EXPECT_GE(behind(a).at("ms").get<std::int64_t>(), to_ms(world.now() - from));
  EXPECT_EQ(sites(a).at("silent").size(), 3u) << "what the other site accepted for us is not known";
  cluster.heal();
  // Nobody writes: it shows all the same.
  EXPECT_TRUE(until([&] { return behind(a).at("changes") == 0 && behind(c).at("changes") == 0; }, 60s))
      << behind(a).dump() << behind(c).dump();
  EXPECT_EQ(behind(a).at("ms"), 0);
  finish();
}

// Its answer was lost, and nothing is written that it would answer again.
TEST_P(HomeChanges, WhatHasComeIsKnownThoughTheWordOfItWasLost) {
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  ASSERT_TRUE(until([&] { return behind(a).at("changes") == 0; }, 30s));
  int lost = 0;
  tap.on_leave = [&](const TapMessage& m) {
    if (m.method == Method::kCompare && m.to == c) return Fate::kHold;  // It would tell, too.
    const bool word = m.method == Method::kReplicated && m.from == c && cluster.zone(m.to) == home();
    lost += word ? 1 : 0;
    return word ? Fate::kLose : Fate::kPass;
  };
  say();
  ASSERT_TRUE(until([&] { return lost > 0 && has_all(c); }, 10s));
  tap.clear();
  EXPECT_GT(behind(a).at("changes").get<int>(), 0);
  EXPECT_TRUE(until([&] { return behind(a).at("changes") == 0; }, 20s));
  finish();
}

// What it accepted before may have come or not, and nobody has told it.
TEST_P(HomeChanges, AfterARestartItIsNotKnownUntilTheOtherSiteIsHeard) {
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  ASSERT_TRUE(until([&] { return behind(a).at("changes") == 0; }, 30s));
  ASSERT_NO_FATAL_FAILURE(cut_apart({alice}, {bob}));
  say();
  cluster.crash(a, Crash::kPower);
  ASSERT_TRUE(cluster.restart(a));
  ASSERT_TRUE(until([&] { return cluster.up(a) && cluster.node(a).serving(); }, 60s));
  EXPECT_TRUE(behind(a).at("changes").is_null()) << behind(a).dump();
  cluster.heal();
  EXPECT_TRUE(until([&] { return behind(a).at("changes") == 0; }, 60s)) << behind(a).dump();
  finish();
}

}  // namespace
}  // namespace starling::sim
