#include "node/repair/eraser.h"

#include <algorithm>

namespace starling::node {

namespace {

constexpr Duration kEraseEvery = 5s;
constexpr std::size_t kErasedAtOnceMax = 2000;  // In one turn of the loop.

}  // namespace

Eraser::Eraser(ClusterView& view, MayGo may_go) : view_(view), may_go_(std::move(may_go)) {
  view_.on_doubled([this] { has_.clear(); });
  tick_ = view_.loop.after(kEraseEvery, [this] { tick(); });
}

void Eraser::covers(const NodeId& peer, PartitionId partition, const storage::VersionVector& has) {
  has_[partition][peer] = has;
}

bool Eraser::is_stable(PartitionId partition, const Dot& dot) const {
  // Whatever is noted here was held here: the winner's run was forgotten since, because nothing of it is left, so the
  // winner expired, or lost to a change that every owner has.
  if (view_.store.held(partition, dot.writer) == 0) return true;
  const auto known = has_.find(partition);
  const auto owners = view_.ring().owners(partition);
  return std::all_of(owners.begin(), owners.end(), [&](const NodeId& owner) {
    if (owner == view_.self) return view_.store.synced(partition, dot.writer) >= dot.n;
    if (known == has_.end()) return false;
    const auto has = known->second.find(owner);
    return has != known->second.end() && has->second.covers(dot);
  });
}

void Eraser::tick() {
  tick_ = view_.loop.after(kEraseEvery, [this] { tick(); });
  if (!view_.in_ring() || view_.read_only) return;
  const auto partitions = view_.store.with_superseded();
  std::erase_if(has_, [&](const auto& known) {
    return !std::binary_search(partitions.begin(), partitions.end(), known.first);
  });
  std::size_t left = kErasedAtOnceMax;
  for (const auto partition : partitions) {
    if (left == 0) return;
    if (!view_.answers_for(partition)) continue;
    std::vector<storage::Superseded> stable;
    for (const auto& change : view_.store.superseded(partition)) {
      const bool may_go = stable.size() < left && is_stable(partition, change.by) && may_go_(partition, change);
      if (may_go) stable.push_back(change);
    }
    left -= stable.size();
    if (!view_.store.erase_superseded(partition, stable)) return;  // The disk is behind.
  }
}

}  // namespace starling::node
