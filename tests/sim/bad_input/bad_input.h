// Bad input of clients: each is refused with a typed error, nothing is stored in part, and the node
// goes on serving others. Peers of the link and gossip ports are in bad_peer_test.cc, what an
// operator may get wrong in bad_start_test.cc.
// Thread: one.
#pragma once

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "crypto/access/token.h"
#include "crypto/init.h"
#include "crypto/text.h"
#include "tests/sim/judge/store_export.h"
#include "tests/sim/world/cluster.h"
#include "tests/sim/world/metrics.h"
#include "tests/sim/world/raw_peer.h"

namespace starling::sim {

// One node; alice, bob and mallory, and #ops of the first two; one message from alice to bob.
class BadInput : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_TRUE(crypto_init()); }

  void SetUp() override {
    const auto formed = cluster.form();
    ASSERT_TRUE(formed) << formed.error().text;
    Json users = Json::array();
    for (const char* user : {"@alice", "@bob", "@mallory", "@gone"}) {
      users.push_back({{"name", user}, {"password", std::string("secret of ") + user}});
    }
    ASSERT_TRUE(cluster.admin(0, "user.add", {{"users", users}}));
    ASSERT_TRUE(cluster.admin(0, "group.create", {{"group", "#ops"}, {"owner", "@alice"}}));
    ASSERT_TRUE(cluster.admin(0, "group.add", {{"group", "#ops"}, {"members", {"@bob"}}}));
    gone_token = token("@gone", "phone");
    ASSERT_TRUE(cluster.admin(0, "user.disable", {{"name", "@gone"}, {"disabled", true}}));
    auto alice = client();
    ASSERT_TRUE(alice->log_in("@alice", "phone", "secret of @alice"));
    const auto said = alice->say("@bob", 1, "first");
    ASSERT_TRUE(said) << said.error().text;
    first_id = said->id;
    alice.reset();
    before = stored();
  }

  std::unique_ptr<RawClient> client() {
    return std::make_unique<RawClient>(world, cluster.network(), cluster.client_address(0));
  }
  std::unique_ptr<RawClient> alice() {
    auto out = client();
    EXPECT_TRUE(out->log_in("@alice", "phone", "secret of @alice"));
    return out;
  }
  double frames_refused(const std::string& reason) {
    return metrics_of(world, cluster, 0)["starling_client_frames_refused_total{reason=\"" + reason + "\"}"];
  }
  LineageId lineage() {
    const auto status = cluster.admin(0, "status", Json::object());
    LineageId out;
    EXPECT_TRUE(LineageId::from(*parse_hex(status->at("cluster").at("lineage").get<std::string>()), out));
    return out;
  }
  std::string token(const std::string& user, const std::string& device, int seconds = 3600) {
    const auto issued = cluster.admin(
        0, "token", {{"user", user}, {"device", device}, {"expires_s", seconds}});
    return issued ? issued->at("token").get<std::string>() : "";
  }
  // Stops the node for a moment and reads its store.
  std::map<PartitionId, Bytes> stored() {
    std::map<PartitionId, Bytes> out;
    EXPECT_TRUE(cluster.stop(0));
    const auto exported = export_store(cluster.disk(0), "/n0", 16);
    EXPECT_TRUE(exported);
    for (const auto& [partition, content] : exported->partitions) {
      if (!content.canonical.empty()) out[partition] = content.canonical;
    }
    EXPECT_TRUE(cluster.restart(0));
    EXPECT_TRUE(world.run_until([&] { return cluster.node(0).serving(); }, 60s));
    return out;
  }
  // A good client is served: alice writes, bob has it.
  void expect_served() {
    auto sender = client();
    ASSERT_TRUE(sender->log_in("@alice", "laptop", "secret of @alice"));
    const auto said = sender->say("@bob", ++laptop_seq, "still there?");
    ASSERT_TRUE(said) << said.error().text;
    auto bob = client();
    ASSERT_TRUE(bob->log_in("@bob", "phone", "secret of @bob"));
    ASSERT_TRUE(bob->ask(node::protocol::Sync{}));
    EXPECT_EQ(bob->count(node::protocol::Type::kEntry), 1 + laptop_seq);
  }
  void expect_untouched_and_served() {
    EXPECT_EQ(cluster.fatal_errors(), 0u);
    EXPECT_TRUE(cluster.up(0));
    EXPECT_TRUE(stored() == before) << "something was stored";
    expect_served();
  }
  // A login that is refused also ends the connection.
  Result<node::protocol::LoggedIn> refused_login(const std::string& user, const std::string& device,
                                 const std::string& password, const std::string& shown = "") {
    auto out = client();
    auto result = out->log_in(user, device, password, shown);
    EXPECT_TRUE(out->stream().wait_closed(1s));
    return result;
  }

  World world{31};
  SimCluster cluster{world, ClusterOptions{.nodes = 1}};
  std::map<PartitionId, Bytes> before;
  std::string first_id;
  std::string gone_token;
  std::uint64_t laptop_seq = 0;
};

}  // namespace starling::sim
