// MemberRecord: what a node says about itself, signed by its own key, so that nobody else can.
//
// A record travels as the bytes its node signed (SignedRecord), never packed anew: a newer node's
// extra fields survive the journey through older ones. The incarnation orders the records of a
// node; only the node itself raises it (SWIM, DSN 2002, section 4.2).
// Thread: any; value types.   In packets: swim_wire.h.
#pragma once

#include <cstdint>
#include <string>

#include "crypto/access/identity.h"
#include "crypto/msgpack.h"
#include "crypto/result.h"
#include "overlay/links/wire.h"
#include "storage/ids.h"

namespace starling::overlay {

inline constexpr std::size_t kEndpointTextMax = 116;  // "unix:" and the longest socket path.
inline constexpr std::size_t kVersionTextMax = 32;
inline constexpr std::size_t kRecordSizeMax = 800;  // Signed and packed.
// Incarnations above are not taken from anybody, so that a node can always go one higher.
inline constexpr std::uint64_t kIncarnationMax = std::uint64_t{1} << 62;

struct MemberRecord {
  NodeId node;  // Fingerprint of `key`.
  PublicKey key;
  std::uint64_t incarnation = 0;
  std::string gossip;  // Endpoint texts: datagrams,
  std::string link;    // node links,
  std::string client;  // clients,
  std::string admin;   // the admin door.
  std::string zone;
  std::uint32_t weight = 1;
  WriterId writer;  // Of the node's changes. After a clean stop the next run goes on under it.
  std::uint16_t wire_min = kWireVersionMin;
  std::uint16_t wire_max = kWireVersionMax;
  RingNumber ring;  // Newest ring version known when signed.
  bool catching_up = false;
  bool draining = false;
  bool read_only = false;
  std::int64_t wall_ms = 0;  // The node's clock when signed.
  std::uint32_t sessions = 0;
  std::string version;  // Of the program, for people.
  bool proves = false;  // Its datagrams carry a proof (swim_wire.h): none without one is its own.
  std::uint32_t run = 0;  // Random for each run of the process, which counts its datagrams from 1. 0: an older program.
  friend bool operator==(const MemberRecord&, const MemberRecord&) = default;
  FIELDS(node, key, incarnation, gossip, link, client, admin, zone, weight, writer,
                       wire_min, wire_max, ring, catching_up, draining, read_only, wall_ms,
                       sessions, version, proves, run)
};

struct SignedRecord {
  Blob body;  // A packed MemberRecord.
  Signature signature;
  FIELDS(body, signature)
};

// kTooLarge for a text over its limit, kInvalid for an incarnation over kIncarnationMax.
Status check_record(const MemberRecord& record);

// The packed SignedRecord. REQUIRES: check_record(record), and record.key is that of `identity`.
Bytes sign_record(const MemberRecord& record, const Identity& identity);

// Reads without believing: for a cheap look at node and incarnation. kCorrupt, and as check_record.
Result<MemberRecord> read_record(View signed_bytes);

// kDenied unless the record's key signed `signed_bytes` and its id is the fingerprint of that key.
// REQUIRES: `record` came from read_record(signed_bytes).
Status verify_record(const MemberRecord& record, View signed_bytes);

}  // namespace starling::overlay
