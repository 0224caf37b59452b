// The simulator's loop and network keep the promises of overlay/loop/loop.h and transport.h.
#include <gtest/gtest.h>

#include "tests/sim/world/sim_loop.h"
#include "tests/sim/world/sim_network.h"
#include "tests/sim/world/world.h"

namespace starling::sim {
namespace {

using overlay::Endpoint;
using overlay::Stream;
using overlay::Timer;

TEST(World, RunsEventsByTimeThenByOrderOfCreation) {
  World world(1);
  std::string order;
  world.after(2ms, [&] { order += 'c'; });
  world.after(1ms, [&] { order += 'a'; });
  world.after(1ms, [&] { order += 'b'; });
  world.run_for(10ms);
  EXPECT_EQ(order, "abc");
}

TEST(World, TheSameSeedGivesTheSameDraws) {
  World a(7), b(7), c(8);
  const auto draw = a.random().u64();
  EXPECT_EQ(draw, b.random().u64());
  EXPECT_NE(draw, c.random().u64());
}

TEST(Trace, DigestSeesEveryNoteAndItsTime) {
  Trace a, b, c;
  a.add(Instant{} + 1s, "x", "one");
  b.add(Instant{} + 1s, "x", "one");
  c.add(Instant{} + 2s, "x", "one");
  EXPECT_EQ(a.digest(), b.digest());
  EXPECT_NE(a.digest(), c.digest());
  EXPECT_NE(a.text("one", 5).find("x: one"), std::string::npos);
  EXPECT_EQ(a.text("two", 5), "");
}

TEST(SimLoop, DeferredRunsInTheSameTurnAndPostedInALaterOne) {
  World world(1);
  SimLoop loop(world, "a");
  std::string order;
  loop.post([&] {
    loop.post([&] { order += 'p'; });
    loop.defer([&] {
      order += 'd';
      loop.defer([&] { order += 'e'; });
    });
    order += 't';
  });
  world.step();
  EXPECT_EQ(order, "tde");
  world.step();
  EXPECT_EQ(order, "tdep");
}

TEST(SimLoop, ADestroyedTimerNeverFires) {
  World world(1);
  SimLoop loop(world, "a");
  bool first = false, second = false;
  Timer kept = loop.after(2ms, [&] { second = true; });
  Timer killer = loop.after(1ms, [&] { kept.cancel(); });
  Timer self;
  self = loop.after(1ms, [&] {
    self.cancel();
    first = true;
  });
  world.run_for(5ms);
  EXPECT_TRUE(first);
  EXPECT_FALSE(second);
}

TEST(SimLoop, AKilledLoopRunsNothingMore) {
  World world(1);
  int runs = 0;
  auto loop = std::make_unique<SimLoop>(world, "a");
  Timer timer = loop->after(1ms, [&] { ++runs; });
  loop->post([&] { ++runs; });
  loop->work([&] { ++runs; }, [&] { ++runs; });
  loop->kill();
  world.run_for(10ms);
  EXPECT_EQ(runs, 0);
  timer.cancel();
}

TEST(SimLoop, APausedLoopRunsWhatFellDueInOrderOnceResumed) {
  World world(1);
  SimLoop loop(world, "a");
  std::string order;
  Timer one = loop.after(1ms, [&] { order += '1'; });
  Timer two = loop.after(2ms, [&] { order += '2'; });
  Timer gone = loop.after(3ms, [&] { order += 'x'; });
  loop.pause();
  world.run_for(10ms);
  EXPECT_EQ(order, "");
  gone.cancel();
  loop.resume();
  world.run_for(1ms);
  EXPECT_EQ(order, "12");
}

TEST(SimLoop, WallClockFollowsStepsAndDriftWhileSteadyTimeDoesNot) {
  World world(1);
  SimLoop loop(world, "a");
  const auto wall = loop.wall_ms();
  const auto steady = loop.now();
  loop.step_clock(-5000ms);
  EXPECT_EQ(loop.wall_ms(), wall - 5000);
  loop.set_drift(1000);  // 1 ms a second.
  world.run_for(100s);
  EXPECT_EQ(loop.wall_ms(), wall - 5000 + 100'000 + 100);
  EXPECT_EQ(loop.now() - steady, 100s);
}

// Two hosts with a listener on b, and one stream from a to it.
class Net : public ::testing::Test {
 protected:
  Net()
      : network(world, NetworkOptions{}),
        loop_a(std::make_unique<SimLoop>(world, "a")),
        loop_b(std::make_unique<SimLoop>(world, "b")),
        a(network.attach(*loop_a, kA)),
        b(network.attach(*loop_b, kB)) {}

  void connect() {
    listen();
    connecting = a->connect(address, 3s, [this](Result<std::unique_ptr<Stream>> result) {
      ASSERT_TRUE(result) << result.error().text;
      left = std::move(*result);
      left->start(events(left_got, left_closed));
    });
    world.run_for(10ms);
    ASSERT_TRUE(left && right);
  }
  void listen() {
    auto made = b->listen(address, [this](std::unique_ptr<Stream> stream) {
      right = std::move(stream);
      right->start(events(right_got, right_closed));
    });
    ASSERT_TRUE(made) << made.error().text;
    listener = std::move(*made);
  }
  Stream::Events events(Bytes& got, std::string& closed) {
    return {[&got](View data) { got += data; },
            [&closed](const Error& e) { closed += e.text + ";"; },
            [this] { ++drained; }};
  }
  // Ends b's process, as SimCluster does.
  void end_b(bool silent) {
    network.drop_process(kB, silent);
    loop_b->kill();
    right.reset();
    listener.reset();
  }

  static constexpr const char* kA = "10.0.0.1";
  static constexpr const char* kB = "10.0.0.2";
  const Endpoint address{kB, 7401};
  World world{1};
  SimNetwork network;
  std::unique_ptr<SimLoop> loop_a, loop_b;
  std::unique_ptr<overlay::Transport> a, b;
  std::unique_ptr<overlay::Listener> listener;
  std::unique_ptr<overlay::Transport::Connecting> connecting;
  std::unique_ptr<Stream> left, right;
  Bytes left_got, right_got;
  std::string left_closed, right_closed;
  int drained = 0;
};

TEST_F(Net, StreamsKeepOrderAndLoseNothing) {
  connect();
  Bytes sent;
  for (int i = 0; i < 300; ++i) {
    const Bytes part(static_cast<std::size_t>(i * 13), static_cast<char>('a' + i % 26));
    sent += part;
    left->write(part);
    if (i % 7 == 0) world.run_for(50us);
  }
  world.run_for(1s);
  EXPECT_EQ(right_got, sent);
  EXPECT_EQ(left->queued(), 0u);
  EXPECT_GE(drained, 1);
  EXPECT_EQ(right_closed, "");
}

TEST_F(Net, NothingArrivesInsideTheCallThatSentIt) {
  connect();
  left->write(Bytes("x"));
  EXPECT_EQ(right_got, "");
  const auto sent = world.now();
  ASSERT_TRUE(world.run_until([&] { return right_got == "x"; }, 1s));
  EXPECT_GE(world.now() - sent, 100us);
}

TEST_F(Net, APausedReaderIsFeltByTheWriterAndGetsEverythingLater) {
  connect();
  right->pause();
  const Bytes much(1 << 20, 'z');
  left->write(much);
  world.run_for(1s);
  EXPECT_EQ(right_got, "");
  EXPECT_GT(left->queued(), 0u);
  EXPECT_EQ(drained, 0);
  right->resume();
  world.run_for(1s);
  EXPECT_EQ(right_got, much);
  EXPECT_EQ(drained, 1);
}

TEST_F(Net, DestroyingAStreamClosesThePeerOnce) {
  connect();
  left->write(Bytes("bye"));
  world.run_for(0ms);
  left.reset();
  world.run_for(1s);
  EXPECT_EQ(right_got, "bye");
  EXPECT_EQ(right_closed, "closed by peer;");
  EXPECT_EQ(left_closed, "");
}

TEST_F(Net, CloseAfterFlushDeliversWhatWasQueued) {
  connect();
  const Bytes much(600'000, 'q');
  left->write(much);
  left->close_after_flush();
  left.reset();
  world.run_for(1s);
  EXPECT_EQ(right_got.size(), much.size());
  EXPECT_EQ(right_closed, "closed by peer;");
}

TEST_F(Net, ConnectingToNobodyIsRefusedAfterOneRoundTrip) {
  std::string answer;
  const auto start = world.now();
  connecting = a->connect(address, 3s, [&](Result<std::unique_ptr<Stream>> r) {
    answer = r ? "connected" : std::string(name(r.code()));
  });
  ASSERT_TRUE(world.run_until([&] { return !answer.empty(); }, 10s));
  EXPECT_EQ(answer, "io");
  EXPECT_LT(world.now() - start, 5ms);
}

TEST_F(Net, ConnectingAcrossACutTimesOut) {
  listen();
  network.cut(kB, kA);  // Only the way back.
  std::string answer;
  const auto start = world.now();
  connecting = a->connect(address, 3s, [&](Result<std::unique_ptr<Stream>> r) {
    answer = r ? "connected" : std::string(name(r.code()));
  });
  ASSERT_TRUE(world.run_until([&] { return !answer.empty(); }, 10s));
  EXPECT_EQ(answer, "timeout");
  EXPECT_EQ(world.now() - start, 3s);
}

TEST_F(Net, ACancelledConnectStaysSilent) {
  listen();
  bool called = false;
  connecting = a->connect(address, 3s, [&](Result<std::unique_ptr<Stream>>) { called = true; });
  connecting.reset();
  world.run_for(5s);
  EXPECT_FALSE(called);
}

TEST_F(Net, AStreamAcrossACutHangsAndGoesOnAfterTheHeal) {
  connect();
  network.partition({{kA}, {kB}});
  left->write(Bytes("late"));
  world.run_for(5s);
  EXPECT_EQ(right_got, "");
  EXPECT_EQ(left_closed, "");
  network.heal_all();
  world.run_for(1s);
  EXPECT_EQ(right_got, "late");
  world.run_for(30s);
  EXPECT_EQ(left_closed, "");
}

TEST_F(Net, AStreamAcrossALongCutIsResetForTheSideThatWrote) {
  connect();
  network.partition({{kA}, {kB}});
  left->write(Bytes("lost"));
  world.run_for(11s);
  EXPECT_EQ(left_closed, "connection timed out;");
  EXPECT_EQ(right_closed, "");  // It has nothing to send, so it cannot know.
  network.heal_all();
  world.run_for(1s);
  right->write(Bytes("hello?"));
  world.run_for(1s);
  EXPECT_EQ(right_closed, "connection reset by peer;");
}

TEST_F(Net, AOneWayCutStopsOneDirectionAndResetsTheWriterForWantOfAcks) {
  connect();
  network.cut(kB, kA);
  left->write(Bytes("there"));
  right->write(Bytes("back"));
  world.run_for(1s);
  EXPECT_EQ(right_got, "there");
  EXPECT_EQ(left_got, "");
  world.run_for(10s);
  EXPECT_EQ(left_closed, "connection timed out;");
  EXPECT_NE(right_closed, "");
}

TEST_F(Net, AKilledProcessClosesItsStreamsAtOnce) {
  connect();
  end_b(false);
  world.run_for(10ms);
  EXPECT_EQ(left_closed, "connection reset by peer;");
}

TEST_F(Net, AHostWithoutPowerIsFoundOutByTimeout) {
  connect();
  end_b(true);
  network.set_power(kB, false);
  world.run_for(60s);
  EXPECT_EQ(left_closed, "");  // Nobody wrote.
  left->write(Bytes("anybody?"));
  world.run_for(11s);
  EXPECT_EQ(left_closed, "connection timed out;");
}

TEST_F(Net, AHostThatCameBackAnswersOldStreamsWithAReset) {
  connect();
  end_b(true);
  network.set_power(kB, false);
  left->write(Bytes("anybody?"));
  world.run_for(2s);
  network.set_power(kB, true);
  world.run_for(100ms);
  EXPECT_EQ(left_closed, "connection reset by peer;");
}

TEST_F(Net, APausedProcessReadsNothingUntilItIsResumed) {
  connect();
  loop_b->pause();
  left->write(Bytes("wait"));
  world.run_for(5s);
  EXPECT_EQ(right_got, "");
  loop_b->resume();
  world.run_for(1ms);
  EXPECT_EQ(right_got, "wait");
}

TEST_F(Net, ABandwidthBoundSpreadsTheBytesOverTime) {
  connect();
  network.options().bytes_per_second = 1'000'000;
  left->write(Bytes(500'000, 'b'));
  world.run_for(250ms);
  EXPECT_LT(right_got.size(), 300'000u);
  world.run_for(300ms);
  EXPECT_EQ(right_got.size(), 500'000u);
}

TEST_F(Net, DatagramsAreLostDoubledAndReordered) {
  network.options().loss = 0.2;
  network.options().duplicate = 0.1;
  network.options().straggle = 0.2;
  std::vector<int> got;
  auto receiver = b->bind(address, [&](const Endpoint& from, View packet) {
    EXPECT_EQ(from.host, kA);
    got.push_back(std::stoi(Bytes(packet)));
  });
  auto sender = a->bind(Endpoint{kA, 0}, [](const Endpoint&, View) {});
  ASSERT_TRUE(receiver && sender);
  for (int i = 0; i < 1000; ++i) {
    (*sender)->send(address, std::to_string(i));
    world.run_for(1ms);
  }
  world.run_for(1s);
  const std::set<int> unique(got.begin(), got.end());
  EXPECT_LT(unique.size(), 900u);
  EXPECT_GT(unique.size(), 700u);
  EXPECT_GT(got.size(), unique.size());
  EXPECT_FALSE(std::is_sorted(got.begin(), got.end()));
}

TEST_F(Net, DatagramsDieAtACut) {
  int got = 0;
  auto receiver = b->bind(address, [&](const Endpoint&, View) { ++got; });
  auto sender = a->bind(Endpoint{kA, 0}, [](const Endpoint&, View) {});
  network.cut(kA, kB);
  (*sender)->send(address, "x");
  world.run_for(1s);
  EXPECT_EQ(got, 0);
  network.heal(kA, kB);
  (*sender)->send(address, "x");
  world.run_for(1s);
  EXPECT_EQ(got, 1);
}

TEST_F(Net, APortIsTakenOnce) {
  listen();
  EXPECT_EQ(b->listen(address, [](auto) {}).code(), Errc::kAddressInUse);
  auto free_one = b->listen(Endpoint{"127.0.0.1", 0}, [](auto) {});
  ASSERT_TRUE(free_one);
  EXPECT_EQ((*free_one)->local().host, kB);
  EXPECT_NE((*free_one)->local().port, 0);
}

}  // namespace
}  // namespace starling::sim
