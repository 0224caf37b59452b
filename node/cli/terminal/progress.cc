#include "node/cli/terminal/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "node/cli/terminal/table.h"

namespace starling::node::cli {
namespace {

constexpr std::size_t kBarWidth = 24;
constexpr std::size_t kBarWidthMin = 8;  // On a narrow terminal; then the text is cut, not the time left.
constexpr Duration kRedraw = 100ms;
constexpr Duration kPlainLine = 5s;
constexpr Duration kFirstDrawn = 300ms;  // What is over sooner needs no bar,
constexpr Duration kFirstPlain = 2s;     // and a log no line.

std::size_t terminal_width() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 20) return 100;
  return size.ws_col;
}

}  // namespace

std::string progress_line(double share, const std::string& text, Duration elapsed, std::size_t width,
                          std::optional<std::uint64_t> seconds_left) {
  share = std::clamp(share, 0.0, 1.0);
  const double seconds = std::chrono::duration<double>(elapsed).count();
  if (!seconds_left && share > 0.02 && share < 1 && seconds > 1) {
    seconds_left = static_cast<std::uint64_t>(seconds * (1 - share) / share + 0.5);
  }
  const std::string left = seconds_left ? "  ~" + duration_text(*seconds_left) + " left" : "";
  std::string percent = std::to_string(static_cast<int>(share * 100)) + " %  ";
  percent.insert(0, 7 - std::min<std::size_t>(percent.size(), 7), ' ');
  const std::size_t fixed = 3 + percent.size() + left.size();
  const std::size_t room = width > fixed ? width - fixed : 0;
  const std::size_t bar = std::clamp(room > text.size() ? room - text.size() : 0, kBarWidthMin, kBarWidth);
  const auto full = static_cast<std::size_t>(std::lround(share * static_cast<double>(bar)));
  const std::string line = "[" + std::string(full, '#') + std::string(bar - full, '-') + "] " + percent +
                           text.substr(0, room > bar ? room - bar : 0) + left;
  return line.substr(0, std::max<std::size_t>(width, 1));
}

Progress::Progress() : terminal_(::isatty(STDERR_FILENO) == 1) {}

void Progress::show(double share, const std::string& text, Instant now, Seconds left) {
  if (started_ == kNever) {
    started_ = now;
    next_ = now + (terminal_ ? kFirstDrawn : kFirstPlain);
  }
  if (now < next_) return;
  next_ = now + (terminal_ ? kRedraw : kPlainLine);
  const std::string line =
      progress_line(share, text, now - started_, terminal_ ? terminal_width() - 1 : 200, left);
  std::fprintf(stderr, terminal_ ? "\r\033[K%s" : "%s\n", line.c_str());
  std::fflush(stderr);
  drawn_ = true;
}

void Progress::show(double share, const std::string& text, Seconds left) {
  show(share, text, Instant(std::chrono::steady_clock::now().time_since_epoch()), left);
}

void Progress::say(const std::string& line) {
  std::fprintf(stderr, terminal_ && drawn_ ? "\r\033[K%s\n" : "%s\n", line.c_str());
  next_ = Instant{};
}

void Progress::finish() {
  if (terminal_ && drawn_) std::fprintf(stderr, "\r\033[K");
  drawn_ = false;
}

}  // namespace starling::node::cli
