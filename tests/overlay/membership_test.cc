#include "overlay/gossip/membership.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "crypto/init.h"
#include "tests/sim/world/sim_loop.h"
#include "tests/sim/world/sim_network.h"
#include "tests/sim/world/world.h"

namespace starling::overlay {
namespace {

using Kind = MemberEvent::Kind;

struct Cluster;

// Calls between the nodes of a Cluster: a millisecond each way, nothing across a cut.
class DirectRpc final : public Rpc {
 public:
  DirectRpc(Cluster& cluster, int self) : cluster_(cluster), self_(self) {}
  void serve(Method method, Access, Handler handler) override { handlers_[method] = handler; }
  void on_notice(Method, NoticeHandler) override {}
  void call(const NodeId& to, Method method, Bytes body, Duration deadline, Done done) override;
  void notify(const NodeId&, Method, Bytes) override {}
  void dial(const Endpoint& to, Duration deadline,
            std::function<void(Result<NodeId>)> done) override;
  bool linked(const NodeId&) const override { return true; }
  void on_link(std::function<void(const NodeId&, const Hello*)>) override {}

 private:
  class Answer;
  Cluster& cluster_;
  int self_;
  std::map<Method, Handler> handlers_;
};

struct Node {
  Node(Cluster& cluster, int index);
  std::string ip;
  SeededRandom random;
  Identity identity;
  sim::SimLoop loop;
  std::unique_ptr<Transport> transport;
  std::unique_ptr<DirectRpc> rpc;
  std::unique_ptr<Membership> membership;
  std::vector<MemberEvent> events;
};

struct Cluster {
  explicit Cluster(int n) {
    EXPECT_TRUE(crypto_init().ok());
    lineage.raw[0] = 1;
    for (int i = 0; i < n; ++i) nodes.push_back(std::make_unique<Node>(*this, i));
  }
  void in(int i, const std::function<void(Membership&)>& fn) {
    nodes[i]->loop.enter([&] { fn(*nodes[i]->membership); });
  }
  MembershipOptions options(int i) {
    MembershipOptions out;
    out.bind = {"0.0.0.0", 0};
    out.lineage = lineage;
    out.self.node = id(i);
    out.self.key = nodes[i]->identity.public_key();
    out.self.incarnation = static_cast<std::uint64_t>(nodes[i]->loop.wall_ms());
    out.self.gossip = nodes[i]->ip + ":0";
    out.self.link = nodes[i]->ip + ":7401";
    out.self.writer = WriterId{nodes[i]->random.u64()};
    return out;
  }
  void open(int i) { open(i, options(i), keyring); }
  void open(int i, const MembershipOptions& options, const Keyring& keys) {
    Node& node = *nodes[i];
    node.loop.enter([&] {
      auto opened = Membership::open(node.loop, *node.transport, *node.rpc, keys, node.identity,
                                     node.random, options);
      ASSERT_TRUE(opened.ok()) << opened.error().text;
      node.membership = std::move(opened).value();
      node.membership->on_event(
          [&node](const MemberEvent& event) { node.events.push_back(event); });
    });
  }
  void start(int i) {
    in(i, [&](Membership& m) { m.start({{nodes[0]->ip, 7401}}); });
  }
  void start_all() {
    for (int i = 0; i < int(nodes.size()); ++i) {
      open(i);
      start(i);
    }
  }
  void stop(int i) {
    nodes[i]->membership.reset();
    nodes[i]->loop.kill();
  }
  bool sees(int i, int j) { return nodes[i]->membership->is_alive(id(j)); }
  bool converged() {
    for (int i = 0; i < int(nodes.size()); ++i) {
      for (int j = 0; j < int(nodes.size()); ++j) {
        if (nodes[i]->membership && nodes[j]->membership && !sees(i, j)) return false;
      }
    }
    return true;
  }
  bool told(int i, Kind kind, int about) {
    for (const MemberEvent& event : nodes[i]->events) {
      if (event.kind == kind && event.node == id(about)) return true;
    }
    return false;
  }
  NodeId id(int i) { return nodes[i]->identity.node_id(); }

  sim::World world{7};
  sim::SimNetwork network{world, {}};
  Keyring keyring{SecretKey{}};
  LineageId lineage;
  std::vector<std::unique_ptr<Node>> nodes;
};

Node::Node(Cluster& cluster, int index)
    : ip("10.0.0." + std::to_string(index + 1)),
      random(cluster.world.fork()),
      identity(Identity::generate(random)),
      loop(cluster.world, "node " + std::to_string(index)),
      transport(cluster.network.attach(loop, ip)),
      rpc(std::make_unique<DirectRpc>(cluster, index)) {}

// Carries the answer back to the caller's loop.
class DirectRpc::Answer final : public Reply::Sink {
 public:
  Answer(Cluster& cluster, int caller, std::shared_ptr<Done> done)
      : cluster_(cluster), caller_(caller), done_(std::move(done)) {}
  void reply(Result<Bytes> body) override {
    sim::SimLoop& loop = cluster_.nodes[caller_]->loop;
    loop.turn_at(cluster_.world.now() + 1ms, [done = done_, body = std::move(body)] {
      if (auto fn = std::exchange(*done, nullptr)) fn(body);
    });
  }

