// PartitionTable: of each partition and writer, how far its run is held and how far it is synced.
//
// Invariants: synced <= held; both only grow until they are forgotten; a run has no holes.
// Partitions are known by their first slot. Nothing is kept for an untouched partition.
// Thread: the store's loop.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "storage/layout.h"
#include "storage/version_vector.h"

namespace starling::storage {

class PartitionTable {
 public:
  using Row = JournalRow::Run;

  // From disk: held and synced.
  void load(const Row& row);
  // The gathering batch accepts up to n. REQUIRES: n is above held.
  void hold(Slot first_slot, WriterId writer, std::uint64_t n);
  // What the gathering batch raised, one row per run in order of first touch; a new one gathers.
  std::vector<Row> seal();
  // Those rows are on disk.
  void settle(const std::vector<Row>& rows);

  [[nodiscard]] std::uint64_t held(Slot first_slot, WriterId writer) const;
  [[nodiscard]] std::uint64_t synced(Slot first_slot, WriterId writer) const;
  [[nodiscard]] VersionVector vector(Slot first_slot) const;  // Synced.
  [[nodiscard]] std::vector<Slot> touched() const;            // With a synced change, ascending.
  // Nothing of it was ever accepted, or it was forgotten.
  [[nodiscard]] bool untouched(Slot first_slot) const { return !partitions_.contains(first_slot); }
  // One that is touched has its first slot between the two.
  [[nodiscard]] bool any_between(Slot after, Slot before) const {
    const auto next = partitions_.upper_bound(after);
    return next != partitions_.end() && next->first < before;
  }
  // Everything accepted is synced.
  [[nodiscard]] bool settled(Slot first_slot) const;
  // As if it had never been touched. REQUIRES: settled.
  void forget(Slot first_slot) { partitions_.erase(first_slot); }
  // The run, as if it had never been heard of. REQUIRES: all of it that is held is synced.
  void forget(Slot first_slot, WriterId writer);
  // Every partition becomes two, `half` slots apart: the upper one has the same runs, and the next seal says so.
  void split(Slot half);
  [[nodiscard]] bool knows(WriterId writer) const;
  [[nodiscard]] bool empty() const { return partitions_.empty(); }

 private:
  struct Run {
    WriterId writer;
    std::uint64_t held = 0;
    std::uint64_t synced = 0;
    bool gathered = false;  // Listed in gathered_.
  };
  using Runs = std::vector<Run>;  // Ascending writers.
  Run& run(Slot first_slot, WriterId writer);
  const Run* find(Slot first_slot, WriterId writer) const;

  std::map<Slot, Runs> partitions_;
  std::vector<Row> gathered_;
};

}  // namespace starling::storage
