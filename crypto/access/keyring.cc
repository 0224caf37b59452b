#include "crypto/access/keyring.h"

#include <algorithm>
#include <utility>

#include <sodium.h>

#include "crypto/hash.h"
#include "crypto/msgpack.h"
#include "crypto/text.h"

namespace starling {
namespace {

constexpr std::uint32_t kFilePlain = 1;
constexpr std::uint32_t kFileRotated = 2;
constexpr std::uint64_t kUsedMax = std::uint64_t{1} << 48;  // So that the next number is one, too.
constexpr std::size_t kNonceSize = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES;
constexpr std::size_t kTagSize = crypto_aead_xchacha20poly1305_ietf_ABYTES;
static_assert(kKeyringOverhead == KeyId::kSize + kNonceSize + kTagSize);
static_assert(SecretKey::kSize == crypto_aead_xchacha20poly1305_ietf_KEYBYTES);

constexpr View kSealPurpose = "starling seal 1";
constexpr View kLinkPurpose = "starling link 1";

struct FileHead {
  std::uint32_t version = 0;
  FIELDS(version)
};
struct PlainFile {
  std::uint32_t version = kFilePlain;
  std::vector<BlobView> keys;  // Borrowed, so that no copy of a key stays behind.
  FIELDS(version, keys)
};
struct RotatedFile {
  struct Key {
    BlobView key;
    std::uint64_t used = 0;
    std::int64_t retire_at_ms = 0;
    FIELDS(key, used, retire_at_ms)
  };
  std::uint32_t version = kFileRotated;
  std::vector<Key> keys;
  std::vector<KeyId> retired;
  FIELDS(version, keys, retired)
};

Error corrupt(const std::string& why) {
  return {Errc::kCorrupt, "keyring: " + why + ": restore the keyring file"};
}

// The earlier of two times, of which 0 is never.
std::int64_t earlier(std::int64_t a, std::int64_t b) {
  if (a == 0 || b == 0) return std::max(a, b);
  return std::min(a, b);
}

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

Keyring::Keyring(const SecretKey& primary) {
  entries_.emplace_back(primary);
  entries_.front().used = 1;
}

Result<Keyring> Keyring::parse(View bytes) {
  TRY_ASSIGN(const auto head, unpack<FileHead>(bytes));
  RotatedFile file;
  if (head.version == kFilePlain) {
    TRY_ASSIGN(const auto plain, unpack<PlainFile>(bytes));
    for (const BlobView& key : plain.keys) file.keys.push_back({key, file.keys.empty() ? 1u : 0u, 0});
  } else if (head.version == kFileRotated) {
    TRY_ASSIGN(file, unpack<RotatedFile>(bytes));
  } else {
    return Error{Errc::kUnsupported, "keyring of format " + std::to_string(head.version) +
                                         ": this program reads formats 1 and 2, upgrade it"};
  }
  Keyring out;
  for (const auto& stored : file.keys) {
    SecretKey key;
    if (!SecretKey::from(stored.key.data, key)) return corrupt("a key that is not 32 bytes");
    if (auto added = out.add(key); !added) return corrupt(added.error().text);
    if (stored.used > kUsedMax) return corrupt("a number out of range");
    out.entries_.back().used = stored.used;
    out.entries_.back().retire_at_ms = stored.retire_at_ms;
  }
  if (out.entries_.empty()) return corrupt("without a key");
  if (file.retired.size() > kKeyringRetiredMax) return corrupt("too many retired keys");
  out.retired_ = std::move(file.retired);
  out.settle();
  return out;
}

Bytes Keyring::serialise() const {
  if (entries_.size() == 1 && entries_.front().used == 1 && retired_.empty()) {
    return pack(PlainFile{kFilePlain, {{entries_.front().key.view()}}});
  }
  RotatedFile file;
  for (const Entry& entry : entries_) {
    file.keys.push_back({{entry.key.view()}, entry.used, entry.retire_at_ms});
  }
  file.retired = retired_;
  return pack(file);
}

Status Keyring::add(const SecretKey& key) {
  const KeyId id = key_id(key);
  if (find(id) != nullptr || is_retired(id)) {
    return Error{Errc::kExists, "key " + hex(id.view()) + " is or was on the keyring already"};
  }
  if (entries_.size() == kKeyringKeysMax) {
    return Error{Errc::kTooLarge, "the keyring holds 8 keys: remove an old one first"};
  }
  entries_.emplace_back(key);
  return ok_status();
}

Status Keyring::promote(const KeyId& id, std::int64_t retire_others_at_ms) {
  Entry* found = find(id);
  if (found == nullptr) {
    return Error{Errc::kNotFound, "key " + hex(id.view()) + " is not on the keyring: add it first"};
  }
  found->used = entries_.front().used + 1;
  // One that was never used is another rotation under way, which may yet win.
  for (Entry& entry : entries_) {
    if (entry.id == id || entry.used == 0) continue;
    entry.retire_at_ms = earlier(entry.retire_at_ms, retire_others_at_ms);
  }
  settle();
  return ok_status();
}

bool Keyring::retire_others(std::int64_t at_ms) {
  bool found = false;
  for (std::size_t i = 1; i < entries_.size(); ++i) {
    Entry& entry = entries_[i];
    if (entry.used == 0 || entry.retire_at_ms != 0) continue;
    entry.retire_at_ms = at_ms;
    found = true;
  }
  return found;
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
  retired_.push_back(id);
  settle();
  return ok_status();
}

std::size_t Keyring::retire(std::int64_t now_ms) {
  const std::size_t before = entries_.size();
  for (std::size_t i = 1; i < entries_.size(); ++i) {
    const Entry& entry = entries_[i];
    if (entry.retire_at_ms != 0 && entry.retire_at_ms <= now_ms) retired_.push_back(entry.id);
  }
  settle();
  return before - entries_.size();
}

bool Keyring::merge(const Keyring& other) {
  const auto before = infos();
  const auto retired_before = retired_.size();
  for (const Entry& theirs : other.entries_) {
    Entry* ours = find(theirs.id);
    if (ours == nullptr) {
      entries_.push_back(theirs);
      continue;
    }
    ours->used = std::max(ours->used, theirs.used);
    ours->retire_at_ms = earlier(ours->retire_at_ms, theirs.retire_at_ms);
  }
  for (const KeyId& id : other.retired_) {
    if (!is_retired(id)) retired_.push_back(id);
  }
  const bool heard_of_more = retired_.size() != retired_before;
  settle();
  return heard_of_more || infos() != before;
}

// Puts the primary first and drops what is retired, or too much. Two keys that two operators put to use
// at the same time are told apart by their ids, everywhere alike.
void Keyring::settle() {
  std::stable_sort(entries_.begin(), entries_.end(), [this](const Entry& a, const Entry& b) {
    const bool a_retired = is_retired(a.id), b_retired = is_retired(b.id);
    if (a_retired != b_retired) return b_retired;
    if (a.used != b.used) return a.used > b.used;
    return a.used > 0 && b.id < a.id;
  });
  entries_.front().retire_at_ms = 0;  // What an older program dated, or the other of two rotations.
  while (entries_.size() > 1 && is_retired(entries_.back().id)) entries_.pop_back();
  std::erase(retired_, entries_.front().id);
  if (entries_.size() > kKeyringKeysMax) {
    entries_.erase(entries_.begin() + kKeyringKeysMax, entries_.end());
  }
  if (retired_.size() > kKeyringRetiredMax) {
    retired_.erase(retired_.begin(), retired_.end() - kKeyringRetiredMax);
  }
}

std::vector<KeyInfo> Keyring::infos() const {
  std::vector<KeyInfo> out;
  for (const Entry& entry : entries_) out.push_back({entry.id, entry.used, entry.retire_at_ms});
  return out;
}

std::optional<KeyId> Keyring::unused() const {
  if (entries_.back().used == 0) return entries_.back().id;
  return std::nullopt;
}

std::vector<KeyId> Keyring::ids() const {
  std::vector<KeyId> out;
  for (const Entry& entry : entries_) out.push_back(entry.id);
  return out;
}

bool Keyring::holds(const SecretKey& key) const {
  const Entry* entry = find(key_id(key));
  return entry != nullptr && equal_in_constant_time(entry->key.view(), key.view());
}

const Keyring::Entry* Keyring::find(const KeyId& id) const {
  for (const Entry& entry : entries_) {
    if (entry.id == id) return &entry;
  }
  return nullptr;
}

Keyring::Entry* Keyring::find(const KeyId& id) {
  return const_cast<Entry*>(std::as_const(*this).find(id));
}

bool Keyring::is_retired(const KeyId& id) const {
  return std::find(retired_.begin(), retired_.end(), id) != retired_.end();
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
      reinterpret_cast<unsigned char*>(out.data() + at), nullptr, octets(plain), plain.size(),
      octets(associated), associated.size(), nullptr, nonce.data(), entry.seal_key.raw.data());
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
                                                 nullptr, nullptr, octets(in.rest()), in.left(),
                                                 octets(associated), associated.size(), octets(nonce),
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