 private:
  Cluster& cluster_;
  int caller_;
  std::shared_ptr<Done> done_;
};

void DirectRpc::call(const NodeId& to, Method method, Bytes body, Duration deadline, Done done) {
  const auto shared = std::make_shared<Done>(std::move(done));
  Node& self = *cluster_.nodes[self_];
  self.loop.turn_at(cluster_.world.now() + deadline, [shared] {
    if (auto fn = std::exchange(*shared, nullptr)) fn(Error{Errc::kTimeout, "no answer in time"});
  });
  for (auto& node : cluster_.nodes) {
    if (node->identity.node_id() != to || !node->membership) continue;
    if (cluster_.network.is_cut(self.ip, node->ip, sim::SimNetwork::Kind::kStreams)) continue;
    node->loop.turn_at(cluster_.world.now() + 1ms, [this, &self, &node, method, body, shared] {
      Reply reply(std::make_unique<Answer>(cluster_, self_, shared));
      node->rpc->handlers_.at(method)(self.identity.node_id(), body, std::move(reply));
    });
  }
}

void DirectRpc::dial(const Endpoint& to, Duration deadline,
                     std::function<void(Result<NodeId>)> done) {
  Node& self = *cluster_.nodes[self_];
  for (auto& node : cluster_.nodes) {
    if (node->ip != to.host || !node->membership) continue;
    if (cluster_.network.is_cut(self.ip, node->ip, sim::SimNetwork::Kind::kStreams)) continue;
    self.loop.turn_at(cluster_.world.now() + 1ms,
                      [done, &node] { done(node->identity.node_id()); });
    return;
  }
  self.loop.turn_at(cluster_.world.now() + deadline, [done] {
    done(Error{Errc::kTimeout, "nobody there"});
  });
}

TEST(Membership, NodesJoinThroughASeedAndListEachOtherInOrder) {
  Cluster c(3);
  c.start_all();
  ASSERT_TRUE(c.world.run_until([&] { return c.converged(); }, 10s));
  const std::vector<MemberView> members = c.nodes[1]->membership->members();
  ASSERT_EQ(members.size(), 3u);
  EXPECT_TRUE(members[0].id < members[1].id && members[1].id < members[2].id);
  EXPECT_EQ(c.nodes[1]->membership->link_endpoint(c.id(2))->text(), "10.0.0.3:7401");
  EXPECT_TRUE(c.nodes[1]->membership->is_alive(c.id(1))) << "ourselves";
  EXPECT_TRUE(c.told(0, Kind::kJoined, 2));
  const NodeId stranger{};
  EXPECT_FALSE(c.nodes[1]->membership->is_alive(stranger));
  EXPECT_FALSE(c.nodes[1]->membership->find(stranger).has_value());
  EXPECT_EQ(c.nodes[1]->membership->link_endpoint(stranger).code(), Errc::kNotFound);
}

TEST(Membership, AdvertisesThePortThatWasBound) {
  Cluster c(2);
  c.open(0);
  const std::string gossip = c.nodes[0]->membership->self().gossip;
  EXPECT_EQ(gossip,
            c.nodes[0]->ip + ":" + std::to_string(c.nodes[0]->membership->gossip_endpoint().port));
  EXPECT_NE(c.nodes[0]->membership->gossip_endpoint().port, 0);
}

TEST(Membership, ACrashIsToldAndTheSurvivorsGoOn) {
  Cluster c(3);
  c.start_all();
  ASSERT_TRUE(c.world.run_until([&] { return c.converged(); }, 10s));
  c.stop(2);
  EXPECT_TRUE(c.world.run_until([&] { return !c.sees(0, 2) && !c.sees(1, 2); }, 5s));
  c.world.run_for(1ms);
  EXPECT_TRUE(c.told(0, Kind::kSuspected, 2));
  EXPECT_TRUE(c.told(0, Kind::kDied, 2));
  EXPECT_TRUE(c.sees(0, 1));
  EXPECT_EQ(c.nodes[0]->membership->stats().dead, 1u);
  EXPECT_TRUE(c.nodes[0]->membership->link_endpoint(c.id(2)).ok()) << "to try it again";
}

TEST(Membership, ASplitMergesByItself) {
  Cluster c(4);
  c.start_all();
  ASSERT_TRUE(c.world.run_until([&] { return c.converged(); }, 10s));
  c.network.partition({{"10.0.0.1", "10.0.0.2"}, {"10.0.0.3", "10.0.0.4"}});
  c.world.run_for(60s);
  EXPECT_FALSE(c.sees(0, 2) || c.sees(1, 3) || c.sees(2, 0) || c.sees(3, 1));
  EXPECT_GT(c.nodes[0]->membership->stats().exchanges_failed, 0u);
  c.network.heal_all();
  EXPECT_TRUE(c.world.run_until([&] { return c.converged(); }, 30s));
}

TEST(Membership, ALeaverIsHeardAndKnowsWhenItIsDone) {
  Cluster c(3);
  c.start_all();
  ASSERT_TRUE(c.world.run_until([&] { return c.converged(); }, 10s));
  c.in(1, [](Membership& m) { m.leave(); });
  c.world.run_for(2s);
  EXPECT_TRUE(c.told(1, Kind::kLeft, 1));
  EXPECT_TRUE(c.told(0, Kind::kLeft, 1) && c.told(2, Kind::kLeft, 1));
  EXPECT_FALSE(c.told(0, Kind::kDied, 1));
  EXPECT_EQ(c.nodes[0]->membership->find(c.id(1))->state, MemberState::kLeft);
}

TEST(Membership, OtherClustersPacketsAreDroppedAndCounted) {
  Cluster c(3);
  c.open(0);
  c.start(0);
  SecretKey other;
  other.raw[0] = 9;
  const Keyring foreign(other);
  c.open(1, c.options(1), foreign);
  MembershipOptions options = c.options(2);
  options.lineage.raw[0] = 2;
  c.open(2, options, c.keyring);
  c.start(1);
  c.start(2);
  c.world.run_for(3s);
  const MembershipStats stats = c.nodes[0]->membership->stats();
  EXPECT_GT(stats.foreign, 0u);
  EXPECT_GT(stats.corrupt, 0u);
  EXPECT_EQ(stats.swim.packets_received, 0u);
}

TEST(Membership, HeartbeatsAndUpdatesReachTheOthers) {
  Cluster c(3);
  c.start_all();
  ASSERT_TRUE(c.world.run_until([&] { return c.converged(); }, 10s));
  c.nodes[2]->loop.step_clock(2min);
  c.in(2, [](Membership& m) {
    m.set_heartbeat({0, RingNumber{5}, true, 12});
    MemberRecord record = m.self();
    record.draining = true;
    EXPECT_TRUE(m.update_self(record).ok());
    record.zone = std::string(kZoneSizeMax + 1, 'z');
    EXPECT_EQ(m.update_self(record).code(), Errc::kTooLarge);
  });
  c.world.run_for(5s);
  const MemberView view = c.nodes[0]->membership->find(c.id(2)).value();
  EXPECT_TRUE(view.record.draining);
  EXPECT_TRUE(view.heartbeat.catching_up);
  EXPECT_EQ(view.heartbeat.sessions, 12u);
  EXPECT_TRUE(c.told(0, Kind::kNewerRing, 2));
  c.in(2, [](Membership& m) {
    EXPECT_NEAR(static_cast<double>(m.clock_standing().value().median_ms), -120'000, 50);
  });
}

TEST(Membership, HostilePushPullsAndOutsidersAreRefused) {
  Cluster c(2);
  c.open(0);
  const auto ask = [&](Bytes body) {
    std::optional<Result<Bytes>> answer;
    c.nodes[1]->loop.enter([&] {
      c.nodes[1]->rpc->call(c.id(0), Method::kPushPull, std::move(body), 1s,
                            [&](Result<Bytes> r) { answer = std::move(r); });
    });
    c.world.run_for(2s);
    return answer.value().code();
  };
  EXPECT_EQ(ask(pack(PushPull{})), Errc::kUnavailable) << "not started";
  c.start(0);
  EXPECT_EQ(ask("garbage"), Errc::kCorrupt);
  c.in(0, [&](Membership& m) { m.set_members({c.id(0)}); });
  EXPECT_EQ(ask(pack(PushPull{})), Errc::kDenied);
}

TEST(Membership, AWatcherMayEndTheMembership) {
  Cluster c(2);
  c.start_all();
  int calls = 0;
  c.in(0, [&](Membership& m) {
    m.on_event([&](const MemberEvent&) {
      ++calls;
      c.nodes[0]->membership.reset();
    });
    m.on_event([&](const MemberEvent&) { ++calls; });
  });
  c.world.run_for(10s);
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(c.nodes[0]->membership, nullptr);
}

}  // namespace
}  // namespace starling::overlay
