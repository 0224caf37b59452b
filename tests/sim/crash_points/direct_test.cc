// Crash points of a direct message. It lies in two mailboxes: x coordinates the recipient's and mints it, y the
// sender's, which gets a copy with the same key and id. The third node carries the devices and outlives every case.
#include "tests/sim/crash_points/crash_points.h"

namespace starling::sim {
namespace {

class CrashDirect : public CrashPoint {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(CrashPoint::SetUp());
    y = cluster.owners_of("@alice")[0];
    for (int i = 0; to.empty() && i < 40; ++i) {
      const std::string user = "@v" + std::to_string(i);
      ASSERT_TRUE(work.add_user(user));
      x = cluster.owners_of(user)[0];
      if (x != y) to = user;
    }
    ASSERT_FALSE(to.empty());
    const std::size_t gate = 3 - x - y;
    carol = &work.add_device(to, "d0");
    for (SimDevice* device : {alice, alice2, carol}) start(*device, gate);
    ASSERT_TRUE(acked(send(*alice, to)));
    ASSERT_TRUE(cluster.run_until_quiet(30s));
  }
  // The send itself, to x, or the copy that x sends to y.
  [[nodiscard]] bool is_send(const TapMessage& m, bool copy) {
    if (!appends(m, message)) return false;
    const auto request = unpack<node::AppendRequest>(m.body);
    return request && ((request->flags & node::kAppendCopy) != 0) == copy;
  }
  [[nodiscard]] bool is_change(const TapMessage& m, std::size_t from) {
    return m.method == Method::kReplicate && m.from == from && find(m, message).has_value();
  }
  void come_back(std::size_t which) {
    ASSERT_NO_FATAL_FAILURE(revive(which));
    EXPECT_TRUE(acked(message)) << world.trace().text("", 60);
    EXPECT_TRUE(until([&] { return shown(*carol, message) == 1 && shown(*alice2, message) == 1; }, 60s));
    finish();
  }

  std::size_t x = 0, y = 0;
  std::string to;
  SimDevice* carol = nullptr;
  SendIndex message = kUnsent;
  bool came = false;
};

INSTANTIATE_TEST_SUITE_P(Seeds, CrashDirect, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(8)));

TEST_P(CrashDirect, TheRecipientsCoordinatorBeforeItsSync) {
  cluster.disk(x).hold(true);
  tap.on_leave = [&](const TapMessage& m) {
    if (!is_change(m, x)) return Fate::kPass;
    kill(x);
    return Fate::kLose;
  };
  message = send(*alice, to);
  come_back(x);
}

TEST_P(CrashDirect, TheRecipientsCoordinatorAsTheCopyLeaves) {
  tap.on_leave = [&](const TapMessage& m) {
    if (!is_send(m, true) || m.from != x) return Fate::kPass;
    kill(x);
    return Fate::kLose;
  };
  message = send(*alice, to);
  come_back(x);
}

TEST_P(CrashDirect, TheRecipientsCoordinatorAsTheCopyArrives) {
  tap.on_arrive = [&](const TapMessage& m) {
    if (is_send(m, true) && m.from == x && m.to == y) kill(x);
  };
  message = send(*alice, to);
  come_back(x);
}

// The copy is made, and what it is a copy of is not on the disk of who minted it.
TEST_P(CrashDirect, TheRecipientsCoordinatorAsItHearsThatTheCopyIsMade) {
  cluster.disk(x).hold(true);
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (!is_send(m, true) || m.from != x || !answer) return Fate::kPass;
    came = true;
    kill(x);
    return Fate::kPass;
  };
  message = send(*alice, to);
  ASSERT_TRUE(until([&] { return came; }));
  come_back(x);
}

TEST_P(CrashDirect, TheRecipientsCoordinatorBetweenBothQuorumsAndItsAnswer) {
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (!is_send(m, false) || m.to != x || !answer) return Fate::kPass;
    came = true;
    kill(x);
    return Fate::kLose;
  };
  message = send(*alice, to);
  ASSERT_TRUE(until([&] { return came; }));
  ASSERT_FALSE(is_acked(message)) << "the client has not heard of it";
  come_back(x);
}

TEST_P(CrashDirect, TheSendersCoordinatorWithTheCopyNotSynced) {
  tap.on_arrive = [&](const TapMessage& m) {
    if (is_send(m, true) && m.to == y) kill_unsynced(y);
  };
  message = send(*alice, to);
  come_back(y);
}

TEST_P(CrashDirect, TheSendersCoordinatorBeforeAnybodyElseHasTheCopy) {
  tap.on_leave = [&](const TapMessage& m) {
    const auto change = m.method == Method::kReplicate && m.from == y ? find(m, message) : std::nullopt;
    if (!change || change->mailbox != mailbox_of("@alice")) return Fate::kPass;
    kill(y);
    return Fate::kLose;
  };
  message = send(*alice, to);
  come_back(y);
}

TEST_P(CrashDirect, TheSendersCoordinatorBetweenTheCopysQuorumAndItsAnswer) {
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (!is_send(m, true) || m.to != y || !answer) return Fate::kPass;
    kill(y);
    return Fate::kLose;
  };
  message = send(*alice, to);
  come_back(y);
}

TEST_P(CrashDirect, AllOwnersAtOnceRightAfterTheAck) {
  message = send(*alice, to);
  ASSERT_TRUE(acked(message));
  ASSERT_NO_FATAL_FAILURE(power_cut());
  EXPECT_TRUE(until([&] { return shown(*carol, message) == 1 && shown(*alice2, message) == 1; }, 90s));
  finish();
}

}  // namespace
}  // namespace starling::sim
