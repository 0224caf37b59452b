// scale_study [NODES ...]: what a message costs a cluster of so many nodes, for docs/scaling.md.
//
// Real nodes on the simulator; every user has one device at a node of its own choice and writes to others at
// random. The counters of all nodes are read before and after a time at rest and a time of traffic; what a
// message costs is the difference of the two, divided by the messages. Figures are counts: they do not depend
// on the machine, but for the last, which is the processor time of this process over the same spans.
//   --users N (40 per node, 400 at most)   --seconds S (10)   --rate R messages/s of each user (1)
#include <cinttypes>
#include <cstdio>
#include <ctime>
#include <map>
#include <string>
#include <vector>

#include "crypto/init.h"
#include "tests/sim/world/cluster.h"
#include "tests/sim/world/raw_peer.h"
#include "tests/sim/world/workload.h"

using namespace starling;
using namespace starling::sim;

namespace {

struct Options {
  std::size_t users = 0;
  double seconds = 10;
  double rate = 1;
};

using Counters = std::map<std::string, double>;

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

struct Span {
  Counters counters;
  double cpu = 0;
  std::size_t shown = 0;
};

struct Study {
  Study(std::size_t nodes, const Options& options)
      : world(1), cluster(world, cluster_options(nodes)), workload(world, cluster, workload_options(nodes, options)) {}

  static ClusterOptions cluster_options(std::size_t nodes) {
    ClusterOptions options;
    options.nodes = nodes;
    options.partitions = 1024;
    options.form_limit = 1200s;
    return options;
  }
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

  Span over(Duration duration) {
    Span span;
    const Counters before = read_counters(world, cluster);
    const std::size_t shown = all_shown();
    const double cpu = cpu_seconds();
    cluster.run_for(duration);
    span.cpu = cpu_seconds() - cpu;
    span.counters = read_counters(world, cluster);
    for (const auto& [name, value] : before) span.counters[name] -= value;
    span.shown = all_shown() - shown;
    return span;
  }
  std::size_t all_shown() {
    std::size_t shown = 0;
    for (std::size_t i = 0; i < workload.size(); ++i) shown += workload.device(i).shown();
    return shown;
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
  const Span rest = study.over(seconds(options.seconds));
  study.workload.start();
  study.cluster.run_for(2s);
  const Span busy = study.over(seconds(options.seconds));
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
    else if (word == "--seconds") options.seconds = value();
    else if (word == "--rate") options.rate = value();
    else sizes.push_back(std::strtoul(argv[i], nullptr, 10));
  }
  const bool usable = options.seconds > 0 && options.rate > 0 &&
                      std::all_of(sizes.begin(), sizes.end(), [](std::size_t n) { return n > 0 && n <= 200; });
  if (const auto ready = crypto_init(); !ready || !usable) {
    std::fprintf(stderr, "scale_study [--users N] [--seconds S] [--rate R] [NODES ...], 1 to 200 nodes\n");
    return 2;
  }
  if (sizes.empty()) sizes = {3, 10, 30, 100};
  std::printf("                       | per message: node links                   store         | a node at rest, per s         | this\n"
              "nodes  users messages | frames   bytes  calls changes pushes   puts  bytes | frames   bytes gossip   puts | cpu us\n");
  for (const std::size_t nodes : sizes) {
    if (const auto status = study(nodes, options); !status) {
      std::fprintf(stderr, "%zu nodes: %s\n", nodes, status.error().text.c_str());
      return 1;
    }
  }
  return 0;
}
