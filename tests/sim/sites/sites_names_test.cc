// Names after the loss of a site whose owners had changed before: whom the new home waits for, and whom not
// (decision 0057).
#include "node/ring/messages.h"
#include "tests/sim/names.h"
#include "tests/sim/sites/sites.h"

namespace starling::sim {
namespace {

class NamesOfLostOwners : public TwoSites {
 protected:
  NamesOfLostOwners() : TwoSites(6, {2, 1, ""}, 64) {}

  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(TwoSites::SetUp());
    for (int i = 0; i < kNames; ++i) ASSERT_TRUE(create(a, "@early-" + std::to_string(i), 1).value("created", false));
    east = home();
    ASSERT_TRUE(cluster.run_until_quiet(30s));
  }
  Json create(std::size_t at, const std::string& name, std::uint64_t nonce) {
    return create_name(cluster, at, {{"name", name}, {"nonce", nonce}});
  }
  std::string why_not(const Json& result) {
    return result.contains("error") ? result.at("error").at("name").get<std::string>() : "";
  }
  void leaves(std::size_t i) {
    ASSERT_TRUE(change(a, "leave", {i}));
    ASSERT_TRUE(comes_to(i, "left", a)) << waits_for(a);
    ASSERT_TRUE(departs(i));
    cluster.retire(i);
  }
  void lose_the_home() {
    lost = nodes_in(east);
    left = nodes_in(other());
    for (const auto i : lost) cluster.crash(i, Crash::kPower);
    for (const auto i : lost) believes_dead(c, i);
  }
  void force(Json whom) {
    whom["force"] = true;
    const auto forced = cluster.admin(c, "remove", whom);
    ASSERT_TRUE(forced) << forced.error().text;
    ASSERT_TRUE(until([&] {
      return std::all_of(left.begin(), left.end(), [&](auto i) { return cluster.node(i).serving(); });
    }, 60s));
  }
  Json those_lost() {
    Json nodes = Json::array();
    for (const auto i : lost) nodes.push_back(cluster.id(i));
    return {{"nodes", nodes}};
  }
  // How many of these can be created within the time.
  int created(const std::string& prefix, Duration limit) {
    std::set<int> done;
    std::string why;
    for (const Instant end = world.now() + limit; world.now() < end && done.size() < kNames; world.run_for(200ms)) {
      for (int i = 0; i < kNames; ++i) {
        if (done.contains(i)) continue;
        const auto result = create(c, prefix + std::to_string(i), 2);
        if (result.value("created", false)) done.insert(i);
        why = result.dump();
      }
    }
    why_last = why;
    return static_cast<int>(done.size());
  }
  void the_early_ones_are_known() {
    for (int i = 0; i < kNames; ++i) {
      const auto name = "@early-" + std::to_string(i);
      std::string why;
      for (int turn = 0; turn < 100 && why != "exists"; ++turn, world.run_for(200ms)) {
        const auto again = create(c, name, 3);
        EXPECT_FALSE(again.value("created", false)) << name;
        why = why_not(again);
      }
      EXPECT_EQ(why, "exists") << name;
    }
  }
  void finish_after_a_return() {
    for (const auto i : lost) ASSERT_TRUE(cluster.restart(i));
    for (const auto i : lost) ASSERT_TRUE(departs(i));
    for (const auto i : lost) cluster.retire(i);
    finish();
  }
  // And those do not hear it from b that it may be switched off.
  void b_leaves_untold(const std::function<bool(std::size_t)>& deaf) {
    int lost_words = 0;
    tap.on_leave = [&](const TapMessage& m) {
      if (m.method != Method::kSeal || m.from != b || !deaf(m.to)) return Fate::kPass;
      const auto request = unpack<node::SealRequest>(m.body);
      const bool says_so = request && request->safe;
      lost_words += says_so ? 1 : 0;
      return says_so ? Fate::kLose : Fate::kPass;
    };
    ASSERT_NO_FATAL_FAILURE(leaves(b));
    EXPECT_GT(lost_words, 0);
    tap.clear();
  }

