// starling sites: copies counted within a site, and copies in another.
#include "node/cli/sites.h"

#include <iostream>

#include "crypto/text.h"
#include "node/cli/admin_client.h"
#include "node/cli/commands.h"
#include "node/cli/movement_change.h"
#include "node/cli/terminal/table.h"
#include "overlay/ring/ring_version.h"

namespace starling::node::cli {

namespace {

int show(const Arguments& arguments) {
  Json answer;
  if (const int code = admin_call(arguments, "sites", Json::object(), answer); code != kExitOk) return code;
  if (arguments.flag("json")) {
    std::cout << answer.dump(2) << "\n";
    return kExitOk;
  }
  const Json policy = object_of(answer, "policy");
  const auto home = number_of(policy, "home"), away = number_of(policy, "away");
  if (home == 0) {
    std::cout << "No policy of sites: every owner counts, wherever it is.\n";
  } else {
    const std::string only = text_of(policy, "only");
    std::cout << home << " copies at home, " << away << " away" << (only.empty() ? "" : "; home is " + only) << "\n";
    if (!flag_of(answer, "in_force")) {
      std::cout << "It rests: no zone has " << home << " nodes, so every owner counts, wherever it is.\n";
    } else if (const auto now = number_of(answer, "away_copies"); now < away) {
      std::cout << "Only " << now << " away: there are too few nodes in other zones.\n";
    }
  }
  bool all_known = true;
  Table table({"Zone", ">Nodes", ">Home of partitions", ">Not come yet", ">Since"});
  for (const Json& zone : list_of(answer, "zones")) {
    const Json behind = object_of(zone, "behind");
    const auto changes = number_of(behind, "changes");
    const bool known = !behind.contains("changes") || behind.at("changes").is_number();
    all_known = all_known && known;
    table.row({text_of(zone, "zone"), thousands(number_of(zone, "nodes")),
               home == 0 ? "" : thousands(number_of(zone, "home_of")),
               behind.empty() ? "" : !known ? "-" : thousands(changes) + (changes == 1 ? " change" : " changes"),
               !known ? "-" : changes == 0 ? "" : span_text(number_of(behind, "ms"))});
  }
  std::cout << "\n";
  table.print(std::cout, stdout_has_colour());
  if (!all_known) {
    std::cout << "-: not known. A node was started and has not heard yet what is there.\n";
  }
  std::string silent;
  for (const Json& node : list_of(answer, "silent")) silent += " " + node.get<std::string>();
  if (home != 0 && !silent.empty()) {
    std::cout << "What these accepted last is not counted, they do not answer:" << silent << "\n";
  }
  return kExitOk;
}

int sites(const Arguments& arguments) {
  const std::string text = arguments.text("policy");
  const std::string only = arguments.text("home-site");
  if (text.empty() && only.empty()) return show(arguments);
  Json question = {{"dry_run", arguments.flag("dry-run")}};
  if (text == "off") {
    question["off"] = true;
  } else {
    const auto policy = parse_sites(text, only);
    if (!policy) return complain(kExitUsage, policy.error().text);
    question["home"] = policy->home;
    question["away"] = policy->away;
    question["only"] = policy->only;
  }
  return change_ring(arguments, "sites", question, done);
}

}  // namespace

Command sites_command() {
  return {
      .name = "sites",
      .summary = "count copies within a site, and keep others in another",
      .usage = "sites [HOME+AWAY | off] [--home-site ZONE] [--dry-run] [--no-wait] [--data FOLDER] [--json]",
      .about = "For zones that lie far apart. Every mailbox gets one zone as its home: HOME copies are there, and only\n"
               "they are waited for before a message is acknowledged; AWAY copies are in other zones and come soon\n"
               "after. The homes are spread over all zones that have HOME nodes, or are all in --home-site.\n"
               "What is acknowledged survives what HOME copies survive; when a whole site is lost, the last moments\n"
               "before are missing until one of its nodes returns: see `starling remove --force --zone` and\n"
               "docs/operations.md.\n"
               "Without a policy it shows the one in force, and what has not come to each zone yet.\n\n"
               "Examples:\n"
               "  starling sites\n"
               "  starling sites 2+1 --dry-run\n"
               "  starling sites 3+2 --home-site east\n"
               "  starling sites off\n",
      .options =
          [](po::options_description& options) {
            add_change_options(options);
            options.add_options()("policy", po::value<std::string>())(
                "home-site", po::value<std::string>()->value_name("ZONE"), "the home of everything");
          },
      .run = sites,
      .words = {"[policy]"},
  };
}

}  // namespace starling::node::cli
