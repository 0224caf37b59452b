// Keys while people write: rotations, a revoked node that goes on, and a stolen identity (checkers judge).
#include <algorithm>

#include <rocksdb/slice.h>

#include "crypto/access/invite.h"
#include "node/ring/messages.h"
#include "overlay/gossip/swim_wire.h"
#include "overlay/ring/ring_version.h"
#include "storage/engine/engine.h"
#include "tests/sim/moves/moves.h"
#include "tests/sim/world/raw_peer.h"

namespace starling::sim {
namespace {

class KeysMoving : public Moves {
 protected:
  std::size_t keys(std::size_t i) {
    const auto answer = cluster.admin(i, "key.list", Json::object());
    return answer ? answer->at("keys").size() : 0;
  }
  // As long as a link to the dead one is not down it is tried again.
  Result<Json> rotate(std::size_t at, int retire_after_s) {
    for (int turn = 0;; ++turn, world.run_for(1s)) {
      auto rotated = cluster.admin(at, "key.rotate", {{"retire_after_s", retire_after_s}});
      if (rotated || turn == 10 || rotated.code() != Errc::kUnavailable) return rotated;
    }
  }
  // REQUIRES: it is down.
  std::optional<Identity> identity_of(std::size_t i) {
    const auto engine = storage::Engine::open({cluster.folder(i) + "/store", cluster.disk(i).env(), false});
    if (!engine) return std::nullopt;
    rocksdb::PinnableSlice seed;
    const auto found = (*engine)->get(storage::ColumnFamily::kNode, "identity", seed);
    if (!found || !*found) return std::nullopt;
    auto identity = Identity::from_seed({seed.data(), seed.size()});
    if (!identity || short_text(identity->node_id()) != cluster.id(i)) return std::nullopt;
    return std::move(*identity);
  }
  std::size_t acks() { return work.history().count(Outcome::kAcked); }
  // How far any other node has changes of this writer of a's.
  std::map<PartitionId, std::uint64_t> held_of(WriterId writer) {
    std::map<PartitionId, std::uint64_t> held;
    for (std::size_t i = 0; i < cluster.size(); ++i) {
      if (i == a) continue;
      for (const auto& [partition, vector] : cluster.vectors(i)) {
        const auto n = vector.find(writer);
        if (n != vector.end()) held[partition] = std::max(held[partition], n->second);
      }
    }
    return held;
  }
  std::string liveness_of(std::size_t i, std::size_t seen_by) {
    const auto status = cluster.admin(seen_by, "status", Json::object());
    if (!status) return "?";
    for (const auto& member : status->at("members")) {
      if (member.at("short") == cluster.id(i)) return member.at("state");
    }
    return "unknown";
  }
};
INSTANTIATE_TEST_SUITE_P(Seeds, KeysMoving, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(4)));

// One after the other, by different nodes; one node is down during one of them, and one joins.
TEST_P(KeysMoving, RotationsLoseNothingAndInterruptNobody) {
  work.start();
  const std::size_t d = other_than({a, b, c});
  const std::vector<std::size_t> by{a, b, c, d};
  for (std::size_t turn = 0; turn < by.size(); ++turn) {
    const bool one_down = turn == 1;
    if (one_down) {
      cluster.crash(d, GetParam() % 2 == 0 ? Crash::kPower : Crash::kProcess);
      believes_dead(by[turn], d);
    }
    const auto before = acks();
    const auto rotated = rotate(by[turn], one_down ? 20 : 3);
    ASSERT_TRUE(rotated) << turn << ": " << rotated.error().text;
    EXPECT_EQ(rotated->at("away").size(), one_down ? 1u : 0u);
    if (one_down) {
      world.run_for(5s);
      ASSERT_TRUE(cluster.restart(d));
      ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s)) << "it learns the new one under the old one";
    }
    if (turn == 2) {
      const auto joined = cluster.begin_join(a);
      ASSERT_TRUE(joined);
      ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 120s)) << waits_for(a);
    }
    world.run_for(one_down ? 20s : 5s);
    for (std::size_t i = 0; i < cluster.size(); ++i) EXPECT_EQ(keys(i), 1u) << "node " << i << " after " << turn;
    EXPECT_GT(acks(), before + 5) << turn;
  }
  const auto leaked = rotate(a, 0);
  ASSERT_TRUE(leaked) << leaked.error().text;
  const auto before = acks();
  world.run_for(5s);
  EXPECT_GT(acks(), before);
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    EXPECT_EQ(keys(i), 1u);
    for (std::size_t k = 0; k < cluster.size(); ++k) EXPECT_EQ(liveness_of(k, i), "alive") << k << " by " << i;
  }
  work.stop();
  finish();
}

