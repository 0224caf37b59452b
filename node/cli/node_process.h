// NodeProcess: one node on the operating system, from its start to its exit code.
//
// Builds the leaves (loop, sockets, randomness, log, commit thread), opens the Node on them, tells its
// addresses in <data>/addresses.json and on standard output, and runs until a signal or a disk that can no
// longer be trusted. The first SIGINT or SIGTERM stops the node in order, a second one at once.
// A process may run several (loops.h); then the first gets the signals.
// Thread: the one that builds it; post(): any.
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
inline constexpr Duration kLeftRest = 10s;      // Of a loop that has left: whoever follows that hears it.
inline constexpr Duration kWatchEvery = 200ms;  // Until the node serves.

// What else the process does when a node comes so far; on its loop.
struct NodeProcessHooks {
  std::function<void()> opened;                 // Its ports are bound, it begins to run.
  std::function<void(const NodeId&)> serving;
  std::function<void()> stopping;               // By a signal.
  std::function<void()> stopped;                // In order: run() returns after finish().
};

// How a run ended.
enum class Outcome {
  kStopped,   // As it was told.
  kLeft,      // It has left its cluster, which has all that it held.
  kNoMember,  // It could not join, or has no token.
  kFailed,
};

class NodeProcess {
 public:
  // `number`: of the loop; that of the first, 1, takes signals.
  NodeProcess(Config config, overlay::Log log, unsigned number, NodeProcessHooks hooks);
  // Returns the exit code of the command.
  int run();
  [[nodiscard]] Outcome outcome() const { return outcome_; }

  void post(std::function<void()> fn) { loop_.post(std::move(fn)); }
  // On its loop, between `opened` and the end of run().
  void stop();
  void finish() { loop_.stop(); }
  [[nodiscard]] overlay::Loop& loop() { return loop_; }
  [[nodiscard]] Node& node() { return *node_; }

 private:
  Status open();
  int cannot_start(const Error& error);
  Status write_addresses();
  void remove_addresses();
  void announce() const;
  void watch();
  void report(const Json& status);
  void say(const std::string& line) const;
  void on_signal();
  void on_fatal(const Error& error);
  [[noreturn]] void start_again() const;

  // Set at construction.
  const Config config_;
  const unsigned number_;
  const NodeProcessHooks hooks_;
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
  Outcome outcome_ = Outcome::kStopped;
  overlay::Timer watch_;
  overlay::Timer stop_timer_;
};

}  // namespace starling::node::cli
