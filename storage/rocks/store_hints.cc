// Changes of partitions that we do not own, held for their owners: rows of their own, in no vector.

#include "storage/rocks/rocks_store.h"

namespace starling::storage {
namespace {

constexpr std::size_t kDamagedHintsMax = 1024;

}  // namespace

// While the rows of a split are moved, those of its parents cannot be told from those that come now.
bool RocksStore::hold(PartitionId partition, const Dot& dot, View change) {
  if (moves_hints()) return false;
  engine_->put(*gathering_->writes, ColumnFamily::kHints, log_key(slot_of(partition), dot).view(),
               change);
  gathering_->has_writes = true;
  mark_dirty();
  return true;
}

// A file that cannot be read hides what lies in it, and no more: then each partition is looked at alone.
std::vector<Store::Hint> RocksStore::hints() {
  std::vector<Hint> out;
  if (moves_hints()) return out;
  Status read = list_hints(View(), out);
  if (!read && read.code() == Errc::kCorrupt) {
    out.clear();
    for (std::uint32_t slot = 0; slot < kSlotCount; slot += kSlotCount / partitions_) {
      read = list_hints(slot_key(static_cast<Slot>(slot)).view(), out);
      if (!read && read.code() != Errc::kCorrupt) break;
    }
  }
  if (!read && read.code() != Errc::kCorrupt) fail(read.error());
  return out;
}

Status RocksStore::list_hints(View prefix, std::vector<Hint>& out) {
  Engine::Scan rows(*engine_, ColumnFamily::kHints, prefix);
  for (rows->SeekToFirst(); rows.valid(); rows->Next()) {
    const auto dot = parse_dot_key(rows.key(), sizeof(Slot));
    if (!dot) continue;
    BytesReader in(rows.key());
    out.push_back({starling::partition_of(in.u16be(), partitions_), *dot, rows.value().size()});
  }
  return rows.status();
}

std::vector<StoredChange> RocksStore::read_held(PartitionId partition, const Dot& from,
                                                std::size_t bytes) {
  std::vector<StoredChange> out;
  if (moves_hints()) return out;
  const FixedBytes<10> run = FixedBytes<10>().u16be(slot_of(partition)).u64be(from.writer.value);
  Engine::Scan rows(*engine_, ColumnFamily::kHints, run.view());
  rows->Seek(slice(log_key(slot_of(partition), from).view()));
  for (std::size_t used = 0; rows.valid() && (out.empty() || used < bytes); rows->Next()) {
    const auto dot = parse_dot_key(rows.key(), sizeof(Slot));
    const bool elsewhere = rows.value().empty();  // Of the sibling, since a split.
    if (!dot) break;
    if (const auto change = decode(rows.value(), *dot); !elsewhere && !change) {
      damaged_hint(slot_of(partition), *dot, change.error().text);
      break;
    }
    used += elsewhere ? rows.key().size() : rows.value().size();
    out.push_back({*dot, std::make_shared<const Bytes>(rows.value())});
  }
  if (const auto status = rows.status(); !status && status.code() != Errc::kCorrupt) fail(status.error());
  return out;
}

void RocksStore::unreadable_hints(Slot slot, const std::string& text) {
  if (unreadable_hints_) return;
  unreadable_hints_ = {starling::partition_of(slot, partitions_), std::nullopt,
                       "storage: a file of what this node holds for others cannot be read (" + text +
                           "); the owners have it from each other, but this node cannot tell when it is safe to power off"};
  if (damage_hook_) damage_hook_(*unreadable_hints_);
}

// What is damaged is not handed on: owners have it from each other, and nothing behind it goes home before. Told once.
void RocksStore::damaged_hint(Slot slot, const Dot& dot, const std::string& what) {
  if (damaged_hints_.size() >= kDamagedHintsMax || !damaged_hints_.insert({slot, dot}).second) return;
  stats_.corrupt += 1;
  if (!damage_hook_) return;
  damage_hook_({starling::partition_of(slot, partitions_), std::nullopt,
                "storage: change " + to_text(dot) + ", which is held here for its owners, cannot be read, " + what +
                    "; what this node holds behind it waits until they have it from each other"});
}

void RocksStore::release(PartitionId partition, WriterId writer) {
  if (moves_hints()) return;
  const Dot first{writer, 0};
  const Dot last{writer, kRunLengthMax};
  engine_->erase_range(*gathering_->writes, ColumnFamily::kHints,
                       log_key(slot_of(partition), first).view(),
                       log_key(slot_of(partition), last).view());
  gathering_->has_writes = true;
  mark_dirty();
}

}  // namespace starling::storage