// It owns what its one session writes to, and does not stop: nothing that it says or writes comes anywhere any more.
// What it shows to that device is its own affair, so nobody else reads there.
TEST_P(KeysMoving, ARevokedNodeThatGoesOnIsHeardByNobody) {
  ASSERT_TRUE(work.add_user("@eve"));
  auto& eve = work.add_device("@eve", "d0");
  std::string own;
  for (int i = 0; own.empty() && i < 20; ++i) {
    const std::string group = "#e" + std::to_string(i);
    const auto owners = cluster.owners_of(group);
    if (std::find(owners.begin(), owners.end(), a) != owners.end()) own = group;
  }
  ASSERT_FALSE(own.empty());
  ASSERT_TRUE(work.add_group(own, {"@eve"}));
  start(eve, a);
  const auto before = send(eve, own);
  ASSERT_TRUE(acked(before));
  const auto revoked = cluster.admin(b, "revoke", {{"node", cluster.id(a)}});
  ASSERT_TRUE(revoked) << revoked.error().text;
  const WriterId writer = cluster.writer(a);
  const auto held = held_of(writer);
  EXPECT_FALSE(held.empty());
  const auto refused = send(eve, own);
  const auto closed_by = world.now() + 5s;
  std::size_t tried = 0, came = 0, answered = 0;
  tap.on_leave = [&](const TapMessage& m) {
    tried += m.from == a && m.to != a && world.now() > closed_by ? 1 : 0;
    return Fate::kPass;
  };
  tap.on_arrive = [&](const TapMessage& m) { came += m.from == a && m.to != a && world.now() > closed_by ? 1 : 0; };
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    answered += m.from == a && m.to != a && answer.ok() && world.now() > closed_by ? 1 : 0;
    return Fate::kPass;
  };
  world.run_for(30s);
  EXPECT_GT(tried, 0u) << "it gave up by itself";
  EXPECT_EQ(came, 0u);
  EXPECT_EQ(answered, 0u);
  EXPECT_EQ(held_of(writer), held) << "a change that it made was taken";
  for (const auto i : {b, c}) EXPECT_EQ(liveness_of(a, i), "unknown") << "its redials and its gossip count for nothing";
  say();
  // Nor after a restart, under the address that all of them know.
  cluster.crash(a, Crash::kProcess);
  ASSERT_TRUE(cluster.restart(a));
  world.run_for(20s);
  EXPECT_EQ(came, 0u);
  EXPECT_EQ(answered, 0u);
  EXPECT_TRUE(held_of(cluster.writer(a)).empty()) << "nor any of its next run";
  for (const auto i : {b, c}) EXPECT_EQ(liveness_of(a, i), "unknown");
  cluster.retire(a);
  EXPECT_TRUE(acked(refused)) << "its device goes on at another node";
  say();
  finish();
}

