// A file that cannot be read: its partitions are written down, and emptied by the next open.

#include <algorithm>
#include <cassert>

#include "storage/rocks/rocks_store.h"

namespace starling::storage {
namespace {

// The first two bytes of a key; a shorter key is padded with `pad`.
Slot slot_of_key(View key, unsigned char pad) {
  const auto byte = [&](std::size_t i) {
    return i < key.size() ? static_cast<unsigned char>(key[i]) : pad;
  };
  return static_cast<Slot>(byte(0) << 8 | byte(1));
}

bool has_slots(ColumnFamily family) {
  return family != ColumnFamily::kPaxos && family != ColumnFamily::kNode &&
         family != ColumnFamily::kDamage && family != ColumnFamily::kJournal;
}

}  // namespace

void RocksStore::unreadable(ColumnFamily family, View key, const std::string& text) {
  stats_.corrupt += 1;
  const Slot width = static_cast<Slot>(kSlotCount / partitions_ - 1);
  for (const auto& file : engine_->suspects(family, key, text)) {
    if (!has_slots(file.family)) {
      return fail({Errc::kCorrupt, "storage: the file of what this node is and promised cannot be "
                                   "read (" + text + "); set the store aside: the node comes back "
                                   "as a new one"});
    }
    if (file.family == ColumnFamily::kHints) {  // Nothing of ours.
      unreadable_hints(slot_of_key(file.smallest, 0), text);
      continue;
    }
    std::set<Slot> slots;
    const std::uint32_t last = slot_of_key(file.largest, 0);
    for (std::uint32_t slot = slot_of_key(file.smallest, 0) & ~std::uint32_t{width}; slot <= last;
         slot += std::uint32_t{width} + 1) {
      slots.insert(static_cast<Slot>(slot));
    }
    note_refill(slots, file.number, text);
  }
}

// Written at once: who met this may be about to stop.
void RocksStore::note_refill(const std::set<Slot>& first_slots, std::uint64_t file,
                             const std::string& text) {
  rocksdb::WriteBatch batch;
  std::vector<Slot> added;
  std::set<Slot> slots = first_slots;
  for (const Slot slot : first_slots) {  // Rows of one child may lie among those of the other.
    if (split_) slots.insert({old_slot(slot), static_cast<Slot>(old_slot(slot) + half())});
  }
  for (const Slot slot : slots) {
    const bool was_whole = !damage_.is_refill(slot);
    if (!damage_.refill(slot, file)) continue;
    // The numbering of the children is not on disk before the split is; load_damage finds this one by the other.
    const bool early = is_splitting() && slot != old_slot(slot);
    engine_->put(early ? *gathering_->writes : batch, ColumnFamily::kDamage, refill_key(slot, file).view(),
                 damage_value(DamageState::kRefill).view());
    if (early) {
      gathering_->has_writes = true;
      mark_dirty();
    }
    if (was_whole) added.push_back(slot);
  }
  if (batch.Count() == 0) return;
  // Who cannot even start knows no vector, so nobody can compare: what the others have is what there is.
  if (!committer_) engine_->put(batch, ColumnFamily::kNode, kNodeRefillPermit, number_value(1).view());
  if (const auto status = engine_->write_synced(batch); !status) return fail(status.error());
  if (!damage_hook_) return;
  for (const Slot slot : added) {
    damage_hook_({starling::partition_of(slot, partitions_), std::nullopt,
                  "storage: " + text + "; the partition is emptied and fetched again once the other "
                                       "owners have all of it"});
  }
}

Status RocksStore::load_damage() {
  Engine::Scan rows(*engine_, ColumnFamily::kDamage, {});
  for (rows->SeekToFirst(); rows.valid(); rows->Next()) {
    if (damage_.load(rows.key(), rows.value())) continue;
    return Error{Errc::kCorrupt, "storage: the list of damage is damaged; set the store aside"};
  }
  TRY(rows.status());
  TRY(load_traces());
  if (!split_) return ok_status();
  for (const Slot slot : damage_.refill_slots()) {
    for (const std::uint64_t file : damage_.refill_files(slot)) {
      damage_.refill(static_cast<Slot>(old_slot(slot) + half()), file);
      damage_.refill(old_slot(slot), file);
    }
  }
  return ok_status();
}

void RocksStore::erase_damage(rocksdb::WriteBatch& writes, Slot first_slot) {
  const auto erase = [&](View key) { engine_->erase(writes, ColumnFamily::kDamage, key); };
  const auto [first, last] = bounds_of(first_slot);
  Engine::Scan rows(*engine_, ColumnFamily::kDamage, first, last, {});
  for (rows->SeekToFirst(); rows.valid(); rows->Next()) erase(rows.key());
  // What is not on disk yet.
  for (const Dot& dot : damage_.damaged(first_slot)) erase(log_key(first_slot, dot).view());
  for (const Dot& dot : damage_.lost(first_slot)) erase(log_key(first_slot, dot).view());
  for (const std::uint64_t file : damage_.refill_files(first_slot)) erase(refill_key(first_slot, file).view());
}

bool RocksStore::is_refill_of(Slot first_slot, ColumnFamily family) const {
  const auto files = damage_.refill_files(first_slot);
  return std::any_of(files.begin(), files.end(), [&](std::uint64_t file) { return engine_->has_file(file, family); });
}

Status RocksStore::permit_refill() {
  rocksdb::WriteBatch batch;
  engine_->put(batch, ColumnFamily::kNode, kNodeRefillPermit, number_value(1).view());
  return engine_->write_synced(batch);
}

// Empties the marked partitions in every family. Repeated until begin_run has removed the marks, so
// a crash in between is no harm. A bad file that this cannot remove, because it is young (level 0)
// and reaches beyond, costs everything replicated: no other way leads around reading it.
Status RocksStore::refill() {
  TRY_ASSIGN(const auto permit, load_number(kNodeRefillPermit));
  if (!permit) return ok_status();
  refilled_ = damage_.refill_slots();
  if (refilled_.empty()) return ok_status();
  kept_writer_ = false;  // The dots of the emptied partitions are not known any more.
  writer_ = {};
  std::vector<ColumnFamily> families(kReplicatedFamilies.begin(), kReplicatedFamilies.end());
  families.push_back(ColumnFamily::kHints);
  for (std::size_t i = 0; i < refilled_.size();) {
    const Bytes first = bounds_of(refilled_[i]).first;
    Bytes last = bounds_of(refilled_[i]).second;
    for (++i; i < refilled_.size() && bounds_of(refilled_[i]).first == last; ++i) {
      last = bounds_of(refilled_[i]).second;
    }
    for (const auto family : families) TRY(engine_->empty(family, first, last));
  }
  const auto files = damage_.refill_files();
  const bool stays = std::any_of(files.begin(), files.end(), [this](std::uint64_t file) {
    return file != 0 && engine_->has_file(file);
  });
  if (!stays) return ok_status();
  for (const auto family : families) TRY(engine_->recreate(family));
  for (std::uint32_t slot = 0; slot < kSlotCount; slot += kSlotCount / partitions_) {
    if (!std::binary_search(refilled_.begin(), refilled_.end(), slot)) {
      refilled_.push_back(static_cast<Slot>(slot));
    }
  }
  std::sort(refilled_.begin(), refilled_.end());
  return ok_status();
}

}  // namespace starling::storage
