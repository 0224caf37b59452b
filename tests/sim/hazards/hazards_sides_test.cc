// Hazard F18: registers that both sides of a split wrote merge by their kind, whatever the clocks said. hazards.h says
// how. The near side has the owner a of #g and two stand-ins, the far one b, c and a stand-in; @carol has owners on either.
// Every acknowledgement is of three copies, so one owner knows whatever was acknowledged, and either side may change rosters.
#include <nlohmann/json.hpp>

#include "tests/sim/hazards/hazards.h"
#include "tests/sim/world/raw_peer.h"

namespace starling::sim {
namespace {

class TwoSides : public Hazards {
 protected:
  TwoSides() : Hazards(6, 16, /*synced=*/3) {}
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Hazards::SetUp());
    far = {b, c};
    for (std::size_t i = 0; i < cluster.size(); ++i) {
      if (i != b && i != c) (i == a || far.size() > 2 ? near : far).push_back(i);
    }
    for (int i = 0; carol.empty() && i < 60; ++i) {
      const std::string user = "@v" + std::to_string(i);
      ASSERT_TRUE(work.add_user(user));
      const auto owners = cluster.owners_of(user);
      const auto there = std::count_if(owners.begin(), owners.end(), [&](auto o) { return std::count(far.begin(), far.end(), o) > 0; });
      if (there > 0 && there < 3) carol = user;
    }
    ASSERT_FALSE(carol.empty());
    add(a, 0);
    start(*alice, a);
    start(*alice2, b);
    ASSERT_TRUE(cluster.run_until_quiet(30s));
  }
  void cut() {
    cluster.partition({near, far});
    world.run_for(15s);  // Until they are taken for dead.
  }
  void heal() {
    cluster.heal();
    ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
    for (int turn = 0; turn < 60 && !cluster.quiet(); ++turn) world.run_for(1s);
    ASSERT_TRUE(cluster.quiet());
  }
  // What an operator asks on one side, until it is done.
  void ask(std::size_t at, const std::string& method, const Json& arguments) {
    std::string why;
    for (int attempt = 0; attempt < 40; ++attempt, world.run_for(500ms)) {
      const auto answer = cluster.admin(at, method, arguments);
      const bool refused = answer && answer->contains("results") && answer->at("results")[0].contains("error");
      if (answer && !refused) return;
      why = answer ? answer->dump() : answer.error().text;
    }
    ADD_FAILURE() << method << ": " << why;
  }
  void add(std::size_t at, int role) {
    ask(at, "group.add", {{"group", "#g"}, {"members", {carol}}, {"role", role}});
  }
  void kick(SimDevice& by) {
    ASSERT_TRUE(manage([&](auto done) { by.client().remove_member("#g", carol, std::move(done)); }));
  }
  struct Membership {
    storage::MemberValue value;
    EntryId stamp;
  };
  Membership membership(std::size_t i) {
    const auto found = cluster.store(i).find_register(mailbox_of("#g"), "member/" + carol);
    EXPECT_TRUE(found) << i;
    return found ? Membership{unpack<storage::MemberValue>(found->value).value(), found->stamp} : Membership{};
  }
  void expect_member(bool is_member) {
    for (const auto i : cluster.owners_of("#g")) EXPECT_EQ(!membership(i).value.removed, is_member) << i;
    for (const auto i : cluster.owners_of(carol)) {
      const auto listed = cluster.store(i).find_register(mailbox_of(carol), "group/#g");
      ASSERT_TRUE(listed) << i;
      EXPECT_EQ(!unpack<storage::MemberValue>(listed->value)->removed, is_member) << i;
    }
    if (is_member) work.history().add_group("#g", {"@alice", "@bob", carol});
    SimDevice& device = work.add_device(carol, "late");
    start(device, a);
    const auto said = send(device);
    EXPECT_TRUE(until([&] { return record(said).outcome != Outcome::kPending; }, 60s));
    EXPECT_EQ(is_acked(said), is_member);
    if (!is_member) {
      EXPECT_EQ(record(said).error, Errc::kDenied);
    }
  }
  Result<node::protocol::LoggedIn> log_in(std::size_t at, const std::string& password, const std::string& token = "") {
    RawClient client(world, cluster.network(), cluster.client_address(at));
    return client.log_in(carol, "phone", password, token);
  }
  std::string token_at(std::size_t at) {
    const auto issued = cluster.admin(at, "token", {{"user", carol}, {"device", "phone"}});
    return issued ? issued->at("token").get<std::string>() : issued.error().text;
  }
  // Is let in, and may read.
  bool opens(std::size_t at, const std::string& token) {
    RawClient client(world, cluster.network(), cluster.client_address(at));
    return client.log_in(carol, "phone", "", token).ok() && client.ask(node::protocol::Sync{}).ok();
  }

