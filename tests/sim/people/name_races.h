// NameRaces: people who want the same name at the same moment, through two nodes.
//
// Every now and then a fresh name is asked for at two nodes in the same turn of the world, with two
// passwords; what each was told is kept. Invariant 10: one at most is told yes, when both have a plain
// answer exactly one is, and the password of that one opens the account, the other's does not.
// Thread: the world's; call it from outside of all loops.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/sim/judge/checkers.h"
#include "tests/sim/world/cluster.h"

namespace starling::sim {

struct NameRace {
  enum class Told { kNothing, kYes, kTaken };  // kNothing: no answer, or one that settles nothing.
  struct Claim {
    std::size_t node = 0;
    std::string password;
    Told told = Told::kNothing;
  };
  std::string name;
  std::vector<Claim> claims;
};

class NameRaces {
 public:
  NameRaces(World& world, SimCluster& cluster)
      : world_(world), cluster_(cluster), random_(world.fork()) {}
  ~NameRaces() { *alive_ = false; }
  NameRaces(const NameRaces&) = delete;
  NameRaces& operator=(const NameRaces&) = delete;

  // One race each `pause` on average, until stop().
  void start(Duration pause);
  void stop() { running_ = false; }
  // A race now, at these two nodes.
  void race(std::size_t one, std::size_t other);

  // Both log in to the last few names that somebody was told to have. REQUIRES: a quiet cluster.
  Violations try_passwords();
  [[nodiscard]] const std::vector<std::shared_ptr<NameRace>>& races() const { return races_; }

 private:
  bool logs_in(const NameRace& race, const NameRace::Claim& claim);
  void next(Duration pause);
  void claim(const std::shared_ptr<NameRace>& race, std::size_t which);

  World& world_;
  SimCluster& cluster_;
  SeededRandom random_;
  bool running_ = false;
  std::vector<std::shared_ptr<NameRace>> races_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

Violations check_names(const std::vector<std::shared_ptr<NameRace>>& races);

}  // namespace starling::sim
