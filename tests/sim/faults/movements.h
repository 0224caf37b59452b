// Movements: the operator who cannot leave the cluster alone: joins, leaves, removals, replacements, forced removals,
// weights, aborts, pauses, throttles, drains, new keys and, where wanted, revocations by chance, now and then several
// at once, while the nemesis breaks things. Whoever may be switched off is; a removed node comes back later.
//
// What counts is a change of the ring that was agreed on and not aborted; what else is asked for comes on top.
// A forced removal is asked for only where it can lose nothing and split nobody off: all others serve at one ring
// version with no change open, an ordinary removal would be allowed, and who is forced out is gone for good. So it is
// with a revocation, but that the node may be up: then it goes on for a while, and nobody heeds it.
// Thread: the world's.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "tests/sim/world/cluster.h"

namespace starling::sim {

struct MovementOptions {
  std::size_t count = 0;       // Asked for until so many are agreed.
  std::size_t agreed_min = 0;  // Of them; fewer fail the run.
  std::size_t nodes_min = 3;   // That serve: fewer are not left by a leave or a removal,
  std::size_t nodes_max = 7;   // and more are not joined.
  bool revokes = false;        // Nodes are revoked, too.
};

class Movements {
 public:
  Movements(World& world, SimCluster& cluster, MovementOptions options)
      : world_(world), cluster_(cluster), options_(options), random_(options.count > 0 ? world.fork() : 0) {}
  ~Movements() { *alive_ = false; }
  Movements(const Movements&) = delete;
  Movements& operator=(const Movements&) = delete;

  // Spreads what it asks for over `length`.
  void start(Duration length);
  // No more is asked for, and what holds changes up is taken back; what is open goes on, and who may go is switched
  // off, as before.
  void stop();
  // No change is open and nobody has still something to hand home.
  [[nodiscard]] bool settled();
  // What was done, by kind: asked, and agreed on.
  [[nodiscard]] const std::map<std::string, std::size_t>& done() const { return done_; }
  [[nodiscard]] std::size_t agreed() const { return agreed_; }  // Changes of the ring, while it ran.
  [[nodiscard]] bool enough() const { return agreed_ >= options_.agreed_min; }
  // It was to take a dead node's place, and may be told that it cannot.
  [[nodiscard]] bool replaces(std::size_t i) const { return replacers_.contains(i); }

 private:
  void later(Duration delay, std::function<void()> fn);
  void next();
  void move();
  void look();
  void see(const Json& ring);
  void calm(const Json& controls);
  void join();
  void leave();
  void remove();
  void replace();
  void put_out(bool revoke);
  void weight();
  void pause();
  void throttle();
  void drain();
  void rotate();
  void agree(const std::string& kind);
  using Answer = std::function<void(const Result<Json>&)>;
  void ask_for(const std::string& kind, const std::string& method, const Json& arguments);
  void ask_at(std::size_t at, const std::string& kind, const std::string& method, const Json& arguments,
              Answer then = {});
  void begin(std::size_t inviter, const std::string& kind, std::optional<std::size_t> dead);
  struct PutOut {
    std::size_t node = 0;
    bool revoke = false;  // Else it is removed by force.
  };
  void try_to_put_out(PutOut which, int turns);
  void put_out_if_alike(PutOut which);
  void put_out_if_allowed(PutOut which);
  void revoke(std::size_t node, std::size_t at, const Json& act);
  void come_back_later(std::size_t node);
  void heed_status();
  void take_back_joins();
  [[nodiscard]] bool quiet_but(PutOut which);
  [[nodiscard]] std::string state(std::size_t i) const;   // In the ring, as last seen; empty: not in it.
  // Of the members that are wanted.
  [[nodiscard]] std::optional<std::size_t> any(bool up, std::optional<std::size_t> but = {});
  [[nodiscard]] std::optional<std::size_t> dead_one();    // One that is down, or is made to be.
  [[nodiscard]] std::size_t members() const;              // Those that serve, are down, or are to join.

  World& world_;
  SimCluster& cluster_;
  const MovementOptions options_;
  SeededRandom random_;
  bool running_ = false;
  Duration gap_{};
  std::size_t agreed_ = 0;
  bool putting_out_ = false;  // Nothing else is asked of the ring meanwhile.
  std::map<std::string, std::size_t> done_;
  std::map<std::string, std::string> states_;  // In the ring, by short id, as last seen.
  std::map<std::string, NodeId> ids_;
  bool changing_ = false;
  std::map<std::size_t, std::string> joining_;  // Those that the ring did not show yet, and as what they come.
  std::map<std::size_t, int> says_join_anew_;   // How often in a row, by node.
  std::set<std::size_t> taken_out_;             // Once they are switched off: who was to join, or is to join anew.
  std::set<std::size_t> replacers_;             // They were to join in the place of others.
  std::set<std::size_t> drained_;
  std::set<std::size_t> doubted_;  // They are, or may be, revoked,
  std::set<std::size_t> put_out_;  // and these are: to be switched off.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace starling::sim
