#include "storage/engine/commit.h"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

#include "storage/engine/engine.h"

namespace starling::storage {
namespace {

using Work = std::function<Status()>;
using Post = std::function<void(std::function<void()>)>;

// One thread, one queue.
class Worker {
 public:
  explicit Worker(Post post) : post_(std::move(post)), thread_([this] { loop(); }) {}
  ~Worker() {
    *alive_ = false;
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void run(Work work, Committer::Done done) {
    {
      std::lock_guard lock(mutex_);
      queue_.push_back({std::move(work), std::move(done)});
    }
    wake_.notify_one();
  }

 private:
  struct Job {
    Work work;
    Committer::Done done;
  };

  void loop() {
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (queue_.empty()) return;
      Job job = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      Status status = job.work();
      job.work = nullptr;  // What it holds goes here.
      post_([done = std::move(job.done), status = std::move(status), alive = alive_] {
        if (*alive) done(status);
      });
      lock.lock();
    }
  }

  // Set at construction.
  const Post post_;
  // The loop's own: read and written there alone.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  // Shared, guarded by mutex_.
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> queue_;
  bool stopping_ = false;
  std::thread thread_;  // Last: it runs on the members above.
};

class ThreadCommitter final : public Committer {
 public:
  ThreadCommitter(rocksdb::DB& db, const Post& post) : db_(db), work_(post), commits_(post) {}

  // The store has one batch in flight, so the queue holds one.
  void commit(std::unique_ptr<rocksdb::WriteBatch> batch, Done done) override {
    auto shared = std::make_shared<std::unique_ptr<rocksdb::WriteBatch>>(std::move(batch));
    commits_.run([this, shared] { return write(**shared); }, std::move(done));
  }
  void pace(std::chrono::microseconds pace) override { pace_ = pace; }
  void run(Work work, Done done) override { work_.run(std::move(work), std::move(done)); }

 private:
  Status write(rocksdb::WriteBatch& batch) {
    if (error_) return *error_;
    std::this_thread::sleep_until(ended_ + pace_.load());
    rocksdb::WriteOptions options;
    options.sync = true;
    const auto status = db_.Write(options, &batch);
    ended_ = std::chrono::steady_clock::now();
    if (status.ok()) return ok_status();
    error_ = to_error(status, "a synced write");
    return *error_;
  }

  rocksdb::DB& db_;
  std::atomic<std::chrono::microseconds> pace_ = std::chrono::microseconds(0);
  // The commit thread's own.
  std::optional<Error> error_;  // The first failure; it stays.
  std::chrono::steady_clock::time_point ended_{};
  Worker work_;
  Worker commits_;  // Last: it runs on the members above.
};

}  // namespace

CommitterFactory thread_committer(std::function<void(std::function<void()>)> post) {
  return [post = std::move(post)](rocksdb::DB& db) -> std::unique_ptr<Committer> {
    return std::make_unique<ThreadCommitter>(db, post);
  };
}

}  // namespace starling::storage
