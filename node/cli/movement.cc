// starling leave, remove, weight, rebalance and abort: the operator changes who is in the ring, and waits until what
// that moves has arrived.
#include "node/cli/movement_change.h"

#include <iostream>
#include <thread>

#include "node/cli/admin_client.h"
#include "node/cli/cluster_text.h"
#include "node/cli/commands.h"
#include "node/cli/movement_step.h"
#include "node/cli/terminal/progress.h"
#include "node/cli/terminal/table.h"

namespace starling::node::cli {
namespace {

Json nodes_of(const Arguments& arguments) {
  Json nodes = Json::array();
  for (const auto& node : arguments.list("node")) nodes.push_back(node);
  return nodes;
}

// All loops of the process that is asked, those apart that have left. An exit code.
int loops_here(const Arguments& arguments, Json& nodes) {
  const auto sockets = admin_sockets(arguments);
  for (const auto& socket : sockets) {
    if (sockets.size() == 1) break;  // Itself, without a name.
    Json status;
    if (const int code = admin_call(arguments, socket, "status", Json::object(), status, kAskTries); code != kExitOk) return code;
    for (const Json& member : list_of(status, "members")) {
      if (!flag_of(member, "self")) continue;
      const std::string state = text_of(member, "ring_state");
      if (state == "serving") nodes.push_back(text_of(member, "id"));
      if (state == "joining") return complain(kExitUnavailable, socket + " joins still: wait until it serves, or name the nodes");
    }
  }
  return kExitOk;
}

// What to ask `movement` about the change that began so.
Json about(const Json& begun) { return {{"of", number_of(begun, "ring")}}; }

bool taken_back(const Json& movement) { return text_of(movement, "outcome") == "taken back"; }

// Each tells of itself: one that is safe does not hear of the others any more.
int follow_loops(const Arguments& arguments, const Json& begun, Json& movement) {
  auto sockets = admin_sockets(arguments);
  Progress progress;
  const auto all = static_cast<double>(sockets.size());
  while (!sockets.empty()) {
    if (const int code = admin_call(arguments, sockets.front(), "movement", about(begun), movement, kAskTries); code != kExitOk) {
      return code;
    }
    if (taken_back(movement)) break;
    for (auto socket = sockets.begin(); socket != sockets.end();) {
      Json status;
      if (const int code = admin_call(arguments, *socket, "status", Json::object(), status, kAskTries); code != kExitOk) return code;
      socket = text_of(object_of(status, "node"), "state") == "safe to power off" ? sockets.erase(socket) : socket + 1;
    }
    if (sockets.empty() && movement.contains("outcome")) movement["outcome"] = "done";  // Each said so.
    if (sockets.empty()) break;
    progress.show(1 - static_cast<double>(sockets.size()) / all, std::to_string(sockets.size()) + " loops to go");
    std::this_thread::sleep_for(kPollEvery);
  }
  progress.finish();
  return kExitOk;
}

// Those that the change takes out of the ring.
Json those_who_go(const Json& begun) {
  Json names = Json::array();
  for (const Json& node : list_of(begun, "nodes")) {
    if (number_of(node, "next") == 0) names.push_back(text_of(node, "short"));
  }
  return names;
}

int leave(const Arguments& arguments) {
  Json nodes = nodes_of(arguments);
  Follow follow;
  if (nodes.empty()) {
    if (const int code = loops_here(arguments, nodes); code != kExitOk) return code;
    if (!nodes.empty()) follow = [&](const Json& begun, Json& movement) { return follow_loops(arguments, begun, movement); };
  }
  const Json question = {{"nodes", nodes},
                         {"force", arguments.flag("force")},
                         {"dry_run", arguments.flag("dry-run")}};
  return change_ring(arguments, "leave", question, [&](const Json& begun) {
    const auto named = arguments.list("node").empty() ? "" : joined(those_who_go(begun));
    return named + (named.empty() ? "" : ": ") + "safe to power off";
  }, follow);
}

// Nodes by their ids, or all of a zone.
Json whom(const Arguments& arguments) {
  if (arguments.given("zone")) return {{"zone", arguments.text("zone")}};
  return {{"nodes", nodes_of(arguments)}};
}

std::string site_loss_text(const Json& site, bool dry) {
  const auto taken = number_of(site, "taken_over");
  if (taken == 0) return "";
  const auto newest = number_of(site, "newest_ms");
  return "Of " + thousands(taken) + " partitions the home " +
         (dry ? "is lost: the copies that are away would be at home then. "
              : "was lost: the copies that were away are at home now. ") +
         (newest == 0 ? "Nothing came from there since the nodes that are left were started.\n"
                      : "The newest change that came from there is of " +
                            wall_text(static_cast<std::int64_t>(newest)) + ".\n") +
         "What was acknowledged there and did not come yet is late, not lost, while one of these nodes can return.\n";
}

// No agreement, nothing to follow: the loss is said, and what goes on.
int force_out(const Arguments& arguments) {
  Json answer;
  Json question = whom(arguments);
  question["force"] = true;
  const bool dry = arguments.flag("dry-run");
  if (dry) question["dry_run"] = true;
  if (const int code = admin_call(arguments, "remove", question, answer); code != kExitOk) return code;
  if (arguments.flag("json")) {
    std::cout << answer.dump(2) << "\n";
    return kExitOk;
  }
  const std::string lost = text_of(answer, "lost");
  if (dry) {
    std::cout << "The cluster would go on under a new lineage.\n"
              << (lost.empty() ? "Every partition keeps enough of its owners: nothing acknowledged at W copies is lost.\n"
                               : "What only these nodes hold would be lost: " + lost + "\n");
  } else {
    std::cout << "Forced out. The cluster goes on as lineage " << text_of(answer, "lineage") << ", ring "
              << number_of(answer, "ring") << ".\n"
              << (lost.empty() ? "Every partition kept enough of its owners: nothing acknowledged at W copies is lost.\n"
                               : "What only these nodes held is lost: " + lost + "\n");
  }
  std::cout << site_loss_text(object_of(answer, "site"), dry) << (dry ? "Nothing was changed.\n" : "");
  return kExitOk;
}

int remove(const Arguments& arguments) {
  if (arguments.list("node").empty() != arguments.given("zone")) {
    return complain(kExitUsage, "name the nodes to remove, or their --zone; `starling ring` lists both");
  }
  if (arguments.flag("force")) return force_out(arguments);
  Json question = whom(arguments);
  question["dry_run"] = arguments.flag("dry-run");
  question["end_home"] = arguments.flag("end-home");
  return change_ring(arguments, "remove", question, [](const Json& begun) {
    const bool one = those_who_go(begun).size() <= 1;
    return std::string("removed: what ") + (one ? "it" : "they") + " owned has all its copies again. If " +
           (one ? "it ever comes back it" : "one of them ever comes back it") + " only hands home what it alone holds";
  });
}

int weight(const Arguments& arguments) {
  const Json question = {{"nodes", Json::array({arguments.text("node")})},
                         {"weight", arguments.number("weight")},
                         {"dry_run", arguments.flag("dry-run")}};
  return change_ring(arguments, "weight", question, done);
}

int rebalance(const Arguments& arguments) {
  return change_ring(arguments, "rebalance", {{"dry_run", arguments.flag("dry-run")}}, done);
}

int abort(const Arguments& arguments) {
  Json answer;
  if (const int code = admin_call(arguments, "abort", Json::object(), answer); code != kExitOk) return code;
  if (arguments.flag("json")) {
    std::cout << answer.dump(2) << "\n";
  } else {
    const auto nodes = joined(list_of(answer, "nodes"));
    std::cout << "Taken back: " << text_of(answer, "change") << (nodes.empty() ? "" : " of " + nodes) << ". Ring "
              << number_of(answer, "ring") << " has the owners of before.\n";
  }
  return kExitOk;
}

std::string why_not_done(const Json& movement, std::uint64_t ring) {
  if (taken_back(movement)) {
    return "this change was taken back (starling abort, or nodes were forced out): nothing of it is in force, and no node that was "
           "to go may be switched off for it";
  }
  return "ring version " + std::to_string(ring) + " is no longer under way, and no member that answers knows what came of it: "
         "see starling ring";
}

// What the change does to the home sites: one line each, none without a policy of sites.
std::string homes_text(const Json& moves) {
  const Json homes = object_of(moves, "homes");
  std::string out;
  for (const Json& zone : list_of(homes, "end")) {
    out += "Zone " + zone.get<std::string>() + " is no home any more: it has too few nodes for the home copies.\n";
  }
  for (const Json& zone : list_of(homes, "begin")) out += "Zone " + zone.get<std::string>() + " is a home then.\n";
  if (flag_of(homes, "rests")) {
    out += "No zone is left that can be a home: every owner counts then, wherever it is.\n";
  }
  if (const auto moved = number_of(homes, "moved"); moved > 0) {
    out += thousands(moved) + " partitions get another home: an acknowledgement waits for that site then.\n";
  }
  return out;
}

}  // namespace

void print_moves(const Json& moves, bool colour) {
  Table table({"Node", ">Partitions now", ">After", ">Gains", ">Loses"});
  for (const Json& node : list_of(moves, "nodes")) {
    const auto gains = number_of(node, "gains"), loses = number_of(node, "loses");
    table.row({text_of(node, "short"), thousands(number_of(node, "now")), thousands(number_of(node, "next")),
               Cell{thousands(gains), gains > 0 ? Tone::kGood : Tone::kQuiet},
               Cell{thousands(loses), loses > 0 ? Tone::kPlain : Tone::kQuiet}});
  }
  table.print(std::cout, colour);
  std::cout << thousands(number_of(moves, "moved")) << " of " << thousands(number_of(moves, "copies"))
            << " copies of partitions move.\n"
            << homes_text(moves);
  if (const auto stake = text_of(moves, "stake"); !stake.empty()) std::cout << "At stake: " << stake << ".\n";
}

int follow_change(const Arguments& arguments, const Json& question, const Look& look, Json& movement) {
  Progress progress;
  std::string said;
  for (;;) {
    if (const int code = admin_call(arguments, "movement", question, movement, kAskTries); code != kExitOk) return code;
    const MoveStep step = look(movement);
    if (!step.open) break;
    if (!step.waits_for.empty() && step.waits_for != said) progress.say("waiting: " + step.waits_for);
    said = step.waits_for;
    progress.show(step.share, step.text, step.seconds_left);
    std::this_thread::sleep_for(kPollEvery);
  }
  progress.finish();
  return kExitOk;
}

int change_ring(const Arguments& arguments, const std::string& method, const Json& question, const Ending& ending,
                const Follow& follow) {
  Json begun;
  if (const int code = admin_call(arguments, method, question, begun); code != kExitOk) return code;
  const bool json = arguments.flag("json");
  const bool dry = flag_of(begun, "dry_run");
  if (!json) print_moves(begun, stdout_has_colour());
  if (dry || arguments.flag("no-wait")) {
    if (json) std::cout << begun.dump(2) << "\n";
    if (!json) std::cout << (dry ? "Nothing was changed.\n" : "It goes on by itself; see: starling ring --diff\n");
    return kExitOk;
  }
  Json movement;
  const auto ring = number_of(begun, "ring");
  const auto look = [&](const Json& now) {
    MoveStep step = move_step(now, begun);
    if (!text_of(now, "change").empty() && number_of(now, "ring") > ring) step.open = step.handing_over;  // The next one.
    if (taken_back(now)) step.open = false;
    return step;
  };
  const int code = follow ? follow(begun, movement) : follow_change(arguments, about(begun), look, movement);
  if (code != kExitOk) return code;
  begun["finished"] = movement;
  if (json) std::cout << begun.dump(2) << "\n";
  // A node of an earlier program does not say.
  if (movement.contains("outcome") && text_of(movement, "outcome") != "done") return complain(kExitFailed, why_not_done(movement, ring));
  if (!json) std::cout << ending(begun) << "\n";
  return kExitOk;
}

void add_change_options(po::options_description& options) {
  add_admin_options(options);
  add_json_option(options);
  options.add_options()("dry-run", po::bool_switch(), "only tell what would move, or why it is refused")(
      "no-wait", po::bool_switch(), "return once the change is agreed on; it goes on by itself");
}

Command leave_command() {
  return {
      .name = "leave",
      .summary = "take a node out of the cluster, without losing a copy",
      .usage = "leave [NODE...] [--dry-run] [--force] [--no-wait] [--data FOLDER] [--json]",
      .about = "Takes this node, or those named by enough of their id, out of the ring: its sessions are asked to\n"
               "go elsewhere, the others fetch what they shall own, and only when they have everything the node\n"
               "is `safe to power off`. It serves until then. Ctrl-C ends the waiting, not the leaving; `starling\n"
               "abort` takes it back while the others still fetch. Without a name, of a process of several loops\n"
               "(run --loops) all leave. Refused of a node that does not answer: see `starling remove`.\n\n"
               "Examples:\n"
               "  starling leave --dry-run\n"
               "  starling leave\n"
               "  starling leave 7xk2 --no-wait\n",
      .options =
          [](po::options_description& options) {
            add_change_options(options);
            options.add_options()("node", po::value<std::vector<std::string>>())(
                "force", po::bool_switch(), "also when fewer nodes than copies are left: then there are fewer copies");
          },
      .run = leave,
      .words = {"[node...]"},
  };
}

Command remove_command() {
  return {
      .name = "remove",
      .summary = "take dead nodes out of the cluster, and make their copies anew",
      .usage = "remove NODE...|--zone ZONE [--dry-run] [--end-home] [--force] [--no-wait] [--data FOLDER] [--json]",
      .about = "For nodes that will not come back: the others make new copies from those that are left. Nodes that\n"
               "died together are removed together. Refused while one of them is alive (use `starling leave`, or stop\n"
               "it), when what only they hold would be lost, and when their site would be no home any more (starling\n"
               "sites): --end-home accepts that.\n\n"
               "--force needs no majority and no consent: at once, at this node, under a new lineage. It is for when\n"
               "the nodes are gone for good and too few are left to agree; WHAT ONLY THEY HOLD IS LOST. Run it\n"
               "at one node only: the others that are left follow by themselves. It takes nodes that left and died\n"
               "before they had handed over, too: then nobody waits for them any more. After the loss of a site\n"
               "(starling sites) it makes the copies that were away the home of what they hold.\n\n"
               "Examples:\n"
               "  starling remove 7xk2 --dry-run\n"
               "  starling remove 7xk2\n"
               "  starling remove --force --zone east --dry-run\n"
               "  starling remove --force --zone east\n",
      .options =
          [](po::options_description& options) {
            add_change_options(options);
            options.add_options()("node", po::value<std::vector<std::string>>())(
                "end-home", po::bool_switch(), "also when a site is no home any more without them")(
                "force", po::bool_switch(), "without agreement and whatever is lost")(
                "zone", po::value<std::string>()->value_name("ZONE"), "all nodes of this zone");
          },
      .run = remove,
      .words = {"[node...]"},
  };
}

Command weight_command() {
  return {
      .name = "weight",
      .summary = "give a node a larger or smaller share of the data",
      .usage = "weight NODE WEIGHT [--dry-run] [--no-wait] [--data FOLDER] [--json]",
      .about = "A node of weight 200 gets twice the share of one of weight 100, which is what nodes have at first. From 1\n"
               "to 1000; to empty a node, use `starling leave`.\n\n"
               "Examples:\n"
               "  starling weight 7xk2 200 --dry-run\n",
      .options =
          [](po::options_description& options) {
            add_change_options(options);
            options.add_options()("node", po::value<std::string>())("weight", po::value<std::uint64_t>());
          },
      .run = weight,
      .words = {"node", "weight"},
  };
}

Command rebalance_command() {
  return {
      .name = "rebalance",
      .summary = "place the partitions by the newest rule",
      .usage = "rebalance [--dry-run] [--no-wait] [--data FOLDER] [--json]",
      .about = "A cluster keeps the placement rule that it was founded with. This changes to the newest, under which\n"
               "later joins and leaves move less; the change itself moves many partitions, once. Upgrade all nodes\n"
               "first: an older one does not follow. `starling abort` takes it back while it is under way.\n\n"
               "Examples:\n"
               "  starling rebalance --dry-run\n",
      .options = add_change_options,
      .run = rebalance,
      .words = {},
  };
}

Command abort_command() {
  return {
      .name = "abort",
      .summary = "take back the change of the ring that is under way",
      .usage = "abort [--data FOLDER] [--json]",
      .about = "The owners stay as they are. A node that was joining is told so and has to join anew; what others\n"
               "had fetched already is given up again. A change that is complete is not taken back.\n\n"
               "Examples:\n"
               "  starling abort\n",
      .options =
          [](po::options_description& options) {
            add_admin_options(options);
            add_json_option(options);
          },
      .run = abort,
      .words = {},
  };
}

}  // namespace starling::node::cli
