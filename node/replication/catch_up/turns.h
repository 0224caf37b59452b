// Turns: long work of a loop, one piece at a time, whoever asks for it.
//
// To read or to apply a run of a writer takes some milliseconds. One piece is done in a turn of the loop, and what
// lives goes on in between. Those who wait stand in a line for each who asks (a peer that fetches; we
// ourselves, who apply), and the lines take turns: whoever asks for much waits for itself (round robin: Nagle, On
// Packet Switches with Infinite Storage, 1985). Work whose caller has given up by then is not done.
// The work yields to what lives: a loop that comes late to the next piece had that much to do, with the piece before it
// or with live traffic, and rests from pieces for half as long. So they take two thirds of a loop's time at most, and less
// of a busy one's.
// Invariants: (1) a line is served in order; (2) between two pieces of one line every other line that
//             waits gets one; (3) at most kTurnsWaitingMax wait in a line.
// Thread: one loop.
#pragma once

#include <cstddef>
#include <deque>
#include <map>

#include "overlay/loop/task.h"
#include "storage/ids.h"

namespace starling::node {

inline constexpr std::size_t kTurnsWaitingMax = 1024;  // Of one who asks.
inline constexpr Duration kTurnsRestMax = 5ms;         // However late the loop is: a machine that is short of CPU goes on.

class Turns {
 public:
  explicit Turns(overlay::Loop& loop) : loop_(loop) {}
  Turns(const Turns&) = delete;
  Turns& operator=(const Turns&) = delete;

  // True: it is your turn. False: `until` has passed, or too many wait.
  overlay::Future<bool> take(const NodeId& who, Instant until);
  [[nodiscard]] std::size_t waiting() const { return waiting_; }

 private:
  struct Waiter {
    overlay::Completer<bool> turn;
    Instant until;
  };

  void next();
  void arm(Duration delay);
  bool serve_one();

  overlay::Loop& loop_;
  std::map<NodeId, std::deque<Waiter>> lines_;  // None is empty.
  NodeId served_;       // The line that had the last turn.
  Instant worked_at_{};
  std::size_t waiting_ = 0;
  bool armed_ = false;
  bool rested_ = false;  // Before the next piece.
  Instant due_{};        // The next piece, or the end of the rest.
  overlay::Timer timer_;
};

}  // namespace starling::node
