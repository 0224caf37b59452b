// Damage: noted when it is met, closed when the change came back, is gone, or is lost.

#include <algorithm>
#include <array>
#include <limits>
#include <unordered_map>

#include "storage/rocks/rocks_store.h"
#include "storage/rows.h"

namespace starling::storage {
namespace {

constexpr std::uint64_t kLast = std::numeric_limits<std::uint64_t>::max();
constexpr Dot kLastDot{{kLast}, kLast};
constexpr std::size_t kPastSeeksMax = 256;       // In one call.
constexpr std::size_t kPastSearchesMax = 1'000;  // Above, all begin anew.
constexpr std::array kNamingFamilies{ColumnFamily::kMailboxDots, ColumnFamily::kEntries, ColumnFamily::kKeys};

std::optional<Dot> dot_named(ColumnFamily family, View key, View value) {
  if (family == ColumnFamily::kMailboxDots) return parse_dot_key(key, MailboxId::kSize);
  if (family == ColumnFamily::kEntries) {
    const auto row = parse_entry_row(value);
    return row ? std::optional(row->dot) : std::nullopt;
  }
  const auto row = parse_key_row(value);
  return row ? std::optional(row->dot) : std::nullopt;
}

}  // namespace

void RocksStore::on_damage(std::function<void(const Damage&)> hook) {
  damage_hook_ = std::move(hook);
  if (unreadable_hints_) damage_hook_(*unreadable_hints_);  // Met before anybody listened.
}

bool RocksStore::is_whole(PartitionId partition) const {
  const Slot slot = slot_of(partition);
  return damage_.is_whole(slot) && !is_dropping(slot) && !installing_.contains(slot);
}

std::vector<PartitionId> RocksStore::damaged_partitions() const {
  return partitions_of(damage_.damaged_slots());
}

std::vector<Dot> RocksStore::damaged(PartitionId partition) const {
  return damage_.damaged(slot_of(partition));
}

std::vector<Dot> RocksStore::lost(PartitionId partition) const {
  return damage_.lost(slot_of(partition));
}

// Its row of a mailbox was written with it and carries the same expiry. Once that has passed,
// compaction may have erased the row, and nothing else erases it while the change is damaged. Which mailbox
// it was only the change knew: each is asked with a seek, a bounded number in a call, the next goes on from there.
bool RocksStore::is_past(PartitionId partition, const Dot& damaged) {
  const Slot slot = slot_of(partition);
  const auto [first, last] = bounds_of(slot);
  if (past_searches_.size() >= kPastSearchesMax) past_searches_.clear();
  Bytes& at = past_searches_[{slot, damaged}];
  Engine::Scan rows(*engine_, ColumnFamily::kMailboxDots, first, last, {});
  at.empty() ? rows->SeekToFirst() : rows->Seek(slice(at));
  for (std::size_t seeks = 0; rows.valid(); ++seeks) {
    at = Bytes(rows.key());
    if (seeks == kPastSeeksMax) return false;
    MailboxId mailbox;
    if (!MailboxId::from(rows.key().substr(0, MailboxId::kSize), mailbox)) return false;
    const auto wanted = mailbox_dot_key(mailbox, damaged);
    if (rows.key() == wanted.view()) {
      const auto row = parse_mailbox_dot(rows.value());
      return row && expiry_->expired(row->expiry);
    }
    const bool before = rows.key() < wanted.view();
    const Bytes next = before ? Bytes(wanted.view())
                              : Bytes(mailbox_dot_key(mailbox, kLastDot).view()) + '\0';
    rows->Seek(slice(next));
  }
  past_searches_.erase({slot, damaged});
  return rows.status().ok();
}

std::vector<PartitionId> RocksStore::to_refill() const {
  return partitions_of(damage_.refill_slots());
}

std::vector<PartitionId> RocksStore::refilled() const { return partitions_of(refilled_); }

Status RocksStore::check_whole(Slot first_slot) const {
  if (damage_.is_whole(first_slot)) return ok_status();
  const std::string partition =
      "storage: partition " +
      std::to_string(starling::partition_of(first_slot, partitions_).value);
  if (damage_.is_refill(first_slot)) {
    return Error{Errc::kCorrupt, partition + " lies in a file that cannot be read; it is fetched "
                                             "again after a restart; read another owner"};
  }
  const auto dots = damage_.damaged(first_slot);
  return Error{Errc::kCorrupt, partition + " has " + std::to_string(dots.size()) +
                                   " damaged changes, the first " + to_text(dots.front()) +
                                   "; they are fetched from the other owners; read one of those"};
}

Error RocksStore::damaged_change(Slot first_slot, const Dot& dot, const std::string& what) {
  stats_.corrupt += 1;
  const std::string text = "storage: change " + to_text(dot) + " is damaged, " + what;
  note_damage(first_slot, dot, text);
  return {Errc::kCorrupt, text + "; it is fetched from another owner; read that one"};
}

// In memory at once, on disk with the batch: what is lost of it in a crash is found again.
bool RocksStore::note_damage(Slot first_slot, const Dot& dot, const std::string& what) {
  const bool refill = damage_.is_refill(first_slot);
  if (refill && damage_.damaged(first_slot).size() >= kDamagedDotsMax) return false;  // Some are enough to go on with.
  if (!damage_.add(first_slot, dot)) return false;
  if (!failed_ && !closed_) {
    engine_->put(*gathering_->writes, ColumnFamily::kDamage, log_key(first_slot, dot).view(),
                 damage_value(DamageState::kDamaged).view());
    gathering_->has_writes = true;
    mark_dirty();
  }
  if (damage_hook_ && !refill) {  // That was told of the whole partition.
    damage_hook_({starling::partition_of(first_slot, partitions_), dot, what});
  }
  if (damage_.damaged(first_slot).size() > kDamagedDotsMax) {
    note_refill({first_slot}, 0, "too many damaged changes to fetch one by one");
  }
  return true;
}

void RocksStore::close_damage(Slot first_slot, const Dot& dot, bool lost) {
  past_searches_.erase({first_slot, dot});
  rocksdb::WriteBatch& writes = *gathering_->writes;
  const auto key = log_key(first_slot, dot);
  if (lost) {
    engine_->put(writes, ColumnFamily::kDamage, key.view(),
                 damage_value(DamageState::kLost).view());
  } else {
    engine_->erase(writes, ColumnFamily::kDamage, key.view());
    erase_trace(first_slot, dot);
  }
  gathering_->closed.push_back({first_slot, dot, lost});
  gathering_->has_writes = true;
  mark_dirty();
}

bool RocksStore::is_closing(Slot first_slot, const Dot& dot, bool lost) const {
  const auto closes = [&](const Batch* batch) -> std::optional<bool> {
    if (batch == nullptr) return std::nullopt;
    const auto last = std::find_if(batch->closed.rbegin(), batch->closed.rend(), [&](const Closed& closed) {
      return closed.first_slot == first_slot && closed.dot == dot;
    });
    return last == batch->closed.rend() ? std::nullopt : std::optional(last->lost);
  };
  const auto later = closes(gathering_.get());
  return (later ? later : closes(in_flight_.get())) == lost;
}

Status RocksStore::mend(PartitionId partition, const Dot& dot, View change) {
  const auto bytes = std::make_shared<const Bytes>(change);
  TRY_ASSIGN(const ChangeView view, check(partition, dot, *bytes));
  const Slot slot = slot_of(partition);
  if (!damage_.is_damaged(slot, dot) && !damage_.is_lost(slot, dot)) return ok_status();
  TRY(check_room(slot));
  stage_rows(slot, dot, *bytes, view);
  close_damage(slot, dot, false);
  return ok_status();
}

Status RocksStore::mend(PartitionId partition, const RangeStatement& range) {
  const Slot slot = slot_of(partition);
  TRY(check_room(slot));
  TRY_ASSIGN(const auto checked, check(partition, range, 0));
  std::set<Dot> gone, back;  // Damaged here; and written off here, but not there.
  const auto is_lost_there = [&](const Dot& dot) {
    return std::binary_search(range.lost.begin(), range.lost.end(), dot.n);
  };
  const auto is_told = [&](const Dot& dot) {
    return dot.writer == range.writer && range.from <= dot.n && dot.n <= range.to;
  };
  for (const Dot& dot : damage_.damaged(slot)) {
    if (is_told(dot) && !is_closing(slot, dot, false)) gone.insert(dot);
  }
  for (const Dot& dot : damage_.lost(slot)) {
    if (is_told(dot) && !is_lost_there(dot)) back.insert(dot);
  }
  for (const auto& item : checked) {
    if (gone.erase(item.dot) + back.erase(item.dot) == 0) continue;
    stage_rows(slot, item.dot, *item.bytes, item.view);
    close_damage(slot, item.dot, false);
  }
  for (const Dot& dot : back) close_damage(slot, dot, false);  // Its rows went when it was written off.
  if (gone.empty()) return ok_status();
  TRY(find_rows_naming(slot, gone));
  std::set<Dot> lost;
  for (const Dot& dot : gone) {
    if (is_lost_there(dot)) lost.insert(dot);
  }
  note_traces(slot, range.traces, lost);
  for (const Dot& dot : lost) {
    if (const auto trace = trace_named(slot, dot)) note_trace(*trace);
  }
  TRY(erase_rows_naming(slot, gone));
  for (const Dot& dot : gone) close_damage(slot, dot, lost.contains(dot));
  return ok_status();
}

Status RocksStore::mark_lost(PartitionId partition, const Dot& dot) {
  const Slot slot = slot_of(partition);
  const std::uint64_t held = table_.held(slot, dot.writer);
  TRY(check_room());
  if (is_closing(slot, dot, true)) return ok_status();
  const bool mended = is_closing(slot, dot, false);
  if (damage_.is_lost(slot, dot) && !mended) return ok_status();
  if (dot.n == held + 1 && dot.writer != writer_) {
    table_.hold(slot, dot.writer, dot.n);
  } else if (!damage_.is_damaged(slot, dot) || mended) {
    return Error{Errc::kInvalid, "storage: change " + to_text(dot) +
                                     " is neither damaged nor the next of its run, which is " +
                                     std::to_string(held + 1)};
  } else {
    // The caller sees the copies that were found before anything is written off.
    const bool found = naming_[slot].complete() && naming_[slot].dots.contains(dot);
    const Status looked = find_rows_naming(slot, {dot});
    const bool refill = damage_.is_refill(slot);  // All its rows go; those that name the change may be as unreadable.
    if (!looked && (!refill || looked.code() == Errc::kOverloaded)) return looked.error();
    if (looked && !found) {
      return Error{Errc::kOverloaded, "storage: the rows of the partition were looked through; again"};
    }
    if (looked) {
      if (const auto trace = trace_named(slot, dot)) note_trace(*trace);
    }
    if (!refill) TRY(erase_rows_naming(slot, {dot}));
  }
  close_damage(slot, dot, true);
  return ok_status();
}

// What is found stays known until nothing of the partition is damaged. A change that gets rows anew, mended or standing
// again, is looked for again if it is damaged once more.
Status RocksStore::find_rows_naming(Slot first_slot, const std::set<Dot>& dots) {
  Naming& naming = naming_[first_slot];
  if (!std::includes(naming.dots.begin(), naming.dots.end(), dots.begin(), dots.end())) {
    const auto damaged = damage_.damaged(first_slot);
    naming = {dots, 0, {}, {}, {}};
    naming.dots.insert(damaged.begin(), damaged.end());
  }
  const auto [first, last] = bounds_of(first_slot);
  std::size_t left = kRowsPassedMax;
  for (; naming.family < kNamingFamilies.size(); ++naming.family, naming.at.clear()) {
    const auto family = kNamingFamilies[naming.family];
    Engine::Scan rows(*engine_, family, std::max(first, naming.at), last, ReadMode{nullptr, false});
    for (rows->SeekToFirst(); rows.valid(); rows->Next(), --left) {
      if (left == 0) {
        naming.at = Bytes(rows.key());
        return Error{Errc::kOverloaded, "storage: the rows of the partition are being looked through; again"};
      }
      const auto dot = dot_named(family, rows.key(), rows.value());
      if (!dot || !naming.dots.contains(*dot)) continue;
      naming.rows.emplace(*dot, NamedRow{family, Bytes(rows.key())});
      if (family == ColumnFamily::kKeys) naming.keys.emplace(rows.key(), *dot);
    }
    TRY(rows.status());
  }
  return naming.complete() ? ok_status() : find_copies(first_slot, naming);
}

bool RocksStore::Naming::complete() const { return family > kNamingFamilies.size(); }

// In their mailboxes, change by change. What was noted when they met would not do: a restart forgets it, and there is
// a limit to it.
Status RocksStore::find_copies(Slot first_slot, Naming& naming) {
  const ReadMode mode{nullptr, false};
  std::size_t left = kCopiesReadMax;
  for (auto key = naming.keys.lower_bound(naming.at.substr(0, MailboxId::kSize)); key != naming.keys.end();) {
    const Bytes prefix = key->first.substr(0, MailboxId::kSize);
    Engine::Scan rows(*engine_, ColumnFamily::kMailboxDots, prefix, mode);
    for (rows->Seek(slice(std::max(prefix, naming.at))); rows.valid(); rows->Next()) {
      if (left-- == 0) {
        naming.at = Bytes(rows.key());
        return Error{Errc::kOverloaded, "storage: the mailbox is being looked through for copies; again"};
      }
      const auto row = parse_mailbox_dot(rows.value());
      const auto dot = parse_dot_key(rows.key(), MailboxId::kSize);
      if (!dot || naming.dots.contains(*dot) || (row && row->kind == ChangeKind::kRegister)) continue;
      const auto loaded = load_change(first_slot, *dot, mode);
      if (!loaded || !*loaded || (*loaded)->view.kind == ChangeKind::kRegister) continue;
      const ChangeView& change = (*loaded)->view;
      const auto of = naming.keys.find(Bytes(message_key(change.mailbox, change.entry.key).view()));
      if (of != naming.keys.end()) note_superseded(change.mailbox, *dot, of->second);
    }
    TRY(rows.status());
    while (key != naming.keys.end() && key->first.starts_with(prefix)) ++key;
    naming.at.clear();
  }
  ++naming.family;
  return ok_status();
}

void RocksStore::forget_naming(Slot first_slot, const Dot& dot) {
  if (const auto naming = naming_.find(first_slot); naming != naming_.end()) naming->second.dots.erase(dot);
}

// A register keeps its value: it is whole, whatever became of the change that wrote it.
Status RocksStore::erase_rows_naming(Slot first_slot, const std::set<Dot>& dots) {
  TRY(find_rows_naming(first_slot, dots));
  rocksdb::WriteBatch& writes = *gathering_->writes;
  const auto others = rows_of_others(first_slot, dots);
  for (const Dot& lost : dots) {
    erase_log(first_slot, lost);
    const auto [begin, end] = naming_[first_slot].rows.equal_range(lost);
    for (auto at = begin; at != end; ++at) {
      const NamedRow& row = at->second;
      rocksdb::PinnableSlice value;
      TRY_ASSIGN(const bool found, engine_->get(row.first, row.second, value));
      const auto dot = found ? dot_named(row.first, row.second, view(value)) : std::nullopt;
      if (dot && dots.contains(*dot) && !others.contains(row)) engine_->erase(writes, row.first, row.second);
    }
  }
  stand_again(first_slot, dots);
  gathering_->has_writes = true;
  return ok_status();
}

// On their way to the disk: a better copy of the message has taken the place.
std::set<RocksStore::NamedRow> RocksStore::rows_of_others(Slot first_slot, const std::set<Dot>& dots) const {
  std::set<NamedRow> rows;
  keys_.for_each_pending([&](const MailboxKey& id, const KeyRow& row) {
    if (slot_of(partition_of(id.mailbox)) != first_slot || dots.contains(row.dot)) return;
    rows.emplace(ColumnFamily::kKeys, message_key(id.mailbox, id.key).view());
    rows.emplace(ColumnFamily::kEntries, entry_key(id.mailbox, row.conversation, row.id).view());
  });
  return rows;
}

// A copy of a message that lost to one of these is the message now: the best of them.
void RocksStore::stand_again(Slot first_slot, const std::set<Dot>& dots) {
  const auto noted = superseded_.find(first_slot);
  if (noted == superseded_.end()) return;
  std::unordered_map<MailboxKey, KeyRow, KeyHash> best;
  std::vector<Superseded> met;
  for (const Dot& dot : dots) {
    const auto lost = lost_to(first_slot, dot);
    met.insert(met.end(), lost.begin(), lost.end());
  }
  for (const auto& pair : met) {
    superseded_count_ -= noted->second.erase(pair);
    const auto loaded = load_change(first_slot, pair.dot);
    if (!loaded || !*loaded || (*loaded)->view.kind == ChangeKind::kRegister) continue;
    const ChangeView& change = (*loaded)->view;
    const KeyRow row = key_row(pair.dot, change);
    const auto [at, first] = best.try_emplace({change.mailbox, change.entry.key}, row);
    if (first) continue;
    const bool better = takes_key(row, at->second);
    note_superseded(change.mailbox, better ? at->second.dot : pair.dot, better ? pair.dot : at->second.dot);
    if (better) at->second = row;
  }
  for (const auto& [id, row] : best) {
    const auto current = find_key_row(id.mailbox, id.key);
    if (!current || dots.contains(current->dot)) {
      put_key(id, row);
      forget_naming(first_slot, row.dot);
    } else if (current->dot != row.dot) {  // A third one beat them both.
      note_superseded(id.mailbox, row.dot, current->dot);
    }
  }
}

bool RocksStore::heal(Slot first_slot, const Dot& dot) {
  if (failed_ || closed_ || dot.n > table_.synced(first_slot, dot.writer)) return false;
  const auto loaded = load_change(first_slot, dot);
  if (!loaded || !*loaded) return false;
  const bool outer = std::exchange(healing_, true);
  stage_rows(first_slot, dot, *(*loaded)->change.bytes, (*loaded)->view);
  healing_ = outer;
  return true;
}

// From the dots, which are the keys of `mailbox_dots`.
void RocksStore::heal_mailbox(const MailboxId& mailbox) {
  if (failed_ || closed_ || healing_) return;
  stats_.corrupt += 1;
  const Slot slot = slot_of(partition_of(mailbox));
  Engine::Scan rows(*engine_, ColumnFamily::kMailboxDots, mailbox.view());
  for (rows->SeekToFirst(); rows.valid(); rows->Next()) {
    if (const auto dot = parse_dot_key(rows.key(), MailboxId::kSize)) heal(slot, *dot);
  }
  if (const auto status = rows.status(); !status) fail(status.error());
}

}  // namespace starling::storage
