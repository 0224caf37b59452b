// Hazard F48 in a whole cluster: who holds the secret, or is a member, and says of others that they are dead or gone.
// It moves traffic for a moment at most: the ring stays, and what is written is acknowledged. hazards.h says how; of one
// Swim alone: tests/overlay/swim_defence_test.cc.
#include <nlohmann/json.hpp>

#include "crypto/access/identity.h"
#include "crypto/access/invite.h"
#include "crypto/access/keyring.h"
#include "overlay/gossip/swim_wire.h"
#include "tests/sim/hazards/hazards.h"
#include "tests/sim/world/node_parts.h"

namespace starling::sim {
namespace {

using overlay::MemberState;

class Gossip : public Hazards {
 protected:
  Gossip() : Hazards(4) {}
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Hazards::SetUp());
    start(*alice, a);
    start(*bob, b);
    d = 6 - a - b - c;
    ring = ring_of(a);
  }
  Json ring_of(std::size_t i) {
    const auto answer = cluster.admin(i, "ring", Json::object());
    return answer ? Json{answer->at("number"), answer->at("members"), answer->at("lineage")} : Json();
  }
  // As node `seen_by` sees it.
  std::string state_of(std::size_t i, std::size_t seen_by) {
    const auto status = cluster.admin(seen_by, "status", Json::object());
    if (!status) return "?";
    for (const auto& member : status->at("members")) {
      if (member.at("short") == cluster.id(i)) return member.at("state");
    }
    return "";
  }
  Identity identity_of(std::size_t i) {
    const auto seed = cluster.store(i).get(storage::Store::Family::kNode, "identity");
    return Identity::from_seed(*seed).value();
  }
  // The host of who gossips under the name of d.
  void open_socket() {
    const auto made = cluster.admin(a, "invite", {{"expires_s", 3600}});
    ASSERT_TRUE(made);
    invite = parse_invite(made->at("token").get<std::string>()).value();
    loop.enter([&] {
      socket = std::move(*transport->bind({kHost, 9000}, [this](const overlay::Endpoint&, View) { ++answers; }));
    });
  }
  void close_socket() {
    loop.enter([&] { socket.reset(); });
    loop.kill();
  }
  // "I am d, and a, b and c are all `state`", to everybody else, with the proof of that identity.
  void shout(const Identity& as, MemberState state) {
    for (const auto to : {a, b, c}) {
      const auto& self = node::NodeParts::record(cluster.node(d));
      overlay::Datagram datagram;
      datagram.from = self.node;
      datagram.writer = self.writer;
      datagram.run = self.run;
      datagram.counter = ++counter;
      datagram.kind = static_cast<std::uint8_t>(overlay::MessageKind::kGossip);
      datagram.heartbeat.wall_ms = world.wall_ms();
      for (const auto victim : {a, b, c}) {
        const auto& record = node::NodeParts::record(cluster.node(victim));
        // That it left, only a node itself is believed.
        const NodeId& from = state == MemberState::kLeft ? record.node : self.node;
        datagram.updates.push_back({*overlay::encode_claim(
            {record.node, record.incarnation, static_cast<std::uint8_t>(state), from})});
      }
      const auto key = overlay::proof_key(as, node::NodeParts::record(cluster.node(to)).key).value();
      const Bytes packet = Keyring(invite.secret).seal(overlay::prove(datagram, key), invite.lineage.view(), chance);
      loop.enter([&] { socket->send(cluster.node(to).link_address(), packet); });
    }
  }
  // A message now and then, for so long; all are acknowledged.
  void write_for(Duration length) {
    for (const Instant end = world.now() + length; world.now() < end; world.run_for(500ms)) {
      said.push_back(send(*alice));
      EXPECT_TRUE(acked(said.back(), 10s)) << world.trace().text("", 40);
    }
  }
  void expect_unharmed() {
    for (std::size_t i = 0; i < cluster.size(); ++i) EXPECT_EQ(ring_of(i), ring) << i;
    EXPECT_EQ(cluster.fatal_errors(), 0u);
    const auto all_alive = [&] {
      for (std::size_t i = 0; i < cluster.size(); ++i) {
        for (std::size_t by = 0; by < cluster.size(); ++by) {
          if (state_of(i, by) != "alive") return false;
        }
      }
      return true;
    };
    bool alive = all_alive();
    for (int turn = 0; turn < 300 && !alive; ++turn, alive = all_alive()) world.run_for(200ms);
    EXPECT_TRUE(alive);
    for (const auto i : said) EXPECT_TRUE(until([&] { return shown(*bob, i) == 1; }, 30s));
    finish();
  }

  static constexpr const char* kHost = "10.8.0.7";
  std::size_t d = 0;
  Json ring;
  std::vector<SendIndex> said;
  Invite invite;
  SeededRandom chance{world.fork()};
  std::uint64_t counter = 2000;  // Above what d has counted.
  std::size_t answers = 0;
  // Destroyed from the bottom up.
  SimLoop loop{world, "forger"};
  std::unique_ptr<overlay::Transport> transport = cluster.network().attach(loop, kHost);
  std::unique_ptr<overlay::Datagrams> socket;
};

INSTANTIATE_TEST_SUITE_P(Seeds, Gossip, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

// It has the secret of the cluster, by a leaked invite, and speaks in the name of d, whose key it has not.
TEST_P(Gossip, F48_WhoHasTheSecretAndAnothersNameMovesNothing) {
  SeededRandom random(world.fork());
  const Identity forger = Identity::generate(random);
  open_socket();
  std::map<std::size_t, std::uint64_t> before;
  for (const auto victim : {a, b, c}) before[victim] = node::NodeParts::record(cluster.node(victim)).incarnation;
  for (int round = 0; round < 20; ++round) {
    for (const auto state : {MemberState::kDead, MemberState::kLeft, MemberState::kSuspect}) shout(forger, state);
    write_for(500ms);
    for (const auto by : {a, b, c}) {
      for (const auto victim : {a, b, c}) EXPECT_EQ(state_of(victim, by), "alive") << victim << " by " << by;
    }
  }
  for (const auto victim : {a, b, c}) {
    EXPECT_EQ(node::NodeParts::record(cluster.node(victim)).incarnation, before[victim]) << "it had to refute it";
  }
  EXPECT_EQ(answers, 0u);
  close_socket();
  expect_unharmed();
}

// d is a member, and says time and again that all the others are dead, or that they left.
TEST_P(Gossip, F48_AMemberThatCallsAllOthersDeadMovesTrafficAtMost) {
  const Identity liar = identity_of(d);
  const auto lie = GetParam() % 2 == 0 ? MemberState::kDead : MemberState::kLeft;
  open_socket();
  std::map<std::size_t, std::uint64_t> before;
  for (const auto victim : {a, b, c}) before[victim] = node::NodeParts::record(cluster.node(victim)).incarnation;
  for (int round = 0; round < 40; ++round) {
    shout(liar, lie);
    write_for(500ms);
    EXPECT_EQ(ring_of(b), ring);
  }
  for (const auto victim : {a, b, c}) {
    ASSERT_GT(node::NodeParts::record(cluster.node(victim)).incarnation, before[victim]) << "nobody told it";
  }
  close_socket();
  expect_unharmed();
}

}  // namespace
}  // namespace starling::sim
