// starling check: judges histories that clients recorded.
#include <algorithm>
#include <fstream>
#include <functional>
#include <iostream>
#include <set>

#include "node/check/story.h"
#include "node/cli/admin_client.h"
#include "node/cli/commands.h"
#include "node/cli/terminal/table.h"

namespace starling::node::cli {
namespace {

using check::Checker;
using check::Event;
using check::Fault;

constexpr std::size_t kStoriesMax = 3;

struct Promise {
  int number;
  const char* text;
};
constexpr Promise kPromises[] = {
    {1, "acknowledged is never lost"},
    {2, "every message once on a device"},
    {3, "a sender's messages keep their order"},
    {4, "one order for all"},
    {7, "nothing is invented or altered"},
    {8, "a dot is used once"},
};

// Every line of every file; "-" is standard input.
Status read(const std::vector<std::string>& files, const std::function<Status(View)>& line) {
  for (const auto& path : files) {
    std::ifstream file;
    if (path != "-") {
      file.open(path, std::ios::binary);
      if (!file) return Error{Errc::kNotFound, "cannot read " + path};
    }
    std::istream& in = path == "-" ? std::cin : file;
    bool empty = true;
    for (std::string text; std::getline(in, text); empty = false) {
      if (auto fed = line(text); !fed) return Error{fed.code(), path + ": " + fed.error().text};
    }
    if (empty) return Error{Errc::kCorrupt, path + ": the file is empty; a history has a header"};
  }
  return ok_status();
}

std::vector<std::string> story_of(const check::Story& story, const check::Violation& violation) {
  return story.of(violation.message);
}

Json to_json(const check::Report& r, bool pass, const check::Story& story) {
  Json faults = Json::object();
  for (std::size_t i = 0; i < check::kFaults; ++i) {
    faults[std::string(name(static_cast<Fault>(i)))] = r.faults[i];
  }
  Json violations = Json::array();
  for (const auto& v : r.violations) {
    violations.push_back({{"fault", name(v.fault)},
                          {"promise", check::promise_of(v.fault)},
                          {"text", v.text},
                          {"story", story_of(story, v)}});
  }
  return {{"verdict", pass ? "pass" : "fail"},
          {"files", r.files}, {"cut_files", r.cut_files}, {"events", r.events},
          {"devices", r.devices}, {"conversations", r.conversations}, {"restarts", r.restarts},
          {"sent", r.sent}, {"acked", r.acked}, {"weak", r.weak}, {"refused", r.refused},
          {"unknown", r.unknown}, {"open", r.open}, {"expected", r.expected},
          {"delivered", r.delivered}, {"shown", r.shown}, {"late_inserts", r.late_inserts},
          {"moved", r.moved}, {"foreign", r.foreign}, {"faults", std::move(faults)},
          {"violations", std::move(violations)}};
}

void print_judgement(const check::Report& r, bool pass, const check::Story& story, std::size_t first) {
  const bool colour = stdout_has_colour();
  Table counts({"what", ">count"});
  const auto count = [&counts](const char* what, std::uint64_t n, bool always = true) {
    if (always || n > 0) counts.row({what, thousands(n)});
  };
  count("events", r.events);
  count("devices", r.devices);
  count("sent", r.sent);
  count("acknowledged", r.acked);
  count("acknowledged at a weak grade", r.weak, false);
  count("refused", r.refused, false);
  count("given up, outcome unknown", r.unknown, false);
  count("without an answer", r.open, false);
  count("due on devices", r.expected);
  count("... and shown there", r.delivered);
  count("came after a later one", r.late_inserts, false);
  count("position differs between devices", r.moved, false);
  count("of other runs", r.foreign, false);
  counts.print(std::cout, colour);
  std::cout << "\n";
  Table promises({"promise", ">broken"});
  for (const auto& promise : kPromises) {
    const auto broken = r.broken(promise.number);
    promises.row({promise.text, Cell(thousands(broken), broken > 0 ? Tone::kBad : Tone::kGood)});
  }
  promises.print(std::cout, colour);
  std::set<check::MessageName> told;
  std::cout << "\n";
  for (std::size_t i = 0; i < r.violations.size() && i < first; ++i) {
    const auto& violation = r.violations[i];
    std::cout << name(violation.fault) << ": " << violation.text << "\n";
    if (!told.insert(violation.message).second) continue;
    for (const auto& line : story_of(story, violation)) std::cout << "  " << line << "\n";
  }
  if (r.cut_files > 0) {
    std::cout << r.cut_files << " of " << r.files
              << " files are cut: their client did not come to its end (--partial judges the rest)\n";
  }
  if (r.acked == 0) std::cout << "nothing was acknowledged: this proves nothing\n";
  std::cout << (pass ? paint("PASS", Tone::kGood, colour) : paint("FAIL", Tone::kBad, colour))
            << std::endl;
}

int check_history(const Arguments& arguments) {
  const auto files = arguments.list("history");
  Checker checker({arguments.flag("closed"), arguments.flag("partial")});
  const auto fed = read(files, [&](View line) { return checker.feed_line(line); });
  if (!fed) return complain(fed.error());
  const check::Report report = checker.report();
  // The files once more, for the messages that something is wrong with.
  std::vector<check::MessageName> named;
  for (const auto& violation : report.violations) {
    if (std::find(named.begin(), named.end(), violation.message) != named.end()) continue;
    if (named.size() < kStoriesMax) named.push_back(violation.message);
  }
  check::Story story(named);
  const bool again = std::find(files.begin(), files.end(), "-") == files.end();
  if (!named.empty() && again) {
    const auto told = read(files, [&](View line) -> Status {
      TRY_ASSIGN(const Event event, check::decode(line));
      story.feed(event);
      return ok_status();
    });
    if (!told) return complain(told.error());
  }
  const bool pass = report.passed() && report.acked > 0;
  if (arguments.flag("json")) {
    std::cout << to_json(report, pass, story) << std::endl;
  } else {
    print_judgement(report, pass, story, arguments.number("first"));
  }
  return pass ? kExitOk : kExitFailed;
}

}  // namespace

Command check_command() {
  return {
      "check",
      "judge what clients recorded against the promises",
      "check HISTORY... [options]",
      "Reads histories that `starling replay --record`, `starling bench --record` or the simulator wrote,\n"
      "several files of one run together, and says whether a promise was broken: loss, doubles, order,\n"
      "altered or invented messages. For what is wrong it tells everything that happened to the message.\n\n"
      "Exit code 0: all promises kept. 1: broken, cut, or not a history.\n\n"
      "  starling check run.history\n"
      "  starling check client-*.history --closed --json\n",
      [](po::options_description& options) {
        options.add_options()("history", po::value<std::vector<std::string>>(), "files; - is standard input")(
            "closed", po::bool_switch(), "nobody else writes on this cluster: what no file sent is invented")(
            "partial", po::bool_switch(), "a file without its end is no fault; its devices owe nothing")(
            "first", po::value<std::uint64_t>()->value_name("NUMBER")->default_value(10),
            "show this many faults");
        add_json_option(options);
      },
      check_history,
      {"history..."}};
}

}  // namespace starling::node::cli