  std::vector<std::size_t> near, far;
  std::string carol;
};

INSTANTIATE_TEST_SUITE_P(Seeds, TwoSides, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(6)));

TEST_P(TwoSides, F18_AKickBeatsALaterPromotionOnTheOtherSide) {
  cut();
  kick(*alice);
  world.run_for(2s);
  add(b, 1);
  const auto kicked = membership(a), promoted = membership(b);
  ASSERT_TRUE(kicked.value.removed && !promoted.value.removed && promoted.value.role == 1);
  ASSERT_EQ(kicked.value.generation, promoted.value.generation);
  ASSERT_GT(promoted.stamp, kicked.stamp);
  ASSERT_NO_FATAL_FAILURE(heal());
  expect_member(false);
  finish();
}

TEST_P(TwoSides, F18_AReAddBeatsALaterKickOfTheGenerationBefore) {
  cut();
  kick(*alice);
  add(a, 0);
  world.run_for(2s);
  kick(*alice2);
  const auto back = membership(a), kicked = membership(b);
  ASSERT_TRUE(!back.value.removed && kicked.value.removed);
  ASSERT_EQ(back.value.generation, kicked.value.generation + 1);
  ASSERT_GT(kicked.stamp, back.stamp);
  ASSERT_NO_FATAL_FAILURE(heal());
  expect_member(true);
  finish();
}

// A password that was changed a little later, where nobody knew of it, does not let a disabled user in again.
TEST_P(TwoSides, F18_ADisabledUserStaysSoWhateverTheOtherSideWrote) {
  cut();
  ask(a, "user.disable", {{"name", carol}, {"disabled", true}});
  world.run_for(2s);
  ask(b, "user.passwd", {{"name", carol}, {"password", "another"}});
  ASSERT_FALSE(log_in(a, "secret of " + carol));
  ASSERT_TRUE(log_in(b, "another"));
  ASSERT_NO_FATAL_FAILURE(heal());
  for (const auto i : {a, b}) EXPECT_TRUE(refused(log_in(i, "another"), Errc::kDenied)) << i;
  ask(a, "user.disable", {{"name", carol}, {"disabled", false}});
  EXPECT_TRUE(log_in(b, "another"));
  finish();
}

// The near side counts two logouts, the far one a single one, later: what the first ended stays ended.
TEST_P(TwoSides, F18_WhatALogoutEndedStaysEndedWhateverTheOtherSideCounted) {
  cut();
  ask(a, "user.logout", {{"name", carol}});
  const auto ended = token_at(a);
  ASSERT_TRUE(opens(a, ended));
  ask(a, "user.logout", {{"name", carol}});
  ASSERT_FALSE(opens(a, ended));
  world.run_for(2s);
  ask(b, "user.logout", {{"name", carol}});
  ASSERT_NO_FATAL_FAILURE(heal());
  for (const auto i : {a, b}) EXPECT_FALSE(opens(i, ended)) << i;
  EXPECT_TRUE(opens(a, token_at(a)));
  finish();
}

}  // namespace
}  // namespace starling::sim
