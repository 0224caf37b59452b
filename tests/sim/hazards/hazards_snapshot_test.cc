// Hazard F3, of machines that are put back: a folder of an earlier moment under a node that wrote since. hazards.h says
// how. Backups and what finds a reused writer: backup_test.cc.
#include "tests/sim/hazards/hazards.h"

namespace starling::sim {
namespace {

// Of five nodes a, b and c own #g; the others can stand in.
class Snapshots : public Hazards {
 protected:
  Snapshots() : Hazards(5) {}
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Hazards::SetUp());
    for (std::size_t i = 0; i < cluster.size(); ++i) {
      if (i != b && i != c) with_a.push_back(i);
    }
    start(*alice, b);
    start(*bob, c);
    say(3);
  }
  void say(int count) {
    for (int i = 0; i < count; ++i) {
      said.push_back(send(*alice));
      ASSERT_TRUE(acked(said.back()));
    }
  }
  SimDisk::Folder copy_of_a() { return cluster.disk(a).copy(cluster.folder(a)); }
  void restart_a() {
    ASSERT_TRUE(cluster.restart(a));
    ASSERT_TRUE(until([&] { return cluster.all_serving() && sees_all_owners(b); }, 120s));
  }
  void expect_all_shown() {
    start(*bob2, a);
    for (const auto i : said) EXPECT_TRUE(until([&] { return shown(*bob2, i) == 1; }, 60s)) << i;
  }

  std::vector<std::size_t> with_a;
  std::vector<SendIndex> said;
};

INSTANTIATE_TEST_SUITE_P(Seeds, Snapshots, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(6)));

// The disk as it was at some moment of a run: that run did not end in order, so its writer is over.
TEST_P(Snapshots, F03_OfARunningMachineMakesNoDotTwice) {
  cluster.crash(a, Crash::kPower);
  const auto folder = copy_of_a();
  const WriterId before = cluster.writer(a);
  restart_a();
  say(3);
  cluster.crash(a, Crash::kProcess);
  cluster.disk(a).put_back(cluster.folder(a), folder);
  restart_a();
  EXPECT_NE(cluster.writer(a), before);
  say(3);
  expect_all_shown();
  finish();
}

// The disk as a clean stop left it, with the mark that the writer may be kept, under a machine that wrote since. Who knows
// what it wrote is out of reach: a stand-in would be enough for an acknowledgement.
TEST_P(Snapshots, F03_OfACleanStopMakesNoDotTwiceWhereNobodyKnowsWhatItWrote) {
  start(*alice2, with_a[0] == a ? with_a[1] : with_a[0]);
  ASSERT_TRUE(cluster.stop(a));
  const auto folder = copy_of_a();
  restart_a();
  std::optional<Carried> wrote;
  tap.on_leave = [&](const TapMessage& m) {
    if (m.method == Method::kReplicate && m.from == a && !wrote && !said.empty()) wrote = find(m, said.back());
    return Fate::kPass;
  };
  for (int i = 0; i < 40 && !wrote; ++i, world.run_for(100ms)) say(1);
  ASSERT_TRUE(wrote) << "a coordinated nothing since";
  tap.clear();
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  cluster.crash(a, Crash::kProcess);
  cluster.disk(a).put_back(cluster.folder(a), folder);
  cluster.partition({with_a, {b, c}});
  ASSERT_TRUE(cluster.restart(a));
  std::optional<Carried> again;
  SendIndex late = kUnsent;
  tap.on_leave = [&](const TapMessage& m) {
    const bool leaves = m.from == a && (m.method == Method::kHint || m.method == Method::kReplicate);
    if (auto change = find(m, late); leaves && change && !again) again = change;
    return Fate::kPass;
  };
  late = send(*alice2);
  ASSERT_TRUE(acked(late, 90s)) << world.trace().text("", 60);
  ASSERT_TRUE(again) << "a did not coordinate it";
  EXPECT_NE(again->dot.writer, wrote->dot.writer) << "the number " << again->dot.n << " may be taken";
  cluster.heal();
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 120s));
  ASSERT_TRUE(acked(late, 60s));
  said.push_back(late);
  expect_all_shown();
  finish();
}

}  // namespace
}  // namespace starling::sim
