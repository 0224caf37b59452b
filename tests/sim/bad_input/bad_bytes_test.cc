// Bad input that is forged or said twice: what each is counted as, and that nothing in the store, the ring or the list of
// members is another afterwards. (What frames of clients and notices are counted as: bad_frame_test, bad_peer_test.)
#include "node/replication/append/append_messages.h"
#include "node/replication/messages.h"
#include "overlay/gossip/swim_wire.h"
#include "storage/change.h"
#include "tests/sim/bad_input/bad_member.h"
#include "tests/sim/judge/store_export.h"
#include "tests/sim/world/metrics.h"
#include "tests/sim/world/node_parts.h"

namespace starling::sim {
namespace {

using overlay::Datagram;
using overlay::Method;
using storage::Store;

class BadBytes : public BadMember {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(BadMember::SetUp());
    ASSERT_TRUE(cluster.stop(3));
    auto found = identity_of(3);
    ASSERT_TRUE(found) << found.error().text;
    member = std::move(*found);
    for (const std::size_t i : {0, 1, 2}) {
      RawClient alice(world, cluster.network(), cluster.client_address(i));
      ASSERT_TRUE(alice.log_in("@alice", "phone" + std::to_string(i), "secret"));
      const auto said = alice.say("@alice", 1, "hello");
      ASSERT_TRUE(said) << said.error().text;
    }
    cluster.run_for(20s);  // What these began is at its end.
    counted = metrics_of(world, cluster, 0);
    before = state();
  }

