// Committer: makes write batches durable, in order, off the loop.
//
// The Store gathers one batch while the previous one syncs (pipelined group commit), so one WAL sync
// serves every change that arrived in the meantime, from all partitions.
// Invariant: `done` comes on the loop, in the order of the commits, after the batch is synced. A failed
// write or sync is final: the status is an error, and every later commit fails too (a failed sync is
// fatal to the process, hazards F31).
// Beside the commits goes long work on files, one piece at a time, in order.
// Thread: from the loop. Two kinds: ThreadCommitter, and the simulator's on virtual time.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "crypto/result.h"

namespace rocksdb {
class DB;
class WriteBatch;
}  // namespace rocksdb

namespace starling::storage {

class Committer {
 public:
  using Done = std::function<void(Status)>;
  virtual ~Committer() = default;
  virtual void commit(std::unique_ptr<rocksdb::WriteBatch> batch, Done done) = 0;
  // From now on a commit begins no sooner than so long after the one before has ended (pace.h). On virtual time there is
  // nothing that could fall behind.
  virtual void pace(std::chrono::microseconds) {}
  // Runs `work` off the loop; `done` with what it said. Commits do not wait for it.
  virtual void run(std::function<Status()> work, Done done) = 0;
};

// Makes the committer once the database is open.
using CommitterFactory = std::function<std::unique_ptr<Committer>(rocksdb::DB&)>;

// One thread that writes with sync, and one for the rest. `post` runs a function on the loop, from any thread.
// The destructor finishes what was queued, without calling `done`.
CommitterFactory thread_committer(std::function<void(std::function<void()>)> post);

}  // namespace starling::storage
