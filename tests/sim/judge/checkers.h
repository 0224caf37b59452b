// Checkers: the invariants of docs/architecture.md, judged from a History and an export of the
// stores.
//
// Each is a pure function that returns what it found wrong; an empty list is a pass. All of them
// are meant for the end of a run: after the faults were healed and the cluster had time to be
// quiet.
// Thread: any; pure.
#pragma once

#include <string>
#include <vector>

#include "tests/sim/judge/history.h"

namespace starling::sim {

struct Violation {
  int invariant = 0;   // Number in section 3 of the architecture.
  std::string text;
  std::string needle;  // Finds its notes in the trace.
};
using Violations = std::vector<Violation>;

// Of clients: promises 1, 2, 3, 4, 7 and 8, by node/check/checker.h. Nobody else writes in a
// simulation.
Violations check_clients(const History& history);
// Of those, promise 1 alone.
Violations check_delivered(const History& history);

// 1: ... and in the store of every owner of its mailboxes.
Violations check_stored(const History& history, const ClusterExport& stores);
// 1: what was written off was destroyed by a fault, and nobody has it.
Violations check_lost(const ClusterExport& stores, const std::vector<Destroyed>& destroyed);
// 3: positions keep the order of numbers in every store, where the smallest id of a key is its
// position.
Violations check_stored_order(const ClusterExport& stores);
// 5: the owners of a partition hold equal vectors, and equal vectors mean equal bytes.
Violations check_converged(const ClusterExport& stores);

// 5: every owner has as many partitions as the ring, and each row in the place that this gives it.
Violations check_counts(const ClusterExport& stores);

// All of the above. Without an export the checks of stores are left out.
Violations check_all(const History& history, const ClusterExport* stores);
// One line each, `limit` at most.
std::string text(const Violations& violations, std::size_t limit = 20);

}  // namespace starling::sim
