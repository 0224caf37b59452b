// Install: fills partitions of which nothing is here with what others hold of them, by sorted files instead of
// row by row through the log and the memtables.
//
// Runs are taken like those of Store::apply: checked change by change, each behind the one before. They gather in
// memory; write() sends what gathered to be sorted, written and taken in, off the loop, while more is gathered.
// finish() does so with the rest and then moves the vectors, in one synced batch: from then on the partitions are
// like any other. Until then nobody else writes to them, and Store::is_whole() is false.
// What is asked of others is a prefix of each writer's run, so an end at any point leaves partitions
// that are true, and lack a tail.
// Invariant: a vector never names a change whose rows are not on disk. A mark, synced before the first file, stands
// for each partition until its vector does; the next open empties what has one.
// Thread: the store's loop. REQUIRES: the store outlives it.
#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "storage/store.h"

namespace starling::storage {

class Install {
 public:
  virtual ~Install() = default;  // Unfinished: the partitions stay closed until the next open.

  // As far as it gathered; nothing of it shows in the store before the end.
  [[nodiscard]] virtual std::uint64_t held(PartitionId partition, WriterId writer) const = 0;
  // As Store::apply, and what a failed write() ended with.
  virtual Result<Applied> apply(PartitionId partition, const RangeStatement& range) = 0;
  // As Store::merge_lanes.
  virtual Status merge_lanes(PartitionId partition, std::span<const LaneRow> lanes) = 0;
  // Bytes in memory that no file has.
  [[nodiscard]] virtual std::size_t gathered() const = 0;

  virtual void write() = 0;
  [[nodiscard]] virtual bool writing() const = 0;
  // The last call. An error: nothing of it is left here, and the partitions are open again.
  virtual void finish(std::function<void(Status)> done) = 0;
};

}  // namespace starling::storage
