#include "storage/engine/commit.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

#include "storage/engine/engine.h"

namespace starling::storage {
namespace {

class ThreadCommitter final : public Committer {
 public:
  ThreadCommitter(rocksdb::DB& db, std::function<void(std::function<void()>)> post)
      : db_(db), post_(std::move(post)), thread_([this] { run(); }) {}

  ~ThreadCommitter() override {
    *alive_ = false;
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }

  void commit(std::unique_ptr<rocksdb::WriteBatch> batch, Done done) override {
    {
      std::lock_guard lock(mutex_);
      queue_.push_back({std::move(batch), std::move(done)});
    }
    wake_.notify_one();
  }

 private:
  struct Job {
    std::unique_ptr<rocksdb::WriteBatch> batch;
    Done done;
  };

  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (queue_.empty()) return;
      Job job = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      write(job);
      post_([done = std::move(job.done), error = error_, alive = alive_] {
        if (*alive) done(error ? Status(*error) : ok_status());
      });
      lock.lock();
    }
  }

  void write(Job& job) {
    if (error_) return;
    rocksdb::WriteOptions options;
    options.sync = true;
    if (const auto status = db_.Write(options, job.batch.get()); !status.ok()) {
      error_ = to_error(status, "a synced write");
    }
    job.batch.reset();
  }

  // Set at construction.
  rocksdb::DB& db_;
  const std::function<void(std::function<void()>)> post_;
  // The loop's own: read and written there alone.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  // The thread's own.
  std::optional<Error> error_;  // The first failure; it stays.
  // Shared, guarded by mutex_. The store has one batch in flight, so the queue holds one job.
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> queue_;
  bool stopping_ = false;
  std::thread thread_;  // Last: it runs on the members above.
};

}  // namespace

CommitterFactory thread_committer(std::function<void(std::function<void()>)> post) {
  return [post = std::move(post)](rocksdb::DB& db) -> std::unique_ptr<Committer> {
    return std::make_unique<ThreadCommitter>(db, post);
  };
}

}  // namespace starling::storage
