// Layout: every key and value that the store persists, and nothing else knows them.
//
// Every key begins with a 16-bit slot, so that a partition (a range of slots) is one range of each
// family. A mailbox id begins with its slot; the log and the vectors use the partition's first
// slot, so that the run of one writer is one scan.
//
// family        key                                            value
// log           first_slot:u16be writer:u64be n:u64be          encoded change (change.h)
// entries       mailbox:16 conversation:16 id:16               dot expiry; one row per message
//                                                              key, none for a voided one
// mailbox_dots  mailbox:16 writer:u64be n:u64be                kind:u8 id expiry; every change
// registers     mailbox:16 key                                 merge:u8 id(stamp) dot value
// keys          mailbox:16 device:16 lane:u64be seq:u64be      dot id conversation:16 void:u8
//                                                              content:u64le expiry
// lanes         mailbox:16 device:16 lane:u64be                highest seq:u64le
// partitions    first_slot:u16be writer:u64be                  highest synced n:u64le
// hints         first_slot:u16be writer:u64be n:u64be          encoded change of a partition that is
//                                                              not ours (stand-in); empty: this n of the
//                                                              partition's parent was of the sibling
// damage        first_slot:u16be writer:u64be n:u64be          1: damaged, 2: lost (u8)
//               first_slot:u16be file:u64be                    3: refill the partition (u8)
// journal       seq:u64be                                      JournalRow: what a batch raised in `lanes`,
//                                                              `partitions` and "hlc" (rocks/journal.h)
// paxos, node   free                                           free; "split": stage:u8 key (SplitRow);
//               "lost/" mailbox:16 writer:u64be n:u64be        device:16 lane:u64be seq:u64be, and the row of `keys`
//
// id (in keys) := time:u64be writer:u64be     id (in values) := time:u64le writer:u64le
// dot          := writer:u64le n:u64le        expiry := u32le seconds, 0 never (expiry.h)
//
// The log holds the body once; a change is read through the dot that another family names. The rows
// of an entry carry one expiry, so that compaction erases each of them, and its trace, by the same rule.
// A row of the journal goes before those of `lanes` and `partitions`, which may be behind it. A store that
// was closed cleanly has an empty journal, and, unless it was ever split, a format that earlier builds know.
// While a split is settled, rows of `log` and `hints` of an upper child may still lie under its parent's first
// slot, which is the lower child's, too (rocks/store_split.cc).
// Thread: any; pure.
#pragma once

#include <array>
#include <cassert>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "crypto/bytes.h"
#include "storage/change.h"
#include "storage/expiry.h"
#include "storage/ids.h"
#include "storage/trace.h"

