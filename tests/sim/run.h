// A run: one cluster, one workload, faults by chance, then peace, then judgement. All from one
// seed.
//
// Phases: form the cluster; write while faults come and go; end all faults; wait until every send
// has its answer, owners have equal vectors and devices have what was acknowledged; stop the nodes
// and check the invariants.
// Thread: one; nothing outlives the call.
#pragma once

#include <cstdint>
#include <string>

#include "tests/sim/checkers.h"
#include "tests/sim/cluster.h"
#include "tests/sim/workload.h"

namespace starling::sim {

struct FaultOptions {
  bool crashes = true;       // One node at a time; killed, or with its power lost.
  bool both = false;         // A second node may go down while the first is down.
  bool partitions = true;
  bool pauses = true;
  bool slow_disks = true;
  bool clocks = true;        // Steps of up to 2 s.
  bool more = false;         // Hung disks, drifting clocks, broken links, lag, bridges.
  Duration gap_min = 1s;     // Between two faults.
  Duration gap_max = 6s;
  Duration length_min = 500ms;
  Duration length_max = 8s;
};

struct RunOptions {
  std::uint64_t seed = 1;
  Duration length = 30s;     // Of the phase with faults.
  Duration settle_limit = 180s;
  Duration quiet = 30s;      // After the last answer, that repair may take.
  ClusterOptions cluster;
  WorkloadOptions workload;
  FaultOptions faults;
  bool echo = false;         // Print the trace as it happens.
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
  std::size_t crashes = 0, fatal_errors = 0;
  double virtual_seconds = 0;
  double real_seconds = 0;
  std::string trace;            // Of the first violation's message, or the end of the run.

  [[nodiscard]] bool passed() const { return status.ok() && violations.empty(); }
  // "seed 7: passed, 812 sends, ..." and, for a failure, how to run it again and what happened.
  [[nodiscard]] std::string text() const;
};

// A run that fails is run once more to explain itself.
RunReport run(const RunOptions& options);

// Loss, doubles and stragglers on datagrams, as every run of random faults has them.
NetworkOptions rough_network();

}  // namespace starling::sim
