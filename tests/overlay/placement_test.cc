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
  const auto placement = compute_placement(mixed, 1024, 3);
  Bytes bytes;
  BytesWriter writer(bytes);
  for (const auto owner : placement.owners) writer.u16le(owner);
  EXPECT_EQ(XXH64(bytes.data(), bytes.size(), 0), 8321864023233907131u);
}

TEST(Placement, BoundsAreElevenTenthsOfTheFairShareByWeight) {
  Nodes four = nodes(4);
  four[0].weight = 200;
  const auto placement = compute_placement(four, 1000, 2);
  EXPECT_EQ(placement.bound, (std::vector<std::uint32_t>{880, 440, 440, 440}));
  EXPECT_EQ(placement.first_bound, (std::vector<std::uint32_t>{440, 220, 220, 220}));
}

TEST(Placement, WhatAHeavyNodeCannotTakeFallsToTheOthers) {
  Nodes three = nodes(3);
  three[1].weight = 1000;
  three[0].weight = three[2].weight = 1;
  const auto placement = compute_placement(three, 1024, 2);
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
  const auto placement = compute_placement(hundred, 65536, 3);
  expect_sound(placement);
  const auto load = loads(placement, false);
  const double per_weight = 65536 * 3 / (100 * 100.0 + 150);
  EXPECT_NEAR(load[3], per_weight * 300, per_weight * 300 * 0.07);
  EXPECT_NEAR(load[7], per_weight * 50, per_weight * 50 * 0.07);
}

TEST(Placement, AHeavyNodeAmongFewStaysALittleBelowItsShare) {
  Nodes ten = nodes(10);
  ten[3].weight = 300;  // A quarter, but it can be chosen only once per partition.
  const auto placement = compute_placement(ten, 4096, 3);
  expect_sound(placement);
  const double fair = 4096 * 3 * 300 / 1200.0;
  EXPECT_GT(loads(placement, false)[3], fair * 0.8);
  EXPECT_LT(loads(placement, false)[3], fair);
}

TEST(Placement, FewNodesOwnEverything) {
  for (std::uint32_t n = 1; n <= 3; ++n) {
    const auto placement = compute_placement(nodes(n), 256, 3);
    EXPECT_EQ(placement.copies, n);
    expect_sound(placement);
    for (const auto load : loads(placement, false)) EXPECT_EQ(load, 256u);
  }
}

TEST(Placement, CopiesLieInDistinctZonesWhereTheBoundAllows) {
  Nodes even = nodes(9);
  for (std::size_t i = 0; i < even.size(); ++i) even[i].zone = std::string(1, "abc"[i % 3]);
  const auto spread = compute_placement(even, 4096, 3);
  expect_sound(spread);
  EXPECT_TRUE(spread.zones_shared.empty()) << spread.zones_shared.size();

  // Zone b is one node of four: it may own 1.1 x 1/4 of the copies, so nearly half must share zone
  // a.
  Nodes uneven = nodes(4);
  for (auto& node : uneven) node.zone = "a";
  uneven[2].zone = "b";
  const auto squeezed = compute_placement(uneven, 1000, 2);
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
    ASSERT_NO_FATAL_FAILURE(expect_sound(compute_placement(some, partitions, 1 + random.below(7))));
  }
}

struct Movement {
  std::uint32_t nodes;
  std::uint32_t partitions;
  std::uint32_t trials;
  double at_most;  // Times the least possible.
};

TEST(Placement, AJoinOrALeaveMovesLittleMoreThanItMust) {
  for (const Movement& row : {Movement{3, 4096, 5, 1.02},
                              {10, 4096, 5, 1.05},
                              {100, 4096, 5, 1.3},
                              {100, 65536, 1, 1.05}}) {
    double worst_join = 0, worst_leave = 0, worst_first = 0;
    for (std::uint32_t i = 0; i < row.trials; ++i) {
      const Nodes more = nodes(row.nodes + 1, i * 1000);
      const NodeId joiner = test_id(i * 1000 + i % row.nodes);
      const auto big = compute_placement(more, row.partitions, 3);
      const auto small = compute_placement(without(more, joiner), row.partitions, 3);
      const auto at = std::find_if(big.nodes.begin(), big.nodes.end(),
                                   [&](const auto& node) { return node.id == joiner; });
      const double must = loads(big, false)[static_cast<std::size_t>(at - big.nodes.begin())];
      worst_join = std::max(worst_join, static_cast<double>(moved(small, big)) / must);
      worst_leave = std::max(worst_leave, static_cast<double>(moved(big, small)) / must);
      std::size_t firsts = 0;
      for (std::uint32_t p = 0; p < row.partitions; ++p) {
        firsts += big.nodes[big.of(p)[0]].id != small.nodes[small.of(p)[0]].id ? 1 : 0;
      }
      const double first_share = 1.0 * row.partitions / (row.nodes + 1);
      worst_first = std::max(worst_first, static_cast<double>(firsts) / first_share);
    }
    std::printf("%u nodes, %u partitions: join %.3f, leave %.3f, coordinators %.3f of the least\n",
                row.nodes, row.partitions, worst_join, worst_leave, worst_first);
    EXPECT_LE(worst_join, row.at_most);
    EXPECT_LE(worst_leave, row.at_most);
  }
}

TEST(Placement, AJoinIntoZonesMovesLittleToo) {
  double worst = 0;
  for (std::uint32_t i = 0; i < 5; ++i) {
    Nodes more = nodes(13, i * 1000);
    for (std::size_t k = 0; k < more.size(); ++k) more[k].zone = std::string(1, "abc"[k % 3]);
    const auto big = compute_placement(more, 4096, 3);
    const auto small = compute_placement(without(more, more[12].id), 4096, 3);
    const double must = loads(big, false)[12];
    worst = std::max({worst, static_cast<double>(moved(small, big)) / must,
                      static_cast<double>(moved(big, small)) / must});
  }
  std::printf("13 nodes in 3 zones: %.3f of the least\n", worst);
  EXPECT_LE(worst, 1.15);
}

TEST(Placement, AThousandNodesAreComputed) {
  const auto placement = compute_placement(nodes(1000), 65536, 3);
  expect_sound(placement);
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
