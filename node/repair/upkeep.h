// Upkeep: what a node does for its store in the background: time moves on for what expires, idle files are
// compacted, and everything stored is looked at once a day, because rot that nobody reads stays unseen.
//
// Expiry time is the lowest clock of the live members of the ring, ours included, and only while ours agrees
// with theirs. In one run it gets no further than our own clock, as it was when it first agreed, would have
// by our steady clock, so that clocks which all jump together, as after a bad time server, erase nothing (hazards F12).
// Thread: one loop.
#pragma once

#include <functional>
#include <optional>

#include "node/replication/view.h"
#include "overlay/loop/task.h"

namespace starling::node {

struct ScrubTotal {
  double share = 0;           // Of the walk that is done.
  std::uint64_t rows = 0;
  std::uint64_t bytes = 0;
  std::uint64_t mended = 0;   // Rows written again from the log here.
  std::uint64_t damaged = 0;  // To be fetched from other owners.
};

class Upkeep {
 public:
  // The lowest clock, in wall ms; nothing while it cannot be told or ours is off.
  using Clock = std::function<std::optional<std::uint64_t>()>;

  Upkeep(ClusterView& view, Clock lowest_clock);

  // Begins a walk over the whole store, as fast as the other work of the loop allows. False: one is under way.
  bool scrub_now();
  // Of the walk under way, or of the last one.
  [[nodiscard]] const ScrubTotal& scrubbed() const { return scrubbed_; }
  [[nodiscard]] bool scrubbing() const { return scrubbing_; }

 private:
  void move_expiry();
  bool walk_is_due();
  overlay::Task<Done> run();
  overlay::Task<Done> scrub(Bytes cursor, Duration pause);
  // False: the walk is complete.
  bool scrub_step(Bytes& cursor);

  ClusterView& view_;
  Clock lowest_clock_;
  struct Start {
    std::uint64_t wall_ms;
    Instant at;
  };
  std::optional<Start> start_;  // Our clock, when it first agreed with the others in this run.
  ScrubTotal scrubbed_;
  bool scrubbing_ = false;
  overlay::Timer expiry_timer_;
  overlay::Scope scope_;
};

}  // namespace starling::node
