// UseMeter: what the nodes, this client and everybody else took of the machine while something was measured.
//
// Whether a figure may be compared hangs on it: a client that was busy all the time measured itself, and others who
// took a good part of a core took it from the servers. Thread: the loop's.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <uv.h>

#include "node/cli/load/process_use.h"
#include "overlay/loop/clock.h"

namespace starling::node::cli {

class UseMeter {
 public:
  struct Node {
    std::string name;  // Empty: told by its pid alone.
    int pid = 0;
    ProcessUse before = {};
    ProcessUse after = {};
  };

  // REQUIRES: UV_METRICS_IDLE_TIME is set on the loop.
  explicit UseMeter(uv_loop_t* loop) : loop_(loop) {}

  // Those that are not on this machine (pid 0) are left out.
  void begin(std::vector<Node> nodes);
  void end();
  [[nodiscard]] double seconds() const;
  [[nodiscard]] const std::vector<Node>& nodes() const { return nodes_; }
  // seconds, nodes, cores, own_cpu_percent, own_busy_percent, others_cpu_percent.
  [[nodiscard]] nlohmann::json report() const;

 private:
  struct Look {
    Instant at{};
    ProcessUse own;
    std::uint64_t slept_ns = 0;  // In the loop's poll.
    double machine_s = 0;
  };
  [[nodiscard]] Look look() const;

  uv_loop_t* loop_;
  std::vector<Node> nodes_;
  Look before_;
  Look after_;
};

}  // namespace starling::node::cli
