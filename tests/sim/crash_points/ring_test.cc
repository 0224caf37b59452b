// Crash points of a ring version: its vote, and its adoption. b asks for another weight of c; a voter, or b, dies at a
// step. Whatever the operator was told, all nodes come to one version, and go on accepting.
#include "overlay/ring/paxos_wire.h"
#include "tests/sim/crash_points/crash_points.h"
#include "tests/sim/moves/moves.h"

namespace starling::sim {
namespace {

using overlay::PaxosKind;

class CrashRing : public CrashPointOf<Moves> {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Moves::SetUp());
    before = number(b);
  }
  [[nodiscard]] static bool is_vote(const TapMessage& m, PaxosKind kind) {
    if (m.method != Method::kPaxos) return false;
    const auto request = overlay::decode_paxos_request(m.body);
    return request && request->kind == kind && request->instance.data.starts_with("ring");
  }
  [[nodiscard]] static bool is_granted(const Result<Bytes>& answer) {
    if (!answer) return false;
    const auto response = overlay::decode_paxos_response(*answer);
    return response && response->verdict == overlay::Verdict::kGranted;
  }
  void begin() {
    cluster.ask(b, "weight", {{"nodes", {cluster.id(c)}}, {"weight", 300}},
                [this](Result<Json> answer) { told = answer.ok(); });
  }
  std::uint64_t number(std::size_t i) {
    const auto ring = cluster.admin(i, "ring", Json::object());
    return ring ? ring->at("number").get<std::uint64_t>() : 0;
  }
  void come_back(std::size_t which) {
    ASSERT_NO_FATAL_FAILURE(revive(which));
    agree();
  }
  // All are at one version, the change is closed, and done if the operator was told so.
  void agree() {
    const auto one = [&] {
      std::set<std::string> rings;
      for (std::size_t i = 0; i < cluster.size(); ++i) {
        const auto ring = cluster.admin(i, "ring", Json::object());
        if (!ring || ring->at("change") != "") return false;
        rings.insert(Json{ring->at("number"), ring->at("members"), ring->at("lineage")}.dump());
      }
      return rings.size() == 1;
    };
    bool agreed = one();
    for (int turn = 0; turn < 300 && !agreed; ++turn, agreed = one()) world.run_for(200ms);
    EXPECT_TRUE(agreed) << world.trace().text("", 60);
    if (told) {
      EXPECT_GE(number(a), before + 1);
    }
    EXPECT_EQ(cluster.fatal_errors(), 0u);
    say();
    finish();
  }

  std::uint64_t before = 0;
  bool told = false;
};

INSTANTIATE_TEST_SUITE_P(Seeds, CrashRing, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(8)));

TEST_P(CrashRing, AVoterWithItsPromiseNotSynced) {
  tap.on_arrive = [&](const TapMessage& m) {
    if (is_vote(m, PaxosKind::kPrepare) && m.to == a) kill_unsynced(a);
  };
  begin();
  come_back(a);
}

TEST_P(CrashRing, AVoterWithItsVoteNotSynced) {
  tap.on_arrive = [&](const TapMessage& m) {
    if (is_vote(m, PaxosKind::kAccept) && m.to == a) kill_unsynced(a);
  };
  begin();
  come_back(a);
}

TEST_P(CrashRing, AVoterBetweenItsVoteAndItsWord) {
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (!is_vote(m, PaxosKind::kAccept) || m.to != a || !is_granted(answer)) return Fate::kPass;
    kill(a);
    return Fate::kLose;
  };
  begin();
  come_back(a);
}

TEST_P(CrashRing, WhoProposedItWithTheVotesOfAMajority) {
  std::set<std::size_t> voted;
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (m.from != b || !is_vote(m, PaxosKind::kAccept) || !is_granted(answer)) return Fate::kPass;
    voted.insert(m.to);
    if (voted.size() < 3) return Fate::kPass;
    kill(b);
    return Fate::kHold;  // It does not learn that it is decided.
  };
  begin();
  ASSERT_TRUE(until([&] { return !cluster.up(b); }));
  come_back(b);
  EXPECT_FALSE(told);
}

TEST_P(CrashRing, AMemberWithTheVersionAdoptedAndNotSynced) {
  tap.on_arrive = [&](const TapMessage& m) {
    if (m.method == Method::kRingDecided && m.to == a && m.from != a) kill_unsynced(a);
  };
  begin();
  come_back(a);
}

TEST_P(CrashRing, AMemberRightAfterItAdoptedTheVersion) {
  begin();
  std::uint64_t at = before;
  for (int turn = 0; turn < 400 && at == before; ++turn, at = number(a)) world.run_for(5ms);
  ASSERT_GT(at, before);
  cluster.crash(a, kind());
  come_back(a);
}

// What the operator was told is decided, whoever loses the power then.
TEST_P(CrashRing, AllAtOnceRightAfterTheOperatorWasTold) {
  begin();
  ASSERT_TRUE(until([&] { return told; }));
  ASSERT_NO_FATAL_FAILURE(power_cut());
  for (std::size_t i = 0; i < cluster.size(); ++i) EXPECT_GE(number(i), before) << i;
  agree();
}

}  // namespace
}  // namespace starling::sim
