// Restarts: writers, markers, formats, power loss, the real disk.
#include <chrono>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <mutex>
#include <thread>

#include <gtest/gtest.h>
#include <stdlib.h>

#include "storage/layout.h"
#include "tests/storage/support.h"
#include "tests/temp_folder.h"

namespace starling::storage {
namespace {

using testing::entry;
using testing::kAlice;
using testing::kCarol;
using testing::reg;
using testing::StoreBox;

void write_node(StoreBox& box, View key, std::uint64_t value) {
  auto engine = Engine::open({"/store", box.disk.env(), false});
  ASSERT_TRUE(engine.ok());
  rocksdb::WriteBatch batch;
  (*engine)->put(batch, ColumnFamily::kNode, key, number_value(value).view());
  ASSERT_TRUE((*engine)->write_synced(batch).ok());
}

TEST(StoreRestart, KeepsVectorsAndState) {
  StoreBox box;
  box.open();
  box.store->append(entry(kAlice, 1, 1));
  box.store->append(reg(kAlice, "k", "v", 2));
  box.store->put(Store::Family::kNode, "lineage", "L");
  const auto partition = box.store->partition_of(kAlice);
  box.sync();
  const auto vector = box.store->vector(partition);
  box.close_cleanly();
  box.open();
  EXPECT_EQ(box.store->vector(partition), vector);
  EXPECT_EQ(box.store->held(partition, vector.dots().front().writer), 2u);
  EXPECT_EQ(box.store->get(Store::Family::kNode, "lineage"), "L");
  EXPECT_EQ(box.store->find_register(kAlice, "k")->value, "v");
  EXPECT_EQ(box.store->lane_high(kAlice, testing::device(1), 5), 1u);
  EXPECT_TRUE(box.store->find_key(kAlice, {testing::device(1), 5, 1}));
}

TEST(StoreRestart, AnUncleanEndDrawsANewWriter) {
  StoreBox box;
  box.open();
  const auto writer = box.store->writer();
  EXPECT_FALSE(box.store->kept_writer());
  box.store->append(entry(kAlice, 1, 1));
  box.sync();
  box.store.reset();
  box.open();
  EXPECT_NE(box.store->writer(), writer);
  EXPECT_FALSE(box.store->kept_writer());
  EXPECT_EQ(box.store->append(entry(kAlice, 2, 2)).dot.n, 1u);
}

TEST(StoreRestart, ACleanEndKeepsTheWriterAndOnlyOnce) {
  StoreBox box;
  box.open();
  const auto writer = box.store->writer();
  box.store->append(entry(kAlice, 1, 1));
  box.store->append(entry(testing::kBob, 1, 1));
  box.close_cleanly();
  box.open();
  EXPECT_EQ(box.store->writer(), writer);
  EXPECT_TRUE(box.store->kept_writer());
  const auto appended = box.store->append(entry(kAlice, 2, 2));
  EXPECT_EQ(appended.dot.n, 3u);
  EXPECT_EQ(decode(*appended.bytes, appended.dot)->prev, 1u);  // Read back from disk.
  // The marker went with the first open, so a crash even before any write ends the writer.
  box.lose_power();
  box.open();
  EXPECT_NE(box.store->writer(), writer);
}

// It may be an old copy, and the others may have forgotten the writer meanwhile (hazards F40).
TEST(StoreRestart, AWriterDoesNotOutliveADayWithoutAChange) {
  constexpr std::int64_t kNow = 1'800'000'000'000;
  for (const bool late : {false, true}) {
    StoreBox box;
    box.open();
    const auto writer = box.store->writer();
    auto change = entry(kAlice, 1, 1);
    change.entry.id.time = static_cast<Hlc>(kNow) << 16;
    box.store->append(change);
    box.close_cleanly();
    auto options = box.options();
    options.wall_ms = kNow + kKeptWriterIdleMaxMs + (late ? 1 : 0);
    auto opened = Store::open(options);
    ASSERT_TRUE(opened.ok()) << opened.error().text;
    EXPECT_EQ((*opened)->kept_writer(), !late);
    EXPECT_EQ((*opened)->writer() == writer, !late);
  }
}

TEST(StoreRestart, AnEmptyValueErasesTheKey) {
  StoreBox box;
  box.open();
  const auto keys = [&] {
    std::vector<Bytes> out;
    for (const auto& [key, value] : box.store->scan(Store::Family::kNode, "k", "", 9)) out.push_back(key);
    return out;
  };
  box.store->put(Store::Family::kNode, "k1", "one");
  box.store->put(Store::Family::kNode, "k2", "two");
  box.sync();
  box.store->put(Store::Family::kNode, "k1", "");
  EXPECT_FALSE(box.store->get(Store::Family::kNode, "k1").has_value());  // On its way.
  EXPECT_EQ(keys(), std::vector<Bytes>{"k2"});
  box.sync();
  EXPECT_FALSE(box.store->get(Store::Family::kNode, "k1").has_value());
  box.lose_power();
  box.open();
  EXPECT_FALSE(box.store->get(Store::Family::kNode, "k1").has_value());
  EXPECT_EQ(keys(), std::vector<Bytes>{"k2"});
}

TEST(StoreRestart, CannotEndCleanlyWithChangesOnTheirWay) {
  StoreBox box;
  box.open();
  const auto writer = box.store->writer();
  box.store->append(entry(kAlice, 1, 1));
  EXPECT_EQ(box.store->close_cleanly().code(), Errc::kInvalid);
  box.store->flush();
  EXPECT_EQ(box.store->close_cleanly().code(), Errc::kInvalid);
  box.store.reset();
  box.open();
  EXPECT_NE(box.store->writer(), writer);
}

TEST(StoreRestart, RefusesANewerFormatAndNamesBoth) {
  StoreBox box;
  box.open();
  box.close_cleanly();
  write_node(box, kNodeFormat, kFormat + 1);
  const auto opened = Store::open(box.options());
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.code(), Errc::kUnsupported);
  EXPECT_NE(opened.error().text.find("format " + std::to_string(kFormat + 1)), std::string::npos);
  EXPECT_NE(opened.error().text.find("up to " + std::to_string(kFormat)), std::string::npos);
}

TEST(StoreRestart, RemembersThePartitionCountItsLogIsKeyedBy) {
  StoreBox box;
  box.open();
  box.store->set_partitions(64);
  box.store->append(entry(kCarol, 1, 1));
  const auto partition = box.store->partition_of(kCarol);
  EXPECT_EQ(partition, starling::partition_of(slot_of(kCarol), 64));
  box.close_cleanly();
  box.open();  // The options still say 16.
  EXPECT_EQ(box.store->partition_of(kCarol), partition);
  EXPECT_EQ(box.store->touched(), std::vector<PartitionId>{partition});
}

// --- Power loss. ---

// Appends under a random schedule of flushes and syncs; returns what was reported durable.
std::vector<Dot> run_until_power_loss(StoreBox& box, SeededRandom& random) {
  std::vector<Dot> reported;
  box.store->on_synced([&](std::span<const SyncedChange> changes) {
    for (const auto& change : changes) reported.push_back(change.dot);
  });
  for (std::uint64_t seq = 1; seq <= 200; ++seq) {
    box.store->append(entry(kAlice, seq, seq));
    if (random.below(3) == 0) box.store->flush();
    if (random.below(3) == 0 && box.commits.waiting() > 0) box.commits.finish_one();
  }
  box.lose_power();
  box.open();
  return reported;
}

TEST(StorePowerLoss, LosesNothingThatWasReportedSynced) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    SeededRandom random(seed);
    StoreBox box;
    box.open();
    const auto reported = run_until_power_loss(box, random);
    ASSERT_FALSE(reported.empty());
    const auto partition = box.store->partition_of(kAlice);
    EXPECT_EQ(box.store->synced(partition, reported.front().writer), reported.back().n);
    for (const Dot& dot : reported) {
      const auto change = box.store->read_change(partition, dot);
      ASSERT_TRUE(change.ok()) << change.error().text;
      EXPECT_EQ(decode(*change->bytes, dot)->entry.key.seq, dot.n);
    }
    EXPECT_EQ(box.store->read_mailbox(kAlice, {}, 1000, 1 << 20)->changes.size(), reported.size());
  }
}

