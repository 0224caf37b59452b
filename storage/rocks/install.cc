#include "storage/rocks/install.h"

#include <algorithm>
#include <cassert>

namespace starling::storage {
namespace {

constexpr std::size_t kRowsBytes = 320;  // Of the index rows of a change, about.

}  // namespace

// --- The store's side. ---

Result<std::shared_ptr<Install>> RocksStore::install(std::span<const PartitionId> partitions) {
  TRY(check_room());
  if (split_) {
    return Error{Errc::kOverloaded, "storage: the partitions were split and that is being settled; fetch run by run"};
  }
  std::vector<PartitionId> taken;
  Status refused = Error{Errc::kInvalid, "storage: there is nothing to fill"};
  for (const auto partition : partitions) {
    if (Status may = may_install(slot_of(partition)); may) {
      taken.push_back(partition);
    } else {
      refused = std::move(may);
    }
  }
  if (taken.empty()) return refused.error();
  for (const auto partition : taken) {
    // Lanes may be known of a partition of which nothing else is here: the files say them anew.
    const Slot slot = slot_of(partition);
    journal_.drop(slot, slot + kSlotCount / partitions_);
    forget_cached({slot});
    gathering_->dropped.insert(slot);
    installing_.insert(slot);
    engine_->put(*gathering_->writes, ColumnFamily::kNode, installing_key(slot_of(partition)), number_value(1).view());
  }
  gathering_->has_writes = true;
  mark_dirty();
  return std::shared_ptr<Install>(std::make_shared<RocksInstall>(*this, taken));
}

Status RocksStore::may_install(Slot first_slot) const {
  if (installing_.contains(first_slot) || is_dropping(first_slot)) {
    return Error{Errc::kOverloaded, "storage: the partition is being erased or filled; a little later again"};
  }
  if (!table_.untouched(first_slot) || !damage_.is_whole(first_slot)) {
    return Error{Errc::kInvalid, "storage: something of the partition is here; fetch the rest run by run"};
  }
  return ok_status();
}

// What was begun and has no vector: nobody was told that it is here.
Status RocksStore::empty_unfinished() {
  rocksdb::WriteBatch batch;
  Engine::Scan rows(*engine_, ColumnFamily::kNode, kNodeInstalling);
  for (rows->SeekToFirst(); rows.valid(); rows->Next()) {
    const auto slot = parse_node_slot(rows.key(), kNodeInstalling);
    if (!slot) return Error{Errc::kCorrupt, "storage: the mark of a partition that is being filled is damaged; "
                                            "set the store aside"};
    erase_partition(batch, *slot);
    engine_->erase(batch, ColumnFamily::kNode, rows.key());
  }
  TRY(rows.status());
  return batch.Count() == 0 ? ok_status() : engine_->write_synced(batch);
}

void RocksStore::erase_partition(rocksdb::WriteBatch& writes, Slot first_slot) {
  const auto [first, last] = bounds_of(first_slot);
  const Bytes end = last.empty() ? Bytes(kRowKeySizeMax, '\xff') : last;
  for (const auto family : kReplicatedFamilies) engine_->erase_range(writes, family, first, end);
  erase_damage(writes, first_slot);
  erase_traces(writes, first_slot);
}

// --- Gathering. ---

RocksInstall::RocksInstall(RocksStore& store, std::span<const PartitionId> partitions)
    : body_(std::make_shared<Body>(store)) {
  for (const auto partition : partitions) body_->partitions[store.slot_of(partition)];
}

RocksInstall::~RocksInstall() = default;

std::uint64_t RocksInstall::held(PartitionId partition, WriterId writer) const {
  const auto& held = body_->partitions.at(body_->store.slot_of(partition)).held;
  const auto it = held.find(writer);
  return it == held.end() ? 0 : it->second;
}

Result<Applied> RocksInstall::apply(PartitionId partition, const RangeStatement& range) {
  if (body_->error) return *body_->error;
  RocksStore& store = body_->store;
  const Slot slot = store.slot_of(partition);
  const std::uint64_t before = held(partition, range.writer);
  if (range.to < range.from || range.to <= before) return Applied::kAlready;
  TRY(store.check_foreign(slot, range.writer, range.to));
  if (range.from > before + 1) return Applied::kGap;
  TRY_ASSIGN(auto checked, store.check(partition, range, before));
  for (auto& change : checked) {
    body_->bytes += change.bytes->size() + kRowsBytes;
    const bool is_register = change.view.kind == ChangeKind::kRegister;
    const Hlc time = is_register ? change.view.reg.stamp.time : change.view.entry.id.time;
    body_->highest_time = std::max(body_->highest_time, time);
    body_->gathering.changes.push_back(std::move(change));
  }
  auto& to = body_->partitions.at(slot);
  for (const std::uint64_t n : range.lost) {
    if (before < n && n <= range.to) to.lost.push_back({range.writer, n});
  }
  to.traces.insert(to.traces.end(), range.traces.begin(), range.traces.end());
  to.held[range.writer] = range.to;
  return Applied::kNew;
}

Status RocksInstall::merge_lanes(PartitionId partition, std::span<const LaneRow> lanes) {
  if (body_->error) return *body_->error;
  for (const auto& row : lanes) {
    if (body_->store.partition_of(row.mailbox) != partition) {
      return Error{Errc::kInvalid, "storage: a lane of another partition; ask another owner"};
    }
  }
  body_->gathering.lanes.insert(body_->gathering.lanes.end(), lanes.begin(), lanes.end());
  body_->bytes += lanes.size() * sizeof(LaneRow);
  return ok_status();
}

std::size_t RocksInstall::gathered() const { return body_->bytes; }

bool RocksInstall::writing() const { return body_->writing > 0; }

void RocksInstall::write() { body_->write(); }

void RocksInstall::finish(std::function<void(Status)> done) {
  assert(!body_->done);
  body_->done = std::move(done);
  body_->write();
  if (body_->writing == 0) body_->end();
}

// --- Writing. ---

// Between two of our partitions another one has rows.
std::vector<Slot> RocksInstall::Body::cuts() const {
  std::vector<Slot> cuts;
  std::optional<Slot> before;
  for (const auto& [slot, partition] : partitions) {
    if (before && store.table_.any_between(*before, slot)) cuts.push_back(slot);
    before = slot;
  }
  return cuts;
}

void RocksInstall::Body::write() {
  if (error || store.failed_ || store.closed_) {  // Never written; who waits for room goes on and is told so.
    gathering = {};
    bytes = 0;
    return;
  }
  if (gathering.changes.empty() && gathering.lanes.empty()) return;
  auto part = std::make_shared<InstallPart>(std::exchange(gathering, {}));
  bytes = 0;
  part->partitions = store.partitions_;
  part->begun = begun;
  part->cuts = cuts();
  for (const auto& change : part->changes) begun.insert(store.slot_of(change.partition));
  for (const auto& lane : part->lanes) begun.insert(store.slot_of(store.partition_of(lane.mailbox)));
  ++writing;
  // The marks come first.
  store.when_durable([self = shared_from_this(), part] { self->hand_over(part); });
}

void RocksInstall::Body::hand_over(std::shared_ptr<InstallPart> part) {
  store.committer_->run([&engine = *store.engine_, part] { return store_part(engine, *part); },
                        [self = shared_from_this(), part, alive = store.alive_](const Status& status) {
                          if (*alive) self->written(*part, status);
                        });
}

void RocksInstall::Body::written(const InstallPart& part, const Status& status) {
  --writing;
  if (!status && !error) error = status.error();
  if (status) {
    store.stats_.installed += part.stored;
    store.stats_.installed_files += part.files;
  }
  if (done && writing == 0) end();
}

void RocksInstall::Body::end() {
  if (store.failed_ || store.closed_) return;
  std::set<Slot> slots;
  for (const auto& [slot, partition] : partitions) slots.insert(slot);
  rocksdb::WriteBatch& writes = *store.gathering_->writes;
  for (const Slot slot : slots) {
    store.engine_->erase(writes, ColumnFamily::kNode, installing_key(slot));
    store.installing_.erase(slot);
    if (error) {
      store.erase_partition(writes, slot);
      store.gathering_->dropped.insert(slot);
    }
  }
  if (!error) take_over();
  store.forget_cached(slots);
  store.gathering_->has_writes = true;
  store.mark_dirty();
  store.when_durable([done = std::move(done), status = error ? Status(*error) : ok_status()] { done(status); });
}

void RocksInstall::Body::take_over() {
  for (const auto& [slot, partition] : partitions) {
    for (const auto& [writer, n] : partition.held) store.table_.hold(slot, writer, n);
    store.note_traces(slot, partition.traces, {partition.lost.begin(), partition.lost.end()});
    for (const Dot& dot : partition.lost) store.close_damage(slot, dot, true);
  }
  store.highest_time_ = std::max(store.highest_time_, highest_time);
}

}  // namespace starling::storage
