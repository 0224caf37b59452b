#include "tests/sim/run.h"

#include <chrono>
#include <cstdio>

#include "tests/sim/run_options.h"

namespace starling::sim {
namespace {

constexpr Duration kTail = 3s;  // A round of repair with each peer, so that late damage shows.

// Breaks one thing after the other and mends each after a while.
class Nemesis {
 public:
  Nemesis(World& world, SimCluster& cluster, FaultOptions options)
      : world_(world), cluster_(cluster), options_(options), random_(world.fork()) {}
  ~Nemesis() { *alive_ = false; }

  void start() {
    running_ = true;
    next();
  }
  void stop() { running_ = false; }
  [[nodiscard]] std::size_t crashes() const { return crashes_; }

 private:
  enum class Fault {
    kCrash, kPartition, kPause, kSlowDisk, kClock, kHang, kDrift, kBreak, kLag, kBridge
  };

  Duration draw(Duration low, Duration high) {
    const auto span = static_cast<std::uint64_t>((high - low).count()) + 1;
    return low + Duration(static_cast<Duration::rep>(random_.below(span)));
  }
  void later(Duration delay, std::function<void()> fn) {
    world_.after(delay, [this, fn = std::move(fn), alive = alive_] {
      if (*alive && running_) fn();
    });
  }
  void next() {
    later(draw(options_.gap_min, options_.gap_max), [this] {
      strike();
      next();
    });
  }

