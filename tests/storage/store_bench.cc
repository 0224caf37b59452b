// Measures the store alone, on the disk of the folder that is given (default /tmp): what a message
// costs in puts and bytes, and how fast a run is read (read_writer) and stored (apply of a range).
//
//   store_bench [messages] [folder] [bytes of a body]
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <deque>
#include <filesystem>
#include <mutex>

#include <stdlib.h>

#include "crypto/random.h"
#include "storage/export.h"
#include "storage/install.h"
#include "storage/store.h"

namespace starling::storage {
namespace {

constexpr std::uint64_t kBatch = 1000;            // Messages per commit.
constexpr std::size_t kRangeBytes = 512 << 10;    // As one fetch of the catch-up.
constexpr std::size_t kPartBytes = 32 << 20;      // Of files.
constexpr std::uint64_t kMailboxes = 100;

// The committer posts, the bench runs: a loop of one thread.
class Posts {
 public:
  void post(std::function<void()> fn) {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(fn));
    wake_.notify_one();
  }
  void settle(Store& store) {
    bool done = false;
    store.when_durable([&] { done = true; });
    store.flush();
    while (!done) {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return !queue_.empty(); });
      auto fn = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      fn();
    }
  }
  // Runs what is there, or comes a moment later.
  void turn(Store& store) {
    store.flush();
    {
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, std::chrono::milliseconds(1), [this] { return !queue_.empty(); });
    }
    poll();
  }
  // Runs what is there, waits for nothing.
  void poll() {
    std::unique_lock lock(mutex_);
    while (!queue_.empty()) {
      auto fn = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      fn();
      lock.lock();
    }
  }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> queue_;
};

struct Bench {
  Posts posts;
  SeededRandom random;
  std::unique_ptr<Store> store;

  Bench(const std::string& path, std::uint64_t seed) : random(seed) {
    StoreOptions options;
    options.path = path;
    options.committer = thread_committer([this](auto fn) { posts.post(std::move(fn)); });
    options.random = &random;
    options.partitions = 16;
    auto opened = Store::open(std::move(options));
    if (!opened) {
      std::fprintf(stderr, "%s\n", opened.error().text.c_str());
      std::exit(1);
    }
    store = std::move(*opened);
  }
};

