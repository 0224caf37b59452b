// Tally: what became of what was written, post by post, so that nothing that arrives twice or was refused hides what did not
// arrive.
// Thread: the owner's.
#pragma once

#include <cstddef>
#include <cstdint>

#include "overlay/loop/clock.h"

namespace starling::node::cli {

struct Post {
  Instant due;
  std::size_t left = 0;  // Deliveries, of what was not refused.
  bool answered = false;
  bool refused = false;  // It may arrive or not.
};

class Tally {
 public:
  void answered(Post& post, bool good) {
    post.answered = true;
    if (good) {
      ++acked_;
      missing_ += post.left;
    } else {
      ++refused_;
      post.refused = true;
      post.left = 0;
    }
  }
  enum class Arrival { kDue, kRefused, kAgain };
  Arrival arrived(Post& post) {
    if (post.refused) return Arrival::kRefused;
    if (post.left == 0) return Arrival::kAgain;
    --post.left;
    if (post.answered) --missing_;
    ++delivered_;
    return Arrival::kDue;
  }

  [[nodiscard]] std::uint64_t acked() const { return acked_; }
  [[nodiscard]] std::uint64_t refused() const { return refused_; }
  [[nodiscard]] std::uint64_t delivered() const { return delivered_; }
  // Deliveries of acknowledged posts that did not come: lost, in the end.
  [[nodiscard]] std::uint64_t missing() const { return missing_; }

 private:
  std::uint64_t acked_ = 0, refused_ = 0, delivered_ = 0, missing_ = 0;
};

}  // namespace starling::node::cli
