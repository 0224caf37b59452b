#include "overlay/links/breaker.h"

#include <algorithm>

namespace starling::overlay {
namespace {

constexpr int kFailuresMax = 16;

}  // namespace

void Breaker::trip(Instant now, double jitter, Error cause, Duration longest) {
  failures_ = std::min(failures_ + 1, kFailuresMax);
  const Duration rest = std::min(longest, kRedialMin * (1 << std::min(failures_ - 1, 9)));
  const double share = 1.0 - 0.25 * jitter;
  next_ = now + Duration(static_cast<std::int64_t>(static_cast<double>(rest.count()) * share));
  cause_ = std::move(cause);
}

void Breaker::close() {
  failures_ = 0;
  next_ = {};
}

}  // namespace starling::overlay
