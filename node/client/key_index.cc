#include "node/client/key_index.h"

#include <algorithm>

namespace starling::node {
namespace {

// The first interval that ends at or after `seq`.
template <class Intervals>
auto reach(Intervals& intervals, std::uint64_t seq) {
  return std::lower_bound(
      intervals.begin(), intervals.end(), seq,
      [](const KeyIndex::Interval& interval, std::uint64_t n) { return interval.last < n; });
}

}  // namespace

bool KeyIndex::insert(const MessageKey& key) {
  auto& intervals = lanes_[{key.device, key.lane}];
  auto at = reach(intervals, key.seq);
  if (at != intervals.end() && at->first <= key.seq) return false;
  const bool joins_left = at != intervals.begin() && std::prev(at)->last + 1 == key.seq;
  const bool joins_right = at != intervals.end() && key.seq + 1 == at->first;
  if (joins_left && joins_right) {
    std::prev(at)->last = at->last;
    intervals.erase(at);
  } else if (joins_left) {
    std::prev(at)->last = key.seq;
  } else if (joins_right) {
    at->first = key.seq;
  } else {
    intervals.insert(at, Interval{key.seq, key.seq});
  }
  return true;
}

bool KeyIndex::contains(const MessageKey& key) const {
  const auto lane = lanes_.find({key.device, key.lane});
  if (lane == lanes_.end()) return false;
  const auto at = reach(lane->second, key.seq);
  return at != lane->second.end() && at->first <= key.seq;
}

std::size_t KeyIndex::intervals() const {
  std::size_t count = 0;
  for (const auto& [lane, intervals] : lanes_) count += intervals.size();
  return count;
}

std::vector<KeyIndex::Row> KeyIndex::rows() const {
  std::vector<Row> rows;
  rows.reserve(lanes_.size());
  for (const auto& [lane, intervals] : lanes_) rows.push_back({lane.device, lane.lane, intervals});
  std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
    return std::tie(a.device, a.lane) < std::tie(b.device, b.lane);
  });
  return rows;
}

KeyIndex KeyIndex::from(std::vector<Row> rows) {
  KeyIndex index;
  for (auto& row : rows) index.lanes_[{row.device, row.lane}] = std::move(row.intervals);
  return index;
}

}  // namespace starling::node
