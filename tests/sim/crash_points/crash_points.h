// Crash points: a node dies at one step of what it does; the promises hold after it came back.
//
// A case lets a hook of the Tap, or of a disk, choose the moment, asserts that it came, and leaves the judgement to
// the checkers. Odd seeds lose the power, even ones kill the process.
// Thread: one.
#pragma once

#include <set>

#include <nlohmann/json.hpp>

#include "tests/sim/hazards/hazards.h"

namespace starling::sim {

template <class Base>
class CrashPointOf : public Base {
 protected:
  using Base::Base;

  [[nodiscard]] Crash kind() const { return this->GetParam() % 2 == 0 ? Crash::kProcess : Crash::kPower; }
  // From a hook: the node dies behind it. Once.
  void kill(std::size_t i) {
    if (killed.insert(i).second) this->crash_soon(i, kind());
  }
  // The same; what it takes in from now on does not come to its disk.
  void kill_unsynced(std::size_t i) {
    this->cluster.disk(i).hold(true);
    kill(i);
  }
  // It dies by now, or did; nothing is held or lost any more, and it comes back.
  void revive(std::size_t i) {
    ASSERT_TRUE(this->until([&] { return !this->cluster.up(i); }, 30s)) << this->world.trace().text("", 40);
    this->tap.clear();
    this->cluster.disk(i).on_commit(nullptr);
    this->cluster.disk(i).hold(false);
    this->world.run_for(3s);
    ASSERT_TRUE(this->cluster.restart(i));
    ASSERT_TRUE(this->until([&] { return this->cluster.all_serving(); }, 120s)) << this->world.trace().text("", 40);
  }
  // The power of all goes at once, and comes back.
  void power_cut() {
    for (std::size_t i = 0; i < this->cluster.size(); ++i) this->cluster.crash(i, Crash::kPower);
    for (std::size_t i = 0; i < this->cluster.size(); ++i) ASSERT_TRUE(this->cluster.restart(i));
    ASSERT_TRUE(this->until([&] { return this->cluster.all_serving(); }, 120s)) << this->world.trace().text("", 40);
  }

  std::set<std::size_t> killed;
};

using CrashPoint = CrashPointOf<Hazards>;

}  // namespace starling::sim
