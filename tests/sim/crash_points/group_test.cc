// Crash points of the write path of a group.
//
// The steps of a message to #g, which a coordinates and b and c copy: a appends it and syncs while the
// change is on its way; b and c apply and sync it, and say so; a answers the gateway. Each case stops at
// one step, asserts what exists where, cuts the power (or kills the process: odd and even seeds), and
// leaves the judgement to the checkers. Steps inside of RocksDB: StorePowerLoss in tests/storage.
#include "tests/sim/crash_points/crash_points.h"

namespace starling::sim {
namespace {

class CrashPoints : public CrashPoint {
 protected:
  // Alice and Bob write through c, which outlives every case.
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Hazards::SetUp());
    start(*alice, c);
    start(*bob, c);
    start(*bob2, b);
    ASSERT_TRUE(acked(send(*alice)));
    world.run_for(1s);
  }
  [[nodiscard]] bool is_change(const TapMessage& m, Method method, std::size_t from) {
    return m.method == method && m.from == from && find(m, message).has_value();
  }
  // What the change became, once it left a.
  void note(const TapMessage& m) {
    if (auto seen = find(m, message); seen && m.method == Method::kReplicate) change = seen;
  }
  // `which` is dead by now; it comes back, the sender has its ack, and every device one message.
  void come_back(std::size_t which) {
    ASSERT_TRUE(until([&] { return !cluster.up(which); }, 30s)) << world.trace().text("", 40);
    tap.clear();
    cluster.disk(which).on_commit(nullptr);
    cluster.disk(which).hold(false);
    world.run_for(3s);
    ASSERT_TRUE(cluster.restart(which));
    EXPECT_TRUE(acked(message)) << world.trace().text("", 60);
    start(*alice2, which);
    EXPECT_TRUE(until([&] { return shown(*alice2, message) == 1 && shown(*bob2, message) == 1; }, 60s));
    finish();
  }

  SendIndex message = kUnsent;
  std::optional<Carried> change;
};

INSTANTIATE_TEST_SUITE_P(Seeds, CrashPoints, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(10)));

TEST_P(CrashPoints, TheCoordinatorBeforeItsSyncAndBeforeAnybodyHasACopy) {
  cluster.disk(a).hold(true);
  tap.on_leave = [&](const TapMessage& m) {
    note(m);
    if (!is_change(m, Method::kReplicate, a)) return Fate::kPass;
    crash_soon(a, kind());
    return Fate::kLose;
  };
  message = send(*alice);
  ASSERT_TRUE(until([&] { return !cluster.up(a); }));
  ASSERT_TRUE(change);
  EXPECT_LT(synced(b, change->dot), change->dot.n);
  EXPECT_LT(synced(c, change->dot), change->dot.n);
  ASSERT_FALSE(is_acked(message));
  come_back(a);
}

TEST_P(CrashPoints, TheCoordinatorAfterItsSyncAndBeforeAnybodyHasACopy) {
  tap.on_leave = [&](const TapMessage& m) {
    note(m);
    return is_change(m, Method::kReplicate, a) ? Fate::kLose : Fate::kPass;
  };
  message = send(*alice);
  ASSERT_TRUE(until([&] { return change && synced(a, change->dot) >= change->dot.n; }));
  EXPECT_LT(synced(b, change->dot), change->dot.n);
  EXPECT_LT(synced(c, change->dot), change->dot.n);
  ASSERT_FALSE(is_acked(message)) << "one copy is no quorum";
  cluster.crash(a, kind());
  come_back(a);
}

TEST_P(CrashPoints, TheCoordinatorBeforeItsSyncWhenOneCopyIsMade) {
  cluster.disk(a).hold(true);
  tap.on_leave = [&](const TapMessage& m) {
    note(m);
    const bool to_c = is_change(m, Method::kReplicate, a) && m.to == c;
    return to_c ? Fate::kLose : Fate::kPass;
  };
  message = send(*alice);
  ASSERT_TRUE(until([&] { return change && synced(b, change->dot) >= change->dot.n; }));
  ASSERT_FALSE(is_acked(message));
  cluster.crash(a, kind());
  come_back(a);
}

TEST_P(CrashPoints, TheCoordinatorWhenACopyArrives) {
  tap.on_leave = [&](const TapMessage& m) {
    note(m);
    return Fate::kPass;
  };
  tap.on_arrive = [&](const TapMessage& m) {
    if (is_change(m, Method::kReplicate, a)) crash_soon(a, kind());
  };
  message = send(*alice);
  ASSERT_TRUE(until([&] { return !cluster.up(a); }));
  come_back(a);
}

TEST_P(CrashPoints, TheCoordinatorBetweenTheQuorumAndItsAnswer) {
  bool answered = false;
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (!appends(m, message) || m.to != a || !answer) return Fate::kPass;
    answered = true;
    crash_soon(a, kind());
    return Fate::kLose;
  };
  message = send(*alice);
  ASSERT_TRUE(until([&] { return !cluster.up(a); }));
  ASSERT_TRUE(answered);
  ASSERT_FALSE(is_acked(message)) << "the client has not heard of it";
  come_back(a);
}

TEST_P(CrashPoints, AReplicaWithTheChangeAppliedAndNotSynced) {
  tap.on_arrive = [&](const TapMessage& m) {
    if (!is_change(m, Method::kReplicate, a) || m.to != b) return;
    change = find(m, message);
    cluster.disk(b).hold(true);
    crash_soon(b, kind());
  };
  message = send(*alice);
  ASSERT_TRUE(until([&] { return !cluster.up(b); }));
  ASSERT_TRUE(change);
  come_back(b);
}

TEST_P(CrashPoints, AReplicaAsItsCommitReachesTheDisk) {
  bool armed = false;
  tap.on_arrive = [&](const TapMessage& m) {
    if (!is_change(m, Method::kReplicate, a) || m.to != b || armed) return;
    armed = true;
    // The disk has of it what chance decides: nothing, a torn record, or all.
    cluster.disk(b).on_commit([&](std::uint64_t) {
      cluster.disk(b).on_commit(nullptr);
      cluster.crash(b, kind());
    });
  };
  message = send(*alice);
  ASSERT_TRUE(until([&] { return !cluster.up(b); }));
  ASSERT_TRUE(armed);
  come_back(b);
}

TEST_P(CrashPoints, AReplicaBetweenItsSyncAndItsWord) {
  bool about_to_say = false;
  tap.on_arrive = [&](const TapMessage& m) {
    if (is_change(m, Method::kReplicate, a) && m.to == b) change = find(m, message);
  };
  tap.on_leave = [&](const TapMessage& m) {
    if (m.method != Method::kReplicated || m.from != b || m.to != a || !change) return Fate::kPass;
    about_to_say = true;
    crash_soon(b, kind());
    return Fate::kLose;
  };
  message = send(*alice);
  ASSERT_TRUE(until([&] { return !cluster.up(b); }));
  ASSERT_TRUE(about_to_say);
  come_back(b);
}

// The promise itself is at stake only here: after the ack, with the power of all three gone at once.
TEST_P(CrashPoints, AllOwnersAtOnceRightAfterTheAck) {
  message = send(*alice);
  ASSERT_TRUE(acked(message));
  for (const auto node : {a, b, c}) cluster.crash(node, Crash::kPower);
  for (const auto node : {c, a, b}) ASSERT_TRUE(cluster.restart(node));
  start(*alice2, b);
  EXPECT_TRUE(until([&] { return shown(*alice2, message) == 1; }, 90s));
  finish();
}

}  // namespace
}  // namespace starling::sim
