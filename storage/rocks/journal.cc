#include "storage/rocks/journal.h"

#include <algorithm>
#include <cassert>

#include "storage/ids.h"

namespace starling::storage {
namespace {

constexpr std::size_t kRowsMin = 8;      // Written by each batch while the old generation is not done.
constexpr std::uint64_t kErasedMax = 64;  // Rows of the journal, by each batch; it adds one.

std::size_t size_of(const JournalRow& row) {
  return 24 + 2 * row.dropped.size() + 10 * row.forgotten.size() + 18 * row.runs.size() + 48 * row.lanes.size() +
         (row.split_from != 0 ? sizeof(row.split_from) : 0);
}

bool is_in(const MailboxId& mailbox, Slot first, std::uint32_t last) {
  const Slot slot = slot_of(mailbox);
  return first <= slot && slot < last;
}

void erase_slots(std::map<Bytes, std::uint64_t>& rows, Slot first, std::uint32_t last) {
  const auto end = last < kSlotCount ? rows.lower_bound(Bytes(slot_key(static_cast<Slot>(last)).view()))
                                     : rows.end();
  rows.erase(rows.lower_bound(Bytes(slot_key(first).view())), end);
}

}  // namespace

Journal::Batch Journal::seal(JournalRow raised) {
  Batch out;
  out.raised = std::move(raised);
  const std::size_t bytes = out.raised.empty() ? 0 : size_of(out.raised);
  if (bytes > 0) out.seq = next_seq_++;
  if (old_end_ == 0 && young_bytes_ >= limit_) {
    runs_.turn();
    lanes_.turn();
    old_count_ = runs_.resting() + lanes_.resting();
    old_end_ = next_seq_ - (bytes > 0 ? 1 : 0);
    young_bytes_ = 0;
  }
  young_bytes_ += bytes;
  if (kept_from_ < spent_to_) {
    out.erase_from = kept_from_;
    out.erase_before = kept_from_ = std::min(spent_to_, kept_from_ + kErasedMax);
  }
  if (old_end_ == 0) return out;
  std::size_t left = kRowsMin + 2 * old_count_ * bytes / limit_;
  const std::size_t of_runs = std::min(left, runs_.resting());
  runs_.look(of_runs, [&](const PartitionRowKey& run, std::uint64_t n) {
    out.runs.push_back({run.first_slot, run.writer, n});
  });
  left -= of_runs;
  lanes_.look(left, [&](const LaneId& id, std::uint64_t high) { out.lanes.push_back({id, high}); });
  if (runs_.resting() + lanes_.resting() == 0) spent_to_ = std::exchange(old_end_, 0);
  return out;
}

void Journal::settle(const Batch& batch) {
  runs_.settle();
  lanes_.settle();
  for (const auto& run : batch.raised.runs) runs_.raise({run.first_slot, run.writer}, run.n);
  for (const auto& lane : batch.raised.lanes) lanes_.raise(lane.id, lane.high);
}

Journal::Batch Journal::close() const {
  Batch out;
  out.erase_from = kept_from_;
  out.erase_before = next_seq_;
  const auto all = [](const auto&) { return true; };
  runs_.for_each(all, [&](const PartitionRowKey& run, std::uint64_t n) {
    out.runs.push_back({run.first_slot, run.writer, n});
  });
  lanes_.for_each(all, [&](const LaneId& id, std::uint64_t high) { out.lanes.push_back({id, high}); });
  return out;
}

std::map<Bytes, std::uint64_t> Journal::lanes_of(Slot first, std::uint32_t last) const {
  std::map<Bytes, std::uint64_t> out;
  lanes_.for_each([&](const LaneId& id) { return is_in(id.mailbox, first, last); },
                  [&](const LaneId& id, std::uint64_t high) { out.emplace(lane_key(id).view(), high); });
  return out;
}

void Journal::drop(Slot first, std::uint32_t last) {
  runs_.forget_if([&](const PartitionRowKey& run) { return run.first_slot == first; });
  lanes_.forget_if([&](const LaneId& id) { return is_in(id.mailbox, first, last); });
}

void Journal::forget(const PartitionRowKey& run) {
  runs_.forget_if([&](const PartitionRowKey& key) { return key == run; });
}

void JournalReplay::apply(const JournalRow& row) {
  time_ = std::max(time_, row.time);
  for (const Slot slot : row.dropped) {
    erase_slots(runs_, slot, slot + width_);
    erase_slots(lanes_, slot, slot + width_);
  }
  for (const auto& run : row.forgotten) runs_.erase(Bytes(partition_key(run.first_slot, run.writer).view()));
  for (const auto& run : row.runs) {
    runs_[Bytes(partition_key(run.first_slot, run.writer).view())] = run.n;
  }
  for (const auto& lane : row.lanes) lanes_[Bytes(lane_key(lane.id).view())] = lane.high;
}

}  // namespace starling::storage
