// Bodies of the node-to-node methods of replication, coordination, following and reading
// (overlay/links/wire.h has the numbers). One msgpack array each: new fields go to the end.
// docs/node-protocol.md says the same in prose.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "crypto/msgpack.h"
#include "storage/change.h"
#include "storage/store.h"

namespace starling::node {

inline constexpr std::size_t kReplicateBytesMax = 1 << 20;   // Of changes in one frame.
inline constexpr std::size_t kFetchBytesMax = 128 << 10;  // Some milliseconds of a loop, to read or to apply.
inline constexpr std::size_t kReadChangesMax = 500;
inline constexpr std::size_t kReadBytesMax = 512 << 10;
inline constexpr std::size_t kComparePartitionsMax = 2048;
inline constexpr std::size_t kLanesMax = 10'000;  // In one answer.
static_assert(kFetchBytesMax + storage::kChangeSizeMax < (4u << 20), "an answer fits one frame");

// kReplicate (notice): runs of the sender's own writer.
struct Replicate {
  struct Run {
    PartitionId partition;
    std::uint64_t first = 0;        // changes[i] has n = first + i
    std::uint64_t settled = 0;      // Obligations of this writer up to here are met.
    std::vector<BlobView> changes;
    std::uint64_t covered = 0;      // 1..covered of this writer are on W home owners.
    FIELDS(partition, first, settled, changes, covered)
  };
  RingNumber ring;
  WriterId writer;
  std::vector<Run> runs;
  FIELDS(ring, writer, runs)
};

// kReplicated (notice): "of the writer of yours I have synced 1..n".
struct Replicated {
  struct Item {
    PartitionId partition;
    std::uint64_t n = 0;
    FIELDS(partition, n)
  };
  RingNumber ring;
  WriterId writer;
  std::vector<Item> items;
  FIELDS(ring, writer, items)
};

// kHint (notice): a Replicate for a node that is no owner, which holds it until the owners have it. The writer may be
// another's, whose change an owner met again (holding.h).
// kHinted (notice): "of that writer I have synced from..to".
struct Hinted {
  struct Item {
    PartitionId partition;
    std::uint64_t from = 0;
    std::uint64_t to = 0;
    FIELDS(partition, from, to)
  };
  RingNumber ring;
  WriterId writer;
  std::vector<Item> items;
  FIELDS(ring, writer, items)
};

// kCompare: first digests of spans of partitions; the answer has the spans that differ. Then, in those, digests
// of our partitions (digests.h); the answer has the vectors that differ. Who hands a partition over asks for
// `all`, equal or not: the answer has those that the answerer owns (architecture invariant 6).
inline constexpr std::size_t kSpanPartitions = 256;
struct CompareRequest {
  struct Item {
    PartitionId partition;
    std::uint64_t digest = 0;
    FIELDS(partition, digest)
  };
  struct Span {
    std::uint16_t number = 0;  // Partitions number * kSpanPartitions and the following.
    std::uint64_t digest = 0;
    FIELDS(number, digest)
  };
  RingNumber ring;
  std::vector<Item> items;  // Ascending. An empty vector has a digest, too.
  bool all = false;
  bool by_span = false;     // No items; spans that are not here are empty.
  std::vector<Span> spans;  // Ascending.
  FIELDS(ring, items, all, by_span, spans)
};
struct CompareReply {
  struct Item {
    PartitionId partition;
    storage::VersionVector vector;
    bool whole = true;  // Nothing of it is damaged there: only then the vector says what is covered.
    std::vector<Dot> lost;  // Under the vector, but written off there: who has them is asked for them.
    FIELDS(partition, vector, whole, lost)
  };
  RingNumber ring;
  std::vector<Item> items;
  bool more = false;  // Cut at a limit: ask again for the partitions behind the last one here.
  bool by_span = false;              // The answer to a request by span, under the same ring version:
  std::vector<std::uint16_t> spans;  // these differ.
  FIELDS(ring, items, more, by_span, spans)
};

// kFetch: "send me writer w from n", up to `to` unless that is 0. The answer is a storage::RangeStatement.
struct FetchRequest {
  PartitionId partition;
  WriterId writer;
  std::uint64_t from = 1;
  std::uint64_t to = 0;
  FIELDS(partition, writer, from, to)
};

// kLanes: lanes of a partition, in the order of their keys. They outlive the entries that raised them, so
// whoever fetches a run of which something is gone asks for them, too.
struct LanesRequest {
  PartitionId partition;
  std::vector<storage::LaneRow> after;  // Empty: from the first. Else the last one of the answer before.
  FIELDS(partition, after)
};
struct LanesReply {
  std::vector<storage::LaneRow> lanes;
  bool more = false;
  FIELDS(lanes, more)
};

// kMoveSettings, asked and answered: what operators said of the copying for changes of the ring, and when.
struct MoveSettings {
  bool paused = false;
  EntryId paused_said;     // Zero: never.
  std::uint64_t rate = 0;  // Bytes a second that a node fetches; 0: as many as it can.
  EntryId rate_said;
  FIELDS(paused, paused_said, rate, rate_said)
};

// kVerify: the digest of a partition's canonical export (storage/export.h) at a cut-off.
struct VerifyRequest {
  PartitionId partition;
  std::uint64_t cutoff_ms = 0;
  FIELDS(partition, cutoff_ms)
};
struct VerifyReply {
  std::uint64_t vector = 0;  // Digest of the vector that the export is of.
  Blob digest;
  std::uint64_t rows = 0;
  std::vector<Dot> damaged;
  std::vector<Dot> lost;
  bool refill = false;       // A file cannot be read: emptied and fetched again at the next start.
  FIELDS(vector, digest, rows, damaged, lost, refill)
};

// kHold: answered when the receiver has synced 1..n of the writer, fetching from the caller what it
// lacks. The answer is HoldReply.
struct HoldRequest {
  PartitionId partition;
  WriterId writer;
  std::uint64_t n = 0;
  FIELDS(partition, writer, n)
};
struct HoldReply {
  std::uint64_t synced = 0;
  FIELDS(synced)
};

// kFindKey: does this owner hold the key? A retry asks before it mints (hazards F10).
struct FindKeyRequest {
  MailboxId mailbox;
  MessageKey key;
  FIELDS(mailbox, key)
};
struct FindKeyReply {
  bool found = false;
  Dot dot;
  FIELDS(found, dot)
};

// kAppend: one send, from the sender's gateway to a coordinator of the mailbox; or, with `copy`, the
// sender's own copy, from the recipient's coordinator to a coordinator of the sender's mailbox.
inline constexpr std::uint8_t kAppendRetry = 1;
inline constexpr std::uint8_t kAppendVoid = 2;
inline constexpr std::uint8_t kAppendCopy = 4;    // id is given, no lane check.
inline constexpr std::uint8_t kAppendForce = 8;   // Every reachable owner is catching up: do it all the same.
// With kAppendCopy: the other way round, to the recipient's mailbox. The sender's own has the message at a
// smaller id, minted by another coordinator, and both sides sort a conversation alike (hazards F23).
inline constexpr std::uint8_t kAppendPosition = 16;
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
  // For kMember writes by an operator or a moderator: the coordinator reads the present value, keeps or
  // raises the generation, and writes the new one.
  bool member_change = false;
  // Not zero: the stamp that the value was derived from. kExists when the register has another by now.
  EntryId expected;
  FIELDS(ring, mailbox, merge, stamp, key, value, flags, member_change, expected)
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
  FIELDS(items, version)
};

