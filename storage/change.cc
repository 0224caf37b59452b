#include "storage/change.h"

#include <array>
#include <cassert>

#include <xxhash.h>

namespace starling::storage {
namespace {

// format, kind, mailbox, prev in front; the checksum behind.
constexpr std::size_t kHeadSize = 1 + 1 + 16 + 8;
constexpr std::size_t kChecksumSize = 8;
constexpr std::size_t kEntryFixedSize = 16 + 16 + 8 + 8 + 16 + 8 + 1 + 1 + 1 + 1 + 4;
constexpr std::size_t kRegisterFixedSize = 1 + 16 + 2 + 4;
constexpr std::size_t kAddressSizeMax = 1 + kNameSizeMax;

static_assert(kHeadSize + kEntryFixedSize + 2 * kAddressSizeMax + kBodySizeMax + kChecksumSize <=
              kChangeSizeMax);
static_assert(kHeadSize + kRegisterFixedSize + kRegisterKeySizeMax + kRegisterValueSizeMax +
                  kChecksumSize <= kChangeSizeMax);

std::uint64_t checksum(View bytes, const Dot& dot) {
  std::array<unsigned char, 16> seed;
  for (std::size_t i = 0; i < 8; ++i) {
    seed[i] = static_cast<unsigned char>(dot.writer.value >> (8 * i));
    seed[8 + i] = static_cast<unsigned char>(dot.n >> (8 * i));
  }
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), XXH3_64bits(seed.data(), seed.size()));
}

void write_id(BytesWriter& out, const EntryId& id) {
  out.u64le(id.time);
  out.u64le(id.writer.value);
}

EntryId read_id(BytesReader& in) {
  EntryId id;
  id.time = in.u64le();
  id.writer.value = in.u64le();
  return id;
}

void write_entry(BytesWriter& out, const EntryView& entry) {
  write_id(out, entry.id);
  out.raw(entry.key.device.view());
  out.u64le(entry.key.lane);
  out.u64le(entry.key.seq);
  out.raw(entry.conversation.view());
  out.u64le(entry.expires_ms);
  out.u8(static_cast<std::uint8_t>(entry.type));
  out.u8(entry.flags);
  out.u8(static_cast<std::uint8_t>(entry.from.size()));
  out.raw(entry.from);
  out.u8(static_cast<std::uint8_t>(entry.to.size()));
  out.raw(entry.to);
  out.sized(entry.body);
}

// Null when `entry` is whole and inside the limits, else what is wrong.
const char* read_entry(BytesReader& in, ChangeKind kind, EntryView& entry) {
  entry.id = read_id(in);
  entry.key.device = in.fixed<DeviceTag, 16>();
  entry.key.lane = in.u64le();
  entry.key.seq = in.u64le();
  entry.conversation = in.fixed<MailboxTag, 16>();
  entry.expires_ms = in.u64le();
  const std::uint8_t type = in.u8();
  entry.type = static_cast<EntryType>(type);
  entry.flags = in.u8();
  entry.from = in.raw(in.u8());
  entry.to = in.raw(in.u8());
  entry.body = in.sized();
  if (!in.done()) return "a wrong length";
  if (type != 1 && type != 2) return "an unknown entry type";
  if (entry.from.size() > kAddressSizeMax || entry.to.size() > kAddressSizeMax) {
    return "an address that is too long";
  }
  if (entry.body.size() > kBodySizeMax) return "a body that is too long";
  if (kind == ChangeKind::kVoid && !entry.body.empty()) return "a void with a body";
  return nullptr;
}

void write_register(BytesWriter& out, const RegisterView& reg) {
  out.u8(static_cast<std::uint8_t>(reg.merge));
  write_id(out, reg.stamp);
  out.u16le(static_cast<std::uint16_t>(reg.key.size()));
  out.raw(reg.key);
  out.sized(reg.value);
}

const char* read_register(BytesReader& in, RegisterView& reg) {
  const std::uint8_t merge = in.u8();
  reg.merge = static_cast<MergeKind>(merge);
  reg.stamp = read_id(in);
  reg.key = in.raw(in.u16le());
  reg.value = in.sized();
  if (!in.done()) return "a wrong length";
  if (merge < 1 || merge > 3) return "an unknown merge kind";
  if (reg.key.size() > kRegisterKeySizeMax) return "a register key that is too long";
  if (reg.value.size() > kRegisterValueSizeMax) return "a register value that is too long";
  return nullptr;
}

Error corrupt(const char* what) {
  return {Errc::kCorrupt, std::string("a change with ") + what + ": read another copy"};
}

}  // namespace

