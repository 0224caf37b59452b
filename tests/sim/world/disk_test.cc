// The simulated disk keeps what it acknowledged and forgets what was not synced.
#include <gtest/gtest.h>

#include <rocksdb/db.h>

#include "crypto/bytes.h"
#include "tests/sim/world/sim_disk.h"
#include "tests/sim/world/sim_loop.h"
#include "tests/sim/world/world.h"

namespace starling::sim {
namespace {

// A database on a simulated disk, with one process at a time.
class Disk : public ::testing::Test {
 protected:
  Disk() { open(); }
  ~Disk() override { close(); }

  void open() {
    loop = std::make_unique<SimLoop>(world, "a");
    rocksdb::Options options;
    options.env = disk.env();
    options.create_if_missing = true;
    options.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
    const auto status = rocksdb::DB::Open(options, "/data", &db);
    ASSERT_TRUE(status.ok()) << status.ToString();
    committer = disk.committer(*loop)(*db);
  }
  void close() {
    committer.reset();
    delete std::exchange(db, nullptr);
  }
  void crash(bool power_lost) {
    loop->kill();
    disk.crash();
    close();
    disk.after_crash(power_lost);
    open();
  }
  void commit(const std::string& key) {
    auto batch = std::make_unique<rocksdb::WriteBatch>();
    (void)batch->Put(key, Bytes(100, 'v'));
    committer->commit(std::move(batch),
                      [this, key](Status s) { told += s ? key + ";" : "failed;"; });
  }
  bool has(const std::string& key) {
    std::string value;
    return db->Get(rocksdb::ReadOptions(), key, &value).ok();
  }

  World world{1};
  SimDisk disk{world, "a", DiskOptions{}};
  std::unique_ptr<SimLoop> loop;
  rocksdb::DB* db = nullptr;
  std::unique_ptr<storage::Committer> committer;
  std::string told;
};

TEST_F(Disk, CommitsTakeTimeAndAreToldInOrder) {
  commit("a");
  commit("b");
  EXPECT_EQ(told, "");
  EXPECT_FALSE(has("a"));
  world.run_for(10ms);
  EXPECT_EQ(told, "a;b;");
  EXPECT_TRUE(has("b"));
}

TEST_F(Disk, WhatWasToldSurvivesALossOfPowerAndWhatWasNotMayBeLost) {
  int lost = 0, kept = 0;
  for (int i = 0; i < 30; ++i) {
    const auto n = std::to_string(i);
    commit("told" + n);
    world.run_for(10ms);
    commit("under way" + n);
    crash(true);
    EXPECT_TRUE(has("told" + n)) << i;
    has("under way" + n) ? ++kept : ++lost;
    world.run_for(10ms);
    EXPECT_EQ(told.find("under way"), std::string::npos);
  }
  EXPECT_GT(lost, 5);
  EXPECT_GT(kept, 2);
}

TEST_F(Disk, WritesOfAKilledProcessStayInThePageCache) {
  rocksdb::WriteOptions unsynced;
  ASSERT_TRUE(db->Put(unsynced, "x", "1").ok());
  crash(false);
  EXPECT_TRUE(has("x"));
}

TEST_F(Disk, PowerLossDropsWhatWasNeverSynced) {
  // Torn tails keep a part by chance, so one of many unsynced writes in a row is gone for sure.
  bool gone = false;
  for (int i = 0; i < 20 && !gone; ++i) {
    ASSERT_TRUE(db->Put(rocksdb::WriteOptions(), "x" + std::to_string(i), Bytes(100, 'v')).ok());
    crash(true);
    gone = !has("x" + std::to_string(i));
  }
  EXPECT_TRUE(gone);
}

TEST_F(Disk, AFailedSyncIsFinal) {
  disk.fail_next_sync();
  commit("a");
  world.run_for(10ms);
  commit("b");
  world.run_for(10ms);
  EXPECT_EQ(told, "failed;failed;");
  crash(true);
  commit("c");
  world.run_for(10ms);
  EXPECT_EQ(told, "failed;failed;c;");
}

TEST_F(Disk, AHangingDiskHoldsItsCommits) {
  disk.hold(true);
  commit("a");
  world.run_for(5s);
  EXPECT_EQ(told, "");
  disk.hold(false);
  world.run_for(10ms);
  EXPECT_EQ(told, "a;");
}

TEST_F(Disk, TheCommitHookIsAPlaceToCrashAt) {
  disk.on_commit([&](std::uint64_t number) {
    if (number == 2) crash(true);
  });
  commit("a");
  world.run_for(10ms);
  commit("b");
  world.run_for(10ms);
  EXPECT_EQ(told, "a;");
}

}  // namespace
}  // namespace starling::sim
