// Passwords: Argon2id (RFC 9106) in the standard text form that other programs read too:
//   $argon2id$v=19$m=<KiB>,t=<passes>,p=1$<salt>$<hash>
//
// Hashing takes tens of milliseconds and megabytes by design: run both through Loop::work. The salt
// is drawn on the loop, so that a simulation stays a function of its seed.
// Thread: any; values in, values out.
#pragma once

#include <cstdint>
#include <string>

#include "crypto/bytes.h"
#include "crypto/random.h"
#include "crypto/result.h"

namespace starling {

inline constexpr std::size_t kPasswordSizeMax = 256;  // Bytes; at least 1.

struct PasswordCost {
  std::uint32_t passes = 2;
  std::uint32_t memory_kib = 19 * 1024;

  friend bool operator==(const PasswordCost&, const PasswordCost&) = default;
};
// What OWASP recommends for Argon2id (2023).
inline constexpr PasswordCost kPasswordCost{};
// The least that the algorithm takes: for tests and simulation only.
inline constexpr PasswordCost kCheapest{1, 8};
// A stored hash that asks for more is refused, so that a forged record cannot eat the machine.
inline constexpr PasswordCost kDearest{16, 256 * 1024};

struct PasswordSaltTag;
using PasswordSalt = Fixed<PasswordSaltTag, 16>;
PasswordSalt password_salt(Random& random);

// kInvalid for an empty password, kTooLarge over kPasswordSizeMax.
Status check_password(View password);
// As check_password; kOverloaded when the memory is not there.
// REQUIRES: cost between kCheapest and kDearest.
Result<std::string> hash_password(View password, const PasswordSalt& salt, PasswordCost cost);
// kUnauthenticated for another password, kCorrupt for a hash that hash_password did not make.
Status verify_password(View password, View hash);

}  // namespace starling
