#include "node/cli/terminal/prompt.h"

#include <fstream>
#include <iostream>

#include "crypto/random.h"
#include "crypto/text.h"
#include "node/cli/terminal/terminal.h"

namespace starling::node::cli {
namespace {

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
  std::string question = what + ": ";
  question[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(question[0])));
  auto password = ask_password(question);
  if (!password) {
    return Error{Errc::kInvalid, "there is no terminal to ask for the " + what +
                                     "; give --password-file FILE (- is standard input)"};
  }
  if (password->empty()) return Error{Errc::kInvalid, "an empty password is none"};
  if (!twice) return password;
  const auto again = ask_password("The same again: ");
  if (!again || *again != *password) {
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
