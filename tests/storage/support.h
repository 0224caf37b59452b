// What the tests of the store share: a committer that the test drives, a store on a disk in memory,
// and changes in one line.
#pragma once

#include <chrono>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <rocksdb/metadata.h>
#include <xxhash.h>

#include "crypto/random.h"
#include "storage/engine/engine.h"
#include "storage/store.h"
#include "tests/storage/crash_env.h"

namespace starling::testing {

// Holds every batch until the test says how it ends.
class ManualCommits {
 public:
  bool sync = true;  // false: a committer that forgets its promise.

  storage::CommitterFactory factory() {
    return [this](rocksdb::DB& db) -> std::unique_ptr<storage::Committer> {
      return std::make_unique<Committer>(*this, db);
    };
  }
  [[nodiscard]] std::size_t waiting() const { return jobs_.size(); }

  // On disk, and the store is not told yet.
  void write_one() {
    rocksdb::WriteOptions options;
    options.sync = sync;
    Job& job = jobs_.front();
    if (job.batch == nullptr) return;
    ASSERT_TRUE(job.db->Write(options, job.batch.get()).ok());
    job.batch.reset();
  }
  void finish_one() {
    write_one();
    take().done(ok_status());
  }
  // The same on a disk that may be frozen.
  void try_one() {
    Job job = take();
    rocksdb::WriteOptions options;
    options.sync = sync;
    const auto status = job.db->Write(options, job.batch.get());
    job.done(status.ok() ? ok_status() : Status(Error{Errc::kIo, status.ToString()}));
  }
  void finish_all() {
    while (!jobs_.empty()) finish_one();
  }
  // Work on files that was asked for.
  [[nodiscard]] std::size_t works() const { return works_.size(); }
  Status do_work() {
    Work work = std::move(works_.front());
    works_.pop_front();
    const Status status = work.work();
    work.done(status);
    return status;
  }
  void fail_one() { take().done(Error{Errc::kIo, "the disk said no"}); }

 private:
  struct Job {
    rocksdb::DB* db;
    std::unique_ptr<rocksdb::WriteBatch> batch;
    storage::Committer::Done done;
  };
  class Committer final : public storage::Committer {
   public:
    Committer(ManualCommits& owner, rocksdb::DB& db) : owner_(owner), db_(db) {}
    ~Committer() override {
      owner_.jobs_.clear();
      owner_.works_.clear();
    }
    void commit(std::unique_ptr<rocksdb::WriteBatch> batch, Done done) override {
      owner_.jobs_.push_back({&db_, std::move(batch), std::move(done)});
    }
    void run(std::function<Status()> work, storage::Committer::Done done) override {
      owner_.works_.push_back({std::move(work), std::move(done)});
    }

   private:
    ManualCommits& owner_;
    rocksdb::DB& db_;
  };
  struct Work {
    std::function<Status()> work;
    storage::Committer::Done done;
  };
  Job take() {
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    return job;
  }
  std::deque<Job> jobs_;
  std::deque<Work> works_;
};

inline constexpr std::uint32_t kTestPartitions = 16;
inline constexpr WriterId kPeer{500};  // Another node's.

// For what threads of RocksDB do: looks again and again, for a minute at most.
inline bool eventually(const std::function<bool()>& done,
                       std::chrono::milliseconds pause = std::chrono::milliseconds(10)) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!done()) {
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(pause);
  }
  return true;
}

// One store, its disk and its committer.
struct StoreBox {
  CrashEnv disk;
  ManualCommits commits;
  SeededRandom random{7};
  std::unique_ptr<storage::Store> store;

