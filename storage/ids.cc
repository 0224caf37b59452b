#include "storage/ids.h"

#include <bit>
#include <cassert>

#include "crypto/hash.h"
#include "crypto/text.h"

namespace starling {
namespace {

constexpr std::uint32_t kSlots = 65536;
constexpr std::size_t kShortTextSize = 8;

struct Range {
  char32_t first, last;
};
// Spaces, and characters that show nothing or turn the text around, from U+0080 on.
constexpr Range kUnseen[] = {
    {0x0080, 0x00A0},  // C1 controls, no-break space.
    {0x1680, 0x1680},  // Ogham space.
    {0x2000, 0x200F},  // Spaces, joiners, direction marks.
    {0x2028, 0x202F},  // Separators, embeddings and overrides.
    {0x205F, 0x206F},  // Space, invisible operators, isolates.
    {0x3000, 0x3000},  // Ideographic space.
    {0xFEFF, 0xFEFF},  // Byte order mark.
};

bool is_visible(char32_t point) {
  if (point < 0x80) return point > 0x20 && point < 0x7F;
  for (const Range& range : kUnseen) {
    if (point >= range.first && point <= range.last) return false;
  }
  return true;
}

}  // namespace

std::string to_text(const Dot& dot) {
  return "(" + std::to_string(dot.writer.value) + ", " + std::to_string(dot.n) + ")";
}

std::string to_text(const EntryId& id) {
  Bytes bytes;
  BytesWriter writer(bytes);
  writer.u64be(id.time);
  writer.u64be(id.writer.value);
  return base32(bytes);
}

Result<EntryId> parse_entry_id(View text) {
  TRY_ASSIGN(const Bytes bytes, parse_base32(text, 16));
  BytesReader in(bytes);
  EntryId out;
  out.time = in.u64be();
  out.writer.value = in.u64be();
  return out;
}

Result<AddressKind> check_address(View address) {
  if (address.empty() || (address[0] != '@' && address[0] != '#')) {
    return Error{Errc::kInvalid, "an address begins with @ (a user) or # (a group)"};
  }
  View name = address.substr(1);
  if (name.empty() || name.size() > kNameSizeMax) {
    return Error{Errc::kInvalid, "the name after the " + std::string(address.substr(0, 1)) +
                                     " must be 1 to 64 bytes, this one has " +
                                     std::to_string(name.size())};
  }
  while (!name.empty()) {
    if (name.front() > ' ' && name.front() < 0x7f) {  // As in most names, all the way: each message is asked for some.
      name.remove_prefix(1);
      continue;
    }
    const auto point = next_code_point(name);
    if (!point) return Error{Errc::kInvalid, "the name is not UTF-8: send it as UTF-8"};
    if (!is_visible(*point)) {
      return Error{Errc::kInvalid, "the name has a space or an invisible character: leave it out"};
    }
  }
  return address[0] == '@' ? AddressKind::kUser : AddressKind::kGroup;
}

MailboxId mailbox_of(View address) { return blake2b_id<MailboxId>({address}); }

DeviceId device_of(const MailboxId& user, View device_name) {
  return blake2b_id<DeviceId>({user.view(), device_name});
}

std::uint64_t lane_to(const MailboxId& mailbox) { return BytesReader(mailbox.view()).u64be(); }

PartitionId partition_of(Slot slot, std::uint32_t partitions) {
  assert(partitions <= kSlots && std::has_single_bit(partitions));
  return {static_cast<std::uint16_t>(std::uint64_t{slot} * partitions / kSlots)};
}

Slot first_slot(PartitionId partition, std::uint32_t partitions) {
  assert(partitions <= kSlots && std::has_single_bit(partitions));
  assert(partition.value < partitions);
  return static_cast<Slot>(partition.value * (kSlots / partitions));
}

PartitionId covering(PartitionId partition, std::uint32_t of, std::uint32_t partitions) {
  assert(partition.value < of && partitions <= of);
  return partition_of(first_slot(partition, of), partitions);
}

std::string short_text(const NodeId& node) {
  std::string out = to_text(node).substr(0, kShortTextSize);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

std::string to_text(const NodeId& node) { return base32(node.view()); }

Result<NodeId> parse_node_id(View text) {
  TRY_ASSIGN(const Bytes bytes, parse_base32(text, NodeId::kSize));
  NodeId out;
  NodeId::from(bytes, out);
  return out;
}

}  // namespace starling
