// Turns: long work of a loop, one piece after the other, whoever asks for it.
//
// To read or to apply a run of a writer takes up to some milliseconds. A turn of the loop has room for one long piece, or
// for many short ones: each says what it cost, and the next one goes in the same turn while less than half of the
// room is used. What lives goes on in between. Those who wait stand in a line for each who asks (a peer that
// fetches; we ourselves, who apply), and the lines take turns: whoever asks for much waits for itself (round robin: Nagle,
// On Packet Switches with Infinite Storage, 1985). Work whose caller has given up by then is not done.
// The work yields to what lives: a loop that comes late out of a turn with pieces had that much to do, with them or with live
// traffic, and rests from pieces for half as long, or for the part of it that the pieces took of a turn's room. So
// long ones take two thirds of a loop's time at most, and less of a busy one's; short ones, as the last changes of an
// owner that returns are, hardly rest. It is the same for a peer that asks for one piece at a time.
// Invariants: (1) a line is served in order; (2) between two pieces of one line every other line that
//             waits gets one; (3) at most kTurnsWaitingMax wait in a line.
// Thread: one loop.
#pragma once

#include <cstddef>
#include <deque>
#include <map>
#include <memory>

#include "node/replication/messages.h"
#include "overlay/loop/task.h"
#include "storage/store.h"

namespace starling::node {

inline constexpr std::size_t kTurnsWaitingMax = 1024;  // Of one who asks.
inline constexpr Duration kTurnsRestMax = 5ms;         // However late the loop is: a machine that is short of CPU goes on.
inline constexpr std::size_t kTurnRoom = kFetchBytesMax;  // What the pieces of a turn cost.
inline constexpr std::size_t kPieceCost = 4 << 10;        // Of any piece: to find where it begins, and to answer.

// As the store reckons what a piece may be. What was passed over to find the rest is not known: a full one.
std::size_t cost_of(const storage::RangeStatement& range);

class Turns {
 public:
  explicit Turns(overlay::Loop& loop) : loop_(loop) {}
  Turns(const Turns&) = delete;
  Turns& operator=(const Turns&) = delete;
  ~Turns() { *alive_ = false; }

  // True: it is your turn. False: `until` has passed, or too many wait.
  overlay::Future<bool> take(const NodeId& who, Instant until);
  // What the piece was, before its doer waits for anything: a turn is full behind one that does not say so.
  void did(std::size_t bytes);
  [[nodiscard]] std::size_t waiting() const { return waiting_; }

 private:
  struct Waiter {
    overlay::Completer<bool> turn;
    Instant until;
  };

  void begin(const NodeId& who);
  [[nodiscard]] bool has_room() const;
  void arm(Duration delay);
  void next();
  void go_on();
  bool serve_one();

  overlay::Loop& loop_;
  std::map<NodeId, std::deque<Waiter>> lines_;  // None is empty.
  NodeId served_;       // The line that had the last piece.
  std::size_t waiting_ = 0;
  Instant worked_at_{};     // The last turn with pieces,
  std::size_t used_ = 0;    // and what they took of its room.
  bool armed_ = false;      // Until the loop is free for the next one.
  bool rested_ = false;     // Behind that one.
  Instant due_{};           // The next piece, or the end of the rest.
  overlay::Timer timer_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace starling::node
