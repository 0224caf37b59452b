#include <cassert>

#include "storage/rocks_store.h"

namespace starling::storage {

Result<std::unique_ptr<Store>> Store::open(StoreOptions options) {
  assert(options.committer && options.random != nullptr);
  TRY_ASSIGN(auto engine,
             Engine::open({options.path, options.env, options.background_work}));
  auto store = std::make_unique<RocksStore>(std::move(options), std::move(engine));
  TRY(store->start());
  return std::unique_ptr<Store>(std::move(store));
}

RocksStore::RocksStore(StoreOptions options, std::unique_ptr<Engine> engine)
    : options_(std::move(options)), engine_(std::move(engine)), partitions_(options_.partitions) {}

RocksStore::~RocksStore() {
  *alive_ = false;
  committer_.reset();  // Finishes what it has, while the engine stands.
}

Status RocksStore::start() {
  TRY(load_node_state());
  TRY(load_partitions());
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
  TRY_ASSIGN(const auto clean, load_number(kNodeCleanWriter));
  kept_writer_ = clean.has_value();
  if (clean) writer_.value = *clean;
  return ok_status();
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

// A writer lives for one run: kept only behind a clean marker, which must be gone from the disk
// before the first write of this run (hazards F3).
Status RocksStore::begin_run() {
  while (!kept_writer_ && (writer_.value == 0 || table_.knows(writer_))) {
    writer_.value = options_.random->u64();
  }
  rocksdb::WriteBatch batch;
  engine_->put(batch, ColumnFamily::kNode, kNodeFormat, number_value(kFormat).view());
  engine_->put(batch, ColumnFamily::kNode, kNodePartitions, number_value(partitions_).view());
  engine_->erase(batch, ColumnFamily::kNode, kNodeCleanWriter);
  return engine_->write_synced(batch);
}

Status RocksStore::close_cleanly() {
  assert(!closed_);
  if (failed_) {
    return Error{Errc::kIo, "storage: a write failed in this run, so it cannot end cleanly; "
                            "stop, the next run draws a new writer"};
  }
  if (in_flight_ || gathering_->has_writes) {
    return Error{Errc::kInvalid, "storage: changes are still on their way to the disk; flush, "
                                 "wait for when_durable, then close"};
  }
  closed_ = true;
  rocksdb::WriteBatch batch;
  engine_->put(batch, ColumnFamily::kNode, kNodeCleanWriter, number_value(writer_.value).view());
  return engine_->write_synced(batch);
}

// The log is keyed by the first slot of its partition: the count is fixed by the first change.
void RocksStore::set_partitions(std::uint32_t partitions) {
  if (partitions == partitions_) return;
  assert(table_.empty() && "the partition count of a store that holds changes cannot change");
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

VersionVector RocksStore::vector(PartitionId partition) const {
  return table_.vector(slot_of(partition));
}

std::vector<PartitionId> RocksStore::touched() const {
  std::vector<PartitionId> out;
  for (const Slot slot : table_.touched()) out.push_back(starling::partition_of(slot, partitions_));
  return out;
}

StoreStats RocksStore::stats() const {
  StoreStats out = stats_;
  out.pending = gathering_->changes.size() + (in_flight_ ? in_flight_->changes.size() : 0);
  return out;
}

}  // namespace starling::storage
