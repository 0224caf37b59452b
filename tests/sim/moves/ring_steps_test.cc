// Which ring versions a node follows, who is believed after a change, and who has to be heard first: the steps of
// moves_test.cc with a peer that lies, nodes that die at the worst moment, and nodes that are not to be trusted.
#include <nlohmann/json.hpp>
#include <rocksdb/slice.h>
#include <rocksdb/write_batch.h>

#include "node/ring/messages.h"
#include "overlay/ring/ring_change.h"
#include "storage/engine/engine.h"
#include "tests/sim/moves/moves.h"
#include "tests/sim/world/raw_peer.h"

namespace starling::sim {
namespace {

using overlay::RingVersion;

class RingSteps : public Moves {
 protected:
  explicit RingSteps(std::size_t nodes = 4) : Moves(nodes) {}

  Json ring(std::size_t i) {
    const auto answer = cluster.admin(i, "ring", Json::object());
    return answer ? *answer : Json::object();
  }
  std::vector<std::size_t> but(std::size_t i) {
    std::vector<std::size_t> others;
    for (std::size_t n = 0; n < cluster.size(); ++n) {
      if (n != i) others.push_back(n);
    }
    return others;
  }
  // What node `i` is told of the ring is bent on its way.
  void bend_what_is_told_to(std::size_t i, std::function<bool(const node::RingGetRequest&, RingVersion&)> bend) {
    tap.alter_answer = [this, i, bend = std::move(bend)](const TapMessage& m, Bytes& body) {
      if (m.method != Method::kRingGet || m.from != i) return;
      const auto asked = unpack<node::RingGetRequest>(m.body);
      const auto answer = unpack<node::RingAnswer>(body);
      if (!asked || !answer) return;
      auto version = overlay::decode_ring_version(answer->ring.data);
      if (!version || !bend(*asked, *version) || !overlay::validate(*version)) return;
      body = pack(node::RingAnswer{{overlay::encode(*version)}});
      ++bent;
    };
  }
  bool completes(std::size_t at) {
    for (int turn = 0; turn < 600 && open_change(at) != ""; ++turn) world.run_for(100ms);
    return open_change(at) == "";
  }
  std::vector<std::string> keys(std::size_t i) {
    std::vector<std::string> out;
    const auto answer = cluster.admin(i, "key.list", Json::object());
    if (!answer) return out;
    for (const auto& key : answer->at("keys")) out.push_back(key.at("id"));
    return out;
  }

