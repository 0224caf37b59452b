// Loops: the nodes of one process, one for each core that it shall use (docs/decisions/0066).
//
// Each has a loop and threads of its own, a store, an identity and ports; what one needs of another goes over the network
// as between machines. The first is the node of the data folder and of the main thread. The others live in
// <data>/loops/2, 3 and so on. One that is no member yet is invited by the first, once that serves, one after the other.
// A member starts with the process, whatever --loops says, and again when its run fails, until it has left.
// Invariants: (1) what one of them does to the others it does through the first's loop;
//             (2) only the first founds a cluster;
//             (3) the zone of all is this machine's alone, as far as the ring says when one is invited.
// Thread: the main thread, which is the first's; each of the others runs on one of its own.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "node/cli/node_process.h"

namespace starling::node::cli {

class Loops {
 public:
  Loops(Config config, overlay::LogConfig log);
  ~Loops();
  // Returns the exit code of the command.
  int run();

 private:
  class Other;

  void begin();
  void invite_next();
  // Why none may be invited, by what the first's node says of the cluster; none: `zone` is theirs.
  [[nodiscard]] std::optional<std::string> reason_against(const Json& status, std::string& zone) const;
  void invite(Other& other, const std::string& zone);
  void begin(Other& other);
  void served(Other& other, const NodeId& id);
  void ended(Other& other);
  void stop_others();
  void finish_when_all_stopped();

  const Config config_;
  const overlay::LogConfig log_config_;
  NodeProcess* first_ = nullptr;  // While it runs.
  std::vector<std::unique_ptr<Other>> others_;

  // State of the first's loop.
  bool serving_ = false;       // The first.
  Other* joining_ = nullptr;   // One at a time.
  bool refused_ = false;       // This cluster has no place for more loops; said once.
  bool stopping_ = false;
  bool stopped_ = false;       // The first.
  overlay::Timer deadline_;    // Of the others, to stop.
};

// What `run` and `join` have in common: prepares the process, then runs its nodes.
int run_node(const Config& config);

}  // namespace starling::node::cli
