// starling ring double: twice the partitions, on a running cluster.
#include <iostream>

#include "node/cli/admin_client.h"
#include "node/cli/commands.h"
#include "node/cli/movement_change.h"
#include "node/cli/movement_step.h"
#include "node/cli/terminal/table.h"

namespace starling::node::cli {
namespace {

std::string command_for(std::uint64_t to) { return "starling ring double --to " + std::to_string(to); }

void print_plan(const Json& plan, bool colour) {
  const auto now = number_of(plan, "partitions"), to = number_of(plan, "to");
  Table table({"Node", ">Partitions now", ">After", ">Moves within its disk", ">Room on disk"});
  std::uint64_t bytes = 0;
  for (const Json& node : list_of(plan, "nodes")) {
    const auto moves = number_of(node, "bytes"), room = number_of(node, "room");
    bytes += moves;
    table.row({text_of(node, "short"), thousands(number_of(node, "now")), thousands(number_of(node, "next")),
               "up to " + bytes_text(moves), room == ~std::uint64_t{0} ? "" : bytes_text(room)});
  }
  table.print(std::cout, colour);
  std::cout << "\n"
            << thousands(now) << " partitions become " << thousands(to) << ". Each owner keeps what it has: nothing "
            << "moves between nodes.\nEach node writes about half of its log once more, in the background while it "
            << "serves: up to " << bytes_text(bytes) << " together.\n"
            << paint("It cannot be undone,", Tone::kBad, colour)
            << " and programs from before this feature cannot read the cluster or its folders any more.\n";
}

MoveStep look(const Json& movement, std::uint64_t to) {
  const Json doubling = object_of(movement, "doubling");
  MoveStep step = settle_step(doubling);
  if (number_of(doubling, "partitions") > to) step.open = false;  // The next one.
  return step;
}

int wait_for(const Arguments& arguments, std::uint64_t to, Json& answer) {
  Json movement;
  const auto step = [to](const Json& now) { return look(now, to); };
  if (const int code = follow_change(arguments, Json::object(), step, movement); code != kExitOk) return code;
  answer["finished"] = object_of(movement, "doubling");
  return kExitOk;
}

int plan(const Arguments& arguments) {
  Json question = {{"dry_run", true}};
  if (arguments.has("to")) question["to"] = arguments.number("to");
  Json answer;
  if (const int code = admin_call(arguments, "double", question, answer); code != kExitOk) return code;
  const std::string command = command_for(number_of(answer, "to"));
  if (arguments.flag("json") && arguments.flag("dry-run")) {
    std::cout << answer.dump(2) << "\n";
    return kExitOk;
  }
  if (flag_of(answer, "already")) {
    std::cout << "There are " << thousands(number_of(answer, "partitions")) << " partitions already.\n";
    return kExitOk;
  }
  if (!arguments.flag("json")) print_plan(answer, stdout_has_colour());
  if (!arguments.flag("dry-run")) {
    return complain(kExitUsage, "nothing was changed. To do it, say the number: " + command);
  }
  std::cout << "Nothing was changed. To do it: " << command << "\n";
  return kExitOk;
}

int double_partitions(const Arguments& arguments) {
  if (arguments.flag("dry-run") || !arguments.has("to")) return plan(arguments);
  const auto to = arguments.number("to");
  Json answer;
  if (const int code = admin_call(arguments, "double", {{"to", to}}, answer); code != kExitOk) return code;
  const bool json = arguments.flag("json"), already = flag_of(answer, "already");
  if (!json && already) {
    std::cout << "There are " << thousands(to) << " partitions already.\n";
  } else if (!json) {
    std::cout << "Agreed: " << thousands(to) << " partitions since ring version " << number_of(answer, "ring")
              << ". Each node settles what it has, and serves meanwhile.\n";
  }
  std::cout.flush();
  if (!arguments.flag("no-wait")) {
    if (const int code = wait_for(arguments, to, answer); code != kExitOk) return code;
    if (!json) std::cout << "All nodes have settled.\n";
  } else if (!json) {
    std::cout << "It goes on by itself; see: starling ring --diff\n";
  }
  if (json) std::cout << answer.dump(2) << "\n";
  return kExitOk;
}

}  // namespace

std::string settled_text(double share) { return std::to_string(static_cast<int>(share * 100)) + " %"; }

void print_settling(const Json& doubling, bool colour) {
  Table table({"Node", "Settled", ">Partitions", "It waits"});
  for (const Json& node : list_of(doubling, "settling")) {
    const bool answered = flag_of(node, "answered");
    table.row({text_of(node, "short"),
               answered ? Cell(settled_text(real_of(node, "share"))) : Cell("no answer", Tone::kBad),
               answered ? thousands(number_of(node, "partitions")) : "", text_of(node, "waits_for")});
  }
  if (table.empty()) return;
  std::cout << "\nThe partitions were doubled; these nodes have not settled yet:\n";
  table.print(std::cout, colour);
}

Command ring_double_command() {
  return {
      .name = "ring double",
      .summary = "twice the partitions, while the cluster runs; cannot be undone",
      .usage = "ring double --to NUMBER | --dry-run [--no-wait] [--data FOLDER] [--json]",
      .about = "Every partition becomes two, with the owners that it has: nothing moves between nodes, nobody stops\n"
               "serving, and devices go on where they are. Each node then settles: it writes about half of its log\n"
               "once more, in the background, and needs room on its disk for that. Meanwhile a join copies more\n"
               "slowly, who leaves waits longer, and the partitions cannot be doubled again.\n"
               "It is a preparation: the halves of a partition stay together, so it spreads nothing by itself.\n\n"
               "IT CANNOT BE UNDONE, so --to says how many partitions there shall be: twice as many as there are.\n"
               "All nodes have to be up, whole and of a program that can follow; who is not is named. Upgrade all\n"
               "first: an older program cannot read the cluster or its folders afterwards, so there is no way back\n"
               "to it.\n\n"
               "Ctrl-C ends the waiting, not the doubling. The same command again follows it, and `starling ring\n"
               "--diff` and `starling status` tell how far it is. A node that is down meanwhile goes on when it is\n"
               "back.\n\n"
               "Examples:\n"
               "  starling ring double --dry-run\n"
               "  starling ring double --to 8192\n",
      .options =
          [](po::options_description& options) {
            add_change_options(options);
            options.add_options()("to", po::value<std::uint64_t>()->value_name("NUMBER"),
                                  "how many partitions there shall be: twice as many as now");
          },
      .run = double_partitions,
      .words = {},
  };
}

}  // namespace starling::node::cli
