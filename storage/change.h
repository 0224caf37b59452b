// Change: the one thing that is stored, replicated, pushed and repaired, always as the same bytes.
//
// change   := format:u8 kind:u8 mailbox:16 prev:u64le content checksum:u64le
// entry    := time:u64le writer:u64le device:16 lane:u64le seq:u64le conversation:16
//             expires_ms:u64le type:u8 flags:u8 from:u8sized to:u8sized body:u32sized
// void     := the same as entry, with an empty body: closes a lane number, or takes a message back; beats a content
// register := merge:u8 time:u64le writer:u64le key:u16sized value:u32sized
//
// `prev` is the writer's previous n in this mailbox (0: none): a follower has a gap iff prev is not
// under its vector (hazards F26). `checksum` is XXH3-64 over everything before it, seeded with the
// dot, so bytes under a wrong dot do not pass.
// Invariant: a change is immutable; decode(encode(x)) == x; one encoding per content.
// Thread: any; pure.
#pragma once

#include <cstdint>
#include <optional>

#include "crypto/bytes.h"
#include "crypto/result.h"
#include "storage/ids.h"

namespace starling::storage {

inline constexpr std::uint8_t kChangeFormat = 1;

enum class ChangeKind : std::uint8_t { kEntry = 1, kVoid = 2, kRegister = 3 };

enum class EntryType : std::uint8_t { kText = 1, kBinary = 2 };

// Flags of an entry.
// The change implies a copy in the sender's own mailbox, re-driven until acknowledged.
inline constexpr std::uint8_t kEntryImpliesCopy = 1;
// This is that copy: it has the key and id that the recipient's coordinator minted.
inline constexpr std::uint8_t kEntryIsCopy = 2;
// Of a void: its sender took back what had been stored, and the void stands at the position of that.
inline constexpr std::uint8_t kEntryIsRecall = 4;

// How two writes of one register merge (architecture invariant 5, hazards F18).
enum class MergeKind : std::uint8_t {
  kLww = 1,     // Larger (time, writer) wins.
  kMax = 2,     // Larger value, as an unsigned big-endian number of equal length, wins.
  kMember = 3,  // Value is MemberValue: generation, then removed, then (time, writer).
};

struct EntryView {
  EntryId id;
  MessageKey key;
  MailboxId conversation;
  std::uint64_t expires_ms = 0;  // 0: never.
  EntryType type = EntryType::kText;
  std::uint8_t flags = 0;
  View from;  // Address of the sender.
  View to;    // Address that it was sent to: a group or a user.
  View body;
};

struct RegisterView {
  MergeKind merge = MergeKind::kLww;
  EntryId stamp;  // (time, writer) of the write.
  View key;
  View value;
};

// A decoded change; views borrow from the encoded bytes.
struct ChangeView {
  ChangeKind kind = ChangeKind::kEntry;
  MailboxId mailbox;
  std::uint64_t prev = 0;
  EntryView entry;     // kEntry, kVoid.
  RegisterView reg;    // kRegister.
};

inline constexpr std::size_t kBodySizeMax = 64 << 10;
inline constexpr std::size_t kRegisterKeySizeMax = 256;
inline constexpr std::size_t kRegisterValueSizeMax = 16 << 10;
inline constexpr std::size_t kChangeSizeMax = kBodySizeMax + 512;

// REQUIRES: sizes inside the limits above.
Bytes encode(const ChangeView& change, const Dot& dot);
// kCorrupt: wrong checksum or layout. kUnsupported: a newer format, with its checksum right.
Result<ChangeView> decode(View bytes, const Dot& dot);
// The same without the checksum, for bytes that encode() made or decode() took before.
Result<ChangeView> parse(View bytes);

// A hash of what a message says (to, type, body; not id, not dot), to tell a retry from a reused key.
std::uint64_t content_hash(const EntryView& entry, ChangeKind kind);

// The value of a kMember register.
struct MemberValue {
  std::uint64_t generation = 1;  // Only a re-add raises it.
  bool removed = false;          // Beats any role inside a generation.
  std::uint8_t role = 0;         // 0 member, 1 moderator, 2 owner.
  std::string address;           // Of the member, or of the group in a user's own list.
  FIELDS(generation, removed, role, address)
};

// True when `candidate` replaces `current`. Commutative in effect: merging in any order ends alike.
bool wins(const RegisterView& candidate, const RegisterView& current);

}  // namespace starling::storage
