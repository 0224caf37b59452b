#include "overlay/ring/matching.h"

#include <algorithm>
#include <cassert>

namespace starling::overlay {

Candidates strongest(const Claims& claims, std::uint32_t partitions, const Area& area) {
  Candidates out{std::min(claims.nodes(), kCandidatesMax), {}};
  out.list.reserve(out.width * partitions);
  std::vector<std::pair<std::uint64_t, MemberIndex>> keys;
  for (std::uint32_t p = 0; p < partitions; ++p) {
    keys.clear();
    for (std::size_t i = 0; i < claims.nodes(); ++i) {
      const auto node = static_cast<MemberIndex>(i);
      if (area.allows(p, node)) keys.emplace_back(claims.key(p, node), node);
    }
    const auto end = keys.begin() + static_cast<std::ptrdiff_t>(std::min(out.width, keys.size()));
    if (end != keys.end()) std::nth_element(keys.begin(), end, keys.end());
    std::sort(keys.begin(), end);
    for (auto at = keys.begin(); at != end; ++at) out.list.push_back(at->second);
    out.list.resize(out.width * (p + 1), kNobody);
  }
  return out;
}

Matching::Matching(const Claims& claims, const Candidates& candidates, std::uint32_t partitions,
                   std::size_t want, const std::vector<std::uint32_t>& bound, const Zones& zones,
                   const Area& area, bool any_node)
    : claims_(claims),
      candidates_(candidates),
      want_(want),
      bound_(bound),
      zones_(zones),
      area_(area),
      any_node_(any_node),
      holders_(partitions * want, kNobody),
      asked_(partitions, 0),
      held_(claims.nodes()) {}

std::vector<MemberIndex> Matching::run() && {
  std::vector<std::uint32_t> stuck;
  const auto partitions = static_cast<std::uint32_t>(asked_.size());
  for (std::uint32_t p = 0; p < partitions; ++p) open_.push_back(p);
  while (!open_.empty()) {
    const std::uint32_t p = open_.front();
    open_.pop_front();
    if (!fill(p)) stuck.push_back(p);
  }
  for (const auto p : stuck) {
    while (free_place(p) != nullptr) make_room(p);
  }
  return std::move(holders_);
}

// Asks candidates until the partition has all it wants; false when no one is left to ask.
bool Matching::fill(std::uint32_t p) {
  while (free_place(p) != nullptr) {
    const std::size_t choice = next_choice(p);
    if (choice == candidates_.width) return false;
    asked_[p] |= std::uint64_t{1} << choice;
    const MemberIndex node = candidates_.of(p)[choice];
    auto& held = held_[node];
    if (held.size() >= bound_[node]) {
      if (held.empty()) continue;
      const auto [weakest_key, weakest] = *held.rbegin();
      if (std::pair(claims_.key(p, node), p) > std::pair(weakest_key, weakest)) continue;
      drop(weakest, node);
      open_.push_back(weakest);
    }
    give(p, node);
  }
  return true;
}

// The strongest candidate not asked yet, of a zone that holds no copy if there is one. A second
// copy goes to a scarce zone last: there it would take the place of another partition's only one.
std::size_t Matching::next_choice(std::uint32_t p) const {
  const auto list = candidates_.of(p);
  std::size_t fallback = list.size();
  bool fallback_scarce = true;
  for (std::size_t i = 0; i < list.size() && list[i] != kNobody; ++i) {
    if (asked_[p] >> i & 1) continue;
    if (zones_.of_node.empty() || !zone_taken(p, zones_.of_node[list[i]])) return i;
    const bool scarce = !zones_.scarce.empty() && zones_.scarce[zones_.of_node[list[i]]];
    if (fallback != list.size() && (scarce || !fallback_scarce)) continue;
    fallback = i;
    fallback_scarce = scarce;
  }
  return fallback;
}

bool Matching::zone_taken(std::uint32_t p, MemberIndex zone) const {
  for (const auto holder : places(p)) {
    if (holder != kNobody && zones_.of_node[holder] == zone) return true;
  }
  return false;
}

// Every node that may take p is full: finds the shortest chain of partitions that each move on by
// one node and end at one with room.
void Matching::make_room(std::uint32_t p) {
  struct Step {
    bool seen = false;
    MemberIndex from = kNobody;   // The node that gives ...
    std::uint32_t partition = 0;  // ... this partition to the node that has the step.
  };
  std::vector<Step> steps(held_.size());
  std::deque<MemberIndex> queue;
  const auto reach = [&](MemberIndex from, std::uint32_t partition) {
    for (std::size_t i = 0; i < held_.size(); ++i) {
      const auto node = static_cast<MemberIndex>(i);
      if (steps[i].seen || !may_take(partition, node)) continue;
      steps[i] = {true, from, partition};
      queue.push_back(node);
    }
  };
  reach(kNobody, p);
  for (; !queue.empty(); queue.pop_front()) {
    const MemberIndex node = queue.front();
    if (held_[node].size() < bound_[node]) {
      for (MemberIndex to = node; to != kNobody; to = steps[to].from) {
        const Step& step = steps[to];
        if (step.from != kNobody) drop(step.partition, step.from);
        give(step.partition, to);
      }
      return;
    }
    for (auto at = held_[node].rbegin(); at != held_[node].rend(); ++at) reach(node, at->second);
  }
  assert(false && "the bounds leave room for every copy");
}

bool Matching::may_take(std::uint32_t p, MemberIndex node) const {
  const auto now = places(p);
  if (std::find(now.begin(), now.end(), node) != now.end()) return false;
  if (any_node_) return area_.allows(p, node);
  const auto list = candidates_.of(p);
  return std::find(list.begin(), list.end(), node) != list.end();
}

void Matching::give(std::uint32_t p, MemberIndex node) {
  *free_place(p) = node;
  held_[node].emplace(claims_.key(p, node), p);
}

void Matching::drop(std::uint32_t p, MemberIndex node) {
  for (auto& holder : places(p)) {
    if (holder == node) holder = kNobody;
  }
  held_[node].erase({claims_.key(p, node), p});
}

MemberIndex* Matching::free_place(std::uint32_t p) {
  for (auto& holder : places(p)) {
    if (holder == kNobody) return &holder;
  }
  return nullptr;
}

}  // namespace starling::overlay
