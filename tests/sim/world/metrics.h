// What a node counts, as an operator reads it: GET /metrics.
// Thread: the world's; call it from outside of all loops.
#pragma once

#include <cstdlib>
#include <map>
#include <string>

#include "tests/sim/world/cluster.h"
#include "tests/sim/world/raw_peer.h"

namespace starling::sim {

// By name with labels: `starling_sessions`, `starling_gossip_refused_total{reason="forged"}`.
inline std::map<std::string, double> metrics_of(World& world, SimCluster& cluster, std::size_t i) {
  RawStream door(world, cluster.network(), {cluster.ip(i), cluster.node(i).admin_address().port});
  std::string text;
  door.on_data([&](View bytes) { text.append(bytes); });
  door.send("GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
  door.wait_closed();
  std::map<std::string, double> out;
  for (std::size_t at = 0, end; (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
    const std::string line = text.substr(at, end - at);
    const auto space = line.rfind(' ');
    if (!line.starts_with("starling_") || space == std::string::npos) continue;
    out[line.substr(0, space)] = std::strtod(line.c_str() + space, nullptr);
  }
  return out;
}

}  // namespace starling::sim
