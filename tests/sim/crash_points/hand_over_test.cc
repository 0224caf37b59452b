// Crash points of a hand-over (architecture invariant 6). A fourth node joins; an owner that is none any more closes its
// partitions, asks every owner whether it has synced all that the final vector names, and drops them. It, or the new
// owner, dies at a step. What was acknowledged stays at every owner.
#include "tests/sim/crash_points/crash_points.h"

namespace starling::sim {
namespace {

class CrashHandOver : public CrashPoint {
 protected:
  static constexpr std::size_t kNew = 3, kNone = ~std::size_t{0};

  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(CrashPoint::SetUp());
    start(*alice, a);
    start(*bob, b);
    for (int n = 0; n < 12; ++n) {
      const std::string group = "#g" + std::to_string(n);
      ASSERT_TRUE(work.add_group(group, {"@alice", "@bob"}));
      ASSERT_TRUE(acked(send(*alice, group)));
    }
    ASSERT_TRUE(cluster.run_until_quiet(30s));
  }
  // The question of who closed partitions, to an owner.
  [[nodiscard]] static bool is_fence(const TapMessage& m) {
    if (m.method != Method::kCompare || m.from == kNew) return false;
    const auto request = unpack<node::CompareRequest>(m.body);
    return request && request->all;
  }
  void join() { ASSERT_TRUE(cluster.begin_join(c)); }
  // Partitions held and not owned.
  std::size_t left_over() {
    const auto table = cluster.owner_table(a);
    std::size_t count = table.empty() ? 1 : 0;
    for (std::size_t i = 0; i < cluster.size(); ++i) {
      for (const auto& [partition, vector] : cluster.vectors(i)) {
        const auto& owners = table.at(partition);
        count += !vector.empty() && std::find(owners.begin(), owners.end(), i) == owners.end();
      }
    }
    return count;
  }
  void come_back(std::size_t which) {
    ASSERT_NO_FATAL_FAILURE(revive(which));
    for (int turn = 0; turn < 300 && left_over() > 0; ++turn) world.run_for(200ms);
    EXPECT_EQ(left_over(), 0u);
    finish();
  }

  std::size_t leaver = kNone;
};

INSTANTIATE_TEST_SUITE_P(Seeds, CrashHandOver, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(8)));

TEST_P(CrashHandOver, TheLeaverAfterItClosed) {
  tap.on_leave = [&](const TapMessage& m) {
    if (!is_fence(m) || leaver != kNone) return Fate::kPass;
    leaver = m.from;
    kill(leaver);
    return Fate::kLose;
  };
  join();
  ASSERT_TRUE(until([&] { return leaver != kNone; }, 120s));
  come_back(leaver);
}

TEST_P(CrashHandOver, TheLeaverBetweenTheLastAnswerAndTheDrop) {
  std::map<std::size_t, std::set<std::size_t>> answered;
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (!is_fence(m) || !answer || leaver != kNone) return Fate::kPass;
    answered[m.from].insert(m.to);
    if (answered[m.from].size() < 3) return Fate::kPass;  // Of four nodes all the others are owners of something.
    leaver = m.from;
    kill_unsynced(leaver);  // The drop itself is made, and does not come to its disk.
    return Fate::kPass;
  };
  join();
  ASSERT_TRUE(until([&] { return leaver != kNone; }, 120s));
  come_back(leaver);
}

TEST_P(CrashHandOver, TheLeaverRightAfterTheDrop) {
  // The first that has fewer partitions than before.
  std::map<std::size_t, std::size_t> held;
  const auto dropped = [&] {
    for (std::size_t i = 0; i < kNew && leaver == kNone; ++i) {
      const std::size_t now = cluster.store(i).touched().size();
      if (now < held[i]) leaver = i;
      held[i] = std::max(held[i], now);
    }
    return leaver != kNone;
  };
  ASSERT_FALSE(dropped());
  join();
  ASSERT_TRUE(until(dropped, 120s));
  cluster.crash(leaver, kind());
  come_back(leaver);
}

// It says that it has synced everything, the leaver drops, and its power is gone.
TEST_P(CrashHandOver, TheNewOwnerRightAfterItSaidThatItHasAll) {
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (!is_fence(m) || m.to != kNew || !answer || leaver != kNone) return Fate::kPass;
    leaver = m.from;
    world.after(Duration(0), [&] { cluster.crash(kNew, Crash::kPower); });
    return Fate::kPass;
  };
  join();
  ASSERT_TRUE(until([&] { return leaver != kNone && !cluster.up(kNew); }, 120s));
  come_back(kNew);
}

// A change that the leaver alone has: the new owners are asked to fetch it, and one dies with it not synced.
class CrashBringHome : public CrashHandOver {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(CrashHandOver::SetUp());
    tap.on_leave = [this](const TapMessage& m) {
      const bool told = m.from == a && (m.method == Method::kReplicate || m.method == Method::kHint);
      const bool fetched = m.to == a && m.from != a && m.method == Method::kFetch && cluster.size() == 3;
      return told || fetched ? Fate::kLose : Fate::kPass;
    };
    only = send(*alice);
    world.run_for(500ms);
  }
  SendIndex only = kUnsent;
};

INSTANTIATE_TEST_SUITE_P(Seeds, CrashBringHome, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(8)));

TEST_P(CrashBringHome, WhoFetchesFromTheLeaverWithItNotSynced) {
  std::size_t owner = kNone;
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    const bool came = m.method == Method::kFetch && m.to == a && find(carried(m, answer), only).has_value();
    if (!came || owner != kNone) return Fate::kPass;
    owner = m.from;
    kill_unsynced(owner);
    return Fate::kPass;
  };
  join();
  ASSERT_TRUE(until([&] { return owner != kNone; }, 120s));
  come_back(owner);
  EXPECT_TRUE(is_acked(only));
}

TEST_P(CrashBringHome, TheWriterAsItIsFetchedFrom) {
  tap.on_arrive = [&](const TapMessage& m) {
    if (m.method != Method::kFetch || m.to != a || m.from == a) return;
    const auto fetch = unpack<node::FetchRequest>(m.body);
    if (!fetch || fetch->partition != partition || fetch->writer != cluster.writer(a)) return;
    leaver = a;
    kill(a);
  };
  join();
  ASSERT_TRUE(until([&] { return leaver != kNone; }, 120s));
  come_back(a);
  EXPECT_TRUE(is_acked(only));
}

}  // namespace
}  // namespace starling::sim
