// Splitting: every partition becomes two, in one batch; then what lies under the old first slots moves, in slices.
//
// The lower child has the first slot of its parent, and what is keyed by a mailbox is keyed by its slot. So the batch
// says the vectors, damage and counts of the upper children and the new count, and nothing else: from then on both
// children stand. What an upper child has in `log` and `hints` moves under its own first slot later. Until then a
// record of the log is looked for in both places (find_log, LogRun), and one that is read under the parent's slot is
// of whichever child its mailbox is of.
// Dots stay: of the dots up to the split each is of one child, and gone in the other; later ones are each child's own.
//   split() -> [ stage hints -> stage log ] -> settled; the row "split" of `node` says how far.
// A slice begins when the one before it is on disk, as are all erasures of log rows: what it reads is what there is.

#include <algorithm>

#include "storage/rocks/rocks_store.h"

namespace starling::storage {
namespace {

constexpr View kElsewhere = "";  // A row of hints whose n is of the sibling, or gone.

// In front of the keys of a slot; 65536: behind all.
Bytes slot_bound(std::uint32_t slot) {
  return slot < kSlotCount ? Bytes(slot_key(static_cast<Slot>(slot)).view()) : Bytes(kRowKeySizeMax, '\xff');
}

}  // namespace

Status RocksStore::load_split() {
  rocksdb::PinnableSlice value;
  TRY_ASSIGN(const bool found, engine_->get(ColumnFamily::kNode, kNodeSplit, value));
  if (!found) return ok_status();
  split_ = parse_split_row(view(value));
  if (split_) return ok_status();
  return Error{Errc::kCorrupt, "storage: the record of how far the partitions are split is damaged; set the store aside"};
}

Slot RocksStore::half() const { return static_cast<Slot>(kSlotCount / partitions_); }

Slot RocksStore::old_slot(Slot first_slot) const {
  return split_ ? static_cast<Slot>(first_slot - first_slot % (2 * std::uint32_t{half()})) : first_slot;
}

bool RocksStore::is_of(Slot first_slot, const MailboxId& mailbox) const {
  return slot_of(partition_of(mailbox)) == first_slot;
}

bool RocksStore::moves_rows() const {
  return gathering_->moves_rows || (in_flight_ && in_flight_->moves_rows);
}

bool RocksStore::is_splitting() const {
  return gathering_->split_from != 0 || (in_flight_ && in_flight_->split_from != 0);
}

// --- The batch. ---

Status RocksStore::split() {
  if (failed_ || closed_) return Error{Errc::kUnavailable, "storage: the store is closed; ask another owner"};
  if (partitions_ == kSlotCount) return Error{Errc::kInvalid, "storage: there are 65,536 partitions, the most there can be"};
  if (split_ || !installing_.empty()) {
    return Error{Errc::kOverloaded, split_ ? "storage: the split before this one is not settled; a little later again"
                                           : "storage: a partition is being filled by files; a little later again"};
  }
  gathering_->split_from = partitions_;
  partitions_ *= 2;
  split_ = SplitRow{};
  was_split_ = true;
  table_.split(half());
  split_damage();
  for (Batch* batch : {in_flight_.get(), gathering_.get()}) {
    if (batch != nullptr) split_batch(*batch);
  }
  split_counts();
  // Noted by first slot; the scrub and the next search find them again.
  superseded_.clear();
  superseded_count_ = 0;
  naming_.clear();
  past_searches_.clear();
  rocksdb::WriteBatch& writes = *gathering_->writes;
  engine_->put(writes, ColumnFamily::kNode, kNodePartitions, number_value(partitions_).view());
  engine_->put(writes, ColumnFamily::kNode, kNodeFormat, number_value(kFormatSplit).view());
  engine_->put(writes, ColumnFamily::kNode, kNodeSplit, split_value(*split_));
  gathering_->moves_rows = true;  // What was accepted before lies under old slots: the first slice waits for it.
  gathering_->has_writes = true;
  mark_dirty();
  return ok_status();
}

void RocksStore::split_damage() {
  rocksdb::WriteBatch& writes = *gathering_->writes;
  for (const Slot slot : damage_.split(half())) {
    for (const Dot& dot : damage_.damaged(slot)) {
      engine_->put(writes, ColumnFamily::kDamage, log_key(slot, dot).view(), damage_value(DamageState::kDamaged).view());
    }
    for (const Dot& dot : damage_.lost(slot)) {
      engine_->put(writes, ColumnFamily::kDamage, log_key(slot, dot).view(), damage_value(DamageState::kLost).view());
    }
    for (const std::uint64_t file : damage_.refill_files(slot)) {
      engine_->put(writes, ColumnFamily::kDamage, refill_key(slot, file).view(),
                   damage_value(DamageState::kRefill).view());
    }
  }
  std::vector<Closed> closing;
  for (const Batch* batch : {in_flight_.get(), gathering_.get()}) {
    if (batch != nullptr) closing.insert(closing.end(), batch->closed.begin(), batch->closed.end());
  }
  for (const Closed& closed : closing) {
    close_damage(static_cast<Slot>(closed.first_slot + half()), closed.dot, closed.lost);
  }
}

// What is on its way says the parent's numbers.
void RocksStore::split_batch(Batch& batch) {
  for (auto& change : batch.changes) change.partition = partition_of(change.view.mailbox);
  std::set<Slot> dropped;
  for (const Slot slot : batch.dropped) dropped.insert(static_cast<Slot>(slot + half()));
  batch.dropped.merge(dropped);
  // In memory alone: the batch of the split follows, and says all of the upper children.
  auto& runs = batch.journal.raised.runs;
  for (std::size_t i = 0, count = runs.size(); i < count; ++i) {
    runs.push_back({static_cast<Slot>(runs[i].first_slot + half()), runs[i].writer, runs[i].n});
  }
}

void RocksStore::split_counts() {
  std::map<Slot, std::uint64_t> issued;
  for (const auto& [slot, n] : issued_) {
    const auto upper = static_cast<Slot>(slot + half());
    engine_->put(*gathering_->writes, ColumnFamily::kNode, issued_key(upper), number_value(n).view());
    issued[upper] = n;
  }
  issued_.merge(issued);
  const std::vector<Slot> lower = refilled_;
  for (const Slot slot : lower) refilled_.push_back(static_cast<Slot>(slot + half()));
  std::sort(refilled_.begin(), refilled_.end());
}

// --- Reading and erasing, while rows lie in both places. ---

Result<bool> RocksStore::find_log(Slot first_slot, const Dot& dot, rocksdb::PinnableSlice& out, ReadMode mode) {
  if (!split_) return engine_->get(ColumnFamily::kLog, log_key(first_slot, dot).view(), out, mode);
  // The old place first: a row may move between the two looks, and never back.
  const Slot old = old_slot(first_slot);
  TRY_ASSIGN(bool found, engine_->get(ColumnFamily::kLog, log_key(old, dot).view(), out, mode));
  if (found) {
    const auto change = decode(view(out), dot);
    if (change && is_of(first_slot, change->mailbox)) return true;
    if (change) found = false;  // The sibling's. One that does not decode may be ours.
  }
  if (old == first_slot) return found;
  rocksdb::PinnableSlice moved;
  TRY_ASSIGN(const bool there, engine_->get(ColumnFamily::kLog, log_key(first_slot, dot).view(), moved, mode));
  if (there) {
    out.Reset();
    out.PinSelf(slice(view(moved)));
  }
  return found || there;
}

void RocksStore::erase_log(Slot first_slot, const Dot& dot) {
  rocksdb::WriteBatch& writes = *gathering_->writes;
  if (split_) {
    gathering_->moves_rows = true;  // A slice would read it still.
    const Slot old = old_slot(first_slot);
    rocksdb::PinnableSlice value;
    const auto found = engine_->get(ColumnFamily::kLog, log_key(old, dot).view(), value);
    Result<ChangeView> change = Error{Errc::kNotFound, "storage: no record"};
    if (found && *found) change = decode(view(value), dot);
    const bool ours = change.ok() && is_of(first_slot, change->mailbox);
    if (old == first_slot && change.ok() && !ours) return;  // The sibling's.
    if (old != first_slot && ours) engine_->erase(writes, ColumnFamily::kLog, log_key(old, dot).view());
  }
  engine_->erase(writes, ColumnFamily::kLog, log_key(first_slot, dot).view());
}

// Under a parent's slot it may be of either child: for the other one it counts as damaged, too, unless a good record
// lies where it belongs. Others say that it is gone there, if it is.
void RocksStore::damaged_record(Slot at, const Dot& dot, const std::string& what) {
  const auto matters = [&](Slot slot) {
    return dot.n <= table_.synced(slot, dot.writer) && !damage_.is_damaged(slot, dot);
  };
  if (matters(at)) damaged_change(at, dot, what);
  const auto upper = static_cast<Slot>(at + half());
  if (split_ && old_slot(at) == at && matters(upper)) (void)load_change(upper, dot);
}

// --- Moving. ---

Result<SplitStep> RocksStore::settle_split(std::size_t bytes) {
  SplitStep step;
  step.done = !split_;
  if (step.done) return step;
  TRY(check_room());
  if (moves_rows()) return Error{Errc::kOverloaded, "storage: rows are on their way to the disk; a little later again"};
  const auto family = split_->stage == SplitRow::Stage::kHints ? ColumnFamily::kHints : ColumnFamily::kLog;
  const std::uint32_t width = 2 * std::uint32_t{half()};
  Engine::Scan rows(*engine_, family, split_->at, {}, ReadMode{nullptr, false});
  rows->SeekToFirst();
  while (rows.valid() && step.bytes < bytes) {
    const std::uint32_t slot = BytesReader(rows.key()).u16be();
    if (slot % width != 0) {  // Of an upper child: in its place.
      rows->Seek(slice(slot_bound(slot - slot % width + width)));
      continue;
    }
    step.rows += 1;
    step.bytes += rows.key().size() + rows.value().size();
    TRY_ASSIGN(const bool moved, settle_row(family, rows.key(), rows.value()));
    step.moved += moved ? 1 : 0;
    rows->Next();
  }
  const bool more = rows.valid();
  if (!more) TRY(rows.status());
  split_->at = more ? Bytes(rows.key()) : slot_bound(kSlotCount);
  step.share = more ? BytesReader(split_->at).u16be() / double{kSlotCount} : 1;
  step.hints = family == ColumnFamily::kHints;
  if (step.hints) step.share = 0;
  // The stage ends when its last rows are on disk in their places.
  const bool ends = !more && step.moved == 0;
  if (ends) end_stage();
  step.done = !split_;
  if (split_) engine_->put(*gathering_->writes, ColumnFamily::kNode, kNodeSplit, split_value(*split_));
  gathering_->has_writes = true;
  mark_dirty();
  return step;
}

void RocksStore::end_stage() {
  if (split_->stage == SplitRow::Stage::kHints) {
    split_ = SplitRow{SplitRow::Stage::kLog, {}};
    return;
  }
  split_.reset();
  engine_->erase(*gathering_->writes, ColumnFamily::kNode, kNodeSplit);
}

// True: it is written elsewhere. kUnsupported: of a format of the future, so nobody can tell whose it is.
Result<bool> RocksStore::settle_row(ColumnFamily family, View key, View value) {
  const auto dot = parse_dot_key(key, sizeof(Slot));
  if (!dot) return false;
  const Slot lower = BytesReader(key).u16be();
  const auto upper = static_cast<Slot>(lower + half());
  if (value.empty()) {  // Of neither child.
    rocksdb::PinnableSlice there;
    TRY_ASSIGN(const bool found, engine_->get(family, log_key(upper, *dot).view(), there));
    if (found) return false;
    gathering_->moves_rows = gathering_->has_writes = true;
    mark_dirty();
    engine_->put(*gathering_->writes, family, log_key(upper, *dot).view(), kElsewhere);
    return true;
  }
  const auto change = decode(value, *dot);
  if (!change && change.code() == Errc::kUnsupported) return change.error();
  if (!change) {
    if (family == ColumnFamily::kLog) damaged_record(lower, *dot, change.error().text);
    if (family == ColumnFamily::kHints) damaged_hint(lower, *dot, change.error().text);
    return false;
  }
  const bool is_upper = is_of(upper, change->mailbox);
  if (!is_upper && !is_of(lower, change->mailbox)) return false;
  if (family == ColumnFamily::kLog && !is_upper) return false;
  rocksdb::WriteBatch& writes = *gathering_->writes;
  gathering_->moves_rows = gathering_->has_writes = true;
  mark_dirty();
  if (family == ColumnFamily::kLog) {
    engine_->put(writes, family, log_key(upper, *dot).view(), value);
    engine_->erase(writes, family, key);
    return true;
  }
  // A segment goes on without holes in both children: the other one's row says that this n is not of it.
  engine_->put(writes, family, log_key(upper, *dot).view(), is_upper ? value : kElsewhere);
  if (is_upper) engine_->put(writes, family, key, kElsewhere);
  return true;
}

}  // namespace starling::storage
