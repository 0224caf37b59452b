// starling drain and undrain: sessions go elsewhere before a restart, and may come again.
#include <algorithm>
#include <iostream>
#include <set>
#include <thread>

#include "node/cli/admin_client.h"
#include "node/cli/commands.h"
#include "node/cli/terminal/progress.h"
#include "node/cli/terminal/table.h"

namespace starling::node::cli {
namespace {

// With several loops: is there a node of another process for the sessions? A single node looks for itself.
int look_for_others(const Arguments& arguments, const std::vector<std::string>& sockets) {
  if (sockets.size() == 1) return kExitOk;
  std::set<std::string> ours, there;
  for (const auto& socket : sockets) {
    Json status;
    if (const int code = admin_call(arguments, socket, "status", Json::object(), status, kAskTries); code != kExitOk) return code;
    for (const Json& member : list_of(status, "members")) {
      const bool serves = text_of(member, "ring_state") == "serving" && !flag_of(member, "draining");
      if (flag_of(member, "self")) ours.insert(text_of(member, "id"));
      if (serves && flag_of(member, "reachable")) there.insert(text_of(member, "id"));
    }
  }
  if (!std::includes(ours.begin(), ours.end(), there.begin(), there.end())) return kExitOk;
  return complain(kExitUnavailable, "no node of another process serves: the sessions of these loops have nowhere to go");
}

int drain(const Arguments& arguments) {
  const auto sockets = admin_sockets(arguments);
  if (const int code = look_for_others(arguments, sockets); code != kExitOk) return code;
  Json answer;
  std::uint64_t begun = 0;
  for (const auto& socket : sockets) {
    if (const int code = admin_call(arguments, socket, "drain", Json::object(), answer); code != kExitOk) return code;
    begun += number_of(answer, "sessions");
  }
  answer["sessions"] = begun;
  Progress progress;
  for (std::uint64_t left = begun; !arguments.flag("no-wait");) {
    left = 0;
    for (const auto& socket : sockets) {
      Json status;
      if (const int code = admin_call(arguments, socket, "status", Json::object(), status, kAskTries); code != kExitOk) return code;
      left += number_of(object_of(status, "node"), "sessions");
    }
    answer["sessions"] = left;
    if (left == 0) break;
    progress.show(1 - static_cast<double>(left) / static_cast<double>(std::max(begun, left)),
                  thousands(left) + " sessions to go");
    std::this_thread::sleep_for(kPollEvery);
  }
  progress.finish();
  if (arguments.flag("json")) {
    std::cout << answer.dump(2) << "\n";
  } else {
    std::cout << (arguments.flag("no-wait") ? "The sessions are asked to go.\n" : "No sessions are left here. ")
              << "The node is not ready for new ones until `starling undrain`, or its next start.\n";
  }
  return kExitOk;
}

int undrain(const Arguments& arguments) {
  Json answer;
  for (const auto& socket : admin_sockets(arguments)) {
    if (const int code = admin_call(arguments, socket, "undrain", Json::object(), answer); code != kExitOk) return code;
  }
  if (arguments.flag("json")) {
    std::cout << answer.dump(2) << "\n";
  } else {
    std::cout << "The node takes sessions again.\n";
  }
  return kExitOk;
}

}  // namespace

Command drain_command() {
  return {
      .name = "drain",
      .summary = "ask the sessions of this node to go elsewhere, before a restart",
      .usage = "drain [--no-wait] [--data FOLDER] [--json]",
      .about = "Within about ten seconds every session is asked to go to another node; the node is not ready for\n"
               "new ones (/readyz says 404). It keeps its data and serves the other nodes. Ends with `starling\n"
               "undrain`, or with the next start. Of a process of several loops (run --loops) all are drained.\n\n"
               "Examples:\n"
               "  starling drain && systemctl restart starling\n",
      .options =
          [](po::options_description& options) {
            add_admin_options(options);
            add_json_option(options);
            options.add_options()("no-wait", po::bool_switch(), "do not wait until the last session has gone");
          },
      .run = drain,
      .words = {},
  };
}

Command undrain_command() {
  return {
      .name = "undrain",
      .summary = "take sessions again",
      .usage = "undrain [--data FOLDER] [--json]",
      .about = "Ends `starling drain`.\n\nExamples:\n  starling undrain\n",
      .options =
          [](po::options_description& options) {
            add_admin_options(options);
            add_json_option(options);
          },
      .run = undrain,
      .words = {},
  };
}

}  // namespace starling::node::cli
