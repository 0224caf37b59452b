#include "tests/sim/judge/drops.h"

#include <algorithm>

#include "tests/sim/world/node_parts.h"

namespace starling::sim {

using node::NodeParts;

void Drops::start() {
  for (std::size_t i = 0; i < cluster_.size(); ++i) look_at(i);
  world_.after(kDropsEvery, [this, alive = alive_] {
    if (*alive) start();
  });
}

void Drops::look_at(std::size_t i) {
  if (!cluster_.up(i)) {
    held_.erase(i);
    return;
  }
  const auto& store = cluster_.store(i);
  Held now{&cluster_.node(i), cluster_.partitions(i), NodeParts::ring_ptr(cluster_.node(i)), {}};
  for (const auto partition : store.touched()) now.vectors[partition] = store.vector(partition);
  Held& before = held_[i];
  if (before.run == now.run && before.count == now.count) {
    for (const auto& [partition, vector] : before.vectors) {
      if (!now.vectors.contains(partition)) judge(i, partition, before);
    }
  }
  before = std::move(now);
}

// The ring may have changed between the drop and now: who became an owner by that was not asked.
void Drops::judge(std::size_t i, PartitionId partition, const Held& before) {
  const auto* ring = NodeParts::ring(cluster_.node(i));
  const auto& dots = before.vectors.at(partition).dots();
  if (ring == nullptr || dots.empty() || ring->is_owner(partition, cluster_.node_id(i))) return;  // It begins anew.
  ++seen_;
  const std::string what = "partition " + std::to_string(partition.value) + " dropped by n" + std::to_string(i);
  world_.note("n" + std::to_string(i), what);
  for (std::size_t other = 0; other < cluster_.size(); ++other) {
    if (!cluster_.up(other) || !ring->is_owner(partition, cluster_.node_id(other))) continue;
    if (before.ring == nullptr || !before.ring->is_owner(partition, cluster_.node_id(other))) continue;
    // It may have lost it again since, by a later version.
    const auto* theirs = NodeParts::ring(cluster_.node(other));
    if (theirs == nullptr || cluster_.partitions(other) != cluster_.partitions(i)) continue;
    if (!theirs->is_owner(partition, cluster_.node_id(other))) continue;
    const auto has = cluster_.store(other).vector(partition);
    const auto lacks = std::find_if(dots.begin(), dots.end(), [&](const Dot& dot) { return !has.covers(dot); });
    if (lacks == dots.end()) continue;
    violations_.push_back({6, what + ", and its owner n" + std::to_string(other) + " lacks " + to_text(*lacks), what});
  }
}

}  // namespace starling::sim
