// What has no more to say: superseded changes, noted when another one wins and erased when their owner says
// so, and runs of which nothing is left.

#include <algorithm>

#include "storage/rocks/log_run.h"
#include "storage/rocks/rocks_store.h"

namespace starling::storage {

// What lost to a damaged change is always noted: it takes its place when that one is written off.
void RocksStore::note_superseded(const MailboxId& mailbox, const Dot& dot, const Dot& by) {
  const Slot slot = slot_of(partition_of(mailbox));
  if (superseded_count_ >= kSupersededMax && !damage_.is_damaged(slot, by)) return;
  superseded_count_ += superseded_[slot].insert({dot, by}).second ? 1 : 0;
}

Dot RocksStore::standing(const Dot& dot, const ChangeView& change) {
  if (change.kind == ChangeKind::kRegister) {
    const auto row = find_register_row(register_key(change.mailbox, change.reg.key));
    return row ? row->dot : dot;
  }
  const auto row = find_key_row(change.mailbox, change.entry.key);
  return row ? row->dot : dot;
}

std::vector<PartitionId> RocksStore::with_superseded() const {
  std::vector<Slot> slots;
  for (const auto& [slot, changes] : superseded_) {
    if (!changes.empty()) slots.push_back(slot);
  }
  return partitions_of(slots);
}

std::vector<Superseded> RocksStore::superseded(PartitionId partition) const {
  const auto it = superseded_.find(slot_of(partition));
  if (it == superseded_.end()) return {};
  return {it->second.begin(), it->second.end()};
}

std::vector<Superseded> RocksStore::superseded(PartitionId partition, const Dot& by) const {
  return lost_to(slot_of(partition), by);
}

std::vector<Superseded> RocksStore::lost_to(Slot first_slot, const Dot& by) const {
  std::vector<Superseded> lost;
  const auto noted = superseded_.find(first_slot);
  if (noted == superseded_.end()) return lost;
  for (auto at = noted->second.lower_bound(Superseded{{}, by}); at != noted->second.end() && at->by == by; ++at) {
    lost.push_back(*at);
  }
  return lost;
}

Status RocksStore::erase_superseded(PartitionId partition, std::span<const Superseded> changes) {
  TRY(check_room());
  const Slot slot = slot_of(partition);
  const auto noted = superseded_.find(slot);
  if (noted == superseded_.end()) return ok_status();
  rocksdb::WriteBatch& writes = *gathering_->writes;
  for (const auto& change : changes) {
    superseded_count_ -= noted->second.erase(change);
    if (change.dot.n > table_.synced(slot, change.dot.writer)) continue;
    const auto loaded = load_change(slot, change.dot);
    // Gone, or damaged: whoever mends it meets it again.
    if (!loaded || !*loaded || standing(change.dot, (*loaded)->view) == change.dot) continue;
    erase_log(slot, change.dot);
    engine_->erase(writes, ColumnFamily::kMailboxDots,
                   mailbox_dot_key((*loaded)->view.mailbox, change.dot).view());
    gathering_->has_writes = true;
    mark_dirty();
  }
  if (noted->second.empty()) superseded_.erase(noted);
  return ok_status();
}

bool RocksStore::is_spent(PartitionId partition, WriterId writer) {
  constexpr std::size_t kLookBytes = 4 << 10;  // Much that expired and is still there: another time.
  const Slot slot = slot_of(partition);
  const auto damaged = damage_.damaged(slot);
  const std::uint64_t held = table_.held(slot, writer);
  if (writer == writer_ || held == 0 || table_.synced(slot, writer) != held || is_dropping(slot) || moves_rows() ||
      std::any_of(damaged.begin(), damaged.end(), [&](const Dot& dot) { return dot.writer == writer; })) {
    return false;
  }
  const auto left = read_writer(partition, writer, 1, kLookBytes);
  return left && left->to == held && left->live.empty() && left->lost.empty();
}

bool RocksStore::forget(PartitionId partition, WriterId writer) {
  if (!is_spent(partition, writer)) return false;
  const Slot slot = slot_of(partition);
  rocksdb::WriteBatch& writes = *gathering_->writes;
  engine_->erase(writes, ColumnFamily::kPartitions, partition_key(slot, writer).view());
  // What expired and compaction has not met yet: little, or it would not be spent.
  LogRun log(*engine_, slot, old_slot(slot), writer, {});
  for (log.seek(0); log.valid(); log.next()) erase_log(slot, log.dot());
  table_.forget(slot, writer);
  journal_.forget({slot, writer});
  gathering_->forgotten.push_back({slot, writer});
  gathering_->has_writes = true;
  mark_dirty();
  return true;
}

}  // namespace starling::storage