  int bent = 0;
};

INSTANTIATE_TEST_SUITE_P(Seeds, RingSteps, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(3)));

// c was away for two changes, and what it hears first is a version that is none.
TEST_P(RingSteps, AVersionThatSkipsNumbersIsFollowedStepByStepOnly) {
  cluster.partition({but(c), {c}});
  for (const int weight : {300, 200}) {
    ASSERT_TRUE(change(b, "weight", {a}, {{"weight", weight}}));
    ASSERT_TRUE(completes(b)) << waits_for(b);
  }
  const auto before = ring(c).at("number");
  bend_what_is_told_to(c, [](const node::RingGetRequest& asked, RingVersion& version) {
    if (asked.number.value == 0) version.members.front().weight = 777;
    return asked.number.value == 0;
  });
  cluster.heal();
  for (int turn = 0; turn < 300 && ring(c).at("number") != ring(b).at("number"); ++turn) world.run_for(100ms);
  EXPECT_GT(bent, 0) << "it was never told";
  EXPECT_GT(ring(c).at("number"), before);
  EXPECT_EQ(ring(c), ring(b));
  finish();
}

TEST_P(RingSteps, OfAnotherLineageOnlyAForcedRemovalIsFollowed) {
  const std::size_t d = other_than({a, b, c});
  cluster.crash(d, Crash::kPower);
  believes_dead(b, d);
  cluster.partition({{a, b}, {c}});
  const std::string old = ring(c).at("lineage");
  ASSERT_TRUE(change(b, "remove", {d}, {{"force", true}}));
  bend_what_is_told_to(c, [](const node::RingGetRequest&, RingVersion& version) {
    version.members.front().weight = 777;
    return true;
  });
  cluster.heal();
  world.run_for(10s);
  EXPECT_GT(bent, 0) << "it was never told";
  EXPECT_EQ(ring(c).at("lineage"), old) << "it followed what nobody can have decided";
  tap.clear();
  for (int turn = 0; turn < 300 && ring(c).at("lineage") != ring(b).at("lineage"); ++turn) world.run_for(100ms);
  EXPECT_EQ(ring(c), ring(b));
  cluster.retire(d);
  finish();
}

TEST_P(RingSteps, ARevocationIsNotTakenBackByAnAbortNorByAForcedRemoval) {
  const std::size_t d = other_than({a, b, c});
  tap.on_leave = [](const TapMessage& m) { return m.method == Method::kInstalled ? Fate::kLose : Fate::kPass; };
  ASSERT_TRUE(cluster.admin(b, "revoke", {{"node", cluster.id(d)}}));
  ASSERT_EQ(state_of(d, b), "removing");
  EXPECT_TRUE(refused(cluster.admin(b, "abort", Json::object()), Errc::kDenied, "revoke --force"));
  EXPECT_EQ(state_of(d, b), "removing");
  EXPECT_TRUE(refused(cluster.admin(b, "revoke", {{"node", cluster.id(d)}}), Errc::kExists));
  cluster.crash(c, Crash::kPower);
  believes_dead(b, c);
  ASSERT_TRUE(change(b, "remove", {c}, {{"force", true}}));
  EXPECT_EQ(state_of(d, b), "removed");
  EXPECT_TRUE(refused(cluster.admin(b, "revoke", {{"node", cluster.id(d)}}), Errc::kExists));
  world.run_for(5s);
  EXPECT_EQ(state_of(d, a), "removed");
  cluster.retire(c);
  cluster.retire(d);
  for (auto* device : {alice, alice2, bob, bob2}) {
    if (device->running()) device->close();
  }
  finish();
}

// Who left is asked for what it has, and for nothing else: a rotation does not reach it. It can be cut off for good.
TEST_P(RingSteps, WhoLeftIsToldNoKeysAndCanBeRevoked) {
  tap.on_leave = [this](const TapMessage& m) {  // It cannot come to its end.
    return m.from == a && m.method == Method::kHold ? Fate::kLose : Fate::kPass;
  };
  bool blocked = true;
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>&) {
    return blocked && m.from == a && m.method == Method::kSeal ? Fate::kLose : Fate::kPass;
  };
  ASSERT_TRUE(change(b, "leave", {a}));
  ASSERT_TRUE(comes_to(a, "left", b)) << waits_for(b);
  const auto old = keys(a);
  const auto rotated = cluster.admin(b, "key.rotate", {{"retire_after_s", 3600}});
  ASSERT_TRUE(rotated) << rotated.error().text;
  EXPECT_EQ(rotated->at("going").size(), 1u);
  world.run_for(200s);
  EXPECT_EQ(keys(a), old);
  EXPECT_EQ(keys(b).size(), 2u);
  EXPECT_FALSE(cluster.departed(a));
  const auto revoked = cluster.admin(b, "revoke", {{"node", cluster.id(a)}});
  ASSERT_TRUE(revoked) << revoked.error().text;
  EXPECT_EQ(state_of(a, b), "removed");
  blocked = false;
  tap.clear();
  believes_gone(b, a);
  world.run_for(20s);
  EXPECT_FALSE(cluster.departed(a)) << "nobody answers it";
  EXPECT_TRUE(refused(cluster.admin(b, "revoke", {{"node", cluster.id(a)}}), Errc::kExists));
  cluster.retire(a);
  for (auto* device : {alice, alice2, bob, bob2}) {
    if (device->running()) device->close();
  }
  finish();
}

// It says that it has installed, and dies before the others have.
TEST_P(RingSteps, WhatAJoinerSaidIsForgottenWhenItDies) {
  tap.on_leave = [](const TapMessage& m) { return m.method == Method::kInstalled ? Fate::kLose : Fate::kPass; };
  bool said = false;
  tap.on_arrive = [&](const TapMessage& m) { said |= m.method == Method::kRingProgress; };
  const auto joiner = cluster.begin_join(b);
  ASSERT_TRUE(joiner);
  ASSERT_TRUE(until([&] { return !cluster.id(*joiner).empty(); }));
  (void)cluster.index_of("nobody");
  ASSERT_TRUE(until([&] { return said; }, 60s));
  cluster.crash(*joiner, Crash::kPower);
  for (const auto i : {a, b, c}) believes_dead(i, *joiner);
  world.run_for(10s);
  tap.clear();
  world.run_for(10s);
  EXPECT_EQ(open_change(b), "join") << "it completed with a joiner that is dead";
  ASSERT_TRUE(cluster.restart(*joiner));
  EXPECT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
  finish();
}

