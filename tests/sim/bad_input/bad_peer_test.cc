// Bad input at the ports for other nodes: links and gossip. Nobody gets in without the secret,
// nobody acts without being a member, and bytes that mean nothing change nothing.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <limits>

#include "crypto/access/invite.h"
#include "crypto/init.h"
#include "node/ring/messages.h"
#include "overlay/gossip/swim_wire.h"
#include "tests/sim/world/cluster.h"
#include "tests/sim/world/metrics.h"
#include "tests/sim/world/raw_peer.h"

namespace starling::sim {
namespace {

using overlay::Method;

// One node with @alice, and a stranger that may hold the cluster's secret.
class BadPeer : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_TRUE(crypto_init()); }
  void SetUp() override {
    const auto formed = cluster.form();
    ASSERT_TRUE(formed) << formed.error().text;
    ASSERT_TRUE(cluster.admin(
        0, "user.add", {{"users", {{{"name", "@alice"}, {"password", "secret"}}}}}));
    invite = parse_invite(new_token()).value();
    ring = cluster.admin(0, "ring", Json::object()).value();
  }

  std::string new_token(int seconds = 3600) {
    const auto made = cluster.admin(0, "invite", {{"expires_s", seconds}});
    return made ? made->at("token").get<std::string>() : "";
  }
  Keyring keyring() { return Keyring(invite.secret); }
  overlay::Endpoint link_address() { return cluster.node(0).link_address(); }
  std::unique_ptr<RawNode> stranger() {
    return std::make_unique<RawNode>(world, cluster.network(), link_address(), identity);
  }
  RawIntroduction honest() {
    RawIntroduction out;
    out.hello.lineage = invite.lineage;
    out.hello.writer = WriterId{42};
    out.hello.wall_ms = world.wall_ms();
    return out;
  }
  node::JoinRequest join_request(const std::string& token) {
    node::JoinRequest out;
    out.key = identity.public_key();
    out.invite = token;
    out.zone = "z";
    out.link = "10.0.0.77:7401";
    out.wall_ms = world.wall_ms();
    return out;
  }
  void expect_unharmed() {
    EXPECT_EQ(cluster.fatal_errors(), 0u);
    ASSERT_TRUE(cluster.up(0));
    EXPECT_TRUE(cluster.node(0).serving());
    EXPECT_EQ(cluster.admin(0, "ring", Json::object()).value(), ring);
    const auto status = cluster.admin(0, "status", Json::object());
    ASSERT_TRUE(status);
    EXPECT_EQ(status->at("members").size(), 1u);
    expect_served();
  }
  void expect_served() {
    RawClient alice(world, cluster.network(), cluster.client_address(0));
    ASSERT_TRUE(alice.log_in("@alice", "phone", "secret"));
    const auto said = alice.say("@alice", ++seq, "still there?");
    EXPECT_TRUE(said) << said.error().text;
  }

  World world{32};
  SimCluster cluster{world, ClusterOptions{.nodes = 1}};
  SeededRandom random{5};
  Identity identity = Identity::generate(random);
  Invite invite;
  Json ring;
  std::uint64_t seq = 0;
};

TEST_F(BadPeer, RandomBytesOnTheLinkPortAreClosed) {
  std::vector<std::unique_ptr<RawStream>> streams;
  for (int i = 0; i < 100; ++i) {
    streams.push_back(std::make_unique<RawStream>(world, cluster.network(), link_address()));
    streams.back()->send(random_bytes(1 + random.below(3000), random));
  }
  streams.push_back(std::make_unique<RawStream>(world, cluster.network(), link_address()));
  streams.back()->send("GET / HTTP/1.1\r\n\r\n");
  world.run_for(15s);  // What waits for more bytes ends with the deadline of the handshake.
  for (const auto& stream : streams) EXPECT_TRUE(stream->closed());
  expect_unharmed();
}

TEST_F(BadPeer, AWrongSecretGetsNoLink) {
  const Keyring other(SecretKey::random(random));
  EXPECT_TRUE(refused(stranger()->link(other, honest()), Errc::kIo));
  expect_unharmed();
}

