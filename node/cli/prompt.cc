#include "node/cli/prompt.h"

#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

#include <fstream>
#include <iostream>

#include "crypto/random.h"
#include "crypto/text.h"

namespace starling::node::cli {
namespace {

// The terminal of the process, whatever standard input is; echo is off while it lives.
class Terminal {
 public:
  Terminal() : fd_(::open("/dev/tty", O_RDWR | O_CLOEXEC)) {
    if (fd_ < 0 || tcgetattr(fd_, &before_) != 0) return;
    termios quiet = before_;
    quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    ok_ = tcsetattr(fd_, TCSAFLUSH, &quiet) == 0;
  }
  ~Terminal() {
    if (ok_) tcsetattr(fd_, TCSAFLUSH, &before_);
    if (fd_ >= 0) ::close(fd_);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  [[nodiscard]] bool ok() const { return ok_; }
  std::string ask(const std::string& question) const {
    say(question);
    std::string line;
    for (char c = 0; ::read(fd_, &c, 1) == 1 && c != '\n';) line += c;
    say("\n");
    return line;
  }

 private:
  void say(const std::string& text) const {
    if (::write(fd_, text.data(), text.size()) < 0) return;
  }

  int fd_;
  termios before_{};
  bool ok_ = false;
};

Result<std::string> first_line(const std::string& path) {
  std::ifstream file;
  if (path != "-") file.open(path);
  std::istream& in = path == "-" ? std::cin : file;
  std::string line;
  if (!std::getline(in, line) || line.empty()) {
    return Error{Errc::kIo, "there is no password in the first line of " + path};
  }
  return line;
}

}  // namespace

void add_password_options(po::options_description& options) {
  options.add_options()("password", po::value<std::string>()->value_name("TEXT"),
                        "the password; others can see it in the list of processes")(
      "password-file", po::value<std::string>()->value_name("FILE"),
      "file with the password in its first line; - is standard input");
}

Result<std::string> read_password(const Arguments& arguments, const std::string& what, bool twice) {
  if (arguments.has("password")) return arguments.text("password");
  if (arguments.has("password-file")) return first_line(arguments.text("password-file"));
  const Terminal terminal;
  if (!terminal.ok()) {
    return Error{Errc::kInvalid, "there is no terminal to ask for the " + what +
                                     ": give --password-file FILE (- is standard input)"};
  }
  const std::string password = terminal.ask(what + ": ");
  if (password.empty()) return Error{Errc::kInvalid, "an empty password is none"};
  if (twice && terminal.ask("The same again: ") != password) {
    return Error{Errc::kInvalid, "the two passwords differ: try again"};
  }
  return password;
}

std::string random_password() {
  std::uint8_t bytes[15];
  SystemRandom().fill(bytes);
  return base64url({reinterpret_cast<const char*>(bytes), sizeof bytes});
}

}  // namespace starling::node::cli