TEST_P(RingSteps, AJoinerGetsTheKeysOfARotationThatCrossedItsAdmission) {
  const auto invite = cluster.admin(b, "invite", {{"expires_s", 3600}});
  ASSERT_TRUE(invite);
  const auto rotated = cluster.admin(c, "key.rotate", {{"retire_after_s", 3600}});
  ASSERT_TRUE(rotated) << rotated.error().text;
  const std::size_t next = cluster.size();
  tap.on_leave = [next](const TapMessage& m) {  // Nobody tells it later.
    return m.method == Method::kKeys && (m.from == next || m.to == next) ? Fate::kHold : Fate::kPass;
  };
  const auto joiner = cluster.begin_join(invite->at("token").get<std::string>());
  ASSERT_TRUE(joiner);
  ASSERT_TRUE(until([&] { return cluster.up(*joiner) && cluster.node(*joiner).serving(); }, 60s));
  EXPECT_EQ(keys(*joiner), keys(b));
  EXPECT_EQ(keys(*joiner).front(), rotated->at("key"));
  finish();
}

// It is told that its join was taken back, which is not so.
TEST_P(RingSteps, AWrongRefusalIsSeen) {
  tap.on_leave = [](const TapMessage& m) { return m.method == Method::kInstalled ? Fate::kLose : Fate::kPass; };
  tap.alter_answer = [](const TapMessage& m, Bytes& body) {
    if (m.method == Method::kStanding) body = pack(node::StandingReply{RingNumber{1000}, false});
  };
  const auto joiner = cluster.begin_join(b);
  ASSERT_TRUE(joiner);
  ASSERT_TRUE(until([&] { return cluster.retired(*joiner); }, 60s));
  EXPECT_EQ(cluster.refusals().size(), 1u);
  const auto wrong = cluster.wrong_refusals();
  ASSERT_EQ(wrong.size(), 1u);
  EXPECT_NE(wrong[0].find("joining"), std::string::npos) << wrong[0];
  ASSERT_TRUE(cluster.admin(b, "abort", Json::object()));
  world.run_for(2s);
  EXPECT_TRUE(cluster.wrong_refusals().empty()) << "now it is explained";
}

// --- Owners of before. ---

class Newcomers : public RingSteps {
 protected:
  Newcomers() : RingSteps(6) {}
};
INSTANTIATE_TEST_SUITE_P(Seeds, Newcomers, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(3)));

// Two of three owners leave in one change. What they acknowledged last is with them alone, and they cannot be
// reached: those who own now do not take each other's word that there is nothing.
TEST_P(Newcomers, DoNotVouchForEachOther) {
  tap.on_leave = [this](const TapMessage& m) {
    if (m.method == Method::kInstalled) return Fate::kLose;
    return Fate::kPass;
  };
  ASSERT_TRUE(change(c, "leave", {a, b}));
  world.run_for(20s);  // Everybody has installed, and nobody may say so.
  ASSERT_EQ(open_change(c), "leave");
  bool apart = true;
  tap.on_leave = [&, this](const TapMessage& m) {
    if (m.method == Method::kInstalled || !apart) return m.method == Method::kInstalled ? Fate::kLose : Fate::kPass;
    const bool copies = m.method == Method::kReplicate || m.method == Method::kHint || m.method == Method::kFetch ||
                        m.method == Method::kHold || m.method == Method::kPush;
    const bool from_them = m.from == a || m.from == b;
    const bool to_them = m.to == a || m.to == b;
    return copies && from_them != to_them ? Fate::kLose : Fate::kPass;
  };
  start(*alice2, a);
  const auto last = send(*alice2);
  ASSERT_TRUE(acked(last));
  bool flipped = false;
  tap.on_leave = [&, this](const TapMessage& m) {
    const bool copies = m.method == Method::kReplicate || m.method == Method::kHint || m.method == Method::kFetch ||
                        m.method == Method::kHold || m.method == Method::kPush || m.method == Method::kCompare;
    const bool from_them = m.from == a || m.from == b;
    const bool to_them = m.to == a || m.to == b;
    return copies && from_them != to_them && !flipped ? Fate::kLose : Fate::kPass;
  };
  ASSERT_TRUE(until([&] {
    if (state_of(a, c) != "left") return false;
    for (std::size_t i = 0; i < cluster.size(); ++i) {
      if (state_of(a, i) != "left") return false;
    }
    return true;
  }, 60s)) << waits_for(c);
  std::vector<std::size_t> rest;
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    if (i != a && i != b) rest.push_back(i);
  }
  cluster.partition({{a, b}, rest});
  flipped = true;
  for (const auto i : rest) believes_gone(i, a);
  world.run_for(15s);
  const auto now = cluster.owners_of("#g");
  for (const auto i : now) {
    if (i == c) continue;
    EXPECT_FALSE(cluster.node(i).serving()) << i << " serves without what is acknowledged";
  }
  cluster.heal();
  ASSERT_TRUE(departs(a)) << waits_for(c);
  ASSERT_TRUE(departs(b)) << waits_for(c);
  cluster.retire(a);
  cluster.retire(b);
  finish();
}

