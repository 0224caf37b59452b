// Screen: the look of a line-based chat: messages scroll above, the line being typed stays below.
//
// The terminal itself does the work: a scroll region leaves the bottom row to the prompt, so the
// kernel's own line editing goes on undisturbed while messages arrive, also inside tmux. Without a
// terminal it prints plain lines and no prompt.
// Thread: the loop's; StdinLines reads on a thread of its own and posts lines to the loop.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "overlay/loop/loop.h"

namespace starling::node::cli {

class Screen {
 public:
  Screen();
  ~Screen();  // Gives the terminal back.
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  void print(const std::string& line);
  void set_prompt(const std::string& prompt);
  // After Enter, and when the window changed its size.
  void redraw();
  [[nodiscard]] bool colour() const { return colour_; }

 private:
  void lay_out();
  bool terminal_ = false;
  bool colour_ = false;
  unsigned rows_ = 0;
  std::string prompt_;
};

// Lines of standard input, one call each on the loop; then `on_end` once.
class StdinLines {
 public:
  StdinLines(overlay::Loop& loop, std::function<void(std::string)> on_line,
             std::function<void()> on_end);
  ~StdinLines();  // Stops the thread; no call follows.
  StdinLines(const StdinLines&) = delete;
  StdinLines& operator=(const StdinLines&) = delete;

 private:
  void read();
  void hand_over(std::string line);

  static constexpr std::size_t kLineSizeMax = 64 << 10;
  overlay::Loop& loop_;
  std::function<void(std::string)> on_line_;
  std::function<void()> on_end_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // Read on the loop only.
  int wake_ = -1;
  std::thread thread_;
};

}  // namespace starling::node::cli