  void strike() {
    std::vector<Fault> choices;
    if (options_.crashes) choices.insert(choices.end(), 2, Fault::kCrash);
    if (options_.partitions) choices.push_back(Fault::kPartition);
    if (options_.pauses) choices.push_back(Fault::kPause);
    if (options_.slow_disks) choices.push_back(Fault::kSlowDisk);
    if (options_.clocks) choices.push_back(Fault::kClock);
    if (options_.more) {
      choices.insert(choices.end(), {Fault::kHang, Fault::kDrift, Fault::kBreak, Fault::kLag,
                                     Fault::kBridge});
    }
    if (choices.empty()) return;
    const std::size_t i = random_.below(cluster_.size());
    const Duration length = draw(options_.length_min, options_.length_max);
    switch (choices[random_.below(choices.size())]) {
      case Fault::kCrash: return crash(i, length);
      case Fault::kPartition: return partition(i, length);
      case Fault::kPause:
        cluster_.pause(i);
        return later(length, [this, i] { cluster_.resume(i); });
      case Fault::kSlowDisk:
        cluster_.disk(i).set_speed(20ms, 200ms);
        return later(length, [this, i] {
          cluster_.disk(i).set_speed(DiskOptions{}.sync_min, DiskOptions{}.sync_max);
        });
      case Fault::kClock: {
        const auto by = static_cast<std::int64_t>(random_.below(4001)) - 2000;
        return cluster_.clock_step(i, std::chrono::milliseconds(by));
      }
      case Fault::kHang:
        world_.note("nemesis", "disk of " + cluster_.ip(i) + " hangs");
        cluster_.disk(i).hold(true);
        return later(length, [this, i] { cluster_.disk(i).hold(false); });
      case Fault::kDrift:
        cluster_.clock_drift(i, static_cast<double>(random_.below(40'001)) - 20'000);
        return later(length, [this, i] { cluster_.clock_drift(i, 0); });
      case Fault::kBreak: return break_links(i, length);
      case Fault::kLag:
        world_.note("nemesis", "lag at " + cluster_.ip(i));
        cluster_.network().set_extra_latency(cluster_.ip(i), draw(20ms, 400ms));
        return later(length, [this, i] {
          cluster_.network().set_extra_latency(cluster_.ip(i), Duration(0));
        });
      case Fault::kBridge: return bridge(i, length);
    }
  }

  [[nodiscard]] std::size_t other_than(std::size_t i) {
    return (i + 1 + random_.below(cluster_.size() - 1)) % cluster_.size();
  }
  // One link, again and again.
  void break_links(std::size_t i, Duration length) {
    const std::size_t other = other_than(i);
    world_.note("nemesis", "links of " + cluster_.ip(i) + " and " + cluster_.ip(other) + " break");
    for (Duration at{}; at < length; at += draw(5ms, 2s)) {
      later(at, [this, i, other] {
        cluster_.network().reset_streams(cluster_.ip(i), cluster_.ip(other));
      });
    }
  }
  // Two nodes do not see each other; the others see both.
  void bridge(std::size_t i, Duration length) {
    cluster_.partition({{i}, {other_than(i)}});
    later(length, [this] { cluster_.heal(); });
  }

  void crash(std::size_t i, Duration length) {
    std::size_t down = 0;
    for (std::size_t n = 0; n < cluster_.size(); ++n) down += !cluster_.up(n);
    if (!cluster_.up(i) || down > (options_.both ? 1u : 0u)) return;
    ++crashes_;
    const Crash kind = random_.below(2) == 0 ? Crash::kProcess : Crash::kPower;
    // At once, or between the sync of a commit and everything that follows from it.
    if (random_.below(2) == 0) {
      cluster_.crash(i, kind);
    } else {
      cluster_.disk(i).on_commit([this, i, kind](std::uint64_t) {
        cluster_.disk(i).on_commit(nullptr);
        cluster_.crash(i, kind);
      });
    }
    later(length, [this, i] {
      cluster_.disk(i).on_commit(nullptr);
      if (const auto started = cluster_.restart(i); !started) {
        world_.note("nemesis", started.error().text);
      }
    });
  }

  void partition(std::size_t i, Duration length) {
    std::vector<std::size_t> others;
    for (std::size_t n = 0; n < cluster_.size(); ++n) {
      if (n != i) others.push_back(n);
    }
    if (random_.below(3) == 0 && !others.empty()) {
      // One way only.
      const auto& to = cluster_.ip(others[random_.below(others.size())]);
      world_.note("network", "one-way cut from " + cluster_.ip(i) + " to " + to);
      cluster_.network().cut(cluster_.ip(i), to);
    } else {
      cluster_.partition({{i}, others});
    }
    later(length, [this] { cluster_.heal(); });
  }

  World& world_;
  SimCluster& cluster_;
  const FaultOptions options_;
  SeededRandom random_;
  bool running_ = false;
  std::size_t crashes_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

Status go(const RunOptions& options, World& world, SimCluster& cluster, Workload& workload,
          Nemesis& nemesis, RunReport& report) {
  TRY(cluster.form());
  TRY(workload.set_up());
  workload.start();
  nemesis.start();
  world.run_for(options.length);
  nemesis.stop();
  for (std::size_t i = 0; i < cluster.size(); ++i) cluster.disk(i).on_commit(nullptr);
  workload.stop();
  TRY(cluster.end_faults());
  workload.wake_all();
  const auto settled = [&] { return cluster.all_serving() && workload.settled(); };
  const bool ended = world.run_until(settled, options.settle_limit);
  const Instant end = world.now() + options.quiet;
  while (world.now() < end &&
         (!cluster.quiet() || !check_delivered(workload.history()).empty())) {
    world.run_for(100ms);
  }
  world.run_for(kTail);
  // Whatever is wrong by now is more telling than that it took too long.
  TRY_ASSIGN(const ClusterExport stores, cluster.stop_and_export());
  report.violations = check_all(workload.history(), &stores);
  if (!ended) return Error{Errc::kTimeout, "sends or nodes do not settle after the faults"};
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

RunReport run_once(const RunOptions& options) {
  const auto begin = std::chrono::steady_clock::now();
  RunReport report;
  report.seed = options.seed;
  report.command = "sim " + text_of(options);
  World world(options.seed);
  world.trace().echo(options.echo);
  Tap tap;
  if (options.explain) explain(tap, world);
  {
    ClusterOptions leaves = options.cluster;
    if (options.explain) leaves.tap = &tap;
    SimCluster cluster(world, leaves);
    Workload workload(world, cluster, options.workload);
    Nemesis nemesis(world, cluster, options.faults);
    report.status = go(options, world, cluster, workload, nemesis, report);
    const auto& history = workload.history();
    if (!options.record.empty()) {
      if (auto kept = write_history(history, options); !kept && report.status) report.status = kept;
    }
    report.sends = history.sends().size();
    report.acked = history.count(Outcome::kAcked);
    report.refused = history.count(Outcome::kRefused);
    report.unknown = history.count(Outcome::kUnknown) + history.count(Outcome::kPending);
    report.shown = history.deliveries().size();
    report.crashes = nemesis.crashes();
    report.fatal_errors = cluster.fatal_errors();
    report.digest = world.trace().digest();
    if (!report.passed()) {
      report.trace = world.trace().text(
          report.violations.empty() ? "" : report.violations.front().needle, 200);
    }
  }
  report.events = world.events_run();
  report.virtual_seconds = static_cast<double>(world.elapsed().count()) / 1e9;
  report.real_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
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

std::string RunReport::text() const {
  char head[320];
  std::snprintf(head, sizeof head,
                "seed %llu: %s, %zu sends (%zu acked, %zu refused, %zu open), %zu shown, "
                "%zu crashes, %zu fatal, %llu events, %.0f virtual s in %.2f s (%.0fx), "
                "digest %016llx\n",
                static_cast<unsigned long long>(seed), passed() ? "passed" : "FAILED", sends, acked,
                refused, unknown, shown, crashes, fatal_errors,
                static_cast<unsigned long long>(events), virtual_seconds, real_seconds,
                virtual_seconds / (real_seconds > 0 ? real_seconds : 1),
                static_cast<unsigned long long>(digest));
  std::string out = head;
  if (passed()) return out;
  out += "again: " + command + "\n";
  if (!status) out += "stopped: " + status.error().text + "\n";
  out += sim::text(violations);
  if (!trace.empty()) {
    out += "trace of " + (violations.empty() ? "the end" : violations.front().needle) + ":\n" +
           trace;
  }
  return out;
}

}  // namespace starling::sim
