#include "crypto/result.h"

namespace starling {

std::string_view name(Errc code) {
  switch (code) {
    case Errc::kInvalid: return "invalid";
    case Errc::kNotFound: return "not_found";
    case Errc::kExists: return "exists";
    case Errc::kDenied: return "denied";
    case Errc::kUnauthenticated: return "unauthenticated";
    case Errc::kNotOwner: return "not_owner";
    case Errc::kCatchingUp: return "catching_up";
    case Errc::kStaleRing: return "stale_ring";
    case Errc::kUnavailable: return "unavailable";
    case Errc::kTimeout: return "timeout";
    case Errc::kOverloaded: return "overloaded";
    case Errc::kLaneGap: return "lane_gap";
    case Errc::kSequenceReused: return "sequence_reused";
    case Errc::kTooLarge: return "too_large";
    case Errc::kUnsupported: return "unsupported";
    case Errc::kCorrupt: return "corrupt";
    case Errc::kFull: return "full";
    case Errc::kClock: return "clock";
    case Errc::kReset: return "reset";
    case Errc::kForeign: return "foreign";
    case Errc::kIo: return "io";
    case Errc::kFellBehind: return "fell_behind";
    case Errc::kAddressInUse: return "address_in_use";
  }
  return "unknown";
}

}  // namespace starling
