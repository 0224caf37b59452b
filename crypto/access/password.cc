#include "crypto/access/password.h"

#include <array>
#include <cassert>
#include <charconv>

#include <sodium.h>

#include "crypto/secret.h"
#include "crypto/text.h"

namespace starling {
namespace {

constexpr View kHashPrefix = "$argon2id$v=19$m=";
static_assert(PasswordSalt::kSize == crypto_pwhash_SALTBYTES);
static_assert(kCheapest.memory_kib * 1024 >= crypto_pwhash_argon2id_MEMLIMIT_MIN);
static_assert(kCheapest.passes >= crypto_pwhash_argon2id_OPSLIMIT_MIN);

bool within_limits(PasswordCost cost) {
  return cost.passes >= kCheapest.passes && cost.passes <= kDearest.passes &&
         cost.memory_kib >= kCheapest.memory_kib && cost.memory_kib <= kDearest.memory_kib;
}

bool take(View& in, View word) {
  if (!in.starts_with(word)) return false;
  in.remove_prefix(word.size());
  return true;
}

bool take_number(View& in, std::uint32_t& out) {
  const auto [end, failed] = std::from_chars(in.data(), in.data() + in.size(), out);
  if (failed != std::errc{}) return false;
  in.remove_prefix(static_cast<std::size_t>(end - in.data()));
  return true;
}

bool read_cost(View hash, PasswordCost& cost) {
  return take(hash, kHashPrefix) && take_number(hash, cost.memory_kib) && take(hash, ",t=") &&
         take_number(hash, cost.passes) && take(hash, ",p=1$");
}

}  // namespace

PasswordSalt password_salt(Random& random) {
  PasswordSalt out;
  random.fill(out.raw);
  return out;
}

Status check_password(View password) {
  if (password.empty()) return Error{Errc::kInvalid, "the password is empty: choose one"};
  if (password.size() > kPasswordSizeMax) {
    return Error{Errc::kTooLarge, "the password is longer than 256 bytes: choose a shorter one"};
  }
  return ok_status();
}

Result<std::string> hash_password(View password, const PasswordSalt& salt, PasswordCost cost) {
  assert(within_limits(cost));
  TRY(check_password(password));
  SecretKey hash;
  if (crypto_pwhash(hash.raw.data(), hash.raw.size(), password.data(), password.size(),
                    salt.raw.data(), cost.passes, std::size_t{cost.memory_kib} * 1024,
                    crypto_pwhash_ALG_ARGON2ID13) != 0) {
    return Error{Errc::kOverloaded, "no memory to hash the password: try again later"};
  }
  return std::string(kHashPrefix) + std::to_string(cost.memory_kib) +
         ",t=" + std::to_string(cost.passes) + ",p=1$" + base64(salt.view()) + "$" +
         base64(hash.view());
}

Status verify_password(View password, View hash) {
  PasswordCost cost;
  std::array<char, crypto_pwhash_STRBYTES> text{};  // libsodium wants its own fixed size.
  if (!read_cost(hash, cost) || !within_limits(cost) || hash.size() >= text.size()) {
    return Error{Errc::kCorrupt, "the stored password hash is damaged: set the password anew"};
  }
  hash.copy(text.data(), hash.size());
  if (!check_password(password) ||
      crypto_pwhash_str_verify(text.data(), password.data(), password.size()) != 0) {
    return Error{Errc::kUnauthenticated, "wrong password"};
  }
  return ok_status();
}

}  // namespace starling
