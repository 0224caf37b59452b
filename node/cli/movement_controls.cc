// starling pause, resume and throttle: when and how fast changes of the ring copy data, on every node.
#include <cctype>
#include <charconv>
#include <iostream>
#include <optional>

#include "node/cli/admin_client.h"
#include "node/cli/commands.h"
#include "node/cli/terminal/table.h"

namespace starling::node::cli {
namespace {

// Bytes a second: "20M", "512K", "1G", "1000000"; "off" is 0.
std::optional<std::uint64_t> parse_rate(const std::string& text) {
  if (text == "off" || text == "none") return 0;
  std::uint64_t number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || number == 0) return std::nullopt;
  const std::string unit(rest, end);
  unsigned shift = 0;
  if (!unit.empty()) {
    const auto at = std::string("KMGT").find(static_cast<char>(std::toupper(static_cast<unsigned char>(unit[0]))));
    const std::string tail = unit.substr(1);
    const bool plain = tail.empty() || tail == "B" || tail == "iB" || tail == "iB/s";
    if (at == std::string::npos || !plain) return std::nullopt;
    shift = 10 * (static_cast<unsigned>(at) + 1);
  }
  if (number > (~std::uint64_t{0} >> shift)) return std::nullopt;
  return number << shift;
}

void print_told(const Json& answer) {
  const auto taken = list_of(answer, "taken").size();
  if (taken == 0) return;
  std::cout << "Told " << thousands(taken) << (taken == 1 ? " node." : " nodes.");
  const Json& away = list_of(answer, "away");
  for (std::size_t i = 0; i < away.size(); ++i) {
    std::cout << (i == 0 ? " Away: " : ", ") << (away[i].is_string() ? away[i].get<std::string>() : "");
  }
  std::cout << (away.empty() ? "\n" : "; told when back.\n");
}

using Words = std::string (*)(const Json& answer);
int say(const Arguments& arguments, const std::string& method, const Json& question, Words words) {
  Json answer;
  if (const int code = admin_call(arguments, method, question, answer); code != kExitOk) return code;
  if (arguments.flag("json")) {
    std::cout << answer.dump(2) << "\n";
    return kExitOk;
  }
  std::cout << words(answer) << "\n";
  print_told(answer);
  return kExitOk;
}

int pause(const Arguments& arguments) {
  return say(arguments, "pause", Json::object(), [](const Json& answer) {
    const bool open = flag_of(answer, "change");
    return std::string(open ? "The change of the ring under way copies nothing more."
                            : "No change of the ring is under way; the next ones will copy nothing.") +
           " `starling resume` lets it go on.";
  });
}

int resume(const Arguments& arguments) {
  return say(arguments, "resume", Json::object(), [](const Json& answer) {
    const bool open = flag_of(answer, "change");
    return std::string(open ? "The change of the ring goes on; see: starling ring --diff"
                            : "No change of the ring is under way; the next one will copy as usual.");
  });
}

std::string rate_words(const Json& answer) {
  const auto rate = number_of(answer, "rate_limit");
  return rate == 0 ? "Changes of the ring copy as fast as they can."
                   : "Each node copies at most " + bytes_text(rate) + "/s for changes of the ring.";
}

int throttle(const Arguments& arguments) {
  Json question = Json::object();
  if (arguments.has("rate")) {
    const auto rate = parse_rate(arguments.text("rate"));
    if (!rate) {
      return complain(kExitUsage, "'" + arguments.text("rate") +
                                      "' is no rate: write bytes a second, as 20M, 512K or 1000000, or off");
    }
    question["rate"] = *rate;
  }
  return say(arguments, "throttle", question, rate_words);
}

void add_options(po::options_description& options) {
  add_admin_options(options);
  add_json_option(options);
}

}  // namespace

Command pause_command() {
  return {
      .name = "pause",
      .summary = "let changes of the ring copy no data, until `resume`",
      .usage = "pause [--data FOLDER] [--json]",
      .about = "The copying of joins, leaves, removals, replacements and new weights stops on every node, and what is\n"
               "under way waits where it is. It holds over restarts and for nodes that come later. The owners stay as\n"
               "they are meanwhile, so nobody's messages are touched. A change that has copied everything completes.\n"
               "Not paused: an owner that was away catches up, and who left hands home what only it has.\n\n"
               "Examples:\n"
               "  starling pause\n"
               "  starling resume\n",
      .options = add_options,
      .run = pause,
      .words = {},
  };
}

Command resume_command() {
  return {
      .name = "resume",
      .summary = "let changes of the ring copy data again",
      .usage = "resume [--data FOLDER] [--json]",
      .about = "Ends `starling pause`.\n\nExamples:\n  starling resume\n",
      .options = add_options,
      .run = resume,
      .words = {},
  };
}

Command throttle_command() {
  return {
      .name = "throttle",
      .summary = "say how fast changes of the ring may copy data",
      .usage = "throttle [RATE|off] [--data FOLDER] [--json]",
      .about = "The most that each node fetches for joins, leaves, removals, replacements and new weights, in bytes a\n"
               "second, with K, M or G for 1,024 of the smaller. At least 64K; off: as fast as it goes, and the people\n"
               "who write meanwhile feel it. A new cluster has 16M. Without a rate it tells the present one. It holds over\n"
               "restarts and for nodes that come later. An owner that was away catches up at that rate, too, or at 32M\n"
               "where that is more; off: as fast as it goes.\n\n"
               "Examples:\n"
               "  starling throttle\n"
               "  starling throttle 50M\n"
               "  starling throttle off\n",
      .options =
          [](po::options_description& options) {
            add_options(options);
            options.add_options()("rate", po::value<std::string>());
          },
      .run = throttle,
      .words = {"[rate]"},
  };
}

}  // namespace starling::node::cli
