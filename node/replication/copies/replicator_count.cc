// How far a change is replicated: what counts, and who waited for it.
#include <algorithm>
#include <array>

#include "node/replication/copies/replicator.h"

namespace starling::node {

// The largest n of which 1..n is on W nodes (hazards F38): up to `base` on home owners alone, behind it on the
// home owners that reach n and on the stand-ins whose segment begins no later than at base + 1.
std::uint64_t Replicator::covered_with_stand_ins(PartitionId partition,
                                                 const Progress& progress) const {
  const std::size_t copies = view_.ring().w();
  const auto home = view_.ring().home(partition);
  const std::uint64_t base = covered_by(home, progress, copies);
  const bool away_owners = view_.ring().copies() > home.size();
  if (progress.hinted.empty() && !away_owners) return base;
  const auto end_of = [&progress](const NodeId& owner) {
    const auto it = progress.acked.find(owner);
    return it == progress.acked.end() ? 0 : it->second;
  };
  std::vector<std::uint64_t> ends;
  for (const auto& owner : home) ends.push_back(end_of(owner));
  const std::uint64_t at_an_owner = *std::max_element(ends.begin(), ends.end());
  // Away owners only while somebody stands in: else what is counted would hang on the other site. Then each that has it
  // counts, asked or not: one that lagged may be the only one with all since an owner died.
  if (away_owners && at_an_owner > base && view_.reachable_home(partition) < copies) {
    for (const auto& node : view_.ring().owners(partition)) {
      if (!view_.ring().is_home(partition, node)) ends.push_back(end_of(node));
    }
  }
  for (const auto& [node, segment] : progress.hinted) {
    const auto* member = view_.ring().member(node);
    if (member == nullptr || member->gone() || view_.ring().is_owner(partition, node)) continue;
    if (segment.from <= base + 1) ends.push_back(segment.to);
  }
  std::sort(ends.begin(), ends.end(), std::greater<>());
  return ends.size() < copies ? base : std::max(base, std::min(ends[copies - 1], at_an_owner));
}

// The largest n that at least `copies` of these owners have synced.
std::uint64_t Replicator::covered_by(const overlay::NodeList& owners, const Progress& progress,
                                     std::size_t copies) {
  std::array<std::uint64_t, overlay::kCopiesMax> synced{};
  std::size_t count = 0;
  for (const auto& owner : owners) {
    auto it = progress.acked.find(owner);
    synced[count++] = it == progress.acked.end() ? 0 : it->second;
  }
  if (copies == 0 || count < copies) return 0;
  std::sort(synced.begin(), synced.begin() + count, std::greater<>());
  return synced[copies - 1];
}

std::uint8_t Replicator::copies_of(PartitionId partition, const Progress& progress,
                                   std::uint64_t n) const {
  std::uint8_t copies = 0;
  for (const auto& owner : view_.ring().owners(partition)) {
    auto it = progress.acked.find(owner);
    if (it != progress.acked.end() && it->second >= n) ++copies;
  }
  for (const auto& [node, segment] : progress.hinted) {
    if (view_.ring().is_owner(partition, node)) continue;
    if (segment.from <= n && n <= segment.to) ++copies;
  }
  return copies;
}

void Replicator::complete(PartitionId partition, Progress& progress) {
  if (progress.quorum.empty() && progress.all.empty()) return;
  std::vector<std::pair<Done, std::uint8_t>> ready;
  auto drain = [&](Waiters& waiters, std::uint64_t covered) {
    while (!waiters.empty() && waiters.front().n <= covered) {
      ready.emplace_back(std::move(waiters.front().done),
                         copies_of(partition, progress, waiters.front().n));
      waiters.pop_front();
      --waiters_;
    }
    waiters.shrink_to_fit();
  };
  drain(progress.quorum, covered_with_stand_ins(partition, progress));
  const auto owners = view_.ring().owners(partition);
  drain(progress.all, covered_by(owners, progress, owners.size()));
  if (progress.quorum.empty() && progress.all.empty()) waiting_.erase(partition);
  for (auto& [done, copies] : ready) done(copies);
}

}  // namespace starling::node
