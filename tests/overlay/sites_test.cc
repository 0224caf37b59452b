// Policies of sites: who is home, how partitions lie, and what may be asked of a ring.
#include "overlay/ring/sites.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>
#include <utility>

#include "crypto/random.h"
#include "overlay/ring/placement.h"
#include "overlay/ring/ring.h"
#include "tests/overlay/ring_steps.h"

namespace starling::overlay {
namespace {

using SiteNodes = std::vector<PlacementNode>;

// Node i is in zones[i % size].
SiteNodes site_nodes(std::uint32_t n, const std::vector<std::string>& zones, std::uint32_t first = 0) {
  SiteNodes out;
  for (std::uint32_t i = first; i < first + n; ++i) {
    out.push_back({test_id(i), zones[i % zones.size()], kWeightDefault});
  }
  std::sort(out.begin(), out.end(), [](auto& a, auto& b) { return a.id < b.id; });
  return out;
}

Placement place_sites(SiteNodes some, std::uint32_t partitions, const SitePolicy& policy) {
  return compute_placement(std::move(some), partitions, 3, PlacementRule::kEven, policy);
}

void expect_sites_sound(const Placement& placement) {
  std::map<MemberIndex, std::uint32_t> all, first;
  for (std::uint32_t p = 0; p < placement.partitions; ++p) {
    const auto owners = placement.of(p);
    ASSERT_EQ(std::set<MemberIndex>(owners.begin(), owners.end()).size(), placement.copies);
    ++first[owners.front()];
    for (const auto owner : owners) ++all[owner];
    if (!placement.by_site) continue;
    const auto home = placement.home_of(p);
    const auto& zone = placement.nodes[home.front()].zone;
    for (std::size_t i = 0; i < owners.size(); ++i) {
      ASSERT_EQ(placement.nodes[owners[i]].zone == zone, i < placement.home) << "partition " << p;
    }
  }
  for (std::size_t i = 0; i < placement.nodes.size(); ++i) {
    ASSERT_LE(all[static_cast<MemberIndex>(i)], placement.bound[i]);
    ASSERT_LE(first[static_cast<MemberIndex>(i)], placement.first_bound[i]);
  }
}

std::map<std::string, std::uint32_t> homes(const Placement& placement) {
  std::map<std::string, std::uint32_t> out;
  for (std::uint32_t p = 0; p < placement.partitions; ++p) {
    ++out[placement.nodes[placement.of(p).front()].zone];
  }
  return out;
}

TEST(Sites, BothSitesAreHomeOfAboutHalf) {
  const auto placement = place_sites(site_nodes(6, {"east", "west"}), 4096, {2, 1, ""});
  expect_sites_sound(placement);
  EXPECT_EQ(placement.home, 2u);
  EXPECT_EQ(placement.copies, 3u);
  const auto each = homes(placement);
  EXPECT_LE(each.at("east"), 2253u) << "ceil(1.1 x half)";
  EXPECT_LE(each.at("west"), 2253u);
}

TEST(Sites, HomesFollowTheWeightOfTheSites) {
  SiteNodes some = site_nodes(6, {"east", "west"});
  for (auto& node : some) node.weight = node.zone == "east" ? 300 : 100;
  const auto each = homes(place_sites(some, 4096, {2, 1, ""}));
  EXPECT_NEAR(each.at("east"), 3072, 3072 * 0.1);
}

TEST(Sites, ANamedSiteIsTheHomeOfEverything) {
  const auto placement = place_sites(site_nodes(6, {"east", "west"}), 512, {2, 2, "west"});
  expect_sites_sound(placement);
  EXPECT_EQ(homes(placement), (std::map<std::string, std::uint32_t>{{"west", 512}}));
  // Until it has too few nodes: then every site that can be one is a home.
  auto few = site_nodes(6, {"east", "west"});
  bool kept = false;
  std::erase_if(few, [&](const auto& node) { return node.zone == "west" && std::exchange(kept, true); });
  EXPECT_EQ(homes(place_sites(few, 512, {2, 2, "west"})), (std::map<std::string, std::uint32_t>{{"east", 512}}));
}

TEST(Sites, AZoneThatIsTooSmallIsNoHomeButHoldsAwayCopies) {
  // east 3, west 3, one node in a third zone and one in none.
  SiteNodes some = site_nodes(6, {"east", "west"});
  some.push_back({test_id(6), "spare", kWeightDefault});
  some.push_back({test_id(7), "", kWeightDefault});
  std::sort(some.begin(), some.end(), [](auto& a, auto& b) { return a.id < b.id; });
  const auto placement = place_sites(some, 1024, {2, 2, ""});
  expect_sites_sound(placement);
  const auto each = homes(placement);
  EXPECT_EQ(each.size(), 2u);
  std::map<std::string, std::uint32_t> away;
  std::uint32_t shared = 0;
  for (std::uint32_t p = 0; p < placement.partitions; ++p) {
    const auto owners = placement.of(p);
    const auto& one = placement.nodes[owners[2]].zone;
    const auto& other = placement.nodes[owners[3]].zone;
    ++away[one];
    ++away[other];
    shared += !one.empty() && one == other ? 1 : 0;
  }
  EXPECT_GT(away["spare"], 0u);
  EXPECT_GT(away[""], 0u);
  EXPECT_LE(shared, 1024u * 3 / 10) << "the small ones have room for two of five, so one in five must";
}

TEST(Sites, WithoutAHomeThePolicyRestsAndAllCount) {
  const auto lone = place_sites(site_nodes(2, {"east", "west"}), 64, {2, 1, ""});
  EXPECT_FALSE(lone.by_site);
  EXPECT_EQ(lone.home, 2u);
  EXPECT_EQ(lone.copies, 2u);
  const auto one_site = place_sites(site_nodes(3, {"east"}), 64, {2, 1, ""});
  EXPECT_TRUE(one_site.by_site);
  EXPECT_EQ(one_site.copies, 2u) << "nobody is away";
}

TEST(Sites, WithoutAPolicyNothingIsDifferent) {
  const auto some = site_nodes(7, {"a", "b", "c"});
  const auto with = compute_placement(some, 1024, 3, PlacementRule::kEven, SitePolicy{});
  const auto without = compute_placement(some, 1024, 3, PlacementRule::kEven);
  EXPECT_EQ(with.owners, without.owners);
  EXPECT_EQ(with.home, with.copies);
}

TEST(Sites, HoldTheirBoundsForEveryShapeOfCluster) {
  SeededRandom random(5);
  for (int round = 0; round < 3000; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    SiteNodes some = site_nodes(static_cast<std::uint32_t>(1 + random.below(14)), {""},
                       static_cast<std::uint32_t>(random.below(1000)));
    const auto zones = 1 + random.below(5);
    const bool weighted = random.below(2) == 0;
    for (auto& node : some) {
      if (random.below(10) > 0) node.zone = std::to_string(random.below(zones));
      if (weighted) node.weight = static_cast<std::uint32_t>(1 + random.below(kWeightMax));
    }
    const auto partitions = std::uint32_t{1} << random.below(8);
    const auto home = static_cast<std::uint8_t>(1 + random.below(5));
    const auto away = static_cast<std::uint8_t>(1 + random.below(7u - home));
    const SitePolicy policy{home, away, random.below(3) == 0 ? "1" : ""};
    ASSERT_NO_FATAL_FAILURE(expect_sites_sound(place_sites(some, partitions, policy)));
  }
}

// What a node that joins one site, or leaves it, moves, in times of the least possible.
double moved_share(const Placement& before, const Placement& after) {
  std::map<NodeId, std::int64_t> gain;
  std::size_t count = 0;
  for (std::uint32_t p = 0; p < after.partitions; ++p) {
    std::set<NodeId> had;
    for (const auto owner : before.of(p)) {
      had.insert(before.nodes[owner].id);
      --gain[before.nodes[owner].id];
    }
    for (const auto owner : after.of(p)) {
      ++gain[after.nodes[owner].id];
      count += had.contains(after.nodes[owner].id) ? 0 : 1;
    }
  }
  std::int64_t least = 0;
  for (const auto& [id, copies] : gain) least += std::max<std::int64_t>(copies, 0);
  return static_cast<double>(count) / static_cast<double>(least);
}

TEST(Sites, AChangeMovesLittleMoreThanItMust) {
  struct Row {
    std::uint32_t nodes;
    SitePolicy policy;
    double at_most;
  };
  for (const Row& row : {Row{6, {2, 1, ""}, 1.2}, {10, {3, 2, ""}, 1.2}, {6, {2, 1, "east"}, 1.05},
                         {30, {3, 2, ""}, 1.2}, {100, {3, 2, ""}, 1.2}}) {
    double join = 0, leave = 0;
    for (std::uint32_t trial = 0; trial < 4; ++trial) {
      const auto more = site_nodes(row.nodes + 1, {"east", "west"}, trial * 1000);
      const NodeId one = test_id(trial * 1000 + row.nodes);
      SiteNodes fewer = more;
      std::erase_if(fewer, [&](const auto& node) { return node.id == one; });
      const auto small = place_sites(fewer, 4096, row.policy);
      const auto big = place_sites(more, 4096, row.policy);
      expect_sites_sound(small);
      expect_sites_sound(big);
      join = std::max(join, moved_share(small, big));
      leave = std::max(leave, moved_share(big, small));
    }
    std::printf("%u nodes, %u+%u %s: join %.3f, leave %.3f of the least\n", row.nodes, row.policy.home,
                row.policy.away, row.policy.only.c_str(), join, leave);
    EXPECT_LE(std::max(join, leave), row.at_most);
  }
}

// --- Versions ---

RingVersion two_sites(std::uint32_t n, const SitePolicy& policy = {}) {
  RingSettings settings;
  settings.partitions = 256;
  settings.sites = policy;
  auto version = must(first_version(test_lineage(), test_member(0, "east"), settings));
  for (std::uint32_t i = 1; i < n; ++i) {
    version = must(next_complete(joined(version, {test_member(i, i % 2 == 0 ? "east" : "west")})));
  }
  return version;
}

TEST(SitesChange, IsAnIntentAndItsCompletion) {
  const auto before = two_sites(6);
  EXPECT_EQ(before.format, kRingFormatFirst);
  const auto intent = must(next_intent_sites(before, {2, 1, ""}));
  EXPECT_EQ(intent.format, kRingFormatSites);
  EXPECT_TRUE(follows(before, intent));
  EXPECT_EQ(current_placement(intent).owners, current_placement(before).owners);
  const auto after = must(next_complete(intent));
  EXPECT_TRUE(follows(intent, after));
  EXPECT_EQ(after.copies, 3);
  EXPECT_EQ(after.synced, 2) << "the majority of those at home";
  EXPECT_EQ(next_placement(intent).owners, current_placement(after).owners);
  const auto aborted = must(next_abort(intent));
  EXPECT_FALSE(aborted.sites.on());
  EXPECT_TRUE(follows(intent, aborted));
  const auto wider = must(next_complete(must(next_intent_sites(after, {3, 2, "east"}))));
  EXPECT_EQ(wider.copies, 5);
  EXPECT_EQ(wider.synced, 2);
  const auto off = must(next_complete(must(next_intent_sites(wider, {}))));
  EXPECT_EQ(off.copies, 5) << "as many copies as before, and all count";
  EXPECT_EQ(off.synced, 3);
  EXPECT_EQ(off.format, kRingFormatSites);
}

TEST(SitesChange, NobodyBelievesAnotherPolicyThanTheIntents) {
  const auto before = two_sites(6);
  auto intent = must(next_intent_sites(before, {2, 1, ""}));
  auto after = must(next_complete(intent));
  after.sites.only = "east";
  EXPECT_FALSE(follows(intent, after));
  intent.next_sites = {5, 1, ""};
  EXPECT_FALSE(follows(before, intent)) << "no zone has five nodes";
}

TEST(SitesChange, WhatCannotBeKeptIsRefusedWithTheReason) {
  const auto why = [](const RingVersion& version, const SitePolicy& policy) {
    const auto intent = next_intent_sites(version, policy);
    EXPECT_FALSE(intent.ok());
    return intent.ok() ? std::string() : intent.error().text;
  };
  const auto version = two_sites(6);
  EXPECT_NE(why(version, {4, 1, ""}).find("no zone has the 4 nodes"), std::string::npos);
  EXPECT_NE(why(version, {2, 1, "north"}).find("zone north has not"), std::string::npos);
  EXPECT_NE(why(version, {2, 4, ""}).find("only 3 of the 4 away copies"), std::string::npos);
  EXPECT_NE(why(version, {2, 0, ""}).find("1 copy at home and 1 away"), std::string::npos);
  EXPECT_NE(why(version, {}).find("no policy of sites is in force"), std::string::npos);
  EXPECT_NE(why(two_sites(5), {3, 1, "west"}).find("zone west has not"), std::string::npos);
  RingSettings settings;
  settings.synced = 3;
  EXPECT_NE(why(test_ring(4, settings), {2, 1, ""}).find("no zone has"), std::string::npos);
  auto set = two_sites(6);
  set.synced_set = true;
  set.synced = 3;
  EXPECT_NE(why(set, {2, 1, ""}).find("name at least as many home copies"), std::string::npos);
}

TEST(SitesChange, ALeaveThatEndsAHomeNeedsForce) {
  const auto version = two_sites(5, {2, 1, ""});  // East 3, west 2.
  EXPECT_EQ(version.site_counts().homes.size(), 2u);
  const auto refused = next_intent_leave(version, ids({1}), false);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().text.find("zone west would have fewer"), std::string::npos) << refused.error().text;
  EXPECT_TRUE(next_intent_leave(version, ids({0}), false).ok());
  const auto forced = must(next_complete(must(next_intent_leave(version, ids({1}), true))));
  EXPECT_EQ(forced.site_counts().homes.size(), 1u);
}

// The loss of a site: those that were away are among those at home then, nearly all of them.
TEST(SitesChange, ForcingASiteOutMakesTheOtherTheHome) {
  const auto version = two_sites(8, {2, 1, ""});
  const auto after = must(forced_remove(version, ids({0, 2, 4, 6}), test_lineage(9)));
  EXPECT_TRUE(succeeds(version, after));
  const auto before_ring = must(Ring::make(version));
  const auto ring = must(Ring::make(after));
  EXPECT_TRUE(ring->by_site());
  EXPECT_EQ(ring->home_copies(), 2u);
  EXPECT_EQ(ring->copies(), 2u) << "nobody is elsewhere";
  std::size_t had = 0, kept = 0;
  for (std::uint32_t i = 0; i < 256; ++i) {
    const PartitionId p{static_cast<std::uint16_t>(i)};
    if (before_ring->member(before_ring->home(p).front())->zone != "east") continue;
    const NodeId away = before_ring->owners(p)[2];
    ++had;
    kept += ring->is_home(p, away) ? 1 : 0;
  }
  EXPECT_GE(kept * 100, had * 95);
}

TEST(SitesRing, OwnersForAPurpose) {
  const auto version = two_sites(6, {2, 1, ""});
  const auto ring = must(Ring::make(version));
  EXPECT_EQ(ring->w(), 2u);
  EXPECT_EQ(ring->enough_to_know(), 1u);
  const PartitionId p{7};
  ASSERT_EQ(ring->home(p).size(), 2u);
  ASSERT_EQ(ring->owners(p).size(), 3u);
  const NodeId away = ring->owners(p)[2];
  EXPECT_TRUE(ring->is_owner(p, away));
  EXPECT_FALSE(ring->is_home(p, away));
  // Who is away and shall be home gains something, though it has the data.
  const auto intent = must(next_intent_sites(version, {2, 1, ring->member(away)->zone}));
  const auto changing = must(Ring::make(intent));
  EXPECT_TRUE(changing->home_next(p).contains(away) == changing->is_owner_to_be(p, away));
  EXPECT_EQ(changing->home(p).to_vector(), ring->home(p).to_vector());
  const auto plain = must(Ring::make(test_ring(4)));
  EXPECT_EQ(plain->home(p).to_vector(), plain->owners(p).to_vector());
  EXPECT_FALSE(plain->by_site());
}

}  // namespace
}  // namespace starling::overlay
