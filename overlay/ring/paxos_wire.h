// The messages of Paxos: one request and one response, the body of Method::kPaxos.
//
// request  := [instance:bin, ring:uint, kind:uint, ballot:[round, node], value:bin|nil]
// response := [kind:uint, ballot, verdict:uint, promised:[round, node], accepted:[round, node],
//              value:bin|nil]
//
//   kind      request carries   response carries
//   prepare   ballot            verdict, promised; accepted and value when granted; value if decided
//   accept    ballot, value     verdict, promised; value if decided
//   decided   value             verdict kDecided, without the value
//   query     -                 verdict kDecided with the value, or kUndecided
//
// `ring` is the ring version whose members vote; the receiver refuses another one before it comes
// here (kStaleRing). Numbers are never reused.
// Thread: any; no shared state.
#pragma once

#include <optional>
#include <variant>

#include "crypto/msgpack.h"
#include "overlay/links/wire.h"
#include "overlay/ring/paxos.h"

namespace starling::overlay {

inline constexpr std::size_t kPaxosInstanceSizeMax = 128;
inline constexpr std::size_t kPaxosValueSizeMax = 1 << 20;
static_assert(kPaxosValueSizeMax + 4096 <= kFrameBodySizeMax, "a value fits one frame");

enum class PaxosKind : std::uint8_t { kPrepare = 1, kAccept = 2, kDecided = 3, kQuery = 4 };

}  // namespace starling::overlay

MSGPACK_ADD_ENUM(starling::overlay::PaxosKind)
MSGPACK_ADD_ENUM(starling::overlay::Verdict)

namespace starling::overlay {

struct PaxosRequest {
  Blob instance;
  RingNumber ring;
  PaxosKind kind = PaxosKind::kQuery;
  Ballot ballot;
  std::optional<Blob> value;
  friend bool operator==(const PaxosRequest&, const PaxosRequest&) = default;
  FIELDS(instance, ring, kind, ballot, value)
};

struct PaxosResponse {
  PaxosKind kind = PaxosKind::kQuery;
  Ballot ballot;
  Verdict verdict = Verdict::kUndecided;
  Ballot promised;
  Ballot accepted;
  std::optional<Blob> value;
  friend bool operator==(const PaxosResponse&, const PaxosResponse&) = default;
  FIELDS(kind, ballot, verdict, promised, accepted, value)
};

// From bytes of a peer: kCorrupt for what does not decode, contradicts the table above or passes a
// limit. What comes out is safe for answer() and to_input().
Result<PaxosRequest> decode_paxos_request(View bytes);
Result<PaxosResponse> decode_paxos_response(View bytes);

// The acceptor's side of one request. When `state` differs afterwards, sync it before the response
// leaves. kCorrupt as in learn().
Result<PaxosResponse> answer(AcceptorState& state, const PaxosRequest& request);

// The proposer's side.
PaxosRequest to_request(const Bytes& instance, RingNumber ring,
                        const std::variant<Prepare, Accept, Decided>& message);
// Nothing for a response that a proposer does not read (decided, query).
std::optional<Proposer::Input> to_input(const NodeId& from, const PaxosResponse& response);

}  // namespace starling::overlay
