// Crash points of stand-ins. a alone of the owners is reachable, so a stand-in s syncs a segment and says so; when b and
// c are back it tells them, they fetch, and once all have it s lets go.
#include "tests/sim/crash_points/crash_points.h"

namespace starling::sim {
namespace {

class CrashStandIn : public CrashPoint {
 protected:
  CrashStandIn() : CrashPoint(5) {}
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(CrashPoint::SetUp());
    std::vector<std::size_t> side{a};
    for (std::size_t i = 0; i < cluster.size(); ++i) {
      if (i != a && i != b && i != c) side.push_back(i);
    }
    start(*alice, a);
    ASSERT_TRUE(acked(send(*alice)));
    ASSERT_TRUE(cluster.run_until_quiet(30s));
    cluster.partition({side, {b, c}});
    world.run_for(15s);  // Until they are taken for dead.
  }
  [[nodiscard]] bool is_hint(const TapMessage& m) { return m.method == Method::kHint && find(m, message).has_value(); }
  // Acknowledged by a and s.
  void say_to_a_stand_in() {
    tap.on_arrive = [&](const TapMessage& m) {
      if (is_hint(m)) s = m.to;
    };
    message = send(*alice);
    ASSERT_TRUE(acked(message)) << world.trace().text("", 40);
    ASSERT_EQ(record(message).copies, 2);
    ASSERT_NE(s, kNone);
    tap.clear();
  }
  [[nodiscard]] bool is_of_s(const TapMessage& m, Method method) const {
    return m.method == method && (m.from == s || m.to == s) && m.from != m.to;
  }
  // While the two sides are cut, for all that is known: it is acknowledged without the one that died.
  void come_back(std::size_t which) {
    ASSERT_TRUE(until([&] { return !cluster.up(which); }, 30s));
    EXPECT_TRUE(acked(message)) << world.trace().text("", 60);
    cluster.heal();
    ASSERT_NO_FATAL_FAILURE(revive(which));
    start(*bob2, b);
    EXPECT_TRUE(until([&] { return shown(*bob2, message) == 1; }, 60s)) << world.trace().text("", 60);
    finish();
  }

  static constexpr std::size_t kNone = ~std::size_t{0};
  std::size_t s = kNone;
  SendIndex message = kUnsent;
};

INSTANTIATE_TEST_SUITE_P(Seeds, CrashStandIn, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(8)));

TEST_P(CrashStandIn, WithTheSegmentNotSynced) {
  tap.on_arrive = [&](const TapMessage& m) {
    if (!is_hint(m) || s != kNone) return;
    s = m.to;
    kill_unsynced(s);
  };
  message = send(*alice);
  ASSERT_TRUE(until([&] { return s != kNone; }));
  come_back(s);
}

TEST_P(CrashStandIn, BetweenItsSyncAndItsWord) {
  bool said = false;
  tap.on_arrive = [&](const TapMessage& m) {
    if (is_hint(m) && s == kNone) s = m.to;
  };
  tap.on_leave = [&](const TapMessage& m) {
    if (m.method != Method::kHinted || m.from != s) return Fate::kPass;
    said = true;
    kill(s);
    return Fate::kLose;
  };
  message = send(*alice);
  ASSERT_TRUE(until([&] { return said; }));
  come_back(s);
}

// The promise itself: both copies that the ack counted lose their power, and a stays away.
TEST_P(CrashStandIn, BothCopiesAtOnceRightAfterTheAck) {
  ASSERT_NO_FATAL_FAILURE(say_to_a_stand_in());
  cluster.crash(a, Crash::kPower);
  cluster.crash(s, Crash::kPower);
  cluster.heal();
  ASSERT_TRUE(cluster.restart(s));
  start(*bob2, b);
  EXPECT_TRUE(until([&] { return shown(*bob2, message) == 1; }, 60s)) << world.trace().text("", 60);
  finish();
}

TEST_P(CrashStandIn, AsItTellsTheOwners) {
  ASSERT_NO_FATAL_FAILURE(say_to_a_stand_in());
  cluster.crash(a, Crash::kPower);
  tap.on_leave = [&](const TapMessage& m) {
    if (!is_of_s(m, Method::kHold) || m.from != s) return Fate::kPass;
    kill(s);
    return Fate::kLose;
  };
  cluster.heal();
  ASSERT_TRUE(until([&] { return !cluster.up(s); }, 30s));
  ASSERT_TRUE(cluster.restart(a));
  come_back(s);
}

TEST_P(CrashStandIn, AnOwnerWithWhatItFetchedNotSynced) {
  ASSERT_NO_FATAL_FAILURE(say_to_a_stand_in());
  cluster.crash(a, Crash::kPower);
  std::size_t owner = kNone;
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    const bool came = m.method == Method::kFetch && m.to == s && find(carried(m, answer), message).has_value();
    if (!came || owner != kNone) return Fate::kPass;
    owner = m.from;
    kill_unsynced(owner);
    return Fate::kPass;
  };
  cluster.heal();
  ASSERT_TRUE(until([&] { return owner != kNone && !cluster.up(owner); }, 30s)) << world.trace().text("", 40);
  ASSERT_TRUE(cluster.restart(a));
  come_back(owner);
}

// An owner lost its power in the moment in which it had said that it has it; s may let go now.
TEST_P(CrashStandIn, AnOwnerRightAfterItSaidThatItHasIt) {
  ASSERT_NO_FATAL_FAILURE(say_to_a_stand_in());
  cluster.crash(a, Crash::kPower);
  std::size_t owner = kNone;
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (!is_of_s(m, Method::kHold) || m.from != s || !answer || owner != kNone) return Fate::kPass;
    owner = m.to;
    world.after(Duration(0), [&] { cluster.crash(owner, Crash::kPower); });
    return Fate::kPass;
  };
  cluster.heal();
  ASSERT_TRUE(until([&] { return owner != kNone && !cluster.up(owner); }, 30s)) << world.trace().text("", 40);
  ASSERT_TRUE(cluster.restart(a));
  come_back(owner);
}

TEST_P(CrashStandIn, BetweenTheWordOfTheLastOwnerAndTheDrop) {
  ASSERT_NO_FATAL_FAILURE(say_to_a_stand_in());
  std::set<std::size_t> home;
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (!is_of_s(m, Method::kHold) || m.from != s || !answer) return Fate::kPass;
    home.insert(m.to);
    if (home.size() == 3) kill(s);
    return Fate::kPass;
  };
  cluster.heal();
  ASSERT_TRUE(until([&] { return !cluster.up(s); }, 60s)) << world.trace().text("", 40);
  ASSERT_EQ(home, (std::set<std::size_t>{a, b, c}));
  come_back(s);
}

TEST_P(CrashStandIn, RightAfterTheDrop) {
  ASSERT_NO_FATAL_FAILURE(say_to_a_stand_in());
  ASSERT_FALSE(cluster.store(s).hints().empty());
  cluster.heal();
  ASSERT_TRUE(until([&] { return cluster.store(s).hints().empty(); }, 60s)) << world.trace().text("", 40);
  cluster.crash(s, kind());
  come_back(s);
}

}  // namespace
}  // namespace starling::sim
