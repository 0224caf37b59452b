// Config: everything an operator may choose for one node; defaults are safe and need no file.
//
// Filled by cli/options from flags, environment (STARLING_*), then <data>/starling.conf. The cluster-wide
// choices (copies, synced, partitions) count only when the node starts a cluster of its own: afterwards
// they are fields of the agreed ring version.
// Thread: value type, constant after start.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "crypto/access/password.h"
#include "overlay/loop/transport.h"
#include "overlay/ring/sites.h"
#include "storage/ids.h"

namespace starling::node {

inline constexpr std::uint64_t kDayMs = 24ull * 3600 * 1000;
inline constexpr std::uint64_t kRetentionDefaultMs = 30 * kDayMs;
inline constexpr std::uint64_t kRetentionMinMs = 3 * kDayMs;
inline constexpr unsigned kLoopsMax = 64;        // Nodes of one process.
inline constexpr std::uint16_t kLoopPorts = 10;  // From a port of one loop to that of the next.

struct Config {
  std::string data;                         // Folder of this node; created when absent.
  // Listening addresses. Port 0 takes a free one and writes it to <data>/addresses.json.
  overlay::Endpoint client{"127.0.0.1", 7400};  // Clients (msgpack over TCP).
  overlay::Endpoint link{"127.0.0.1", 7401};    // Other nodes: TCP links and UDP gossip, same port.
  overlay::Endpoint admin{"127.0.0.1", 7402};   // /metrics, /healthz, /readyz.
  std::string advertise;                    // Host that others reach us at; empty: the link host.
  std::string client_advertise;             // Where devices are told to find this node; empty: the bound address.
  std::string zone = "default";
  std::uint32_t weight = 100;
  unsigned loops = 1;                       // Nodes that the process runs, each on a core (cli/loops.h).
  std::uint8_t copies = 3;                  // N, for a new cluster.
  std::uint8_t synced = 0;                  // W, for a new cluster; 0: majority of the owners.
  std::uint32_t partitions = 4096;          // P, for a new cluster.
  overlay::SitePolicy sites;                // For a new cluster; off: none.
  PasswordCost password_cost;
  std::uint64_t free_space_min = 256ull << 20;  // Below: read-only until there is room again.
  // How long an entry is kept, by this node's stamp; never under kRetentionMinMs.
  std::uint64_t retention_ms = kRetentionDefaultMs;
  std::string join_token;                   // Set by `starling join`; empty otherwise.
  bool may_found = true;                    // A cluster, when it is in none and has no token; else that is kNotFound.
  NodeId replaces;                          // The dead member whose place it takes then; zero: none.
  std::string log_level = "info";
  std::string log_file;                     // Empty: standard error.
  bool log_json = false;
};

// Where loop `number` of the process lives whose first has this folder (cli/loops.h); from 2 on.
inline std::string loop_folder(const std::string& data, unsigned number) { return data + "/loops/" + std::to_string(number); }

}  // namespace starling::node
