#include "tests/sim/world/sim_disk.h"

#include <algorithm>
#include <deque>

#include <rocksdb/db.h>
#include <rocksdb/write_batch.h>

namespace starling::sim {
namespace {

constexpr std::uint64_t kWorkChangesMax = 60;  // Of the disk, in one piece of work on files, about.

Status write(rocksdb::DB& db, rocksdb::WriteBatch& batch, bool sync) {
  rocksdb::WriteOptions options;
  options.sync = sync;
  const auto status = db.Write(options, &batch);
  if (!status.ok()) return Error{Errc::kIo, "writing to the database: " + status.ToString()};
  return ok_status();
}

class DirectCommitter final : public storage::Committer {
 public:
  explicit DirectCommitter(rocksdb::DB& db) : db_(db) {}
  void commit(std::unique_ptr<rocksdb::WriteBatch> batch, Done done) override {
    done(write(db_, *batch, true));
  }
  void run(std::function<Status()> work, Done done) override { done(work()); }

 private:
  rocksdb::DB& db_;
};

}  // namespace

class SimCommitter final : public storage::Committer {
 public:
  SimCommitter(SimDisk& disk, SimLoop& loop, rocksdb::DB& db)
      : disk_(disk), loop_(loop), db_(db), age_(disk.next_committer_++) {
    disk_.committers_.emplace(age_, this);
  }
  ~SimCommitter() override {
    disk_.committers_.erase({age_, this});
    // As the real one: what was queued is finished, nobody is told. After a crash the queue is
    // empty.
    for (auto& item : queue_) (void)write(db_, *item.batch, true);
    for (auto& work : works_) (void)work.work();
  }

  void run(std::function<Status()> work, Done done) override {
    works_.push_back({std::move(work), std::move(done)});
    if (works_.size() == 1) begin_work();
  }

  void commit(std::unique_ptr<rocksdb::WriteBatch> batch, Done done) override {
    queue_.push_back({std::move(batch), std::move(done)});
    if (queue_.size() == 1) begin();
  }

  void begin() {
    if (queue_.empty() || disk_.held_) return;
    // A disk works on while its process is paused; only the news of it waits.
    disk_.world_.after(disk_.busy_for(), [this, alive = std::weak_ptr<bool>(alive_)] {
      if (!alive.expired()) finish();
    });
  }

  void begin_work() {
    if (works_.empty() || disk_.held_) return;
    disk_.world_.after(disk_.busy_for(), [this, alive = std::weak_ptr<bool>(alive_)] {
      if (!alive.expired()) finish_work();
    });
  }

  // What the disk has of the commits under way. Work on files may have come to any point.
  void crash() {
    alive_ = std::make_shared<bool>(true);  // Forget the scheduled end.
    if (auto works = std::exchange(works_, {}); !works.empty() && !failed_ && !disk_.held_) {
      disk_.crash_env_.freeze_in(1 + disk_.random_.below(kWorkChangesMax));
      (void)works.front().work();
      disk_.crash_env_.freeze();
    }
    auto queue = std::move(queue_);
    queue_.clear();
    if (queue.empty() || failed_ || disk_.held_) return;
    switch (disk_.random_.below(3)) {
      case 0: break;
      case 1: (void)write(db_, *queue.front().batch, false); break;
      default: (void)write(db_, *queue.front().batch, true); break;
    }
  }

 private:
  struct Item {
    std::unique_ptr<rocksdb::WriteBatch> batch;
    Done done;
  };
  struct Work {
    std::function<Status()> work;
    Done done;
  };

  void finish_work() {
    if (works_.empty() || disk_.held_) return;
    if (disk_.work_hook_) {
      const auto alive = std::weak_ptr<bool>(alive_);
      const auto hook = disk_.work_hook_;
      hook();  // May crash this process.
      if (alive.expired() || works_.empty()) return;
    }
    Work work = std::move(works_.front());
    works_.pop_front();
    Status status = work.work();
    disk_.works_ += status ? 1 : 0;
    disk_.world_.note(disk_.host_, "files written: " + (status ? "taken in" : status.error().text));
    if (!works_.empty()) begin_work();  // Before the news of it, which may bring more.
    loop_.enter([alive = std::weak_ptr<bool>(alive_), done = std::move(work.done), status = std::move(status)] {
      if (!alive.expired()) done(status);
    });
  }

