// A run: one cluster, one workload, faults by chance, then peace, then judgement. All from one
// seed.
//
// Phases: form the cluster; write while faults come and go; end all faults; wait until every send
// has its answer, owners have equal vectors and devices have what was acknowledged; wait until every
// queue is empty; stop the nodes and check the invariants.
// Thread: one; nothing outlives the call.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "tests/sim/faults/doublings.h"
#include "tests/sim/faults/movements.h"
#include "tests/sim/faults/nemesis.h"
#include "tests/sim/judge/checkers.h"
#include "tests/sim/people/social.h"
#include "tests/sim/people/workload.h"
#include "tests/sim/world/cluster.h"

namespace starling::sim {

struct RunOptions {
  std::uint64_t seed = 1;
  Duration length = 30s;     // Of the phase with faults.
  Duration settle_limit = 180s;
  Duration quiet = 30s;      // After the last answer: then owners are equal, or a promise is broken.
  Duration race = 5s;        // Between two names that two people want at once; 0: never.
  bool intruder = true;      // Somebody tries to log in without a password.
  bool sites = false;        // Two sites, 40 ms apart, under the policy 2+1; 6 nodes unless more are asked for.
  std::size_t joins = 0;     // Nodes that join while things break, all at one time.
  MovementOptions moves;     // Changes of the ring while things break.
  DoublingOptions doubles;   // Of the partitions while things break.
  SocialOptions social;      // What people do beside writing.
  ClusterOptions cluster;
  WorkloadOptions workload;
  FaultOptions faults;
  bool echo = false;         // Print the trace as it happens.
  int sabotage = 0;          // The invariant that is broken on purpose (sabotage.h); 0: none.
  bool explain = false;      // Trace what nodes say to each other about messages.
  std::string record;        // File for the clients' history; empty: none.
};

struct RunReport {
  std::uint64_t seed = 0;
  std::string command;          // That runs it again.
  Status status = ok_status();  // Not ok: the run could not be brought to its end.
  Violations violations;
  std::uint64_t digest = 0;     // Of the trace.
  std::uint64_t events = 0;
  std::size_t sends = 0, acked = 0, refused = 0, unknown = 0, shown = 0;
  std::size_t names = 0;        // That two people wanted at once.
  std::size_t fatal_errors = 0;
  std::map<std::string, std::size_t> faults;   // By kind.
  std::map<std::string, std::size_t> acts;     // Of people, beside sends; by kind.
  std::map<std::string, std::uint64_t> queues;  // The largest that each was seen at.
  double virtual_seconds = 0;
  double cpu_seconds = 0;       // Of this process: what others do on the machine does not count.
  std::string trace;            // Of the first violation's message, or the end of the run.

  [[nodiscard]] std::size_t fault_count() const;
  [[nodiscard]] bool passed() const { return status.ok() && violations.empty(); }
  // "seed 7: passed, 812 sends, ..." and, for a failure, how to run it again and what happened.
  [[nodiscard]] std::string text() const;
};

// Of many runs: what was checked and what was done to it.
struct Totals {
  std::size_t runs = 0, failed = 0, sends = 0, shown = 0, names = 0;
  std::map<std::string, std::size_t> faults;
  std::map<std::string, std::size_t> acts;
  std::map<std::string, std::uint64_t> queues;
  double virtual_seconds = 0;
  double cpu_seconds = 0;

  void add(const RunReport& report);
  [[nodiscard]] std::string text() const;
};

// A run that fails is run once more to explain itself.
RunReport run(const RunOptions& options);

// Loss, doubles and stragglers on datagrams, as every run of random faults has them.
NetworkOptions rough_network();

}  // namespace starling::sim
