#include "crypto/noise/noise_state.h"

#include <limits>

#include <sodium.h>

#include "crypto/hash.h"

namespace starling {
namespace {

constexpr std::size_t kBlockSize = 128;  // Of BLAKE2b, for HMAC.
constexpr std::uint64_t kNonceEnd = std::numeric_limits<std::uint64_t>::max();

using Hash = Secret<kNoiseHashSize>;

static_assert(kNoiseTagSize == crypto_aead_chacha20poly1305_ietf_ABYTES);

// 32 zero bits, then the number little-endian (section 12.3).
std::array<std::uint8_t, 12> nonce_bytes(std::uint64_t n) {
  std::array<std::uint8_t, 12> out{};
  for (int i = 0; i < 8; ++i) out[4 + i] = static_cast<std::uint8_t>(n >> (8 * i));
  return out;
}

// HMAC (RFC 2104) over BLAKE2b, as section 4.3 asks, and not BLAKE2b's own keyed mode.
Hash hmac(View key, View input, View more = {}) {
  Secret<kBlockSize> inner;
  Secret<kBlockSize> outer;
  for (std::size_t i = 0; i < kBlockSize; ++i) {
    const auto byte = i < key.size() ? static_cast<std::uint8_t>(key[i]) : std::uint8_t{0};
    inner.raw[i] = byte ^ 0x36;
    outer.raw[i] = byte ^ 0x5C;
  }
  Hash digest;
  blake2b(digest.raw, {inner.view(), input, more});
  Hash out;
  blake2b(out.raw, {outer.view(), digest.view()});
  return out;
}

struct Derived {
  Hash first, second, third;
};

Derived hkdf(View chaining_key, View input) {
  const Hash temp = hmac(chaining_key, input);
  Derived out;
  out.first = hmac(temp.view(), View("\x01", 1));
  out.second = hmac(temp.view(), out.first.view(), View("\x02", 1));
  out.third = hmac(temp.view(), out.second.view(), View("\x03", 1));
  return out;
}

SecretKey first_half(const Hash& hash) {
  SecretKey out;
  SecretKey::from(hash.view().substr(0, SecretKey::kSize), out);
  return out;
}

Error used_up() {
  return {Errc::kUnavailable, "this noise session has used its last number: open a new link"};
}

}  // namespace

Status NoiseCipher::seal_into(Bytes& out, View associated, View plain) {
  if (nonce_ == kNonceEnd) return used_up();
  const auto nonce = nonce_bytes(nonce_++);
  const std::size_t at = out.size();
  out.resize(at + plain.size() + kNoiseTagSize);
  crypto_aead_chacha20poly1305_ietf_encrypt(
      reinterpret_cast<unsigned char*>(out.data() + at), nullptr, octets(plain), plain.size(),
      octets(associated), associated.size(), nullptr, nonce.data(), key_.raw.data());
  return ok_status();
}

Status NoiseCipher::open(char* out, View associated, View sealed) {
  if (nonce_ == kNonceEnd) return used_up();
  if (sealed.size() < kNoiseTagSize)
    return Error{Errc::kCorrupt, "noise: a message without its tag"};
  const auto nonce = nonce_bytes(nonce_);
  if (crypto_aead_chacha20poly1305_ietf_decrypt(
          reinterpret_cast<unsigned char*>(out), nullptr, nullptr, octets(sealed), sealed.size(),
          octets(associated), associated.size(), nonce.data(), key_.raw.data()) != 0) {
    return Error{Errc::kCorrupt,
                 "noise: a message that the peer did not seal as the next one: "
                 "close the link"};
  }
  ++nonce_;
  return ok_status();
}

NoiseSymmetric::NoiseSymmetric(View protocol_name) {
  if (protocol_name.size() <= kNoiseHashSize) {
    std::memcpy(hash_.data(), protocol_name.data(), protocol_name.size());
  } else {
    blake2b(hash_, {protocol_name});
  }
  chaining_key_.raw = hash_;
}

View NoiseSymmetric::hash() const {
  return {reinterpret_cast<const char*>(hash_.data()), hash_.size()};
}

void NoiseSymmetric::set_key(const SecretKey& key) {
  cipher_ = NoiseCipher(key);
  has_key_ = true;
}

void NoiseSymmetric::mix_hash(View data) { blake2b(hash_, {hash(), data}); }

void NoiseSymmetric::mix_key(View input) {
  const Derived derived = hkdf(chaining_key_.view(), input);
  chaining_key_ = derived.first;
  set_key(first_half(derived.second));
}

void NoiseSymmetric::mix_key_and_hash(View input) {
  const Derived derived = hkdf(chaining_key_.view(), input);
  chaining_key_ = derived.first;
  mix_hash(derived.second.view());
  set_key(first_half(derived.third));
}

Status NoiseSymmetric::encrypt_and_hash(Bytes& out, View plain) {
  const std::size_t at = out.size();
  if (has_key_) {
    TRY(cipher_.seal_into(out, hash(), plain));
  } else {
    out.append(plain);
  }
  mix_hash(View(out).substr(at));
  return ok_status();
}

Status NoiseSymmetric::decrypt_and_hash(Bytes& out, View sealed) {
  if (has_key_) {
    if (sealed.size() < kNoiseTagSize) return Error{Errc::kCorrupt, "noise: handshake cut short"};
    const std::size_t at = out.size();
    out.resize(at + sealed.size() - kNoiseTagSize);
    TRY(cipher_.open(out.data() + at, hash(), sealed));
  } else {
    out.append(sealed);
  }
  mix_hash(sealed);
  return ok_status();
}

void NoiseSymmetric::split(SecretKey& first, SecretKey& second) const {
  const Derived derived = hkdf(chaining_key_.view(), {});
  first = first_half(derived.first);
  second = first_half(derived.second);
}

}  // namespace starling
