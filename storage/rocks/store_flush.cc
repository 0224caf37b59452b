// The pipeline: one batch in flight, the next gathers.

#include <cassert>
#include <utility>

#include "storage/engine/pace.h"
#include "storage/rocks/rocks_store.h"

namespace starling::storage {

void RocksStore::on_synced(std::function<void(std::span<const SyncedChange>)> watcher) {
  watchers_.push_back(std::move(watcher));
}

void RocksStore::on_dirty(std::function<void()> hook) {
  dirty_hook_ = std::move(hook);
  if (dirty_ && dirty_hook_) dirty_hook_();  // Something was gathered before anybody listened.
}

void RocksStore::on_fatal(std::function<void(const Error&)> hook) {
  fatal_hook_ = std::move(hook);
  if (failed_ && fatal_hook_) fatal_hook_(*failed_);  // Before anybody listened.
}

// Nothing follows the marker of a clean end: what comes after it is never written, and nobody hears that it was.
void RocksStore::mark_dirty() {
  if (closed_) return;
  if (!std::exchange(dirty_, true) && dirty_hook_) dirty_hook_();
}

void RocksStore::when_durable(std::function<void()> done) {
  if (in_flight_ && !gathering_->has_writes) {
    in_flight_->durable.push_back(std::move(done));
    return;
  }
  gathering_->durable.push_back(std::move(done));
  mark_dirty();
}

void RocksStore::flush() {
  if (failed_ || closed_ || in_flight_ || reporting_) return;
  dirty_ = false;
  if (gathering_->has_writes) {
    commit_gathered();
    return;
  }
  // Nothing to write, so everything accepted is durable.
  for (auto& done : std::exchange(gathering_->durable, {})) done();
}

void RocksStore::commit_gathered() {
  write_shared_rows();
  previous_.seal();
  lanes_.seal();
  keys_.seal();
  registers_.seal();
  paxos_.seal();
  node_.seal();
  stats_.commits += 1;
  stats_.changes += gathering_->changes.size();
  stats_.puts += static_cast<std::uint64_t>(gathering_->writes->Count());
  stats_.bytes += gathering_->writes->GetDataSize();
  auto writes = std::move(gathering_->writes);
  in_flight_ = std::exchange(gathering_, std::make_unique<Batch>());
  committer_->pace(commit_pace(engine_->level0_files()));
  committer_->commit(std::move(writes), [this, alive = alive_](Status status) {
    if (*alive) committed(status);
  });
}

// What the changes of a batch share is written once.
void RocksStore::write_shared_rows() {
  rocksdb::WriteBatch& writes = *gathering_->writes;
  JournalRow raised;
  raised.dropped.assign(gathering_->dropped.begin(), gathering_->dropped.end());
  raised.forgotten = std::move(gathering_->forgotten);
  raised.split_from = gathering_->split_from;
  raised.runs = table_.seal();
  for (const LaneId& id : lanes_.gathered()) {
    if (gathering_->dropped.contains(slot_of(partition_of(id.mailbox)))) continue;
    raised.lanes.push_back({id, *lanes_.find(id)});
  }
  if (highest_time_ > written_time_) raised.time = written_time_ = highest_time_;
  // The batch before this one, which was in flight when they were dropped, may have raised some of theirs.
  for (const Slot slot : gathering_->dropped) journal_.drop(slot, slot + kSlotCount / partitions_);
  gathering_->journal = journal_.seal(std::move(raised));
  const Journal::Batch& journal = gathering_->journal;
  if (journal.seq != 0) {
    engine_->put(writes, ColumnFamily::kJournal, journal_key(journal.seq).view(), journal_value(journal.raised));
  }
  write_own_rows(writes, journal);
  if (journal.erase_before != 0) {
    engine_->put(writes, ColumnFamily::kNode, kNodeHighestTime, number_value(written_time_).view());
  }
}

void RocksStore::write_own_rows(rocksdb::WriteBatch& writes, const Journal::Batch& from) {
  for (const auto& run : from.runs) {
    engine_->put(writes, ColumnFamily::kPartitions, partition_key(run.first_slot, run.writer).view(),
                 number_value(run.n).view());
  }
  for (const auto& lane : from.lanes) {
    engine_->put(writes, ColumnFamily::kLanes, lane_key(lane.id).view(), number_value(lane.high).view());
  }
  for (std::uint64_t seq = from.erase_from; seq < from.erase_before; ++seq) {
    engine_->erase(writes, ColumnFamily::kJournal, journal_key(seq).view());
  }
}

void RocksStore::committed(const Status& status) {
  if (failed_) return;
  if (!status) {
    fail(status.error());
    return;
  }
  engine_->tell_unreadable_inputs();
  if (failed_) return;
  assert(in_flight_);
  const auto batch = std::exchange(in_flight_, nullptr);
  table_.settle(batch->journal.raised.runs);
  journal_.settle(batch->journal);
  expiry_->advance(batch->expiry_ms);
  if (batch->expiry_ms != 0) traces_.expire(expiry_->ms());
  for (const Closed& closed : batch->closed) {
    if (closed.lost) {
      damage_.lose(closed.first_slot, closed.dot);
    } else {
      damage_.mended(closed.first_slot, closed.dot);
    }
    if (damage_.damaged(closed.first_slot).empty()) naming_.erase(closed.first_slot);
  }
  previous_.settle();
  lanes_.settle();
  keys_.settle();
  registers_.settle();
  // A scrub may have written rows again that were dropped behind it.
  forget_cached(batch->dropped);
  paxos_.settle();
  node_.settle();
  reporting_ = true;
  if (!batch->changes.empty()) {
    for (const auto& watcher : watchers_) watcher(batch->changes);
  }
  for (const auto& done : batch->durable) done();
  reporting_ = false;
  if (gathering_->has_writes || !gathering_->durable.empty()) flush();
}

// Final: what the disk holds is not known any more (hazards F31).
void RocksStore::fail(const Error& error) {
  if (failed_) return;
  failed_ = error;
  if (fatal_hook_) fatal_hook_(error);
}

}  // namespace starling::storage
