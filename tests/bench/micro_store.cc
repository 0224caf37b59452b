#include <deque>

#include <rocksdb/db.h>
#include <rocksdb/env.h>

#include "crypto/random.h"
#include "storage/store.h"
#include "tests/bench/micro.h"
#include "tests/bench/micro_input.h"

namespace starling::bench {
namespace {

constexpr std::uint64_t kRound = 64;  // Changes per commit.

// Writes at once, on this thread; what follows a commit comes when the round asks for it.
class Committer final : public storage::Committer {
 public:
  Committer(rocksdb::DB& db, std::deque<Done>& done) : db_(db), done_(done) {}
  void commit(std::unique_ptr<rocksdb::WriteBatch> batch, Done done) override {
    require(db_.Write({}, batch.get()).ok(), "the database does not write");
    done_.push_back(std::move(done));
  }

  void run(std::function<Status()> work, Done done) override {
    require(work().ok(), "work on files failed");
    done_.push_back(std::move(done));
  }

 private:
  rocksdb::DB& db_;
  std::deque<Done>& done_;
};

// A store in memory, without threads of its own.
struct Box {
  explicit Box(std::uint64_t seed)
      : env(rocksdb::NewMemEnv(rocksdb::Env::Default())), random(seed) {
    storage::StoreOptions options;
    options.path = "/store";
    options.env = env.get();
    options.committer = [this](rocksdb::DB& db) { return std::make_unique<Committer>(db, done); };
    options.random = &random;
    options.partitions = 16;
    options.background_work = false;
    auto opened = storage::Store::open(std::move(options));
    require(opened.ok(), "no store");
    store = std::move(*opened);
  }
  void sync() {
    store->flush();
    while (!done.empty()) {
      auto next = std::move(done.front());
      done.pop_front();
      next(ok_status());
    }
  }
  std::unique_ptr<rocksdb::Env> env;
  std::deque<storage::Committer::Done> done;
  SeededRandom random;
  std::unique_ptr<storage::Store> store;
};

Micro::Operation append() {
  return [box = std::make_shared<Box>(1), next = std::uint64_t{0}](std::size_t times) mutable {
    const Bytes body(kBodyBytes, 'x');
    for (std::size_t i = 0; i < times; ++i) {
      require(box->store->append(message(next, body)).dot.n == next + 1, "not appended");
      if (++next % kRound == 0) box->sync();
    }
  };
}

Micro::Operation apply() {
  // As another writer made them.
  const auto bytes = std::make_shared<std::vector<Bytes>>();
  const Bytes body(kBodyBytes, 'x');
  const auto box = std::make_shared<Box>(2);
  const PartitionId partition = box->store->partition_of(message(0, body).mailbox);
  return [=, next = std::uint64_t{0}](std::size_t times) mutable {
    for (std::size_t i = 0; i < times; ++i) {
      const Dot dot{kWriter, next + 1};
      auto change = message(next, View(body));
      change.prev = next >= 100 ? next - 99 : 0;
      const auto applied = box->store->apply(partition, dot, storage::encode(change, dot));
      require(applied && *applied == storage::Applied::kNew, "not applied");
      if (++next % kRound == 0) box->sync();
    }
  };
}

Micro::Operation read_writer() {
  const auto box = std::make_shared<Box>(3);
  const Bytes body(kBodyBytes, 'x');
  PartitionId partition;
  for (std::uint64_t i = 0; i < kRound; ++i)
    partition = box->store->append(message(i, body)).partition;
  box->sync();
  return [box, partition](std::size_t times) {
    for (std::size_t i = 0; i < times; ++i) {
      const auto range = box->store->read_writer(partition, box->store->writer(), 1, 1 << 20);
      require(range && range->live.size() == kRound, "a run was not read");
    }
  };
}

}  // namespace

std::vector<Micro> store_micros() {
  return {{"store append", 4 * kRound, append},
          {"store apply", 4 * kRound, apply},
          {"store read of 64", 4, read_writer}};
}

}  // namespace starling::bench
