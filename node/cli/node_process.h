// NodeProcess: one node as a process of the operating system, from its start to its exit code.
//
// Builds the leaves (loop, sockets, randomness, log, commit thread), opens the Node on them, tells its
// addresses in <data>/addresses.json and on standard output, and runs until a signal or a disk that can no
// longer be trusted. The first SIGINT or SIGTERM stops the node in order, a second one at once.
// Thread: the main thread.
#pragma once

#include "crypto/random.h"
#include "node/cli/node_options.h"
#include "node/cli/terminal/progress.h"
#include "node/node.h"
#include "overlay/loop/uv_loop.h"
#include "overlay/loop/uv_transport.h"

namespace starling::node::cli {

inline constexpr Duration kStopTimeout = 30s;   // Then the process ends all the same.
// A node that must not go on after this long starts itself again; one that fails at once ends, unless it stops to mend
// its store.
inline constexpr Duration kRunToRestart = 30s;
inline constexpr Duration kReportEvery = 2s;    // How far it is, in the same state.
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
  [[noreturn]] void start_again() const;

  // Set at construction.
  const Config config_;
  overlay::Log log_;
  SystemRandom random_;
  overlay::UvLoop loop_;
  overlay::UvTransport transport_;

  // Loop state.
  std::unique_ptr<Node> node_;
  std::string last_state_;
  std::string waits_for_;
  Instant reported_{};
  Progress progress_;
  bool asking_ = false;
  bool served_ = false;
  Instant started_{};
  bool stopping_ = false;
  int exit_code_ = kExitOk;
  overlay::Timer watch_;
  overlay::Timer stop_timer_;
};

// What `run` and `join` have in common: prepares the process, then runs the node.
int run_node(const Config& config);

}  // namespace starling::node::cli
