#include "overlay/ring/placement.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>

#include <gtest/gtest.h>
#include <xxhash.h>

#include "crypto/random.h"
#include "tests/overlay/ring_fixture.h"

namespace starling::overlay {
namespace {

using Nodes = std::vector<PlacementNode>;

// Nodes first..first+n-1, sorted by id.
Nodes nodes(std::uint32_t n, std::uint32_t first = 0) {
  Nodes out;
  for (std::uint32_t i = first; i < first + n; ++i) out.push_back({test_id(i), "", kWeightDefault});
  std::sort(out.begin(), out.end(), [](auto& a, auto& b) { return a.id < b.id; });
  return out;
}

Nodes without(Nodes from, const NodeId& id) {
  std::erase_if(from, [&](const PlacementNode& node) { return node.id == id; });
  return from;
}

Placement place(Nodes some, std::uint32_t partitions, std::size_t copies,
                PlacementRule rule = PlacementRule::kEven) {
  return compute_placement(std::move(some), partitions, copies, rule);
}

std::vector<std::uint32_t> loads(const Placement& placement, bool first_only) {
  std::vector<std::uint32_t> out(placement.nodes.size(), 0);
  for (std::uint32_t p = 0; p < placement.partitions; ++p) {
    const auto owners = placement.of(p);
    for (const auto owner : owners.first(first_only ? 1 : owners.size())) ++out[owner];
  }
  return out;
}

void expect_sound(const Placement& placement) {
  for (std::uint32_t p = 0; p < placement.partitions; ++p) {
    const auto owners = placement.of(p);
    ASSERT_EQ(std::set<MemberIndex>(owners.begin(), owners.end()).size(), placement.copies);
    for (const auto owner : owners) ASSERT_LT(owner, placement.nodes.size());
  }
  const auto all = loads(placement, false);
  const auto first = loads(placement, true);
  for (std::size_t i = 0; i < placement.nodes.size(); ++i) {
    ASSERT_LE(all[i], placement.bound[i]);
    ASSERT_LE(first[i], placement.first_bound[i]);
  }
  // By itself where all weigh the same: 1.1 times the fair share, rounded up.
  const std::size_t n = placement.nodes.size();
  const auto same = [&](const PlacementNode& node) { return node.weight == placement.nodes.front().weight; };
  if (!std::all_of(placement.nodes.begin(), placement.nodes.end(), same)) return;
  for (const auto load : all) ASSERT_LE(load, (11 * placement.owners.size() + 10 * n - 1) / (10 * n));
}

// Copies that `after` puts on a node that does not have them in `before`.
std::size_t moved(const Placement& before, const Placement& after) {
  std::size_t count = 0;
  for (std::uint32_t p = 0; p < after.partitions; ++p) {
    std::set<NodeId> had;
    for (const auto owner : before.of(p)) had.insert(before.nodes[owner].id);
    for (const auto owner : after.of(p)) count += had.contains(after.nodes[owner].id) ? 0 : 1;
  }
  return count;
}

TEST(Placement, IsTheSameOnEveryMachine) {
  // Computed once and frozen: another value moves the data of every cluster.
  Nodes mixed = nodes(9);
  for (std::size_t i = 0; i < mixed.size(); ++i) {
    mixed[i].zone = std::string(1, static_cast<char>('a' + i % 4));
    mixed[i].weight = static_cast<std::uint32_t>(50 + 37 * i);
  }
  const auto digest = [&](PlacementRule rule) {
    Bytes bytes;
    BytesWriter writer(bytes);
    for (const auto owner : place(mixed, 1024, 3, rule).owners) writer.u16le(owner);
    return XXH64(bytes.data(), bytes.size(), 0);
  };
  EXPECT_EQ(digest(PlacementRule::kHashed), 8321864023233907131u);
  EXPECT_EQ(digest(PlacementRule::kEven), 6829402172608582737u);
}

TEST(Placement, FollowsTheRuleOfItsVersion) {
  auto version = test_ring(5);
  EXPECT_EQ(current_placement(version).owners,
            place(nodes(5), version.partitions, 3, PlacementRule::kEven).owners);
  version.format = 1;
  version.rule = PlacementRule::kHashed;
  EXPECT_EQ(current_placement(version).owners,
            place(nodes(5), version.partitions, 3, PlacementRule::kHashed).owners);
}

TEST(Placement, BoundsAreElevenTenthsOfTheFairShareByWeight) {
  Nodes four = nodes(4);
  four[0].weight = 200;
  const auto placement = place(four, 1000, 2);
  EXPECT_EQ(placement.bound, (std::vector<std::uint32_t>{880, 440, 440, 440}));
  EXPECT_EQ(placement.first_bound, (std::vector<std::uint32_t>{440, 220, 220, 220}));
}

TEST(Placement, WhatAHeavyNodeCannotTakeFallsToTheOthers) {
  Nodes three = nodes(3);
  three[1].weight = 1000;
  three[0].weight = three[2].weight = 1;
  const auto placement = place(three, 1024, 2);
  expect_sound(placement);
  const auto load = loads(placement, false);
  EXPECT_EQ(placement.bound[1], 1024u);
  EXPECT_GT(load[1], 900u);
  EXPECT_EQ(placement.bound[0], 564u);  // Half of the second copies, and a tenth.
}

TEST(Placement, LoadFollowsWeight) {
  Nodes hundred = nodes(100);
  hundred[3].weight = 300;
  hundred[7].weight = 50;
  const auto placement = place(hundred, 65536, 3);
  expect_sound(placement);
  const auto load = loads(placement, false);
  const double per_weight = 65536 * 3 / (100 * 100.0 + 150);
  EXPECT_NEAR(load[3], per_weight * 300, per_weight * 300 * 0.07);
  EXPECT_NEAR(load[7], per_weight * 50, per_weight * 50 * 0.07);
}

TEST(Placement, AHeavyNodeAmongFewStaysALittleBelowItsShare) {
  Nodes ten = nodes(10);
  ten[3].weight = 300;  // A quarter, but it can be chosen only once per partition.
  const auto placement = place(ten, 4096, 3);
  expect_sound(placement);
  const double fair = 4096 * 3 * 300 / 1200.0;
  EXPECT_GT(loads(placement, false)[3], fair * 0.8);
  EXPECT_LT(loads(placement, false)[3], fair);
}

TEST(Placement, FewNodesOwnEverything) {
  for (std::uint32_t n = 1; n <= 3; ++n) {
    const auto placement = place(nodes(n), 256, 3);
    EXPECT_EQ(placement.copies, n);
    expect_sound(placement);
    for (const auto load : loads(placement, false)) EXPECT_EQ(load, 256u);
  }
}

TEST(Placement, CopiesLieInDistinctZonesWhereTheBoundAllows) {
  Nodes even = nodes(9);
  for (std::size_t i = 0; i < even.size(); ++i) even[i].zone = std::string(1, "abc"[i % 3]);
  const auto spread = place(even, 4096, 3);
  expect_sound(spread);
  EXPECT_TRUE(spread.zones_shared.empty()) << spread.zones_shared.size();

  // Zone b is one node of four: it may own 1.1 x 1/4 of the copies, so nearly half must share zone
  // a.
  Nodes uneven = nodes(4);
  for (auto& node : uneven) node.zone = "a";
  uneven[2].zone = "b";
  const auto squeezed = place(uneven, 1000, 2);
  expect_sound(squeezed);
  EXPECT_EQ(loads(squeezed, false)[2], 550u);
  EXPECT_EQ(squeezed.zones_shared.size(), 450u);
}

TEST(Placement, HoldsItsBoundsForEveryShapeOfCluster) {
  SeededRandom random(11);
  for (int round = 0; round < 3000; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    Nodes some = nodes(static_cast<std::uint32_t>(1 + random.below(12)),
                       static_cast<std::uint32_t>(random.below(1000)));
    const auto zones = random.below(4);
    const bool weighted = random.below(2) == 0;
    for (auto& node : some) {
      if (zones > 0) node.zone = std::to_string(random.below(zones));
      if (weighted) node.weight = static_cast<std::uint32_t>(1 + random.below(kWeightMax));
    }
    const auto partitions = std::uint32_t{1} << random.below(8);
    ASSERT_NO_FATAL_FAILURE(expect_sound(place(some, partitions, 1 + random.below(7))));
  }
}

// Least possible: what those who gain have to fetch.
double over_the_least(const Placement& before, const Placement& after) {
  std::map<NodeId, std::int64_t> gain;
  const auto was = loads(before, false);
  const auto is = loads(after, false);
  for (std::size_t i = 0; i < was.size(); ++i) gain[before.nodes[i].id] -= was[i];
  for (std::size_t i = 0; i < is.size(); ++i) gain[after.nodes[i].id] += is[i];
  std::int64_t least = 0;
  for (const auto& [id, copies] : gain) least += std::max<std::int64_t>(copies, 0);
  return static_cast<double>(moved(before, after)) / static_cast<double>(least);
}

struct Movement {
  std::uint32_t nodes;
  std::uint32_t partitions;
  std::uint32_t zones;  // 0: none.
  std::uint32_t trials;
  double at_most;  // Times the least possible.
};

struct Moved {
  double join = 0, leave = 0, heavier = 0, lighter = 0, load = 0;
  std::size_t shared = 0;
};

// One of row.nodes + 1 nodes joins, leaves, and changes its weight by half.
Moved move_one(const Movement& row, std::uint32_t trial) {
  Nodes more = nodes(row.nodes + 1, trial * 1000);
  for (std::size_t k = 0; row.zones > 0 && k < more.size(); ++k) {
    more[k].zone = std::to_string(k % row.zones);
  }
  const NodeId one = more[trial % more.size()].id;
  Nodes reweighted = more;
  for (auto& node : reweighted) node.weight = node.id == one ? 150 : kWeightDefault;
  const auto big = place(more, row.partitions, 3);
  const auto small = place(without(more, one), row.partitions, 3);
  const auto heavy = place(reweighted, row.partitions, 3);
  for (const auto& placement : {big, small, heavy}) expect_sound(placement);
  Moved out{over_the_least(small, big), over_the_least(big, small), over_the_least(big, heavy),
            over_the_least(heavy, big), 0, big.zones_shared.size()};
  const double fair = static_cast<double>(big.owners.size()) / static_cast<double>(more.size());
  for (const auto load : loads(big, false)) out.load = std::max(out.load, load / fair);
  return out;
}

TEST(Placement, AChangeMovesLittleMoreThanItMust) {
  for (const Movement& row : {Movement{3, 4096, 0, 5, 1.02},
                              {10, 4096, 0, 5, 1.02},
                              {100, 4096, 0, 5, 1.1},
                              {100, 65536, 0, 1, 1.02},
                              {1000, 65536, 0, 1, 1.1},
                              {99, 4096, 5, 3, 1.1},
                              // A zone that has no room for a copy of everything:
                              {6, 4096, 3, 5, 1.6},
                              {12, 4096, 3, 5, 1.5}}) {
    Moved worst;
    for (std::uint32_t i = 0; i < row.trials; ++i) {
      const auto one = move_one(row, i);
      worst.join = std::max(worst.join, one.join);
      worst.leave = std::max(worst.leave, one.leave);
      worst.heavier = std::max(worst.heavier, one.heavier);
      worst.lighter = std::max(worst.lighter, one.lighter);
      worst.load = std::max(worst.load, one.load);
      worst.shared = std::max(worst.shared, one.shared);
    }
    std::printf("%u nodes, %u partitions, %u zones: join %.3f, leave %.3f, heavier %.3f, lighter "
                "%.3f of the least; load %.3f of fair; %zu share a zone\n",
                row.nodes, row.partitions, row.zones, worst.join, worst.leave, worst.heavier,
                worst.lighter, worst.load, worst.shared);
    EXPECT_LE(std::max({worst.join, worst.leave, worst.heavier, worst.lighter}), row.at_most);
  }
}

TEST(Placement, ManyAtOnceMoveLittleMoreThanTheyMust) {
  for (const bool weighted : {false, true}) {
    Nodes fifteen = nodes(15);
    for (std::size_t i = 0; weighted && i < fifteen.size(); ++i) fifteen[i].weight = static_cast<std::uint32_t>(50 + 20 * i);
    Nodes ten = fifteen;
    for (const int i : {1, 4, 8, 11, 14}) ten = without(ten, fifteen[static_cast<std::size_t>(i)].id);
    const Nodes rest = without(fifteen, fifteen[3].id);
    const auto big = place(fifteen, 4096, 3), small = place(ten, 4096, 3), one_less = place(rest, 4096, 3);
    for (const auto& placement : {big, small, one_less}) expect_sound(placement);
    std::printf("%s: 5 of 15 join %.3f, leave %.3f; one is removed %.3f of the least\n", weighted ? "weighted" : "even",
                over_the_least(small, big), over_the_least(big, small), over_the_least(big, one_less));
    EXPECT_LE(over_the_least(small, big), 1.1);
    EXPECT_LE(over_the_least(big, small), 1.1);
    EXPECT_LE(over_the_least(big, one_less), 1.1);
  }
}

// Hazards F35.
TEST(Placement, HasRoomWhereNodesAreNearlyAsManyAsPartitions) {
  const auto placement = place(nodes(1000), 1024, 3);
  expect_sound(placement);
  for (const auto load : loads(placement, false)) EXPECT_LE(load, 4u);
  for (const auto first : loads(placement, true)) EXPECT_LE(first, 2u);
}

TEST(Placement, NoMoreCopiesShareAZoneThanTheBoundsForce) {
  Nodes ten = nodes(10);  // 4, 3 and 3: each small zone lacks room for 40 of 4,096 copies.
  for (std::size_t i = 0; i < ten.size(); ++i) ten[i].zone = std::string(1, "abc"[i % 3]);
  const auto placement = place(ten, 4096, 3);
  expect_sound(placement);
  EXPECT_EQ(placement.bound[0], 1352u);
  EXPECT_EQ(placement.zones_shared.size(), 2 * (4096 - 3 * 1352));
}

TEST(Placement, CurrentAndNextFollowTheIntent) {
  const auto before = test_ring(4);
  const std::vector<NewMember> joiner = {test_member(9)};
  const auto joining = must(next_intent_join(before, joiner));
  EXPECT_EQ(current_placement(joining).nodes.size(), 4u);
  EXPECT_EQ(next_placement(joining).nodes.size(), 5u);
  EXPECT_EQ(next_placement(joining).owners, current_placement(must(next_complete(joining))).owners);

  const std::vector<NodeId> leaver = {test_id(2)};
  const auto leaving = must(next_intent_leave(before, leaver, false));
  EXPECT_EQ(current_placement(leaving).owners, current_placement(before).owners);
  EXPECT_EQ(next_placement(leaving).nodes.size(), 3u);

  const std::vector<NewWeight> heavier = {{test_id(1), 400}};
  const auto reweighted = must(next_intent_weight(before, heavier));
  EXPECT_EQ(current_placement(reweighted).owners, current_placement(before).owners);
  EXPECT_NE(next_placement(reweighted).owners, current_placement(before).owners);
}

}  // namespace
}  // namespace starling::overlay
