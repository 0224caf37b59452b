// LaneRows: the lanes of a range of slots in the order of their keys: rows on disk, and above them what the
// journal says.
// Thread: the store's loop.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "storage/engine/engine.h"

namespace starling::storage {

class LaneRows {
 public:
  // Positioned on the first with a key not below `from`. `raised`: by key, above the rows.
  LaneRows(Engine& engine, Bytes from, Bytes last, ReadMode mode, std::map<Bytes, std::uint64_t> raised)
      : rows_(engine, ColumnFamily::kLanes, from, std::move(last), mode), raised_(std::move(raised)) {
    rows_->SeekToFirst();
    at_ = raised_.lower_bound(from);
  }

  [[nodiscard]] bool valid() const { return rows_.valid() || at_ != raised_.end(); }
  // Until next().
  [[nodiscard]] View key() const { return on_raised() ? View(at_->first) : rows_.key(); }
  // Nothing: a row that cannot be read.
  [[nodiscard]] std::optional<std::uint64_t> high() const {
    return on_raised() ? std::optional(at_->second) : parse_number(rows_.value());
  }
  void next() {
    const bool raised = on_raised();
    if (rows_.valid() && (!raised || rows_.key() == View(at_->first))) rows_->Next();
    if (raised) ++at_;
  }
  [[nodiscard]] Status status() const { return rows_.status(); }

 private:
  [[nodiscard]] bool on_raised() const {
    return at_ != raised_.end() && (!rows_.valid() || View(at_->first) <= rows_.key());
  }
  Engine::Scan rows_;
  const std::map<Bytes, std::uint64_t> raised_;
  std::map<Bytes, std::uint64_t>::const_iterator at_;
};

}  // namespace starling::storage
