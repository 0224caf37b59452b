// DeferredQueue: what waits for the end of a turn, the functions of an earlier stage first.
// Thread: its loop's.
#pragma once

#include <array>
#include <functional>
#include <vector>

#include "overlay/loop/loop.h"

namespace starling::overlay {

class DeferredQueue {
 public:
  void push(Loop::Stage stage, std::function<void()> fn) {
    stages_[static_cast<std::size_t>(stage)].waiting.push_back(std::move(fn));
  }

  // The next to run; false: none is left. One that is pushed meanwhile may come next.
  bool pop(std::function<void()>& fn) {
    for (auto& stage : stages_) {
      if (stage.next < stage.waiting.size()) {
        fn = std::move(stage.waiting[stage.next++]);
        return true;
      }
      stage.waiting.clear();
      stage.next = 0;
    }
    return false;
  }

 private:
  struct Waiting {
    std::vector<std::function<void()>> waiting;
    std::size_t next = 0;
  };
  std::array<Waiting, Loop::kStages> stages_;
};

}  // namespace starling::overlay