class Stopwatch {
 public:
  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

void report(const char* what, std::uint64_t count, double seconds) {
  std::printf("%-34s %9.0f/s   (%llu in %.2f s)\n", what, static_cast<double>(count) / seconds,
              static_cast<unsigned long long>(count), seconds);
}

ChangeView message(SeededRandom& random, std::uint64_t i, View body) {
  ChangeView change;
  change.mailbox.raw = {0x12, 0x34, static_cast<std::uint8_t>(i % kMailboxes)};
  change.entry.id = {hlc_at(1'700'000'000'000 + i), WriterId{7}};
  change.entry.key.device.raw[0] = static_cast<std::uint8_t>(i % kMailboxes);
  change.entry.key.lane = 5;
  change.entry.key.seq = i / kMailboxes + 1;
  change.entry.conversation.raw[5] = static_cast<std::uint8_t>(random.below(20));
  change.entry.expires_ms = 1'800'000'000'000;
  change.entry.from = "@alice";
  change.entry.to = "@bob";
  change.entry.body = body;
  return change;
}

// The same run by files. CPU is that of all threads.
void fill_by_files(Store& from, Bench& to, PartitionId partition, std::uint64_t messages) {
  const std::clock_t cpu_before = std::clock();
  const Stopwatch all;
  double gathering = 0;
  const auto install = to.store->install(std::span(&partition, 1));
  if (!install) std::exit(1);
  for (std::uint64_t at = 1; at <= messages;) {
    auto range = from.read_writer(partition, from.writer(), at, kRangeBytes);
    if (!range) std::exit(1);
    const Stopwatch gather;
    if (!(*install)->apply(partition, *range)) std::exit(1);
    gathering += gather.seconds();
    for (; (*install)->gathered() >= kPartBytes; to.posts.turn(*to.store)) {
      if (!(*install)->writing()) (*install)->write();
    }
    at = range->to + 1;
  }
  bool done = false;
  (*install)->finish([&](const Status& status) { done = status.ok(); });
  while (!done) to.posts.turn(*to.store);
  report("by files, on the loop", messages, gathering);
  report("by files, read and stored", messages, all.seconds());
  std::printf("%-34s %9.2f us a message\n", "by files, CPU",
              1e6 * static_cast<double>(std::clock() - cpu_before) / CLOCKS_PER_SEC / static_cast<double>(messages));
}

void run(std::uint64_t messages, const std::string& folder, std::size_t body_bytes) {
  Bench from(folder + "/from", 1);
  SeededRandom random(3);
  Bytes body(body_bytes, '\0');
  random.fill({reinterpret_cast<std::uint8_t*>(body.data()), body.size()});
  const Stopwatch append;
  PartitionId partition;
  for (std::uint64_t i = 0; i < messages; ++i) {
    partition = from.store->append(message(random, i, body)).partition;
    if (i % kBatch == kBatch - 1) from.posts.settle(*from.store);
  }
  from.posts.settle(*from.store);
  report("append, synced by 1,000", messages, append.seconds());
  const StoreStats stats = from.store->stats();
  const auto count = static_cast<double>(messages);
  std::printf("%-34s %9.2f\n%-34s %9.1f\n", "puts per message",
              static_cast<double>(stats.puts) / count, "batch bytes per message",
              static_cast<double>(stats.bytes) / count);

  Bench files(folder + "/files", 4);
  fill_by_files(*from.store, files, partition, messages);

  Bench to(folder + "/to", 2);
  const std::clock_t cpu_before = std::clock();
  const WriterId writer = from.store->writer();
  double reading = 0, storing = 0;
  for (std::uint64_t at = 1; at <= messages;) {
    const Stopwatch read;
    auto range = from.store->read_writer(partition, writer, at, kRangeBytes);
    if (!range) std::exit(1);
    reading += read.seconds();
    const Stopwatch store;
    while (true) {
      const auto applied = to.store->apply(partition, *range);
      if (applied) break;
      to.posts.settle(*to.store);  // Overloaded: the disk is behind.
    }
    to.store->flush();
    to.posts.poll();
    storing += store.seconds();
    at = range->to + 1;
  }
  const Stopwatch rest;
  to.posts.settle(*to.store);
  report("read_writer", messages, reading);
  report("apply(range), on the loop", messages, storing);
  report("apply(range), until synced", messages, storing + rest.seconds());
  report("both, end to end", messages, reading + storing + rest.seconds());
  std::printf("%-34s %9.2f us a message\n", "both, CPU",
              1e6 * static_cast<double>(std::clock() - cpu_before) / CLOCKS_PER_SEC / static_cast<double>(messages));

  const Stopwatch exporting;
  const auto exported = to.store->export_partition(partition, 0);
  std::uint64_t rows = 0;
  while (true) {
    const auto row = exported->next();
    if (!row || !*row) break;
    ++rows;
  }
  report("export and digest, rows", rows, exporting.seconds());
  const Stopwatch scrubbing;
  Bytes cursor;
  rows = 0;
  do {
    const auto step = to.store->scrub(cursor, 1 << 20);
    if (!step || step->mended + step->damaged > 0) std::exit(1);
    rows += step->rows;
    cursor = step->cursor;
  } while (!cursor.empty());
  report("scrub, rows", rows, scrubbing.seconds());
}

}  // namespace
}  // namespace starling::storage

int main(int argc, char** argv) {
  const std::uint64_t messages = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 200'000;
  std::string folder = std::string(argc > 2 ? argv[2] : "/tmp") + "/starling-bench-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) return 1;
  starling::storage::run(messages, folder, argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 100);
  std::filesystem::remove_all(folder);
  return 0;
}
