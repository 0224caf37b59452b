// Options: what a command is, and how its flags, environment and files become one set of values.
//
// A command is a row of the table in commands.cc: name, help, options, and a function from Arguments to
// an exit code. A value is taken from the flag, else from the environment (STARLING_ and the option's
// name in capitals: --data is STARLING_DATA), else from <data>/starling.conf (`key = value`, for the
// commands that start a node), else from its default.
// Every complaint says what is wrong and what to do; a name that nearly fits is suggested.
// Thread: the main thread, before any loop runs.
#pragma once

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include <boost/program_options.hpp>

#include "crypto/result.h"
#include "overlay/loop/transport.h"

namespace starling::node::cli {

namespace po = boost::program_options;

// Exit codes, the same for every command; docs and --help list them.
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;       // The operation failed; the text says why.
inline constexpr int kExitUsage = 2;        // The command line is wrong.
inline constexpr int kExitUnreachable = 3;  // No node answers there.
inline constexpr int kExitDenied = 4;       // Not allowed, or wrong name, password or token.
inline constexpr int kExitUnavailable = 5;  // Timed out, or too few nodes: try again later.
inline constexpr int kExitFatal = 70;       // The node stopped itself: its disk is not to be trusted.

// The exit code that fits `error`. A connection that fails is kIo: commands that tell it apart return
// kExitUnreachable themselves.
int exit_code(const Error& error);
// "starling: <text>" on standard error; returns the exit code.
int complain(const Error& error);
int complain(int code, const std::string& text);

// The values of one invocation. What is absent reads as "", 0 or an empty list.
class Arguments {
 public:
  Arguments() = default;
  explicit Arguments(po::variables_map values) : values_(std::move(values)) {}

  [[nodiscard]] bool has(const std::string& name) const;   // Given, or has a default.
  [[nodiscard]] bool given(const std::string& name) const;  // Given by flag, environment or file.
  [[nodiscard]] bool flag(const std::string& name) const;   // For po::bool_switch().
  [[nodiscard]] std::string text(const std::string& name) const;  // "" when absent.
  [[nodiscard]] std::uint64_t number(const std::string& name) const;  // po::value<std::uint64_t>()
  [[nodiscard]] double real(const std::string& name) const;           // po::value<double>()
  [[nodiscard]] std::vector<std::string> list(const std::string& name) const;

 private:
  po::variables_map values_;
};

struct Command {
  std::string name;     // "send", or two words: "user add".
  std::string summary;  // One line, for the list of commands.
  std::string usage;    // "send ADDRESS [TEXT] [options]"
  std::string about;    // What it does and examples: the body of --help.
  std::function<void(po::options_description&)> options;
  std::function<int(const Arguments&)> run;
  // Options that bare words fill, in order: {"address"} must be given, {"[address]"} may be, and a last
  // one that ends in "..." takes all the rest: {"name..."}, {"address", "[text...]"}. Each is declared
  // in `options` too, as a po::value<std::string>() or, with "...", a vector of them.
  std::vector<std::string> words;
  // Starts a node: also reads <data>/starling.conf, and its listening addresses come from
  // STARLING_LISTEN_CLIENT, _LINK and _ADMIN, since STARLING_CLIENT is where clients connect.
  bool starts_node = false;
};

// Options that several commands share.
void add_data_option(po::options_description& options);    // --data
void add_json_option(po::options_description& options);    // --json
void add_admin_options(po::options_description& options);  // --data, --admin, --timeout
// --client (repeatable, or separated by commas) and --data.
void add_client_options(po::options_description& options);

// Where the client commands connect: --client, else the addresses.json of the node in --data. Host names
// are resolved. kInvalid, kNotFound.
Result<std::vector<overlay::Endpoint>> client_endpoints(const Arguments& arguments);
// "127.0.0.1:7400", "localhost:7400", "unix:/path"; blocks while a name is resolved.
Result<overlay::Endpoint> resolve_endpoint(View text);

// A name or value from `known` that `text` was probably meant to be; "" when none is near.
std::string nearest(View text, const std::vector<std::string>& known);

// Values for `command` from `words` (everything after the command's name). kInvalid, with the text to show.
using Environment = std::function<const char*(const std::string& name)>;
Result<Arguments> parse_arguments(const Command& command, const std::vector<std::string>& words,
                                  const Environment& environment);

void print_help(std::ostream& out, const Command& command);
void print_overview(std::ostream& out, const std::vector<Command>& commands);

// Finds the command, parses and runs it. main() is this and nothing else.
int run_command_line(const std::vector<Command>& commands, const std::vector<std::string>& words,
                     const Environment& environment);

}  // namespace starling::node::cli
