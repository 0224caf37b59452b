// Ids: the nouns of Starling as distinct types, so that arguments cannot be swapped.
//
// address   "@alice" (user) or "#ops" (group); the sigil is part of the name.
// mailbox   BLAKE2b-128 of the address. Its first 16 bits are the slot: every key on disk starts with
//           them, and a partition is a range of slots (docs/decisions/0001).
// writer    one run of one node's process: 64 random bits, never reused.
// dot       (writer, n): the n-th change of a writer in a partition; 1, 2, 3 ... without gaps.
// device    BLAKE2b-128 of (user mailbox, device name): a client cannot speak for another's device.
// key       (device, lane, seq): the identity of a message in every copy and reference.
// entry id  48-bit ms, 16-bit logical, then the writer: the position of an entry.
// Thread: any; value types.
#pragma once

#include <compare>
#include <cstdint>
#include <string>

#include "crypto/bytes.h"
#include "crypto/msgpack.h"
#include "crypto/result.h"

namespace starling {

struct NodeTag;
using NodeId = Fixed<NodeTag, 16>;  // Fingerprint of the node's public key.
struct MailboxTag;
using MailboxId = Fixed<MailboxTag, 16>;
struct DeviceTag;
using DeviceId = Fixed<DeviceTag, 16>;
struct LineageTag;
using LineageId = Fixed<LineageTag, 16>;  // One unbroken history of ring versions.

struct WriterTag;
using WriterId = Id<WriterTag, std::uint64_t>;
struct PartitionTag;
using PartitionId = Id<PartitionTag, std::uint16_t>;
struct RingNumberTag;
using RingNumber = Id<RingNumberTag, std::uint64_t>;

using Slot = std::uint16_t;

struct Dot {
  WriterId writer;
  std::uint64_t n = 0;
  friend bool operator==(const Dot&, const Dot&) = default;
  friend auto operator<=>(const Dot&, const Dot&) = default;
  FIELDS(writer, n)
};

// Hybrid logical clock reading (Kulkarni 2014): milliseconds << 16 | logical.
using Hlc = std::uint64_t;
inline constexpr std::uint64_t hlc_ms(Hlc t) { return t >> 16; }
inline constexpr Hlc hlc_at(std::uint64_t ms) { return ms << 16; }

struct EntryId {
  Hlc time = 0;
  WriterId writer;
  friend bool operator==(const EntryId&, const EntryId&) = default;
  friend auto operator<=>(const EntryId&, const EntryId&) = default;
  [[nodiscard]] bool is_zero() const { return time == 0 && writer.value == 0; }
  FIELDS(time, writer)
};
std::string to_text(const Dot& dot);             // "(writer, n)", for people.
std::string to_text(const EntryId& id);          // 26 characters, Crockford base32, sorts like the id.
Result<EntryId> parse_entry_id(View text);       // kInvalid.

struct MessageKey {
  DeviceId device;
  std::uint64_t lane = 0;  // First 8 bytes of the mailbox that the lane leads to.
  std::uint64_t seq = 0;   // 1, 2, 3 ... no number is ever skipped.
  friend bool operator==(const MessageKey&, const MessageKey&) = default;
  friend auto operator<=>(const MessageKey&, const MessageKey&) = default;
  FIELDS(device, lane, seq)
};

// An address is a sigil, @ or #, and a name of 1..64 bytes of UTF-8 without spaces, control or
// invisible characters. kInvalid says what is wrong.
inline constexpr std::size_t kNameSizeMax = 64;
enum class AddressKind { kUser, kGroup };
Result<AddressKind> check_address(View address);

MailboxId mailbox_of(View address);
DeviceId device_of(const MailboxId& user, View device_name);
std::uint64_t lane_to(const MailboxId& mailbox);
inline Slot slot_of(const MailboxId& mailbox) {
  return static_cast<Slot>(mailbox.raw[0] << 8 | mailbox.raw[1]);
}
// REQUIRES: partitions is a power of two in 1..65536. PartitionId holds up to 65535.
PartitionId partition_of(Slot slot, std::uint32_t partitions);
Slot first_slot(PartitionId partition, std::uint32_t partitions);
// Of fewer partitions the one in which all of `partition` lies, which is one of `of`. REQUIRES: both are powers of two,
// partitions <= of.
PartitionId covering(PartitionId partition, std::uint32_t of, std::uint32_t partitions);

std::string hex(View bytes);
// "k3vd9m2q": the first 8 characters of a node id in lower case, for people.
std::string short_text(const NodeId& node);
std::string to_text(const NodeId& node);  // 26 characters of base32.
Result<NodeId> parse_node_id(View text);

}  // namespace starling

template <>
struct std::hash<starling::Dot> {
  std::size_t operator()(const starling::Dot& d) const noexcept {
    return std::hash<std::uint64_t>{}(d.writer.value ^ (d.n * 0x9E3779B97F4A7C15ULL));
  }
};
template <>
struct std::hash<starling::MessageKey> {
  std::size_t operator()(const starling::MessageKey& k) const noexcept {
    return std::hash<std::string_view>{}(k.device.view()) ^
           (k.lane * 0x9E3779B97F4A7C15ULL + k.seq * 0xC2B2AE3D27D4EB4FULL);
  }
};
