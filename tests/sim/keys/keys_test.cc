// Who may speak to a cluster: rotation of its secret while it runs, and revoked nodes.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>

#include "crypto/access/invite.h"
#include "crypto/init.h"
#include "node/ring/messages.h"
#include "overlay/gossip/swim_wire.h"
#include "tests/sim/world/cluster.h"
#include "tests/sim/world/raw_peer.h"

namespace starling::sim {
namespace {

constexpr std::int64_t kHour = 3600;
constexpr std::int64_t kMinute = 60;

class Keys : public ::testing::TestWithParam<std::uint64_t> {
 protected:
  static void SetUpTestSuite() { ASSERT_TRUE(crypto_init()); }
  void SetUp() override {
    const auto formed = cluster.form();
    ASSERT_TRUE(formed) << formed.error().text;
  }

  // Names of the keys, the primary first.
  std::vector<std::string> keys(std::size_t i) {
    std::vector<std::string> out;
    const auto answer = cluster.admin(i, "key.list", Json::object());
    if (!answer) return out;
    for (const auto& key : answer->at("keys")) out.push_back(key.at("id"));
    return out;
  }
  Result<Json> rotate(std::size_t i, std::int64_t retire_after_s) {
    return cluster.admin(i, "key.rotate", {{"retire_after_s", retire_after_s}});
  }
  Invite invite() {
    return parse_invite(cluster.admin(0, "invite", {{"expires_s", 36000}})->at("token").get<std::string>())
        .value();
  }
  std::string short_id(std::size_t i) {
    const auto status = cluster.admin(i, "status", Json::object());
    return status ? status->at("node").at("short").get<std::string>() : "";
  }
  // As node `asked` sees it.
  std::string state_of(std::size_t asked, const std::string& id, const char* field = "state") {
    const auto status = cluster.admin(asked, "status", Json::object());
    if (!status) return "no answer";
    for (const auto& member : status->at("members")) {
      if (member.at("short") == id) return member.at(field);
    }
    return "unknown";
  }
  bool all_alive() {
    for (std::size_t i = 0; i < cluster.size(); ++i) {
      const auto status = cluster.admin(i, "status", Json::object());
      if (!status || status->at("members").size() != cluster.size()) return false;
      for (const auto& member : status->at("members")) {
        if (member.at("state") != "alive") return false;
      }
    }
    return true;
  }
  // A host with the secret `keyring` and an identity of its own asks node 0 for a link.
  Status knock(const Keyring& keyring, const LineageId& lineage) {
    RawNode peer(world, cluster.network(), cluster.node(0).link_address(), stranger);
    RawIntroduction introduction;
    introduction.hello.lineage = lineage;
    introduction.hello.writer = WriterId{7};
    introduction.hello.wall_ms = world.wall_ms();
    return peer.link(keyring, introduction);
  }

