// Loop: the one thread that an object lives on, its clock and its timers.
//
// Invariants: (1) everything given to a loop runs on it, one at a time, never inside the caller;
//             (2) now() stands still within one turn (one callback and what it deferred);
//             (3) destroying a Timer cancels it; a cancelled callback never runs.
// Thread: all calls from the loop's own thread, except post().
// Two kinds: UvLoop (libuv) and the simulator's SimLoop (virtual time).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "overlay/loop/clock.h"

namespace starling::overlay {

class Timer {
 public:
  class Impl {
   public:
    virtual ~Impl() = default;  // Cancels.
  };
  Timer() = default;
  explicit Timer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
  void cancel() { impl_.reset(); }

 private:
  std::unique_ptr<Impl> impl_;
};

class Loop {
 public:
  virtual ~Loop() = default;

  [[nodiscard]] virtual Instant now() const = 0;
  [[nodiscard]] virtual std::int64_t wall_ms() const = 0;

  // Runs `fn` once, `delay` from now, unless the Timer is destroyed before. A timer may destroy
  // itself or others from inside `fn`.
  [[nodiscard]] virtual Timer after(Duration delay, std::function<void()> fn) = 0;

  // Runs `fn` at the end of this turn, before the loop sleeps: the place to send what was gathered.
  // Functions deferred by deferred ones run in the same turn. Those of an earlier stage run first, so
  // all that a turn leads to makes one commit, one batch for each peer and one write to each socket.
  enum class Stage : std::uint8_t { kWork, kCommit, kSeal, kWrite };
  static constexpr std::size_t kStages = 4;
  virtual void defer(Stage stage, std::function<void()> fn) = 0;
  void defer(std::function<void()> fn) { defer(Stage::kWork, std::move(fn)); }

  // From any thread: runs `fn` in a later turn.
  virtual void post(std::function<void()> fn) = 0;

  // Runs `job` off the loop (it may block or burn CPU and may touch nothing of the loop), then `done`
  // on the loop. In a simulation both run on the one thread, `done` at a later virtual time.
  virtual void work(std::function<void()> job, std::function<void()> done) = 0;

  // Aborts when called from another thread.
  virtual void assert_current() const = 0;
};

}  // namespace starling::overlay