// The test above can fail: a committer that does not sync loses what it reported.
TEST(StorePowerLoss, WouldCatchACommitterThatDoesNotSync) {
  SeededRandom random(1);
  StoreBox box;
  box.commits.sync = false;
  box.open();
  const auto reported = run_until_power_loss(box, random);
  ASSERT_FALSE(reported.empty());
  EXPECT_LT(box.store->synced(box.store->partition_of(kAlice), reported.front().writer),
            reported.back().n);
}

TEST(StorePowerLoss, ATornTailIsCutAndTheStoreOpens) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SeededRandom random(seed);
    StoreBox box;
    box.open();
    box.store->append(entry(kAlice, 1, 1));
    box.sync();
    const auto writer = box.store->writer();
    box.commits.sync = false;
    for (std::uint64_t seq = 2; seq <= 20; ++seq) {
      box.store->append(entry(kAlice, seq, seq));
      box.sync();
    }
    box.disk.freeze();
    box.store.reset();
    box.disk.drop_unsynced(&random);
    box.disk.thaw();
    box.commits.sync = true;
    box.open();
    const auto partition = box.store->partition_of(kAlice);
    const auto synced = box.store->synced(partition, writer);
    EXPECT_GE(synced, 1u);
    EXPECT_EQ(box.store->read_writer(partition, writer, 1, 1 << 20)->live.size(), synced);
  }
}

