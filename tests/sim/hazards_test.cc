// The interleavings of hazards.md, driven from outside of the nodes. The number is the hazard's.
#include <gtest/gtest.h>

#include <cstdlib>

#include "crypto/init.h"
#include "tests/sim/run.h"

namespace starling::sim {
namespace {

// Three nodes that own everything; alice and bob with two devices each; the group #g of both.
class Hazards : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_TRUE(crypto_init()); }
  void SetUp() override {
    world.trace().echo(std::getenv("STARLING_TRACE") != nullptr);
    const auto formed = cluster.form();
    ASSERT_TRUE(formed) << formed.error().text;
    ASSERT_TRUE(work.add_user("@alice"));
    ASSERT_TRUE(work.add_user("@bob"));
    ASSERT_TRUE(work.add_group("#g", {"@alice", "@bob"}));
    alice = &work.add_device("@alice", "d0");
    alice2 = &work.add_device("@alice", "d1");
    bob = &work.add_device("@bob", "d0");
    bob2 = &work.add_device("@bob", "d1");
    const auto owners = cluster.owners_of("#g");
    ASSERT_EQ(owners.size(), 3u);
    a = owners[0];
    b = owners[1];
    c = owners[2];
  }

  // Devices begin at the node given.
  void start(SimDevice& device, std::size_t at) {
    device.start(at);
    ASSERT_TRUE(world.run_until([&] { return device.ready(); }, 30s)) << world.trace().text("", 40);
  }
  void start_all() {
    start(*alice, b);
    start(*alice2, c);
    start(*bob, b);
    start(*bob2, c);
  }
  SendIndex send(SimDevice& device, const std::string& to = "#g") {
    return device.send(to, work.body(device));
  }
  [[nodiscard]] const SendRecord& record(SendIndex i) { return work.history().sends()[i]; }
  bool acked(SendIndex i, Duration limit = 60s) {
    return world.run_until([&] { return record(i).outcome == Outcome::kAcked; }, limit);
  }
  // Devices that got this send and were not told of its void.
  std::size_t still_shown_on(SendIndex i) {
    std::set<DeviceIndex> devices;
    std::set<std::pair<DeviceIndex, MessageKey>> closed;
    for (const auto& d : work.history().deliveries()) {
      if (d.is_void) closed.emplace(d.device, d.key);
    }
    for (const auto& d : work.history().deliveries()) {
      if (!d.is_void && d.hash == record(i).hash && !closed.contains({d.device, d.key})) {
        devices.insert(d.device);
      }
    }
    return devices.size();
  }
  void isolate(std::size_t i) {
    std::vector<std::size_t> others;
    for (std::size_t n = 0; n < cluster.size(); ++n) {
      if (n != i) others.push_back(n);
    }
    cluster.partition({{i}, others});
  }
  // A question of a client, repeated while the cluster is busy finding out who is gone.
  bool manage(const std::function<void(std::function<void(Result<Done>)>)>& ask) {
    for (int attempt = 0; attempt < 20; ++attempt) {
      const auto answer = std::make_shared<std::optional<Result<Done>>>();
      ask([answer](Result<Done> r) { answer->emplace(std::move(r)); });
      if (world.run_until([&] { return answer->has_value(); }, 30s) && (*answer)->ok()) return true;
      if (*answer) world.note("test", "refused: " + (*answer)->error().text);
      world.run_for(1s);
    }
    ADD_FAILURE() << world.trace().text("refused", 20);
    return false;
  }
  // Ends the faults and judges.
  void finish() {
    const auto ended = cluster.end_faults();
    ASSERT_TRUE(ended) << ended.error().text;
    work.wake_all();
    EXPECT_TRUE(world.run_until([&] { return cluster.all_serving() && work.settled(); }, 180s))
        << world.trace().text("", 60);
    world.run_for(30s);
    const auto stores = cluster.stop_and_export();
    ASSERT_TRUE(stores) << stores.error().text;
    const auto found = check_all(work.history(), &*stores);
    EXPECT_TRUE(found.empty()) << text(found)
                               << world.trace().text(found.empty() ? "" : found[0].needle, 100);
  }