// --- A newer placement rule. ---

// As a program of before founded it.
void make_old(SimCluster& cluster, std::size_t i) {
  const auto engine = storage::Engine::open({cluster.folder(i) + "/store", cluster.disk(i).env(), false});
  ASSERT_TRUE(engine) << engine.error().text;
  rocksdb::PinnableSlice stored;
  const auto found = (*engine)->get(storage::ColumnFamily::kNode, "ring", stored);
  ASSERT_TRUE(found && *found);
  auto version = overlay::decode_ring_version({stored.data(), stored.size()}).value();
  version.format = 1;
  version.rule = overlay::PlacementRule::kHashed;
  Bytes history("ring/");
  BytesWriter(history).u64be(version.number.value);
  rocksdb::WriteBatch batch;
  for (const Bytes& key : {Bytes("ring"), history}) {
    (*engine)->put(batch, storage::ColumnFamily::kNode, key, overlay::encode(version));
  }
  ASSERT_TRUE((*engine)->write_synced(batch));
}

TEST(Rebalance, AnOldClusterMovesToTheNewestRuleAndKeepsEverything) {
  ASSERT_TRUE(crypto_init());
  for (std::uint64_t seed = 1; seed <= 2; ++seed) {
    SCOPED_TRACE(seed);
    World world{seed};
    SimCluster cluster(world, ClusterOptions{.nodes = 1});
    ASSERT_TRUE(cluster.form());
    ASSERT_TRUE(cluster.stop(0));
    make_old(cluster, 0);
    ASSERT_TRUE(cluster.restart(0));
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(cluster.add_node(60s));
    Workload work(world, cluster, WorkloadOptions{});
    ASSERT_TRUE(work.set_up());
    work.start();
    cluster.run_for(5s);
    const auto told = cluster.admin(2, "rebalance", {{"dry_run", true}});
    ASSERT_TRUE(told) << told.error().text;
    EXPECT_GT(told->at("moved").get<int>(), 0);
    EXPECT_EQ(cluster.admin(2, "ring", Json::object())->at("placement"), 1);
    const auto begun = cluster.admin(2, "rebalance", Json::object());
    ASSERT_TRUE(begun) << begun.error().text;
    const auto placement = [&](std::size_t i) {
      const auto ring = cluster.admin(i, "ring", Json::object());
      return ring ? ring->at("placement").get<int>() : 0;
    };
    for (int turn = 0; turn < 600 && placement(0) != 2; ++turn) world.run_for(100ms);
    for (int turn = 0; turn < 100 && placement(4) != 2; ++turn) world.run_for(100ms);
    EXPECT_EQ(placement(4), 2);
    EXPECT_TRUE(refused(cluster.admin(0, "rebalance", Json::object()), Errc::kExists));
    cluster.run_for(5s);
    work.stop();
    EXPECT_TRUE(cluster.run_until([&] { return cluster.all_serving() && work.settled(); }, 120s));
    EXPECT_TRUE(cluster.run_until_quiet(60s));
    EXPECT_TRUE(cluster.run_until([&] { return check_delivered(work.history()).empty(); }, 30s));
    const auto stores = cluster.stop_and_export();
    ASSERT_TRUE(stores) << stores.error().text;
    const auto found = check_all(work.history(), &*stores);
    EXPECT_TRUE(found.empty()) << text(found);
  }
}

}  // namespace
}  // namespace starling::sim
