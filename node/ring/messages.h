// Bodies of the node-to-node methods of the ring (overlay/links/wire.h has the numbers). `partitions` of those about
// names: replication/messages.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "crypto/access/identity.h"
#include "crypto/msgpack.h"
#include "storage/ids.h"

namespace starling::node {

// kJoin: a node that holds an invite asks to be a member. The link proved that it holds the secret and
// the key; the invite, whole, proves that somebody asked it in, and until when.
struct JoinRequest {
  PublicKey key;
  std::string invite;
  std::string zone;
  std::uint32_t weight = 100;
  std::string link;           // Endpoint where members reach it.
  std::int64_t wall_ms = 0;
  NodeId replaces;            // A dead node whose place it takes; zero: none.
  FIELDS(key, invite, zone, weight, link, wall_ms, replaces)
};
struct JoinReply {
  Blob ring;                        // The version that names the joiner.
  std::vector<std::string> seeds;   // Link endpoints of members.
  Blob keyring;                     // As its file: a rotation may be under way. Older members leave it out.
  FIELDS(ring, seeds, keyring)
};

// Members keep so many ring versions; older ones are forgotten. A partition none of whose owners could take over its
// names for so long decides no more names.
inline constexpr std::uint64_t kRingHistoryMax = 256;

// kRingGet: the version of that number, or (zero) the newest known. kRingDecided (notice) carries one, too.
struct RingGetRequest {
  RingNumber number;
  FIELDS(number)
};
struct RingAnswer {
  Blob ring;
  FIELDS(ring)
};

// kRingProgress: a joiner covers what it will own; a member may complete the change.
struct RingProgress {
  RingNumber ring;
  FIELDS(ring)
};

// kKeys, asked and answered: the keyring of the sender, as its file. Both sides merge.
struct KeysExchange {
  Blob keyring;
  FIELDS(keyring)
};

// kStanding, asked with an empty body: does the newest version known here name the asker?
struct StandingReply {
  RingNumber ring;
  bool known = false;
  FIELDS(ring, known)
};

// kMovement, asked with an empty body: how far is this node with what a change of the ring asks of it?
struct MovementReply {
  RingNumber ring;
  bool installed = true;        // What it gains by the change under way.
  std::uint64_t missing = 0;    // Changes that it lacks yet.
  std::uint32_t leaving = 0;    // Partitions that it hands over,
  std::uint32_t names = 0;      // and those of which it answers for names.
  bool safe = false;            // It left, and nobody needs it any more.
  std::string waits_for;        // Why it does not get on; empty when it does.
  std::uint32_t partitions = 0;       // That it gains,
  std::uint32_t partitions_done = 0;  // and has in full.
  std::uint64_t changes = 0;          // In those, and
  std::uint64_t changes_done = 0;     // how many of them it has.
  std::uint64_t bytes = 0;            // That came in this run of the node,
  std::uint64_t bytes_left = 0;       // are still to come, by estimate, and
  std::uint64_t rate = 0;             // come in a second.
  std::vector<NodeId> needs;          // Who is away, and has what it needs to know all that was acknowledged.
  struct Newest {
    NodeId node;
    std::uint64_t ms = 0;
    FIELDS(node, ms)
  };
  std::vector<Newest> newest;         // Of members that are away: when the last change was made that came from them.
  std::uint32_t ring_format = 3;      // The newest that it can read; older nodes leave it out.
  struct Lag {
    std::string zone;
    std::uint64_t changes = 0;
    std::uint64_t ms = 0;
    FIELDS(zone, changes, ms)
  };
  // Of what this node accepted at home: what has not come to each other site, and since when. Left out: not known yet.
  std::vector<Lag> lags;
  // Of doubling the partitions (docs/decisions/0025); older nodes leave it out, and cannot follow one anyway.
  std::uint32_t partitions_of = 0;  // So many its store is split into.
  std::uint32_t split_share = 100;  // Percent of its rows that lie where that says; 100: all.
  std::uint64_t damaged = 0;        // Partitions of which something cannot be read here.
  std::uint64_t store_bytes = 0;    // Of its table files;
  std::uint64_t room_bytes = 0;     // and what fits on its disk before it turns read-only.
  FIELDS(ring, installed, missing, leaving, names, safe, waits_for, partitions, partitions_done, changes,
         changes_done, bytes, bytes_left, rate, needs, newest, ring_format, lags, partitions_of, split_share,
         damaged, store_bytes, room_bytes)
};

// kSeal: "the owners of these partitions are others since these ring versions; vote no more under older
// ones, and say under which you voted last". Answered once that is durable (tenure.h). Without items: "who left, and is
// needed no more?"; `safe`, of one that left: "I am not" (repair/farewell.h).
struct SealRequest {
  struct Item {
    PartitionId partition;
    RingNumber term;
    FIELDS(partition, term)
  };
  RingNumber ring;
  std::vector<Item> items;
  bool safe = false;
  LineageId lineage;  // Where nothing else is asked: who is safe is so in one lineage.
  std::uint32_t partitions = 0;
  FIELDS(ring, items, safe, lineage, partitions)
};
struct SealReply {
  struct Item {
    PartitionId partition;
    RingNumber from;   // Could vote from this version,
    RingNumber until;  // to this one; zero: still.
    bool empty = false;  // No name of the partition was ever voted on here.
    FIELDS(partition, from, until, empty)
  };
  struct Safe {
    NodeId node;
    RingNumber ring;  // Under which it said so first.
    FIELDS(node, ring)
  };
  RingNumber ring;
  std::vector<Item> items;
  std::vector<Safe> safe;  // To a request without items.
  std::uint32_t partitions = 0;
  FIELDS(ring, items, safe, partitions)
};

// kHandOver: the acceptor states of a partition's names, in the order of their instances, after `after`.
struct HandOverRequest {
  RingNumber ring;
  PartitionId partition;
  RingNumber term;
  Blob after;
  std::uint32_t partitions = 0;
  FIELDS(ring, partition, term, after, partitions)
};
struct HandOverReply {
  struct Item {
    Blob instance;
    Blob state;  // overlay::AcceptorState
    FIELDS(instance, state)
  };
  std::vector<Item> items;
  bool more = false;
  FIELDS(items, more)
};

}  // namespace starling::node
