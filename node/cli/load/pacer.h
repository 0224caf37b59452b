// Pacer: says when the next send of a schedule is due, by a timerfd, because libuv's own timers are
// good to a millisecond and what is measured takes less.
//
// Sends that could not begin in time are said all at once, each with the moment it was due, and how
// late they are is recorded: that is what this process, not the server, adds to every latency.
// Thread: the loop's.
#pragma once

#include <functional>
#include <optional>

#include <uv.h>

#include "node/cli/load/histogram.h"
#include "node/cli/load/schedule.h"
#include "overlay/loop/clock.h"

namespace starling::node::cli {

class Pacer {
 public:
  using Due = std::function<void(std::uint64_t number, Instant due)>;

  explicit Pacer(uv_loop_t* loop);
  ~Pacer();
  Pacer(const Pacer&) = delete;
  Pacer& operator=(const Pacer&) = delete;

  // The first is due at once; `due` may stop the pacer.
  void start(double per_second, Due due);
  // What was due until now is still said. REQUIRES: started.
  void set_rate(double per_second);
  void stop();
  // Microseconds; forget() begins anew, for instance after a warm-up.
  [[nodiscard]] const Histogram& lateness() const { return lateness_; }
  void forget() { lateness_ = {}; }

  static Instant clock();

 private:
  struct Handle;  // Outlives the Pacer until libuv has closed it.

  void fired();
  void arm();

  Handle* handle_;
  Due due_;
  std::optional<Schedule> schedule_;  // Nothing: stopped.
  Histogram lateness_;
};

}  // namespace starling::node::cli