  storage::StoreOptions options() {
    return {"/store", disk.env(), commits.factory(), &random, kTestPartitions, false};
  }
  void open() {
    auto opened = storage::Store::open(options());
    ASSERT_TRUE(opened.ok()) << opened.error().text;
    store = std::move(*opened);
  }
  void sync() {
    store->flush();
    commits.finish_all();
  }
  void close_cleanly() {
    sync();
    const auto status = store->close_cleanly();
    ASSERT_TRUE(status.ok()) << status.error().text;
    store.reset();
  }
  void lose_power() {
    disk.freeze();
    store.reset();
    disk.drop_unsynced();
    disk.thaw();
  }
  // Every family in files of its last level, as a store of some age has it. REQUIRES: closed.
  void compact(std::shared_ptr<storage::ExpiryTime> expiry = nullptr) {
    storage::EngineOptions from{"/store", disk.env(), false};
    if (expiry) from.expiry = std::move(expiry);
    auto engine = storage::Engine::open(from);
    ASSERT_TRUE(engine.ok()) << engine.error().text;
    for (std::size_t i = 0; i < storage::kColumnFamilyNames.size(); ++i) {
      auto* handle = (*engine)->handle(static_cast<storage::ColumnFamily>(i));
      ASSERT_TRUE((*engine)->db().Flush(rocksdb::FlushOptions(), handle).ok());
      rocksdb::CompactRangeOptions options;
      options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForce;
      ASSERT_TRUE((*engine)->db().CompactRange(options, handle, nullptr, nullptr).ok());
    }
  }
  // Flips a bit of a file of a family. REQUIRES: closed.
  void rot(storage::ColumnFamily family, std::size_t at = 20) {
    std::string path;
    {
      auto engine = storage::Engine::open({"/store", disk.env(), false});
      ASSERT_TRUE(engine.ok()) << engine.error().text;
      std::vector<rocksdb::LiveFileMetaData> files;
      (*engine)->db().GetLiveFilesMetaData(&files);
      for (const auto& file : files) {
        if (file.column_family_name == storage::kColumnFamilyNames[static_cast<int>(family)]) {
          path = file.db_path + file.name;
        }
      }
    }
    ASSERT_FALSE(path.empty());
    flip(path, at);
  }
  void flip(const std::string& path, std::size_t at) {
    std::string bytes;
    ASSERT_TRUE(rocksdb::ReadFileToString(disk.env(), path, &bytes).ok());
    ASSERT_GT(bytes.size(), at);
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
    ASSERT_TRUE(rocksdb::WriteStringToFile(disk.env(), bytes, path, true).ok());
  }
  // Changes one row behind the store's back: `to` gets its value, and may clear it to erase the row.
  // REQUIRES: closed.
  void tamper(storage::ColumnFamily family, std::size_t row, const std::function<void(Bytes&)>& to) {
    auto rows_of = rows({family}).front();
    Bytes value = rows_of.at(row).second;
    to(value);
    auto engine = storage::Engine::open({"/store", disk.env(), false});
    rocksdb::WriteBatch batch;
    if (value.empty()) {
      (*engine)->erase(batch, family, rows_of[row].first);
    } else {
      (*engine)->put(batch, family, rows_of[row].first, value);
    }
    ASSERT_TRUE((*engine)->write_synced(batch).ok());
  }
  // The whole walk; sums of all steps.
  storage::ScrubStep scrub(std::size_t step_bytes = 1 << 20) {
    storage::ScrubStep sum;
    Bytes cursor;
    do {
      auto step = store->scrub(cursor, step_bytes);
      EXPECT_TRUE(step.ok()) << step.error().text;
      if (!step) break;
      sum.rows += step->rows;
      sum.bytes += step->bytes;
      sum.mended += step->mended;
      sum.damaged += step->damaged;
      cursor = step->cursor;
      sync();
    } while (!cursor.empty());
    return sum;
  }
  using Rows = std::vector<std::pair<Bytes, Bytes>>;
  // All rows of each family as they are on disk. REQUIRES: the store is closed.
  std::vector<Rows> rows(std::initializer_list<storage::ColumnFamily> families) {
    auto engine = storage::Engine::open({"/store", disk.env(), false});
    std::vector<Rows> out;
    for (const auto family : families) {
      out.emplace_back();
      storage::Engine::Scan scan(**engine, family, {});
      for (scan->SeekToFirst(); scan.valid(); scan->Next()) {
        out.back().emplace_back(scan.key(), scan.value());
      }
    }
    return out;
  }
};

inline const MailboxId kAlice = [] {
  MailboxId id;
  id.raw = {0x12, 0x34, 'a', 'l', 'i', 'c', 'e'};
  return id;
}();
inline const MailboxId kBob = [] {  // In the same partition as kAlice.
  MailboxId id;
  id.raw = {0x12, 0x99, 'b', 'o', 'b'};
  return id;
}();
inline const MailboxId kCarol = [] {
  MailboxId id;
  id.raw = {0xf0, 0x01, 'c', 'a', 'r', 'o', 'l'};
  return id;
}();

// The one word of tests/golden/<name>.v1.hex.
inline std::string read_golden(const std::string& name) {
  const char* folder = std::getenv("STARLING_GOLDEN");
  std::ifstream in(std::string(folder != nullptr ? folder : "tests/golden") + "/" + name +
                   ".v1.hex");
  std::string text;
  in >> text;
  return text;
}

// Sets the checksum of an encoded change right again.
inline void seal(Bytes& change, const Dot& dot) {
  Bytes seed;
  BytesWriter(seed).u64le(dot.writer.value);
  BytesWriter(seed).u64le(dot.n);
  change.resize(change.size() - 8);
  BytesWriter(change).u64le(XXH3_64bits_withSeed(change.data(), change.size(),
                                                 XXH3_64bits(seed.data(), seed.size())));
}

inline DeviceId device(std::uint8_t number) {
  DeviceId id;
  id.raw[15] = number;
  return id;
}

// What the views of a change borrow from must be a literal or outlive it.
inline storage::ChangeView entry(const MailboxId& mailbox, std::uint64_t seq, Hlc time,
                                 View body = "hello", WriterId minted_by = WriterId{77}) {
  storage::ChangeView change;
  change.kind = storage::ChangeKind::kEntry;
  change.mailbox = mailbox;
  change.entry.id = {time, minted_by};
  change.entry.key = {device(1), 5, seq};
  change.entry.conversation = kBob;
  change.entry.from = "@bob";
  change.entry.to = "@alice";
  change.entry.body = body;
  return change;
}
inline storage::ChangeView closing(const MailboxId& mailbox, std::uint64_t seq, Hlc time) {
  auto change = entry(mailbox, seq, time, "");
  change.kind = storage::ChangeKind::kVoid;
  return change;
}
inline storage::ChangeView reg(const MailboxId& mailbox, View key, View value, Hlc time,
                               storage::MergeKind merge = storage::MergeKind::kLww,
                               WriterId writer = WriterId{77}) {
  storage::ChangeView change;
  change.kind = storage::ChangeKind::kRegister;
  change.mailbox = mailbox;
  change.reg = {merge, {time, writer}, key, value};
  return change;
}

// STARLING_SEED runs one alone.
inline void for_each_seed(std::uint64_t count, const std::function<void(SeededRandom&)>& body) {
  const char* only = std::getenv("STARLING_SEED");
  const std::uint64_t first = only != nullptr ? std::strtoull(only, nullptr, 10) : 1;
  for (std::uint64_t seed = first; seed < first + (only != nullptr ? 1 : count); ++seed) {
    SCOPED_TRACE("STARLING_SEED=" + std::to_string(seed));
    SeededRandom random(seed);
    body(random);
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace starling::testing