namespace starling::storage {

inline constexpr std::uint32_t kSlotCount = 1 << 16;

// The version of this file. A store written by a newer one is refused.
enum class Format : std::uint32_t { kInitial = 1, kJournal, kSplit, kNext };
inline constexpr auto kFormat =
    static_cast<std::uint32_t>(Format::kNext) - 1;
// Of a store whose journal is empty, and in which no partition is being filled by files.
inline constexpr auto kFormatClosed = static_cast<std::uint32_t>(Format::kInitial);
inline constexpr auto kFormatOpen = static_cast<std::uint32_t>(Format::kJournal);
// Of a store that was ever split, open or closed.
inline constexpr auto kFormatSplit = static_cast<std::uint32_t>(Format::kSplit);

enum class ColumnFamily : std::uint8_t {
  kLog, kEntries, kMailboxDots, kRegisters, kKeys, kLanes, kPartitions, kPaxos, kNode, kHints,
  kDamage, kJournal,
};
inline constexpr std::array<const char*, 12> kColumnFamilyNames = {
    "log", "entries", "mailbox_dots", "registers", "keys", "lanes", "partitions", "paxos", "node",
    "hints", "damage", "journal"};
// What the other owners of a partition have too.
inline constexpr std::array kReplicatedFamilies = {
    ColumnFamily::kLog,  ColumnFamily::kEntries, ColumnFamily::kMailboxDots,
    ColumnFamily::kRegisters, ColumnFamily::kKeys, ColumnFamily::kLanes,
    ColumnFamily::kPartitions};

// The store's own keys in `node`; all others are free for the node.
inline constexpr View kNodeFormat = "format";            // u64le, as all but kNodeSplit.
inline constexpr View kNodeCleanWriter = "clean_writer"; // Only after a clean shutdown.
inline constexpr View kNodeHighestTime = "hlc";          // Highest time accepted.
inline constexpr View kNodePartitions = "partitions";    // The count that the log is keyed by.
inline constexpr View kNodeExpiryTime = "expiry";        // Up to here entries are gone, in ms.
inline constexpr View kNodeRefillPermit = "refill_permit"; // The next open may empty what it must.
inline constexpr View kNodeIssued = "issued/";           // And a first slot: our last dot there,
                                                         // for a partition that was dropped.
inline constexpr View kNodeInstalling = "installing/";   // And a first slot: files of the partition may be
                                                         // here, and its vector is not.
inline constexpr View kNodeSplit = "split";              // SplitRow: a split is being settled.
inline constexpr View kNodeLost = "lost/";               // And a mailbox and a dot: the Trace of a message that was
                                                         // written off. Says something while `damage` says lost,
                                                         // and goes when that message would have.
inline bool is_reserved(View node_key) {
  return node_key == kNodeFormat || node_key == kNodeCleanWriter ||
         node_key == kNodeHighestTime || node_key == kNodePartitions ||
         node_key == kNodeExpiryTime || node_key == kNodeRefillPermit || node_key == kNodeSplit ||
         node_key.starts_with(kNodeIssued) || node_key.starts_with(kNodeInstalling) || node_key.starts_with(kNodeLost);
}

// Exactly N bytes, built without allocation.
template <std::size_t N>
class FixedBytes {
 public:
  FixedBytes& u8(std::uint8_t v) { return big(v, 1); }
  FixedBytes& u16be(std::uint16_t v) { return big(v, 2); }
  FixedBytes& u64be(std::uint64_t v) { return big(v, 8); }
  FixedBytes& u32le(std::uint32_t v) { return little(v, 4); }
  FixedBytes& u64le(std::uint64_t v) { return little(v, 8); }
  FixedBytes& raw(View bytes) {
    assert(at_ + bytes.size() <= N);
    std::memcpy(raw_.data() + at_, bytes.data(), bytes.size());
    at_ += bytes.size();
    return *this;
  }
  [[nodiscard]] View view() const {
    assert(at_ == N);
    return {raw_.data(), N};
  }

