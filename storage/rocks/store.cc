#include <algorithm>
#include <cassert>

#include "storage/engine/pace.h"
#include "storage/rocks/rocks_store.h"
#include "storage/export.h"

namespace starling::storage {

Result<std::unique_ptr<Store>> Store::open(StoreOptions options) {
  assert(options.committer && options.random != nullptr);
  auto expiry = std::make_shared<ExpiryTime>();
  TRY_ASSIGN(auto engine, Engine::open({options.path, options.env, options.background_work, expiry,
                                        options.compaction_period_s}));
  auto store = std::make_unique<RocksStore>(std::move(options), std::move(engine), std::move(expiry));
  TRY(store->start());
  return std::unique_ptr<Store>(std::move(store));
}

RocksStore::RocksStore(StoreOptions options, std::unique_ptr<Engine> engine,
                       std::shared_ptr<ExpiryTime> expiry)
    : options_(std::move(options)),
      engine_(std::move(engine)),
      expiry_(std::move(expiry)),
      partitions_(options_.partitions),
      journal_(options_.background_work ? kJournalBytes : kJournalBytesWithoutBackgroundWork) {}

RocksStore::~RocksStore() {
  *alive_ = false;
  committer_.reset();  // Finishes what it has, while the engine stands.
}

Status RocksStore::start() {
  engine_->on_unreadable([this](ColumnFamily family, View key, const std::string& text) {
    unreadable(family, key, text);
  });
  TRY(load_node_state());
  TRY(fold_journal());
  TRY(load_damage());
  TRY(refill());
  TRY(empty_unfinished());
  TRY(load_partitions());
  TRY(load_issued());
  TRY(begin_run());
  committer_ = options_.committer(engine_->db());
  return ok_status();
}

Result<std::optional<std::uint64_t>> RocksStore::load_number(View key) {
  rocksdb::PinnableSlice value;
  TRY_ASSIGN(const bool found, engine_->get(ColumnFamily::kNode, key, value));
  if (!found) return std::optional<std::uint64_t>();
  const auto number = parse_number(view(value));
  if (!number) {
    return Error{Errc::kCorrupt, "storage: the record '" + Bytes(key) + "' is damaged; set the "
                                 "data folder aside and start with an empty one"};
  }
  return number;
}

Status RocksStore::load_node_state() {
  TRY_ASSIGN(const auto format, load_number(kNodeFormat));
  if (format && *format > kFormat) {
    return Error{Errc::kUnsupported,
                 "storage: " + options_.path + " has format " + std::to_string(*format) +
                     ", this build reads up to " + std::to_string(kFormat) +
                     "; start the newer build again, or use another data folder"};
  }
  TRY_ASSIGN(const auto time, load_number(kNodeHighestTime));
  highest_time_ = written_time_ = time.value_or(0);
  TRY_ASSIGN(const auto partitions, load_number(kNodePartitions));
  if (partitions) partitions_ = static_cast<std::uint32_t>(*partitions);
  was_split_ = format && *format >= kFormatSplit;
  TRY(load_split());
  TRY_ASSIGN(const auto expiry, load_number(kNodeExpiryTime));
  staged_expiry_ms_ = expiry.value_or(0);
  expiry_->advance(staged_expiry_ms_);
  TRY_ASSIGN(const auto clean, load_number(kNodeCleanWriter));
  // What stood still for longer may be a copy from before its node went on under another writer, which the
  // others may have forgotten with all of its changes.
  const auto idle_ms = options_.wall_ms - static_cast<std::int64_t>(hlc_ms(highest_time_));
  // A clock from before the last change cannot tell, and its ids could meet those that the writer made already.
  constexpr std::int64_t kBehindMaxMs = 5000;
  const bool lately = -kBehindMaxMs <= idle_ms && idle_ms <= kKeptWriterIdleMaxMs;
  kept_writer_ = clean && (options_.wall_ms == 0 || lately);
  if (kept_writer_) writer_.value = *clean;
  return ok_status();
}

Status RocksStore::fold_journal() {
  std::vector<JournalRow> journal;
  rocksdb::WriteBatch batch;
  Engine::Scan rows(*engine_, ColumnFamily::kJournal, {});
  std::optional<std::uint64_t> before;
  for (rows->SeekToFirst(); rows.valid(); rows->Next()) {
    auto row = parse_journal_row(rows.value());
    const auto seq = parse_journal_key(rows.key());
    const bool follows = seq && (!before || *seq == *before + 1);
    before = seq;
    if (!row || !follows) {
      return Error{Errc::kCorrupt, "storage: the journal is damaged; set the data folder aside and start with "
                                   "an empty one: it is refilled from the other owners"};
    }
    journal.push_back(std::move(*row));
    engine_->erase(batch, ColumnFamily::kJournal, rows.key());
  }
  TRY(rows.status());
  if (batch.Count() == 0) return ok_status();
  std::vector<std::uint32_t> counts(journal.size());  // Of partitions, as of each row.
  std::uint32_t count = partitions_;
  for (std::size_t i = journal.size(); i > 0; --i) {
    counts[i - 1] = count;
    if (journal[i - 1].split_from != 0) count = journal[i - 1].split_from;
  }
  JournalReplay said(kSlotCount);
  for (std::size_t i = 0; i < journal.size(); ++i) {
    said.set_width(kSlotCount / counts[i]);
    said.apply(journal[i]);
  }
  for (const auto& [key, n] : said.runs()) {
    engine_->put(batch, ColumnFamily::kPartitions, key, number_value(n).view());
  }
  for (const auto& [key, high] : said.lanes()) {
    engine_->put(batch, ColumnFamily::kLanes, key, number_value(high).view());
  }
  highest_time_ = written_time_ = std::max(highest_time_, said.time());
  engine_->put(batch, ColumnFamily::kNode, kNodeHighestTime, number_value(highest_time_).view());
  return engine_->write_synced(batch);
}

Status RocksStore::load_partitions() {
  Engine::Scan rows(*engine_, ColumnFamily::kPartitions, {});
  for (rows->SeekToFirst(); rows.valid(); rows->Next()) {
    const auto key = parse_partition_key(rows.key());
    const auto n = parse_number(rows.value());
    if (!key || !n) {
      return Error{Errc::kCorrupt, "storage: a vector is damaged; set the data folder aside and "
                                   "start with an empty one: it is refilled from the other owners"};
    }
    table_.load({key->first_slot, key->writer, *n});
  }
  return rows.status();
}

Status RocksStore::load_issued() {
  Engine::Scan rows(*engine_, ColumnFamily::kNode, kNodeIssued);
  for (rows->SeekToFirst(); rows.valid(); rows->Next()) {
    const auto slot = parse_node_slot(rows.key(), kNodeIssued);
    const auto n = parse_number(rows.value());
    if (!slot || !n) return Error{Errc::kCorrupt, "storage: the count of our own changes is damaged; "
                                                  "set the store aside"};
    issued_[*slot] = *n;
  }
  return rows.status();
}

// A writer lives for one run: kept only behind a clean marker, which must be gone from the disk
// before the first write of this run (hazards F3).
Status RocksStore::begin_run() {
  while (!kept_writer_ && (writer_.value == 0 || table_.knows(writer_))) {
    writer_.value = options_.random->u64();
  }
  rocksdb::WriteBatch batch;
  engine_->put(batch, ColumnFamily::kNode, kNodeFormat, number_value(was_split_ ? kFormatSplit : kFormatOpen).view());
  engine_->put(batch, ColumnFamily::kNode, kNodePartitions, number_value(partitions_).view());
  engine_->erase(batch, ColumnFamily::kNode, kNodeCleanWriter);
  if (!kept_writer_) {  // They are those of another writer.
    for (const auto& [slot, n] : issued_) {
      engine_->erase(batch, ColumnFamily::kNode, issued_key(slot));
    }
    issued_.clear();
  }
  engine_->erase(batch, ColumnFamily::kNode, kNodeRefillPermit);
  for (const Slot slot : refilled_) {
    erase_damage(batch, slot);
    damage_.forget(slot);
  }
  return engine_->write_synced(batch);
}

Status RocksStore::close_cleanly() {
  assert(!closed_);
  if (failed_) {
    return Error{Errc::kIo, "storage: a write failed in this run, so it cannot end cleanly; "
                            "stop, the next run draws a new writer"};
  }
  if (!damage_.refill_slots().empty()) {
    return Error{Errc::kCorrupt, "storage: a file cannot be read, so this run cannot end cleanly; "
                                 "stop, the next run empties its partitions and fetches them"};
  }
  if (in_flight_ || gathering_->has_writes) {
    return Error{Errc::kInvalid, "storage: changes are still on their way to the disk; flush, "
                                 "wait for when_durable, then close"};
  }
  closed_ = true;
  rocksdb::WriteBatch batch;
  engine_->put(batch, ColumnFamily::kNode, kNodeCleanWriter, number_value(writer_.value).view());
  write_own_rows(batch, journal_.close());
  engine_->put(batch, ColumnFamily::kNode, kNodeHighestTime, number_value(highest_time_).view());
  const auto format = was_split_ ? kFormatSplit : installing_.empty() ? kFormatClosed : kFormatOpen;
  engine_->put(batch, ColumnFamily::kNode, kNodeFormat, number_value(format).view());
  return engine_->write_synced(batch);
}

// The log is keyed by the first slot of its partition: from the first change on the count is only doubled (split()).
void RocksStore::set_partitions(std::uint32_t partitions) {
  if (partitions == partitions_) return;
  assert(table_.empty() && !split_ && "the partition count of a store that holds changes cannot change");
  partitions_ = partitions;
  engine_->put(*gathering_->writes, ColumnFamily::kNode, kNodePartitions,
               number_value(partitions).view());
  gathering_->has_writes = true;
  mark_dirty();
}

PartitionId RocksStore::partition_of(const MailboxId& mailbox) const {
  return starling::partition_of(starling::slot_of(mailbox), partitions_);
}

Slot RocksStore::slot_of(PartitionId partition) const {
  return first_slot(partition, partitions_);
}

std::uint64_t RocksStore::held(PartitionId partition, WriterId writer) const {
  return table_.held(slot_of(partition), writer);
}

std::uint64_t RocksStore::synced(PartitionId partition, WriterId writer) const {
  return table_.synced(slot_of(partition), writer);
}

std::uint64_t RocksStore::issued_of(Slot first_slot) const {
  const auto kept = issued_.find(first_slot);
  const std::uint64_t held = table_.held(first_slot, writer_);
  return kept == issued_.end() ? held : std::max(held, kept->second);
}

std::uint64_t RocksStore::issued(PartitionId partition) const {
  return issued_of(slot_of(partition));
}

VersionVector RocksStore::vector(PartitionId partition) const {
  return table_.vector(slot_of(partition));
}

std::vector<PartitionId> RocksStore::partitions_of(const std::vector<Slot>& slots) const {
  std::vector<PartitionId> out;
  for (const Slot slot : slots) out.push_back(starling::partition_of(slot, partitions_));
  return out;
}

std::pair<Bytes, Bytes> RocksStore::bounds_of(Slot first_slot) const {
  const std::uint32_t last = first_slot + kSlotCount / partitions_;
  return {Bytes(slot_key(first_slot).view()),
          last < kSlotCount ? Bytes(slot_key(static_cast<Slot>(last)).view()) : Bytes()};
}

std::vector<PartitionId> RocksStore::touched() const { return partitions_of(table_.touched()); }

void RocksStore::set_expiry_time(std::uint64_t ms) {
  const std::uint64_t step = ms - ms % kExpiryStepMs;
  if (step <= staged_expiry_ms_ || failed_ || closed_) return;
  staged_expiry_ms_ = gathering_->expiry_ms = step;
  engine_->put(*gathering_->writes, ColumnFamily::kNode, kNodeExpiryTime,
               number_value(step).view());
  gathering_->has_writes = true;
  mark_dirty();
}

void RocksStore::forget_cached(const std::set<Slot>& first_slots) {
  if (first_slots.empty()) return;
  const auto match = [&](Slot slot) {
    return first_slots.contains(slot_of(starling::partition_of(slot, partitions_)));
  };
  registers_.forget_if([&](const Bytes& key) { return match(BytesReader(key).u16be()); });
  lanes_.forget_if([&](const LaneId& lane) { return match(starling::slot_of(lane.mailbox)); });
}

Status RocksStore::drop(PartitionId partition) {
  const Slot slot = slot_of(partition);
  const auto closes = [slot](const std::unique_ptr<Batch>& batch) {
    return batch && std::any_of(batch->closed.begin(), batch->closed.end(),
                                [slot](const Closed& closed) { return closed.first_slot == slot; });
  };
  if (!table_.settled(slot) || installing_.contains(slot) || closes(gathering_) || closes(in_flight_)) {
    return Error{Errc::kOverloaded, "storage: changes of the partition are on their way to the disk; "
                                    "drop it a little later"};
  }
  if (split_) {  // Rows of its sibling may lie under its first slot, or its own under the sibling's.
    return Error{Errc::kOverloaded, "storage: the partitions were split and that is being settled; "
                                    "drop it a little later"};
  }
  rocksdb::WriteBatch& writes = *gathering_->writes;
  if (const std::uint64_t issued = issued_of(slot); issued > 0) {
    engine_->put(writes, ColumnFamily::kNode, issued_key(slot), number_value(issued).view());
    issued_[slot] = issued;
  }
  erase_partition(writes, slot);
  table_.forget(slot);
  damage_.forget(slot);
  naming_.erase(slot);
  superseded_count_ -= superseded_[slot].size();
  superseded_.erase(slot);
  journal_.drop(slot, slot + kSlotCount / partitions_);
  forget_cached({slot});
  gathering_->dropped.insert(slot);
  gathering_->has_writes = true;
  mark_dirty();
  return ok_status();
}

std::unique_ptr<Export> RocksStore::export_partition(PartitionId partition,
                                                     std::uint64_t cutoff_ms) {
  const Slot first = slot_of(partition);
  const std::uint32_t last = first + kSlotCount / partitions_;
  auto out = std::make_unique<Export>(*engine_, first, last, cutoff_ms);
  VersionVector vector = table_.vector(first);
  auto lanes = journal_.lanes_of(first, last);
  if (in_flight_ && out->has(ColumnFamily::kJournal, journal_key(in_flight_->journal.seq).view())) {
    for (const auto& run : in_flight_->journal.raised.runs) {
      if (run.first_slot == first) vector.raise(run.writer, run.n);
    }
    for (const auto& lane : in_flight_->journal.raised.lanes) {
      if (partition_of(lane.id.mailbox) == partition) lanes[Bytes(lane_key(lane.id).view())] = lane.high;
    }
  }
  out->raise(std::move(vector), std::move(lanes));
  return out;
}

StoreStats RocksStore::stats() const {
  StoreStats out = stats_;
  out.damaged = damage_.damaged_count();
  out.lost = damage_.lost_count();
  // Without the header that an empty batch has.
  out.gathered_bytes = gathering_->writes->Count() > 0 ? gathering_->writes->GetDataSize() : 0;
  out.level0_files = static_cast<std::uint64_t>(engine_->level0_files());
  out.pace_us = static_cast<std::uint64_t>(commit_pace(engine_->level0_files()).count());
  out.pending = gathering_->changes.size() + (in_flight_ ? in_flight_->changes.size() : 0);
  return out;
}

}  // namespace starling::storage
