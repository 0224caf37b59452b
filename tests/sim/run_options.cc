#include "tests/sim/run_options.h"

#include <cstdio>
#include <cstdlib>
#include <type_traits>

namespace starling::sim {
namespace {

double seconds(Duration duration) { return static_cast<double>(duration.count()) / 1e9; }
Duration duration(double seconds) { return Duration(static_cast<Duration::rep>(seconds * 1e9)); }

// Every option once: `number(name, help, get, set)` and `flag(name, help, value, when_given)`.
template <class Number, class Flag>
void each_option(RunOptions& run, Number number, Flag flag) {
  const auto count = [&](const char* name, const char* help, auto& value) {
    number(name, help, static_cast<double>(value), [&value](double given) {
      value = static_cast<std::remove_reference_t<decltype(value)>>(given);
    });
  };
  const auto time = [&](const char* name, const char* help, Duration& value) {
    number(name, help, seconds(value), [&value](double given) { value = duration(given); });
  };
  count("seed", "the seed to run", run.seed);
  count("nodes", "of the cluster", run.cluster.nodes);
  count("copies", "of each partition", run.cluster.copies);
  time("seconds", "virtual seconds with faults", run.length);
  time("quiet", "virtual seconds that repair may take in the end", run.quiet);
  time("race", "seconds between two names that two people want at once; 0: never", run.race);
  count("joins", "nodes that join while things break", run.joins);
  count("moves", "movements of the operator while things break", run.moves.count);
  count("moves-min", "of them that have to be agreed", run.moves.agreed_min);
  count("doubles", "times that the partitions are doubled while things break", run.doubles.count);
  count("nodes-max", "that serve at once, with --moves", run.moves.nodes_max);
  count("users", "people", run.workload.users);
  count("devices", "of a person, at most", run.workload.devices_max);
  count("groups", "that they write to", run.workload.groups);
  time("pause-min", "seconds between two sends of a device, at least", run.workload.pause_min);
  time("pause-max", "... at most", run.workload.pause_max);
  time("gap-min", "seconds between two faults, at least", run.faults.gap_min);
  time("gap-max", "... at most", run.faults.gap_max);
  time("latency", "seconds that a packet takes, at most", run.cluster.network.latency_max);
  count("loss", "share of datagrams lost", run.cluster.network.loss);
  count("duplicate", "share of datagrams doubled", run.cluster.network.duplicate);
  count("straggle", "share of datagrams that come late", run.cluster.network.straggle);
  count("reconnect", "chance of a device to reconnect, per send", run.workload.reconnect);
  count("restart", "chance of a device to be restarted, per send", run.workload.restart);
  count("churned", "groups whose members change, with --rosters", run.social.groups);
  count("sabotage", "the invariant to break on purpose", run.sabotage);
  flag("both", "two nodes may be down at once", run.faults.both, true);
  flag("more", "hung disks, drifting clocks, broken links, lag, bridges", run.faults.more, true);
  flag("hard", "two or all nodes at once, full disks, failed syncs, halves, one port, clock jumps", run.faults.hard, true);
  flag("rot", "bits of stored messages flip, on one node", run.faults.rot, true);
  flag("decay", "bits of files and stored messages flip, on one node that chance chooses", run.faults.decay, true);
  flag("grades", "one send in four is not at grade quorum", run.workload.grades, true);
  flag("slow", "devices stand still for 10 to 25 s, and messages are large", run.workload.slow, true);
  flag("recalls", "messages are taken back, and strangers try to", run.workload.recalls, true);
  flag("burn", "one send in three has a lifetime of seconds", run.workload.burn, true);
  flag("rosters", "groups are founded, and who is in them changes", run.social.rosters, true);
  flag("pages", "history is read back", run.social.pages, true);
  flag("passwords", "are changed", run.social.passwords, true);
  flag("sites", "two sites, 40 ms apart: two copies at home, one away; 6 nodes at least", run.sites, true);
  flag("revokes", "with --moves, nodes are revoked, too", run.moves.revokes, true);
  flag("no-crashes", "no node ends", run.faults.crashes, false);
  flag("no-partitions", "no cuts", run.faults.partitions, false);
  flag("no-pauses", "no process stands still", run.faults.pauses, false);
  flag("no-slow-disks", "all disks are quick", run.faults.slow_disks, false);
  flag("no-intruder", "nobody tries to log in without a password", run.intruder, false);
  flag("no-clocks", "no clock is stepped", run.faults.clocks, false);
}

std::string number_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.10g", value);
  return text;
}

}  // namespace

RunOptions default_run() {
  RunOptions run;
  run.cluster.network = rough_network();
  return run;
}

Result<RunOptions> parse_run(const std::vector<std::string>& words) {
  RunOptions run = default_run();
  for (std::size_t i = 0; i < words.size(); ++i) {
    bool known = false;
    bool good = true;
    each_option(
        run,
        [&](const char* name, const char*, double, auto set) {
          if (words[i] != std::string("--") + name) return;
          known = true;
          const char* value = i + 1 < words.size() ? words[++i].c_str() : "";
          char* end = nullptr;
          const double given = std::strtod(value, &end);
          good = end != value && *end == '\0' && given >= 0;
          if (good) set(given);
        },
        [&](const char* name, const char*, bool& value, bool when_given) {
          if (words[i] != std::string("--") + name) return;
          known = true;
          value = when_given;
        });
    if (!known) return Error{Errc::kInvalid, "no such option: " + words[i]};
    if (!good) return Error{Errc::kInvalid, "not a number: " + words[i]};
  }
  return run;
}

std::string text_of(const RunOptions& options) {
  RunOptions run = options;
  RunOptions usual = default_run();
  std::vector<std::string> defaults;
  each_option(
      usual,
      [&](const char*, const char*, double value, auto) {
        defaults.push_back(number_text(value));
      },
      [&](const char*, const char*, bool value, bool) {
        defaults.emplace_back(value ? "1" : "0");
      });
  std::string out = "--seed " + std::to_string(run.seed);
  std::size_t i = 0;
  each_option(
      run,
      [&](const char* name, const char*, double value, auto) {
        const auto text = number_text(value);
        if (text != defaults[i++] && std::string(name) != "seed") {
          out += std::string(" --") + name + " " + text;
        }
      },
      [&](const char* name, const char*, bool value, bool) {
        if ((value ? "1" : "0") != defaults[i++]) out += std::string(" --") + name;
      });
  return out;
}

std::string run_usage() {
  RunOptions usual = default_run();
  std::string out;
  const auto line = [&](const std::string& name, const std::string& help) {
    out += "  --" + name + std::string(name.size() < 20 ? 20 - name.size() : 1, ' ') + help + "\n";
  };
  each_option(
      usual,
      [&](const char* name, const char* help, double value, auto) {
        line(std::string(name) + " N", std::string(help) + " (" + number_text(value) + ")");
      },
      [&](const char* name, const char* help, bool, bool) { line(name, help); });
  return out;
}

}  // namespace starling::sim
