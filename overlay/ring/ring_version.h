// RingVersion: the agreed value that says who is in the cluster and who owns what.
//
// Versions are numbered 1, 2, 3 ... Version 1 is the first node alone; each later one is decided by
// Paxos among the voters of the one before. How one follows from another: ring_change.h.
// Invariants: (1) every version in use passed validate(), ours and those of peers alike;
//             (2) an invite is of one member, those that are gone included: it is good once in the
//                 whole cluster, whichever members it is shown to;
//             (3) who is revoked is being removed, or gone: its word counts for nothing.
// Thread: any; value type.   On the wire and on disk: one msgpack array, format number first. A
// version keeps the format of the one before it until it says what that format cannot.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "crypto/access/identity.h"
#include "crypto/access/invite.h"
#include "crypto/msgpack.h"
#include "crypto/result.h"
#include "overlay/ring/paxos_wire.h"
#include "overlay/ring/sites.h"
#include "storage/ids.h"

namespace starling::overlay {

inline constexpr std::uint32_t kRingFormat = 5;         // The newest;
inline constexpr std::uint32_t kRingFormatDoubled = 5;  // this one can say units;
inline constexpr std::uint32_t kRingFormatSites = 4;    // this one a policy of sites;
inline constexpr std::uint32_t kRingFormatRule = 3;     // this one can change the rule;
inline constexpr std::uint32_t kRingFormatFirst = 2;    // of a new cluster; 1 had no rule or revoked.
inline constexpr std::size_t kRingMembersMax = 4096;  // Those that left or were removed included.
inline constexpr std::size_t kRingGoneMembersMax = 256;  // The oldest are forgotten.
inline constexpr std::size_t kRingBatchMax = 256;        // Nodes in one change.
inline constexpr std::uint64_t kRingNumberMax = std::uint64_t{1} << 48;
inline constexpr std::uint32_t kPartitionsMax = 65536;
inline constexpr std::uint8_t kCopiesMax = 7;
inline constexpr std::uint32_t kWeightMax = 1000;
inline constexpr std::uint32_t kWeightDefault = 100;
inline constexpr std::size_t kRingMemberSizeMax = 128;  // Encoded.
static_assert(kRingMembersMax * kRingMemberSizeMax < kPaxosValueSizeMax, "a version is a value");

enum class RingMemberState : std::uint8_t {
  kServing = 1,
  kJoining = 2,   // Intent: not an owner and no voter yet.
  kLeaving = 3,   // Intent: still an owner and a voter.
  kRemoving = 4,  // Intent: given up by the others; counted as an owner, but no voter.
  kLeft = 5,      // Owner of nothing; hands over what it still holds.
  kRemoved = 6,   // Same, without its consent; its id never serves again.
};

enum class RingChange : std::uint8_t {
  kNone = 0,
  kJoin = 1,
  kLeave = 2,
  kRemove = 3,
  kWeight = 4,
  kReplace = 5,  // A dead node by a new one.
  kRule = 6,     // From kHashed to kEven.
  kSites = 7,    // Another policy of sites, or none.
};

// How partitions are placed (placement.h). A number means the same owners for ever.
enum class PlacementRule : std::uint8_t {
  kHashed = 1,
  kEven = 2,
};

}  // namespace starling::overlay

MSGPACK_ADD_ENUM(starling::overlay::RingMemberState)
MSGPACK_ADD_ENUM(starling::overlay::PlacementRule)
MSGPACK_ADD_ENUM(starling::overlay::RingChange)

namespace starling::overlay {

struct RingMember {
  NodeId id;  // fingerprint(key)
  PublicKey key;
  std::string zone;  // Empty: shares its fate with no other node.
  std::uint32_t weight = kWeightDefault;
  std::uint32_t next_weight = 0;  // Intent: its weight after a change of weights; 0 is "no change".
  RingMemberState state = RingMemberState::kServing;
  RingNumber since;  // The version that brought `state`.
  InviteId invite;   // That admitted it, and admits nobody else; zero for the founder.

