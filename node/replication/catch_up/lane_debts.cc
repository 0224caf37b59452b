#include "node/replication/catch_up/lane_debts.h"

#include "node/layout.h"
#include "node/replication/children.h"

namespace starling::node {

using storage::Store;

namespace {

constexpr std::size_t kReadAtOnce = 4096;

}  // namespace

LaneDebts::LaneDebts(ClusterView& view) : view_(view) {
  load();
  view_.on_doubled([this] { partitions_doubled(); });
}

void LaneDebts::load() {
  Bytes after;
  for (;;) {
    const auto rows = view_.store.scan(Store::Family::kNode, kLanesOwedPrefix, after, kReadAtOnce);
    for (const auto& [key, value] : rows) {
      if (const auto owed = parse_lanes_owed_key(key)) owed_.insert(*owed);
    }
    if (rows.size() < kReadAtOnce) return;
    after = rows.back().first;
  }
}

void LaneDebts::put(PartitionId partition, const NodeId& owner, bool owed) {
  view_.store.put(Store::Family::kNode, lanes_owed_key(partition, owner), owed ? Bytes("1") : Bytes());
}

void LaneDebts::owe(PartitionId partition, const NodeId& owner) {
  if (owed_.insert({partition, owner}).second) put(partition, owner, true);
}

void LaneDebts::paid(PartitionId partition, const NodeId& owner) {
  if (owed_.erase({partition, owner}) > 0) put(partition, owner, false);
}

std::vector<NodeId> LaneDebts::in(PartitionId partition) const {
  std::vector<NodeId> owners;
  for (auto it = owed_.lower_bound({partition, NodeId{}}); it != owed_.end() && it->first == partition; ++it) {
    owners.push_back(it->second);
  }
  return owners;
}

std::vector<PartitionId> LaneDebts::of(const NodeId& owner) {
  std::vector<PartitionId> partitions;
  std::erase_if(owed_, [&](const auto& owed) {
    const auto& [partition, of] = owed;
    const bool ours = view_.is_owner(partition) || view_.is_owner_to_be(partition);
    if (!ours || !view_.ring().is_owner(partition, of)) {
      put(partition, of, false);
      return true;
    }
    if (of == owner) partitions.push_back(partition);
    return false;
  });
  return partitions;
}

// With the split, as all rows of the node by partition.
void LaneDebts::partitions_doubled() {
  for (const auto& [partition, owner] : owed_) put(partition, owner, false);
  split_keys(owed_);
  for (const auto& [partition, owner] : owed_) put(partition, owner, true);
}

}  // namespace starling::node
