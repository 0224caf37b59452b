// UvLoop: the Loop of a real node, on libuv.
//
// A turn is everything that libuv reports at once (timers, or what one poll found ready) and then
// what was deferred by it. Deferred functions run right before and right after the poll, so none
// can wait while the loop sleeps. The clock is read at most once in a turn, when somebody asks.
// Timers share one uv_timer_t over an ordered map; a thousand idle ones cost no system call.
// Invariants: (1) timers run in order of deadline, then of creation; one that is set inside a
//                 callback runs in a later turn, even with no delay;
//             (2) the destructor waits for running jobs, drops their `done`, everything posted and
//                 every timer. What lives on the loop is destroyed before the loop.
// Thread: the one that calls run(), or the builder's until then; post() and stop(): any.
#pragma once

#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include <uv.h>

#include "overlay/loop/deferred.h"
#include "overlay/loop/loop.h"

namespace starling::overlay {

class UvLoop final : public Loop {
 public:
  UvLoop();
  ~UvLoop() override;
  UvLoop(const UvLoop&) = delete;
  UvLoop& operator=(const UvLoop&) = delete;

  // Returns after stop(); may be called again.
  void run();
  // From any thread. What was deferred in this turn still runs.
  void stop();

  [[nodiscard]] Instant now() const override;
  // The clock itself, which goes on within a turn: to measure with, never to decide by.
  [[nodiscard]] Instant clock_now() const;
  [[nodiscard]] std::int64_t wall_ms() const override;
  [[nodiscard]] Timer after(Duration delay, std::function<void()> fn) override;
  using Loop::defer;
  void defer(Stage stage, std::function<void()> fn) override;
  void post(std::function<void()> fn) override;
  void work(std::function<void()> job, std::function<void()> done) override;
  void assert_current() const override;

  // Calls `fn` on the loop for every `signum`, as long as the loop lives.
  void on_signal(int signum, std::function<void()> fn);

  [[nodiscard]] uv_loop_t* uv() { return &uv_; }

 private:
  using TimerKey = std::pair<Instant, std::uint64_t>;  // The number keeps equal deadlines in order.
  class TimerImpl;
  struct Job;
  struct Signal;

  void run_timers();
  void run_deferred();
  void run_posted();
  void arm();

  // Loop state.
  uv_loop_t uv_{};
  uv_prepare_t prepare_{};
  uv_check_t check_{};
  uv_timer_t timer_{};
  uv_async_t async_{};
  std::vector<std::unique_ptr<Signal>> signals_;
  std::thread::id owner_;
  mutable Instant now_{};
  mutable bool now_known_ = false;
  bool closing_ = false;
  std::map<TimerKey, std::function<void()>> timers_;
  std::uint64_t next_timer_ = 1;
  Instant armed_ = kNever;
  DeferredQueue deferred_;

  // Guarded by mutex_.
  std::mutex mutex_;
  std::vector<std::function<void()>> posted_;
};

}  // namespace starling::overlay
