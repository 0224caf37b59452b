// Drops: invariant 6, looked at while a run goes on. When a node has dropped a partition, every owner of it, as the node
// knew the ring, has synced what the node last had.
//
// It looks often and after the fact: an owner that comes to have all of it, or to be one, within kDropsEvery is not caught.
// Thread: the world's; call it from outside of all loops.
#pragma once

#include <map>
#include <memory>

#include "node/replication/view.h"
#include "tests/sim/judge/checkers.h"
#include "tests/sim/world/cluster.h"

namespace starling::sim {

inline constexpr Duration kDropsEvery = 100ms;

class Drops {
 public:
  Drops(World& world, SimCluster& cluster) : world_(world), cluster_(cluster) {}
  ~Drops() { *alive_ = false; }
  Drops(const Drops&) = delete;
  Drops& operator=(const Drops&) = delete;

  void start();
  [[nodiscard]] const Violations& violations() const { return violations_; }
  [[nodiscard]] std::size_t seen() const { return seen_; }

 private:
  struct Held {
    const void* run = nullptr;  // Of the process.
    std::uint32_t count = 0;    // Of partitions.
    node::RingPtr ring;
    std::map<PartitionId, storage::VersionVector> vectors;
  };
  void look_at(std::size_t i);
  void judge(std::size_t i, PartitionId partition, const Held& before);

  World& world_;
  SimCluster& cluster_;
  std::map<std::size_t, Held> held_;  // By node, as of the last look.
  Violations violations_;
  std::size_t seen_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace starling::sim
