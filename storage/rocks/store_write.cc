// append and apply: from a change to the rows that it means.

#include <algorithm>
#include <cassert>

#include "storage/rocks/rocks_store.h"
#include "storage/rows.h"

namespace starling::storage {

Appended RocksStore::append(ChangeView change) {
  const PartitionId partition = partition_of(change.mailbox);
  assert(!is_installing(partition));
  assert(!closed_ && "the next run would use the dot again");
  const Dot dot{writer_, table_.held(slot_of(partition), writer_) + 1};
  assert(dot.n > issued(partition) && "a dot is used once");
  change.prev = previous(change.mailbox);
  auto bytes = std::make_shared<const Bytes>(encode(change, dot));
  const auto staged = parse(*bytes);
  assert(staged.ok());
  table_.hold(slot_of(partition), writer_, dot.n);
  stage(partition, dot, bytes, *staged);
  return {dot, partition, std::move(bytes)};
}

Result<Applied> RocksStore::apply(PartitionId partition, const Dot& dot, View change) {
  auto bytes = std::make_shared<const Bytes>(change);
  TRY_ASSIGN(const ChangeView view, check(partition, dot, *bytes));
  const Slot slot = slot_of(partition);
  const std::uint64_t held = table_.held(slot, dot.writer);
  if (dot.n <= held) return Applied::kAlready;
  TRY(check_foreign(slot, dot.writer, dot.n));
  if (dot.n != held + 1) return Applied::kGap;
  TRY(check_room(slot));
  table_.hold(slot, dot.writer, dot.n);
  stage(partition, dot, std::move(bytes), view);
  return Applied::kNew;
}

Result<Applied> RocksStore::apply(PartitionId partition, const RangeStatement& range) {
  const Slot slot = slot_of(partition);
  const std::uint64_t held = table_.held(slot, range.writer);
  if (range.to < range.from || range.to <= held) return Applied::kAlready;
  TRY(check_foreign(slot, range.writer, range.to));
  if (range.from > held + 1) return Applied::kGap;
  TRY(check_room(slot));
  TRY_ASSIGN(auto checked, check(partition, range, held));
  table_.hold(slot, range.writer, range.to);
  for (auto& item : checked) stage(partition, item.dot, std::move(item.bytes), item.view);
  std::set<Dot> lost;
  for (const std::uint64_t n : range.lost) {
    if (held < n && n <= range.to) lost.insert({range.writer, n});
  }
  note_traces(slot, range.traces, lost);
  for (const Dot& dot : lost) close_damage(slot, dot, true);
  gathering_->has_writes = true;  // The vector moves even when nothing lives.
  mark_dirty();
  return Applied::kNew;
}

// All of it is checked before any of it is staged; what is held already is left out.
Result<std::vector<SyncedChange>> RocksStore::check(PartitionId partition,
                                                    const RangeStatement& range,
                                                    std::uint64_t held) {
  std::vector<SyncedChange> out;
  std::uint64_t last = range.from == 0 ? 0 : range.from - 1;
  for (const auto& item : range.live) {
    if (item.n <= last || item.n > range.to) {
      return Error{Errc::kCorrupt, "storage: a range whose changes are out of order or outside it; "
                                   "ask another owner"};
    }
    last = item.n;
    if (item.n <= held) continue;
    const Dot dot{range.writer, item.n};
    auto bytes = std::make_shared<const Bytes>(item.change.data);
    TRY_ASSIGN(const ChangeView view, check(partition, dot, *bytes));
    out.push_back({partition, dot, std::move(bytes), view});
  }
  return out;
}

// Of our own run nobody knows more than we do, unless this disk is an old copy (hazards F3).
Status RocksStore::check_foreign(Slot first_slot, WriterId writer, std::uint64_t n) const {
  if (n > kRunLengthMax) {
    return Error{Errc::kCorrupt, "storage: a dot beyond any run's length; ask another owner"};
  }
  if (writer == writer_ && n > issued_of(first_slot)) {
    return Error{Errc::kCorrupt,
                 "storage: a peer holds more of this run than this node wrote, so the data folder "
                 "is an older copy; stop and start again without it"};
  }
  return ok_status();
}

Result<ChangeView> RocksStore::check(PartitionId partition, const Dot& dot, View change) {
  auto decoded = decode(change, dot);
  if (decoded && partition_of(decoded->mailbox) != partition) {
    decoded = Error{Errc::kCorrupt, "storage: a change of another partition; ask another owner"};
  }
  if (!decoded && decoded.code() == Errc::kCorrupt) stats_.corrupt += 1;
  return decoded;
}

Status RocksStore::check_room() const {
  if (closed_) return Error{Errc::kUnavailable, "storage: the store is closed; ask another owner"};
  if (gathering_->writes->GetDataSize() < kGatheredBytesMax) return ok_status();
  return Error{Errc::kOverloaded, "storage: the disk is behind; send again a little later"};
}

bool RocksStore::is_dropping(Slot first_slot) const {
  return gathering_->dropped.contains(first_slot) || (in_flight_ && in_flight_->dropped.contains(first_slot));
}

Status RocksStore::check_room(Slot first_slot) const {
  TRY(check_room());
  return check_stays(first_slot);
}

Status RocksStore::check_stays(Slot first_slot) const {
  if (!is_dropping(first_slot) && !installing_.contains(first_slot)) return ok_status();
  return Error{Errc::kOverloaded, "storage: the partition is being erased or filled; send again a little later"};
}

// REQUIRES: `change` borrows from `bytes`.
void RocksStore::stage(PartitionId partition, const Dot& dot, Shared bytes,
                       const ChangeView& change) {
  stage_rows(slot_of(partition), dot, *bytes, change);
  if (dot.writer == writer_) previous_.put(change.mailbox, dot.n);
  const bool is_register = change.kind == ChangeKind::kRegister;
  highest_time_ = std::max(highest_time_, (is_register ? change.reg.stamp : change.entry.id).time);
  gathering_->changes.push_back({partition, dot, std::move(bytes), change});
}

void RocksStore::stage_rows(Slot first_slot, const Dot& dot, View bytes,
                            const ChangeView& change) {
  rocksdb::WriteBatch& writes = *gathering_->writes;
  forget_naming(first_slot, dot);
  engine_->put(writes, ColumnFamily::kLog, log_key(first_slot, dot).view(), bytes);
  engine_->put(writes, ColumnFamily::kMailboxDots, mailbox_dot_key(change.mailbox, dot).view(),
               mailbox_dot_value(mailbox_dot_row(change)).view());
  if (change.kind == ChangeKind::kRegister) {
    stage_register(dot, change);
  } else {
    stage_key(dot, change);
  }
  gathering_->has_writes = true;
  mark_dirty();
}

void RocksStore::stage_key(const Dot& dot, const ChangeView& change) {
  const EntryView& entry = change.entry;
  const MailboxKey id{change.mailbox, entry.key};
  const KeyRow row = key_row(dot, change);
  const LaneId lane{change.mailbox, entry.key.device, entry.key.lane};
  const std::uint64_t high = lane_high(lane.mailbox, lane.device, lane.lane);
  rocksdb::WriteBatch& writes = *gathering_->writes;
  if (healing_) {  // Its row may be what is wrong, whatever is known of it.
    engine_->put(writes, ColumnFamily::kLanes, lane_key(lane).view(),
                 number_value(std::max(high, entry.key.seq)).view());
  }
  // Above the lane's highest number there is no key yet, which saves the look-up.
  if (entry.key.seq > high) {
    lanes_.put(lane, entry.key.seq);
  } else if (const auto current = find_key_row(change.mailbox, entry.key);
             current && current->dot != dot) {
    stats_.shadows += healing_ ? 0 : 1;
    if (!takes_key(row, *current)) return note_superseded(change.mailbox, dot, current->dot);
    note_superseded(change.mailbox, current->dot, dot);
    if (!current->is_void) {
      engine_->erase(writes, ColumnFamily::kEntries,
                     entry_key(change.mailbox, current->conversation, current->id).view());
    }
  }
  put_key(id, row);
}

void RocksStore::put_key(const MailboxKey& id, const KeyRow& row) {
  rocksdb::WriteBatch& writes = *gathering_->writes;
  keys_.put(id, row);
  engine_->put(writes, ColumnFamily::kKeys, message_key(id.mailbox, id.key).view(), key_value(row).view());
  if (row.is_void) return;
  engine_->put(writes, ColumnFamily::kEntries, entry_key(id.mailbox, row.conversation, row.id).view(),
               entry_value({row.dot, row.expiry}).view());
}

void RocksStore::stage_register(const Dot& dot, const ChangeView& change) {
  const RegisterView& reg = change.reg;
  const Bytes key = register_key(change.mailbox, reg.key);
  if (const auto current = find_register_row(key); current && current->dot != dot) {
    if (!takes_register(dot, reg, *current)) {
      return note_superseded(change.mailbox, dot, current->dot);
    }
    note_superseded(change.mailbox, current->dot, dot);
  }
  RegisterRow row{reg.merge, reg.stamp, dot, Bytes(reg.value)};
  engine_->put(*gathering_->writes, ColumnFamily::kRegisters, key, register_value(row));
  registers_.put(key, std::move(row));
}

// Our last n in the mailbox; 0: none. A run with a fresh writer has written nothing that this
// memory does not know, as long as it forgot nothing.
std::uint64_t RocksStore::previous(const MailboxId& mailbox) {
  if (const auto* known = previous_.find(mailbox)) return *known;
  if (!kept_writer_ && !previous_.evicted()) return 0;
  const FixedBytes<24> prefix = FixedBytes<24>().raw(mailbox.view()).u64be(writer_.value);
  Engine::Scan dots(*engine_, ColumnFamily::kMailboxDots, prefix.view());
  dots->SeekToLast();
  if (const auto status = dots.status(); !status) fail(status.error());
  std::uint64_t n = 0;
  if (dots.valid()) {
    const auto dot = parse_dot_key(dots.key(), MailboxId::kSize);
    assert(dot && dot->writer == writer_);
    n = dot->n;
  }
  previous_.remember(mailbox, n);
  return n;
}

}  // namespace starling::storage
