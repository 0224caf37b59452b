// Nodes that ask their sessions to go: drained ones, those that are restarted in order, and those that leave.
#include "tests/sim/hazards/hazards.h"

#include <nlohmann/json.hpp>

namespace starling::sim {
namespace {

class Drains : public Hazards {
 protected:
  Drains() : Hazards(4) {}

  std::vector<SimDevice*> devices() { return {alice, alice2, bob, bob2}; }
  bool all_ready() {
    for (auto* device : devices()) {
      if (!device->ready()) return false;
    }
    return true;
  }
  int sessions(std::size_t i) {
    const auto status = cluster.admin(i, "status", Json::object());
    return status ? status->at("node").at("sessions").get<int>() : -1;
  }
  bool emptied(std::size_t i) {
    for (int turn = 0; turn < 150; ++turn, world.run_for(100ms)) {
      if (sessions(i) == 0) return true;
    }
    return false;
  }
};

INSTANTIATE_TEST_SUITE_P(Seeds, Drains, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

TEST_P(Drains, SessionsGoToTheNodesThatTakeThemAndGoOnWhereTheyWere) {
  for (auto* device : devices()) start(*device, a);
  for (int i = 0; i < 20; ++i) send(*alice);
  ASSERT_TRUE(caught_up(*alice));
  ASSERT_TRUE(until([&] { return check_delivered(work.history()).empty(); }, 30s));
  ASSERT_TRUE(cluster.admin(b, "drain", Json::object()));
  world.run_for(2s);
  const auto seen = cluster.admin(a, "status", Json::object());
  ASSERT_TRUE(seen);
  for (const auto& member : seen->at("members")) {
    EXPECT_EQ(member.value("draining", false), member.at("short") == cluster.id(b));
  }
  ASSERT_TRUE(cluster.admin(a, "drain", Json::object()));
  ASSERT_TRUE(emptied(a));
  world.run_for(100ms);  // The last ones hear of it.
  ASSERT_TRUE(until([&] { return all_ready(); }));
  std::map<std::string, int> at;
  for (auto* device : devices()) {
    ++at[device->client().endpoint().text()];
    EXPECT_NE(device->client().endpoint(), cluster.client_address(a));
    EXPECT_NE(device->client().endpoint(), cluster.client_address(b));
    EXPECT_EQ(device->client().stats().duplicates, 0u) << "nothing was sent again";
  }
  EXPECT_EQ(at.size(), 2u) << "both of those that are left got some";
  ASSERT_TRUE(cluster.admin(a, "undrain", Json::object()));
  ASSERT_TRUE(cluster.admin(b, "undrain", Json::object()));
  finish();
}

// Each node in turn, as an upgrade does it; nobody is without a session for 2 s.
TEST_P(Drains, ARollingRestartLeavesNobodyWithoutServiceFor2s) {
  for (std::size_t i = 0; i < 4; ++i) start(*devices()[i], i);
  std::map<SimDevice*, Instant> lost;
  Duration longest{};
  bool ended = false;
  std::function<void()> look = [&] {
    for (auto* device : devices()) {
      if (device->ready()) {
        lost.erase(device);
      } else {
        longest = std::max(longest, world.now() - lost.try_emplace(device, world.now()).first->second);
      }
    }
    if (!ended) world.after(5ms, look);
  };
  look();
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    for (auto* device : devices()) send(*device);  // Under way when the node goes.
    ASSERT_TRUE(cluster.stop(i));
    for (auto* device : devices()) send(*device);
    ASSERT_TRUE(cluster.restart(i));
    ASSERT_TRUE(until([&] { return cluster.all_serving() && all_ready(); }, 60s));
  }
  ended = true;
  world.run_for(10ms);
  EXPECT_GT(longest, Duration(0)) << "nobody was moved";
  EXPECT_LT(longest, 2s);
  finish();
}

// Before the node is gone, not because it is.
TEST_P(Drains, ALeaverHandsItsSessionsOverBeforeItIsSafeToPowerOff) {
  for (auto* device : devices()) start(*device, a);
  std::size_t lost = 0;
  for (int i = 0; i < 20; ++i) send(*alice);
  ASSERT_TRUE(caught_up(*alice));
  ASSERT_EQ(sessions(a), 4);
  ASSERT_TRUE(cluster.admin(b, "leave", {{"nodes", {cluster.id(a)}}}));
  std::optional<Instant> empty, safe;
  for (const Instant end = world.now() + 120s; !safe && world.now() < end; world.run_for(50ms)) {
    if (!empty && sessions(a) == 0) empty = world.now();
    if (cluster.departed(a)) safe = world.now();
    for (auto* device : devices()) {
      lost += device->running() ? 0 : 1;
      if (device->open_sends() < 2) send(*device);
    }
  }
  ASSERT_TRUE(safe) << "it never came to an end";
  EXPECT_TRUE(empty && *empty <= *safe) << "it was safe to power off with " << sessions(a) << " sessions";
  EXPECT_EQ(lost, 0u);
  cluster.retire(a);
  ASSERT_TRUE(until([&] { return all_ready(); }, 30s));
  for (auto* device : devices()) EXPECT_NE(device->client().endpoint(), cluster.client_address(a));
  for (int i = 0; i < 5; ++i) send(*bob);
  finish();
}

}  // namespace
}  // namespace starling::sim
