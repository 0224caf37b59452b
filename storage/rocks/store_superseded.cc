// Superseded changes: noted when another one wins, erased when their owner says so.

#include <algorithm>

#include "storage/rocks/rocks_store.h"

namespace starling::storage {

void RocksStore::note_superseded(const MailboxId& mailbox, const Dot& dot, const Dot& by) {
  if (superseded_count_ >= kSupersededMax) return;
  superseded_count_ += superseded_[slot_of(partition_of(mailbox))].insert({dot, by}).second ? 1 : 0;
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
    engine_->erase(writes, ColumnFamily::kLog, log_key(slot, change.dot).view());
    engine_->erase(writes, ColumnFamily::kMailboxDots,
                   mailbox_dot_key((*loaded)->view.mailbox, change.dot).view());
    gathering_->has_writes = true;
    mark_dirty();
  }
  if (noted->second.empty()) superseded_.erase(noted);
  return ok_status();
}

}  // namespace starling::storage
