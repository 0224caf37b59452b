#include "crypto/access/paseto.h"

#include <array>
#include <initializer_list>

#include <sodium.h>

#include "crypto/hash.h"
#include "crypto/text.h"

namespace starling {
namespace {

constexpr View kLocal = "v4.local.";
constexpr View kPublic = "v4.public.";
constexpr std::size_t kNonceSize = 32;
constexpr std::size_t kMacSize = 32;

Error refused(std::string why) { return {Errc::kUnauthenticated, "token: " + std::move(why)}; }

// Pre-authentication encoding: no two lists of parts give the same bytes.
Bytes pae(std::initializer_list<View> parts) {
  Bytes out;
  BytesWriter writer(out);
  writer.u64le(parts.size());
  for (View part : parts) {
    writer.u64le(part.size());
    writer.raw(part);
  }
  return out;
}

std::string join(View header, View body, View footer) {
  std::string out = std::string(header) + base64url(body);
  if (!footer.empty()) out += "." + base64url(footer);
  return out;
}

// Undoes join; `payload` is the body here.
Result<PasetoContent> cut(View header, View token) {
  if (token.size() > kPasetoSizeMax) return refused("longer than any that we make");
  if (!token.starts_with(header)) return refused("not of the form " + std::string(header));
  token.remove_prefix(header.size());
  const auto dot = token.find('.');
  auto body = parse_base64url(token.substr(0, dot));
  if (!body) return refused(body.error().text);
  if (dot == View::npos) return PasetoContent{std::move(*body), {}};
  auto footer = parse_base64url(token.substr(dot + 1));
  if (!footer) return refused(footer.error().text);
  if (footer->empty()) return refused("a footer without bytes");
  return PasetoContent{std::move(*body), std::move(*footer)};
}

struct LocalKeys {
  Secret<56> encryption;  // Key (32), then the nonce of XChaCha20 (24).
  SecretKey authentication;
};

LocalKeys local_keys(const SecretKey& key, View nonce) {
  LocalKeys out;
  blake2b(out.encryption.raw, {"paseto-encryption-key", nonce}, key.view());
  blake2b(out.authentication.raw, {"paseto-auth-key-for-aead", nonce}, key.view());
  return out;
}

// XChaCha20 with the derived key: turns payload into ciphertext and back.
Bytes apply_stream(const LocalKeys& keys, View in) {
  Bytes out(in.size(), '\0');
  crypto_stream_xchacha20_xor(reinterpret_cast<unsigned char*>(out.data()),
                              reinterpret_cast<const unsigned char*>(in.data()), in.size(),
                              keys.encryption.raw.data() + 32, keys.encryption.raw.data());
  return out;
}

std::array<std::uint8_t, kMacSize> local_mac(const LocalKeys& keys, View nonce, View ciphertext,
                                             View footer, View implicit) {
  std::array<std::uint8_t, kMacSize> out;
  blake2b(out, {pae({kLocal, nonce, ciphertext, footer, implicit})}, keys.authentication.view());
  return out;
}

View as_view(const std::array<std::uint8_t, 32>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

std::string paseto_encrypt(const SecretKey& key, View payload, View footer, View implicit,
                           Random& random) {
  std::array<std::uint8_t, kNonceSize> nonce;
  random.fill(nonce);
  const LocalKeys keys = local_keys(key, as_view(nonce));
  const Bytes ciphertext = apply_stream(keys, payload);
  const auto mac = local_mac(keys, as_view(nonce), ciphertext, footer, implicit);
  return join(kLocal, Bytes(as_view(nonce)) + ciphertext + Bytes(as_view(mac)), footer);
}

Result<PasetoContent> paseto_decrypt(const SecretKey& key, View token, View implicit) {
  TRY_ASSIGN(PasetoContent content, cut(kLocal, token));
  const View body = content.payload;
  if (body.size() < kNonceSize + kMacSize) return refused("cut short");
  const View nonce = body.substr(0, kNonceSize);
  const View ciphertext = body.substr(kNonceSize, body.size() - kNonceSize - kMacSize);
  const LocalKeys keys = local_keys(key, nonce);
  const auto mac = local_mac(keys, nonce, ciphertext, content.footer, implicit);
  if (!equal_in_constant_time(as_view(mac), body.substr(body.size() - kMacSize))) {
    return refused("changed, or made with another key");
  }
  content.payload = apply_stream(keys, ciphertext);
  return content;
}

std::string paseto_sign(const Identity& identity, View payload, View footer, View implicit) {
  const Signature signature = identity.sign(pae({kPublic, payload, footer, implicit}));
  return join(kPublic, Bytes(payload) + Bytes(signature.view()), footer);
}

Result<PasetoContent> paseto_verify(const PublicKey& key, View token, View implicit) {
  TRY_ASSIGN(PasetoContent content, cut(kPublic, token));
  if (content.payload.size() < Signature::kSize) return refused("cut short");
  const std::size_t size = content.payload.size() - Signature::kSize;
  Signature signature;
  Signature::from(View(content.payload).substr(size), signature);
  content.payload.resize(size);
  if (!verify(key, pae({kPublic, content.payload, content.footer, implicit}), signature)) {
    return refused("changed, or signed by another key");
  }
  return content;
}

Result<Bytes> paseto_claimed_footer(View token) {
  TRY_ASSIGN(PasetoContent content, cut(kPublic, token));
  return std::move(content.footer);
}

}  // namespace starling
