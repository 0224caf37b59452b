// Session tokens: what a device shows instead of a password, checked by any node without a lookup.
//
// A v4.public token signed by the node that issued it; its footer is that node's id (base32), so
// the verifier finds the key among the members. The payload is one flat JSON object:
//   {"sub":"@alice","dev":"phone","epoch":3,"issued_ms":1700000000000,"expires_ms":1700000600000}
// Times are wall clock milliseconds since 1970. The verifier knows nothing of logouts: compare
// `epoch` with the account's where the account is followed.
// Thread: any; no shared state.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "crypto/access/identity.h"
#include "crypto/bytes.h"
#include "crypto/result.h"

namespace starling {

inline constexpr std::size_t kTokenUserSizeMax = 65;  // Sigil and name.
inline constexpr std::size_t kTokenDeviceSizeMax = 64;
inline constexpr std::int64_t kTokenLifeMaxMs = 30ll * 24 * 3600 * 1000;
inline constexpr std::int64_t kTokenAheadMaxMs = 10ll * 60 * 1000;  // Of the verifier's clock, when it was issued.
inline constexpr std::size_t kTokenSizeMax = 2048;  // Every character escaped, in base64.

struct TokenClaims {
  std::string user;    // Address.
  std::string device;  // Name the device gave itself.
  std::uint64_t epoch = 0;
  std::int64_t issued_ms = 0;
  std::int64_t expires_ms = 0;
  friend bool operator==(const TokenClaims&, const TokenClaims&) = default;
};

// The key of a node that may issue tokens now; nothing for any other.
using KeyLookup = std::function<std::optional<PublicKey>(const NodeId&)>;

// kInvalid for names that are not UTF-8, empty or over their limits, for times before 1970 and lives over the longest.
Result<std::string> issue_token(const Identity& identity, const TokenClaims& claims);
// kUnauthenticated, with the reason, for everything but a token that holds at `now_wall_ms`. A good signature is not
// enough: of a key in wrong hands no token may live for ever, or begin later.
Result<TokenClaims> verify_token(View token, const KeyLookup& key_lookup, std::int64_t now_wall_ms);

// The payload alone: strict both ways, claims in any order. A claim we do not know (a string or an
// integer) is from a newer node and ignored; a repeated or missing one is refused. kCorrupt.
std::string claims_to_json(const TokenClaims& claims);
Result<TokenClaims> claims_from_json(View json);

}  // namespace starling
