// Progress: one line that says how far a long command is; nothing for one that is soon over.
//
// On a terminal the line is redrawn in place, at most every 100 ms; otherwise a plain line is
// printed every few seconds, so that logs stay readable. It goes to standard error.
// Thread: one.
#pragma once

#include <optional>
#include <string>

#include "overlay/loop/clock.h"

namespace starling::node::cli {

class Progress {
 public:
  Progress();
  ~Progress() { finish(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `share` of the work is done, 0..1; `text` tells more: "sent 1,200  acked 1,180". What is left in time is
  // what the caller knows, else guessed from the share.
  using Seconds = std::optional<std::uint64_t>;
  void show(double share, const std::string& text, Instant now, Seconds left = {});
  // The same for a command without a loop.
  void show(double share, const std::string& text, Seconds left = {});
  // Prints a line of its own, above the bar.
  void say(const std::string& line);
  void finish();  // Leaves the cursor on an empty line.

 private:
  bool terminal_ = false;
  bool drawn_ = false;
  Instant started_ = kNever;
  Instant next_{};
};

// "[#####-----]  50 %  text  ~12 s left"; pure, for tests. Left: from the share done in `elapsed`.
std::string progress_line(double share, const std::string& text, Duration elapsed, std::size_t width,
                          std::optional<std::uint64_t> seconds_left = {});

}  // namespace starling::node::cli
