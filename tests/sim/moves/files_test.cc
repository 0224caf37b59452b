// What a node gains by a change of the ring, stored by files (decision 0050): each interruption on purpose. By
// chance: `sim --moves` and `sim --joins`, where 32 changes are enough for files.
#include "tests/sim/moves/moves.h"
#include "tests/sim/world/metrics.h"

namespace starling::sim {
namespace {

// Something in half of the partitions.
class WithGroups : public Moves {
 protected:
  using Moves::Moves;
  void fill(int messages, std::size_t bytes, int groups = 8) {
    for (int g = 0; g < groups; ++g) {
      const std::string group = "#f" + std::to_string(g);
      ASSERT_TRUE(work.add_group(group, {"@alice", "@bob"}));
      SendIndex last = kUnsent;
      for (int i = 0; i < messages; ++i) last = alice->send(group, work.body(*alice, bytes));
      ASSERT_TRUE(acked(last));
    }
    ASSERT_TRUE(cluster.run_until_quiet(60s));
  }
};

// Of three nodes each owns everything; who joins gains three quarters of it.
class Files : public WithGroups {
 protected:
  Files() : WithGroups(3) {}
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Moves::SetUp());
    fill(20, 50);
  }
  // Asked by b; its disk is there from now on.
  std::size_t begin_join() {
    const auto joined = cluster.begin_join(b);
    EXPECT_TRUE(joined);
    (void)cluster.index_of("nobody");  // The tap knows them all.
    return *joined;
  }
  bool all_serve(Duration limit = 180s) {
    return until([&] { return cluster.all_serving(); }, limit);
  }
  [[nodiscard]] bool fetches(const TapMessage& m, std::size_t who) const {
    return m.method == Method::kFetch && m.from == who && m.to != who;
  }
};

INSTANTIATE_TEST_SUITE_P(Seeds, Files, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

TEST_P(Files, AJoinerFillsWhatItGainsWhileOthersWriteOn) {
  work.start();
  const auto d = begin_join();
  ASSERT_TRUE(all_serve());
  EXPECT_GT(cluster.disk(d).works(), 0u);
  say();
  work.stop();
  finish();
}

// At a moment when its files are about to be written, or have half been.
TEST_P(Files, AJoinerKilledMidwayBeginsAgainAndHasAll) {
  work.start();
  const auto d = begin_join();
  int crashes = 0;
  cluster.disk(d).on_work([&] {
    if (crashes < 3) cluster.crash(d, crashes % 2 == 0 ? Crash::kPower : Crash::kProcess);
  });
  for (; crashes < 3; ++crashes) {
    ASSERT_TRUE(until([&] { return !cluster.id(d).empty() && !cluster.up(d); }, 120s)) << crashes;
    world.run_for(1s);
    ASSERT_TRUE(cluster.restart(d));
  }
  ASSERT_TRUE(all_serve());
  EXPECT_GT(cluster.disk(d).works(), 0u);
  work.stop();
  finish();
}

// Stopped in order again and again, while runs come and while files are written: no run ends like a crash.
TEST_P(Files, AJoinerStoppedMidwayEndsCleanly) {
  work.start();
  ASSERT_TRUE(cluster.admin(b, "throttle", {{"rate", 64 << 10}}));  // So that there is a middle.
  const auto d = begin_join();
  for (const bool files : {false, false, true}) {
    std::size_t came = 0;
    bool writes = false;
    tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
      came += fetches(m, d) && answer ? 1 : 0;
      return Fate::kPass;
    };
    cluster.disk(d).on_work([&] { writes = true; });
    ASSERT_TRUE(until([&] { return files ? writes : came >= 2; }, 120s));
    ASSERT_TRUE(cluster.up(d) && !cluster.node(d).serving());
    cluster.disk(d).on_work(nullptr);
    cluster.disk(d).hold(true);
    world.after(files ? 500ms : 50ms, [&] { cluster.disk(d).hold(false); });
    ASSERT_TRUE(cluster.stop(d));
    ASSERT_TRUE(cluster.restart(d));
  }
  EXPECT_EQ(world.trace().text("not closed cleanly", 9), "");
  tap.clear();
  ASSERT_TRUE(cluster.admin(b, "throttle", {{"rate", 0}}));
  ASSERT_TRUE(all_serve());
  EXPECT_GT(cluster.disk(d).works(), 0u);
  work.stop();
  finish();
}

