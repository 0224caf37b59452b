// scale_study [NODES ...]: what a message costs a cluster of so many nodes, for docs/scaling.md.
//
// Real nodes on the simulator; every user has one device at a node of its own choice and writes to others at
// random. The counters of all nodes are read before and after a time at rest and a time of traffic; what a
// message costs is the difference of the two, divided by the messages. Figures are counts: they do not depend
// on the machine, but for the last, which is the processor time of this process over the same spans. Fails when a message
// costs more than it may.
//   --users N (40 per node, 400 at most)   --seconds S (10)   --rate R messages/s of each user (1)
//   --people N: instead, a crowd of so many that behaves as people do (people/crowd.h): a time at rest, one in which
//   people come and go, and one in which they write, too; what a login and what a message costs. The crowd of a seed is
//   the same in a cluster of any size
//   --seeds K (1): so many crowds, one after the other
#include <cinttypes>
#include <cstdio>
#include <ctime>
#include <map>
#include <string>
#include <vector>

#include "crypto/init.h"
#include "tests/sim/people/crowd.h"
#include "tests/sim/people/workload.h"
#include "tests/sim/world/cluster.h"
#include "tests/sim/world/raw_peer.h"

using namespace starling;
using namespace starling::sim;

namespace {

struct Options {
  std::size_t users = 0;
  std::size_t people = 0;
  std::size_t seeds = 1;
  double seconds = 10;
  double rate = 1;
};

using Counters = std::map<std::string, double>;

// Of a message, in a cluster of any size: the figures of docs/scaling.md, and a little more.
constexpr struct {
  const char* counter;
  double most;
} kMessageCosts[] = {
    {"starling_link_frames_sent_total", 16}, {"starling_link_bytes_sent_total", 2700}, {"starling_calls_total", 2.2},
    {"starling_changes_total", 6.1},         {"starling_pushes_total", 2.2},           {"starling_puts_total", 48},
    {"starling_written_bytes_total", 4600},
};

// Of /metrics, all nodes together; with labels, the sum.
Counters read_counters(World& world, SimCluster& cluster) {
  Counters out;
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    RawStream door(world, cluster.network(), {cluster.ip(i), cluster.node(i).admin_address().port});
    std::string text;
    door.on_data([&](View bytes) { text.append(bytes); });
    door.send("GET /metrics HTTP/1.1\r\nHost: study\r\nConnection: close\r\n\r\n");
    door.wait_closed();
    for (std::size_t at = 0, end; (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
      const std::string line = text.substr(at, end - at);
      const auto space = line.rfind(' ');
      if (!line.starts_with("starling_") || space == std::string::npos) continue;
      out[line.substr(0, line.find_first_of("{ "))] += std::strtod(line.c_str() + space, nullptr);
    }
  }
  return out;
}

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

Duration seconds(double s) { return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(s)); }

ClusterOptions cluster_options(std::size_t nodes) {
  ClusterOptions options;
  options.nodes = nodes;
  options.partitions = 1024;
  options.form_limit = 1200s;
  return options;
}

struct Span {
  Counters counters;
  double cpu = 0;
};

Span over(World& world, SimCluster& cluster, Duration duration) {
  Span span;
  const Counters before = read_counters(world, cluster);
  const double cpu = cpu_seconds();
  cluster.run_for(duration);
  span.cpu = cpu_seconds() - cpu;
  span.counters = read_counters(world, cluster);
  for (const auto& [name, value] : before) span.counters[name] -= value;
  return span;
}

struct Study {
  Study(std::size_t nodes, const Options& options)
      : world(1), cluster(world, cluster_options(nodes)), workload(world, cluster, workload_options(nodes, options)) {}

