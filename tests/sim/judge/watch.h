// Watch: what every node says of itself, looked at again and again during a run, and judged.
//
// Two promises can be seen while a run goes on and not from its end: that no queue outgrows its
// limit (invariant 9), and that a number of a ring version names one version (invariant 11). At the
// end the watch tells whether everything that should be empty at rest is.
// It asks only what operators may ask: `queues` and `ring` of the admin door.
// Thread: the world's; call it from outside of all loops.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "tests/sim/judge/checkers.h"
#include "tests/sim/world/cluster.h"

namespace starling::sim {

inline constexpr Duration kWatchEvery = 5s;
inline constexpr Duration kRestWithin = 5s;  // Of a quiet cluster: then its queues are empty.

class Watch {
 public:
  Watch(World& world, SimCluster& cluster) : world_(world), cluster_(cluster) {}
  ~Watch() { *alive_ = false; }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  void start();
  // Runs until every transient queue of every node was empty once, kRestWithin at most; what never
  // was is a violation. REQUIRES: the cluster is quiet.
  void expect_rest();
  [[nodiscard]] const Violations& violations() const { return violations_; }
  // The largest that each queue was seen at.
  [[nodiscard]] const std::map<std::string, std::uint64_t>& highest() const { return highest_; }

 private:
  void look();
  void look_at(std::size_t i);
  void see_queues(std::size_t i, const Json& answer);
  void see_ring(std::size_t i, const Json& answer);
  void wrong(int invariant, const std::string& text, const std::string& needle);

  World& world_;
  SimCluster& cluster_;
  Violations violations_;
  std::map<std::string, std::uint64_t> highest_;
  std::map<std::pair<std::size_t, std::string>, std::uint64_t> lowest_;  // Of a node's transient queue.
  struct Version {
    std::string text;
    std::size_t seen_at = 0;
  };
  std::map<std::uint64_t, Version> rings_;  // By number.
  using Told = std::pair<const void*, std::uint64_t>;  // Of a process, and the number.
  std::map<std::size_t, Told> told_;        // By node, last.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace starling::sim
