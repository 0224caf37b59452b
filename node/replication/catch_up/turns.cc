#include "node/replication/catch_up/turns.h"

#include <algorithm>

namespace starling::node {

namespace {

constexpr Duration kTurn = 1ms;

}  // namespace

overlay::Future<bool> Turns::take(const NodeId& who, Instant until) {
  auto [turn, future] = overlay::Completer<bool>::make(loop_);
  if (waiting_ == 0 && worked_at_ != loop_.now()) {
    worked_at_ = loop_.now();
    served_ = who;
    turn.set(true);
    return std::move(future);
  }
  const auto line = lines_.find(who);
  if (line != lines_.end() && line->second.size() >= kTurnsWaitingMax) {
    turn.set(false);
    return std::move(future);
  }
  lines_[who].push_back({std::move(turn), until});
  ++waiting_;
  if (!armed_) arm(kTurn);
  return std::move(future);
}

void Turns::arm(Duration delay) {
  armed_ = true;
  due_ = loop_.now() + delay;
  timer_ = loop_.after(delay, [this] { next(); });
}

void Turns::next() {
  armed_ = false;
  const Duration late = loop_.now() - due_;
  if (late > kTurn && !std::exchange(rested_, true)) return arm(std::min(late / 2, kTurnsRestMax));
  rested_ = false;
  while (waiting_ > 0 && !serve_one()) {
  }
  if (waiting_ > 0) arm(kTurn);
}

// False: its caller had given up.
bool Turns::serve_one() {
  auto line = lines_.upper_bound(served_);
  if (line == lines_.end()) line = lines_.begin();
  Waiter waiter = std::move(line->second.front());
  line->second.pop_front();
  --waiting_;
  const bool in_time = loop_.now() < waiter.until;
  if (in_time) {
    served_ = line->first;
    worked_at_ = loop_.now();
  }
  if (line->second.empty()) lines_.erase(line);
  waiter.turn.set(in_time);
  return in_time;
}

}  // namespace starling::node