  static WorkloadOptions workload_options(std::size_t nodes, const Options& options) {
    WorkloadOptions workload;
    workload.users = options.users > 0 ? options.users : std::min<std::size_t>(400, 40 * nodes);
    workload.devices_max = 1;
    workload.groups = 0;
    workload.direct = 1;
    workload.reconnect = workload.restart = 0;
    workload.body_max = 200;  // 100 bytes on average.
    // Pauses spread evenly around the mean.
    workload.pause_min = seconds(0.5 / options.rate);
    workload.pause_max = seconds(1.5 / options.rate);
    return workload;
  }

  World world;
  SimCluster cluster;
  Workload workload;
};

Status study(std::size_t nodes, const Options& options) {
  Study study(nodes, options);
  TRY(study.cluster.form());
  TRY(study.workload.set_up(600s));
  study.cluster.run_for(20s);  // Gossip of the joins dies down.
  const Span rest = over(study.world, study.cluster, seconds(options.seconds));
  study.workload.start();
  study.cluster.run_for(2s);
  const Span busy = over(study.world, study.cluster, seconds(options.seconds));
  const double messages = busy.counters.at("starling_appends_total") / 2;  // One in each of two mailboxes.
  if (messages < 1) return Error{Errc::kUnavailable, "no message was sent"};
  const auto per_message = [&](const char* name) {
    return (busy.counters.at(name) - rest.counters.at(name)) / messages;
  };
  const auto at_rest = [&](const char* name) {
    return rest.counters.at(name) / options.seconds / static_cast<double>(nodes);
  };
  std::printf("%5zu %6zu %8.0f | %6.2f %7.0f %6.2f %6.2f %6.2f %6.2f %6.0f | %6.2f %7.0f %6.2f %6.2f | %8.1f\n", nodes,
              study.workload.size(), messages, per_message("starling_link_frames_sent_total"),
              per_message("starling_link_bytes_sent_total"), per_message("starling_calls_total"),
              per_message("starling_changes_total"), per_message("starling_pushes_total"),
              per_message("starling_puts_total"), per_message("starling_written_bytes_total"),
              at_rest("starling_link_frames_sent_total"), at_rest("starling_link_bytes_sent_total"),
              at_rest("starling_gossip_packets_sent_total"), at_rest("starling_puts_total"), (busy.cpu - rest.cpu) / messages * 1e6);
  std::fflush(stdout);
  for (const auto& [counter, most] : kMessageCosts) {
    if (per_message(counter) <= most) continue;
    return Error{Errc::kTooLarge, "a message costs " + std::to_string(per_message(counter)) + " of " + counter + ", and may cost " +
                                      std::to_string(most)};
  }
  return ok_status();
}

// What differs between two spans, for each of so many.
void print_cost(const char* of, double count, const Span& with, const Span& without) {
  std::printf("%10s %9.0f |", of, count);
  for (const char* name : {"frames_sent", "bytes_sent"}) {
    const std::string counter = std::string("starling_link_") + name + "_total";
    std::printf(" %7.1f", (with.counters.at(counter) - without.counters.at(counter)) / count);
  }
  for (const char* name : {"calls", "changes", "pushes", "deliveries", "puts", "written_bytes"}) {
    const std::string counter = std::string("starling_") + name + "_total";
    std::printf(" %7.1f", (with.counters.at(counter) - without.counters.at(counter)) / count);
  }
  std::printf(" | %8.1f\n", (with.cpu - without.cpu) / count * 1e6);
  std::fflush(stdout);
}