// --- The operating system's disk, with the commit thread. ---

// A loop for one thread: the committer posts, the test runs.
class MiniLoop {
 public:
  void post(std::function<void()> fn) {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(fn));
    wake_.notify_one();
  }
  void run_until(const std::function<bool()>& done) {
    while (!done()) {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return !queue_.empty(); });
      auto fn = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      fn();
    }
  }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> queue_;
};

class StoreOnDisk : public ::testing::Test {
 protected:
  StoreOptions options() {
    return {folder + "/db", nullptr,
            thread_committer([this](std::function<void()> fn) { loop.post(std::move(fn)); }),
            &random, testing::kTestPartitions, true};
  }
  const TempFolder temp;
  const std::string& folder = temp.path();
  MiniLoop loop;
  SeededRandom random{1};
};

TEST_F(StoreOnDisk, TheCommitThreadMakesBatchesDurableInOrder) {
  auto store = *Store::open(options());
  std::vector<std::uint64_t> heard;
  store->on_synced([&](std::span<const SyncedChange> changes) {
    for (const auto& change : changes) heard.push_back(change.dot.n);
  });
  for (std::uint64_t seq = 1; seq <= 500; ++seq) {
    store->append(entry(kAlice, seq, seq));
    if (seq % 7 == 0) store->flush();
  }
  bool durable = false;
  store->when_durable([&] { durable = true; });
  store->flush();
  loop.run_until([&] { return durable; });
  ASSERT_EQ(heard.size(), 500u);
  EXPECT_TRUE(std::is_sorted(heard.begin(), heard.end()));
  ASSERT_TRUE(store->close_cleanly().ok());
  const auto writer = store->writer();
  store.reset();
  store = *Store::open(options());
  EXPECT_EQ(store->writer(), writer);
  EXPECT_EQ(store->synced(store->partition_of(kAlice), writer), 500u);
}