TEST_F(BadPeer, DamagedHandshakesAreClosed) {
  // Message 1 is readable by anybody, so it can be made without the secret; then nothing fits.
  for (int i = 0; i < 60; ++i) {
    RawStream stream(world, cluster.network(), link_address());
    Bytes message = random_bytes(32, random) + Bytes(key_id(invite.secret).view());
    if (i % 3 == 1) message = mutated(message, random);
    Bytes out;
    BytesWriter(out).u16le(static_cast<std::uint16_t>(message.size()));
    stream.send(out + message);
    const Bytes third = random_bytes(120, random);
    Bytes more;
    BytesWriter(more).u16le(static_cast<std::uint16_t>(third.size()));
    stream.send(more + third);
    EXPECT_TRUE(stream.wait_closed(15s));
  }
  expect_unharmed();
}

TEST_F(BadPeer, IntroductionsAreRefusedWithTheirReason) {
  auto wrong = honest();
  wrong.hello.version_min = 7;
  wrong.hello.version_max = 9;
  const auto version = stranger()->link(keyring(), wrong);
  EXPECT_TRUE(refused(version, Errc::kUnsupported));
  EXPECT_NE(version.error().text.find("7..9"), std::string::npos) << version.error().text;
  EXPECT_NE(version.error().text.find("1..1"), std::string::npos) << version.error().text;

  wrong = honest();
  wrong.hello.version_min = 1;
  wrong.hello.version_max = 0;
  EXPECT_TRUE(refused(stranger()->link(keyring(), wrong), Errc::kUnsupported));

  wrong = honest();
  wrong.hello.lineage.raw[0] ^= 1;
  EXPECT_TRUE(refused(stranger()->link(keyring(), wrong), Errc::kForeign));

  wrong = honest();
  wrong.claimed = Identity::generate(random).public_key();
  EXPECT_TRUE(refused(stranger()->link(keyring(), wrong), Errc::kUnauthenticated));

  for (const Bytes& payload :
       {Bytes(), Bytes("\xc1"), Bytes("\x90"), Bytes(800, '\x91'), Bytes("\xdd\xff\xff\xff\xff"),
        pack(42), random_bytes(200, random)}) {
    wrong = honest();
    wrong.payload = payload;
    EXPECT_FALSE(stranger()->link(keyring(), wrong)) << hex(payload.substr(0, 20));
  }
  wrong = honest();
  wrong.hello.wall_ms = std::numeric_limits<std::int64_t>::min();
  (void)stranger()->link(keyring(), wrong);
  wrong.hello.wall_ms = std::numeric_limits<std::int64_t>::max();
  wrong.hello.ring = RingNumber{~0ull};
  (void)stranger()->link(keyring(), wrong);
  world.run_for(5s);
  expect_unharmed();
}

TEST_F(BadPeer, WhoIsNoMemberReachesNothingButJoin) {
  auto peer = stranger();
  ASSERT_TRUE(peer->link(keyring(), honest()));
  EXPECT_TRUE(peer->call(method_number(Method::kPing), ""));
  for (const auto method :
       {Method::kPushPull, Method::kKeys, Method::kPaxos, Method::kRingGet, Method::kRingProgress, Method::kCompare,
        Method::kFetch, Method::kHold, Method::kFindKey, Method::kAppend, Method::kWriteRegister,
        Method::kReadRegisters, Method::kFollow, Method::kRead, Method::kHistory, Method::kLane, Method::kSeal,
        Method::kHandOver, Method::kHeads, Method::kFindCopy}) {
    for (const Bytes& body : {Bytes(), Bytes("\xc1"), pack(Bytes("x"))}) {
      EXPECT_TRUE(refused(peer->call(method_number(method), body), Errc::kStaleRing)) << method_number(method);
    }
  }
  for (const std::uint16_t method : {4, 60, 200, 255, 256, 4000, 65535}) {
    EXPECT_TRUE(refused(peer->call(method, ""), Errc::kUnsupported)) << method;
  }
  for (const auto method : {Method::kRingDecided, Method::kReplicate, Method::kReplicated,
                            Method::kUnfollow, Method::kPush}) {
    auto noisy = stranger();
    ASSERT_TRUE(noisy->link(keyring(), honest()));
    noisy->notify(method_number(method), "\x90");
    EXPECT_TRUE(noisy->stream().wait_closed(5s)) << method_number(method);
  }
  expect_unharmed();
}

