// HomeCopies: of a cluster of two sites, was every acknowledgement made by copies in one of them?
//
// It listens to what owners say that they have synced, and at each acknowledgement counts those in the home
// site of the mailbox: the one with most of its owners. That holds while every home owner can be
// reached; without one, others stand in. So it judges runs in which nothing is worse than a slow disk.
// Thread: the world's.
#pragma once

#include <map>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/sim/faults/nemesis.h"
#include "tests/sim/judge/checkers.h"
#include "tests/sim/world/cluster.h"
#include "tests/sim/world/tap.h"

namespace starling::sim {

class HomeCopies {
 public:
  HomeCopies(SimCluster& cluster, Tap& tap) : cluster_(cluster), tap_(tap) {}

  static bool can_judge(const FaultOptions& faults) {
    return !faults.crashes && !faults.partitions && !faults.pauses && !faults.more && !faults.hard && !faults.rot &&
           !faults.sites;
  }
  // Once the cluster is formed. REQUIRES: its ring stays as it is, but for the count of partitions.
  void start();
  [[nodiscard]] const Violations& violations() const { return violations_; }
  [[nodiscard]] std::size_t judged() const { return judged_; }

 private:
  void heard(const TapMessage& m);
  void acknowledged(const TapMessage& request);
  [[nodiscard]] bool has(std::size_t node, const MailboxId& mailbox, const Dot& dot) const;

  SimCluster& cluster_;
  Tap& tap_;
  std::map<PartitionId, std::vector<std::size_t>> home_;  // As the partitions were counted at first.
  std::map<std::pair<std::uint64_t, MailboxId>, std::set<Dot>> dots_;  // By the hash of the body.
  std::map<std::tuple<std::size_t, WriterId>, std::map<std::uint32_t, std::map<PartitionId, std::uint64_t>>> synced_;  // By count.
  Violations violations_;
  std::size_t judged_ = 0;
};

}  // namespace starling::sim
