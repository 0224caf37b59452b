// The scrub: what each row says against what the log says. The log decides.

#include <algorithm>

#include "storage/rocks/rocks_store.h"
#include "storage/rows.h"

namespace starling::storage {
namespace {

// The log first: it writes wrong rows again before those who name a change are followed to it.
constexpr std::array kStages = {
    ColumnFamily::kLog,  ColumnFamily::kMailboxDots, ColumnFamily::kEntries, ColumnFamily::kKeys,
    ColumnFamily::kRegisters, ColumnFamily::kLanes, ColumnFamily::kPartitions};

// cursor := stage:u8 last_key
struct Place {
  std::size_t stage = 0;
  Bytes after;
};
Place parse_cursor(View cursor) {
  if (cursor.empty()) return {};
  return {static_cast<unsigned char>(cursor.front()), Bytes(cursor.substr(1))};
}
Bytes cursor_of(std::size_t stage, View after) {
  Bytes out(1, static_cast<char>(stage));
  return out.append(after);
}

double share_of(View cursor) {
  if (cursor.empty()) return 1;
  const Place at = parse_cursor(cursor);
  const double rest = 0.5 / (kStages.size() - 1);
  const double slots = at.after.size() < sizeof(Slot) ? 0 : BytesReader(at.after).u16be() / double{kSlotCount};
  return at.stage == 0 ? 0.5 * slots : 0.5 + rest * (static_cast<double>(at.stage - 1) + slots);
}

std::optional<Dot> dot_of_row(ColumnFamily family, View value) {
  if (family == ColumnFamily::kEntries) {
    const auto row = parse_entry_row(value);
    return row ? std::optional(row->dot) : std::nullopt;
  }
  if (family == ColumnFamily::kKeys) {
    const auto row = parse_key_row(value);
    return row ? std::optional(row->dot) : std::nullopt;
  }
  const auto row = parse_register_row(value);
  return row ? std::optional(row->dot) : std::nullopt;
}

ExpirySeconds expiry_named(ColumnFamily family, View value) {
  if (family == ColumnFamily::kEntries) return parse_entry_row(value)->expiry;
  if (family == ColumnFamily::kKeys) return parse_key_row(value)->expiry;
  return 0;
}

}  // namespace

struct RocksStore::ScrubRun {
  ScrubStep step;
  rocksdb::ManagedSnapshot snapshot;
  [[nodiscard]] ReadMode mode() { return {snapshot.snapshot(), false}; }
};

Result<ScrubStep> RocksStore::scrub(View cursor, std::size_t bytes) {
  TRY(check_room());
  const Place from = parse_cursor(cursor);
  if (from.stage >= kStages.size()) return Error{Errc::kInvalid, "storage: no cursor of a scrub"};
  const std::size_t damaged_before = damage_.damaged_count() + damage_.refill_slots().size();
  ScrubRun run{{}, rocksdb::ManagedSnapshot(&engine_->db())};
  const ColumnFamily family = kStages[from.stage];
  Engine::Scan rows(*engine_, family, {}, {}, run.mode());
  rows->Seek(slice(from.after.empty() ? Bytes() : from.after + '\0'));
  Bytes last;
  for (; rows.valid() && run.step.bytes < bytes && check_room(); rows->Next()) {
    run.step.rows += 1;
    run.step.bytes += rows.key().size() + rows.value().size();
    last = rows.key();
    scrub_row(run, family, rows.key(), rows.value());
  }
  if (rows.valid()) {
    run.step.cursor = cursor_of(from.stage, last);
  } else {
    // A file that cannot be read is noted by now; the rest of the family is looked at next time.
    const auto status = rows.status();
    if (!status && damage_.refill_slots().empty()) return status.error();
    if (from.stage + 1 < kStages.size()) {
      run.step.cursor = cursor_of(from.stage + 1, {});
    } else {
      scrub_damage_list(run);
    }
  }
  run.step.share = share_of(run.step.cursor);
  const std::size_t damaged = damage_.damaged_count() + damage_.refill_slots().size();
  run.step.damaged = damaged > damaged_before ? damaged - damaged_before : 0;
  return std::move(run.step);
}

void RocksStore::scrub_row(ScrubRun& run, ColumnFamily family, View key, View value) {
  MailboxId mailbox;
  switch (family) {
    case ColumnFamily::kLog:
      return scrub_log(run, key, value);
    case ColumnFamily::kMailboxDots:
      return scrub_mailbox_dot(run, key, value);
    case ColumnFamily::kLanes:
      if (!parse_number(value) && MailboxId::from(key.substr(0, MailboxId::kSize), mailbox)) {
        heal_mailbox(mailbox);
        run.step.mended += 1;
      }
      return;
    case ColumnFamily::kPartitions:
      if (!parse_partition_key(key) || !parse_number(value)) {
        note_refill({BytesReader(key).u16be()}, 0, "a vector is damaged");
      }
      return;
    default:
      return scrub_named(run, family, key, value);
  }
}

void RocksStore::scrub_log(ScrubRun& run, View key, View value) {
  const auto dot = parse_dot_key(key, sizeof(Slot));
  if (!dot) return;
  const auto is_known = [&](Slot slot) {
    return dot->n > table_.synced(slot, dot->writer) || damage_.is_damaged(slot, *dot);
  };
  Slot slot = BytesReader(key).u16be();
  if (!split_ && is_known(slot)) return;
  const auto change = decode(value, *dot);
  if (!change) {
    if (change.code() != Errc::kUnsupported) damaged_record(slot, *dot, change.error().text);
    return;
  }
  if (split_) {
    slot = slot_of(partition_of(change->mailbox));
    if (is_known(slot)) return;
  }
  if (expiry_->expired(expiry_seconds(change->entry.expires_ms))) return;
  if (rows_stand(run, *dot, *change)) return;
  const bool outer = std::exchange(healing_, true);
  stage_rows(slot, *dot, value, *change);
  healing_ = outer;
  run.step.mended += 1;
}

// Whether the rows that the change implies are there, as of the snapshot. What lies in a file that
// cannot be read stands: its partitions are noted, and writing there would not help.
bool RocksStore::rows_stand(ScrubRun& run, const Dot& dot, const ChangeView& change) {
  bool readable = true;
  const auto read = [&](ColumnFamily family, View key) -> std::optional<Bytes> {
    rocksdb::PinnableSlice value;
    const auto found = engine_->get(family, key, value, run.mode());
    readable = readable && found.ok();
    if (!found || !*found) return std::nullopt;
    return Bytes(view(value));
  };
  const auto stands = [&](bool as_it_should) { return as_it_should || !readable; };
  const auto dots = read(ColumnFamily::kMailboxDots, mailbox_dot_key(change.mailbox, dot).view());
  if (dots != mailbox_dot_value(mailbox_dot_row(change)).view()) return stands(false);
  if (change.kind == ChangeKind::kRegister) {
    const auto value = read(ColumnFamily::kRegisters, register_key(change.mailbox, change.reg.key));
    const auto row = value ? parse_register_row(*value) : std::nullopt;
    if (!row) return stands(false);
    if (row->dot != dot) {
      note_superseded(change.mailbox, dot, row->dot);
      return !takes_register(dot, change.reg, *row);
    }
    return row->merge == change.reg.merge && row->stamp == change.reg.stamp &&
           row->value == change.reg.value;
  }
  const EntryView& entry = change.entry;
  const LaneId lane{change.mailbox, entry.key.device, entry.key.lane};
  const auto* raised = journal_.lane(lane);
  if (raised == nullptr || *raised < entry.key.seq) {
    const auto row = read(ColumnFamily::kLanes, lane_key(lane).view());
    const auto high = row ? parse_number(*row) : std::nullopt;
    if (!high || *high < entry.key.seq) return stands(false);
  }
  const KeyRow wanted = key_row(dot, change);
  const auto value = read(ColumnFamily::kKeys, message_key(change.mailbox, entry.key).view());
  const auto row = value ? parse_key_row(*value) : std::nullopt;
  if (!row) return stands(false);
  if (row->dot != dot) {
    note_superseded(change.mailbox, dot, row->dot);
    return !takes_key(wanted, *row);
  }
  if (*row != wanted) return false;
  if (wanted.is_void) return true;
  const auto at = read(ColumnFamily::kEntries,
                       entry_key(change.mailbox, entry.conversation, entry.id).view());
  return stands(at == entry_value({dot, wanted.expiry}).view());
}

void RocksStore::scrub_mailbox_dot(ScrubRun& run, View key, View value) {
  const auto dot = parse_dot_key(key, MailboxId::kSize);
  MailboxId mailbox;
  if (!dot || !MailboxId::from(key.substr(0, MailboxId::kSize), mailbox)) return;
  const Slot slot = slot_of(partition_of(mailbox));
  if (dot->n > table_.synced(slot, dot->writer)) return;
  const auto row = parse_mailbox_dot(value);
  if (!row) {
    run.step.mended += heal(slot, *dot) ? 1 : 0;
    return;
  }
  if (expiry_->expired(row->expiry)) return;
  rocksdb::PinnableSlice found;
  const auto there = find_log(slot, *dot, found, run.mode());
  if (there && !*there) damaged_change(slot, *dot, "its log record is missing");
}

// A row of entries, keys or registers: the change that it names must be there and imply it.
void RocksStore::scrub_named(ScrubRun& run, ColumnFamily family, View key, View value) {
  MailboxId mailbox;
  if (!MailboxId::from(key.substr(0, MailboxId::kSize), mailbox)) return;
  const auto dot = dot_of_row(family, value);
  if (!dot) {
    heal_mailbox(mailbox);
    run.step.mended += 1;
    return;
  }
  const Slot slot = slot_of(partition_of(mailbox));
  if (dot->n > table_.synced(slot, dot->writer)) return;
  if (expiry_->expired(expiry_named(family, value)) || damage_.is_lost(slot, *dot)) return;
  rocksdb::PinnableSlice bytes;
  const auto there = find_log(slot, *dot, bytes, run.mode());
  if (!there) return;
  if (!*there) {
    // A register outlives the change that wrote it.
    if (family != ColumnFamily::kRegisters) {
      damaged_change(slot, *dot, "its log record is missing");
    }
    return;
  }
  const auto change = decode(view(bytes), *dot);
  if (!change) return;  // The log's own stage has noted it.
  if (change->mailbox == mailbox && rows_stand(run, *dot, *change)) {
    const EntryView& entry = change->entry;
    const bool implied =
        family == ColumnFamily::kEntries
            ? key == entry_key(mailbox, entry.conversation, entry.id).view()
            : family == ColumnFamily::kKeys ? key == message_key(mailbox, entry.key).view()
                                            : key == register_key(mailbox, change->reg.key);
    if (implied) return;
  }
  engine_->erase(*gathering_->writes, family, key);  // Then those that the log implies.
  heal_mailbox(mailbox);
  run.step.mended += 1;
}

// What can be read after all, from here.
void RocksStore::scrub_damage_list(ScrubRun& run) {
  for (const Slot slot : damage_.damaged_slots()) {
    for (const Dot& dot : damage_.damaged(slot)) {
      rocksdb::PinnableSlice bytes;
      const auto there = find_log(slot, dot, bytes, run.mode());
      if (!there || !*there || !decode(view(bytes), dot)) continue;
      const auto partition = starling::partition_of(slot, partitions_);
      if (mend(partition, dot, view(bytes))) run.step.mended += 1;
    }
  }
}

}  // namespace starling::storage
