// Doublings: the operator who doubles the partitions while the nemesis breaks things, and a nemesis of its own for the
// moment of it: power is lost at one node, or at all, while the version is agreed on, adopted and settled; a node hears
// of it late, and goes on with the old count among others that have the new one.
//
// A doubling is asked for when the operator's command would allow it: no change is open, every member serves, has the
// same partitions and has settled the split before. Until then it waits.
// Thread: the world's.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "tests/sim/world/cluster.h"

namespace starling::sim {

struct DoublingOptions {
  std::size_t count = 0;  // In a run.
  bool cuts = true;       // Of power, around each.
  std::uint64_t deaf_one_in = 2;  // Doublings, in which a node is deaf to ring versions,
  Duration deaf_most = 4s;        // for so long at most.
};

// Of an answer to it, or of the message itself, its receiver could learn a ring version.
bool tells_of_ring(const TapMessage& m);

class Doublings {
 public:
  // `tap`: what nodes say goes through it, if there is a doubling.
  Doublings(World& world, SimCluster& cluster, DoublingOptions options, Tap& tap)
      : world_(world),
        cluster_(cluster),
        options_(options),
        tap_(tap),
        random_(options.count > 0 ? world.fork() : 0) {}
  ~Doublings() { *alive_ = false; }
  Doublings(const Doublings&) = delete;
  Doublings& operator=(const Doublings&) = delete;

  // Spreads them over `length`.
  void start(Duration length);
  // No more of them; what was agreed on goes on.
  void stop() {
    running_ = false;
    deaf_.reset();
  }
  // Every node has the same partitions, and each row of them in its place.
  [[nodiscard]] bool settled();
  // What was done, by kind.
  [[nodiscard]] const std::map<std::string, std::size_t>& done() const { return done_; }

 private:
  void later(Duration delay, std::function<void()> fn);
  Duration draw(Duration most);
  void next();
  void look();
  void propose(std::size_t at);
  void strike();
  void listen();
  void deafen(std::size_t i);
  void lose_power_soon(std::size_t i);
  void lose_power(std::size_t i);
  void restart(std::size_t i);
  [[nodiscard]] std::uint32_t highest();  // Count of a node that is up.
  [[nodiscard]] bool may_double(std::size_t asked);

  World& world_;
  SimCluster& cluster_;
  const DoublingOptions options_;
  Tap& tap_;
  SeededRandom random_;
  std::optional<std::size_t> deaf_;  // Hears of no ring version.
  bool running_ = false;
  Duration gap_{};
  std::size_t begun_ = 0;
  std::uint32_t goal_ = 0;
  Instant asked_{};  // The last time; zero: not yet for this one.
  std::map<std::string, std::size_t> done_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace starling::sim