TEST_F(StoreOnDisk, SaysWhatItWritesBehindTheWrites) {
  auto store = *Store::open(options());
  EXPECT_EQ(store->disk_use().file_bytes, 0u);
  for (std::uint64_t seq = 1; seq <= 500; ++seq) store->append(entry(kAlice, seq, seq));
  bool durable = false;
  store->when_durable([&] { durable = true; });
  store->flush();
  loop.run_until([&] { return durable; });
  store->tend();  // Writes out what only the log has; in the background.
  EXPECT_TRUE(testing::eventually([&] { return store->disk_use().table_bytes >= 500 * 100; }));
  const DiskUse use = store->disk_use();
  EXPECT_GE(use.table_bytes, 500u * 100);
  EXPECT_GE(use.file_bytes, 500u * 100);
  EXPECT_LT(use.table_bytes, 2 * use.file_bytes + 100'000);
  EXPECT_EQ(use.stalls, 0u);
  EXPECT_EQ(use.debt_bytes, 0u);
}

TEST_F(StoreOnDisk, DestructionFinishesTheBatchInFlightAndCallsNobody) {
  WriterId writer;
  {
    auto store = *Store::open(options());
    writer = store->writer();
    store->on_synced([](std::span<const SyncedChange>) { FAIL() << "after the end"; });
    store->append(entry(kAlice, 1, 1));
    store->flush();
  }
  bool done = false;
  loop.post([&] { done = true; });
  loop.run_until([&] { return done; });
  auto store = *Store::open(options());
  EXPECT_EQ(store->synced(store->partition_of(kAlice), writer), 1u);
}

TEST_F(StoreOnDisk, AFolderInUseIsSaidPlainly) {
  auto store = Store::open(options());
  ASSERT_TRUE(store.ok()) << store.error().text;
  const auto second = Store::open(options());
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.code(), Errc::kIo);
  EXPECT_NE(second.error().text.find("in use"), std::string::npos) << second.error().text;
}

TEST_F(StoreOnDisk, DamageInTheMiddleOfTheLogRefusesToOpen) {
  {
    auto store = *Store::open(options());
    for (std::uint64_t seq = 1; seq <= 50; ++seq) {
      bool durable = false;
      store->append(entry(kAlice, seq, seq));
      store->when_durable([&] { durable = true; });
      store->flush();
      loop.run_until([&] { return durable; });
    }
  }
  for (const auto& file : std::filesystem::directory_iterator(folder + "/db")) {
    if (file.path().extension() != ".log" || file.file_size() < 4000) continue;
    FILE* log = fopen(file.path().c_str(), "r+");
    fseek(log, 2000, SEEK_SET);
    const int byte = fgetc(log);
    fseek(log, 2000, SEEK_SET);
    fputc(byte ^ 1, log);
    fclose(log);
  }
  const auto opened = Store::open(options());
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.code(), Errc::kCorrupt);
  EXPECT_NE(opened.error().text.find("set the data folder aside"), std::string::npos);
}

// Everything that was synced is there, whatever change of the disk was the last one while RocksDB moved
// it from the log into tables, and those into others.
TEST(StorePowerLoss, AtAnyStepOfAFlushAndACompactionLosesNothing) {
  constexpr std::uint64_t kEntries = 40;
  std::uint64_t steps = 0;
  // RocksDB waits a second after a failed flush, so not every step is taken.
  for (std::uint64_t step = 1;; step += 6) {
    StoreBox box;
    box.open();
    for (std::uint64_t n = 1; n <= kEntries; ++n) box.store->append(entry(kAlice, n, n));
    box.sync();
    const auto writer = box.store->writer();
    const auto partition = box.store->partition_of(kAlice);
    box.store.reset();
    box.disk.freeze_in(step);
    auto engine = Engine::open({"/store", box.disk.env(), false});
    if (engine.ok()) {
      for (const auto each : {ColumnFamily::kLog, ColumnFamily::kKeys}) {
        auto* family = (*engine)->handle(each);
        (void)(*engine)->db().Flush(rocksdb::FlushOptions(), family);
        (void)(*engine)->db().CompactRange(rocksdb::CompactRangeOptions(), family, nullptr, nullptr);
      }
      engine->reset();
    }
    if (!box.disk.frozen()) break;
    ++steps;
    box.disk.drop_unsynced();
    box.disk.thaw();
    ASSERT_NO_FATAL_FAILURE(box.open()) << "step " << step;
    EXPECT_EQ(box.store->held(partition, writer), kEntries) << "step " << step;
    for (std::uint64_t n = 1; n <= kEntries; ++n) {
      ASSERT_TRUE(box.store->find_key(kAlice, {testing::device(1), 5, n})) << n << " step " << step;
    }
  }
  EXPECT_GT(steps, 8u) << "the flush was too short to be cut in pieces";
}

}  // namespace
}  // namespace starling::storage