  // In the placement in force.
  [[nodiscard]] bool owns() const {
    return state == RingMemberState::kServing || state == RingMemberState::kLeaving ||
           state == RingMemberState::kRemoving;
  }
  // In the placement after the change.
  [[nodiscard]] bool will_own() const {
    return state == RingMemberState::kServing || state == RingMemberState::kJoining;
  }
  [[nodiscard]] bool votes() const {
    return state == RingMemberState::kServing || state == RingMemberState::kLeaving;
  }
  [[nodiscard]] bool gone() const {
    return state == RingMemberState::kLeft || state == RingMemberState::kRemoved;
  }
  [[nodiscard]] bool in_transit() const {
    return state == RingMemberState::kJoining || state == RingMemberState::kLeaving ||
           state == RingMemberState::kRemoving;
  }
  friend bool operator==(const RingMember&, const RingMember&) = default;
  FIELDS(id, key, zone, weight, next_weight, state, since, invite)
};

struct RingVersion {
  std::uint32_t format = kRingFormatFirst;
  RingNumber number;
  LineageId lineage;
  LineageId previous_lineage;  // Of version number-1: differs after a fork; zero in version 1.
  std::uint8_t copies = 3;     // N; under a policy of sites, what that says.
  std::uint8_t synced = 1;     // W: the majority of the owners at home, or what was set.
  bool synced_set = false;
  std::uint32_t partitions = 4096;  // P
  RingChange change = RingChange::kNone;
  std::vector<RingMember> members;  // Sorted by id.
  PlacementRule rule = PlacementRule::kEven;
  std::vector<NodeId> revoked;  // Sorted: those being removed or removed whose word counts no more.
  SitePolicy sites;             // Since format 4.
  SitePolicy next_sites;        // After the open change, where that is kSites.
  // Since format 5: how many partitions there were when owners were placed; below P, a power of two. 0: P.
  std::uint32_t units = 0;

  // Owners are computed for so many units; a partition has those of the unit that it lies in.
  [[nodiscard]] std::uint32_t placed() const { return units != 0 ? units : partitions; }
  // The rule after the open change.
  [[nodiscard]] PlacementRule next_rule() const {
    return change == RingChange::kRule ? PlacementRule::kEven : rule;
  }
  [[nodiscard]] const RingMember* find(const NodeId& id) const;
  [[nodiscard]] bool is_revoked(const NodeId& id) const;
  [[nodiscard]] std::size_t serving() const;  // Members that own.
  // The policy and the copies after the open change.
  [[nodiscard]] const SitePolicy& next_policy() const {
    return change == RingChange::kSites ? next_sites : sites;
  }
  [[nodiscard]] std::uint8_t next_copies() const {
    return next_policy().on() ? next_policy().copies() : copies;
  }
  // What the policy comes to with the members that own.
  [[nodiscard]] Sites site_counts() const;
  // Copies that each partition has: min(N, serving); under a policy of sites what that comes to.
  [[nodiscard]] std::size_t owner_count() const {
    const Sites counts = site_counts();
    return counts.home + counts.away;
  }
  // W, unless it was set: the majority of the owners at home.
  [[nodiscard]] std::uint8_t majority() const {
    return static_cast<std::uint8_t>(site_counts().home / 2 + 1);
  }
  // Synced copies that an acknowledgement takes: W, or all owners at home when there are fewer.
  [[nodiscard]] std::size_t needed() const;
  friend bool operator==(const RingVersion&, const RingVersion&) = default;

  template <class Packer>
  void msgpack_pack(Packer& packer) const {
    if (format == 1) {
      return msgpack_detail::pack_fields(packer, format, number, lineage, previous_lineage, copies,
                                         synced, synced_set, partitions, change, members);
    }
    if (format < 4) {
      return msgpack_detail::pack_fields(packer, format, number, lineage, previous_lineage, copies,
                                         synced, synced_set, partitions, change, members, rule,
                                         revoked);
    }
    if (format < 5) {
      return msgpack_detail::pack_fields(packer, format, number, lineage, previous_lineage, copies,
                                         synced, synced_set, partitions, change, members, rule,
                                         revoked, sites, next_sites);
    }
    msgpack_detail::pack_fields(packer, format, number, lineage, previous_lineage, copies, synced,
                                synced_set, partitions, change, members, rule, revoked, sites,
                                next_sites, units);
  }
  void msgpack_unpack(const msgpack::object& object) {
    rule = PlacementRule::kHashed;  // Of format 1.
    revoked.clear();
    sites = next_sites = {};
    units = 0;
    msgpack_detail::unpack_fields(object, format, number, lineage, previous_lineage, copies, synced,
                                  synced_set, partitions, change, members, rule, revoked, sites,
                                  next_sites, units);
  }
};

// kInvalid with the reason; kUnsupported for a placement rule of the future.
Status validate(const RingVersion& version);
// What is said of a version, or of a change of one, that is not valid.
inline Error bad_ring(std::string why) { return {Errc::kInvalid, "ring: " + std::move(why)}; }

Bytes encode(const RingVersion& version);
// kCorrupt for bytes that are no valid version, kUnsupported for a format of the future.
Result<RingVersion> decode_ring_version(View bytes);

// Those who decide version number+1, sorted.
std::vector<NodeId> voters(const RingVersion& version);
// The Paxos instance that decides the version after this one.
Bytes next_instance(const RingVersion& version);

}  // namespace starling::overlay