  World world{GetParam()};
  SimCluster cluster{world, ClusterOptions{.nodes = 3}};
  SeededRandom random{GetParam()};
  Identity stranger = Identity::generate(random);
};

INSTANTIATE_TEST_SUITE_P(Seeds, Keys, ::testing::Values(1, 2, 3));

TEST_P(Keys, ARotationReachesAllAndTheOldSecretOpensNothingOnceItIsRetired) {
  const Invite before = invite();
  const auto old = keys(0);
  ASSERT_EQ(old.size(), 1u);
  const auto rotated = rotate(1, kMinute);
  ASSERT_TRUE(rotated) << rotated.error().text;
  EXPECT_EQ(rotated->at("taken").size(), 3u);
  EXPECT_TRUE(rotated->at("away").empty());
  const std::vector<std::string> both{rotated->at("key"), old[0]};
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(keys(i), both) << i;
  EXPECT_TRUE(knock(Keyring(before.secret), before.lineage)) << "not retired yet";

  cluster.run_for(61s);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(keys(i), std::vector{both[0]}) << i;
  EXPECT_TRUE(all_alive());
  EXPECT_TRUE(refused(knock(Keyring(before.secret), before.lineage), Errc::kIo));
  EXPECT_TRUE(knock(Keyring(invite().secret), before.lineage));
  const auto joined = cluster.add_node(60s);
  ASSERT_TRUE(joined) << joined.error().text;
  EXPECT_EQ(keys(*joined), std::vector{both[0]});
}

// Eight keys open what is sent, and none of them retires for days: then the secret leaks.
TEST_P(Keys, ALeakIsAnsweredHoweverManyKeysAreHeld) {
  const Invite before = invite();
  for (std::size_t i = 1; i < kKeyringKeysMax; ++i) ASSERT_TRUE(rotate(i % 3, 24 * kHour)) << i;
  ASSERT_EQ(keys(0).size(), kKeyringKeysMax);
  EXPECT_TRUE(refused(rotate(1, 24 * kHour), Errc::kOverloaded, "--retire-after 0"));
  EXPECT_EQ(keys(1).size(), kKeyringKeysMax) << "nothing was begun";
  const auto rotated = rotate(1, 0);
  ASSERT_TRUE(rotated) << rotated.error().text;
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(keys(i), std::vector<std::string>{rotated->at("key")}) << i;
  cluster.run_for(10s);
  EXPECT_TRUE(all_alive());
  EXPECT_TRUE(refused(knock(Keyring(before.secret), before.lineage), Errc::kIo));
}

TEST_P(Keys, WhoWasAwayLearnsTheNewKeyUnderTheOldOne) {
  const auto old = keys(0);
  cluster.crash(2, GetParam() % 2 == 0 ? Crash::kPower : Crash::kProcess);
  ASSERT_TRUE(cluster.run_until([&] { return state_of(0, short_id(1)) == "alive"; }, 30s));
  cluster.run_for(10s);
  const auto rotated = rotate(0, kHour);
  ASSERT_TRUE(rotated) << rotated.error().text;
  EXPECT_EQ(rotated->at("taken").size(), 2u);
  EXPECT_EQ(rotated->at("away").size(), 1u);
  cluster.run_for(60s);
  ASSERT_TRUE(cluster.restart(2));
  const std::vector<std::string> both{rotated->at("key"), old[0]};
  EXPECT_TRUE(cluster.run_until([&] { return keys(2) == both; }, 30s));
  EXPECT_TRUE(cluster.run_until([&] { return all_alive() && cluster.all_serving(); }, 60s));
  // It is on its disk, too.
  ASSERT_TRUE(cluster.stop(2));
  ASSERT_TRUE(cluster.restart(2));
  EXPECT_TRUE(cluster.run_until([&] { return keys(2) == both; }, 30s));
}

TEST_P(Keys, WhoComesBackTooLateIsRefused) {
  const auto old = keys(0);
  cluster.crash(2, Crash::kProcess);
  cluster.run_for(20s);
  ASSERT_TRUE(rotate(0, kMinute));
  cluster.run_for(61s);
  ASSERT_TRUE(cluster.restart(2));
  cluster.run_for(30s);
  EXPECT_EQ(keys(2), old);
  EXPECT_EQ(state_of(0, short_id(2)), "dead");
}

TEST_P(Keys, ASideWithoutAMajorityDoesNotRotate) {
  const auto old = keys(2);
  cluster.partition({{0, 1}, {2}});
  cluster.run_for(30s);
  EXPECT_TRUE(refused(rotate(2, kHour), Errc::kUnavailable, "majority"));
  const auto ours = rotate(0, kHour);
  ASSERT_TRUE(ours) << ours.error().text;
  EXPECT_EQ(keys(2).front(), old[0]) << "what was not agreed is not used";
  cluster.heal();
  EXPECT_TRUE(cluster.run_until(
      [&] { return all_alive() && keys(2) == keys(0) && keys(1) == keys(0); }, 3min));
  EXPECT_EQ(keys(2).front(), ours->at("key"));
}

TEST_P(Keys, TwoOperatorsAtOnceEndWithOneKey) {
  int answers = 0;
  for (const std::size_t i : {0, 1}) {
    cluster.ask(i, "key.rotate", {{"retire_after_s", kMinute}}, [&](const Result<Json>&) { ++answers; });
  }
  ASSERT_TRUE(cluster.run_until([&] { return answers == 2; }, 60s));
  EXPECT_TRUE(cluster.run_until([&] { return keys(0) == keys(1) && keys(1) == keys(2); }, 3min));
  EXPECT_TRUE(all_alive());
  cluster.run_for(2min);
  EXPECT_EQ(keys(0).size(), 1u);
  EXPECT_TRUE(all_alive());
}

TEST_P(Keys, ARotationGoesOnAfterItsNodeFell) {
  // It falls somewhere on the way: before, between or after the steps.
  cluster.ask(0, "key.rotate", {{"retire_after_s", kHour}}, [](const Result<Json>&) {});
  cluster.run_for(std::chrono::milliseconds(random.below(60)));
  cluster.crash(0, Crash::kPower);
  cluster.run_for(10s);
  ASSERT_TRUE(cluster.restart(0));
  ASSERT_TRUE(cluster.run_until([&] { return all_alive(); }, 60s));
  // The first try may meet a link that is not up again.
  EXPECT_TRUE(cluster.run_until([&] { return rotate(1, kHour).ok(); }, 30s));
  EXPECT_TRUE(cluster.run_until([&] { return keys(0) == keys(1) && keys(1) == keys(2); }, 3min));
  EXPECT_LE(keys(0).size(), 3u);
}

TEST_P(Keys, ARevokedNodeIsCutOffAtOnce) {
  const std::string bad = short_id(2);
  const auto revoked = cluster.admin(0, "revoke", {{"node", bad}});
  ASSERT_TRUE(revoked) << revoked.error().text;
  cluster.run_for(1s);
  for (const std::size_t i : {0, 1}) {
    EXPECT_EQ(state_of(i, bad), "unknown") << "neither its gossip nor its word counts";
  }
  cluster.run_for(30s);
  for (const std::size_t i : {0, 1}) EXPECT_EQ(state_of(i, bad), "unknown");
  EXPECT_TRUE(refused(cluster.admin(0, "revoke", {{"node", bad}}), Errc::kExists));
  // A restart does not help it.
  ASSERT_TRUE(cluster.stop(2));
  ASSERT_TRUE(cluster.restart(2));
  cluster.run_for(20s);
  for (const std::size_t i : {0, 1}) EXPECT_EQ(state_of(i, bad), "unknown");
  EXPECT_EQ(state_of(0, short_id(1)), "alive");
}

// Two of three are left to agree, and one of them is down.
TEST_P(Keys, ARevocationThatLeavesNoMajorityTakesForce) {
  const std::string bad = short_id(2), down = short_id(1);
  cluster.crash(1, Crash::kPower);
  ASSERT_TRUE(cluster.run_until([&] { return state_of(0, down) == "dead"; }, 60s));
  const auto refusal = cluster.admin(0, "revoke", {{"node", bad}});
  EXPECT_TRUE(refused(refusal, Errc::kDenied, "--force"));
  EXPECT_TRUE(refused(refusal, Errc::kDenied, down)) << "whom to start";
  EXPECT_EQ(state_of(0, bad, "ring_state"), "serving");
  const auto forced = cluster.admin(0, "revoke", {{"node", bad}, {"force", true}});
  ASSERT_TRUE(forced) << forced.error().text;
  EXPECT_FALSE(forced->at("lineage").get<std::string>().empty());
  cluster.run_for(2s);
  EXPECT_EQ(state_of(0, bad), "unknown");
  ASSERT_TRUE(cluster.restart(1));
  EXPECT_TRUE(cluster.run_until([&] { return state_of(1, short_id(0)) == "alive"; }, 60s));
  EXPECT_TRUE(cluster.run_until([&] { return state_of(1, bad) == "unknown"; }, 60s));
  cluster.run_for(20s);
  EXPECT_EQ(state_of(0, bad), "unknown");
  EXPECT_EQ(state_of(0, down), "alive");
}

// Who has the old secret may have opened a link while it was good, and have kept it.
TEST_P(Keys, ALinkThatAStrangerOpenedBeforeARotationEndsWithTheOldSecret) {
  const Invite before = invite();
  RawNode early(world, cluster.network(), cluster.node(0).link_address(), stranger);
  RawIntroduction introduction;
  introduction.hello.lineage = before.lineage;
  introduction.hello.writer = WriterId{7};
  introduction.hello.wall_ms = world.wall_ms();
  ASSERT_TRUE(early.link(Keyring(before.secret), introduction));
  ASSERT_TRUE(rotate(1, kMinute));
  cluster.run_for(30s);
  EXPECT_FALSE(early.stream().closed()) << "not retired yet";
  cluster.run_for(31s);
  EXPECT_TRUE(early.stream().wait_closed(2s));
  EXPECT_TRUE(all_alive());
}

// And a token from before is good for nothing over a link of today.
TEST_P(Keys, ATokenOfARetiredSecretAdmitsNobody) {
  const auto token = cluster.admin(0, "invite", {{"expires_s", 36000}})->at("token").get<std::string>();
  ASSERT_TRUE(rotate(1, 0));
  cluster.run_for(2s);
  const Invite now = invite();
  RawNode peer(world, cluster.network(), cluster.node(0).link_address(), stranger);
  RawIntroduction introduction;
  introduction.hello.lineage = now.lineage;
  introduction.hello.writer = WriterId{7};
  introduction.hello.wall_ms = world.wall_ms();
  ASSERT_TRUE(peer.link(Keyring(now.secret), introduction));
  node::JoinRequest request;
  request.key = stranger.public_key();
  request.invite = token;
  request.link = "10.0.0.77:7401";
  request.wall_ms = world.wall_ms();
  const auto answer = peer.call(static_cast<std::uint16_t>(overlay::Method::kJoin), pack(request));
  EXPECT_TRUE(refused(answer, Errc::kUnauthenticated, "starling invite"));
  EXPECT_EQ(cluster.admin(0, "ring", Json::object())->at("members").size(), 3u);
}

// Whoever has the old secret may have led the clocks astray, or they are wrong by themselves: at once is at once.
TEST_P(Keys, ASecretThatLeakedIsRetiredAtOnceWhateverTheClocksSay) {
  const Invite before = invite();
  for (const std::size_t i : {1, 2}) cluster.clock_step(i, i == 1 ? std::chrono::hours(1) : std::chrono::hours(-3));
  cluster.run_for(3s);
  for (const std::size_t i : {1, 2}) {
    EXPECT_EQ(cluster.admin(i, "status", Json::object())->at("node").at("state"), "clock off") << i;
  }
  const auto rotated = rotate(GetParam() % 3, 0);
  ASSERT_TRUE(rotated) << rotated.error().text;
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(keys(i), std::vector<std::string>{rotated->at("key")}) << i;
  }
  EXPECT_TRUE(refused(knock(Keyring(before.secret), before.lineage), Errc::kIo));
  cluster.run_for(30s);
  EXPECT_TRUE(all_alive());
}

TEST_P(Keys, WrongCommandsAreRefusedWithTheirReason) {
  EXPECT_TRUE(refused(cluster.admin(0, "revoke", {{"node", "nobody"}}), Errc::kNotFound, "nobody"));
  EXPECT_TRUE(refused(cluster.admin(0, "revoke", {{"node", short_id(0)}}), Errc::kInvalid, "itself"));
  EXPECT_TRUE(refused(cluster.admin(0, "revoke", {{"node", 7}}), Errc::kInvalid));
  EXPECT_TRUE(refused(rotate(0, -1), Errc::kInvalid));
  EXPECT_TRUE(refused(rotate(0, 366 * 24 * kHour), Errc::kInvalid));
  EXPECT_EQ(keys(0).size(), 1u);
}

}  // namespace
}  // namespace starling::sim
