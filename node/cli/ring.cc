// starling ring: who owns what, and what the change under way moves.
#include <iostream>

#include "node/cli/admin_client.h"
#include "node/cli/cluster_text.h"
#include "node/cli/commands.h"
#include "node/cli/movement_change.h"
#include "node/cli/names.h"
#include "node/cli/terminal/table.h"

namespace starling::node::cli {
namespace {

void print_partitions(const Json& answer, bool colour) {
  Table table({">Partition", "Owners, the preferred first"});
  std::size_t partition = 0;
  for (const Json& owners : list_of(answer, "table")) {
    std::string text;
    for (const Json& owner : owners) {
      if (owner.is_string()) text += (text.empty() ? "" : " ") + owner.get<std::string>();
    }
    table.row({std::to_string(partition++), text});
  }
  std::cout << "\n";
  table.print(std::cout, colour);
}

// What the change under way moves, and how far each node is.
int ring_diff(const Arguments& arguments) {
  Json answer;
  if (const int code = admin_call(arguments, "movement", Json::object(), answer); code != kExitOk) return code;
  if (arguments.flag("json")) {
    std::cout << answer.dump(2) << "\n";
    return kExitOk;
  }
  const std::string change = text_of(answer, "change");
  std::cout << "Ring " << number_of(answer, "ring") << ": "
            << (change.empty() ? "no change is under way" : "a change is under way: " + change) << "\n";
  const std::string waits = text_of(answer, "waits_for");
  if (!waits.empty()) std::cout << "It waits: " << waits << "\n";
  if (!change.empty()) {
    std::cout << "\n";
    print_moves(object_of(answer, "moves"), stdout_has_colour());
  }
  const Json controls = object_of(answer, "controls");
  if (const auto rate = number_of(controls, "rate_limit"); !change.empty() && rate > 0) {
    std::cout << "Each node copies at most " << bytes_text(rate) << "/s (starling throttle)\n";
  }
  Table table({"Node", "State", ">Gains", ">Here", ">Bytes", ">Left", ">Rate", ">Time left", ">To hand over", ">Names", "Far"});
  for (const Json& node : list_of(answer, "nodes")) {
    const bool gone = text_of(node, "state") == "left" || text_of(node, "state") == "removed";
    const bool done = gone ? flag_of(node, "safe") : flag_of(node, "installed");
    Cell far = !flag_of(node, "answered") ? Cell("no answer", Tone::kBad)
               : done                     ? Cell(gone ? "safe to power off" : "installed", Tone::kGood)
                                          : Cell("under way");
    const auto gains = number_of(node, "gains"), rate = number_of(node, "rate");
    const auto left = number_of(node, "bytes_left");
    table.row({text_of(node, "short"), text_of(node, "state"), thousands(gains),
               thousands(done && !gone ? gains : number_of(node, "partitions_done")),
               bytes_text(number_of(node, "bytes")), bytes_text(left),
               rate == 0 ? "" : bytes_text(rate) + "/s", rate == 0 || left == 0 ? "" : duration_text(left / rate),
               thousands(number_of(node, "leaving")),
               thousands(number_of(node, "names")), far});
  }
  if (!table.empty()) {
    std::cout << "\n";
    table.print(std::cout, stdout_has_colour());
  }
  print_settling(object_of(answer, "doubling"), stdout_has_colour());
  return kExitOk;
}

int ring(const Arguments& arguments) {
  if (arguments.flag("diff")) return ring_diff(arguments);
  Json answer;
  const Json question = {{"partitions", arguments.flag("partitions")}};
  if (const int code = admin_call(arguments, "ring", question, answer); code != kExitOk) return code;
  if (arguments.flag("json")) {
    std::cout << answer.dump(2) << "\n";
    return kExitOk;
  }
  const bool colour = stdout_has_colour();
  std::cout << "Ring " << number_of(answer, "number") << " of cluster " << text_of(answer, "lineage") << ": "
            << number_of(answer, "copies") << " copies, " << number_of(answer, "synced")
            << " on disk per ack, " << partitions_text(answer) << "\n";
  print_sites(object_of(answer, "sites"), colour);
  std::cout << "\n";
  Table table({"Node", "State", "Zone", ">Weight", ">Partitions", ">At home in", ">First owner of", ">Share"});
  for (const Json& member : list_of(answer, "members")) {
    table.row({text_of(member, "short"), state_cell(member), text_of(member, "zone"),
               std::to_string(number_of(member, "weight")), thousands(number_of(member, "partitions")),
               thousands(number_of(member, "home")), thousands(number_of(member, "first")), percent(real_of(member, "share"))});
  }
  table.print(std::cout, colour);
  if (const auto shared = number_of(answer, "zones_shared"); shared > 0) {
    std::cout << thousands(shared) << " partitions have two copies in one zone: the other zones are too "
              << "small for a copy of each\n";
  }
  if (arguments.flag("partitions")) print_partitions(answer, colour);
  if (number_of(answer, "units") == number_of(answer, "partitions") || !answer.contains("units")) return kExitOk;
  Json movement;
  if (const int code = admin_call(arguments, "movement", Json::object(), movement); code != kExitOk) return code;
  print_settling(object_of(movement, "doubling"), colour);
  return kExitOk;
}

}  // namespace

Command ring_command() {
  return {
      .name = "ring",
      .summary = "who owns what",
      .usage = "ring [--partitions | --diff] [--data FOLDER] [--json]",
      .about = "Shows the agreed ring version: its members, and how many partitions each keeps a copy of and\n"
               "is the first owner of.\n\n"
               "Examples:\n"
               "  starling ring\n"
               "  starling ring --partitions | less\n"
               "  starling ring --diff\n",
      .options =
          [](po::options_description& options) {
            add_admin_options(options);
            add_json_option(options);
            options.add_options()("partitions", po::bool_switch(), "also list every partition's owners")(
                "diff", po::bool_switch(), "what the change under way moves, and who has still to hand over");
          },
      .run = ring,
      .words = {},
  };
}

}  // namespace starling::node::cli
