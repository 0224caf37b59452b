// A data folder that is older than what its node told the others: a backup put back, a snapshot undone.
#include <gtest/gtest.h>

#include "crypto/init.h"
#include "tests/sim/run.h"

namespace starling::sim {
namespace {

class Backup : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_TRUE(crypto_init()); }
  void SetUp() override {
    const auto formed = cluster.form();
    ASSERT_TRUE(formed) << formed.error().text;
    ASSERT_TRUE(work.add_user("@alice"));
    ASSERT_TRUE(work.add_user("@bob"));
    ASSERT_TRUE(work.add_group("#g", {"@alice", "@bob"}));
    const auto owners = cluster.owners_of("#g");
    ASSERT_EQ(owners.size(), 3u);
    a = owners[0];
    alice = &work.add_device("@alice", "d0");
    bob = &work.add_device("@bob", "d0");
    alice->start(owners[1]);
    bob->start(owners[2]);
    ASSERT_TRUE(world.run_until([&] { return alice->ready() && bob->ready(); }, 30s));
  }
  bool serving() {
    return world.run_until([&] { return cluster.all_serving(); }, 120s);
  }
  // Sends that the owner `a` coordinates.
  bool send(int count) {
    std::vector<SendIndex> sends;
    for (int i = 0; i < count; ++i) sends.push_back(alice->send("#g", work.body(*alice)));
    return world.run_until(
        [&] {
          return std::all_of(sends.begin(), sends.end(), [&](SendIndex s) {
            return work.history().sends()[s].outcome == Outcome::kAcked;
          });
        },
        60s);
  }
  SimDisk::Folder back_up() {
    EXPECT_TRUE(cluster.stop(a));
    auto folder = cluster.disk(a).copy(cluster.folder(a));
    EXPECT_TRUE(cluster.restart(a));
    EXPECT_TRUE(serving());
    cluster.run_for(5s);  // Until the others hear that it is caught up, and ask it again.
    return folder;
  }
  void put_back(const SimDisk::Folder& folder) {
    cluster.crash(a, Crash::kProcess);
    cluster.disk(a).put_back(cluster.folder(a), folder);
    ASSERT_TRUE(cluster.restart(a));
  }
  void finish() {
    ASSERT_TRUE(world.run_until([&] { return cluster.all_serving() && work.settled(); }, 180s))
        << world.trace().text("", 60);
    world.run_for(30s);
    const auto stores = cluster.stop_and_export();
    ASSERT_TRUE(stores) << stores.error().text;
    const auto found = check_all(work.history(), &*stores);
    EXPECT_TRUE(found.empty()) << text(found)
                               << world.trace().text(found.empty() ? "" : found[0].needle, 100);
  }

  World world{31};
  SimCluster cluster{world, ClusterOptions{}};
  Workload work{world, cluster, WorkloadOptions{}};
  SimDevice* alice = nullptr;
  SimDevice* bob = nullptr;
  std::size_t a = 0;  // Coordinates #g.
};

// A clean stop keeps the writer, and the copy has it too: its dots after the copy must not be made again
// (hazards F3).
TEST_F(Backup, F37_OfACleanStopGoesOnUnderANewWriter) {
  ASSERT_TRUE(send(3));
  const auto folder = back_up();
  ASSERT_FALSE(folder.empty());
  ASSERT_TRUE(send(5));
  const auto before = cluster.fatal_errors();
  put_back(folder);
  ASSERT_TRUE(serving());
  EXPECT_EQ(cluster.fatal_errors(), before + 1) << "the reused writer went unseen";
  ASSERT_TRUE(send(5));
  finish();
}

// The folder as it was left: nothing to distrust.
TEST_F(Backup, OfTheLastStopKeepsTheWriter) {
  ASSERT_TRUE(send(3));
  ASSERT_TRUE(cluster.stop(a));
  const auto folder = cluster.disk(a).copy(cluster.folder(a));
  ASSERT_TRUE(send(2));
  cluster.disk(a).put_back(cluster.folder(a), folder);
  ASSERT_TRUE(cluster.restart(a));
  ASSERT_TRUE(serving());
  EXPECT_EQ(cluster.fatal_errors(), 0u);
  ASSERT_TRUE(send(5));
  finish();
}

// Both are started: the copy gives way, time after time, whether the node has just come up or serves for long.
TEST_F(Backup, ACopyThatIsStartedBesideItsNodeGivesWay) {
  for (const Duration since : {2s, 90s}) {
    const auto folder = back_up();
    ASSERT_TRUE(send(3));
    cluster.run_for(since);
    const auto writer = cluster.writer(a);
    const auto before = cluster.fatal_errors();
    const auto twin = cluster.begin_twin(a, folder);
    ASSERT_TRUE(twin) << twin.error().text;
    for (int i = 0; i < 24; ++i, cluster.run_for(5s)) ASSERT_TRUE(send(1));
    EXPECT_GE(cluster.fatal_errors(), before + 2) << "as an older copy, then as one of two";
    EXPECT_EQ(cluster.writer(a), writer) << "the node itself was brought down";
    ASSERT_TRUE(cluster.up(a));
    EXPECT_TRUE(cluster.node(a).serving());
    cluster.retire(*twin);
    ASSERT_TRUE(serving());
  }
  finish();
}

}  // namespace
}  // namespace starling::sim
