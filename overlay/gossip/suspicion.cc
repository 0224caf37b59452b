#include "overlay/gossip/suspicion.h"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace starling::overlay {

Duration suspicion_timeout(int confirmations, int k, Duration min, Duration max) {
  assert(confirmations >= 0 && min <= max);
  if (k < 1 || confirmations >= k) return min;
  const double part = std::log(confirmations + 1.0) / std::log(k + 1.0);
  const double raw_ms =
      static_cast<double>(to_ms(max)) - part * static_cast<double>(to_ms(max - min));
  // Whole milliseconds, so that the last bits of a logarithm cannot change a simulation.
  return std::max(min, Duration(std::chrono::milliseconds(std::llround(std::floor(raw_ms)))));
}

Suspicion::Suspicion(const NodeId& from, int k, Duration min, Duration max, Instant now)
    : k_(k), min_(min), max_(max), started_(now), accusers_{from} {}

bool Suspicion::confirm(const NodeId& from) {
  if (static_cast<int>(accusers_.size()) > k_) return false;
  return accusers_.insert(from).second;
}

Instant Suspicion::deadline() const {
  const int confirmations = static_cast<int>(accusers_.size()) - 1;
  return started_ + suspicion_timeout(confirmations, k_, min_, max_);
}

}  // namespace starling::overlay
