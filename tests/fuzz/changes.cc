// What is on disk and between replicas: changes, rows, vectors. The checksum of a change is set right, so that
// what lies behind it is reached.
#include <xxhash.h>

#include "storage/change.h"
#include "storage/layout.h"
#include "storage/store.h"
#include "storage/version_vector.h"
#include "tests/fuzz/fuzz.h"

using namespace starling;
using namespace starling::storage;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const View in = fuzz::view(data, size);
  const Dot dot{WriterId{0x1122334455667788}, 9};
  (void)decode(in, dot);
  if (size > 8) {
    Bytes sealed(in.substr(0, size - 8));
    Bytes seed;
    BytesWriter(seed).u64le(dot.writer.value);
    BytesWriter(seed).u64le(dot.n);
    BytesWriter(sealed).u64le(XXH3_64bits_withSeed(sealed.data(), sealed.size(),
                                                   XXH3_64bits(seed.data(), seed.size())));
    if (const auto change = fuzz::bounded(sealed, [&](View bytes) { return decode(bytes, dot); })) {
      fuzz::require(parse(sealed).ok(), "without the checksum it is the same");
      fuzz::require(encode(*change, dot) == sealed, "a change that is read is not what was written");
      (void)content_hash(change->entry, change->kind);
      if (change->kind == ChangeKind::kRegister) (void)wins(change->reg, change->reg);
    }
  }
  const auto bytes = [](auto value) { return Bytes(value.view()); };
  fuzz::same_bytes(in, parse_lane_key, [&](const LaneId& id) { return bytes(lane_key(id)); });
  fuzz::same_bytes(in, parse_journal_key, [&](std::uint64_t seq) { return bytes(journal_key(seq)); });
  if (size >= 2) {
    const Slot slot = BytesReader(in).u16be();
    fuzz::same_bytes(in, [](View key) { return parse_dot_key(key, 2); },
                     [&](const Dot& at) { return bytes(log_key(slot, at)); });
  }
  fuzz::same_bytes(in, parse_partition_key,
                   [&](const PartitionRowKey& key) { return bytes(partition_key(key.first_slot, key.writer)); });
  fuzz::same_bytes(in, parse_number, [&](std::uint64_t n) { return bytes(number_value(n)); });
  fuzz::same_bytes(in, parse_entry_row, [&](const EntryRow& row) { return bytes(entry_value(row)); });
  fuzz::same_bytes(in, parse_mailbox_dot, [&](const MailboxDotRow& row) { return bytes(mailbox_dot_value(row)); });
  fuzz::same_bytes(in, parse_message_key, [&](const auto& named) { return bytes(message_key(named.first, named.second)); });
  (void)parse_message(in);
  const Bytes lost = Bytes(kNodeLost).append(in.substr(0, MailboxId::kSize + 16));
  if (const auto trace = parse_lost(lost, in.substr(lost.size() - kNodeLost.size()))) {
    fuzz::require(parse_lost(lost, lost_value(*trace).view()) == trace, "a trace does not survive encoding");
  }
  if (const auto row = parse_key_row(in)) {  // Any byte but 0 is a void.
    fuzz::require(parse_key_row(key_value(*row).view()) == row, "the row of a key does not survive encoding");
  }
  fuzz::same_bytes(in, parse_register_row, register_value);
  fuzz::same_bytes(in, parse_journal_row, journal_value);
  fuzz::same_bytes(in, parse_split_row, split_value);
  fuzz::same_bytes(Bytes(kNodeIssued).append(in), [](View key) { return parse_node_slot(key, kNodeIssued); }, issued_key);
  fuzz::round_trips<Dot, EntryId, MessageKey, LaneRow, RangeStatement>(in);
  fuzz::round_trips<VersionVector, MemberValue>(in);
  return 0;
}
