// SimDisk: the disk of one host, in memory, and the committers that write to it on virtual time.
//
// A commit takes a random while, then is written with sync; a crash before that loses it. What the
// disk has of the commit under way at the crash is chosen by chance: nothing, a torn record, or all
// of it (then it was synced and nobody was told). Work on files ends after some of its changes of the disk.
// Invariants: (1) what was acknowledged survives every crash; (2) commits are written in order.
// Thread: the world's.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>

#include "storage/engine/commit.h"
#include "tests/sim/world/sim_loop.h"
#include "tests/sim/world/world.h"
#include "tests/storage/crash_env.h"

namespace starling::sim {

struct DiskOptions {
  Duration sync_min = 200us;
  Duration sync_max = 2ms;
  std::uint64_t free_bytes = 1ull << 40;
  std::uint64_t sync_every = 1;  // Broken when above 1: other commits are not synced, and say they are.
};

class SimCommitter;

class SimDisk {
 public:
  SimDisk(World& world, std::string host, DiskOptions options);

  [[nodiscard]] rocksdb::Env* env() { return crash_env_.env(); }
  // For the process on `loop`, which outlives the committer.
  storage::CommitterFactory committer(SimLoop& loop);
  [[nodiscard]] std::uint64_t free_bytes() const { return options_.free_bytes; }

  // The process dies now. Destroy its objects, then call after_crash().
  void crash();
  void after_crash(bool power_lost);

  void set_speed(Duration sync_min, Duration sync_max);
  void set_free_bytes(std::uint64_t bytes) { options_.free_bytes = bytes; }
  void set_sync_every(std::uint64_t commits) { options_.sync_every = commits; }
  // The next commit fails, and with it every later one of that process.
  void fail_next_sync(bool fails = true) { fail_next_ = fails; }
  // Holds commits from now on (a disk that hangs), until called with false. What is held at a crash
  // never reached the disk.
  void hold(bool on);
  // A folder as a backup tool copies it, and puts it back in place of what is there. REQUIRES: no
  // process runs on it.
  using Folder = std::map<std::string, std::string>;  // Path -> bytes.
  Folder copy(const std::string& path);
  void put_back(const std::string& path, const Folder& folder);
  // Called with the number of each commit before it is written: a place to crash at.
  void on_commit(std::function<void(std::uint64_t number)> hook) { hook_ = std::move(hook); }
  [[nodiscard]] std::uint64_t commits() const { return commits_; }
  // The same of work on files; how much of it was done without an error.
  void on_work(std::function<void()> hook) { work_hook_ = std::move(hook); }
  [[nodiscard]] std::uint64_t works() const { return works_; }
  // No room for new files of partitions that are being filled (storage/install.h), until told otherwise.
  void no_room_for_files(bool none) { crash_env_.no_room_for(none ? "installing" : ""); }

 private:
  friend class SimCommitter;
  Duration busy_for();  // Of one commit.

  World& world_;
  const std::string host_;
  DiskOptions options_;
  SeededRandom random_;
  testing::CrashEnv crash_env_;
  std::set<std::pair<std::uint64_t, SimCommitter*>> committers_;  // By age.
  std::uint64_t next_committer_ = 1;
  std::uint64_t commits_ = 0;
  bool fail_next_ = false;
  bool held_ = false;
  std::function<void(std::uint64_t)> hook_;
  std::function<void()> work_hook_;
  std::uint64_t works_ = 0;
};

// Written at once, with sync: for reading a store after the run.
storage::CommitterFactory direct_committer();

}  // namespace starling::sim
