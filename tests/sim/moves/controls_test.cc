// `pause`, `resume` and `throttle` of the copying that changes of the ring cause, and how far it is.
#include "tests/sim/hazards/hazards.h"

#include <nlohmann/json.hpp>

namespace starling::sim {
namespace {

class Controls : public Hazards {
 protected:
  Controls() : Hazards(4) {}

  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Hazards::SetUp());
    start(*alice, b);
    start(*bob, c);
    ASSERT_TRUE(acked(send(*alice)));
    d = 6 - a - b - c;
  }
  // Fetches that leave a node for what it gains: nothing else is missing in these cases.
  void count_fetches() {
    (void)cluster.index_of("nobody");  // The tap knows them all from now on.
    tap.on_leave = [this](const TapMessage& m) {
      if (m.method == Method::kFetch && m.from != m.to) ++fetches[m.from];
      return Fate::kPass;
    };
  }
  Json ask(std::size_t at, const std::string& method) {
    const auto answer = cluster.admin(at, method, Json::object());
    return answer ? *answer : Json{{"error", answer.error().text}};
  }
  bool paused(std::size_t at) {
    const auto status = ask(at, "status");
    return status.contains("cluster") && status["cluster"].contains("movement") &&
           status["cluster"]["movement"].value("paused", false);
  }
  bool comes_to_be(std::size_t at, bool wanted) {
    for (int turn = 0; turn < 300; ++turn, world.run_for(100ms)) {
      if (cluster.up(at) && paused(at) == wanted) return true;
    }
    return false;
  }
  std::string open_change(std::size_t at) { return ask(at, "ring").value("change", "?"); }
  [[nodiscard]] bool leaves(std::size_t at, std::size_t who) {
    for (int attempt = 0; attempt < 20; ++attempt, world.run_for(1s)) {
      if (cluster.admin(at, "leave", {{"nodes", {cluster.id(who)}}})) return true;
    }
    return false;
  }

  std::size_t d = 0;
  std::map<std::size_t, int> fetches;
};

