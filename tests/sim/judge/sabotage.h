// Sabotage: one deliberately broken cluster for each invariant, to prove that a run would see it.
//
// Beyond the invariants, 13 breaks the promise of a policy of sites (decision 0051): there is none; 14 takes the count
// of partitions out of what nodes say to each other (decision 0025); 15 lets stand-ins keep what they hold; 16 acknowledges recalls that it does not store.
// The nodes are the real ones; what is broken is a leaf (the disk, chance), a device, or what one
// node lets another hear (tap.h). `--sabotage N` breaks invariant N; sabotage_test.cc expects that
// the explorer finds each.
// Thread: the world's.
#pragma once

#include <string>

#include "tests/sim/run.h"

namespace starling::sim {

inline constexpr int kSabotageMax = 16;

// What is broken; empty: nothing can be, by this number.
std::string sabotage_text(int invariant);
// Before the cluster is made: leaves, and the faults without which the harm would not show.
RunOptions sabotaged(const RunOptions& options);
// Once it is formed: disks, and what is heard. The tap and the cluster outlive the run.
void sabotage(int invariant, World& world, SimCluster& cluster, Tap& tap);

}  // namespace starling::sim
