#include "tests/sim/run.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <iterator>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "node/session/session.h"
#include "tests/sim/faults/intruder.h"
#include "tests/sim/judge/drops.h"
#include "tests/sim/judge/home_copies.h"
#include "tests/sim/judge/owners_equal.h"
#include "tests/sim/judge/sabotage.h"
#include "tests/sim/judge/watch.h"
#include "tests/sim/people/name_races.h"
#include "tests/sim/run_options.h"

namespace starling::sim {
namespace {

constexpr Duration kTail = 3s;  // A round of repair with each peer, so that late damage shows.

struct Parts {
  World& world;
  SimCluster& cluster;
  Tap& tap;
  Workload& workload;
  Nemesis& nemesis;
  Movements& movements;
  Doublings& doublings;
  Social& social;
  NameRaces& races;
  Watch& watch;
  Drops& drops;
  Intruder& intruder;
  HomeCopies* homes;  // Null: not to be judged.
};

// Several at one moment, through different nodes where there are some.
void join(const RunOptions& options, Parts& p) {
  for (std::size_t n = 0; n < options.joins; ++n) {
    const std::size_t first = p.cluster.size() + n;
    for (std::size_t turn = 0; turn < options.cluster.nodes; ++turn) {
      const std::size_t inviter = (first + turn) % options.cluster.nodes;
      if (!p.cluster.up(inviter)) continue;
      const auto joining = p.cluster.begin_join(inviter);
      if (joining) break;
      p.world.note("run", "no join: " + joining.error().text);
    }
  }
}

constexpr Duration kDeadNoticed = 10s;  // By a device that only listens: so much later than nodes are quiet.

constexpr Duration kRefilled = 180s;   // Several tries to bring everything elsewhere, 30 s apart.

// Quiet, and every device has what was acknowledged, and was told of second positions (its connection may be one to a
// node that died, which it has yet to find out); looked at less and less often. What keeps it from that in the end.
std::vector<SimCluster::Unrest> wait_for_quiet(const RunOptions& options, Parts& p) {
  const Duration limit = options.quiet;
  const bool decays = options.faults.decay || options.faults.rot;
  const Instant called = p.world.now();
  Instant begin = called;
  for (auto fatal = p.cluster.fatal_errors(); true;) {
    auto unrest = p.cluster.unrest();
    // A file that cannot be read is the last fault, until its node was started again.
    const bool ailing = std::exchange(fatal, p.cluster.fatal_errors()) != fatal || p.cluster.awaits_refill();
    if (decays && ailing && p.world.now() - called < kRefilled) begin = p.world.now();
    const auto& history = p.workload.history();
    if (unrest.empty() && check_delivered(history).empty() && check_clients(history).empty()) return {};
    const Duration waited = p.world.now() - begin;
    if (waited >= limit && (!unrest.empty() || waited >= limit + kDeadNoticed)) return unrest;
    p.world.run_for(std::min(1s + waited / 8, 50ms + waited / 4));
  }
}

// Everybody may send what the workload sends, so nothing is refused for good: that a number was used
// for another message, or is gone, would be the loss of a place in the sender's order.
Violations check_refusals(const History& history) {
  Violations out;
  for (const auto& send : history.sends()) {
    if (send.outcome != Outcome::kRefused || history.may_be_refused(send)) continue;
    out.push_back({3, "refused (" + std::string(name(send.error)) + "): " + history.text(send),
                   hash_text(send.hash)});
  }
  return out;
}

// What was acknowledged is there to be taken back by its user. Nobody else is told so: that the checker sees.
Violations check_recalls(const History& history, const std::vector<SendIndex>& shown_late) {
  Violations out;
  for (const auto& recall : history.recalls()) {
    const auto& send = history.sends()[recall.send];
    const bool own = history.devices()[recall.device].user == history.devices()[send.device].user;
    if (!own && recall.outcome == Outcome::kRefused && recall.error != Errc::kDenied && recall.error != Errc::kNotFound) {
      out.push_back({7, "a recall by a stranger ended in " + std::string(name(recall.error)) + ": " + history.text(send),
                     hash_text(send.hash)});
    }
    const bool there = history.lives(send) && send.ended < recall.asked;
    if (!own || recall.outcome != Outcome::kRefused || !there) continue;
    out.push_back({1, "not taken back (" + std::string(name(recall.error)) + "): " + history.text(send),
                   hash_text(send.hash)});
  }
  for (const auto late : shown_late) {
    const auto& send = history.sends()[late];
    out.push_back({7, "shown to a new device after it was taken back: " + history.text(send), hash_text(send.hash)});
  }
  return out;
}

// A device that does not take what is sent to it costs its node no more than this, and has to read on by itself.
Violations check_doors(SimCluster& cluster, bool reads_back) {
  const std::size_t pages = node::kReadsPerSessionMax + (reads_back ? node::kPagesInFlightMax : 0);
  const std::size_t most = node::kSessionQueueBytesMax + pages * (node::kReadBytesMax + (64 << 10));
  const auto waited = cluster.network().stats().waits_for_device;
  if (waited <= most) return {};
  return {{9, std::to_string(waited) + " bytes waited for one slow device, over " + std::to_string(most), "stands still"}};
}

void judge(const ClusterExport& stores, Parts& p, bool reads_back, Violations& out) {
  const auto add = [&out](Violations more) {
    out.insert(out.end(), std::make_move_iterator(more.begin()),
               std::make_move_iterator(more.end()));
  };
  add(p.watch.violations());
  add(p.drops.violations());
  add(check_doors(p.cluster, reads_back));
  add(p.social.violations());
  add(p.intruder.violations());
  if (p.homes != nullptr) add(p.homes->violations());
  add(check_names(p.races.races()));
  add(check_rows(stores, mailbox_names(p.workload.addresses())));
  add(check_stored_dots(stores));
  add(check_lost(stores, p.cluster.destroyed()));
  add(check_all(p.workload.history(), &stores));
  add(check_refusals(p.workload.history()));
}

// A node is refused when it left or was removed. One that the ring does not know was to join: what may come in its way
// is an operator who took the join back, that the node which it should replace came back, or a forced removal, which ends
// the lineage that it was invited under. Everything else is a node lost to a mistake.
Violations check_refused_nodes(Parts& p) {
  Violations out;
  for (const auto& why : p.cluster.wrong_refusals()) out.push_back({11, why, ""});
  const bool taken_back = p.movements.done().contains("abort");
  const bool forced = p.movements.done().contains("forced removal agreed");
  for (const auto& refusal : p.cluster.refusals()) {
    if (!refusal.joining || taken_back || p.movements.replaces(refusal.node)) continue;
    if (refusal.code == Errc::kForeign && forced) continue;
    out.push_back({11, "n" + std::to_string(refusal.node) + " may not join: " + refusal.text, ""});
  }
  return out;
}

// What nobody happened to read is found by reading everything, and mended. What no copy is left of is written off
// after a while, as an operator would: whether it may be lost, the judge knows.
Status read_all(SimCluster& cluster, std::size_t from = 0) {
  constexpr int kTurns = 600, kPatience = 200, kGiveUpEvery = 50;
  if (!cluster.run_until([&] { return cluster.all_serving(); }, 120s)) return ok_status();  // Told below.
  std::optional<std::size_t> at;
  for (int turn = 0; turn < kTurns; ++turn) {
    cluster.run_for(100ms);
    if (!at || !cluster.up(*at)) {  // Some left, and one that empties a file starts itself anew.
      at = from;
      while (*at + 1 < cluster.size() && !cluster.up(*at)) ++*at;
      (void)cluster.admin(*at, "repair", {{"start", true}});
      continue;
    }
    const auto state = cluster.admin(*at, "repair", Json::object());
    if (!state || state->at("busy") == true) continue;
    if (state->at("damaged") == 0) return ok_status();
    if (turn < kPatience || turn % kGiveUpEvery != 0 || state->at("hopeless").empty()) continue;
    TRY(cluster.admin(*at, "repair", {{"give_up", true}}));
  }
  return Error{Errc::kCorrupt, "damage that was not mended from the other owners"};
}

Status go(const RunOptions& options, Parts p, RunReport& report) {
  TRY(p.cluster.form());
  TRY(p.workload.set_up());
  sabotage(options.sabotage, p.world, p.cluster, p.tap);
  if (p.homes != nullptr) p.homes->start();
  p.workload.start();
  p.social.start();
  p.nemesis.start();
  p.movements.start(options.length);
  p.doublings.start(options.length);
  p.watch.start();
  if (options.joins > 0 || options.moves.count > 0) p.drops.start();
  if (options.race > Duration(0)) p.races.start(options.race);
  if (options.intruder) p.intruder.start(p.workload.users());
  p.world.run_for(options.length / 3);
  join(options, p);
  p.world.run_for(options.length - options.length / 3);
  p.nemesis.stop();
  p.movements.stop();
  p.doublings.stop();
  p.races.stop();
  p.intruder.stop();
  p.workload.stop();
  p.social.stop();
  TRY(p.cluster.end_faults());
  for (const auto& change : p.cluster.destroyed()) {
    if (change.hash != 0) p.workload.history().destroyed(change.hash, change.mailbox, change.node);
  }
  if (options.faults.rot) TRY(read_all(p.cluster));
  for (std::size_t i = 0; options.faults.decay && i < p.cluster.size(); ++i) TRY(read_all(p.cluster, i));
  const bool disks_last = !options.faults.rot && !options.faults.decay && options.moves.count == 0;
  const bool runs_last = !options.faults.crashes && !options.faults.hard && p.cluster.fatal_errors() == 0;
  p.workload.history().weak_grades_last(disks_last && runs_last, disks_last);
  p.workload.wake_all();
  const auto settled = [&] {
    return p.cluster.all_serving() && p.workload.settled() && p.movements.settled() &&
           p.doublings.settled() && p.social.settled();
  };
  const bool ended = p.world.run_until(settled, options.settle_limit);
  auto unrest = wait_for_quiet(options, p);
  if (ended && unrest.empty()) {
    p.watch.expect_rest();
    report.violations = p.races.try_passwords();
  }
  if (ended && unrest.empty() && (options.social.any() || options.workload.burn)) {
    p.social.try_all();
    unrest = wait_for_quiet(options, p);  // It wrote.
  }
  const auto shown_late = p.workload.shown_late();
  p.world.run_for(kTail);
  const auto refused = check_refused_nodes(p);
  report.violations.insert(report.violations.end(), refused.begin(), refused.end());
  // Whatever is wrong by now is more telling than that it took too long.
  TRY_ASSIGN(const ClusterExport stores, p.cluster.stop_and_export());
  note_written_off(p.workload.history(), stores, p.cluster.abandoned_writers());
  judge(stores, p, options.social.any() || options.workload.burn, report.violations);
  for (const auto& violation : check_recalls(p.workload.history(), shown_late)) report.violations.push_back(violation);
  for (const auto& [invariant, why] : unrest) {
    report.violations.push_back({invariant, std::to_string(to_ms(options.quiet)) +
                                                " ms after the last fault and answer: " + why, ""});
  }
  if (!ended) return Error{Errc::kTimeout, "sends or nodes do not settle after the faults"};
  if (!p.movements.enough()) {
    return Error{Errc::kOverloaded, "only " + std::to_string(p.movements.agreed()) + " movements were agreed, not " +
                                        std::to_string(options.moves.agreed_min)};
  }
  return ok_status();
}

}  // namespace

NetworkOptions rough_network() {
  NetworkOptions options;
  options.loss = 0.05;
  options.duplicate = 0.02;
  options.straggle = 0.05;
  return options;
}

namespace {

// Notes every message of people that goes from node to node, in the words of the checkers.
void explain(Tap& tap, World& world) {
  const auto note = [&world](const TapMessage& m, const char* what, const Carried& x) {
    world.note("n" + std::to_string(m.to),
               std::string(what) + " n" + std::to_string(m.from) + ": #" +
                   std::to_string(x.key.seq) + " id " + to_text(x.id) + " dot " +
                   std::to_string(x.dot.writer.value) + ":" + std::to_string(x.dot.n) + " body " +
                   hash_text(x.hash));
  };
  tap.on_arrive = [&world, note](const TapMessage& m) {
    for (const auto& change : carried(m)) {
      note(m, m.method == overlay::Method::kPush ? "pushed by" : "replicated by", change);
    }
    if (m.method != overlay::Method::kAppend) return;
    if (const auto send = unpack<node::AppendRequest>(m.body)) {
      world.note("n" + std::to_string(m.to),
                 "asked by n" + std::to_string(m.from) + " to append #" +
                     std::to_string(send->seq) + " to " + send->to + " flags " +
                     std::to_string(send->flags) + " body " +
                     hash_text(body_hash(send->body.data)));
    }
  };
  tap.on_answer = [&world, note](const TapMessage& m, const Result<Bytes>& answer) {
    TapMessage back = m;
    std::swap(back.from, back.to);
    for (const auto& change : carried(m, answer)) {
      note(back, m.method == overlay::Method::kRead ? "read from" : "fetched from", change);
    }
    if (m.method != overlay::Method::kAppend) return Fate::kPass;
    if (const auto send = unpack<node::AppendRequest>(m.body)) {
      world.note("n" + std::to_string(m.from),
                 "told by n" + std::to_string(m.to) + ": " +
                     (answer ? "appended" : answer.error().text) + " body " +
                     hash_text(body_hash(send->body.data)));
    }
    return Fate::kPass;
  };
}

Status write_history(const History& history, const RunOptions& options) {
  node::check::HistoryWriter writer;
  TRY(writer.open(options.record));
  for (const auto& event : events(history, "seed " + std::to_string(options.seed))) {
    writer.write(event);
  }
  return writer.close();
}

void by_site(RunOptions& run) {
  run.cluster.nodes = std::max<std::size_t>(run.cluster.nodes, 6);
  run.cluster.zones = {"east", "west"};
  run.cluster.sites = {2, 1, ""};
  run.cluster.network.between_sites = 40ms;
  run.faults.sites = run.faults.partitions;
}

// Of the first thing that the trace knows by name; else how it ended.
std::string story(const Trace& trace, const std::vector<Violation>& violations) {
  for (const auto& violation : violations) {
    if (violation.needle.empty()) continue;
    if (std::string found = trace.text(violation.needle, 200); !found.empty()) {
      return "trace of " + violation.needle + ":\n" + found;
    }
  }
  return "trace of the end:\n" + trace.text("", 200);
}

RunReport run_once(const RunOptions& options) {
  const std::clock_t begin = std::clock();
  RunReport report;
  report.seed = options.seed;
  report.command = "sim " + text_of(options);
  World world(options.seed);
  world.trace().echo(options.echo);
  Tap tap;
  if (options.explain) explain(tap, world);
  {
    RunOptions run = options;
    if (run.sites) by_site(run);
    run = sabotaged(run);
    const bool judges_homes = run.sites && run.joins == 0 && run.moves.count == 0 && HomeCopies::can_judge(run.faults);
    if (options.explain || options.sabotage != 0 || run.faults.rot || run.doubles.count > 0 || judges_homes) {
      run.cluster.tap = &tap;
    }
    SimCluster cluster(world, run.cluster);
    Workload workload(world, cluster, run.workload);
    Nemesis nemesis(world, cluster, run.faults, tap);
    NameRaces races(world, cluster);
    Watch watch(world, cluster);
    Drops drops(world, cluster);
    Intruder intruder(world, cluster);
    HomeCopies homes(cluster, tap);
    Movements movements(world, cluster, run.moves);
    run.doubles.cuts = run.faults.crashes;
    Doublings doublings(world, cluster, run.doubles, tap);
    Social social(world, cluster, workload, run.social);
    report.status =
        go(run, {world, cluster, tap, workload, nemesis, movements, doublings, social, races, watch, drops, intruder,
                 judges_homes ? &homes : nullptr}, report);
    report.queues = watch.highest();
    const auto& history = workload.history();
    if (!options.record.empty()) {
      if (auto kept = write_history(history, options); !kept && report.status) report.status = kept;
    }
    report.sends = history.sends().size();
    report.acked = history.count(Outcome::kAcked);
    report.refused = history.count(Outcome::kRefused);
    report.unknown = history.count(Outcome::kUnknown) + history.count(Outcome::kPending);
    report.shown = history.deliveries().size();
    report.faults = nemesis.done();
    for (const auto& [kind, n] : movements.done()) report.faults[kind] += n;
    for (const auto& [kind, n] : doublings.done()) report.faults[kind] += n;
    for (const auto& [kind, n] : social.done()) report.acts[kind] += n;
    for (const auto& recall : history.recalls()) {
      report.acts[recall.outcome == Outcome::kAcked ? "recalls" : "recalls without effect"] += 1;
    }
    report.names = races.races().size();
    report.fatal_errors = cluster.fatal_errors();
    report.digest = world.trace().digest();
    if (!report.passed()) {
      report.trace = story(world.trace(), report.violations);
    }
  }
  report.events = world.events_run();
  report.virtual_seconds = static_cast<double>(world.elapsed().count()) / 1e9;
  report.cpu_seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  return report;
}

}  // namespace

RunReport run(const RunOptions& options) {
  RunReport report = run_once(options);
  if (report.passed() || options.explain) return report;
  RunOptions again = options;
  again.explain = true;
  RunReport explained = run_once(again);
  if (!explained.passed()) report.trace = std::move(explained.trace);
  return report;
}

std::size_t RunReport::fault_count() const {
  std::size_t count = 0;
  for (const auto& [kind, n] : faults) count += n;
  return count;
}

std::string RunReport::text() const {
  char head[400];
  std::snprintf(head, sizeof head,
                "seed %llu: %s, %zu sends (%zu acked, %zu refused, %zu open), %zu shown, "
                "%zu names, %zu faults, %zu fatal, %llu events, %.0f virtual s in %.2f CPU s (%.0fx), "
                "digest %016llx\n",
                static_cast<unsigned long long>(seed), passed() ? "passed" : "FAILED", sends, acked,
                refused, unknown, shown, names, fault_count(), fatal_errors,
                static_cast<unsigned long long>(events), virtual_seconds, cpu_seconds,
                virtual_seconds / (cpu_seconds > 0 ? cpu_seconds : 1),
                static_cast<unsigned long long>(digest));
  std::string out = head;
  if (passed()) return out;
  out += "again: " + command + "\n";
  if (!status) out += "stopped: " + status.error().text + "\n";
  out += sim::text(violations);
  if (!trace.empty()) {
    out += trace;
  }
  return out;
}

void Totals::add(const RunReport& report) {
  ++runs;
  failed += report.passed() ? 0 : 1;
  sends += report.sends;
  shown += report.shown;
  names += report.names;
  for (const auto& [kind, n] : report.faults) faults[kind] += n;
  for (const auto& [kind, n] : report.acts) acts[kind] += n;
  virtual_seconds += report.virtual_seconds;
  cpu_seconds += report.cpu_seconds;
  for (const auto& [queue, size] : report.queues) {
    auto& largest = queues[queue];
    largest = std::max(largest, size);
  }
}

std::string Totals::text() const {
  std::size_t count = 0;
  std::string kinds;
  for (const auto& [kind, n] : faults) {
    count += n;
    kinds += (kinds.empty() ? "" : ", ") + std::to_string(n) + " " + kind;
  }
  char head[256];
  std::snprintf(head, sizeof head,
                "total: %zu runs, %zu failed, %zu messages checked, %zu shown, %zu names, "
                "%zu faults, %.0f virtual s in %.1f CPU s (%.0fx)\n",
                runs, failed, sends, shown, names, count, virtual_seconds, cpu_seconds,
                virtual_seconds / (cpu_seconds > 0 ? cpu_seconds : 1));
  std::string sizes;
  for (const auto& [queue, size] : queues) {
    sizes += (sizes.empty() ? "" : ", ") + queue + " " + std::to_string(size);
  }
  std::string done;
  for (const auto& [kind, n] : acts) done += (done.empty() ? "" : ", ") + std::to_string(n) + " " + kind;
  return head + (kinds.empty() ? "" : "faults: " + kinds + "\n") + (done.empty() ? "" : "people: " + done + "\n") +
         (sizes.empty() ? "" : "largest queues: " + sizes + "\n");
}

}  // namespace starling::sim
