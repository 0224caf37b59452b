// starling verify and repair: do the copies agree, and can all of them be read?
#include <algorithm>
#include <iostream>
#include <thread>
#include <vector>

#include "node/cli/admin_client.h"
#include "node/cli/cluster_text.h"
#include "node/cli/commands.h"
#include "node/cli/terminal/progress.h"
#include "node/cli/terminal/table.h"

namespace starling::node::cli {
namespace {

constexpr std::uint64_t kPartitionsPerCall = 64;
constexpr std::size_t kFindingsShown = 20;

std::string meaning(const Json& finding) {
  const std::string outcome = text_of(finding, "outcome");
  if (outcome == "behind") return "owners on their way to each other; verify again later";
  if (outcome == "differs") return "same changes, another state: this must not be; please report it";
  if (outcome == "damaged") {
    return counted(list_of(finding, "damaged").size(), "change") + " cannot be read; `starling repair` on that node";
  }
  if (outcome == "unreachable") return "no answer from these owners";
  return "no copy left of " + counted(list_of(finding, "lost").size(), "change");
}

// Partitions behind each other of which the same is to say, such as all of a node that is away.
struct Stretch {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  Json finding;
};

std::vector<Stretch> stretches(const Json& findings) {
  std::vector<Stretch> out;
  for (const Json& finding : findings) {
    const std::uint64_t partition = number_of(finding, "partition");
    const auto same = [&](const Json& before) {
      return text_of(before, "outcome") == text_of(finding, "outcome") && meaning(before) == meaning(finding) &&
             list_of(before, "nodes") == list_of(finding, "nodes");
    };
    const bool goes_on = !out.empty() && out.back().last + 1 == partition && same(out.back().finding);
    if (!goes_on) out.push_back({partition, partition, finding});
    out.back().last = partition;
  }
  return out;
}

void print_findings(const Json& findings, bool colour) {
  Table table({">Partition", "Finding", "Nodes", "Meaning"});
  const auto all = stretches(findings);
  for (std::size_t i = 0; i < std::min(all.size(), kFindingsShown); ++i) {
    const auto& [first, last, finding] = all[i];
    const std::string outcome = text_of(finding, "outcome");
    table.row({std::to_string(first) + (first == last ? "" : "-" + std::to_string(last)),
               Cell{outcome == "same" ? "lost" : outcome, Tone::kBad}, joined(list_of(finding, "nodes")),
               meaning(finding)});
  }
  table.print(std::cout, colour);
  if (all.size() > kFindingsShown) {
    std::cout << "... and " << all.size() - kFindingsShown << " more; --json has all.\n";
  }
}

int verify_copies(const Arguments& arguments) {
  Json total = {{"partitions", 0}, {"checked", 0}, {"same", 0}, {"rows", 0}, {"findings", Json::array()}};
  Progress progress;
  for (std::uint64_t from = 0;;) {
    Json page;
    const Json question = {{"from", from}, {"limit", kPartitionsPerCall}};
    if (const int code = admin_call(arguments, "verify", question, page); code != kExitOk) return code;
    for (const char* field : {"checked", "same", "rows"}) {
      total[field] = number_of(total, field) + number_of(page, field);
    }
    total["partitions"] = number_of(page, "partitions");
    for (const Json& finding : list_of(page, "findings")) total["findings"].push_back(finding);
    const double share = static_cast<double>(number_of(total, "checked")) /
                         static_cast<double>(std::max<std::uint64_t>(1, number_of(total, "partitions")));
    progress.show(share, thousands(number_of(total, "rows")) + " rows, " +
                             std::to_string(total["findings"].size()) + " findings");
    if (!page.contains("next")) break;
    from = number_of(page, "next");
  }
  progress.finish();
  const bool good = number_of(total, "same") == number_of(total, "checked");
  if (arguments.flag("json")) {
    std::cout << total.dump(2) << "\n";
    return good ? kExitOk : kExitFailed;
  }
  const bool colour = stdout_has_colour();
  std::cout << thousands(number_of(total, "same")) << " of " << thousands(number_of(total, "checked"))
            << " partitions are the same at all their owners (" << thousands(number_of(total, "rows"))
            << " rows compared)" << (good ? "" : ":") << "\n";
  if (!total["findings"].empty()) print_findings(total["findings"], colour);
  return good ? kExitOk : kExitFailed;
}

// Ends when the node has read everything and asked the others for what it could not read.
int wait_for_repair(const Arguments& arguments, Json& answer) {
  Progress progress;
  for (Json question = {{"start", true}};; question = Json::object()) {
    if (const int code = admin_call(arguments, "repair", question, answer); code != kExitOk) return code;
    if (!flag_of(answer, "busy")) return kExitOk;
    progress.show(real_of(answer, "share"), "read " + thousands(number_of(answer, "rows")) + " rows, " +
                           thousands(number_of(answer, "bytes") >> 20) + " MiB; damaged " +
                           thousands(number_of(answer, "damaged")));
    std::this_thread::sleep_for(kPollEvery);
  }
}

void print_repair(const Json& answer) {
  std::cout << "Read " << thousands(number_of(answer, "rows")) << " rows, "
            << thousands(number_of(answer, "bytes") >> 20) << " MiB. Found damaged: "
            << thousands(number_of(answer, "found")) << "; index rows written again: "
            << thousands(number_of(answer, "mended")) << "; still damaged: "
            << thousands(number_of(answer, "damaged")) << "; lost for ever: "
            << thousands(number_of(answer, "lost")) << "\n";
  const Json& hopeless = list_of(answer, "hopeless");
  if (!hopeless.empty()) {
    std::cout << "\nNo other owner has these; if no node that is away now can have them either, write\n"
                 "them off with: starling repair --give-up\n\n";
    Table table({">Partition", "Change"});
    for (const Json& change : hopeless) {
      table.row({std::to_string(number_of(change, "partition")), text_of(change, "dot")});
    }
    table.print(std::cout, stdout_has_colour());
  } else if (number_of(answer, "damaged") > 0) {
    std::cout << "\nThe rest is tried again every 10 s: an owner that may have it does not answer now.\n";
  }
  if (const auto count = number_of(answer, "given_up"); count > 0) {
    std::cout << "Written off as lost: " << thousands(count) << "\n";
  }
}

int repair(const Arguments& arguments) {
  Json answer;
  if (const int code = wait_for_repair(arguments, answer); code != kExitOk) return code;
  if (arguments.flag("give-up")) {
    if (const int code = admin_call(arguments, "repair", {{"give_up", true}}, answer); code != kExitOk) {
      return code;
    }
  }
  if (arguments.flag("json")) {
    std::cout << answer.dump(2) << "\n";
  } else {
    print_repair(answer);
  }
  return number_of(answer, "damaged") == 0 ? kExitOk : kExitFailed;
}

}  // namespace

Command verify_command() {
  return {
      .name = "verify",
      .summary = "compare the copies of everything between their owners",
      .usage = "verify [--data FOLDER] [--json]",
      .about = "Compares, partition by partition and while the cluster serves, what its owners hold. Exit code 1\n"
               "when a partition is not the same at all of them, is damaged, or an owner does not answer.\n\n"
               "Examples:\n"
               "  starling verify\n"
               "  starling verify --json | jq '.findings[].partition'\n",
      .options =
          [](po::options_description& options) {
            add_admin_options(options);
            add_json_option(options);
          },
      .run = verify_copies,
      .words = {},
  };
}

Command repair_command() {
  return {
      .name = "repair",
      .summary = "read everything this node stores and mend what is damaged",
      .usage = "repair [--give-up] [--data FOLDER] [--json]",
      .about = "Reads and checks all that the node has on disk, while it serves, and fetches what is damaged from\n"
               "the other owners. (The node does the same by itself once a day, slowly, and at once for what it\n"
               "happens to read.) What no other owner has either stays listed, and its partition is not served\n"
               "here, until it comes back or is written off: then it counts as lost. Exit code 1 while damage is\n"
               "left.\n\n"
               "Examples:\n"
               "  starling repair\n"
               "  starling repair --give-up\n",
      .options =
          [](po::options_description& options) {
            add_admin_options(options);
            add_json_option(options);
            options.add_options()("give-up", po::bool_switch(),
                                  "write off as lost what every other owner answers not to have");
          },
      .run = repair,
      .words = {},
  };
}

}  // namespace starling::node::cli
