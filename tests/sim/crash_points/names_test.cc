// Crash points of a name. a proposes @new, which all three own; an acceptor (or a itself) dies at a step of the vote.
// Whatever was chosen stays so, over the loss of everybody's power: of two who want the name one has it.
#include "overlay/ring/paxos_wire.h"
#include "tests/sim/crash_points/crash_points.h"

namespace starling::sim {
namespace {

using overlay::PaxosKind;

class CrashNames : public CrashPoint {
 protected:
  static constexpr std::uint64_t kFirst = 1001, kRival = 2002;
  static constexpr const char* kName = "@new";

  [[nodiscard]] static bool is_vote(const TapMessage& m, PaxosKind kind) {
    if (m.method != Method::kPaxos) return false;
    const auto request = overlay::decode_paxos_request(m.body);
    return request && request->kind == kind && request->instance.data.ends_with(kName);
  }
  [[nodiscard]] static bool is_granted(const Result<Bytes>& answer) {
    if (!answer) return false;
    const auto response = overlay::decode_paxos_response(*answer);
    return response && response->verdict == overlay::Verdict::kGranted;
  }
  void begin(std::size_t at, std::uint64_t nonce) {
    cluster.ask(at, "user.add", {{"users", {{{"name", kName}, {"nonce", nonce}}}}}, [](Result<Json>) {});
  }
  // What who asks under this number is told in the end: true, it is his; false, it exists.
  bool gets(std::size_t at, std::uint64_t nonce) {
    std::string why;
    for (int attempt = 0; attempt < 20; ++attempt) {
      const auto answer = cluster.admin(at, "user.add", {{"users", {{{"name", kName}, {"nonce", nonce}}}}});
      const Json result = answer ? answer->at("results")[0] : Json{{"error", {{"name", answer.error().text}}}};
      if (!result.contains("error")) return true;
      why = result.at("error").value("name", "?");
      if (why == "exists") return false;
      world.run_for(500ms);
    }
    ADD_FAILURE() << "nobody tells who has the name: " << why;
    return false;
  }
  // It dies and comes back; then the rival asks, then the first again.
  void come_back(std::size_t which) {
    ASSERT_NO_FATAL_FAILURE(revive(which));
    const bool rival = gets(c, kRival);
    EXPECT_NE(gets(a, kFirst), rival) << "one of the two has it";
    expect_registers();
    ASSERT_NO_FATAL_FAILURE(power_cut());
    EXPECT_EQ(gets(b, kRival), rival);
    EXPECT_EQ(gets(b, kFirst), !rival);
    EXPECT_EQ(cluster.fatal_errors(), 0u);
    finish();
  }
  // b dies with its answer to the first not on its disk; or with it there, and nobody has heard it.
  void lose_b_unsynced(PaxosKind kind) {
    tap.on_arrive = [this, kind](const TapMessage& m) {
      if (is_vote(m, kind) && m.to == b) kill_unsynced(b);
    };
    begin(a, kFirst);
    come_back(b);
  }
  void lose_b_before_its_word(PaxosKind kind) {
    tap.on_answer = [this, kind](const TapMessage& m, const Result<Bytes>& answer) {
      if (!is_vote(m, kind) || m.to != b || !is_granted(answer)) return Fate::kPass;
      kill(b);
      return Fate::kLose;
    };
    begin(a, kFirst);
    come_back(b);
  }
  void expect_registers() {
    ASSERT_TRUE(cluster.run_until_quiet(30s));
    for (const auto i : {a, b, c}) {
      for (const char* key : {"created", "account"}) {
        EXPECT_TRUE(cluster.store(i).find_register(mailbox_of(kName), key)) << i << " " << key;
      }
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Seeds, CrashNames, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(8)));

TEST_P(CrashNames, AnAcceptorWithItsPromiseNotSynced) { lose_b_unsynced(PaxosKind::kPrepare); }

TEST_P(CrashNames, AnAcceptorBetweenItsPromiseAndItsWord) { lose_b_before_its_word(PaxosKind::kPrepare); }

TEST_P(CrashNames, AnAcceptorWithItsVoteNotSynced) { lose_b_unsynced(PaxosKind::kAccept); }

TEST_P(CrashNames, AnAcceptorBetweenItsVoteAndItsWord) { lose_b_before_its_word(PaxosKind::kAccept); }

// It promised a ballot, lost its power, and is asked to vote in a lower one: what it says after that must not make two
// names of one. The rival's ballot is promised by b and c; the first's, which is lower, asks b again.
TEST_P(CrashNames, AnAcceptorKeepsItsPromiseOverALossOfPower) {
  bool held = false, promised = false;
  tap.on_leave = [&](const TapMessage& m) {
    if (m.from != a || !is_vote(m, PaxosKind::kAccept)) return Fate::kPass;
    held = true;
    return Fate::kHold;  // The first has its promises; its votes come later.
  };
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (m.from != c || !is_vote(m, PaxosKind::kPrepare) || m.to != b || !is_granted(answer)) return Fate::kPass;
    promised = true;
    return Fate::kPass;
  };
  begin(a, kFirst);
  ASSERT_TRUE(until([&] { return held; }));
  EXPECT_TRUE(gets(c, kRival));
  ASSERT_TRUE(promised);
  cluster.crash(b, Crash::kPower);
  ASSERT_TRUE(cluster.restart(b));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
  tap.clear();  // The votes of then arrive, late.
  EXPECT_FALSE(gets(a, kFirst));
  EXPECT_TRUE(gets(b, kRival));
  finish();
}

// Chosen by the first and b; c heard nothing. Both lose their power, and the rival comes to b and c alone.
TEST_P(CrashNames, BothWhoChoseItRightAfterTheirWord) {
  std::set<std::size_t> voted;
  tap.on_leave = [&](const TapMessage& m) {
    const bool to_c = m.method == Method::kPaxos && m.to == c && m.from == a;
    return to_c || m.method == Method::kWriteRegister ? Fate::kHold : Fate::kPass;
  };
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (!is_vote(m, PaxosKind::kAccept) || !is_granted(answer)) return Fate::kPass;
    voted.insert(m.to);
    return Fate::kHold;  // Nobody learns that it is chosen.
  };
  begin(a, kFirst);
  ASSERT_TRUE(until([&] { return voted == std::set<std::size_t>{a, b}; }));
  cluster.crash(a, Crash::kPower);
  cluster.crash(b, Crash::kPower);
  tap.clear();
  ASSERT_TRUE(cluster.restart(b));
  ASSERT_TRUE(until([&] { return cluster.node(b).serving(); }, 60s));
  EXPECT_FALSE(gets(c, kRival));
  ASSERT_TRUE(cluster.restart(a));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
  EXPECT_TRUE(gets(a, kFirst));
  expect_registers();
  finish();
}

// The name is decided and no register of it is written (hazards F24): what was chosen says all that they need.
TEST_P(CrashNames, TheProposerBetweenTheChoiceAndTheRegisters) {
  std::size_t votes = 0;
  tap.on_leave = [&](const TapMessage& m) {
    if (m.method != Method::kWriteRegister || m.from != a) return Fate::kPass;
    const auto request = unpack<node::WriteRegisterRequest>(m.body);
    if (!request || request->mailbox != mailbox_of(kName)) return Fate::kPass;
    kill(a);
    return Fate::kLose;
  };
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    votes += is_vote(m, PaxosKind::kAccept) && is_granted(answer);
    return Fate::kPass;
  };
  begin(a, kFirst);
  ASSERT_TRUE(until([&] { return !cluster.up(a); }));
  ASSERT_GE(votes, 2u);
  tap.clear();
  for (const auto i : {b, c}) ASSERT_FALSE(cluster.store(i).find_register(mailbox_of(kName), "created"));
  EXPECT_FALSE(gets(c, kRival));
  ASSERT_TRUE(cluster.restart(a));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
  expect_registers();
  EXPECT_TRUE(gets(b, kFirst));
  finish();
}

// One register of the two is written.
TEST_P(CrashNames, TheProposerBetweenTheRegisters) {
  std::set<std::string> keys;
  tap.on_leave = [&](const TapMessage& m) {
    if (m.method != Method::kWriteRegister || m.from != a) return Fate::kPass;
    const auto request = unpack<node::WriteRegisterRequest>(m.body);
    if (!request || request->mailbox != mailbox_of(kName)) return Fate::kPass;
    keys.insert(request->key);
    if (keys.size() < 2) return Fate::kPass;
    kill(a);
    return Fate::kLose;
  };
  begin(a, kFirst);
  ASSERT_TRUE(until([&] { return !cluster.up(a); }));
  ASSERT_EQ(keys.size(), 2u);
  tap.clear();
  EXPECT_FALSE(gets(c, kRival));
  ASSERT_TRUE(cluster.restart(a));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
  expect_registers();
  EXPECT_TRUE(gets(b, kFirst));
  finish();
}

}  // namespace
}  // namespace starling::sim
