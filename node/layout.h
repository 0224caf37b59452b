// Layout: the rows that the node keeps beside the store's own, in the families `node` and `paxos` (storage/layout.h has
// all others). Nothing else knows their bytes; golden: tests/golden/row_*, by tests/node/layout_test.cc.
//
// family  key                                      value
// node    "identity"                               the seed of the key pair: 32 bytes
// node    "keyring"                                a keyring's file (crypto/access/keyring.h)
// node    "ring"                                   the newest ring version (overlay/ring/ring_version.h)
// node    "ring/" number:u64be                     and each of the last of them
// node    "peers"                                  [address], msgpack: of the links of members, for the next start
// node    "runs"                                   [run], msgpack: of the process, under the present writer (MemberRecord::run)
// node    "movement"                               MoveSettings (replication/messages.h)
// node    "covered"                                number: the ring version as of which all that was acknowledged is here
// node    "settled/" partition:u16be writer:u64be  number: obligations of the writer up to here are met
// node    "lanes_owed/" partition:u16be node:16    "1": the lanes of that owner are still to be merged
// node    "spent"                                  number: the period of the last turn of the pruner
// node    "spent/" partition:u16be                 SpentRows
// node    "gone_issuer/" node:16                   wall ms:u64le: since then the node is no member
// node    "farewell"                               "1": nobody needs this node any more
// node    "scrub"                                  where a walk stands (Store::scrub); empty between walks
// node    "scrubbed"                               number: wall ms of the begin of the last walk
// paxos   "tenure"                                 number: the ring version that the tenures are as of
// paxos   "tenure/" partition:u16be                TenureRow
// paxos   "farewell/" node:16                      number: the ring version at which it said that it is safe
// paxos   "ring" lineage:16 number:u64be           AcceptorState (overlay/ring/paxos.h), of a ring version
// paxos   "name/" mailbox:16 address               AcceptorState, of a name
//
// number := u64be
// Thread: any; pure.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "crypto/msgpack.h"
#include "storage/ids.h"

namespace starling::node {

inline constexpr View kIdentityKey = "identity";
inline constexpr View kKeyringKey = "keyring";
inline constexpr View kRingKey = "ring";
inline constexpr View kRingHistoryPrefix = "ring/";
inline constexpr View kPeersKey = "peers";
inline constexpr View kRunsKey = "runs";
inline constexpr View kMoveSettingsKey = "movement";
inline constexpr View kCoveredKey = "covered";
inline constexpr View kSettledPrefix = "settled/";
inline constexpr View kLanesOwedPrefix = "lanes_owed/";
inline constexpr View kSpentPeriodKey = "spent";
inline constexpr View kSpentPrefix = "spent/";
inline constexpr View kGoneIssuerPrefix = "gone_issuer/";
inline constexpr View kFarewellKey = "farewell";
inline constexpr View kScrubKey = "scrub";
inline constexpr View kScrubbedKey = "scrubbed";

inline constexpr View kTenureKey = "tenure";
inline constexpr View kTenurePrefix = "tenure/";
inline constexpr View kFarewellPrefix = "farewell/";
inline constexpr View kRingInstances = "ring";   // overlay::next_instance
inline constexpr View kNameInstances = "name/";

// --- Keys. ---

inline Bytes row_key(View prefix, PartitionId partition) {
  Bytes key(prefix);
  BytesWriter(key).u16be(partition.value);
  return key;
}
inline Bytes row_key(View prefix, const NodeId& node) { return Bytes(prefix).append(node.view()); }
inline Bytes ring_history_key(RingNumber number) {
  Bytes key(kRingHistoryPrefix);
  BytesWriter(key).u64be(number.value);
  return key;
}
inline Bytes settled_key(PartitionId partition, WriterId writer) {
  Bytes key = row_key(kSettledPrefix, partition);
  BytesWriter(key).u64be(writer.value);
  return key;
}
inline Bytes lanes_owed_key(PartitionId partition, const NodeId& owner) {
  return row_key(kLanesOwedPrefix, partition).append(owner.view());
}
inline Bytes name_instance(const MailboxId& mailbox, View address) {
  return Bytes(kNameInstances).append(mailbox.view()).append(address);
}

// A parser returns nothing for bytes of another shape. REQUIRES of all keys: they begin with their prefix.
inline std::optional<PartitionId> parse_partition_of(View key, View prefix) {
  BytesReader in(key.substr(prefix.size()));
  const PartitionId partition{in.u16be()};
  if (!in.done()) return std::nullopt;
  return partition;
}
inline std::optional<NodeId> parse_node_of(View key, View prefix) {
  NodeId node;
  if (!NodeId::from(key.substr(prefix.size()), node)) return std::nullopt;
  return node;
}
inline std::optional<RingNumber> parse_ring_history_key(View key) {
  BytesReader in(key.substr(kRingHistoryPrefix.size()));
  const RingNumber number{in.u64be()};
  if (!in.done()) return std::nullopt;
  return number;
}
inline std::optional<std::pair<PartitionId, WriterId>> parse_settled_key(View key) {
  BytesReader in(key.substr(kSettledPrefix.size()));
  const PartitionId partition{in.u16be()};
  const WriterId writer{in.u64be()};
  if (!in.done()) return std::nullopt;
  return std::pair{partition, writer};
}
inline std::optional<std::pair<PartitionId, NodeId>> parse_lanes_owed_key(View key) {
  BytesReader in(key.substr(kLanesOwedPrefix.size()));
  const PartitionId partition{in.u16be()};
  NodeId owner;
  if (!in.ok() || !NodeId::from(in.rest(), owner)) return std::nullopt;
  return std::pair{partition, owner};
}
// Where the mailbox of a name lies.
inline std::optional<Slot> parse_name_slot(View instance) {
  if (instance.size() < kNameInstances.size() + MailboxId::kSize) return std::nullopt;
  return BytesReader(instance.substr(kNameInstances.size())).u16be();
}

// --- Values. ---

inline Bytes row_number(std::uint64_t n) {
  Bytes value;
  BytesWriter(value).u64be(n);
  return value;
}
inline std::optional<std::uint64_t> parse_row_number(View value) {
  BytesReader in(value);
  const std::uint64_t n = in.u64be();
  if (!in.done()) return std::nullopt;
  return n;
}

inline Bytes gone_issuer_value(std::int64_t wall_ms) {
  Bytes value;
  BytesWriter(value).u64le(static_cast<std::uint64_t>(wall_ms));
  return value;
}
inline std::optional<std::int64_t> parse_gone_issuer(View value) {
  BytesReader in(value);
  const auto wall_ms = static_cast<std::int64_t>(in.u64le());
  if (!in.done()) return std::nullopt;
  return wall_ms;
}

// Of a partition that this node owns, or owned: in which terms it votes on names. Kept for ever.
struct TenureRow {
  RingNumber term;   // The present one; zero when we are no owner.
  RingNumber from;   // The last term that we could vote in,
  RingNumber until;  // up to this version; zero: still.
  FIELDS(term, from, until)
};

// Runs of which nothing is left but their entry in the vector.
struct SpentRow {
  WriterId writer;
  std::uint64_t n = 0;      // 1..n of it are gone.
  std::uint64_t since = 0;  // Ms; no change of it came since then.
  bool forgotten = false;   // Taken out of the vector.
  FIELDS(writer, n, since, forgotten)
};
struct SpentRows {
  std::vector<SpentRow> rows;
  FIELDS(rows)
};

using PeersRow = std::vector<std::string>;
using RunsRow = std::vector<std::uint32_t>;

}  // namespace starling::node