// Within what a member's clock may be ahead: from others not even that is taken.
TEST_F(BadPeer, TheClockOfWhoIsNoMemberMovesNothing) {
  auto ahead = honest();
  ahead.hello.wall_ms += 4'900;
  auto peer = stranger();
  ASSERT_TRUE(peer->link(keyring(), ahead));
  RawClient alice(world, cluster.network(), cluster.client_address(0));
  ASSERT_TRUE(alice.log_in("@alice", "phone", "secret"));
  const auto said = alice.say("@alice", ++seq, "now");
  ASSERT_TRUE(said) << said.error().text;
  EXPECT_LE(hlc_ms(parse_entry_id(said->id)->time), static_cast<std::uint64_t>(world.wall_ms()));
  expect_unharmed();
}

// Nobody is told who the members are, or shown among them, for holding the secret.
TEST_F(BadPeer, WhoIsNoMemberIsNotShownTheMembersNorListedAmongThem) {
  SimLoop loop(world, "outsider");
  const auto transport = cluster.network().attach(loop, "10.8.0.2");
  std::unique_ptr<overlay::Datagrams> socket;
  std::size_t answers = 0;
  loop.enter([&] {
    socket = std::move(*transport->bind({"10.8.0.2", 9000},
                                        [&](const overlay::Endpoint&, View) { ++answers; }));
  });
  overlay::MemberRecord record;
  record.node = identity.node_id();
  record.key = identity.public_key();
  record.incarnation = 1;
  record.gossip = record.link = "10.8.0.2:9000";
  record.writer = WriterId{42};
  const Bytes update = *overlay::encode_record(overlay::sign_record(record, identity));
  const auto founder =
      parse_node_id(ring.at("members")[0].at("id").get<std::string>()).value();
  for (std::uint64_t i = 1; i <= 50; ++i) {
    const overlay::Datagram datagram{record.node, record.writer, i, {},
                                     static_cast<std::uint8_t>(1 + i % 5), i,
                                     founder, {{update}}, {}, {}};
    const Bytes packet = keyring().seal(pack(datagram), invite.lineage.view(), random);
    loop.enter([&] { socket->send(link_address(), packet); });
    world.run_for(100ms);
  }
  auto peer = stranger();
  ASSERT_TRUE(peer->link(keyring(), honest()));
  overlay::PushPull ours;
  ours.members.push_back({{update.substr(1)}, 1, 1, {}, 0});
  EXPECT_TRUE(refused(peer->call(method_number(Method::kPushPull), pack(ours)), Errc::kStaleRing));
  world.run_for(10s);
  EXPECT_EQ(answers, 0u);
  loop.enter([&] { socket.reset(); });
  expect_unharmed();
}

// Whoever holds an invite could otherwise hand out a ring version of its own making.
TEST_F(BadPeer, WhoIsNoMemberIsNotAskedForTheRing) {
  auto peer = stranger();
  auto newer = honest();
  newer.hello.ring = RingNumber{1000};
  ASSERT_TRUE(peer->link(keyring(), newer));
  EXPECT_TRUE(refused(peer->call(method_number(Method::kRingGet), ""), Errc::kStaleRing));
  world.run_for(5s);
  EXPECT_TRUE(peer->call(method_number(Method::kPing), ""));
  for (const auto method : peer->asked()) EXPECT_EQ(method, method_number(Method::kPing));
  expect_unharmed();
}

