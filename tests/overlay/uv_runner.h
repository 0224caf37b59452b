// Runs a UvLoop until a condition holds, with a limit after which the test has failed.
#pragma once

#include <functional>

#include <gtest/gtest.h>

#include "overlay/loop/uv_loop.h"

namespace starling::overlay {

// Looks after every turn that the condition could have changed in, and at least every millisecond.
inline bool run_until(UvLoop& loop, const std::function<bool()>& condition, Duration limit = 20s) {
  const Instant end = loop.now() + limit;
  bool held = false;
  Timer tick;
  std::function<void()> look = [&] {
    held = condition();
    if (held || loop.now() >= end) return loop.stop();
    tick = loop.after(1ms, look);
  };
  tick = loop.after(0ms, look);
  loop.run();
  return held;
}

// Lets everything that is already on its way happen.
inline void run_for(UvLoop& loop, Duration time) {
  Timer timer = loop.after(time, [&] { loop.stop(); });
  loop.run();
}

}  // namespace starling::overlay
