// Bad input of those who are believed to be nodes: four nodes, of which the last is switched off, and its identity speaks
// to node 0 from another host.
// Thread: one.
#pragma once

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "crypto/access/invite.h"
#include "crypto/init.h"
#include "tests/sim/world/cluster.h"
#include "tests/sim/world/raw_peer.h"
#include "tests/sim/world/sim_disk.h"

namespace starling::sim {

class BadMember : public ::testing::Test {
 protected:
  static constexpr std::uint32_t kPartitions = 16;

  static void SetUpTestSuite() { ASSERT_TRUE(crypto_init()); }
  void SetUp() override {
    const auto formed = cluster.form();
    ASSERT_TRUE(formed) << formed.error().text;
    ASSERT_TRUE(cluster.admin(0, "user.add", {{"users", {{{"name", "@alice"}, {"password", "secret"}}}}}));
    const auto token = cluster.admin(0, "invite", {{"expires_s", 36000}});
    ASSERT_TRUE(token);
    invite = parse_invite(token->at("token").get<std::string>()).value();
  }

  // REQUIRES: it was stopped.
  Result<Identity> identity_of(std::size_t i) {
    SeededRandom random(1);
    storage::StoreOptions options;
    options.path = cluster.folder(i) + "/store";
    options.env = cluster.disk(i).env();
    options.committer = direct_committer();
    options.random = &random;
    options.partitions = kPartitions;
    options.background_work = false;
    TRY_ASSIGN(auto store, storage::Store::open(std::move(options)));
    const auto seed = store->get(storage::Store::Family::kNode, "identity");
    if (!seed) return Error{Errc::kNotFound, "no identity"};
    return Identity::from_seed(*seed);
  }

  // As a run of its own, or the one of that writer.
  std::unique_ptr<RawNode> link_as(const Identity& identity, WriterId writer = {}) {
    auto peer = std::make_unique<RawNode>(world, cluster.network(), cluster.node(0).link_address(), identity);
    RawIntroduction introduction;
    introduction.hello.lineage = invite.lineage;
    introduction.hello.writer = writer.value != 0 ? writer : WriterId{++runs};
    introduction.hello.wall_ms = world.wall_ms();
    const auto linked = peer->link(Keyring(invite.secret), introduction);
    EXPECT_TRUE(linked) << linked.error().text;
    return peer;
  }

  World world{33};
  SimCluster cluster{world, ClusterOptions{.nodes = 4, .partitions = kPartitions}};
  Invite invite;
  std::uint64_t runs = 1'000;
};

}  // namespace starling::sim