// c's key, without the cluster's secret: no link, no word of the members, and c is not harmed, up or down.
TEST_P(KeysMoving, AStolenIdentityWithoutTheSecretGetsNothing) {
  work.start();
  world.run_for(2s);
  cluster.crash(c, Crash::kPower);
  const auto stolen = identity_of(c);
  ASSERT_TRUE(stolen);
  const auto token = cluster.admin(a, "invite", {{"expires_s", 3600}})->at("token").get<std::string>();
  const LineageId lineage = parse_invite(token)->lineage;  // That is no secret.
  SeededRandom random(GetParam());
  const Keyring guessed(SecretKey::random(random));
  SimLoop loop(world, "thief");
  const auto transport = cluster.network().attach(loop, "10.8.0.2");
  std::unique_ptr<overlay::Datagrams> socket;
  std::size_t answers = 0;
  loop.enter([&] {
    socket = std::move(*transport->bind({"10.8.0.2", 9000}, [&](const overlay::Endpoint&, View) { ++answers; }));
  });
  overlay::MemberRecord record;
  record.node = stolen->node_id();
  record.key = stolen->public_key();
  record.incarnation = 1'000'000;
  record.gossip = record.link = record.client = "10.8.0.2:9000";
  record.writer = WriterId{42};
  const Bytes update = *overlay::encode_record(overlay::sign_record(record, *stolen));
  const auto tries = [&] {
    for (const auto at : {a, b}) {
      RawNode thief(world, cluster.network(), cluster.node(at).link_address(), *stolen);
      RawIntroduction introduction;
      introduction.hello.lineage = lineage;
      introduction.hello.writer = WriterId{42};
      introduction.hello.wall_ms = world.wall_ms();
      EXPECT_TRUE(refused(thief.link(guessed, introduction), Errc::kIo));
      EXPECT_TRUE(thief.stream().wait_closed(20s));
      EXPECT_TRUE(thief.asked().empty());
      const auto to = parse_node_id(cluster.admin(at, "status", Json::object())->at("node").at("id").get<std::string>());
      for (std::uint64_t i = 1; i <= 20; ++i) {
        const overlay::Datagram datagram{record.node, record.writer, i, {}, static_cast<std::uint8_t>(1 + i % 5), i,
                                         *to, {{update}}, {}, {}};
        const Bytes packet = guessed.seal(pack(datagram), lineage.view(), random);
        loop.enter([&] { socket->send(cluster.node(at).link_address(), packet); });
        world.run_for(50ms);
      }
    }
  };
  believes_dead(a, c);
  tries();
  EXPECT_EQ(liveness_of(c, a), "dead") << "nobody takes the thief for it";
  ASSERT_TRUE(cluster.restart(c));
  ASSERT_TRUE(until([&] { return cluster.all_serving() && liveness_of(c, a) == "alive"; }, 60s));
  std::size_t of_c = 0;
  tap.on_arrive = [&](const TapMessage& m) { of_c += m.from == c && m.to != c ? 1 : 0; };
  tries();
  EXPECT_GT(of_c, 0u) << "the real one was cut off";
  EXPECT_EQ(liveness_of(c, a), "alive");
  EXPECT_EQ(answers, 0u);
  loop.enter([&] { socket.reset(); });
  work.stop();
  finish();
}

// With the secret, too, and an invite: it is a member already, so nothing changes, and the invite is there still.
TEST_P(KeysMoving, AJoinUnderAnIdentityThatIsPresentChangesNothing) {
  work.start();
  world.run_for(2s);
  cluster.crash(c, Crash::kProcess);
  const auto stolen = identity_of(c);
  ASSERT_TRUE(stolen);
  ASSERT_TRUE(cluster.restart(c));
  ASSERT_TRUE(until([&] { return cluster.all_serving() && liveness_of(c, a) == "alive"; }, 60s));
  const auto token = cluster.admin(a, "invite", {{"expires_s", 3600}})->at("token").get<std::string>();
  const auto invite = parse_invite(token);
  ASSERT_TRUE(invite);
  const auto before = cluster.admin(a, "ring", Json::object()).value();
  node::JoinRequest request;
  request.key = stolen->public_key();
  request.invite = token;
  request.link = "10.8.0.2:9000";
  const auto ask = [&](std::size_t at) -> Result<Bytes> {
    RawNode twin(world, cluster.network(), cluster.node(at).link_address(), *stolen);
    RawIntroduction introduction;
    introduction.hello.lineage = invite->lineage;
    introduction.hello.writer = WriterId{42};
    introduction.hello.wall_ms = request.wall_ms = world.wall_ms();
    TRY(twin.link(Keyring(invite->secret), introduction));
    return twin.call(method_number(overlay::Method::kJoin), pack(request), 5s);
  };
  for (const auto at : {a, b}) {
    auto told = ask(at);
    for (int turn = 0; !told && turn < 10; ++turn) told = ask(at);  // c may dial in between, and its link stands then.
    ASSERT_TRUE(told) << told.error().text;
    const auto answer = unpack<node::JoinReply>(*told);
    ASSERT_TRUE(answer);
    const auto version = overlay::decode_ring_version(answer->ring.data);
    ASSERT_TRUE(version);
    EXPECT_EQ(version->number.value, before.at("number").get<std::uint64_t>());
    EXPECT_EQ(cluster.admin(at, "ring", Json::object()).value(), before);
  }
  ASSERT_TRUE(until([&] { return cluster.all_serving() && liveness_of(c, a) == "alive"; }, 60s));
  EXPECT_EQ(cluster.fatal_errors(), 0u);
  const auto acked_before = acks();
  world.run_for(10s);
  EXPECT_GT(acks(), acked_before + 5);
  const auto joined = cluster.begin_join(token);
  ASSERT_TRUE(joined);
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 120s)) << waits_for(a);
  work.stop();
  finish();
}

}  // namespace
}  // namespace starling::sim
