// Hazard F45: a token is believed without a look-up; what ends it ends the sessions at every node. hazards.h says how.
#include "node/session/session.h"

#include <nlohmann/json.hpp>
#include "tests/sim/hazards/hazards.h"
#include "tests/sim/world/raw_peer.h"

namespace starling::sim {
namespace {

class Sessions : public Hazards {
 protected:
  Sessions() : Hazards(4) {}
  static constexpr const char* kPassword = "secret of @alice";

  // A device of alice that is synced at node i; it came by the token of an earlier login.
  std::unique_ptr<RawClient> enter(std::size_t i, const std::string& device) {
    RawClient first(world, cluster.network(), cluster.client_address(i));
    const auto in = first.log_in("@alice", device, kPassword);
    EXPECT_TRUE(in) << (in ? "" : in.error().text);
    if (!in) return nullptr;
    tokens[device] = in->token;
    auto client = std::make_unique<RawClient>(world, cluster.network(), cluster.client_address(i));
    EXPECT_TRUE(client->log_in("@alice", device, "", in->token));
    EXPECT_TRUE(client->ask(node::protocol::Sync{}));
    return client;
  }
  // One device at each node.
  void enter_everywhere() {
    for (std::size_t i = 0; i < cluster.size(); ++i) clients.push_back(enter(i, "device" + std::to_string(i)));
    start(*bob, b);
    ASSERT_TRUE(cluster.run_until_quiet(30s));
    world.run_for(1s);
    for (const auto& client : clients) ASSERT_FALSE(client->stream().closed());
  }
  // All are out within `limit`, which is far below the periodic check (node::kRecheckEvery), and so are their tokens.
  void expect_cut_off(Duration limit) {
    const auto all_out = [&] {
      return std::all_of(clients.begin(), clients.end(), [](const auto& c) { return c->stream().closed(); });
    };
    EXPECT_TRUE(until(all_out, limit));
    for (std::size_t i = 0; i < cluster.size(); ++i) {
      if (!cluster.up(i)) continue;
      const std::string device = "device" + std::to_string(i);
      RawClient again(world, cluster.network(), cluster.client_address(i));
      if (again.log_in("@alice", device, "", tokens[device])) {
        EXPECT_FALSE(again.ask(node::protocol::Sync{})) << "an old token may not read";
      }
      EXPECT_TRUE(again.stream().wait_closed(2s));
    }
    EXPECT_TRUE(bob->ready()) << "others stay";
  }
  bool enters(const std::string& password) {
    RawClient client(world, cluster.network(), cluster.client_address(c));
    return client.log_in("@alice", "new", password).ok();
  }
  static_assert(node::kRecheckEvery > 30s);

  std::vector<std::unique_ptr<RawClient>> clients;
  std::map<std::string, std::string> tokens;
};

INSTANTIATE_TEST_SUITE_P(Seeds, Sessions, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

TEST_P(Sessions, F45_APasswordChangeEndsSessionsAtEveryNode) {
  enter_everywhere();
  ASSERT_TRUE(cluster.admin(a, "user.passwd", {{"name", "@alice"}, {"password", "another"}}));
  expect_cut_off(2s);
  EXPECT_FALSE(enters(kPassword));
  EXPECT_TRUE(enters("another"));
}

// Asked for by a device: a wrong password changes nothing, the right one ends all sessions, its own too.
TEST_P(Sessions, F45_ADeviceChangesThePasswordOfItsUser) {
  enter_everywhere();
  node::protocol::PasswordChange change;
  change.old_password = "a guess";
  change.new_password = "another";
  EXPECT_TRUE(refused(clients[c]->ask(change), Errc::kUnauthenticated));
  world.run_for(1s);
  for (const auto& client : clients) ASSERT_FALSE(client->stream().closed());
  change.old_password = kPassword;
  const auto done = clients[c]->ask(change);
  EXPECT_TRUE(done || done.code() == Errc::kIo) << "its session may end before the answer leaves";
  expect_cut_off(2s);
  EXPECT_FALSE(enters(kPassword));
  EXPECT_TRUE(enters("another"));
}

TEST_P(Sessions, F45_ALogoutEndsThemAndKeepsThePassword) {
  enter_everywhere();
  ASSERT_TRUE(cluster.admin(a, "user.logout", {{"name", "@alice"}}));
  expect_cut_off(2s);
  EXPECT_TRUE(enters(kPassword));
}

TEST_P(Sessions, F45_ADisabledUserIsOutAtEveryNode) {
  enter_everywhere();
  ASSERT_TRUE(cluster.admin(a, "user.disable", {{"name", "@alice"}, {"disabled", true}}));
  expect_cut_off(2s);
  EXPECT_FALSE(enters(kPassword));
}

// The owner that tells a gateway dies with the news: the next one has them.
TEST_P(Sessions, F45_TheNewsComeThroughTheNextOwnerWhenOneDies) {
  const auto owners = cluster.owners_of("@alice");
  ASSERT_EQ(owners.size(), 3u);
  std::size_t gateway = 0;
  while (std::find(owners.begin(), owners.end(), gateway) != owners.end()) ++gateway;
  std::optional<std::size_t> teller;
  const auto of = partition_of(slot_of(mailbox_of("@alice")), options.partitions);
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    const auto follow = unpack<node::FollowRequest>(m.body);
    const bool ours = m.method == Method::kFollow && m.from == gateway && follow && follow->partition == of;
    if (ours && answer) teller = m.to;
    return Fate::kPass;
  };
  clients.push_back(enter(gateway, "device" + std::to_string(gateway)));
  start(*bob, gateway);
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  ASSERT_TRUE(teller);
  const std::size_t dies = *teller;
  tap.on_leave = [&](const TapMessage& m) {
    const bool news = m.method == Method::kPush && m.from == dies && m.to == gateway;
    return news ? Fate::kLose : Fate::kPass;
  };
  std::size_t asked = owners[0] == dies ? owners[1] : owners[0];
  ASSERT_TRUE(cluster.admin(asked, "user.logout", {{"name", "@alice"}}));
  cluster.crash(dies, Crash::kPower);
  tap.on_leave = nullptr;
  EXPECT_TRUE(until([&] { return clients.front()->stream().closed(); }, 20s));
  EXPECT_NE(*teller, dies);
  ASSERT_TRUE(cluster.restart(dies));
}

}  // namespace
}  // namespace starling::sim
