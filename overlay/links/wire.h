// The node wire: what nodes say to each other over a link (the datagrams of SWIM are in swim.h).
//
// link    := Noise XXpsk3 handshake, whose payloads carry Hello, then sealed messages
// message := size:u16le sealed[size]                      (Noise transport message, at most 65,535)
// plain   := frames laid end to end; a frame may continue in the next message
// frame   := size:u32le type:u8 flags:u8 method:u16le request:u64le body[size]
//
// `size` counts the body only. A body is one msgpack value: messages.h beside each service. A response
// repeats the request number; flags bit 0 says that its body is a WireError. A deadline is the caller's
// own affair: requests are handled as they arrive, so there is nothing for a receiver to skip.
// Numbers are never reused. docs/node-protocol.md says the same in prose.
#pragma once

#include <cstdint>

#include "storage/ids.h"

namespace starling::overlay {

inline constexpr std::uint16_t kWireVersionMin = 1;  // Oldest peer we can talk to.
inline constexpr std::uint16_t kWireVersionMax = 1;  // What we speak when the peer can.

enum class FrameType : std::uint8_t { kRequest = 1, kResponse = 2, kNotice = 3 };
inline constexpr std::uint8_t kFrameFlagError = 1;
inline constexpr std::size_t kFrameHeaderSize = 4 + 1 + 1 + 2 + 8;

inline constexpr std::size_t kZoneSizeMax = 32;  // Of a member's zone, in bytes.

inline constexpr std::size_t kFrameBodySizeMax = 4 << 20;
inline constexpr std::size_t kLinkQueueBytesMax = 64 << 20;  // Above: calls fail kOverloaded.
inline constexpr std::size_t kRequestsInFlightMax = 65536;   // Per link. Above: kOverloaded.

// What a node can beyond its wire version. Both sides of a link use what both have; a bit means the
// same for ever.
enum class Feature : std::uint64_t {
  kKeyExchange = 1,  // Method::kKeys
};
inline constexpr std::uint64_t kFeatures = static_cast<std::uint64_t>(Feature::kKeyExchange);

// Sent inside the handshake by both sides, so it is authenticated and encrypted.
struct Hello {
  std::uint16_t version_min = kWireVersionMin;
  std::uint16_t version_max = kWireVersionMax;
  LineageId lineage;          // Zero for a node that is not in a cluster yet.
  RingNumber ring;            // Newest ring version known.
  WriterId writer;            // The run of the process.
  std::int64_t wall_ms = 0;   // Clock; any number, when the peer means ill.
  std::uint64_t features = 0;  // What the sender can; older nodes say nothing.
  [[nodiscard]] bool has(Feature feature) const {
    return (features & kFeatures & static_cast<std::uint64_t>(feature)) != 0;
  }
  FIELDS(version_min, version_max, lineage, ring, writer, wall_ms, features)
};

struct WireError {
  std::uint8_t code = 0;
  std::string text;
  FIELDS(code, text)
};

enum class Method : std::uint16_t {
  kPing = 0,  // Asked and answered by the links themselves, with empty bodies.
  // Membership.
  kPushPull = 1,
  kJoin = 2,
  kKeys = 3,
  // Ring versions and Paxos.
  kPaxos = 10,
  kRingGet = 11,
  kRingDecided = 12,  // notice
  kRingProgress = 13,
  kSeal = 14,
  kHandOver = 15,
  kInstalled = 16,
  kStanding = 17,
  kMovement = 18,
  kMoveSettings = 19,
  // Replication.
  kReplicate = 20,   // notice
  kReplicated = 21,  // notice
  kCompare = 22,
  kFetch = 23,
  kHold = 24,
  kFindKey = 25,
  kHint = 26,    // notice
  kHinted = 27,  // notice
  kLanes = 28,
  kVerify = 29,
  // Coordination.
  kAppend = 30,
  kWriteRegister = 31,
  kReadRegisters = 32,
  // Following and reading.
  kFollow = 40,
  kUnfollow = 41,  // notice
  kPush = 42,      // notice
  kRead = 43,
  kHistory = 44,
  kLane = 45,
  kHeads = 46,
  // Operators.
  kNodeInfo = 50,
  kFindCopy = 51,
};

}  // namespace starling::overlay
