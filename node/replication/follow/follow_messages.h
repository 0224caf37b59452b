// Bodies of the node-to-node methods of following and reading: what a gateway asks the owners of mailboxes for its
// sessions (overlay/links/wire.h has the numbers). One msgpack array each: new fields go to the end.
// docs/node-protocol.md says the same in prose. `partitions`: messages.h.
#pragma once

#include <cstdint>
#include <vector>

#include "crypto/msgpack.h"
#include "storage/ids.h"
#include "storage/trace.h"
#include "storage/version_vector.h"

namespace starling::node {

inline constexpr std::size_t kReadChangesMax = 500;
inline constexpr std::size_t kReadBytesMax = 512 << 10;

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
  std::uint32_t partitions = 0;
  FIELDS(ring, partition, stream, items, partitions)
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
  std::uint32_t partitions = 0;
  FIELDS(partition, stream, mailboxes, partitions)
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
  std::uint32_t partitions = 0;
  FIELDS(streams, partitions)
};

// kRead: changes of a mailbox after a cursor.
struct ReadRequest {
  RingNumber ring;
  MailboxId mailbox;
  storage::VersionVector cursor;
  bool entries_only = false;  // Leave registers out: a roster is asked for in pages (hazards F46).
  // Changes of the mailbox beyond the cursor that the asker knows of, pushed to others there. What of them is gone by
  // now is in no page: the last one's cursor says that they are passed.
  std::vector<Dot> pushed;
  FIELDS(ring, mailbox, cursor, entries_only, pushed)
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
  std::vector<storage::Trace> lost;  // Messages of this page that were written off.
  std::vector<Dot> ahead;            // Of the asked cursor: what this owner has not come to.
  FIELDS(changes, cursor, more, lost, ahead)
};

// kHeads: which of these mailboxes have more than the cursors that the digests are of? One request for
// all mailboxes of a login that the asked node owns (hazards F27).
// And, of the asked node's own writer: which of these numbers, which devices claim to have, did it never give out?
inline constexpr std::size_t kHeadsMax = 2048;
struct HeadsRequest {
  struct Item {
    MailboxId mailbox;
    std::uint64_t digest = 0;
    FIELDS(mailbox, digest)
  };
  struct Claim {
    MailboxId mailbox;
    Dot dot;
    FIELDS(mailbox, dot)
  };
  RingNumber ring;
  std::vector<Item> items;
  std::vector<Claim> claims;
  FIELDS(ring, items, claims)
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
  std::vector<HeadsRequest::Claim> unissued;
  FIELDS(changed, refused, behind, unissued)
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
