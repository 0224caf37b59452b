// Bodies of the node-to-node methods between owners, replication and catching up, and of what operators ask
// (overlay/links/wire.h has the numbers). Sends: append_messages.h; what gateways follow: follow_messages.h.
// One msgpack array each: new fields go to the end. docs/node-protocol.md says the same in prose.
// `partitions`, last in what names a partition: how many there are at the sender, since the number says nothing without
// that (decision 0025). 0, of older nodes: as many as owners were placed by. Who counts others answers kStaleRing, or
// passes the notice over (ClusterView::same_count).
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
  std::uint32_t partitions = 0;
  FIELDS(ring, writer, runs, partitions)
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
  std::uint32_t partitions = 0;
  FIELDS(ring, writer, items, partitions)
};

// kHint (notice): a Replicate for a node that is no owner, which holds it until the owners have it. The writer may be
// another's, whose change an owner met again (holding.h); `covered` is what that owner has itself, then.
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
  std::uint32_t partitions = 0;
  FIELDS(ring, writer, items, partitions)
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
  std::uint32_t partitions = 0;
  FIELDS(ring, items, all, by_span, spans, partitions)
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
  std::uint32_t partitions = 0;      // An older node that was removed answers what it was not asked.
  bool held = false;  // Something of what was asked for by partition is held there and did not come to the asker (stand_in.h).
  FIELDS(ring, items, more, by_span, spans, partitions, held)
};

// kFetch: "send me writer w from n", up to `to` unless that is 0. The answer is a storage::RangeStatement.
struct FetchRequest {
  PartitionId partition;
  WriterId writer;
  std::uint64_t from = 1;
  std::uint64_t to = 0;
  std::uint32_t partitions = 0;
  FIELDS(partition, writer, from, to, partitions)
};

// kLanes: lanes of a partition, in the order of their keys. They outlive the entries that raised them, so
// whoever fetches a run of which something is gone asks for them, too.
struct LanesRequest {
  PartitionId partition;
  std::vector<storage::LaneRow> after;  // Empty: from the first. Else the last one of the answer before.
  std::uint32_t partitions = 0;
  FIELDS(partition, after, partitions)
};
struct LanesReply {
  std::vector<storage::LaneRow> lanes;
  bool more = false;
  std::vector<NodeId> owed;  // Owners whose lanes the peer has yet to merge: so has who takes runs from it.
  FIELDS(lanes, more, owed)
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
  std::uint32_t partitions = 0;
  FIELDS(partition, cutoff_ms, partitions)
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
  std::uint32_t partitions = 0;
  FIELDS(partition, writer, n, partitions)
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
  Dot dot;  // Not found: of what was written off here, and may come back; zero: there is none.
  FIELDS(found, dot)
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
  std::uint32_t partitions = 0;
  FIELDS(partition, mailbox, id, key, dots, partitions)
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
  bool written_off = false;       // No copy of it was left.
  bool is_expired = false;
  std::uint64_t expires_s = 0;    // 0: never, or not known.
  bool is_past = false;           // Asked for by key: its lane has come beyond it here, so it was here once.
  std::vector<NodeId> held_for;   // Home owners that do not have yet what is held here.
  bool is_cut = false;            // So much is held here that not all of it was looked through.
  FIELDS(found, key, id, from, to, is_void, whole, copies, followers, written_off, is_expired, expires_s, is_past,
         held_for, is_cut)
};

}  // namespace starling::node
