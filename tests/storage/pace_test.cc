// Commits wait for compactions that fall behind: how long, what is counted, and that they do.
#include <future>

#include <gtest/gtest.h>

#include "storage/engine/commit.h"
#include "storage/engine/engine.h"
#include "storage/engine/pace.h"
#include "tests/storage/support.h"
#include "tests/temp_folder.h"

namespace starling::storage {
namespace {

using namespace std::chrono_literals;

TEST(Pace, GrowsWithWhatCompactionsOwe) {
  EXPECT_EQ(commit_pace(0), 0us);
  EXPECT_EQ(commit_pace(kLevel0Calm), 0us);
  for (int files = kLevel0Calm; files < kLevel0Full; ++files) EXPECT_LT(commit_pace(files), commit_pace(files + 1));
  EXPECT_EQ(commit_pace(kLevel0Full), kPaceMax);
  EXPECT_EQ(commit_pace(10 * kLevel0Full), kPaceMax);
  // Where a few files more are nothing to worry about it is not felt.
  EXPECT_LT(commit_pace(kLevel0Calm + 2), 1ms);
  static_assert(kLevel0Compacted < kLevel0Calm && kLevel0Full < kLevel0Stop);
}

class PacedEngine : public ::testing::Test {
 protected:
  void SetUp() override {
    auto opened = Engine::open({.path = temp.path()});
    ASSERT_TRUE(opened.ok()) << opened.error().text;
    engine = std::move(*opened);
  }
  void file(ColumnFamily family) {
    rocksdb::WriteBatch batch;
    engine->put(batch, family, Bytes(40, 'k'), "value");
    ASSERT_TRUE(engine->write_synced(batch).ok());
    ASSERT_TRUE(engine->db().Flush({}, engine->handle(family)).ok());
  }
  bool comes_to(int files) {
    return testing::eventually([&] { return engine->level0_files() == files; });
  }

  const TempFolder temp;
  std::unique_ptr<Engine> engine;
};

TEST_F(PacedEngine, CountsTheFilesOfTheFamilyThatHasMost) {
  EXPECT_EQ(engine->level0_files(), 0);
  file(ColumnFamily::kKeys);
  for (int i = 0; i < 3; ++i) file(ColumnFamily::kLog);
  EXPECT_TRUE(comes_to(3)) << engine->level0_files();
  for (int i = 3; i < kLevel0Compacted; ++i) file(ColumnFamily::kLog);
  EXPECT_TRUE(comes_to(1)) << engine->level0_files();  // That of `keys` is left.
  ASSERT_TRUE(engine->recreate(ColumnFamily::kKeys).ok());
  file(ColumnFamily::kKeys);
  EXPECT_TRUE(comes_to(1)) << engine->level0_files();
}

TEST_F(PacedEngine, CommitsAreSoFarApart) {
  // Nobody's loop: what is done is told at once, by the thread that did it.
  const auto committer = thread_committer([](std::function<void()> fn) { fn(); })(engine->db());
  const auto commit = [&] {
    auto batch = std::make_unique<rocksdb::WriteBatch>();
    engine->put(*batch, ColumnFamily::kNode, "key", "value");
    std::promise<std::chrono::steady_clock::time_point> done;
    committer->commit(std::move(batch), [&done](const Status& status) {
      EXPECT_TRUE(status.ok());
      done.set_value(std::chrono::steady_clock::now());
    });
    return done.get_future().get();
  };
  committer->pace(60ms);
  const auto first = commit();
  EXPECT_GE(commit() - first, 50ms);
  committer->pace(0ms);
  commit();
}

}  // namespace
}  // namespace starling::storage
