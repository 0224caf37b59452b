// Suspicion: how long a suspect has to speak up before it is called dead (Lifeguard, arXiv
// 1707.00788, section IV-B: dynamic suspicion timeouts).
//
// The timeout starts long and shrinks as other members say, independently, that they suspect:
//   timeout(c) = max(min, max - (max - min) * log(c + 1) / log(k + 1))
// so a lone accuser, who may be the sick one, waits for long, and a real death is soon declared.
// Thread: one loop; pure.
#pragma once

#include <set>

#include "overlay/loop/clock.h"
#include "storage/ids.h"

namespace starling::overlay {

// REQUIRES: confirmations >= 0, min <= max. With k < 1 nobody can confirm: the answer is min.
Duration suspicion_timeout(int confirmations, int k, Duration min, Duration max);

class Suspicion {
 public:
  // `from` is the first accuser and does not count as a confirmation.
  Suspicion(const NodeId& from, int k, Duration min, Duration max, Instant now);

  // True when `from` is a new voice that shortened the timeout: worth gossiping on. At most k are.
  bool confirm(const NodeId& from);

  // When the suspect is dead, unless it refutes before.
  [[nodiscard]] Instant deadline() const;

  // We slept for `gap`: the suspect gets the time back that we could not hear it.
  void postpone(Duration gap) { started_ += gap; }

 private:
  int k_;
  Duration min_;
  Duration max_;
  Instant started_;
  std::set<NodeId> accusers_;  // At most k_ + 1.
};

}  // namespace starling::overlay
