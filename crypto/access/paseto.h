// PASETO version 4 (paseto.io): tokens that say what they are, so there is nothing to negotiate.
//
//   v4.public.<base64url(payload signature)>[.<base64url(footer)>]       signed, readable by all
// The form that a shared key seals is not used (docs/decisions/0007-session-tokens.md).
// The footer is carried in the clear; the implicit assertion is not carried: both sides must know
// it. Both are bound to the token. What the payload means is the caller's: see crypto/access/token.h.
// Thread: any; no shared state.
#pragma once

#include <string>

#include "crypto/access/identity.h"
#include "crypto/bytes.h"
#include "crypto/result.h"

namespace starling {

inline constexpr std::size_t kPasetoSizeMax = 16 * 1024;  // Of a token that we read.

struct PasetoContent {
  Bytes payload;
  Bytes footer;
};

std::string paseto_sign(const Identity& identity, View payload, View footer, View implicit);

// kUnauthenticated for anything but a token of that very form, made with that key.
Result<PasetoContent> paseto_verify(const PublicKey& key, View token, View implicit);
// The footer of a v4.public token, not proven yet: it tells which key to verify with.
Result<Bytes> paseto_claimed_footer(View token);

}  // namespace starling