Bytes encode(const ChangeView& change, const Dot& dot) {
  const bool is_register = change.kind == ChangeKind::kRegister;
  assert(is_register || (change.entry.body.size() <= kBodySizeMax &&
                         change.entry.from.size() <= kAddressSizeMax &&
                         change.entry.to.size() <= kAddressSizeMax));
  assert(change.kind != ChangeKind::kVoid || change.entry.body.empty());
  assert(!is_register || (change.reg.key.size() <= kRegisterKeySizeMax &&
                          change.reg.value.size() <= kRegisterValueSizeMax));
  Bytes bytes;
  bytes.reserve(kHeadSize + kChecksumSize +
                (is_register
                     ? kRegisterFixedSize + change.reg.key.size() + change.reg.value.size()
                     : kEntryFixedSize + change.entry.from.size() + change.entry.to.size() +
                           change.entry.body.size()));
  BytesWriter out(bytes);
  out.u8(kChangeFormat);
  out.u8(static_cast<std::uint8_t>(change.kind));
  out.raw(change.mailbox.view());
  out.u64le(change.prev);
  if (is_register) {
    write_register(out, change.reg);
  } else {
    write_entry(out, change.entry);
  }
  out.u64le(checksum(bytes, dot));
  return bytes;
}

Result<ChangeView> decode(View bytes, const Dot& dot) {
  if (bytes.size() < kHeadSize + kChecksumSize) return corrupt("too few bytes");
  if (bytes.size() > kChangeSizeMax) return corrupt("too many bytes");
  // Every format ends with this checksum: a flipped bit is no newer format.
  const View content = bytes.substr(0, bytes.size() - kChecksumSize);
  if (BytesReader(bytes.substr(content.size())).u64le() != checksum(content, dot)) {
    return corrupt("a wrong checksum");
  }
  return parse(bytes);
}

Result<ChangeView> parse(View bytes) {
  if (bytes.size() < kHeadSize + kChecksumSize) return corrupt("too few bytes");
  const View content = bytes.substr(0, bytes.size() - kChecksumSize);
  const auto format = static_cast<std::uint8_t>(bytes[0]);
  if (format > kChangeFormat) {
    return Error{Errc::kUnsupported,
                 "a change of format " + std::to_string(format) + ", this build reads up to " +
                     std::to_string(kChangeFormat) + ": upgrade this node"};
  }
  if (format != kChangeFormat) return corrupt("an unknown format");
  BytesReader in(content.substr(1));
  ChangeView change;
  const std::uint8_t kind = in.u8();
  change.kind = static_cast<ChangeKind>(kind);
  change.mailbox = in.fixed<MailboxTag, 16>();
  change.prev = in.u64le();
  if (kind < 1 || kind > 3) return corrupt("an unknown kind");
  const char* wrong = change.kind == ChangeKind::kRegister
                          ? read_register(in, change.reg)
                          : read_entry(in, change.kind, change.entry);
  if (wrong != nullptr) return corrupt(wrong);
  return change;
}

std::uint64_t content_hash(const EntryView& entry, ChangeKind kind) {
  const std::uint64_t seed =
      static_cast<std::uint64_t>(kind) << 8 | static_cast<std::uint64_t>(entry.type);
  const std::uint64_t to = XXH3_64bits_withSeed(entry.to.data(), entry.to.size(), seed);
  return XXH3_64bits_withSeed(entry.body.data(), entry.body.size(), to);
}

namespace {

// Three-way comparisons of what decides before the stamp does.
std::strong_ordering compare_numbers(View a, View b) {
  a.remove_prefix(std::min(a.find_first_not_of('\0'), a.size()));
  b.remove_prefix(std::min(b.find_first_not_of('\0'), b.size()));
  if (a.size() != b.size()) return a.size() <=> b.size();
  return a.compare(b) <=> 0;
}

// A value that is no MemberValue loses against every one that is.
std::strong_ordering compare_members(View a, View b) {
  const auto left = unpack<MemberValue>(a);
  const auto right = unpack<MemberValue>(b);
  if (!left || !right) return left.ok() <=> right.ok();
  if (const auto order = left->generation <=> right->generation; order != 0) return order;
  return left->removed <=> right->removed;
}

}  // namespace

// A total order of (merge, value, stamp), so the maximum does not depend on the order of arrival.
bool wins(const RegisterView& candidate, const RegisterView& current) {
  auto order = candidate.merge <=> current.merge;  // A key has one kind; this only keeps it total.
  if (order == 0 && candidate.merge == MergeKind::kMax) {
    order = compare_numbers(candidate.value, current.value);
  }
  if (order == 0 && candidate.merge == MergeKind::kMember) {
    order = compare_members(candidate.value, current.value);
  }
  if (order == 0) order = candidate.stamp <=> current.stamp;
  if (order == 0) order = candidate.value.compare(current.value) <=> 0;
  return order > 0;
}

}  // namespace starling::storage
