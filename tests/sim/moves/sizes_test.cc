// Clusters of odd sizes: zones that are smaller than their share (hazards F35), and one node, two, three and back
// (F36).
#include <nlohmann/json.hpp>

#include "tests/sim/moves/moves.h"

namespace starling::sim {
namespace {

// Two zones of one node each, one of four.
class SmallZones : public Moves {
 protected:
  SmallZones() : Moves(ClusterOptions{.nodes = 6, .partitions = 64, .zones = {"x", "y", "z", "z", "z", "z"}}) {}

  // No node above ceil(1.1 x fair share), whatever its zone. How many partitions have copies that share one, as told.
  int expect_even(std::size_t at) {
    const auto ring = cluster.admin(at, "ring", Json::object());
    if (!ring) {
      ADD_FAILURE() << ring.error().text;
      return 0;
    }
    int copies = 0, nodes = 0, most = 0;
    for (const auto& member : ring->at("members")) {
      if (member.at("state") != "serving") continue;
      ++nodes;
      copies += member.at("partitions").get<int>();
      most = std::max(most, member.at("partitions").get<int>());
    }
    EXPECT_GE(nodes, 6);
    EXPECT_EQ(copies, 64 * std::min(3, nodes));
    EXPECT_LE(most, (11 * copies + 10 * nodes - 1) / (10 * nodes)) << ring->dump(2);
    return ring->at("zones_shared").get<int>();
  }
};
INSTANTIATE_TEST_SUITE_P(Seeds, SmallZones, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(4)));

TEST_P(SmallZones, F35_AreNotOverfilledAndWhatGaveWayIsTold) {
  const int shared = expect_even(0);
  EXPECT_GE(shared, 64 - 36) << "one node holds 36 at most";
  // A whole zone is away: W of every partition is left.
  cluster.cut_zone("x");
  believes_dead(1, 0);
  start(*alice2, 1);
  const auto said = send(*alice2);
  EXPECT_TRUE(acked(said));
  cluster.heal();
  work.start();
  // A small zone grows, then all of it goes: what has to share zones follows.
  cluster.set_zone("x");
  const auto joined = cluster.add_node(120s);
  ASSERT_TRUE(joined) << joined.error().text;
  cluster.set_zone("y");
  ASSERT_TRUE(cluster.add_node(120s));
  const int fewer = expect_even(1);
  EXPECT_LT(fewer, shared);
  ASSERT_TRUE(change(1, "leave", {0, *joined}));
  ASSERT_TRUE(departs(0) && departs(*joined)) << waits_for(1);
  cluster.retire(0);
  cluster.retire(*joined);
  EXPECT_LT(expect_even(1), fewer) << "copies lie in both zones that are left, and no better can be had";
  work.stop();
  finish();
}

// One node at first.
class Sizes : public ::testing::TestWithParam<std::uint64_t> {
 protected:
  static void SetUpTestSuite() { ASSERT_TRUE(crypto_init()); }

  Json ring(std::size_t at) {
    const auto answer = cluster.admin(at, "ring", Json::object());
    return answer ? *answer : Json::object();
  }
  void expect_owners(std::size_t at, std::size_t owners, std::size_t synced) {
    EXPECT_EQ(ring(at)["synced"], synced);
    for (const auto& [partition, nodes] : cluster.owner_table(at)) EXPECT_EQ(nodes.size(), owners) << partition.value;
  }
  std::size_t acks() { return work.history().count(Outcome::kAcked); }
  bool acks_go_on(Duration limit = 60s) {
    const auto before = acks();
    return cluster.run_until([&] { return acks() > before + 5; }, limit);
  }
  // Of a majority of two or three nodes; of two that is both, of one itself.
  void without(std::size_t node, bool writes) {
    cluster.crash(node, GetParam() % 2 == 0 ? Crash::kPower : Crash::kProcess);
    cluster.run_for(2s);
    if (writes) {
      EXPECT_TRUE(acks_go_on());
    } else {
      const auto before = acks();
      cluster.run_for(15s);
      EXPECT_EQ(acks(), before) << "W was lowered";
    }
    ASSERT_TRUE(cluster.restart(node));
    EXPECT_TRUE(cluster.run_until([&] { return cluster.all_serving(); }, 60s));
    EXPECT_TRUE(acks_go_on());
  }
  void leave(std::size_t node, std::size_t at) {
    Result<Json> left = Error{Errc::kUnavailable, "not asked"};
    for (int turn = 0; turn < 40 && !left; ++turn, cluster.run_for(1s)) {
      left = cluster.admin(at, "leave", {{"nodes", {cluster.id(node)}}, {"force", true}});
    }
    ASSERT_TRUE(left) << left.error().text;
    ASSERT_TRUE(cluster.run_until([&] { return cluster.departed(node); }, 120s));
    cluster.retire(node);
  }

  World world{GetParam()};
  SimCluster cluster{world, ClusterOptions{.nodes = 1}};
  Workload work{world, cluster, WorkloadOptions{.users = 3, .devices_max = 2, .groups = 1, .pause_max = 400ms}};
};
INSTANTIATE_TEST_SUITE_P(Seeds, Sizes, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(4)));

// Owners are all there are, up to three, and W is their majority: it follows the ring, never who is alive.
TEST_P(Sizes, F36_OneTwoThreeTwoOneUnderLoadWithANodeDownAtEach) {
  ASSERT_TRUE(cluster.form());
  ASSERT_TRUE(work.set_up());
  work.start();
  expect_owners(0, 1, 1);
  EXPECT_TRUE(acks_go_on());
  without(0, false);
  ASSERT_TRUE(cluster.add_node(60s));
  expect_owners(0, 2, 2);
  without(1, false);
  without(0, false);
  ASSERT_TRUE(cluster.add_node(60s));
  expect_owners(1, 3, 2);
  for (std::size_t i = 0; i < 3; ++i) without(i, true);
  EXPECT_FALSE(cluster.admin(1, "leave", {{"nodes", {cluster.id(0)}}})) << "fewer than N, and nobody said so";
  ASSERT_NO_FATAL_FAILURE(leave(0, 1));
  expect_owners(1, 2, 2);
  without(2, false);
  ASSERT_NO_FATAL_FAILURE(leave(1, 2));
  expect_owners(2, 1, 1);
  EXPECT_TRUE(acks_go_on());
  without(2, false);
  work.stop();
  work.wake_all();
  EXPECT_TRUE(cluster.run_until([&] { return cluster.all_serving() && work.settled(); }, 180s));
  EXPECT_TRUE(cluster.run_until_quiet(60s));
  EXPECT_TRUE(cluster.run_until([&] { return check_delivered(work.history()).empty(); }, 30s));
  const auto stores = cluster.stop_and_export();
  ASSERT_TRUE(stores) << stores.error().text;
  const auto found = check_all(work.history(), &*stores);
  EXPECT_TRUE(found.empty()) << text(found);
}

}  // namespace
}  // namespace starling::sim