  World world{20};
  SimCluster cluster{world, ClusterOptions{}};
  Workload work{world, cluster, WorkloadOptions{}};
  SimDevice *alice = nullptr, *alice2 = nullptr, *bob = nullptr, *bob2 = nullptr;
  std::size_t a = 0, b = 0, c = 0;  // Owners of #g in preference order; a coordinates.
};

// A change leaves its writer before it is synced; the writer loses it and goes on with new changes.
TEST_F(Hazards, F03_AWriterThatLostItsTailReusesNoDot) {
  start_all();
  ASSERT_TRUE(acked(send(*alice)));
  cluster.disk(a).hold(true);
  const auto early = send(*alice);
  world.run_for(100ms);  // Copies reach b and c, and their followers.
  cluster.crash(a, Crash::kPower);
  cluster.disk(a).hold(false);
  world.run_for(200ms);
  ASSERT_TRUE(cluster.restart(a));
  for (int i = 0; i < 10; ++i) {
    send(*alice);
    send(*bob);
    world.run_for(300ms);
  }
  EXPECT_TRUE(acked(early));
  finish();
}

// Changes 5 and 6 go to different replicas, then their writer is gone.
TEST_F(Hazards, F04_AWriterThatDiesForGoodLeavesNoHole) {
  start_all();
  ASSERT_TRUE(acked(send(*alice)));
  cluster.network().cut(cluster.ip(a), cluster.ip(b));
  for (int i = 0; i < 3; ++i) send(*alice);
  world.run_for(12s);  // The link to b is given up.
  cluster.network().cut(cluster.ip(a), cluster.ip(c));
  cluster.network().heal(cluster.ip(a), cluster.ip(b));
  for (int i = 0; i < 3; ++i) {
    send(*alice);
    world.run_for(20ms);
  }
  cluster.crash(a, Crash::kPower);
  cluster.heal();
  EXPECT_TRUE(world.run_until([&] { return work.settled(); }, 120s));
  world.run_for(30s);
  auto found = check_delivered(work.history());
  EXPECT_TRUE(found.empty()) << text(found);  // Without a.
  finish();                                   // And with it again.
}

// The coordinator's clock is ahead; it dies; the next one has its own clock.
TEST_F(Hazards, F05_ASenderKeepsItsOrderOverCoordinatorsWithDifferentClocks) {
  start_all();
  cluster.clock_step(a, 4000ms);
  cluster.partition({{a}, {b}});
  const auto first = send(*alice);
  EXPECT_TRUE(acked(first));
  cluster.crash(a, Crash::kPower);
  cluster.heal();
  alice->reconnect();
  const auto second = send(*alice);
  EXPECT_TRUE(acked(second));
  EXPECT_LT(record(first).id, record(second).id);
  finish();
}

// Three numbers on the wire at once, and the coordinator dies in the middle of them.
TEST_F(Hazards, F05_PipelinedSendsKeepTheirOrderWhenTheCoordinatorDies) {
  start_all();
  for (int round = 0; round < 6; ++round) {
    for (int i = 0; i < 5; ++i) send(*alice);
    world.run_for(std::chrono::microseconds(300 * (round + 1)));
    cluster.crash(a, round % 2 == 0 ? Crash::kPower : Crash::kProcess);
    for (int i = 0; i < 3; ++i) send(*alice);
    world.run_for(3s);
    ASSERT_TRUE(cluster.restart(a));
    world.run_for(4s);
  }
  finish();
}

// A number is stored at one node only, refused elsewhere and closed by a void; then the node
// returns.
TEST_F(Hazards, F06_AVoidBeatsTheContentThatANodeKeptToItself) {
  start_all();
  ASSERT_TRUE(acked(send(*bob)));
  bob->close();
  start(*bob, a);
  isolate(a);
  const auto kept = send(*bob);
  world.run_for(200ms);  // Stored at a; not acknowledged.
  EXPECT_NE(record(kept).outcome, Outcome::kAcked);
  bob->close();  // It remembers that the number is open.
  cluster.crash(a, Crash::kProcess);
  ASSERT_TRUE(manage([&](auto done) { alice->client().remove_member("#g", "@bob", done); }));
  bob->start(b);
  ASSERT_TRUE(world.run_until([&] { return bob->ready() && bob->open_sends() == 0; }, 60s));
  cluster.heal();
  ASSERT_TRUE(cluster.restart(a));
  world.run_for(20s);
  ASSERT_TRUE(manage([&](auto done) { alice->client().add_member("#g", "@bob", 0, done); }));
  EXPECT_TRUE(acked(send(*bob)));
  finish();
  EXPECT_EQ(still_shown_on(kept), 0u);
}

