// SimLoop: the Loop of one process in a World, from its start to its crash.
//
// A turn is one event of the world and what it deferred. A killed loop never runs anything again; a
// paused one (SIGSTOP) keeps what falls due and runs it, in order, when it is resumed.
// The steady clock is the world's; the wall clock is the world's plus an offset and a drift, and
// may be stepped.
// Invariant: while a turn runs, current() is its loop, so code that runs on the wrong loop aborts.
// Thread: the world's.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "overlay/loop/loop.h"
#include "tests/sim/world/world.h"

namespace starling::sim {

class SimLoop final : public overlay::Loop {
 public:
  SimLoop(World& world, std::string name);
  ~SimLoop() override;
  SimLoop(const SimLoop&) = delete;
  SimLoop& operator=(const SimLoop&) = delete;

  [[nodiscard]] Instant now() const override;
  [[nodiscard]] std::int64_t wall_ms() const override;
  [[nodiscard]] overlay::Timer after(Duration delay, std::function<void()> fn) override;
  using Loop::defer;
  void defer(Stage stage, std::function<void()> fn) override;
  void post(std::function<void()> fn) override;
  void work(std::function<void()> job, std::function<void()> done) override;
  void assert_current() const override;

  // From the world or another loop: `fn` becomes a turn of this loop at `when`, if it still lives.
  World::EventId turn_at(Instant when, std::function<void()> fn);
  // From outside of all loops (an event of the world, a test): runs `fn` as a turn of this loop
  // now; keeps it while paused, drops it when killed.
  void enter(std::function<void()> fn);

  void kill();
  void pause();
  void resume();
  [[nodiscard]] bool alive() const;
  [[nodiscard]] bool paused() const;
  // The wall clock runs `drift_ppm` faster than true time, from now on.
  void step_clock(std::chrono::milliseconds by);
  void set_drift(double drift_ppm);

  [[nodiscard]] const std::string& name() const;
  [[nodiscard]] World& world() const;

 private:
  // Outlives the loop in the events that point to it.
  struct Core;
  class TimerImpl;
  static void turn(const std::shared_ptr<Core>& core, std::function<void()> fn);

  std::shared_ptr<Core> core_;
};

}  // namespace starling::sim
