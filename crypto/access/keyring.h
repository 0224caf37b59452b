// Keyring: the secrets that every node of one cluster shares, and their rotation.
//
// A secret lets a node speak to the cluster at all; who is a member is decided elsewhere, by keys.
// The primary, which was put to use last, seals; all of them open. To rotate: add() everywhere, then
// promote(), then let the others retire; at each step all nodes understand each other. Nodes tell
// each other their keyrings: merge() gives the same ring in whatever order it happens, and a key that
// was retired does not come back. The secrets themselves seal nothing: each purpose has a key derived
// from them.
//   sealed := key id:4 nonce:24 ciphertext tag:16      (XChaCha20-Poly1305, random nonce)
//   file   := msgpack [1, [key:32]]                                       never rotated
//          |  msgpack [2, [[key:32, used, retire_at_ms], ...], [key id:4, ...]]   and those retired
// Invariants: 1..kKeyringKeysMax keys; no two have the same id; the primary never retires.
// Thread: one owner; const methods from any while nobody changes it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "crypto/bytes.h"
#include "crypto/random.h"
#include "crypto/result.h"
#include "crypto/secret.h"

namespace starling {

inline constexpr std::size_t kKeyringKeysMax = 8;
inline constexpr std::size_t kKeyringRetiredMax = 64;  // The oldest are forgotten.
inline constexpr std::size_t kKeyringOverhead = 4 + 24 + 16;  // What seal adds.

struct KeyTag;
using KeyId = Fixed<KeyTag, 4>;  // BLAKE2b of the key, cut short: a name, no secret.
KeyId key_id(const SecretKey& key);

struct KeyInfo {
  KeyId id;
  std::uint64_t used = 0;         // Put to use as that number; 0: not yet. The highest is primary.
  std::int64_t retire_at_ms = 0;  // Opens nothing from then on; 0: not planned.
  friend bool operator==(const KeyInfo&, const KeyInfo&) = default;
};

class Keyring {
 public:
  explicit Keyring(const SecretKey& primary);
  // kCorrupt for bytes that serialise() did not make, kUnsupported for a newer format.
  static Result<Keyring> parse(View bytes);
  // Secret: write it to a file of the owner's only, then wipe().
  [[nodiscard]] Bytes serialise() const;

  // Opens from now on, seals once promoted. kExists, also for a retired one; kTooLarge when the ring
  // is full.
  Status add(const SecretKey& key);
  // Those used before retire at `retire_others_at_ms`, unless 0. kNotFound.
  Status promote(const KeyId& id, std::int64_t retire_others_at_ms = 0);
  // Of two that were put to use at once one is primary everywhere, once their nodes have merged; this
  // dates the other one. True when there was one.
  bool retire_others(std::int64_t at_ms);
  // kNotFound; kInvalid for the primary: promote another first.
  Status remove(const KeyId& id);
  // Removes those whose time has come. How many.
  std::size_t retire(std::int64_t now_ms);
  // Takes in what another node of the cluster knows. True when something was new.
  bool merge(const Keyring& other);
  [[nodiscard]] std::vector<KeyInfo> infos() const;  // Primary first.
  // One that was added and never used: a rotation that was begun.
  [[nodiscard]] std::optional<KeyId> unused() const;
  [[nodiscard]] std::vector<KeyId> ids() const;  // Primary first.
  [[nodiscard]] bool holds(const SecretKey& key) const;
  [[nodiscard]] bool holds(const KeyId& id) const { return find(id) != nullptr; }
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
    std::uint64_t used = 0;
    std::int64_t retire_at_ms = 0;
  };
  Keyring() = default;
  [[nodiscard]] const Entry* find(const KeyId& id) const;
  Entry* find(const KeyId& id);
  [[nodiscard]] bool is_retired(const KeyId& id) const;
  void settle();

  std::vector<Entry> entries_;  // Primary first.
  std::vector<KeyId> retired_;  // Oldest first.
};

}  // namespace starling