// a keeps a copy of its own; the retry gets another position elsewhere; a returns.
TEST_F(Hazards, F07_ARetryAfterACrashStaysOneMessage) {
  start_all();
  alice->close();
  start(*alice, a);
  isolate(a);
  const auto sent = send(*alice);
  world.run_for(200ms);
  cluster.crash(a, Crash::kProcess);
  cluster.heal();
  EXPECT_TRUE(acked(sent));
  const auto next = send(*alice);
  EXPECT_TRUE(acked(next));
  ASSERT_TRUE(cluster.restart(a));
  world.run_for(10s);
  EXPECT_TRUE(acked(send(*bob)));
  finish();
}

// Each of two replicas knows another copy of one message; a device reads from one, then from the
// other.
TEST_F(Hazards, F08_ADeviceShowsAMessageOnceWhicheverReplicaItReads) {
  start_all();
  alice->close();
  start(*alice, a);
  isolate(a);
  const auto sent = send(*alice);
  world.run_for(200ms);
  cluster.crash(a, Crash::kProcess);
  EXPECT_TRUE(acked(sent));  // Through b or c; bob has it from there.
  world.run_for(2s);
  bob->close();
  bob2->close();
  ASSERT_TRUE(cluster.restart(a));  // Still cut from b and c.
  world.run_for(1s);
  bob->start(a);
  bob2->start(a);
  world.run_for(5s);
  finish();
}

// A gateway follows one owner; a device logs in and is read from another one that is behind.
TEST_F(Hazards, F09_ALoginWhileAnOwnerIsBehindSkipsNothing) {
  start(*alice, b);
  start(*bob, c);
  start(*bob2, c);
  for (int round = 0; round < 5; ++round) {
    bob2->close();
    const std::size_t behind = round % 2 == 0 ? a : b;
    cluster.disk(behind).hold(true);
    for (int i = 0; i < 20; ++i) {
      send(*alice, i % 2 == 0 ? "#g" : "@bob");
      world.run_for(5ms);
    }
    bob2->start(c);
    world.run_for(500ms);
    for (int i = 0; i < 5; ++i) send(*alice, "@bob");
    world.run_for(100ms);
    bob2->reconnect();  // What it was acknowledged for is what its cursor says now.
    cluster.disk(behind).hold(false);
    world.run_for(2s);
  }
  finish();
}

// The answer is lost, or the retry overtakes it.
TEST_F(Hazards, F10_ARetryThroughAnotherNodeIsTheSameMessage) {
  start_all();
  for (int round = 0; round < 8; ++round) {
    const auto at = alice->client().endpoint().host;
    cluster.network().cut(at, alice->identity().ip);  // Requests arrive, answers do not.
    const auto sent = send(*alice, round % 2 == 0 ? "#g" : "@bob");
    world.run_for(std::chrono::milliseconds(round));
    alice->reconnect();
    EXPECT_TRUE(acked(sent));
    cluster.network().heal(at, alice->identity().ip);
  }
  finish();
}

// An owner comes back after a while; everybody talks to it at once.
TEST_F(Hazards, F15_AReturningOwnerServesNothingStale) {
  start_all();
  cluster.crash(a, Crash::kPower);
  for (int i = 0; i < 50; ++i) {
    send(*alice);
    send(*bob, "@alice");
    world.run_for(50ms);
  }
  for (auto* device : {alice, alice2, bob, bob2}) device->close();
  ASSERT_TRUE(cluster.restart(a));
  for (auto* device : {alice, alice2, bob, bob2}) device->start(a);
  for (int i = 0; i < 10; ++i) {
    send(*alice);
    send(*bob, "@alice");
    world.run_for(20ms);
  }
  finish();
}

}  // namespace
}  // namespace starling::sim
