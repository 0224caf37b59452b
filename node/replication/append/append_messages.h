// Bodies of the node-to-node methods about sends and registers: what a coordinator is asked to append or to write,
// what an owner is asked of registers and lanes (overlay/links/wire.h has the numbers). One msgpack array each: new
// fields go to the end. docs/node-protocol.md says the same in prose.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "crypto/msgpack.h"
#include "storage/ids.h"

namespace starling::node {

// kAppend: one send, from the sender's gateway to a coordinator of the mailbox; or, with `copy`, the
// sender's own copy, from the recipient's coordinator to a coordinator of the sender's mailbox.
inline constexpr std::uint8_t kAppendRetry = 1;
inline constexpr std::uint8_t kAppendVoid = 2;
inline constexpr std::uint8_t kAppendCopy = 4;    // id is given; the lane is checked with kAppendInOrder only.
inline constexpr std::uint8_t kAppendForce = 8;   // Every reachable owner is catching up: do it all the same.
// With kAppendCopy: the other way round, to the recipient's mailbox. The sender's own has the message at a
// smaller id, minted by another coordinator, and both sides sort a conversation alike (hazards F23).
inline constexpr std::uint8_t kAppendPosition = 16;
// With kAppendVoid: takes back the message of this key, for the user who sent it, from whichever of his devices. Its type
// is 0, so that a node which does not know the flag, and would ask nobody whose message it is, refuses. With kAppendCopy,
// too: the void that such a recall made goes to the sender's mailbox.
inline constexpr std::uint8_t kAppendRecall = 32;
// With kAppendRetry: the device says so, and that what became of an earlier attempt is not known to it. A gateway that asks
// another owner marks a retry as well, of a number that the device may use for the first time.
inline constexpr std::uint8_t kAppendUnanswered = 64;
// With kAppendCopy: kLaneGap where the copy of the number before is not known; who asks has that one made first.
inline constexpr std::uint8_t kAppendInOrder = 128;
struct AppendRequest {
  RingNumber ring;
  std::string to;          // Address it was sent to.
  std::string from;        // Sender, authenticated by the gateway.
  DeviceId device;
  std::uint64_t seq = 0;
  std::uint64_t acked = 0;
  EntryId floor;
  std::uint8_t flags = 0;
  std::uint8_t grade = 0;  // protocol::Grade
  std::uint8_t type = 1;   // storage::EntryType
  BlobView body;
  EntryId id;              // Copies only.
  std::uint64_t lifetime_ms = 0;  // Asked for by the sender; 0: as long as history is kept.
  std::uint64_t expires_ms = 0;   // Copies only: as stamped.
  FIELDS(ring, to, from, device, seq, acked, floor, flags, grade, type, body, id,
                       lifetime_ms, expires_ms)
};
struct AppendReply {
  RingNumber ring;
  EntryId id;
  std::uint8_t copies = 0;
  FIELDS(ring, id, copies)
};

// kWriteRegister: answered when W owners synced it. A stamp of zero is minted by the coordinator.
struct WriteRegisterRequest {
  RingNumber ring;
  MailboxId mailbox;
  std::uint8_t merge = 1;  // storage::MergeKind
  EntryId stamp;
  std::string key;
  Blob value;
  std::uint8_t flags = 0;  // kAppendForce
  bool derive = false;     // Of a gateway of an earlier program: what follows from what stands is left to the coordinator.
  // Not zero: the stamp that the value was derived from. kExists when the register has another by now.
  EntryId expected;
  FIELDS(ring, mailbox, merge, stamp, key, value, flags, derive, expected)
};

// kReadRegisters: registers of a mailbox whose key begins with `prefix`, after `after`.
struct ReadRegistersRequest {
  MailboxId mailbox;
  std::string prefix;
  std::string after;
  std::uint32_t limit = 1000;
  bool versioned = false;  // Say the version of all that begin with it, too.
  FIELDS(mailbox, prefix, after, limit, versioned)
};
struct RegisterItem {
  std::string key;
  Blob value;
  EntryId stamp;
  std::uint8_t merge = 1;  // storage::MergeKind
  FIELDS(key, value, stamp, merge)
};
struct ReadRegistersReply {
  std::vector<RegisterItem> items;
  std::uint64_t version = 0;  // register_versions.h; 0: not known.
  // Not on the wire: every home owner answered, and none of them is behind, so nothing acknowledged is missing. Of
  // fewer it may be: the copy that one of them lacks can be a stand-in's still.
  bool of_all = false;
  FIELDS(items, version)
};

// kLane: where a lane ends, as far as this owner knows.
struct LaneQuery {
  MailboxId mailbox;
  DeviceId device;
  std::uint64_t lane = 0;
  FIELDS(mailbox, device, lane)
};
struct LaneAnswer {
  std::uint64_t high = 0;
  FIELDS(high)
};

}  // namespace starling::node
