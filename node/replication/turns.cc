#include "node/replication/turns.h"

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
  if (!std::exchange(armed_, true)) timer_ = loop_.after(kTurn, [this] { next(); });
  return std::move(future);
}

void Turns::next() {
  armed_ = false;
  while (waiting_ > 0 && !serve_one()) {
  }
  if (waiting_ == 0) return;
  armed_ = true;
  timer_ = loop_.after(kTurn, [this] { next(); });
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