// kFollow: from now on push me every change of these mailboxes that you sync; with `resume`, first
// what the vector does not cover. The vector is that of the mailbox at the gateway: one for the whole
// partition could name changes of other mailboxes that an owner who lags had not pushed of this one.
struct FollowRequest {
  struct Item {
    MailboxId mailbox;
    bool resume = false;
    storage::VersionVector vector;
    FIELDS(mailbox, resume, vector)
  };
  RingNumber ring;
  PartitionId partition;
  std::uint64_t stream = 0;  // Chosen by the gateway; a new number replaces the old stream.
  std::vector<Item> items;
  FIELDS(ring, partition, stream, items)
};
struct FollowReply {
  storage::VersionVector vector;  // What is synced; later syncs are pushed.
  std::vector<MailboxId> behind;  // To resume here is more than is pushed at once: read instead.
  FIELDS(vector, behind)
};
// kUnfollow (notice).
struct Unfollow {
  PartitionId partition;
  std::uint64_t stream = 0;
  std::vector<MailboxId> mailboxes;  // Empty: the whole stream.
  FIELDS(partition, stream, mailboxes)
};
// kPush (notice).
struct PushedChange {
  Dot dot;
  BlobView change;
  FIELDS(dot, change)
};
struct Push {
  struct Stream {
    PartitionId partition;
    std::uint64_t stream = 0;
    std::vector<PushedChange> changes;
    // Written off once, and got back: under every vector by now (decision 0027).
    std::vector<PushedChange> regained;
    FIELDS(partition, stream, changes, regained)
  };
  std::vector<Stream> streams;
  FIELDS(streams)
};

