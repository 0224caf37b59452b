#include "node/cli/terminal/screen.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "node/cli/terminal/table.h"

namespace starling::node::cli {
namespace {

constexpr unsigned kRowsMin = 4;

unsigned terminal_rows() {
  winsize size{};
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_row : 0;
}

}  // namespace

Screen::Screen() : colour_(stdout_has_colour()) {
  const char* kind = std::getenv("TERM");
  terminal_ = ::isatty(STDIN_FILENO) == 1 && ::isatty(STDOUT_FILENO) == 1 && kind != nullptr &&
              std::string(kind) != "dumb" && terminal_rows() >= kRowsMin;
  if (!terminal_) return;
  std::printf("\033[2J");
  lay_out();
}

Screen::~Screen() {
  if (!terminal_) return;
  std::printf("\033[r\033[%u;1H\033[K", rows_);
  std::fflush(stdout);
}

void Screen::lay_out() {
  rows_ = std::max(terminal_rows(), kRowsMin);
  // The region, and the place in it where the next message goes, kept by the terminal.
  std::printf("\033[1;%ur\033[%u;1H", rows_ - 1, rows_);
}

void Screen::print(const std::string& line) {
  if (!terminal_) {
    std::printf("%s\n", line.c_str());
  } else {
    std::printf("\0337\033[%u;1H\n%s\033[0m\0338", rows_ - 1, line.c_str());
  }
  std::fflush(stdout);
}

void Screen::set_prompt(const std::string& prompt) {
  prompt_ = prompt;
  redraw();
}

void Screen::redraw() {
  if (!terminal_) return;
  if (terminal_rows() != rows_) lay_out();
  std::printf("\033[%u;1H\033[K%s", rows_, prompt_.c_str());
  std::fflush(stdout);
}

StdinLines::StdinLines(overlay::Loop& loop, std::function<void(std::string)> on_line,
                       std::function<void()> on_end)
    : loop_(loop),
      on_line_(std::move(on_line)),
      on_end_(std::move(on_end)),
      wake_(::eventfd(0, EFD_CLOEXEC)),
      thread_([this] { read(); }) {}

StdinLines::~StdinLines() {
  *alive_ = false;
  const std::uint64_t one = 1;
  (void)!::write(wake_, &one, sizeof one);
  thread_.join();
  ::close(wake_);
}

void StdinLines::hand_over(std::string line) {
  loop_.post([this, alive = alive_, line = std::move(line)] {
    if (*alive) on_line_(line);
  });
}

void StdinLines::read() {
  std::string held;
  char buffer[4096];
  for (;;) {
    pollfd waits[2] = {{STDIN_FILENO, POLLIN, 0}, {wake_, POLLIN, 0}};
    if (::poll(waits, 2, -1) < 0 && errno == EINTR) continue;
    if (waits[1].revents != 0) return;
    const ssize_t n = ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    held.append(buffer, static_cast<std::size_t>(n));
    for (std::size_t end; (end = held.find('\n')) != std::string::npos;) {
      hand_over(held.substr(0, end));
      held.erase(0, end + 1);
    }
    if (held.size() > kLineSizeMax) hand_over(std::exchange(held, {}));
  }
  if (!held.empty()) hand_over(std::move(held));
  loop_.post([this, alive = alive_] {
    if (*alive) on_end_();
  });
}

}  // namespace starling::node::cli