INSTANTIATE_TEST_SUITE_P(Seeds, Controls, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

TEST_P(Controls, WhileAMoveIsPausedNobodyCopiesAndThoseWhoRestartOrJoinHeedItToo) {
  work.start();
  const Json told = ask(b, "pause");
  EXPECT_EQ(told.at("taken").size(), 4u) << told.dump();
  const auto joiner = cluster.begin_join(c);
  ASSERT_TRUE(joiner);
  for (int turn = 0; turn < 300 && open_change(b) != "join"; ++turn) world.run_for(100ms);
  ASSERT_EQ(open_change(b), "join");
  ASSERT_TRUE(comes_to_be(*joiner, true)) << "it was not there when it was said";
  count_fetches();
  world.run_for(15s);
  for (const auto crash : {Crash::kProcess, Crash::kPower}) {
    cluster.crash(*joiner, crash);
    world.run_for(5s);
    ASSERT_TRUE(cluster.restart(*joiner));
    world.run_for(10s);
  }
  EXPECT_EQ(fetches[*joiner], 0);
  EXPECT_EQ(open_change(b), "join");
  EXPECT_NE(ask(b, "movement").at("waits_for").get<std::string>().find("starling resume"), std::string::npos)
      << ask(b, "movement").dump(2);
  const auto to_copy = ask(*joiner, "status")["node"]["movement"].value("changes", 0);
  const Json again = ask(a, "resume");
  EXPECT_EQ(again.at("paused"), false) << again.dump();
  EXPECT_TRUE(until([&] { return cluster.all_serving(); }, 120s)) << again.dump() << ask(b, "movement")["waits_for"];
  EXPECT_TRUE(fetches[*joiner] > 0 || to_copy == 0);  // It may gain only what is empty.
  work.stop();
  finish();
}

TEST_P(Controls, WhoWasAwayWhenItWasSaidHearsOfItAndTheLastWordHolds) {
  cluster.crash(c, Crash::kPower);
  ask(a, "pause");
  ASSERT_TRUE(cluster.restart(c));
  EXPECT_TRUE(comes_to_be(c, true));
  isolate(c);
  ask(b, "resume");
  EXPECT_TRUE(comes_to_be(d, false));
  EXPECT_TRUE(paused(c));
  world.run_for(20s);
  cluster.heal();
  EXPECT_TRUE(comes_to_be(c, false));
  // On disk everywhere.
  ask(c, "pause");
  for (std::size_t i = 0; i < cluster.size(); ++i) cluster.crash(i, Crash::kPower);
  for (std::size_t i = 0; i < cluster.size(); ++i) ASSERT_TRUE(cluster.restart(i));
  for (std::size_t i = 0; i < cluster.size(); ++i) EXPECT_TRUE(comes_to_be(i, true)) << i;
  ask(d, "resume");
  finish();
}

// Also when it gains by the change that is paused.
TEST_P(Controls, AnOwnerThatWasAwayCatchesUpThoughMovesArePaused) {
  ask(a, "pause");
  ASSERT_TRUE(leaves(b, a));
  cluster.crash(c, Crash::kPower);
  work.start();
  world.run_for(5s);
  work.stop();
  ASSERT_TRUE(cluster.restart(c));
  EXPECT_TRUE(until([&] { return cluster.node(c).serving(); }, 60s)) << "c owns things, and d gains";
  for (const auto i : {b, d}) {
    cluster.crash(i, Crash::kProcess);
    world.run_for(2s);
    ASSERT_TRUE(cluster.restart(i));
    EXPECT_TRUE(until([&] { return cluster.node(i).serving(); }, 60s)) << i;
  }
  EXPECT_EQ(open_change(b), "leave");
  ask(a, "resume");
  EXPECT_TRUE(until([&] { return cluster.departed(a); }, 120s));
  cluster.retire(a);
  finish();
}

TEST_P(Controls, APausedChangeIsTakenBackLikeAnyOther) {
  ask(a, "pause");
  ASSERT_TRUE(leaves(b, a));
  world.run_for(5s);
  EXPECT_EQ(open_change(b), "leave");
  ASSERT_TRUE(cluster.admin(b, "abort", Json::object()));
  EXPECT_EQ(open_change(b), "");
  ask(a, "resume");
  ASSERT_TRUE(leaves(b, a));
  EXPECT_TRUE(until([&] { return cluster.departed(a); }, 120s));
  cluster.retire(a);
  finish();
}

// d gains what a has: three megabytes of #g, at 256 KiB/s.
TEST_P(Controls, AMoveKeepsToItsRateAndTellsHowFarItIs) {
  constexpr std::uint64_t kRate = 256 << 10;
  constexpr int kMessages = 60;
  constexpr std::size_t kSize = 50'000;
  for (int i = 0; i < kMessages; ++i) {
    const auto sent = alice->send("#g", work.body(*alice, kSize));
    if (i % 10 == 9) {
      ASSERT_TRUE(acked(sent));
    }
  }
  ASSERT_TRUE(cluster.run_until_quiet(60s));
  EXPECT_FALSE(cluster.admin(b, "throttle", {{"rate", 1000}})) << "too little to fetch anything";
  const auto told = cluster.admin(b, "throttle", {{"rate", kRate}});
  ASSERT_TRUE(told) << told.error().text;
  EXPECT_EQ(told->at("rate_limit"), kRate);
  ASSERT_TRUE(leaves(b, a));
  const Instant began = world.now();
  std::uint64_t most_rate = 0, bytes = 0;
  int looks = 0, good_estimates = 0;
  while (open_change(b) == "leave" && world.now() - began < 120s) {
    world.run_for(500ms);
    if (open_change(d) != "leave") break;
    const Json move = ask(d, "status")["node"]["movement"];
    const auto left = move.at("bytes_left").get<std::uint64_t>();
    EXPECT_GE(move.at("bytes").get<std::uint64_t>(), bytes) << "it goes forward";
    bytes = move.at("bytes").get<std::uint64_t>();
    if (world.now() - began > 4s) most_rate = std::max(most_rate, move.at("rate").get<std::uint64_t>());
    EXPECT_LE(move.at("partitions_done"), move.at("partitions"));
    if (bytes < kMessages * kSize / 4 || bytes > kMessages * kSize * 3 / 4) continue;
    ++looks;
    const auto all = static_cast<double>(bytes + left);
    good_estimates += all > 0.7 * kMessages * kSize && all < 1.5 * kMessages * kSize ? 1 : 0;
  }
  EXPECT_EQ(open_change(b), "");
  const double seconds = std::chrono::duration<double>(world.now() - began).count();
  EXPECT_GE(seconds, 0.8 * kMessages * kSize / kRate);
  EXPECT_LE(seconds, 2.0 * kMessages * kSize / kRate + 10);
  EXPECT_LE(most_rate, kRate * 5 / 4);
  EXPECT_GT(looks, 3);
  EXPECT_EQ(good_estimates, looks);
  EXPECT_TRUE(until([&] { return cluster.departed(a); }, 120s));
  cluster.retire(a);
  finish();
}

}  // namespace
}  // namespace starling::sim
