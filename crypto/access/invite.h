// Invite: one line of text that lets a new node ask to join a cluster.
//
// It carries the cluster secret: hand it over as you would a password. It admits nobody by itself:
// members decide. It is good once: the ring version lists each member with the invite that admitted
// it, one that is gone until 256 others went after it.
//   text  := "starling1-" base64url(body checksum)      checksum: 4 bytes of BLAKE2b over the body
//   body  := msgpack [lineage, seeds, secret, expires_wall_ms, id, mac]
//   mac   := BLAKE2b-128 over everything before it, keyed with the secret
// The checksum tells a typing error from an invite that somebody changed, which the mac shows.
// Thread: any; value types.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "crypto/bytes.h"
#include "crypto/result.h"
#include "crypto/secret.h"

namespace starling {

inline constexpr std::size_t kInviteSeedsMax = 16;
inline constexpr std::size_t kInviteSeedSizeMax = 259;  // A host name of 253, ':' and the port.
inline constexpr std::size_t kInviteTextSizeMax = 8192;

inline constexpr std::int64_t kInviteLifeMaxMs = std::int64_t{30} * 24 * 3600 * 1000;
inline constexpr std::int64_t kInviteClockSlackMs = 60 * 1000;  // Of the clocks of two members.

struct LineageTag;
struct InviteTag;
using InviteId = Fixed<InviteTag, 16>;  // Random.
struct InviteMacTag;
using InviteMac = Fixed<InviteMacTag, 16>;

struct Invite {
  Fixed<LineageTag, 16> lineage;
  std::vector<std::string> seeds;  // "host:port" of members, 1..kInviteSeedsMax.
  SecretKey secret;
  std::int64_t expires_wall_ms = 0;
  InviteId id;
  friend bool operator==(const Invite&, const Invite&) = default;
};

// Proof to a member that the fields come from one who holds the secret.
InviteMac invite_mac(const Invite& invite);

// kInvalid for no seeds, too many, or one that is not "host:port".
Result<std::string> format_invite(const Invite& invite);
// kInvalid for a text that is no invite or was mistyped, kUnsupported for one of a newer version,
// kUnauthenticated for one that was changed. Does not look at the time.
Result<Invite> parse_invite(View text);
// kUnauthenticated once the time is over; kClock for an invite that nobody can have made yet, as it is
// good for longer than any is made for.
Status check_time(const Invite& invite, std::int64_t now_wall_ms);

}  // namespace starling
