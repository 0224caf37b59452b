#include "crypto/access/keyring.h"

#include <algorithm>

#include <sodium.h>

#include "crypto/hash.h"
#include "crypto/msgpack.h"
#include "crypto/text.h"

namespace starling {
namespace {

constexpr std::uint32_t kFileVersion = 1;
constexpr std::size_t kNonceSize = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES;
constexpr std::size_t kTagSize = crypto_aead_xchacha20poly1305_ietf_ABYTES;
static_assert(kKeyringOverhead == KeyId::kSize + kNonceSize + kTagSize);
static_assert(SecretKey::kSize == crypto_aead_xchacha20poly1305_ietf_KEYBYTES);

constexpr View kSealPurpose = "starling seal 1";
constexpr View kLinkPurpose = "starling link 1";

struct File {
  std::uint32_t version = 0;
  std::vector<BlobView> keys;  // Borrowed, so that no copy of a key stays behind.
  MSGPACK_DEFINE_ARRAY(version, keys)
};

SecretKey derive_from(const SecretKey& key, View purpose) {
  SecretKey out;
  blake2b(out.raw, {purpose}, key.view());
  return out;
}

Error unknown_key(const KeyId& id) {
  return {Errc::kForeign, "key " + hex(id.view()) +
                              " is not on this node's keyring: another cluster, "
                              "or a rotation that has not reached one of the two"};
}

const unsigned char* data(View bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

}  // namespace

KeyId key_id(const SecretKey& key) {
  Secret<16> digest;
  blake2b(digest.raw, {key.view()});
  KeyId out;
  KeyId::from(digest.view().substr(0, KeyId::kSize), out);
  return out;
}

Keyring::Entry::Entry(const SecretKey& secret)
    : id(key_id(secret)), key(secret), seal_key(derive_from(secret, kSealPurpose)) {}

Keyring::Keyring(const SecretKey& primary) { entries_.emplace_back(primary); }

Result<Keyring> Keyring::parse(View bytes) {
  TRY_ASSIGN(const File file, unpack<File>(bytes));
  if (file.version != kFileVersion) {
    return Error{Errc::kUnsupported, "keyring of format " + std::to_string(file.version) +
                                         ": this program reads format 1, upgrade it"};
  }
  Keyring out;
  for (const BlobView& blob : file.keys) {
    SecretKey key;
    if (!SecretKey::from(blob.data, key)) {
      return Error{Errc::kCorrupt, "keyring: a key that is not 32 bytes: restore the keyring file"};
    }
    if (auto added = out.add(key); !added) {
      return Error{Errc::kCorrupt, "keyring: " + added.error().text + ": restore the keyring file"};
    }
  }
  if (out.entries_.empty()) {
    return Error{Errc::kCorrupt, "keyring: without a key: restore the keyring file"};
  }
  return out;
}

Bytes Keyring::serialise() const {
  File file{kFileVersion, {}};
  for (const Entry& entry : entries_) file.keys.push_back({entry.key.view()});
  return pack(file);
}

Status Keyring::add(const SecretKey& key) {
  const KeyId id = key_id(key);
  if (find(id) != nullptr) {
    return Error{Errc::kExists, "key " + hex(id.view()) + " is on the keyring already"};
  }
  if (entries_.size() == kKeyringKeysMax) {
    return Error{Errc::kTooLarge, "the keyring holds 8 keys: remove an old one first"};
  }
  entries_.emplace_back(key);
  return ok_status();
}

Status Keyring::promote(const KeyId& id) {
  const Entry* found = find(id);
  if (found == nullptr) {
    return Error{Errc::kNotFound, "key " + hex(id.view()) + " is not on the keyring: add it first"};
  }
  const auto at = entries_.begin() + (found - entries_.data());
  std::rotate(entries_.begin(), at, at + 1);
  return ok_status();
}

Status Keyring::remove(const KeyId& id) {
  const Entry* found = find(id);
  if (found == nullptr) {
    return Error{Errc::kNotFound, "key " + hex(id.view()) + " is not on the keyring"};
  }
  if (found == entries_.data()) {
    return Error{Errc::kInvalid,
                 "key " + hex(id.view()) + " is the primary: promote another first"};
  }
  entries_.erase(entries_.begin() + (found - entries_.data()));
  return ok_status();
}

std::vector<KeyId> Keyring::ids() const {
  std::vector<KeyId> out;
  for (const Entry& entry : entries_) out.push_back(entry.id);
  return out;
}

const Keyring::Entry* Keyring::find(const KeyId& id) const {
  for (const Entry& entry : entries_) {
    if (entry.id == id) return &entry;
  }
  return nullptr;
}

Bytes Keyring::seal(View plain, View associated, Random& random) const {
  const Entry& entry = entries_.front();
  std::array<std::uint8_t, kNonceSize> nonce;
  random.fill(nonce);
  Bytes out;
  out.reserve(kKeyringOverhead + plain.size());
  out.append(entry.id.view());
  out.append(reinterpret_cast<const char*>(nonce.data()), nonce.size());
  const std::size_t at = out.size();
  out.resize(at + plain.size() + kTagSize);
  crypto_aead_xchacha20poly1305_ietf_encrypt(
      reinterpret_cast<unsigned char*>(out.data() + at), nullptr, data(plain), plain.size(),
      data(associated), associated.size(), nullptr, nonce.data(), entry.seal_key.raw.data());
  return out;
}

Result<Bytes> Keyring::open(View sealed, View associated) const {
  if (sealed.size() < kKeyringOverhead) {
    return Error{Errc::kCorrupt, "sealed bytes cut short: drop them"};
  }
  BytesReader in(sealed);
  const auto id = in.fixed<KeyTag, KeyId::kSize>();
  const View nonce = in.raw(kNonceSize);
  const Entry* entry = find(id);
  if (entry == nullptr) return unknown_key(id);
  Bytes out(in.left() - kTagSize, '\0');
  if (crypto_aead_xchacha20poly1305_ietf_decrypt(reinterpret_cast<unsigned char*>(out.data()),
                                                 nullptr, nullptr, data(in.rest()), in.left(),
                                                 data(associated), associated.size(), data(nonce),
                                                 entry->seal_key.raw.data()) != 0) {
    return Error{Errc::kCorrupt, "sealed bytes were changed on the way: drop them"};
  }
  return out;
}

SecretKey Keyring::derive(View purpose) const { return derive_from(primary(), purpose); }

Result<SecretKey> Keyring::derive(const KeyId& id, View purpose) const {
  const Entry* entry = find(id);
  if (entry == nullptr) return unknown_key(id);
  return derive_from(entry->key, purpose);
}

SecretKey Keyring::link_psk() const { return derive(kLinkPurpose); }
Result<SecretKey> Keyring::link_psk(const KeyId& id) const { return derive(id, kLinkPurpose); }

}  // namespace starling
