// Nemesis: breaks one thing after the other and mends each after a while, by chance.
//
// Thread: the world's.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "tests/sim/world/cluster.h"

namespace starling::sim {

struct FaultOptions {
  bool crashes = true;       // One node at a time; killed, or with its power lost.
  bool both = false;         // A second node may go down while the first is down.
  bool partitions = true;
  bool pauses = true;
  bool slow_disks = true;
  bool clocks = true;        // Steps of up to 2 s.
  bool more = false;         // Hung disks, drifting clocks, broken links, lag, bridges.
  bool hard = false;         // Two or all nodes at once, full disks, failed syncs, halves, one port
                             // only, clocks that jump by up to an hour.
  bool rot = false;          // Bits of stored messages flip, on the first node. Now and then what they hit is
                             // written off there, because nobody can give it, and turns up again.
  bool decay = false;        // Bits flip on one node, which chance chooses: in stored changes, and anywhere in its files.
  bool sites = false;        // One site is cut off from the other.
  Duration gap_min = 1s;     // Between two faults.
  Duration gap_max = 6s;
  Duration length_min = 500ms;
  Duration length_max = 8s;
};

class Nemesis {
 public:
  static constexpr std::uint64_t kDecaySalt = 0x64'65'63'61'79;

  // `tap`: what nodes say goes through it, if `rot`.
  Nemesis(World& world, SimCluster& cluster, FaultOptions options, Tap& tap)
      : world_(world),
        cluster_(cluster),
        options_(options),
        random_(world.fork()),
        lost_random_(world.seed()),
        decaying_(SeededRandom(world.seed() ^ kDecaySalt).below(std::max<std::size_t>(cluster.size(), 1))),
        tap_(tap) {}
  ~Nemesis();
  Nemesis(const Nemesis&) = delete;
  Nemesis& operator=(const Nemesis&) = delete;

  void start();
  // Nothing is broken any more; what is broken stays so, but for clocks that jumped.
  void stop();
  // What was done, by kind.
  [[nodiscard]] const std::map<std::string, std::size_t>& done() const { return done_; }

 private:
  enum class Fault {
    kCrash, kPartition, kPause, kSlowDisk, kClock,  // Usual.
    kHang, kDrift, kBreak, kLag, kBridge,           // `more`
    kRot,                                           // `rot`
    kPair, kBlackout, kFull, kFailedSync, kHalves, kPort, kJump,  // `hard`
    kSite,                                          // `sites`
    kDecay,                                         // `decay`
  };

  Duration draw(Duration low, Duration high);
  void later(Duration delay, std::function<void()> fn);
  void next();
  void strike();
  void strike(Fault fault, std::size_t i, Duration length);
  [[nodiscard]] std::vector<Fault> choices() const;
  [[nodiscard]] std::size_t other_than(std::size_t i);
  void crash(std::size_t i, Duration length);
  void lose_power(const std::vector<std::size_t>& nodes);
  void restart(std::size_t i);
  void partition(std::size_t i, Duration length);
  void halves(Duration length);
  void jump_back(std::size_t i);
  void rot(Duration length);
  void decay(Duration length);
  // While kHidden nobody can give the first node what it lacks; until kNone nobody is served what it lacks.
  enum class Loss { kNone, kHidden, kComesBack };
  void plan_loss();
  void begin_loss();
  void give_up(int tries);
  void wait_for_return();
  Fate hide(const TapMessage& request) const;
  void break_links(std::size_t i, Duration length);

  World& world_;
  SimCluster& cluster_;
  const FaultOptions options_;
  SeededRandom random_;
  SeededRandom lost_random_;
  const std::size_t decaying_;  // The node.
  Tap& tap_;
  std::function<Fate(const TapMessage&, const Result<Bytes>&)> hook_before_;
  Loss loss_ = Loss::kNone;
  bool written_off_ = false;
  int served_turns_ = 0;  // Since the faults ended.
  bool running_ = false;
  std::map<std::string, std::size_t> done_;
  std::map<std::size_t, std::int64_t> jumps_;  // Of clocks, in ms: to be taken back.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace starling::sim