// Each of them dies when it has given something.
TEST_P(Files, ADonorKilledMidwayIsFollowedByAnother) {
  const auto d = begin_join();
  std::set<std::size_t> dead;
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (fetches(m, d) && answer && dead.empty()) {
      dead.insert(m.to);
      crash_soon(m.to, Crash::kPower);
    }
    return Fate::kPass;
  };
  ASSERT_TRUE(until([&] { return !dead.empty(); }, 120s));
  world.run_for(20s);
  EXPECT_GT(cluster.disk(d).works(), 0u) << "it did not wait for the dead one";
  for (const auto i : dead) ASSERT_TRUE(cluster.restart(i));
  ASSERT_TRUE(all_serve());
  say();
  finish();
}

// Of one donor every answer has a flipped bit: no record passes under its dot, and another one is asked.
TEST_P(Files, WhatAnOwnerGivesDamagedIsRefusedAndComesFromAnother) {
  const auto d = begin_join();
  std::size_t bent = 0;
  tap.alter_answer = [&](const TapMessage& m, Bytes& body) {
    if (!fetches(m, d) || m.to != c) return;
    auto range = unpack<storage::RangeStatement>(body);
    if (!range || range->live.empty()) return;
    range->live.back().change.data[20] ^= 1;
    body = pack(*range);
    ++bent;
  };
  ASSERT_TRUE(all_serve());
  EXPECT_GT(bent, 0u);
  EXPECT_GT(cluster.disk(d).works(), 0u);
  tap.clear();
  say();
  finish();
}

TEST_P(Files, AnAbortWhileFilesAreWrittenEndsTheJoinAndTheNextOneSucceeds) {
  const auto d = begin_join();
  bool aborted = false;
  cluster.disk(d).on_work([&] {
    if (std::exchange(aborted, true)) return;
    cluster.disk(d).hold(true);
    world.after(Duration(0), [&] { cluster.ask(b, "abort", Json::object(), [](const Result<Json>&) {}); });
    world.after(3s, [&] { cluster.disk(d).hold(false); });
  });
  ASSERT_TRUE(until([&] { return aborted; }, 60s));
  ASSERT_TRUE(until([&] { return cluster.retired(d); }, 60s));
  EXPECT_EQ(open_change(b), "");
  const auto e = begin_join();
  ASSERT_TRUE(all_serve());
  EXPECT_GT(cluster.disk(e).works(), 0u);
  say();
  finish();
}

TEST_P(Files, WithoutRoomForFilesItComesRunByRun) {
  const auto d = begin_join();
  cluster.disk(d).no_room_for_files(true);
  ASSERT_TRUE(all_serve());
  EXPECT_EQ(cluster.disk(d).works(), 0u);
  say();
  finish();
}

// Nothing is fetched while it is paused, be it in the middle.
TEST_P(Files, APauseHoldsAndAResumeGoesOn) {
  ASSERT_TRUE(cluster.admin(b, "throttle", {{"rate", 64 << 10}}));  // So that there is a middle.
  const auto d = begin_join();
  std::size_t came = 0, late = 0;
  bool paused = false;
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (fetches(m, d) && answer && ++came == 3) {
      world.after(Duration(0), [&] {
        cluster.ask(d, "pause", Json::object(), [&](const Result<Json>&) { paused = true; });
      });
    }
    return Fate::kPass;
  };
  ASSERT_TRUE(until([&] { return paused; }, 120s));
  world.run_for(2s);  // Those under way.
  tap.on_leave = [&](const TapMessage& m) {
    late += fetches(m, d) ? 1 : 0;
    return Fate::kPass;
  };
  world.run_for(10s);
  EXPECT_EQ(late, 0u);
  EXPECT_FALSE(cluster.node(d).serving());
  tap.clear();
  ASSERT_TRUE(cluster.admin(b, "throttle", {{"rate", 0}}));
  ASSERT_TRUE(cluster.admin(b, "resume", Json::object()));
  ASSERT_TRUE(all_serve());
  EXPECT_GT(cluster.disk(d).works(), 0u);
  finish();
}