  void finish() {
    if (queue_.empty() || disk_.held_) return;
    const auto number = ++disk_.commits_;
    if (disk_.hook_) {
      const auto alive = std::weak_ptr<bool>(alive_);
      const auto hook = disk_.hook_;
      hook(number);  // May crash this process.
      if (alive.expired() || queue_.empty()) return;
    }
    if (std::exchange(disk_.fail_next_, false)) failed_ = true;
    Item item = std::move(queue_.front());
    queue_.pop_front();
    Status status = failed_ ? Status(Error{Errc::kIo, "the simulated sync failed"})
                            : write(db_, *item.batch, number % disk_.options_.sync_every == 0);
    disk_.world_.note(disk_.host_, "commit " + std::to_string(number) + " of " +
                                       std::to_string(item.batch->Count()) + " puts, " +
                                       std::to_string(item.batch->GetDataSize()) + " bytes");
    if (!queue_.empty()) begin();
    loop_.enter([alive = std::weak_ptr<bool>(alive_), done = std::move(item.done),
                 status = std::move(status)] {
      if (!alive.expired()) done(status);
    });
  }

  SimDisk& disk_;
  SimLoop& loop_;
  rocksdb::DB& db_;
  const std::uint64_t age_;
  std::deque<Item> queue_;
  std::deque<Work> works_;
  bool failed_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

SimDisk::SimDisk(World& world, std::string host, DiskOptions options)
    : world_(world), host_(std::move(host)), options_(options), random_(world.fork()) {}

storage::CommitterFactory SimDisk::committer(SimLoop& loop) {
  return [this, &loop](rocksdb::DB& db) -> std::unique_ptr<storage::Committer> {
    return std::make_unique<SimCommitter>(*this, loop, db);
  };
}

void SimDisk::crash() {
  for (const auto& [age, committer] : committers_) committer->crash();
  crash_env_.freeze();
}

void SimDisk::after_crash(bool power_lost) {
  if (power_lost) crash_env_.drop_unsynced(&random_);
  crash_env_.thaw();
}

void SimDisk::set_speed(Duration sync_min, Duration sync_max) {
  options_.sync_min = sync_min;
  options_.sync_max = sync_max;
}

void SimDisk::hold(bool on) {
  held_ = on;
  if (on) return;
  for (const auto& [age, committer] : committers_) {
    committer->begin();
    committer->begin_work();
  }
}

Duration SimDisk::busy_for() {
  const auto span = static_cast<std::uint64_t>((options_.sync_max - options_.sync_min).count());
  return options_.sync_min + Duration(static_cast<Duration::rep>(random_.below(span + 1)));
}

SimDisk::Folder SimDisk::copy(const std::string& path) {
  // This file system has folders only as far as there are files in them.
  Folder folder;
  std::vector<std::string> names;
  (void)env()->GetChildren(path, &names);
  for (const auto& name : names) folder.merge(copy(path + "/" + name));
  std::string bytes;
  if (names.empty() && rocksdb::ReadFileToString(env(), path, &bytes).ok()) {
    folder[path] = std::move(bytes);
  }
  return folder;
}

void SimDisk::put_back(const std::string& path, const Folder& folder) {
  for (const auto& [name, bytes] : copy(path)) (void)env()->DeleteFile(name);
  for (const auto& [name, bytes] : folder) {
    const auto written = rocksdb::WriteStringToFile(env(), bytes, name, true);
    if (!written.ok()) world_.note(host_, "not put back: " + written.ToString());
  }
}

storage::CommitterFactory direct_committer() {
  return [](rocksdb::DB& db) -> std::unique_ptr<storage::Committer> {
    return std::make_unique<DirectCommitter>(db);
  };
}

}  // namespace starling::sim
