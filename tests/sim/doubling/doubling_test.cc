// The partitions are doubled under a cluster that is idle, and under one that has something to do (decision 0025). Step by
// step: tests/sim/doubling/.
#include "tests/sim/hazards/hazards.h"
#include "tests/sim/world/node_parts.h"

namespace starling::sim {
namespace {

class Doubled : public Hazards {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Hazards::SetUp());
    start(*alice, b);
    start(*bob, c);
    say();
  }
  void say() {
    for (const char* to : {"#g", "@bob"}) EXPECT_TRUE(acked(send(*alice, to)));
    EXPECT_TRUE(acked(send(*bob, "@alice")));
  }
  [[nodiscard]] bool all(const std::function<bool(std::size_t)>& is_so) {
    for (std::size_t i = 0; i < cluster.size(); ++i) {
      if (!cluster.up(i) || !is_so(i)) return false;
    }
    return true;
  }
  // The version and the store of each say the same.
  [[nodiscard]] bool all_have(std::uint32_t partitions) {
    return all([&](std::size_t i) {
      const auto* ring = node::NodeParts::ring(cluster.node(i));
      return ring != nullptr && ring->partitions() == partitions && cluster.partitions(i) == partitions;
    });
  }
  [[nodiscard]] bool all_settled() {
    return all([this](std::size_t i) { return cluster.settled(i); });
  }
  void propose(std::size_t at) {
    cluster.propose_doubled(at, [this](const Status& done) {
      world.note("doubling", done ? "agreed" : done.error().text);
    });
  }
  void double_at(std::size_t at) {
    const std::uint32_t before = cluster.partitions(at);
    propose(at);
    ASSERT_TRUE(until([&] { return all_have(2 * before); }, 30s)) << world.trace().text("", 60);
  }
  void settle() { ASSERT_TRUE(until([this] { return all_settled(); }, 60s)); }
};

INSTANTIATE_TEST_SUITE_P(Seeds, Doubled, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(10)));

TEST_P(Doubled, AnIdleClusterGoesOnWithTwiceThePartitions) {
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  double_at(a);
  start(*alice2, a);  // Reads what was said before.
  say();
  settle();
  say();
  finish();
}

TEST_P(Doubled, EachNodeStartsAgainBeforeItsSplitIsSettled) {
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  double_at(b);
  world.run_for(200ms);  // It is on disk.
  ASSERT_FALSE(all_settled());
  for (std::size_t i = 0; i < cluster.size(); ++i) cluster.crash(i, Crash::kPower);
  for (std::size_t i = 0; i < cluster.size(); ++i) ASSERT_TRUE(cluster.restart(i));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
  EXPECT_TRUE(all_have(2 * options.partitions));
  say();
  settle();
  finish();
}

TEST_P(Doubled, ABusyClusterIsDoubledTwice) {
  work.start();
  world.run_for(3s);
  double_at(c);
  world.run_for(2s);
  settle();
  double_at(a);
  world.run_for(3s);
  work.stop();
  finish();
}

// Nobody votes for what nobody could follow.
TEST_P(Doubled, TheNextOneWaitsUntilTheFirstIsSettled) {
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  double_at(a);
  ASSERT_FALSE(all_settled());
  propose(b);
  world.run_for(100ms);
  EXPECT_TRUE(all_have(2 * options.partitions));
  ASSERT_TRUE(until([&] { return all_have(4 * options.partitions); }, 60s));
  settle();
  say();
  finish();
}

}  // namespace
}  // namespace starling::sim
