// Bodies of the node-to-node methods of the ring (overlay/wire.h has the numbers).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "crypto/identity.h"
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
  MSGPACK_DEFINE_ARRAY(key, invite, zone, weight, link, wall_ms)
};
struct JoinReply {
  Blob ring;                        // The version that names the joiner.
  std::vector<std::string> seeds;   // Link endpoints of members.
  MSGPACK_DEFINE_ARRAY(ring, seeds)
};

// kRingGet: the newest version known. kRingDecided (notice) carries the same.
struct RingAnswer {
  Blob ring;
  MSGPACK_DEFINE_ARRAY(ring)
};

// kRingProgress: a joiner covers what it will own; a member may complete the change.
struct RingProgress {
  RingNumber ring;
  MSGPACK_DEFINE_ARRAY(ring)
};

}  // namespace starling::node