 private:
  FixedBytes& big(std::uint64_t v, int bytes) {
    assert(at_ + static_cast<std::size_t>(bytes) <= N);
    for (int i = bytes - 1; i >= 0; --i) raw_[at_++] = static_cast<char>(v >> (8 * i));
    return *this;
  }
  FixedBytes& little(std::uint64_t v, int bytes) {
    assert(at_ + static_cast<std::size_t>(bytes) <= N);
    for (int i = 0; i < bytes; ++i) raw_[at_++] = static_cast<char>(v >> (8 * i));
    return *this;
  }
  std::array<char, N> raw_;
  std::size_t at_ = 0;
};

// --- Keys. ---

inline constexpr std::size_t kRowKeySizeMax = MailboxId::kSize + kRegisterKeySizeMax + 1;

inline FixedBytes<18> log_key(Slot first_slot, const Dot& dot) {
  return FixedBytes<18>().u16be(first_slot).u64be(dot.writer.value).u64be(dot.n);
}
inline FixedBytes<48> entry_key(const MailboxId& mailbox, const MailboxId& conversation,
                                const EntryId& id) {
  return FixedBytes<48>().raw(mailbox.view()).raw(conversation.view()).u64be(id.time)
      .u64be(id.writer.value);
}
inline FixedBytes<32> mailbox_dot_key(const MailboxId& mailbox, const Dot& dot) {
  return FixedBytes<32>().raw(mailbox.view()).u64be(dot.writer.value).u64be(dot.n);
}
inline Bytes register_key(const MailboxId& mailbox, View key) {
  Bytes out;
  out.reserve(MailboxId::kSize + key.size());
  out.append(mailbox.view()).append(key);
  return out;
}
inline FixedBytes<48> message_key(const MailboxId& mailbox, const MessageKey& key) {
  return FixedBytes<48>().raw(mailbox.view()).raw(key.device.view()).u64be(key.lane)
      .u64be(key.seq);
}
// What follows the mailbox in it.
inline std::optional<MessageKey> parse_message(View bytes) {
  BytesReader in(bytes);
  MessageKey key;
  key.device = in.fixed<DeviceTag, 16>();
  key.lane = in.u64be();
  key.seq = in.u64be();
  if (!in.done()) return std::nullopt;
  return key;
}
inline std::optional<std::pair<MailboxId, MessageKey>> parse_message_key(View bytes) {
  MailboxId mailbox;
  if (!MailboxId::from(bytes.substr(0, MailboxId::kSize), mailbox)) return std::nullopt;
  const auto message = parse_message(bytes.substr(MailboxId::kSize));
  if (!message) return std::nullopt;
  return std::pair{mailbox, *message};
}
struct LaneId {
  MailboxId mailbox;
  DeviceId device;
  std::uint64_t lane = 0;
  friend bool operator==(const LaneId&, const LaneId&) = default;
};
inline FixedBytes<40> lane_key(const LaneId& id) {
  return FixedBytes<40>().raw(id.mailbox.view()).raw(id.device.view()).u64be(id.lane);
}
inline std::optional<LaneId> parse_lane_key(View key) {
  BytesReader in(key);
  LaneId out;
  out.mailbox = in.fixed<MailboxTag, 16>();
  out.device = in.fixed<DeviceTag, 16>();
  out.lane = in.u64be();
  if (!in.done()) return std::nullopt;
  return out;
}
inline FixedBytes<10> partition_key(Slot first_slot, WriterId writer) {
  return FixedBytes<10>().u16be(first_slot).u64be(writer.value);
}

inline FixedBytes<8> journal_key(std::uint64_t seq) { return FixedBytes<8>().u64be(seq); }
inline std::optional<std::uint64_t> parse_journal_key(View key) {
  BytesReader in(key);
  const std::uint64_t seq = in.u64be();
  if (!in.done()) return std::nullopt;
  return seq;
}

inline FixedBytes<10> refill_key(Slot first_slot, std::uint64_t file) {
  return FixedBytes<10>().u16be(first_slot).u64be(file);
}
// Where the rows of a slot begin, in every family but paxos and node.
inline FixedBytes<2> slot_key(Slot slot) { return FixedBytes<2>().u16be(slot); }

inline Bytes issued_key(Slot first_slot) {
  return Bytes(kNodeIssued).append(slot_key(first_slot).view());
}
inline Bytes installing_key(Slot first_slot) {
  return Bytes(kNodeInstalling).append(slot_key(first_slot).view());
}
// The slot behind a prefix of `node`.
inline std::optional<Slot> parse_node_slot(View key, View prefix) {
  if (key.size() != prefix.size() + sizeof(Slot)) return std::nullopt;
  return BytesReader(key.substr(prefix.size())).u16be();
}

// The dot at the end of a key of `log`, `mailbox_dots` or `damage`.
inline std::optional<Dot> parse_dot_key(View key, std::size_t prefix) {
  if (key.size() != prefix + 16) return std::nullopt;
  BytesReader in(key.substr(prefix));
  const WriterId writer{in.u64be()};
  return Dot{writer, in.u64be()};
}

struct PartitionRowKey {
  Slot first_slot = 0;
  WriterId writer;
  friend bool operator==(const PartitionRowKey&, const PartitionRowKey&) = default;
};
inline std::optional<PartitionRowKey> parse_partition_key(View key) {
  BytesReader in(key);
  PartitionRowKey out;
  out.first_slot = in.u16be();
  out.writer.value = in.u64be();
  if (!in.done()) return std::nullopt;
  return out;
}

// --- Values. A parser returns nothing for bytes of another shape. ---

inline FixedBytes<8> number_value(std::uint64_t n) { return FixedBytes<8>().u64le(n); }
inline std::optional<std::uint64_t> parse_number(View value) {
  BytesReader in(value);
  const std::uint64_t n = in.u64le();
  if (!in.done()) return std::nullopt;
  return n;
}

inline FixedBytes<16> dot_value(const Dot& dot) {
  return FixedBytes<16>().u64le(dot.writer.value).u64le(dot.n);
}
struct EntryRow {
  Dot dot;
  ExpirySeconds expiry = 0;
  friend bool operator==(const EntryRow&, const EntryRow&) = default;
};
inline FixedBytes<20> entry_value(const EntryRow& row) {
  return FixedBytes<20>().raw(dot_value(row.dot).view()).u32le(row.expiry);
}
inline std::optional<EntryRow> parse_entry_row(View value) {
  BytesReader in(value);
  EntryRow row;
  row.dot.writer.value = in.u64le();
  row.dot.n = in.u64le();
  row.expiry = in.u32le();
  if (!in.done()) return std::nullopt;
  return row;
}

struct MailboxDotRow {
  ChangeKind kind = ChangeKind::kEntry;
  EntryId at;  // Position of the change: its entry id, or the stamp of a register.
  ExpirySeconds expiry = 0;
  friend bool operator==(const MailboxDotRow&, const MailboxDotRow&) = default;
};
inline FixedBytes<21> mailbox_dot_value(const MailboxDotRow& row) {
  return FixedBytes<21>().u8(static_cast<std::uint8_t>(row.kind)).u64le(row.at.time)
      .u64le(row.at.writer.value).u32le(row.expiry);
}
inline std::optional<MailboxDotRow> parse_mailbox_dot(View value) {
  BytesReader in(value);
  MailboxDotRow row;
  row.kind = static_cast<ChangeKind>(in.u8());
  row.at.time = in.u64le();
  row.at.writer.value = in.u64le();
  row.expiry = in.u32le();
  if (!in.done()) return std::nullopt;
  return row;
}

struct KeyRow {
  Dot dot;
  EntryId id;
  MailboxId conversation;  // With id: the row in `entries`.
  bool is_void = false;
  std::uint64_t content = 0;
  ExpirySeconds expiry = 0;
  friend bool operator==(const KeyRow&, const KeyRow&) = default;
};
inline FixedBytes<61> key_value(const KeyRow& row) {
  return FixedBytes<61>().raw(dot_value(row.dot).view()).u64le(row.id.time)
      .u64le(row.id.writer.value).raw(row.conversation.view()).u8(row.is_void ? 1 : 0)
      .u64le(row.content).u32le(row.expiry);
}
inline std::optional<KeyRow> parse_key_row(View value) {
  BytesReader in(value);
  KeyRow row;
  row.dot.writer.value = in.u64le();
  row.dot.n = in.u64le();
  row.id.time = in.u64le();
  row.id.writer.value = in.u64le();
  row.conversation = in.fixed<MailboxTag, 16>();
  row.is_void = in.u8() != 0;
  row.content = in.u64le();
  row.expiry = in.u32le();
  if (!in.done()) return std::nullopt;
  return row;
}

struct RegisterRow {
  MergeKind merge = MergeKind::kLww;
  EntryId stamp;
  Dot dot;
  Bytes value;
};
inline Bytes register_value(const RegisterRow& row) {
  Bytes bytes;
  bytes.reserve(33 + row.value.size());
  BytesWriter out(bytes);
  out.u8(static_cast<std::uint8_t>(row.merge));
  out.u64le(row.stamp.time);
  out.u64le(row.stamp.writer.value);
  out.raw(dot_value(row.dot).view());
  out.raw(row.value);
  return bytes;
}
inline std::optional<RegisterRow> parse_register_row(View value) {
  BytesReader in(value);
  RegisterRow row;
  row.merge = static_cast<MergeKind>(in.u8());
  row.stamp.time = in.u64le();
  row.stamp.writer.value = in.u64le();
  row.dot.writer.value = in.u64le();
  row.dot.n = in.u64le();
  row.value = Bytes(in.raw(in.left()));
  if (!in.ok()) return std::nullopt;
  return row;
}

// What a batch did to the numbers that only grow, in this order:
// time:u64le, and four times count:u32le with so many of
// first_slot:u16le | first_slot:u16le writer:u64le | first_slot:u16le writer:u64le n:u64le |
// mailbox:16 device:16 lane:u64le high:u64le
// and, of the batch that split the store, the count of partitions before it: u32le.
struct JournalRow {
  struct Run {
    Slot first_slot = 0;
    WriterId writer;
    std::uint64_t n = 0;
    friend bool operator==(const Run&, const Run&) = default;
  };
  struct Lane {
    LaneId id;
    std::uint64_t high = 0;
    friend bool operator==(const Lane&, const Lane&) = default;
  };
  Hlc time = 0;                            // 0: not raised.
  std::vector<Slot> dropped;               // Partitions that are no more: their runs and lanes begin anew.
  std::vector<PartitionRowKey> forgotten;  // Runs, likewise.
  std::vector<Run> runs;
  std::vector<Lane> lanes;
  // Not 0: so many partitions there were before this row; slots of dropped ones in earlier rows are of those.
  std::uint32_t split_from = 0;
  [[nodiscard]] bool empty() const {
    return time == 0 && dropped.empty() && forgotten.empty() && runs.empty() && lanes.empty() && split_from == 0;
  }
  friend bool operator==(const JournalRow&, const JournalRow&) = default;
};
inline Bytes journal_value(const JournalRow& row) {
  Bytes bytes;
  bytes.reserve(24 + 2 * row.dropped.size() + 10 * row.forgotten.size() + 18 * row.runs.size() +
                48 * row.lanes.size());
  BytesWriter out(bytes);
  const auto count = [&](std::size_t n) { out.u32le(static_cast<std::uint32_t>(n)); };
  out.u64le(row.time);
  count(row.dropped.size());
  for (const Slot slot : row.dropped) out.u16le(slot);
  count(row.forgotten.size());
  for (const auto& run : row.forgotten) {
    out.u16le(run.first_slot);
    out.u64le(run.writer.value);
  }
  count(row.runs.size());
  for (const auto& run : row.runs) {
    out.u16le(run.first_slot);
    out.u64le(run.writer.value);
    out.u64le(run.n);
  }
  count(row.lanes.size());
  for (const auto& lane : row.lanes) {
    out.raw(lane.id.mailbox.view());
    out.raw(lane.id.device.view());
    out.u64le(lane.id.lane);
    out.u64le(lane.high);
  }
  if (row.split_from != 0) out.u32le(row.split_from);
  return bytes;
}
inline std::optional<JournalRow> parse_journal_row(View value) {
  BytesReader in(value);
  JournalRow row;
  row.time = in.u64le();
  for (std::uint32_t left = in.u32le(); in.ok() && left > 0; --left) row.dropped.push_back(in.u16le());
  for (std::uint32_t left = in.u32le(); in.ok() && left > 0; --left) {
    const Slot slot = in.u16le();
    row.forgotten.push_back({slot, WriterId{in.u64le()}});
  }
  for (std::uint32_t left = in.u32le(); in.ok() && left > 0; --left) {
    const Slot slot = in.u16le();
    const WriterId writer{in.u64le()};
    row.runs.push_back({slot, writer, in.u64le()});
  }
  for (std::uint32_t left = in.u32le(); in.ok() && left > 0; --left) {
    LaneId id;
    id.mailbox = in.fixed<MailboxTag, 16>();
    id.device = in.fixed<DeviceTag, 16>();
    id.lane = in.u64le();
    row.lanes.push_back({id, in.u64le()});
  }
  if (in.ok() && in.left() > 0) {
    row.split_from = in.u32le();
    if (row.split_from == 0) return std::nullopt;
  }
  if (!in.done()) return std::nullopt;
  return row;
}

inline Bytes lost_key(const MailboxId& mailbox, const Dot& dot) {
  return Bytes(kNodeLost).append(mailbox_dot_key(mailbox, dot).view());
}
inline FixedBytes<93> lost_value(const Trace& trace) {
  const KeyRow row{trace.dot, trace.id, trace.conversation, trace.is_void, trace.content, trace.expiry};
  return FixedBytes<93>().raw(trace.key.device.view()).u64be(trace.key.lane).u64be(trace.key.seq)
      .raw(key_value(row).view());
}
inline Trace trace_of(const MailboxId& mailbox, const MessageKey& key, const KeyRow& row) {
  return {mailbox, row.conversation, key, row.id, row.dot, row.is_void, row.content, row.expiry};
}
inline std::optional<Trace> parse_lost(View key, View value) {
  constexpr std::size_t kMessageSize = 32;
  MailboxId mailbox;
  const View place = key.substr(std::min(key.size(), kNodeLost.size()));
  const auto dot = parse_dot_key(place, MailboxId::kSize);
  const auto message = parse_message(value.substr(0, kMessageSize));
  const auto row = message ? parse_key_row(value.substr(kMessageSize)) : std::nullopt;
  if (!dot || !row || row->dot != *dot || !MailboxId::from(place.substr(0, MailboxId::kSize), mailbox)) return std::nullopt;
  return trace_of(mailbox, *message, *row);
}

// How far the settling of a split has come.
struct SplitRow {
  enum class Stage : std::uint8_t { kHints = 1, kLog = 2 };
  Stage stage = Stage::kHints;
  Bytes at;  // Rows of the stage's family with keys below this one are settled.
  friend bool operator==(const SplitRow&, const SplitRow&) = default;
};
inline Bytes split_value(const SplitRow& row) {
  return Bytes(1, static_cast<char>(row.stage)).append(row.at);
}
inline std::optional<SplitRow> parse_split_row(View value) {
  BytesReader in(value);
  const std::uint8_t stage = in.u8();
  if (!in.ok() || stage < 1 || stage > 2) return std::nullopt;
  return SplitRow{static_cast<SplitRow::Stage>(stage), Bytes(in.rest())};
}

enum class DamageState : std::uint8_t { kDamaged = 1, kLost = 2, kRefill = 3 };
inline FixedBytes<1> damage_value(DamageState state) {
  return FixedBytes<1>().u8(static_cast<std::uint8_t>(state));
}

}  // namespace starling::storage