Status study_crowd(std::size_t nodes, const Options& options, std::uint64_t seed) {
  World world(1);
  SimCluster cluster(world, cluster_options(nodes));
  TRY(cluster.form());
  CrowdOptions how;
  how.seed = seed;
  how.people = options.people;
  Crowd crowd(world, cluster, how);
  TRY(crowd.set_up([](double share) {
    std::fprintf(stderr, "\rsetting up: %3.0f %%", share * 100);
    std::fflush(stderr);
  }));
  std::fprintf(stderr, "\r                 \r");
  cluster.run_for(30s);
  const auto set_up = crowd.counts();
  const Duration span = seconds(options.seconds);
  std::printf("%zu nodes, seed %llu, %zu people, %zu online, %zu groups with %zu members\n", nodes,
              static_cast<unsigned long long>(seed), how.people, crowd.online(), crowd.groups(), crowd.memberships());
  const Span rest = over(world, cluster, span);
  crowd.come_and_go(true);
  cluster.run_for(2s);
  const auto before = crowd.counts();
  const Span changing = over(world, cluster, span);
  const auto changed = crowd.counts();
  crowd.write(true);
  cluster.run_for(2s);
  const auto writing = crowd.counts();
  const Span busy = over(world, cluster, span);
  const auto wrote = crowd.counts();
  crowd.come_and_go(false);
  crowd.write(false);
  if (!crowd.settle(60s)) return Error{Errc::kTimeout, "open sends are not answered"};
  const auto& end = crowd.counts();
  print_cost("login", static_cast<double>(changed.came - before.came), changing, rest);
  print_cost("message", static_cast<double>(wrote.written - writing.written), busy, changing);
  const auto at_rest = [&](const char* name) {
    return rest.counters.at(name) / options.seconds / static_cast<double>(nodes);
  };
  std::printf("a node at rest, per s: %.1f frames, %.0f bytes, %.1f gossip datagrams\n",
              at_rest("starling_link_frames_sent_total"), at_rest("starling_link_bytes_sent_total"),
              at_rest("starling_gossip_packets_sent_total"));
  std::printf("in all: %llu written, %llu acknowledged, %llu refused, %llu shown, %llu connections failed\n",
              static_cast<unsigned long long>(end.written), static_cast<unsigned long long>(end.acked),
              static_cast<unsigned long long>(end.refused), static_cast<unsigned long long>(end.shown),
              static_cast<unsigned long long>(end.connections_lost - set_up.connections_lost));
  if (end.acked != end.written) return Error{Errc::kUnavailable, "not everything that was written was acknowledged"};
  return ok_status();
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  std::vector<std::size_t> sizes;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto value = [&] { return i + 1 < argc ? std::strtod(argv[++i], nullptr) : 0.0; };
    if (word == "--users") options.users = static_cast<std::size_t>(value());
    else if (word == "--people") options.people = static_cast<std::size_t>(value());
    else if (word == "--seeds") options.seeds = static_cast<std::size_t>(value());
    else if (word == "--seconds") options.seconds = value();
    else if (word == "--rate") options.rate = value();
    else sizes.push_back(std::strtoul(argv[i], nullptr, 10));
  }
  const bool usable = options.seconds > 0 && options.rate > 0 &&
                      std::all_of(sizes.begin(), sizes.end(), [](std::size_t n) { return n > 0 && n <= 200; });
  if (const auto ready = crypto_init(); !ready || !usable) {
    std::fprintf(stderr, "scale_study [--users N | --people N [--seeds K]] [--seconds S] [--rate R] [NODES ...], 1 to 200 nodes\n");
    return 2;
  }
  if (sizes.empty()) sizes = {3, 10, 30, 100};
  std::printf(options.people > 0
              ? "   cost of     count |  frames   bytes   calls changes  pushes deliver    puts   bytes | cpu us\n"
              : "                       | per message: node links                   store         | a node at rest, per s         | this\n"
              "nodes  users messages | frames   bytes  calls changes pushes   puts  bytes | frames   bytes gossip   puts | cpu us\n");
  for (const std::size_t nodes : sizes) {
    Status status = options.people > 0 ? ok_status() : study(nodes, options);
    for (std::uint64_t seed = 1; options.people > 0 && status && seed <= options.seeds; ++seed) {
      status = study_crowd(nodes, options, seed);
    }
    if (status) continue;
    std::fprintf(stderr, "%zu nodes: %s\n", nodes, status.error().text.c_str());
    return 1;
  }
  return 0;
}
