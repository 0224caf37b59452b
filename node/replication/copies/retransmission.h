// Retransmission: how long to wait for a peer's acknowledgement before a change is sent to it again.
//
// The timeout follows the peer's round trips (round_trip.h), doubles with
// each expiry, and times nothing that was sent twice (Karn's rule). An owner whose disk is slow, or that has too
// much to do, is not given the same work again and again: that would keep an overload alive after its cause has
// gone (Bronson et al., Metastable Failures in Distributed Systems, HotOS 2021).
// Thread: value type; pure.
#pragma once

#include <algorithm>
#include <optional>

#include "node/replication/copies/round_trip.h"
#include "storage/ids.h"

namespace starling::node {

inline constexpr Duration kRetransmitMin = 250ms;
inline constexpr Duration kRetransmitMax = 1s;
inline constexpr Duration kRetransmitLook = 100ms;  // How often the timeouts are looked at.

class Retransmission {
 public:
  // After this long without an acknowledgement a change is sent again. In kRetransmitMin..kRetransmitMax.
  [[nodiscard]] Duration timeout() const {
    const Duration of_trips = trip_.known() ? trip_.nearly_all(kRetransmitLook) : kRetransmitMin;
    return std::clamp(of_trips * (1 << doublings_), kRetransmitMin, kRetransmitMax);
  }

  // A change left for the peer, for the first time. One is timed at a time.
  void sent(PartitionId partition, std::uint64_t n, Instant now) {
    if (timed_ && now - timed_->at <= kRetransmitMax) return;
    timed_ = Timed{partition, n, now};
  }
  // The peer has 1..n of the partition.
  void acknowledged(PartitionId partition, std::uint64_t n, Instant now) {
    if (!timed_ || timed_->partition != partition || n < timed_->n) return;
    // Longer ones were no round trip: the peer was away, and caught up.
    if (now - timed_->at <= kTripMax) {
      doublings_ = 0;
      trip_.took(now - timed_->at);
    }
    timed_.reset();
  }
  // It was too long for what was sent of the partition: it goes again.
  void expired(PartitionId partition, Instant now) {
    if (timed_ && timed_->partition == partition) timed_.reset();
    // All that was on the way in one timeout is one loss.
    if (now - expired_at_ < timeout()) return;
    expired_at_ = now;
    if (timeout() < kRetransmitMax) ++doublings_;
  }

 private:
  static constexpr Duration kTripMax = 4 * kRetransmitMax;
  struct Timed {
    PartitionId partition;
    std::uint64_t n = 0;
    Instant at{};
  };

  RoundTrip trip_;
  int doublings_ = 0;
  std::optional<Timed> timed_;
  Instant expired_at_{};
};

}  // namespace starling::node
