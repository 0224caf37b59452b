// Names that only those voted on who left the ring and died.
#include <nlohmann/json.hpp>

#include "tests/sim/moves/moves.h"
#include "tests/sim/names.h"

namespace starling::sim {
namespace {

class DeadLeavers : public ::testing::TestWithParam<std::uint64_t> {
 protected:
  static void SetUpTestSuite() { ASSERT_TRUE(crypto_init()); }

  void form(SimCluster& cluster) {
    const auto formed = cluster.form();
    ASSERT_TRUE(formed) << formed.error().text;
    ASSERT_TRUE(cluster.run_until_quiet(30s));
    // What they voted on is never asked of those who leave.
    tap.on_leave = [this](const TapMessage& m) {
      const bool names = m.method == Method::kSeal || m.method == Method::kHandOver;
      return names && (going.contains(m.to) || going.contains(m.from)) ? Fate::kLose : Fate::kPass;
    };
  }
  // They leave in one change, and are dead when it is complete.
  void leave(SimCluster& cluster, std::set<std::size_t> nodes) {
    going = std::move(nodes);
    Json ids = Json::array();
    for (const auto i : going) ids.push_back(cluster.id(i));
    const auto left = cluster.admin(0, "leave", {{"nodes", ids}, {"force", true}});
    ASSERT_TRUE(left) << left.error().text;
    const auto state = [&] {
      const auto ring = cluster.admin(0, "ring", Json::object());
      return ring ? ring->at("change").get<std::string>() : "?";
    };
    for (int turn = 0; turn < 1200 && state() != ""; ++turn) world.run_for(50ms);
    ASSERT_EQ(state(), "");
    for (const auto i : going) cluster.retire(i);
    world.run_for(20s);
  }
  std::size_t names(SimCluster& cluster, const std::string& prefix) { return create_names(cluster, 0, prefix, 24); }

  World world{GetParam()};
  Tap tap;
  std::set<std::size_t> going;
};
INSTANTIATE_TEST_SUITE_P(Seeds, DeadLeavers, ::testing::Values(1, 2));

// Of two owners one is enough: without it nothing was chosen.
TEST_P(DeadLeavers, OneOfTwoOwnersHoldsUpNoNames) {
  SimCluster cluster(world, {.nodes = 3, .copies = 2, .tap = &tap});
  form(cluster);
  leave(cluster, {2});
  EXPECT_EQ(names(cluster, "user"), 24u);
}

// Of three owners two are needed. The operator who knows that they are gone for good says so.
TEST_P(DeadLeavers, TwoOfThreeOwnersHoldUpNamesUntilTheyAreForcedOut) {
  SimCluster cluster(world, {.nodes = 5, .tap = &tap});
  form(cluster);
  leave(cluster, {3, 4});
  EXPECT_LT(names(cluster, "early"), 24u);
  const Json ids = Json::array({cluster.id(3), cluster.id(4)});
  const auto forced = cluster.admin(0, "remove", {{"nodes", ids}, {"force", true}});
  ASSERT_TRUE(forced) << forced.error().text;
  EXPECT_NE(forced->at("lost").get<std::string>().find(cluster.id(3)), std::string::npos);
  cluster.run_for(20s);
  EXPECT_EQ(names(cluster, "late"), 24u);
}

}  // namespace
}  // namespace starling::sim
