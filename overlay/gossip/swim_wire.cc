#include "overlay/gossip/swim_wire.h"

#include <cassert>
#include <utility>

#include <sodium.h>

#include "crypto/hash.h"

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

constexpr View kProofPurpose = "starling gossip proof 1";

Proof proof_of(View datagram, const SecretKey& key) { return blake2b_id<Proof>({datagram}, key.view()); }

}  // namespace

Result<SecretKey> proof_key(const Identity& ours, const PublicKey& theirs) {
  TRY_ASSIGN(const DhPublic point, dh_public(theirs));
  SecretKey shared;
  if (crypto_scalarmult(shared.raw.data(), ours.dh_keys().secret.raw.data(), point.raw.data()) != 0) {
    return Error{Errc::kInvalid, "not a usable public key"};
  }
  SecretKey key;
  blake2b(key.raw, {kProofPurpose}, shared.view());
  return key;
}

// The proof is the last field, and a bin: the last bytes.
Bytes prove(const Datagram& datagram, const SecretKey& key) {
  Bytes plain = pack(datagram);
  assert(plain.size() > Proof::kSize);
  const std::size_t end = plain.size() - Proof::kSize;
  plain.replace(end, Proof::kSize, proof_of(View(plain).substr(0, end), key).view());
  return plain;
}

bool is_proven(View plain, const SecretKey& key) {
  if (plain.size() <= Proof::kSize) return false;
  const std::size_t end = plain.size() - Proof::kSize;
  return equal_in_constant_time(proof_of(plain.substr(0, end), key).view(), plain.substr(end));
}

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
