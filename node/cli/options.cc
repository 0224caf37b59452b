#include "node/cli/options.h"

#include <algorithm>
#include <fstream>
#include <iostream>
#include <numeric>

#include "node/version.h"

namespace starling::node::cli {
namespace {

constexpr const char* kExitCodes =
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no node answers, 4 denied or not logged in,\n"
    "5 timed out or too few nodes (try again later).\n";

// One entry of Command::words.
struct Word {
  std::string option;
  bool required = true;
  bool rest = false;
};

Word parse_word(std::string text) {
  Word word;
  if (text.starts_with('[')) {
    word.required = false;
    text = text.substr(1, text.size() - 2);
  }
  if (text.ends_with("...")) {
    word.rest = true;
    text.resize(text.size() - 3);
  }
  word.option = text;
  return word;
}

std::string upper(std::string text) {
  for (char& c : text) c = c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

std::string variable(const Command& command, const std::string& option) {
  const bool listens = option == "client" || option == "link" || option == "admin";
  return (command.starts_node && listens ? "STARLING_LISTEN_" : "STARLING_") + upper(option);
}

po::options_description all_options(const Command& command) {
  po::options_description options;
  if (command.options) command.options(options);
  options.add_options()("help,h", "show this help");
  return options;
}

// The options without those that bare words fill.
po::options_description named_options(const Command& command) {
  const po::options_description all = all_options(command);
  po::options_description named("Options", 100, 60);
  for (const auto& option : all.options()) {
    const bool is_word = std::any_of(command.words.begin(), command.words.end(), [&](auto& word) {
      return parse_word(word).option == option->long_name();
    });
    if (!is_word) named.add(option);
  }
  return named;
}

std::vector<std::string> long_names(const po::options_description& options, const std::string& prefix) {
  std::vector<std::string> names;
  for (const auto& option : options.options()) names.push_back(prefix + option->long_name());
  return names;
}

std::string suggestion(View text, const std::vector<std::string>& known) {
  const std::string near = nearest(text, known);
  return near.empty() ? "" : "; did you mean " + near + "?";
}

std::string see_help(const Command& command) { return ". See: starling " + command.name + " --help"; }

Error usage(const Command& command, const std::string& text) {
  return {Errc::kInvalid, text + see_help(command)};
}

// Values of the options that the environment sets.
po::parsed_options parse_environment(const Command& command, const po::options_description& options,
                                     const Environment& environment) {
  po::parsed_options parsed(&options);
  for (const auto& option : options.options()) {
    const std::string name = option->long_name();
    const bool word = std::any_of(command.words.begin(), command.words.end(),
                                  [&](auto& w) { return parse_word(w).option == name; });
    if (name == "help" || word) continue;
    const char* value = environment(variable(command, name));
    if (value != nullptr && *value != '\0') parsed.options.emplace_back(name, std::vector<std::string>{value});
  }
  return parsed;
}

// boost reads "-1" as a huge number; nothing here is negative.
const po::option* negative_number(const po::parsed_options& parsed) {
  for (const auto& option : parsed.options) {
    const auto* description = parsed.description->find_nothrow(option.string_key, false);
    if (description == nullptr || option.value.size() != 1 || !option.value[0].starts_with('-')) continue;
    const auto* typed =
        dynamic_cast<const po::typed_value<std::uint64_t>*>(description->semantic().get());
    if (typed != nullptr) return &option;
  }
  return nullptr;
}

Status store(const Command& command, const po::parsed_options& parsed, po::variables_map& values) {
  if (const auto* option = negative_number(parsed)) {
    return usage(command, "--" + option->string_key + " takes a number of 0 or more, not '" +
                              option->value[0] + "'");
  }
  po::store(parsed, values);
  return ok_status();
}

Status read_file(const Command& command, const po::options_description& options,
                 po::variables_map& values) {
  if (!command.starts_node || !values.count("data")) return ok_status();
  const std::string path = values["data"].as<std::string>() + "/starling.conf";
  std::ifstream file(path);
  if (!file) return ok_status();
  try {
    return store(command, po::parse_config_file(file, options, false), values);
  } catch (const po::unknown_option& error) {
    const std::string name = error.get_option_name();
    return Error{Errc::kInvalid, path + ": there is no setting '" + name + "'" +
                                     suggestion(name, long_names(options, ""))};
  } catch (const po::error& error) {
    return Error{Errc::kInvalid, path + ": " + error.what()};
  }
}

Status check_words(const Command& command, const po::variables_map& values) {
  for (const auto& text : command.words) {
    const Word word = parse_word(text);
    if (word.required && !values.count(word.option)) {
      return usage(command, upper(word.option) + " is missing: starling " + command.usage);
    }
  }
  return ok_status();
}

Result<Arguments> parse(const Command& command, const std::vector<std::string>& words,
                        const po::options_description& options, const Environment& environment) {
  po::positional_options_description positional;
  for (const auto& text : command.words) {
    const Word word = parse_word(text);
    positional.add(word.option.c_str(), word.rest ? -1 : 1);
  }
  namespace style = po::command_line_style;
  po::variables_map values;
  TRY(store(command,
            po::command_line_parser(words)
                .options(options)
                .positional(positional)
                .style(style::default_style & ~style::allow_guessing)
                .run(),
            values));
  TRY(store(command, parse_environment(command, options, environment), values));
  TRY(read_file(command, options, values));
  TRY(check_words(command, values));
  return Arguments(std::move(values));
}

// Damerau's distance: insertions, deletions, replacements and swaps of neighbours.
std::size_t distance(View a, View b) {
  std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  std::iota(last.begin(), last.end(), 0);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

const Command* find(const std::vector<Command>& commands, const std::string& name) {
  for (const auto& command : commands) {
    if (command.name == name) return &command;
  }
  return nullptr;
}

int unknown_command(const std::vector<Command>& commands, const std::vector<std::string>& words) {
  std::string members;
  std::vector<std::string> names;
  for (const auto& command : commands) {
    names.push_back(command.name);
    names.push_back(command.name.substr(0, command.name.find(' ')));
    if (command.name.starts_with(words[0] + " ")) members += "\n  starling " + command.usage;
  }
  if (!members.empty()) {
    return complain(kExitUsage, "'" + words[0] + "' needs one of these:" + members);
  }
  return complain(kExitUsage, "there is no command '" + words[0] + "'" + suggestion(words[0], names) +
                                  ". See: starling --help");
}

}  // namespace

int exit_code(const Error& error) {
  switch (error.code) {
    case Errc::kDenied:
    case Errc::kUnauthenticated: return kExitDenied;
    case Errc::kTimeout:
    case Errc::kUnavailable:
    case Errc::kOverloaded:
    case Errc::kCatchingUp: return kExitUnavailable;
    default: return kExitFailed;
  }
}

int complain(int code, const std::string& text) {
  std::cout.flush();
  std::cerr << "starling: " << text << std::endl;
  return code;
}

int complain(const Error& error) { return complain(exit_code(error), error.text); }

bool Arguments::has(const std::string& name) const {
  return values_.count(name) > 0 && !values_[name].empty();
}
bool Arguments::given(const std::string& name) const {
  return has(name) && !values_[name].defaulted();
}
bool Arguments::flag(const std::string& name) const { return has(name) && values_[name].as<bool>(); }
std::string Arguments::text(const std::string& name) const {
  return has(name) ? values_[name].as<std::string>() : "";
}
std::uint64_t Arguments::number(const std::string& name) const {
  return has(name) ? values_[name].as<std::uint64_t>() : 0;
}
double Arguments::real(const std::string& name) const {
  return has(name) ? values_[name].as<double>() : 0;
}
std::vector<std::string> Arguments::list(const std::string& name) const {
  return has(name) ? values_[name].as<std::vector<std::string>>() : std::vector<std::string>();
}

std::string nearest(View text, const std::vector<std::string>& known) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(1, text.size() / 3) + 1;
  for (const auto& candidate : known) {
    const std::size_t d = distance(text, candidate);
    if (d < best_distance) {
      best = candidate;
      best_distance = d;
    }
  }
  return best;
}

Result<Arguments> parse_arguments(const Command& command, const std::vector<std::string>& words,
                                  const Environment& environment) {
  const po::options_description options = all_options(command);
  try {
    return parse(command, words, options, environment);
  } catch (const po::unknown_option& error) {
    const std::string name = error.get_option_name();
    return usage(command, "'" + command.name + "' has no option " + name +
                              suggestion(name, long_names(options, "--")));
  } catch (const po::too_many_positional_options_error&) {
    return usage(command, "too many words: starling " + command.usage);
  } catch (const po::error& error) {
    return usage(command, error.what());
  }
}

void print_help(std::ostream& out, const Command& command) {
  out << "Usage: starling " << command.usage << "\n\n"
      << command.about << "\n"
      << named_options(command) << "\n"
      << "Each option can be set in the environment: --data is " << variable(command, "data") << ".";
  if (command.starts_node) {
    out << " The\nlistening addresses are STARLING_LISTEN_CLIENT, STARLING_LISTEN_LINK and\n"
           "STARLING_LISTEN_ADMIN. <data>/starling.conf holds `option = value` lines; a flag wins over\n"
           "the environment, and that over the file.";
  }
  out << "\n" << kExitCodes;
}

void print_overview(std::ostream& out, const std::vector<Command>& commands) {
  out << "Starling: a decentralized instant-messaging node.\n\nUsage: starling COMMAND [options]\n\n";
  std::size_t width = 0;
  for (const auto& command : commands) width = std::max(width, command.name.size());
  for (const auto& command : commands) {
    out << "  " << command.name << std::string(width - command.name.size() + 2, ' ') << command.summary
        << "\n";
  }
  out << "\nFirst steps: starling run (in one terminal), then starling user add alice bob (in another).\n"
      << "More about a command: starling COMMAND --help\n" << kExitCodes;
}

int run_command_line(const std::vector<Command>& commands, const std::vector<std::string>& all_words,
                     const Environment& environment) {
  std::vector<std::string> words = all_words;
  const bool wants_help = !words.empty() && words[0] == "help";
  if (wants_help) words.erase(words.begin());
  if (words.empty() || words[0] == "--help" || words[0] == "-h") {
    print_overview(std::cout, commands);
    return all_words.empty() ? kExitUsage : kExitOk;
  }
  if (words[0] == "--version") {
    std::cout << "starling " << kVersion << "\n";
    return kExitOk;
  }
  const Command* command = words.size() > 1 ? find(commands, words[0] + " " + words[1]) : nullptr;
  std::size_t taken = 2;
  if (command == nullptr) {
    command = find(commands, words[0]);
    taken = 1;
  }
  if (command == nullptr) return unknown_command(commands, words);
  words.erase(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(taken));

  const auto end_of_options = std::find(words.begin(), words.end(), "--");
  const auto is_help = [](const std::string& word) { return word == "--help" || word == "-h"; };
  if (wants_help || std::any_of(words.begin(), end_of_options, is_help)) {
    print_help(std::cout, *command);
    return kExitOk;
  }
  auto arguments = parse_arguments(*command, words, environment);
  if (!arguments) return complain(kExitUsage, arguments.error().text);
  return command->run(*arguments);
}

}  // namespace starling::node::cli
