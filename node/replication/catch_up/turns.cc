#include "node/replication/catch_up/turns.h"

#include <algorithm>

namespace starling::node {

namespace {

constexpr Duration kTurn = 1ms;
constexpr std::size_t kChangeCost = 256;  // As in storage/rocks/rocks_store.h.

}  // namespace

std::size_t cost_of(const storage::RangeStatement& range) {
  if (range.to + 1 - range.from != range.live.size()) return kTurnRoom;
  std::size_t cost = 0;
  for (const auto& item : range.live) cost += item.change.data.size() + kChangeCost;
  return cost;
}

overlay::Future<bool> Turns::take(const NodeId& who, Instant until) {
  auto [turn, future] = overlay::Completer<bool>::make(loop_);
  if (waiting_ == 0 && has_room()) {
    begin(who);
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

// A piece counts as a long one until it says what it was.
void Turns::begin(const NodeId& who) {
  if (worked_at_ != loop_.now()) used_ = 0;
  worked_at_ = loop_.now();
  served_ = who;
  used_ += kTurnRoom;
  rested_ = false;
  if (!armed_) arm(kTurn);
}

void Turns::did(std::size_t bytes) {
  if (worked_at_ != loop_.now() || used_ < kTurnRoom) return;
  used_ -= kTurnRoom - std::min(kTurnRoom, bytes + kPieceCost);
}

bool Turns::has_room() const {
  return worked_at_ == loop_.now() ? used_ <= kTurnRoom / 2 : !armed_;
}

void Turns::arm(Duration delay) {
  armed_ = true;
  due_ = loop_.now() + delay;
  timer_ = loop_.after(delay, [this] { next(); });
}

void Turns::next() {
  armed_ = false;
  const Duration late = loop_.now() - due_;
  if (late > kTurn && !std::exchange(rested_, true)) {
    const Duration rest = std::min(late / 2, kTurnsRestMax);
    return arm(rest * std::min(used_, kTurnRoom) / kTurnRoom);
  }
  go_on();
}

// What one piece cost is known behind it, in the same turn.
void Turns::go_on() {
  while (waiting_ > 0 && has_room()) {
    if (!serve_one()) continue;
    return loop_.defer([this, alive = alive_] {
      if (*alive) go_on();
    });
  }
  if (waiting_ > 0 && !armed_) arm(kTurn);
}

// False: its caller had given up.
bool Turns::serve_one() {
  auto line = lines_.upper_bound(served_);
  if (line == lines_.end()) line = lines_.begin();
  Waiter waiter = std::move(line->second.front());
  line->second.pop_front();
  --waiting_;
  const bool in_time = loop_.now() < waiter.until;
  if (in_time) begin(line->first);
  if (line->second.empty()) lines_.erase(line);
  waiter.turn.set(in_time);
  return in_time;
}

}  // namespace starling::node
