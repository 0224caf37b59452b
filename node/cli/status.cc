// starling status, where and invite: looking at a cluster, and letting nodes in.
#include <algorithm>
#include <cmath>
#include <iostream>

#include "node/cli/admin_client.h"
#include "node/cli/cluster_text.h"
#include "node/cli/commands.h"
#include "node/cli/movement_change.h"
#include "node/cli/names.h"
#include "node/cli/terminal/table.h"
#include "storage/ids.h"

namespace starling::node::cli {
namespace {

constexpr std::uint64_t kInviteMinutesMax = 30 * 24 * 60;  // The node's limit.

void print_wants(const Json& node, bool colour) {
  if (const auto partitions = number_of(node, "damaged_partitions"); partitions > 0) {
    std::cout << paint("Damaged:", Tone::kBad, colour) << " " << counted(number_of(node, "damaged"), "change") << " in "
              << counted(partitions, "partition")
              << " cannot be read here; the other owners answer, and give them back (`starling repair` says more)\n";
  }
  if (const auto lost = number_of(node, "lost"); lost > 0) {
    std::cout << paint("Lost:", Tone::kBad, colour) << " " << counted(lost, "change")
              << " had no copy left and were written off (`starling verify` lists them)\n";
  }
  const Json split = object_of(object_of(node, "movement"), "split");
  if (const double share = real_of(split, "share"); split.contains("share") && share < 1) {
    std::cout << "Settling: " << settled_text(share)
              << " of what the doubling of the partitions moves on this disk has its place\n";
  }
  const bool all = !node.contains("missing_known") || flag_of(node, "missing_known");
  const auto missing = number_of(node, "missing");
  if (missing == 0 && !all) {
    std::cout << "It compares what it has with what the other owners have: how much is missing is not known yet\n";
  }
  if (missing > 0) {
    std::cout << "It fetches: " << (all ? "" : "at least ") << counted(missing, "change") << " that other owners have";
    if (const auto rate = number_of(node, "fetch_rate"); rate > 0) {
      std::cout << ", " << thousands(rate) << " and " << bytes_text(number_of(node, "fetch_bytes_rate"))
                << " a second, " << (all ? "about " : "not less than ") << duration_text(missing / rate + 1) << " left";
    }
    std::cout << "\n";
  }
}

void print_heading(const Json& cluster, const Json& node, bool colour) {
  std::cout << "Cluster " << text_of(cluster, "lineage") << ": ring " << number_of(cluster, "ring") << ", "
            << number_of(cluster, "serving") << " of " << number_of(cluster, "nodes") << " nodes serving, "
            << number_of(cluster, "copies") << " copies, " << number_of(cluster, "synced")
            << " on disk per ack, " << partitions_text(cluster) << "\n";
  print_sites(object_of(cluster, "sites"), colour);
  const std::string change = text_of(cluster, "change");
  if (!change.empty() && change != "none") std::cout << "A change of the ring is under way: " << change << "\n";
  if (flag_of(object_of(cluster, "movement"), "paused")) {
    std::cout << paint("Paused:", Tone::kBad, colour) << " changes of the ring copy no data until `starling resume`\n";
  }
  const std::string state = text_of(node, "state");
  std::cout << "Node " << text_of(node, "short") << ": "
            << paint(state, state == "serving" ? Tone::kGood : Tone::kBad, colour) << ", "
            << thousands(number_of(node, "sessions")) << " sessions, up "
            << duration_text(number_of(node, "uptime_s")) << ", starling " << text_of(node, "version")
            << ", " << text_of(node, "data") << "\n";
  if (const std::string left_out = text_of(node, "left_out"); !left_out.empty()) {
    std::cout << paint("Overloaded:", Tone::kBad, colour) << " it leaves out " << left_out << "\n";
  }
  print_wants(node, colour);
  if (const auto waits = text_of(node, "waits_for"); !waits.empty()) std::cout << "It waits: " << waits << "\n";
}

// Totals since the start, and rates where the name ends in _s.
void print_counts(const Json& counts) {
  std::string line;
  for (const auto& [name, value] : counts.items()) {
    const double count = value.is_number() ? std::round(value.get<double>()) : 0;
    if (count <= 0) continue;
    const bool rate = name.ends_with("_s");
    std::string what = rate ? name.substr(0, name.size() - 2) + "/s" : name;
    std::replace(what.begin(), what.end(), '_', ' ');
    line += (line.empty() ? "" : ", ") + what + " " + thousands(static_cast<std::uint64_t>(count));
  }
  if (!line.empty()) std::cout << "\nThis node since its start: " << line << "\n";
}

int status(const Arguments& arguments) {
  Json answer;
  if (const int code = admin_call(arguments, "status", Json::object(), answer); code != kExitOk) return code;
  if (arguments.flag("json")) {
    std::cout << answer.dump(2) << "\n";
    return kExitOk;
  }
  const bool colour = stdout_has_colour();
  print_heading(object_of(answer, "cluster"), object_of(answer, "node"), colour);
  Table table({"Node", "State", "Zone", ">Weight", ">Share", ">Sessions", ">Ring", "Version", "Clients",
               "Links"});
  for (const Json& member : list_of(answer, "members")) {
    table.row({text_of(member, "short") + (flag_of(member, "self") ? " *" : ""), state_cell(member),
               text_of(member, "zone"), std::to_string(number_of(member, "weight")),
               percent(real_of(member, "share")), thousands(number_of(member, "sessions")),
               std::to_string(number_of(member, "ring")), text_of(member, "version"),
               text_of(member, "client"), text_of(member, "link")});
  }
  std::cout << "\n";
  table.print(std::cout, colour);
  print_counts(object_of(answer, "rates"));
  return kExitOk;
}

// Under a policy of sites.
bool is_away(const Json& owner) { return owner.contains("home") && !flag_of(owner, "home"); }

// "synced", or, of several copies of one message, each with its dot.
Cell copies_cell(const Json& node) {
  std::string text;
  bool synced = false;
  for (const Json& copy : list_of(node, "copies")) {
    const std::string state = text_of(copy, "state");
    synced |= state == "synced";
    text += (text.empty() ? "" : "; ") + state + " as " + text_of(copy, "writer").substr(0, 8) + ":" +
            std::to_string(number_of(copy, "n"));
  }
  return {text, synced ? Tone::kGood : Tone::kBad};
}

void print_message(const Json& answer, bool colour) {
  const Json message = object_of(answer, "message");
  std::cout << "Message " << text_of(message, "id");
  if (!text_of(message, "from").empty()) {
    std::cout << " from " << text_of(message, "from") << " to " << text_of(message, "to");
  }
  std::cout << (flag_of(message, "void") ? " (recalled: taken back, or given up, by its sender)" : "")
            << (flag_of(message, "expired") ? " (expired)" : "") << "\nkey " << text_of(message, "device") << "/"
            << number_of(message, "seq") << ", in the mailbox of " << text_of(answer, "address") << ", partition "
            << number_of(answer, "partition") << "\n";
  if (flag_of(message, "written_off")) {
    std::cout << paint("Lost:", Tone::kBad, colour) << " no copy of it was left, so it was written off; readers are told\n";
  }
  std::cout << "\n";
  Table table({"Node", "Role", "State", "Copy"});
  for (const Json& owner : list_of(answer, "owners")) {
    const bool answered = flag_of(owner, "answered");
    Cell copy = answered ? copies_cell(owner) : Cell("no answer", Tone::kBad);
    if (answered && !flag_of(owner, "whole")) copy.text += " (the partition has damage here)";
    const std::string role = is_away(owner) ? "owner, away" : "owner";
    table.row({text_of(owner, "short"), flag_of(owner, "coordinator") ? "owner, coordinates" : role,
               state_cell(owner), copy});
  }
  for (const Json& node : list_of(answer, "stand_ins")) {
    Cell copy = copies_cell(node);
    const Json& owners = list_of(node, "for");
    for (std::size_t i = 0; i < owners.size(); ++i) {
      copy.text += (i == 0 ? ", for " : ", ") + owners[i].get<std::string>();
    }
    table.row({text_of(node, "short"), "stand-in", state_cell(node), copy});
  }
  table.print(std::cout, colour);
  const Json& followers = list_of(answer, "followers");
  std::cout << "\n" << (followers.empty() ? "No gateway follows the mailbox now.\n" : "Followed by");
  for (std::size_t i = 0; i < followers.size(); ++i) {
    std::cout << (i == 0 ? " " : ", ") << text_of(followers[i], "gateway") << " at "
              << text_of(followers[i], "owner");
  }
  if (!followers.empty()) std::cout << "\n";
}

int where(const Arguments& arguments) {
  Json answer;
  const std::string address = arguments.text("address");
  const bool message = arguments.has("message");
  if (!message && parse_entry_id(address)) {
    return complain(kExitUsage, address + " is a message: say in whose mailbox, too, as in starling where '#ops' " +
                                    address);
  }
  Json question = {{"address", address_name(address)}};
  if (message) question["message"] = arguments.text("message");
  if (const int code = admin_call(arguments, "where", question, answer); code != kExitOk) return code;
  if (arguments.flag("json")) {
    std::cout << answer.dump(2) << "\n";
    return kExitOk;
  }
  const bool colour = stdout_has_colour();
  if (message) {
    print_message(answer, colour);
    return kExitOk;
  }
  std::cout << text_of(answer, "address") << " is a " << text_of(answer, "kind")
            << (flag_of(answer, "exists") ? "" : " that nobody has created") << "; its mailbox is in partition "
            << number_of(answer, "partition") << " (slot " << number_of(answer, "slot") << ")\n\n";
  Table table({"Owner", "State", "Copy", "Coordinates"});
  for (const Json& owner : list_of(answer, "owners")) {
    table.row({text_of(owner, "short"), state_cell(owner), is_away(owner) ? "away" : "counts",
               flag_of(owner, "coordinator") ? "yes" : ""});
  }
  table.print(std::cout, colour);
  return kExitOk;
}

int invite(const Arguments& arguments) {
  const std::uint64_t minutes = arguments.number("expires");
  if (minutes == 0 || minutes > kInviteMinutesMax) {
    return complain(kExitUsage, "--expires takes 1 to " + thousands(kInviteMinutesMax) + " minutes (30 days)");
  }
  Json answer;
  const Json question = {{"expires_s", minutes * 60}};
  if (const int code = admin_call(arguments, "invite", question, answer); code != kExitOk) return code;
  if (arguments.flag("json")) {
    std::cout << answer.dump(2) << "\n";
    return kExitOk;
  }
  // Only the token goes to standard output, so that it can be piped.
  std::cout << text_of(answer, "token") << std::endl;
  std::cerr << "It holds the secret of the cluster and is good once, until "
            << wall_text(static_cast<std::int64_t>(number_of(answer, "expires_ms")))
            << ". On the new machine: starling join TOKEN\n";
  return kExitOk;
}

}  // namespace

Command status_command() {
  return {
      .name = "status",
      .summary = "the cluster, as one node sees it",
      .usage = "status [--data FOLDER] [--json]",
      .about = "Asks the node of the data folder about the cluster and itself. * marks the node that answers.\n\n"
               "Examples:\n"
               "  starling status\n"
               "  starling status --data .cluster/node2 --json | jq .cluster.serving\n",
      .options =
          [](po::options_description& options) {
            add_admin_options(options);
            add_json_option(options);
          },
      .run = status,
      .words = {},
  };
}

Command where_command() {
  return {
      .name = "where",
      .summary = "the nodes that keep a user's or group's messages, or one message",
      .usage = "where ADDRESS [MESSAGE] [--data FOLDER] [--json]",
      .about = "Shows the partition of an address and the nodes that own it; the one that coordinates now is\n"
               "marked. An address is @user or #group; a bare name is a user.\n\n"
               "With a message: which owner has it on disk, under which writer and number, who holds it for\n"
               "owners out of reach, and which gateways follow the mailbox. A message is the id that `send`\n"
               "prints, or DEVICE/SEQ as `tail --json` prints them. A message to a user is in two mailboxes:\n"
               "the recipient's and, as a copy, the sender's.\n\n"
               "Examples:\n"
               "  starling where @alice\n"
               "  starling where '#ops' 0001K5D8JQ8W0M3V2T7XN4B9CE\n",
      .options =
          [](po::options_description& options) {
            add_admin_options(options);
            add_json_option(options);
            options.add_options()("address", po::value<std::string>())("message", po::value<std::string>());
          },
      .run = where,
      .words = {"address", "[message]"},
  };
}

Command invite_command() {
  return {
      .name = "invite",
      .summary = "print a token that lets one new node join",
      .usage = "invite [--expires MINUTES] [--data FOLDER] [--json]",
      .about = "Prints a token for `starling join` on standard output. It carries the secret of the cluster:\n"
               "hand it over as you would a password.\n\n"
               "Examples:\n"
               "  starling invite --expires 10\n",
      .options =
          [](po::options_description& options) {
            add_admin_options(options);
            add_json_option(options);
            options.add_options()("expires",
                                  po::value<std::uint64_t>()->value_name("MINUTES")->default_value(60),
                                  "how long the token is good");
          },
      .run = invite,
      .words = {},
  };
}

}  // namespace starling::node::cli
