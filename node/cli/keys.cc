// starling key list, key rotate and revoke: who may speak to the cluster.
#include <iostream>

#include "node/cli/admin_client.h"
#include "node/cli/cluster_text.h"
#include "node/cli/commands.h"
#include "node/cli/movement_change.h"
#include "node/cli/terminal/table.h"
#include "node/cli/terminal/terminal.h"

namespace starling::node::cli {
namespace {

constexpr std::uint64_t kHourSeconds = 3600;
constexpr std::uint64_t kHoursDefault = 7 * 24;
constexpr std::uint64_t kHoursMax = 365 * 24;  // The node's limit.

int key_list(const Arguments& arguments) {
  Json answer;
  if (const int code = admin_call(arguments, "key.list", Json::object(), answer); code != kExitOk) return code;
  if (arguments.flag("json")) {
    std::cout << answer.dump(2) << "\n";
    return kExitOk;
  }
  Table table({"Key", "State", "Retires"});
  for (const Json& key : list_of(answer, "keys")) {
    const std::string state = text_of(key, "state");
    const auto retires = static_cast<std::int64_t>(number_of(key, "retire_at_ms"));
    table.row({text_of(key, "id"), {state, state == "primary" ? Tone::kGood : Tone::kPlain},
               retires == 0 ? "" : wall_text(retires)});
  }
  table.print(std::cout, stdout_has_colour());
  return kExitOk;
}

int key_rotate(const Arguments& arguments) {
  const std::uint64_t hours = arguments.number("retire-after");
  if (hours > kHoursMax) {
    return complain(kExitUsage, "--retire-after takes 0 to " + thousands(kHoursMax) + " hours (a year)");
  }
  Json answer;
  const Json question = {{"retire_after_s", hours * kHourSeconds}};
  if (const int code = admin_call(arguments, "key.rotate", question, answer); code != kExitOk) return code;
  if (arguments.flag("json")) {
    std::cout << answer.dump(2) << "\n";
    return kExitOk;
  }
  const std::string until = wall_text(static_cast<std::int64_t>(number_of(answer, "retire_at_ms")));
  std::cout << "Key " << text_of(answer, "key") << " is in use; " << list_of(answer, "taken").size()
            << " nodes have it. The others open what is sent to us until " << until << ".\n";
  if (const Json& away = list_of(answer, "away"); !away.empty()) {
    std::cout << "Away: " << joined(away) << ". They learn the key when they come back, until " << until
              << "; later they have to be invited anew.\n";
  }
  if (const Json& going = list_of(answer, "going"); !going.empty()) {
    std::cout << "Left, and handing over still: " << joined(going) << ". They are not given the key and have until "
              << until << ".\n";
  }
  return kExitOk;
}

int revoke(const Arguments& arguments) {
  Json answer;
  const Json question = {{"node", arguments.text("node")},
                         {"force", arguments.flag("force")},
                         {"dry_run", arguments.flag("dry-run")}};
  if (const int code = admin_call(arguments, "revoke", question, answer); code != kExitOk) return code;
  if (arguments.flag("json")) {
    std::cout << answer.dump(2) << "\n";
    return kExitOk;
  }
  const std::string lost = text_of(answer, "lost");
  if (flag_of(answer, "dry_run")) {
    if (!flag_of(answer, "forced")) {
      print_moves(answer, stdout_has_colour());
    } else {
      std::cout << "The cluster would go on under a new lineage.\n"
                << (lost.empty() ? "" : "What it alone holds would be lost: " + lost + "\n");
    }
    std::cout << "Nothing was changed.\n";
    return kExitOk;
  }
  if (const std::string lineage = text_of(answer, "lineage"); !lineage.empty()) {
    std::cout << "Without agreement: the cluster goes on as lineage " << lineage << ".\n";
    if (!lost.empty()) std::cout << "What it alone held is lost: " << lost << "\n";
  }
  std::cout << "Node " << text_of(answer, "node") << " is cut off (ring version " << number_of(answer, "ring")
            << "): no member hears it any more, and what only it holds is given up.\n"
            << "It still has the cluster's secret, with which anybody can ask to join by an invite; now run\n"
            << "  starling key rotate --retire-after 0\n"
            << "when all other nodes are up, and make open invites anew.\n";
  return kExitOk;
}

}  // namespace

Command key_list_command() {
  return {
      .name = "key list",
      .summary = "the cluster's keys, as this node has them",
      .usage = "key list [--data FOLDER] [--json]",
      .about = "The primary seals what is sent; every key on the list opens. Shown are names, not secrets.\n\n"
               "Example:\n"
               "  starling key list\n",
      .options =
          [](po::options_description& options) {
            add_admin_options(options);
            add_json_option(options);
          },
      .run = key_list,
      .words = {},
  };
}

Command key_rotate_command() {
  return {
      .name = "key rotate",
      .summary = "put a new cluster secret to use, on all nodes, while they run",
      .usage = "key rotate [--retire-after HOURS] [--data FOLDER] [--json]",
      .about = "Gives every node that can be reached a new secret, then uses it, and retires the others after\n"
               "--retire-after. A node that is away learns the new one when it comes back before that; later it\n"
               "can only join as a new node. Invites made before carry the old secret and end with it.\n"
               "Nothing is used until all that can be reached have it; call again when it fails.\n\n"
               "Examples:\n"
               "  starling key rotate\n"
               "  starling key rotate --retire-after 0     # the old secret leaked\n",
      .options =
          [](po::options_description& options) {
            add_admin_options(options);
            add_json_option(options);
            options.add_options()("retire-after",
                                  po::value<std::uint64_t>()->default_value(kHoursDefault),
                                  "hours until the other keys open nothing any more; 0: now");
          },
      .run = key_rotate,
      .words = {},
  };
}

Command revoke_command() {
  return {
      .name = "revoke",
      .summary = "cut a node off for good: its machine or its key is in wrong hands",
      .usage = "revoke NODE [--dry-run] [--force] [--data FOLDER] [--json]",
      .about = "Agrees on a ring version in which the node is not to be believed: its links are cut at once,\n"
               "its gossip is refused, and the others take over its place. What only it holds is given up; use\n"
               "leave or remove for a node that you trust. One that left can be revoked, too. It is not taken\n"
               "back by `starling abort`.\n\n"
               "Refused when those that are left could agree on nothing any more, or would not know every message\n"
               "and every name. --force does it all the same: at once, at this node, under a new lineage. Run it\n"
               "at one node only: the others that are left follow by themselves.\n\n"
               "Examples:\n"
               "  starling revoke N3K7QA --dry-run\n"
               "  starling revoke N3K7QA\n",
      .options =
          [](po::options_description& options) {
            add_admin_options(options);
            add_json_option(options);
            options.add_options()("node", po::value<std::string>(), "the node, as `starling ring` shows it")(
                "dry-run", po::bool_switch(), "only tell what would move or be lost, or why it is refused")(
                "force", po::bool_switch(), "without agreement and whatever is lost");
          },
      .run = revoke,
      .words = {"node"},
  };
}

}  // namespace starling::node::cli
