// Movements: the operator who cannot leave the ring alone: joins, leaves, removals, weights and aborts by
// chance, while the nemesis breaks things. Whoever may be switched off is; a removed node comes back later.
//
// Thread: the world's.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "tests/sim/world/cluster.h"

namespace starling::sim {

struct MovementOptions {
  std::size_t count = 0;      // Changes asked for in a run.
  std::size_t nodes_min = 3;  // That serve: fewer are not left by a leave or a removal,
  std::size_t nodes_max = 7;  // and more are not joined.
};

class Movements {
 public:
  Movements(World& world, SimCluster& cluster, MovementOptions options)
      : world_(world), cluster_(cluster), options_(options), random_(options.count > 0 ? world.fork() : 0) {}
  ~Movements() { *alive_ = false; }
  Movements(const Movements&) = delete;
  Movements& operator=(const Movements&) = delete;

  // Spreads its changes over `length`.
  void start(Duration length);
  // No more changes; what is open goes on, and who may go is switched off, as before.
  void stop() { running_ = false; }
  // No change is open and nobody has still something to hand home.
  [[nodiscard]] bool settled();
  // What was done, by kind: asked, and agreed on.
  [[nodiscard]] const std::map<std::string, std::size_t>& done() const { return done_; }

 private:
  void later(Duration delay, std::function<void()> fn);
  void next();
  void move();
  void look();
  void join();
  void leave();
  void remove();
  void weight();
  void abort();
  void ask_for(const std::string& kind, const std::string& method, const Json& arguments);
  [[nodiscard]] std::optional<std::size_t> any(bool up);  // Of the members that are wanted.
  [[nodiscard]] std::size_t members() const;              // Those that serve, are down, or join.

  World& world_;
  SimCluster& cluster_;
  const MovementOptions options_;
  SeededRandom random_;
  bool running_ = false;
  Duration gap_{};
  std::size_t begun_ = 0;
  std::map<std::string, std::size_t> done_;
  std::map<std::string, std::string> states_;  // In the ring, by short id, as last seen.
  bool changing_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace starling::sim
