// Keyring: the secrets that every node of one cluster shares, and their rotation.
//
// A secret lets a node speak to the cluster at all; who is a member is decided elsewhere, by keys.
// The first key is the primary: it seals, all of them open. To rotate: add() everywhere, then
// promote() everywhere, then remove() the old one everywhere; at each step all nodes understand
// each other. The secrets themselves seal nothing: each purpose has a key derived from them.
//   sealed := key id:4 nonce:24 ciphertext tag:16      (XChaCha20-Poly1305, random nonce)
//   file   := msgpack [1, [key:32, ...]]                primary first
// Invariants: 1..kKeyringKeysMax keys; no two have the same id.
// Thread: one owner; const methods from any while nobody changes it.
#pragma once

#include <cstdint>
#include <vector>

#include "crypto/bytes.h"
#include "crypto/random.h"
#include "crypto/result.h"
#include "crypto/secret.h"

namespace starling {

inline constexpr std::size_t kKeyringKeysMax = 8;
inline constexpr std::size_t kKeyringOverhead = 4 + 24 + 16;  // What seal adds.

struct KeyTag;
using KeyId = Fixed<KeyTag, 4>;  // BLAKE2b of the key, cut short: a name, no secret.
KeyId key_id(const SecretKey& key);

class Keyring {
 public:
  explicit Keyring(const SecretKey& primary);
  // kCorrupt for bytes that serialise() did not make, kUnsupported for a newer format.
  static Result<Keyring> parse(View bytes);
  // Secret: write it to a file of the owner's only, then wipe().
  [[nodiscard]] Bytes serialise() const;

  // Opens from now on, seals once promoted. kExists; kTooLarge when the ring is full.
  Status add(const SecretKey& key);
  // kNotFound.
  Status promote(const KeyId& id);
  // kNotFound; kInvalid for the primary: promote another first.
  Status remove(const KeyId& id);
  [[nodiscard]] std::vector<KeyId> ids() const;  // Primary first.
  [[nodiscard]] const SecretKey& primary() const { return entries_.front().key; }

  // `associated` is bound to the bytes but not carried in them.
  [[nodiscard]] Bytes seal(View plain, View associated, Random& random) const;
  // kForeign for a key that is not on this ring, kCorrupt for bytes that were changed.
  [[nodiscard]] Result<Bytes> open(View sealed, View associated) const;

  // A key for one purpose, from the primary or from the named key (kForeign).
  [[nodiscard]] SecretKey derive(View purpose) const;
  [[nodiscard]] Result<SecretKey> derive(const KeyId& id, View purpose) const;
  // The psk of links: the initiator takes the primary's and names it, the responder looks it up.
  [[nodiscard]] SecretKey link_psk() const;
  [[nodiscard]] Result<SecretKey> link_psk(const KeyId& id) const;

 private:
  struct Entry {
    explicit Entry(const SecretKey& secret);
    KeyId id;
    SecretKey key;
    SecretKey seal_key;  // Derived once, as gossip seals every packet.
  };
  Keyring() = default;
  [[nodiscard]] const Entry* find(const KeyId& id) const;

  std::vector<Entry> entries_;
};

}  // namespace starling
