#include "node/client/key_index.h"

#include <algorithm>

namespace starling::node {
namespace {

using Intervals = std::vector<KeyIndex::Interval>;
using KeyPositions = std::vector<KeyIndex::Position>;

// The first interval that ends at or after `seq`.
template <class List>
auto reach(List& intervals, std::uint64_t seq) {
  return std::lower_bound(
      intervals.begin(), intervals.end(), seq,
      [](const KeyIndex::Interval& interval, std::uint64_t n) { return interval.last < n; });
}

bool holds(const Intervals& intervals, std::uint64_t seq) {
  const auto at = reach(intervals, seq);
  return at != intervals.end() && at->first <= seq;
}

// False when the number was there already.
bool insert(Intervals& intervals, std::uint64_t seq) {
  auto at = reach(intervals, seq);
  if (at != intervals.end() && at->first <= seq) return false;
  const bool joins_left = at != intervals.begin() && std::prev(at)->last + 1 == seq;
  const bool joins_right = at != intervals.end() && seq + 1 == at->first;
  if (joins_left && joins_right) {
    std::prev(at)->last = at->last;
    intervals.erase(at);
  } else if (joins_left) {
    std::prev(at)->last = seq;
  } else if (joins_right) {
    at->first = seq;
  } else {
    intervals.insert(at, KeyIndex::Interval{seq, seq});
  }
  return true;
}

auto place(KeyPositions& positions, std::uint64_t seq) {
  return std::lower_bound(
      positions.begin(), positions.end(), seq,
      [](const KeyIndex::Position& position, std::uint64_t n) { return position.seq < n; });
}

void remember(KeyPositions& positions, std::uint64_t seq, const EntryId& id) {
  positions.insert(place(positions, seq), {seq, id});
  if (positions.size() > kLanePositionsMax) positions.erase(positions.begin());
}

// True when `id` is smaller than the known position, and is now that position.
bool move(KeyPositions& positions, std::uint64_t seq, const EntryId& id) {
  const auto at = place(positions, seq);
  if (at == positions.end() || at->seq != seq) return false;
  if (at->id <= id) return false;
  at->id = id;
  return true;
}

}  // namespace

Heard KeyIndex::hear(const MessageKey& key, const EntryId& id, bool is_void) {
  Row& row = lanes_[{key.device, key.lane}];
  const bool fresh = insert(row.heard, key.seq);
  const bool shown = !fresh || holds(row.acked, key.seq);
  if (is_void) return insert(row.voids, key.seq) && shown ? Heard::kVoided : Heard::kKnown;
  if (holds(row.voids, key.seq)) return Heard::kKnown;
  if (!fresh) return move(row.positions, key.seq, id) ? Heard::kMoved : Heard::kKnown;
  remember(row.positions, key.seq, id);
  return Heard::kNew;
}

bool KeyIndex::acknowledge(const MessageKey& key) {
  Row& row = lanes_[{key.device, key.lane}];
  insert(row.acked, key.seq);
  return !holds(row.voids, key.seq);
}

bool KeyIndex::contains(const MessageKey& key) const {
  const auto lane = lanes_.find({key.device, key.lane});
  return lane != lanes_.end() && holds(lane->second.heard, key.seq);
}

std::size_t KeyIndex::intervals() const {
  std::size_t count = 0;
  for (const auto& [lane, row] : lanes_) count += row.heard.size();
  return count;
}

std::vector<KeyIndex::Row> KeyIndex::rows() const {
  std::vector<Row> rows;
  rows.reserve(lanes_.size());
  for (const auto& [lane, row] : lanes_) {
    rows.push_back(row);
    rows.back().device = lane.device;
    rows.back().lane = lane.lane;
  }
  std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
    return std::tie(a.device, a.lane) < std::tie(b.device, b.lane);
  });
  return rows;
}

KeyIndex KeyIndex::from(std::vector<Row> rows) {
  KeyIndex index;
  for (auto& row : rows) {
    const Lane lane{row.device, row.lane};
    index.lanes_[lane] = std::move(row);
  }
  return index;
}

}  // namespace starling::node