  static constexpr int kNames = 24;
  std::string east, why_last;
  std::vector<std::size_t> lost, left;
};
INSTANTIATE_TEST_SUITE_P(Seeds, NamesOfLostOwners, ::testing::Values(1, 2, 3));

// It was told that it may be switched off: its names were with those that are lost now.
TEST_P(NamesOfLostOwners, NobodyWaitsForWhoLeftLongBefore) {
  ASSERT_NO_FATAL_FAILURE(leaves(b));
  ASSERT_NO_FATAL_FAILURE(lose_the_home());
  ASSERT_NO_FATAL_FAILURE(force(those_lost()));
  EXPECT_EQ(created("@late-", 60s), kNames) << why_last;
  the_early_ones_are_known();
  finish_after_a_return();
}

// A node that it could not tell asks the others.
TEST_P(NamesOfLostOwners, WhoWasNotToldHearsItFromTheOthers) {
  ASSERT_NO_FATAL_FAILURE(b_leaves_untold([this](std::size_t to) { return cluster.zone(to) == other() && to != c; }));
  ASSERT_NO_FATAL_FAILURE(lose_the_home());
  ASSERT_NO_FATAL_FAILURE(force(those_lost()));
  EXPECT_EQ(created("@late-", 60s), kNames) << why_last;
  the_early_ones_are_known();
  finish_after_a_return();
}

// The whole site was not told, and those who were are lost before anybody waits.
TEST_P(NamesOfLostOwners, WhoWasNotToldHearsItBeforeThoseWhoKnowAreLost) {
  ASSERT_NO_FATAL_FAILURE(b_leaves_untold([this](std::size_t to) { return cluster.zone(to) == other(); }));
  world.run_for(60s);
  ASSERT_NO_FATAL_FAILURE(lose_the_home());
  ASSERT_NO_FATAL_FAILURE(force(those_lost()));
  EXPECT_EQ(created("@late-", 60s), kNames) << why_last;
  the_early_ones_are_known();
  finish_after_a_return();
}

// Who was dead and taken out was given up then.
TEST_P(NamesOfLostOwners, NobodyWaitsForWhoWasRemovedLongBefore) {
  cluster.crash(b, Crash::kPower);
  believes_dead(a, b);
  ASSERT_TRUE(change(a, "remove", {b}));
  ASSERT_TRUE(comes_to(b, "removed", a)) << waits_for(a);
  cluster.retire(b);
  world.run_for(5s);
  ASSERT_NO_FATAL_FAILURE(lose_the_home());
  ASSERT_NO_FATAL_FAILURE(force(those_lost()));
  EXPECT_EQ(created("@late-", 60s), kNames) << why_last;
  the_early_ones_are_known();
  finish_after_a_return();
}

// Nothing shows that its names were taken over: nobody gives one of them away before the operator gives it up.
TEST_P(NamesOfLostOwners, WhoHadNotHandedOverIsWaitedForUntilItIsGivenUp) {
  tap.on_leave = [this](const TapMessage& m) {
    return m.method == Method::kSeal && m.from == b ? Fate::kLose : Fate::kPass;
  };
  ASSERT_TRUE(change(a, "leave", {b}));
  ASSERT_TRUE(comes_to(b, "left", a)) << waits_for(a);
  world.run_for(20s);
  EXPECT_FALSE(cluster.departed(b));
  cluster.retire(b);
  tap.clear();
  ASSERT_NO_FATAL_FAILURE(lose_the_home());
  believes_gone(c, b);
  ASSERT_NO_FATAL_FAILURE(force(those_lost()));
  const int without = created("@late-", 15s);
  EXPECT_LT(without, kNames);
  // The zone names it, too.
  const auto forced = cluster.admin(c, "remove", {{"zone", east}, {"force", true}});
  ASSERT_TRUE(forced) << forced.error().text;
  EXPECT_NE(forced->at("lost").get<std::string>().find(cluster.id(b)), std::string::npos) << forced->dump();
  EXPECT_EQ(created("@later-", 60s), kNames) << why_last;
  the_early_ones_are_known();
  finish_after_a_return();
}

}  // namespace
}  // namespace starling::sim
