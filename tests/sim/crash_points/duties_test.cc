// Crash points of a register that implies another (hazards F24). @carol becomes a member of #g, which a coordinates; so
// #g comes into her own list, which y coordinates. One of the two dies at a step; then either both say so or neither,
// and when the operator asks once more both do.
#include "tests/sim/crash_points/crash_points.h"

namespace starling::sim {
namespace {

class CrashDuties : public CrashPoint {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(CrashPoint::SetUp());
    for (int i = 0; carol.empty() && i < 40; ++i) {
      const std::string user = "@v" + std::to_string(i);
      ASSERT_TRUE(work.add_user(user));
      y = cluster.owners_of(user)[0];
      if (y != a && partition_of(slot_of(mailbox_of(user)), options.partitions) != partition) carol = user;
    }
    ASSERT_FALSE(carol.empty());
    gate = 3 - a - y;
    ASSERT_TRUE(cluster.run_until_quiet(30s));
  }
  void begin() {
    cluster.ask(gate, "group.add", {{"group", "#g"}, {"members", {carol}}}, [](Result<Json>) {});
  }
  // The member register of #g on its way to a copy; the register of her list to y.
  [[nodiscard]] bool is_member(const TapMessage& m) const {
    if (m.method != Method::kReplicate || m.from != a) return false;
    const auto changes = carried(m);
    return std::any_of(changes.begin(), changes.end(), [](const Carried& change) {
      return change.kind == storage::ChangeKind::kRegister && change.mailbox == mailbox_of("#g");
    });
  }
  [[nodiscard]] bool is_duty(const TapMessage& m) const {
    if (m.method != Method::kWriteRegister) return false;
    const auto request = unpack<node::WriteRegisterRequest>(m.body);
    return request && request->mailbox == mailbox_of(carol) && request->key == "group/#g";
  }
  std::pair<bool, bool> stands(std::size_t i) {
    return {cluster.store(i).find_register(mailbox_of("#g"), "member/" + carol).has_value(),
            cluster.store(i).find_register(mailbox_of(carol), "group/#g").has_value()};
  }
  void come_back(std::size_t which) {
    ASSERT_NO_FATAL_FAILURE(revive(which));
    ASSERT_TRUE(cluster.run_until_quiet(60s));
    for (const auto i : {a, b, c}) {
      const auto [member, listed] = stands(i);
      EXPECT_EQ(member, listed) << i;
    }
    const auto answer = cluster.admin(gate, "group.add", {{"group", "#g"}, {"members", {carol}}});
    ASSERT_TRUE(answer);
    EXPECT_FALSE(answer->at("results")[0].contains("error")) << *answer;
    ASSERT_TRUE(cluster.run_until_quiet(60s));
    for (const auto i : {a, b, c}) EXPECT_EQ(stands(i), std::pair(true, true)) << i;
    finish();
  }

  std::string carol;
  std::size_t y = 0, gate = 0;
  bool came = false;
};

INSTANTIATE_TEST_SUITE_P(Seeds, CrashDuties, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(8)));

TEST_P(CrashDuties, TheGroupsCoordinatorBeforeItsSync) {
  cluster.disk(a).hold(true);
  tap.on_leave = [&](const TapMessage& m) {
    if (!is_member(m)) return Fate::kPass;
    kill(a);
    return Fate::kLose;
  };
  begin();
  come_back(a);
}

TEST_P(CrashDuties, TheGroupsCoordinatorAfterItsSyncAndBeforeAnybodyHasACopy) {
  tap.on_leave = [&](const TapMessage& m) {
    if (is_duty(m)) return Fate::kHold;
    if (!is_member(m)) return Fate::kPass;
    came = true;
    return Fate::kLose;
  };
  begin();
  ASSERT_TRUE(until([&] { return came; }));
  ASSERT_TRUE(until([&] {
    return !cluster.store(a).scan_registers(mailbox_of("#g"), "member/" + carol, "", 1).empty();
  }));
  cluster.crash(a, kind());
  come_back(a);
}

TEST_P(CrashDuties, TheGroupsCoordinatorAsTheDutyLeaves) {
  tap.on_leave = [&](const TapMessage& m) {
    if (!is_duty(m) || m.from != a) return Fate::kPass;
    kill(a);
    return Fate::kLose;
  };
  begin();
  come_back(a);
}

TEST_P(CrashDuties, TheGroupsCoordinatorAsTheDutyArrives) {
  tap.on_arrive = [&](const TapMessage& m) {
    if (is_duty(m) && m.from == a && m.to == y) kill(a);
  };
  begin();
  come_back(a);
}

// The duty is met; that it is is not written down yet.
TEST_P(CrashDuties, TheGroupsCoordinatorAsItHearsThatTheDutyIsMet) {
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (is_duty(m) && m.from == a && answer) kill_unsynced(a);
    return Fate::kPass;
  };
  begin();
  come_back(a);
}

TEST_P(CrashDuties, TheListsCoordinatorWithItNotSynced) {
  tap.on_arrive = [&](const TapMessage& m) {
    if (is_duty(m) && m.to == y) kill_unsynced(y);
  };
  begin();
  come_back(y);
}

TEST_P(CrashDuties, TheListsCoordinatorBetweenTheQuorumAndItsAnswer) {
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (!is_duty(m) || m.to != y || !answer) return Fate::kPass;
    kill(y);
    return Fate::kLose;
  };
  begin();
  come_back(y);
}

TEST_P(CrashDuties, AllAtOnceRightAfterTheOperatorWasTold) {
  const auto answer = cluster.admin(gate, "group.add", {{"group", "#g"}, {"members", {carol}}});
  ASSERT_TRUE(answer);
  ASSERT_FALSE(answer->at("results")[0].contains("error")) << *answer;
  ASSERT_NO_FATAL_FAILURE(power_cut());
  ASSERT_TRUE(cluster.run_until_quiet(60s));
  for (const auto i : {a, b, c}) EXPECT_EQ(stands(i), std::pair(true, true)) << i;
  finish();
}

}  // namespace
}  // namespace starling::sim