TEST_F(BadPeer, JoinsAreRefusedWithTheirReason) {
  auto peer = stranger();
  ASSERT_TRUE(peer->link(keyring(), honest()));
  const auto join = [&](const node::JoinRequest& request) {
    return peer->call(method_number(Method::kJoin), pack(request));
  };
  for (const Bytes& body : {Bytes(), Bytes("\xc1"), Bytes("\xdd\xff\xff\xff\xff"), pack(7)}) {
    EXPECT_TRUE(refused(peer->call(method_number(Method::kJoin), body), Errc::kCorrupt));
  }
  EXPECT_TRUE(refused(join(join_request("")), Errc::kInvalid));
  EXPECT_TRUE(refused(join(join_request("starling1-nonsense")), Errc::kInvalid));
  const std::string short_lived = new_token(1);
  world.run_for(2s);
  EXPECT_TRUE(refused(join(join_request(short_lived)), Errc::kUnauthenticated));
  Invite foreign = invite;
  foreign.lineage.raw[0] ^= 1;
  EXPECT_TRUE(refused(join(join_request(format_invite(foreign).value())), Errc::kForeign));
  auto request = join_request(new_token());
  request.key = Identity::generate(random).public_key();
  EXPECT_TRUE(refused(join(request), Errc::kUnauthenticated));
  constexpr auto kLowest = std::numeric_limits<std::int64_t>::min();
  for (const std::int64_t clock : {world.wall_ms() + 60'000, world.wall_ms() - 60'000,
                                   kLowest, kLowest + world.wall_ms() + 1,
                                   std::numeric_limits<std::int64_t>::max()}) {
    request = join_request(new_token());
    request.wall_ms = clock;
    EXPECT_TRUE(refused(join(request), Errc::kClock)) << clock;
  }
  // A difference that has no absolute value.
  request = join_request(new_token());
  for (int i = 0; i < 20; ++i) {
    request.wall_ms = kLowest + world.wall_ms() + i;
    EXPECT_TRUE(refused(join(request), Errc::kClock)) << i;
  }
  request = join_request(new_token());
  request.zone = std::string(overlay::kZoneSizeMax + 1, 'z');
  EXPECT_FALSE(join(request));
  expect_unharmed();
}

TEST_F(BadPeer, AFrameOverTheLimitEndsTheLink) {
  for (const std::uint32_t size : {std::uint32_t{overlay::kFrameBodySizeMax} + 1, 1u << 31, ~0u}) {
    auto peer = stranger();
    ASSERT_TRUE(peer->link(keyring(), honest()));
    Bytes out;
    BytesWriter writer(out);
    writer.u32le(size);
    out += Bytes(overlay::kFrameHeaderSize - 4, '\x01');
    peer->send_plain(out);
    EXPECT_TRUE(peer->stream().wait_closed(5s)) << size;
  }
  auto peer = stranger();  // A type of frame that there is not, then bytes that open to nothing.
  ASSERT_TRUE(peer->link(keyring(), honest()));
  peer->send_plain(Bytes(4, '\0') + Bytes(overlay::kFrameHeaderSize - 4, '\x63'));
  EXPECT_TRUE(peer->stream().wait_closed(5s));
  peer = stranger();
  ASSERT_TRUE(peer->link(keyring(), honest()));
  peer->stream().send(Bytes("\x40\x00", 2) + random_bytes(64, random));
  EXPECT_TRUE(peer->stream().wait_closed(5s));
  expect_unharmed();
}