// kRead: changes of a mailbox after a cursor.
struct ReadRequest {
  RingNumber ring;
  MailboxId mailbox;
  storage::VersionVector cursor;
  bool entries_only = false;  // Leave registers out: a roster is asked for in pages (hazards F46).
  FIELDS(ring, mailbox, cursor, entries_only)
};
struct ReadReply {
  struct Item {
    Dot dot;
    Blob change;
    FIELDS(dot, change)
  };
  std::vector<Item> changes;
  storage::VersionVector cursor;
  bool more = false;
  FIELDS(changes, cursor, more)
};

// kHeads: which of these mailboxes have more than the cursors that the digests are of? One request for
// all mailboxes of a login that the asked node owns (hazards F27).
inline constexpr std::size_t kHeadsMax = 2048;
struct HeadsRequest {
  struct Item {
    MailboxId mailbox;
    std::uint64_t digest = 0;
    FIELDS(mailbox, digest)
  };
  RingNumber ring;
  std::vector<Item> items;
  FIELDS(ring, items)
};
struct HeadsReply {
  struct Refused {
    MailboxId mailbox;
    std::uint8_t code = 0;  // Errc: kNotOwner, kCorrupt.
    FIELDS(mailbox, code)
  };
  std::vector<MailboxId> changed;
  std::vector<Refused> refused;
  bool behind = false;  // The node catches up: ask another as well.
  FIELDS(changed, refused, behind)
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

// kNodeInfo: mailboxes of the partitions of which the asked node comes first in `asked` of all owners, so that together
// they list each once, whatever they think of each other; by kind, in the order of their ids.
struct DirectoryRequest {
  std::uint8_t sigil = '@';
  MailboxId after;           // Zero: from the first.
  std::uint32_t limit = 1000;
  std::vector<NodeId> asked;  // Empty, as older nodes ask: what the asked one coordinates.
  FIELDS(sigil, after, limit, asked)
};
struct DirectoryReply {
  struct Item {
    std::string address;
    std::uint64_t created_ms = 0;
    bool disabled = false;
    std::uint32_t count = 0;  // Groups of a user, members of a group.
    FIELDS(address, created_ms, disabled, count)
  };
  std::vector<Item> items;
  MailboxId last;
  bool more = false;
  FIELDS(items, last, more)
};

// kFindCopy: what the asked node has of one message, by its position (then `key` is zero) or its key; and
// of each of `dots`.
inline constexpr std::size_t kFindDotsMax = 64;
struct FindCopyRequest {
  PartitionId partition;
  MailboxId mailbox;
  EntryId id;
  MessageKey key;
  std::vector<Dot> dots;
  FIELDS(partition, mailbox, id, key, dots)
};
enum class CopyState : std::uint8_t {
  kAbsent = 0,   // Not here yet.
  kHeld = 1,     // Accepted, not yet synced.
  kSynced = 2,
  kDamaged = 3,
  kLost = 4,     // No copy was left anywhere.
  kGone = 5,     // Seen once; expired, or known to be gone.
  kHint = 6,     // Held for the owners, as a stand-in.
};
struct FindCopyReply {
  struct Copy {
    Dot dot;
    std::uint8_t state = 0;  // CopyState
    FIELDS(dot, state)
  };
  bool found = false;        // Key, position and who wrote it are known here.
  MessageKey key;
  EntryId id;
  std::string from;
  std::string to;
  bool is_void = false;
  bool whole = true;         // Nothing of the partition is damaged here.
  std::vector<Copy> copies;
  std::vector<NodeId> followers;  // Gateways that follow the mailbox here.
  FIELDS(found, key, id, from, to, is_void, whole, copies, followers)
};

// kHistory: entries of a conversation below `before` (zero: newest), newest first. Answer: ReadReply.
struct HistoryRequest {
  MailboxId mailbox;
  MailboxId conversation;
  EntryId before;
  std::uint32_t limit = 50;
  FIELDS(mailbox, conversation, before, limit)
};

}  // namespace starling::node
