#include "node/cli/terminal/terminal.h"

#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

#include <ctime>

#include "crypto/text.h"

namespace starling::node::cli {
namespace {

bool turns_direction(char32_t c) {
  return c == 0x061C || (c >= 0x200E && c <= 0x200F) || (c >= 0x202A && c <= 0x202E) ||
         (c >= 0x2066 && c <= 0x2069);
}

bool is_control(char32_t c) {
  return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x2028 || c == 0x2029 || turns_direction(c);
}

}  // namespace

std::string printable(View text, bool lines) {
  std::string out;
  while (!text.empty()) {
    const View before = text;
    const auto c = next_code_point(text);
    if (!c) {
      text.remove_prefix(1);
      out += "\uFFFD";
    } else if (*c == '\n') {
      out += lines ? "\n  " : " ";
    } else if (*c == '\t') {
      out += ' ';
    } else if (*c == '\r') {
      continue;
    } else if (is_control(*c)) {
      out += "\uFFFD";
    } else {
      out += before.substr(0, before.size() - text.size());
    }
  }
  return out;
}

std::string coloured_name(const std::string& name, bool colour) {
  if (!colour) return name;
  static constexpr int kColours[] = {31, 32, 33, 34, 35, 36, 91, 92, 93, 94, 95, 96};
  std::uint32_t hash = 2166136261u;  // FNV-1a.
  for (const char c : name) hash = (hash ^ static_cast<std::uint8_t>(c)) * 16777619u;
  return "\033[" + std::to_string(kColours[hash % std::size(kColours)]) + "m" + name + "\033[0m";
}

std::string dim(const std::string& text, bool colour) {
  return colour ? "\033[2m" + text + "\033[0m" : text;
}

std::string clock_text(std::int64_t wall_ms) {
  const std::time_t seconds = static_cast<std::time_t>(wall_ms / 1000);
  std::tm local{};
  localtime_r(&seconds, &local);
  char out[16];
  std::strftime(out, sizeof out, "%H:%M:%S", &local);
  return out;
}

Result<std::string> ask_password(const std::string& prompt) {
  const int tty = ::open("/dev/tty", O_RDWR | O_CLOEXEC);
  termios before{};
  if (tty < 0 || ::tcgetattr(tty, &before) != 0) {
    if (tty >= 0) ::close(tty);
    return Error{Errc::kUnauthenticated,
                 "no password: give --password-file FILE, STARLING_PASSWORD or --token"};
  }
  termios quiet = before;
  quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
  ::tcsetattr(tty, TCSAFLUSH, &quiet);
  (void)!::write(tty, prompt.data(), prompt.size());
  std::string line;
  char c = 0;
  while (::read(tty, &c, 1) == 1 && c != '\n') line += c;
  ::tcsetattr(tty, TCSAFLUSH, &before);
  (void)!::write(tty, "\n", 1);
  ::close(tty);
  return line;
}

}  // namespace starling::node::cli