  // What node 0 holds: every change, the rows of what it is and promised, the ring.
  struct State {
    std::map<PartitionId, Bytes> canonical;
    std::map<PartitionId, storage::VersionVector> vectors;
    std::vector<std::pair<Bytes, Bytes>> promised;
    Json ring;
    friend bool operator==(const State&, const State&) = default;
  };
  State state() {
    State out;
    auto& store = cluster.store(0);
    const auto exported = export_store(store);
    EXPECT_TRUE(exported);
    for (const auto& [partition, content] : exported->partitions) {
      out.canonical[partition] = content.canonical;
      out.vectors[partition] = content.vector;
    }
    out.promised = store.scan(Store::Family::kPaxos, "", "", 10'000);
    for (const char* row : {"identity", "keyring", "ring"}) {
      out.promised.emplace_back(row, store.get(Store::Family::kNode, row).value_or(""));
    }
    out.ring = cluster.admin(0, "ring", Json::object()).value();
    return out;
  }
  // It grew by so much, and nothing else happened.
  void expect_counted(const std::string& metric, double times) {
    const auto now = metrics_of(world, cluster, 0);
    const auto found = now.find(metric);
    ASSERT_NE(found, now.end()) << metric;
    EXPECT_EQ(found->second - counted[metric], times) << metric;
    counted = now;
  }
  void expect_untouched() {
    EXPECT_EQ(cluster.fatal_errors(), 0u);
    ASSERT_TRUE(cluster.up(0));
    EXPECT_TRUE(state() == before) << "something is another";
    EXPECT_TRUE(cluster.node(0).serving());
    RawClient alice(world, cluster.network(), cluster.client_address(0));
    ASSERT_TRUE(alice.log_in("@alice", "phone", "secret"));
    const auto said = alice.say("@alice", 1, "still there?");
    EXPECT_TRUE(said) << said.error().text;
  }

  // --- Gossip, from a host of its own. ---
  void send(const Bytes& packet) {
    if (!socket) {
      transport = cluster.network().attach(loop, "10.8.0.3");
      loop.enter([&] {
        socket = std::move(*transport->bind({"10.8.0.3", 9000}, [this](const overlay::Endpoint&, View) { ++answers; }));
      });
    }
    loop.enter([&] { socket->send(cluster.node(0).link_address(), packet); });
    world.run_for(20ms);
  }
  Bytes sealed(View plain) { return Keyring(invite.secret).seal(plain, invite.lineage.view(), random); }
  Datagram datagram(const NodeId& from, WriterId writer) {
    Datagram out;
    out.from = from;
    out.writer = writer;
    out.counter = ++counter;
    out.kind = static_cast<std::uint8_t>(overlay::MessageKind::kPing);
    out.about = cluster.node_id(0);
    out.heartbeat.wall_ms = world.wall_ms();
    return out;
  }
  // Node 3, which is off, as a run of ours.
  overlay::MemberRecord record() {
    overlay::MemberRecord out;
    out.node = member->node_id();
    out.key = member->public_key();
    out.incarnation = static_cast<std::uint64_t>(world.wall_ms()) + 1;
    out.gossip = out.link = "10.8.0.3:9000";
    out.writer = WriterId{77};
    out.run = 5;
    out.proves = true;
    return out;
  }
  void expect_refused(const char* reason, double times = 1) {
    SCOPED_TRACE(reason);
    expect_counted(std::string("starling_gossip_refused_total{reason=\"") + reason + "\"}", times);
  }
  void TearDown() override {
    loop.enter([&] { socket.reset(); });
  }

  std::optional<Identity> member;
  std::map<std::string, double> counted;
  State before;
  SeededRandom random{6};
  std::uint64_t counter = 0;
  std::size_t answers = 0;
  SimLoop loop{world, "gossip"};
  std::unique_ptr<overlay::Transport> transport;
  std::unique_ptr<overlay::Datagrams> socket;
};

TEST_F(BadBytes, GossipIsRefusedByItsReason) {
  const NodeId peer = cluster.node_id(1);
  const Bytes ping = pack(datagram(peer, cluster.writer(1)));
  Bytes flipped = sealed(ping);
  flipped.back() = static_cast<char>(flipped.back() ^ 1);
  send(flipped);
  expect_refused("corrupt");
  send(Keyring(SecretKey::random(random)).seal(ping, invite.lineage.view(), random));
  expect_refused("foreign");
  send(sealed(Bytes("\xc1")));
  expect_refused("malformed");
  send(sealed(pack(datagram(Identity::generate(random).node_id(), WriterId{1}))));
  expect_refused("outsider");
  send(sealed(pack(datagram(cluster.node_id(0), cluster.writer(0)))));
  expect_refused("own");
  send(sealed(pack(datagram(peer, WriterId{1}))));
  expect_refused("stale_run");
  // A record of node 1 that node 3 signed.
  auto forged = record();
  forged.node = peer;
  auto news = datagram(peer, WriterId{1});
  news.updates.push_back({*overlay::encode_record(overlay::sign_record(record(), *member))});
  auto lie = overlay::sign_record(record(), *member);
  const auto read = unpack<overlay::SignedRecord>(lie);
  ASSERT_TRUE(read);
  overlay::SignedRecord outer = *read;
  outer.body.data = pack(forged);
  news.updates = {{*overlay::encode_record(pack(outer))}};
  send(sealed(pack(news)));
  expect_refused("forged");
  EXPECT_EQ(answers, 0u) << "none of them is answered";
  expect_untouched();
}

// A member's own datagram, recorded and sent again; and one in its name, without its proof.
TEST_F(BadBytes, ADatagramIsHeardOnceAndTakesItsProof) {
  const auto* ring = node::NodeParts::ring(cluster.node(0));
  const auto key = overlay::proof_key(*member, ring->version().find(cluster.node_id(0))->key);
  ASSERT_TRUE(key);
  auto first = datagram(member->node_id(), record().writer);
  first.run = record().run;
  first.updates.push_back({*overlay::encode_record(overlay::sign_record(record(), *member))});
  const Bytes recorded = sealed(overlay::prove(first, *key));
  send(recorded);
  ASSERT_GT(answers, 0u) << "it is a member, and heard";
  counted = metrics_of(world, cluster, 0);
  for (int i = 0; i < 5; ++i) send(recorded);
  expect_refused("replayed", 5);
  auto unproven = datagram(member->node_id(), record().writer);
  unproven.run = record().run;
  send(sealed(pack(unproven)));
  expect_refused("unproven");
  expect_untouched();
}

storage::ChangeView entry(const std::string& body) {
  storage::ChangeView change;
  change.mailbox = mailbox_of("@alice");
  change.entry.id = {hlc_at(1'700'000'000'000), WriterId{1}};
  change.entry.key = {device_of(change.mailbox, "forged"), lane_to(change.mailbox), 1};
  change.entry.conversation = change.mailbox;
  change.entry.from = change.entry.to = "@alice";
  change.entry.body = body;
  return change;
}

// Well-formed, and under the writer of another member, or of the receiver itself: it would take their next dot.
TEST_F(BadBytes, ChangesUnderTheWriterOfAnotherAreCountedAndNotStored) {
  auto peer = link_as(*member);
  const PartitionId partition = cluster.store(0).partition_of(mailbox_of("@alice"));
  const auto* ring = node::NodeParts::ring(cluster.node(0));
  for (const std::size_t victim : {1, 0}) {
    const Dot next{cluster.writer(victim), cluster.store(0).held(partition, cluster.writer(victim)) + 1};
    const Bytes change = encode(entry("forged"), next);
    const node::Replicate message{ring->number(), next.writer, {{partition, next.n, 0, {{change}}, 0}}, kPartitions};
    peer->notify(method_number(Method::kReplicate), pack(message));
    world.run_for(1s);
    SCOPED_TRACE(victim);
    expect_counted("starling_forged_changes_total", 1);
  }
  expect_untouched();
}

// Under its own writer, which is its right; but the bytes are not those that the checksum is of, or of another dot.
TEST_F(BadBytes, ChangesThatAreNotWhatTheirChecksumSaysAreNotStored) {
  const WriterId writer{4711};
  auto peer = link_as(*member, writer);
  const PartitionId partition = cluster.store(0).partition_of(mailbox_of("@alice"));
  const auto* ring = node::NodeParts::ring(cluster.node(0));
  const auto send_change = [&](const Bytes& change) {
    const node::Replicate message{ring->number(), writer, {{partition, 1, 0, {{change}}, 0}}, kPartitions};
    peer->notify(method_number(Method::kReplicate), pack(message));
    world.run_for(100ms);
  };
  const Bytes good = encode(entry("forged"), {writer, 1});
  for (std::size_t at = 0; at < good.size(); at += 7) {
    Bytes flipped = good;
    flipped[at] = static_cast<char>(flipped[at] ^ 0x10);
    send_change(flipped);
  }
  send_change(encode(entry("forged"), {writer, 2}));       // Of another dot.
  send_change(encode(entry("forged"), {WriterId{9}, 1}));
  EXPECT_EQ(cluster.store(0).held(partition, writer), 0u);
  expect_untouched();
  // With its checksum it is one: the case reaches the store.
  send_change(good);
  EXPECT_EQ(cluster.store(0).held(partition, writer), 1u);
}

TEST_F(BadBytes, ALinkEndsWithTheFirstMessageThatIsChangedOrSaidTwice) {
  for (const bool changed : {true, false}) {
    SCOPED_TRACE(changed ? "changed" : "said twice");
    auto peer = link_as(*member);
    const std::size_t sent = peer->stream().sent().size();
    ASSERT_TRUE(peer->call(method_number(Method::kPing), ""));
    Bytes last = peer->stream().sent().substr(sent);
    if (changed) last.back() = static_cast<char>(last.back() ^ 1);
    counted = metrics_of(world, cluster, 0);
    peer->stream().send(last);
    EXPECT_TRUE(peer->stream().wait_closed(5s));
    expect_counted("starling_links_ended_total{code=\"corrupt\"}", 1);
  }
  expect_untouched();
}

// All that a member sent over a link, from the first byte on: it opens no second one, and says nothing twice.
TEST_F(BadBytes, ALinkThatIsPlayedAgainIsNobody) {
  auto peer = link_as(*member);
  const auto asked = peer->call(method_number(Method::kFindKey), pack(node::FindKeyRequest{mailbox_of("@alice"), {}}));
  ASSERT_TRUE(asked) << asked.error().text;
  const Bytes recorded = peer->stream().sent();
  counted = metrics_of(world, cluster, 0);
  const auto failures = [](const std::map<std::string, double>& metrics) {
    double sum = 0;
    for (const auto& [name, value] : metrics) sum += name.starts_with("starling_handshakes_failed_total") ? value : 0;
    return sum;
  };
  std::size_t said = 0;
  RawStream again(world, cluster.network(), cluster.node(0).link_address());
  again.on_data([&](View bytes) { said += bytes.size(); });
  again.send(recorded);
  EXPECT_TRUE(again.wait_closed(15s));
  EXPECT_EQ(failures(metrics_of(world, cluster, 0)), failures(counted) + 1);
  EXPECT_LT(said, 300u) << "a handshake's second message at most";
  EXPECT_TRUE(peer->call(method_number(Method::kPing), "")) << "the honest one goes on";
  expect_untouched();
}

}  // namespace
}  // namespace starling::sim
