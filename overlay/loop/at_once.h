// at_once: many like tasks, a few of them at a time.
// Thread: one loop.
#pragma once

#include <algorithm>
#include <cstddef>

#include "overlay/loop/task.h"

namespace starling::overlay {

// Awaits work(0) to work(count - 1), a Task each, at most `window` at a time. `work` must not throw.
template <class Work>
Task<bool> at_once(Loop& loop, std::size_t count, std::size_t window, Work work) {
  std::size_t next = 0;
  std::size_t workers = std::min(count, window);
  if (workers == 0) co_return true;
  auto [completer, done] = Completer<bool>::make(loop);
  const auto worker = [&, &completer = completer]() -> Task<bool> {
    while (next < count) {
      auto one = work(next++);
      (void)co_await one;
    }
    if (--workers == 0) completer.set(true);
    co_return true;
  };
  Scope scope(loop);
  for (std::size_t i = workers; i > 0; --i) scope.spawn(worker());
  co_return co_await done;
}

}  // namespace starling::overlay