// The worst peer: it was let in and then sends nonsense to every method.
TEST_F(BadPeer, AMemberThatSendsNonsenseHarmsNobody) {
  auto peer = stranger();
  ASSERT_TRUE(peer->link(keyring(), honest()));
  ASSERT_TRUE(peer->call(method_number(Method::kJoin), pack(join_request(new_token()))));
  const std::vector<Bytes> bodies = {
      "", "\xc1", "\x90", pack(7), Bytes("\xdd\xff\xff\xff\xff"), Bytes(5000, '\x91'),
      pack(std::vector<std::uint64_t>(20, ~0ull)), pack(std::vector<std::string>(20, "x")),
      random_bytes(300, random)};
  for (std::uint16_t method = 1; method < 60; ++method) {
    for (const Bytes& body : bodies) {
      if (method == method_number(Method::kJoin)) continue;
      const auto answer = peer->call(method, body, 20s);
      EXPECT_TRUE(answer || answer.code() != Errc::kIo) << method << ": the link was closed";
      peer->notify(method, body);
    }
  }
  // A change that does not decode, and a ring version.
  node::Replicate replicate{RingNumber{2}, WriterId{42}, {{PartitionId{0}, 1, 0, {{"no change"}}, 0}}, 0};
  peer->notify(method_number(Method::kReplicate), pack(replicate));
  peer->notify(method_number(Method::kRingDecided), pack(node::RingAnswer{{Bytes("no ring version")}}));
  world.run_for(10s);
  EXPECT_EQ(cluster.fatal_errors(), 0u);
  ASSERT_TRUE(cluster.up(0));
  auto counted = metrics_of(world, cluster, 0);
  const auto refused = [&](const std::string& reason) {
    return counted["starling_notices_refused_total{reason=\"" + reason + "\"}"];
  };
  EXPECT_GE(refused("malformed"), 7 * 6) << "seven kinds of notices";
  EXPECT_EQ(refused("ring"), 2) << "one of the bodies above is an answer without a ring";
  EXPECT_EQ(refused("change"), 1);
  EXPECT_GT(refused("unknown"), 0);
  expect_served();
}

TEST_F(BadPeer, DatagramsThatMeanNothingAreDropped) {
  SimLoop loop(world, "noise");
  const auto transport = cluster.network().attach(loop, "10.8.0.1");
  std::unique_ptr<overlay::Datagrams> socket;
  std::size_t answers = 0;
  loop.enter([&] {
    socket = std::move(*transport->bind({"10.8.0.1", 9000},
                                        [&](const overlay::Endpoint&, View) { ++answers; }));
  });
  const auto send = [&](const Bytes& packet) {
    loop.enter([&] { socket->send(link_address(), packet); });
  };
  const Keyring ours = keyring();
  overlay::Datagram ping;
  ping.from = identity.node_id();
  ping.writer = WriterId{42};
  ping.kind = static_cast<std::uint8_t>(overlay::MessageKind::kPing);
  const Keyring other(SecretKey::random(random));
  for (std::uint64_t i = 0; i < 400; ++i) {
    send(random_bytes(random.below(1500), random));
    ping.counter = i + 1;
    const Bytes sealed = ours.seal(pack(ping), invite.lineage.view(), random);
    send(mutated(sealed, random));
    send(other.seal(pack(ping), invite.lineage.view(), random));
    send(ours.seal(pack(ping), Bytes(16, 'x'), random));  // Of another lineage.
    world.run_for(1ms);
  }
  world.run_for(1s);
  EXPECT_EQ(answers, 0u) << "a packet that was changed or foreign was answered";
  // From here on the sender holds the secret.
  for (std::uint64_t i = 0; i < 400; ++i) {
    send(ours.seal(random_bytes(random.below(1400), random), invite.lineage.view(), random));
    ping.counter = 1000 + i;
    ping.kind = static_cast<std::uint8_t>(random.below(8));
    ping.heartbeat.wall_ms = i % 2 == 0 ? std::numeric_limits<std::int64_t>::min()
                                        : std::numeric_limits<std::int64_t>::max();
    ping.heartbeat.ring = RingNumber{~0ull};
    ping.updates = {{random_bytes(random.below(100), random)}, {Bytes("\x01")}, {Bytes()}};
    send(ours.seal(pack(ping), invite.lineage.view(), random));
    send(ours.seal(mutated(pack(ping), random), invite.lineage.view(), random));
    world.run_for(1ms);
  }
  world.run_for(10s);
  loop.enter([&] { socket.reset(); });
  expect_unharmed();
}

}  // namespace
}  // namespace starling::sim
