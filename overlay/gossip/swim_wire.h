// The gossip wire: the datagrams of SWIM and the push-pull body that goes over a link.
//
// packet   := Keyring::seal(plain, associated = lineage id)
// plain    := Datagram, msgpack, at most kPacketSizeMax
// update   := kind:u8 value        kClaim: Claim, msgpack; kRecord: SignedRecord (member_record.h)
// pushpull := PushPull, msgpack    request and response of Method::kPushPull
//
//   ping      are you there?               answered by ack(seq)
//   ping-req  probe `about` for me         answered by ack(seq) or, when it is silent, nack(seq)
//   gossip    updates only
//
// The secret of the cluster says that a packet is of somebody who held it once. The proof says of whom: it is a MAC, under
// a key that only the sender and the node it is sent to can make from their identities (docs/decisions/0063).
// Kinds that we do not know are skipped; fields are added at the end; numbers are never reused. But Datagram is closed:
// its proof is the last bytes and covers all before it. What is new goes into Heartbeat, a Claim or an update kind.
#pragma once

#include <cstdint>
#include <vector>

#include "crypto/access/identity.h"
#include "crypto/msgpack.h"
#include "crypto/result.h"
#include "crypto/secret.h"
#include "overlay/gossip/member_record.h"
#include "overlay/links/wire.h"
#include "storage/ids.h"

namespace starling::overlay {

enum class MessageKind : std::uint8_t { kPing = 1, kAck = 2, kNack = 3, kPingReq = 4, kGossip = 5 };
enum class UpdateKind : std::uint8_t { kClaim = 1, kRecord = 2 };
enum class MemberState : std::uint8_t { kAlive = 1, kSuspect = 2, kDead = 3, kLeft = 4 };

inline constexpr std::size_t kMembersMax = 4096;
inline constexpr std::size_t kPacketSizeMax =
    1400;  // Before sealing; sealed, it fits an MTU of 1,500.
inline constexpr std::size_t kDatagramHeaderMax = 160;  // A Datagram without updates.
inline constexpr std::size_t kUpdateOverhead = 3;       // The bin header around an update.
inline constexpr std::size_t kUpdateSizeMin = 24;       // No update is smaller.
inline constexpr std::size_t kUpdatesMax = kPacketSizeMax / kUpdateSizeMin;
inline constexpr std::size_t kMemberEntryExtraMax = 64;  // A MemberEntry without its record.
static_assert(kDatagramHeaderMax + kRecordSizeMax + kUpdateOverhead + 1 <= kPacketSizeMax,
              "any record fits a packet");
static_assert(kMembersMax * (kRecordSizeMax + kMemberEntryExtraMax) <= kFrameBodySizeMax,
              "a push-pull of everybody fits a frame");

// What changes too often for a new incarnation; rides on every datagram.
struct Heartbeat {
  std::int64_t wall_ms = 0;
  RingNumber ring;
  bool catching_up = false;
  std::uint32_t sessions = 0;
  friend bool operator==(const Heartbeat&, const Heartbeat&) = default;
  FIELDS(wall_ms, ring, catching_up, sessions)
};

// "`from` says that `node`, as of `incarnation`, is suspect / dead / left." That a node is alive is
// said by its record alone.
struct Claim {
  NodeId node;
  std::uint64_t incarnation = 0;
  std::uint8_t state = 0;  // MemberState
  NodeId from;
  [[nodiscard]] MemberState as() const { return static_cast<MemberState>(state); }
  friend bool operator==(const Claim&, const Claim&) = default;
  FIELDS(node, incarnation, state, from)
};

struct ProofTag;
using Proof = Fixed<ProofTag, 16>;

struct Datagram {
  NodeId from;
  WriterId writer;            // The sender's, as in its record.
  std::uint64_t counter = 0;  // 1, 2, 3 ... never twice in a run: replays are dropped.
  Heartbeat heartbeat;
  std::uint8_t kind = 0;  // MessageKind
  std::uint64_t seq = 0;  // Pairs an answer with its question.
  NodeId about;           // Who must answer, who is to be probed, who answered or did not.
  std::vector<Blob> updates;
  std::uint32_t run = 0;  // The sender's, as in its record (MemberRecord::run); zero from programs of before it.
  Proof proof;  // Of all that is before it; zero from programs of before it (MemberRecord::proves).
  [[nodiscard]] MessageKind as() const { return static_cast<MessageKind>(kind); }
  FIELDS(from, writer, counter, heartbeat, kind, seq, about, updates, run, proof)
};

struct MemberEntry {
  Blob record;                    // SignedRecord
  std::uint8_t state = 0;         // MemberState, in the sender's eyes,
  std::uint64_t incarnation = 0;  // as of this incarnation.
  Heartbeat heartbeat;            // The newest heard,
  std::uint64_t age_ms = 0;       // this long ago.
  [[nodiscard]] MemberState as() const { return static_cast<MemberState>(state); }
  FIELDS(record, state, incarnation, heartbeat, age_ms)
};

struct PushPull {
  std::vector<MemberEntry> members;  // The sender itself included.
  FIELDS(members)
};

// The key of the proofs between two nodes, the same at both. kInvalid for a key that is none.
Result<SecretKey> proof_key(const Identity& ours, const PublicKey& theirs);
// The datagram packed, with its proof.
Bytes prove(const Datagram& datagram, const SecretKey& key);
bool is_proven(View plain, const SecretKey& key);

// kCorrupt; kTooLarge for a plain text over kPacketSizeMax.
Result<Datagram> decode_datagram(View plain);
// kCorrupt; kTooLarge for more than kMembersMax entries.
Result<PushPull> decode_push_pull(View body);

Shared encode_claim(const Claim& claim);
Shared encode_record(View signed_bytes);
// kCorrupt for a state or incarnation that nobody may claim.
Result<Claim> decode_claim(View value);

}  // namespace starling::overlay
