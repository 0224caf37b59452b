#include "storage/rocks/partition_table.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace starling::storage {
namespace {

constexpr auto kBefore = [](const auto& run, WriterId writer) { return run.writer < writer; };

}  // namespace

PartitionTable::Run& PartitionTable::run(Slot first_slot, WriterId writer) {
  Runs& runs = partitions_[first_slot];
  const auto it = std::lower_bound(runs.begin(), runs.end(), writer, kBefore);
  if (it != runs.end() && it->writer == writer) return *it;
  return *runs.insert(it, Run{writer});
}

const PartitionTable::Run* PartitionTable::find(Slot first_slot, WriterId writer) const {
  const auto partition = partitions_.find(first_slot);
  if (partition == partitions_.end()) return nullptr;
  const Runs& runs = partition->second;
  const auto it = std::lower_bound(runs.begin(), runs.end(), writer, kBefore);
  return it != runs.end() && it->writer == writer ? &*it : nullptr;
}

void PartitionTable::load(const Row& row) {
  Run& loaded = run(row.first_slot, row.writer);
  loaded.held = loaded.synced = row.n;
}

void PartitionTable::hold(Slot first_slot, WriterId writer, std::uint64_t n) {
  Run& held = run(first_slot, writer);
  assert(n > held.held);
  held.held = n;
  if (!std::exchange(held.gathered, true)) gathered_.push_back({first_slot, writer, 0});
}

std::vector<PartitionTable::Row> PartitionTable::seal() {
  for (Row& row : gathered_) {
    Run& sealed = run(row.first_slot, row.writer);
    sealed.gathered = false;
    row.n = sealed.held;
  }
  return std::exchange(gathered_, {});
}

void PartitionTable::settle(const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    Run& settled = run(row.first_slot, row.writer);
    assert(row.n >= settled.synced && row.n <= settled.held);  // Equal: a run that was split had been synced.
    settled.synced = row.n;
  }
}

std::uint64_t PartitionTable::held(Slot first_slot, WriterId writer) const {
  const Run* found = find(first_slot, writer);
  return found != nullptr ? found->held : 0;
}

std::uint64_t PartitionTable::synced(Slot first_slot, WriterId writer) const {
  const Run* found = find(first_slot, writer);
  return found != nullptr ? found->synced : 0;
}

VersionVector PartitionTable::vector(Slot first_slot) const {
  VersionVector out;
  if (const auto it = partitions_.find(first_slot); it != partitions_.end()) {
    for (const Run& run : it->second) out.raise(run.writer, run.synced);
  }
  return out;
}

std::vector<Slot> PartitionTable::touched() const {
  std::vector<Slot> out;
  for (const auto& [slot, runs] : partitions_) {
    const bool synced = std::any_of(runs.begin(), runs.end(),
                                    [](const Run& run) { return run.synced > 0; });
    if (synced) out.push_back(slot);
  }
  return out;
}

bool PartitionTable::settled(Slot first_slot) const {
  const auto it = partitions_.find(first_slot);
  return it == partitions_.end() ||
         std::all_of(it->second.begin(), it->second.end(),
                     [](const Run& run) { return run.held == run.synced; });
}

void PartitionTable::forget(Slot first_slot, WriterId writer) {
  const auto partition = partitions_.find(first_slot);
  if (partition == partitions_.end()) return;
  std::erase_if(partition->second, [&](const Run& run) {
    assert(run.writer != writer || run.held == run.synced);
    return run.writer == writer;
  });
  if (partition->second.empty()) partitions_.erase(partition);
}

void PartitionTable::split(Slot half) {
  std::map<Slot, Runs> uppers;
  for (const auto& [slot, runs] : partitions_) {
    const auto upper = static_cast<Slot>(slot + half);
    Runs& copies = uppers[upper] = runs;
    for (Run& run : copies) {
      run.gathered = true;
      gathered_.push_back({upper, run.writer, 0});
    }
  }
  partitions_.merge(uppers);
}

bool PartitionTable::knows(WriterId writer) const {
  return std::any_of(partitions_.begin(), partitions_.end(), [&](const auto& partition) {
    return find(partition.first, writer) != nullptr;
  });
}

}  // namespace starling::storage