// More than one group of files: a crash costs what had gathered, not what was stored.
class FilesInGroups : public Files {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Moves::SetUp());
    fill(130, 50, 24);
  }
};
INSTANTIATE_TEST_SUITE_P(Seeds, FilesInGroups, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(3)));

TEST_P(FilesInGroups, WhatWasStoredBeforeACrashIsNotFetchedAgain) {
  ASSERT_TRUE(cluster.admin(b, "throttle", {{"rate", 64 << 10}}));  // So that there is a middle.
  const auto d = begin_join();
  std::set<std::pair<MailboxId, Dot>> came;
  std::size_t again = 0;
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (!fetches(m, d)) return Fate::kPass;
    for (const auto& change : carried(m, answer)) again += came.insert({change.mailbox, change.dot}).second ? 0 : 1;
    return Fate::kPass;
  };
  std::size_t stored = 0;
  for (int turn = 0; turn < 600 && stored == 0; ++turn, world.run_for(100ms)) {
    if (!came.empty()) stored = static_cast<std::size_t>(metrics_of(world, cluster, d)["starling_installed_changes_total"]);
  }
  ASSERT_GT(stored, 100u);
  world.run_for(1s);  // Its vectors are on disk, too; the next group takes longer.
  ASSERT_FALSE(cluster.node(d).serving());
  const std::size_t before = came.size();
  cluster.crash(d, GetParam() % 2 == 0 ? Crash::kPower : Crash::kProcess);
  ASSERT_TRUE(cluster.restart(d));
  ASSERT_TRUE(cluster.admin(b, "throttle", {{"rate", 0}}));
  ASSERT_TRUE(all_serve());
  EXPECT_GT(came.size(), before) << "nothing was left";
  EXPECT_LE(again, before - stored);
  say();
  finish();
}

// Four nodes, three copies: what a dead one had is gained by those who are there.
class FilesOfOwners : public WithGroups {
 protected:
  FilesOfOwners() : WithGroups(4) {}
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Moves::SetUp());
    fill(60, 30'000);
  }
};
INSTANTIATE_TEST_SUITE_P(Seeds, FilesOfOwners, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(3)));

// What it only gains so far may take hours. It returns with what it owns.
TEST_P(FilesOfOwners, AGainingOwnerThatWasAwayServesBeforeItsFilesAreThere) {
  const std::size_t dead = other_than({a, b, c});
  cluster.crash(dead, Crash::kPower);
  believes_dead(b, dead);
  ASSERT_TRUE(cluster.admin(b, "throttle", {{"rate", 64 << 10}}));  // Minutes for all of it.
  ASSERT_TRUE(change(b, "remove", {dead}));
  bool fetches = false;
  tap.on_leave = [&](const TapMessage& m) {
    fetches = fetches || (m.method == Method::kFetch && m.from == a && m.to != a);
    return Fate::kPass;
  };
  ASSERT_TRUE(until([&] { return fetches; }, 60s));
  cluster.pause(a);
  believes_dead(b, a);
  cluster.resume(a);
  ASSERT_TRUE(until([&] { return !cluster.node(a).serving(); }, 10s)) << "it did not notice";
  EXPECT_TRUE(until([&] { return cluster.node(a).serving(); }, 8s));
  EXPECT_NE(open_change(b), "") << "nothing was left to gain";
  ASSERT_TRUE(cluster.admin(b, "throttle", {{"rate", 0}}));
  EXPECT_TRUE(comes_to(dead, "removed", b));
  cluster.retire(dead);
  say();
  finish();
}

}  // namespace
}  // namespace starling::sim
