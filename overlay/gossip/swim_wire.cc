#include "overlay/gossip/swim_wire.h"

#include <utility>

namespace starling::overlay {
namespace {

bool is_state(std::uint8_t state) {
  return state >= static_cast<std::uint8_t>(MemberState::kAlive) &&
         state <= static_cast<std::uint8_t>(MemberState::kLeft);
}

Shared update(UpdateKind kind, View value) {
  Bytes out;
  out.reserve(1 + value.size());
  out.push_back(static_cast<char>(kind));
  out.append(value);
  return std::make_shared<const Bytes>(std::move(out));
}

}  // namespace

Result<Datagram> decode_datagram(View plain) {
  if (plain.size() > kPacketSizeMax) {
    return Error{Errc::kTooLarge, "a gossip packet is over its size limit"};
  }
  TRY_ASSIGN(Datagram out, unpack<Datagram>(plain));
  if (out.updates.size() > kUpdatesMax) {
    return Error{Errc::kCorrupt, "a gossip packet carries too many updates"};
  }
  return out;
}

Result<PushPull> decode_push_pull(View body) {
  TRY_ASSIGN(PushPull out, unpack<PushPull>(body));
  if (out.members.size() > kMembersMax) {
    return Error{Errc::kTooLarge, "a push-pull lists more members than a cluster may have"};
  }
  for (const MemberEntry& entry : out.members) {
    if (!is_state(entry.state) || entry.incarnation > kIncarnationMax) {
      return Error{Errc::kCorrupt, "a push-pull holds a member in no known state"};
    }
  }
  return out;
}

Shared encode_claim(const Claim& claim) { return update(UpdateKind::kClaim, pack(claim)); }

Shared encode_record(View signed_bytes) { return update(UpdateKind::kRecord, signed_bytes); }

Result<Claim> decode_claim(View value) {
  TRY_ASSIGN(Claim out, unpack<Claim>(value));
  if (!is_state(out.state) || out.as() == MemberState::kAlive ||
      out.incarnation > kIncarnationMax) {
    return Error{Errc::kCorrupt, "a claim of no known state"};
  }
  // Leaving is a node's own decision.
  if (out.as() == MemberState::kLeft && out.from != out.node) {
    return Error{Errc::kCorrupt, "a node is said to have left, but not by itself"};
  }
  return out;
}

}  // namespace starling::overlay
