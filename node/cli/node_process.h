// NodeProcess: one node as a process of the operating system, from its start to its exit code.
//
// Builds the leaves (loop, sockets, randomness, log, commit thread), opens the Node on them, tells its
// addresses in <data>/addresses.json and on standard output, and runs until a signal or a disk that can no
// longer be trusted. The first SIGINT or SIGTERM stops the node in order, a second one at once.
// Thread: the main thread.
#pragma once

#include "crypto/random.h"
#include "node/cli/node_options.h"
#include "node/node.h"
#include "overlay/uv_loop.h"
#include "overlay/uv_transport.h"

namespace starling::node::cli {

inline constexpr Duration kStopTimeout = 30s;   // Then the process ends all the same.
inline constexpr Duration kWatchEvery = 200ms;  // Until the node serves.

class NodeProcess {
 public:
  NodeProcess(Config config, overlay::Log log);
  // Returns the exit code of the command.
  int run();

 private:
  Status open();
  Status write_addresses();
  void remove_addresses();
  void announce() const;
  void watch();
  void report(const Json& status);
  void on_signal();
  [[noreturn]] void on_fatal(const Error& error);

  // Set at construction.
  const Config config_;
  overlay::Log log_;
  SystemRandom random_;
  overlay::UvLoop loop_;
  overlay::UvTransport transport_;

  // Loop state.
  std::unique_ptr<Node> node_;
  std::string last_state_;
  bool asking_ = false;
  bool served_ = false;
  bool stopping_ = false;
  int exit_code_ = kExitOk;
  overlay::Timer watch_;
  overlay::Timer stop_timer_;
};

// What `run` and `join` have in common: prepares the process, then runs the node.
int run_node(const Config& config);

}  // namespace starling::node::cli
