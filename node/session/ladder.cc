#include "node/session/ladder.h"

namespace starling::node {

std::string_view name(Rung rung) {
  switch (rung) {
    case Rung::kNone: return "nothing";
    case Rung::kTyping: return "typing";
    case Rung::kPresence: return "presence";
    case Rung::kReceipts: return "receipts";
    case Rung::kHistory: return "history reads";
    case Rung::kSends: return "sends";
  }
  return "unknown";
}

void Ladder::look(double pressure, Instant now) {
  pressure_ = pressure;
  for (std::size_t i = 1; i < kRungs; ++i) {
    if (pressure < kRungHeights[i]) {
      above_since_[i] = kNever;
      continue;
    }
    if (above_since_[i] == kNever) above_since_[i] = now;
    if (now - above_since_[i] >= kLadderRise && static_cast<Rung>(i) > rung_) {
      rung_ = static_cast<Rung>(i);
      below_since_ = kNever;
    }
  }
  const auto at = static_cast<std::size_t>(rung_);
  if (at == 0 || pressure >= kRungHeights[at] * kLadderSlack) {
    below_since_ = kNever;
  } else if (below_since_ == kNever) {
    below_since_ = now;
  } else if (now - below_since_ >= kLadderFall) {
    rung_ = static_cast<Rung>(at - 1);
    below_since_ = now;
  }
}

std::string Ladder::left_out() const {
  std::string out;
  for (std::size_t i = 1; i <= static_cast<std::size_t>(rung_); ++i) {
    out += (out.empty() ? "" : ", ") + std::string(name(static_cast<Rung>(i)));
  }
  return out;
}

}  // namespace starling::node
