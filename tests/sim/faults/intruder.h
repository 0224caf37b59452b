// Intruder: somebody who knows every name and every door, and no password.
//
// It knocks at one node after the other as one user after the other, while things break. Invariant
// 12: it never gets in.
// Thread: the world's; call it from outside of all loops.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/sim/judge/checkers.h"
#include "tests/sim/people/workload.h"
#include "tests/sim/world/cluster.h"

namespace starling::sim {

inline constexpr Duration kKnockEvery = 4s;
inline constexpr View kWrongPassword = "a guess";

class Intruder {
 public:
  Intruder(World& world, SimCluster& cluster) : world_(world), cluster_(cluster) {}
  ~Intruder() { *alive_ = false; }
  Intruder(const Intruder&) = delete;
  Intruder& operator=(const Intruder&) = delete;

  void start(std::vector<std::string> users);
  // Whatever is under way may end.
  void stop() { running_ = false; }
  [[nodiscard]] const Violations& violations() const { return violations_; }

 private:
  void knock();
  void look();

  World& world_;
  SimCluster& cluster_;
  std::vector<std::string> users_;
  std::size_t turn_ = 0;
  bool running_ = false;
  History history_;  // Nothing, if all is well.
  std::unique_ptr<SimDevice> device_;
  Violations violations_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace starling::sim
