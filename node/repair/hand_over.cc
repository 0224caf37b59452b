#include "node/repair/hand_over.h"

#include <algorithm>

namespace starling::node {

using overlay::Method;
using overlay::Task;

namespace {

constexpr Duration kHandOverEvery = 1s;
constexpr Duration kHomeCompareDeadline = 5s;
constexpr Duration kHoldDeadline = 30s;        // An owner may have much to fetch.
constexpr Duration kRefillRetry = 30s;
constexpr std::size_t kPartitionsAtOnce = 256;  // Closed, compared and dropped together.

}  // namespace

HandOver::HandOver(ClusterView& view, const Obligations& obligations)
    : view_(view), obligations_(obligations), scope_(view.loop) {
  scope_.spawn(run());
}

std::vector<PartitionId> HandOver::leaving() const {
  std::vector<PartitionId> leaving;
  if (!view_.in_ring()) return leaving;
  for (const auto partition : view_.store.touched()) {
    const bool ours = view_.is_owner(partition) || view_.ring().is_owner_to_be(partition, view_.self);
    if (!ours) leaving.push_back(partition);
  }
  return leaving;
}

Task<Done> HandOver::run() {
  overlay::Timer timer;
  for (;;) {
    co_await overlay::sleep(view_.loop, kHandOverEvery, timer);
    if (view_.in_ring() && !view_.store.to_refill().empty() && view_.loop.now() >= next_refill_) {
      auto refilling = permit_refill();
      co_await refilling;
    }
    auto partitions = leaving();
    if (partitions.empty()) blocked_by_.reset();
    // What they imply elsewhere is in our log alone to find (obligations.h).
    // A holder carries nothing out any more: whoever coordinates takes it up from the log.
    std::erase_if(partitions, [this](PartitionId p) {
      return (!view_.is_holder() && obligations_.open(p)) || !view_.store.is_whole(p);
    });
    if (partitions.empty()) continue;
    // From behind the last one tried: what is blocked must not hold up the others.
    const auto next = std::upper_bound(partitions.begin(), partitions.end(), last_tried_);
    std::rotate(partitions.begin(), next, partitions.end());
    partitions.resize(std::min(partitions.size(), kPartitionsAtOnce));
    last_tried_ = partitions.back();
    std::sort(partitions.begin(), partitions.end());
    auto giving = give_up(std::move(partitions));
    co_await giving;
  }
}

Task<Done> HandOver::give_up(std::vector<PartitionId> partitions) {
  const RingNumber closed_at = view_.ring().number();
  co_await view_.durable();  // The ring version that closed them, and all that was accepted before.
  std::map<PartitionId, storage::VersionVector> final;
  for (const auto partition : partitions) final[partition] = view_.store.vector(partition);
  auto comparing = covered_by_all(std::move(partitions));
  const Covered covered = co_await comparing;
  if (view_.ring().number() != closed_at) co_return Done{};  // Others may own them now.
  std::size_t count = 0;
  for (const auto partition : covered) {
    if (view_.store.vector(partition) == final[partition] && view_.store.drop(partition)) ++count;
  }
  if (count > 0) view_.log.info("partitions handed over and dropped", {{"count", count}});
  dropped_ += count;
  co_return Done{};
}

// The next open empties what lies in a file that cannot be read, perhaps everything: only when all the other
// owners have all of it, and nothing more is stored here until then.
Task<Done> HandOver::permit_refill() {
  next_refill_ = view_.loop.now() + kRefillRetry;
  const auto& members = view_.ring().members();
  const bool all_there = std::all_of(members.begin(), members.end(), [this](const auto& member) {
    return member.gone() || view_.alive(member.id);
  });
  // The only copy is not thrown away. What is held for others goes with the file, so it goes home before.
  if (!all_there || view_.ring().copies() < 2 || view_.read_only || holds()) co_return Done{};
  view_.giving_up = view_.read_only = true;
  co_await view_.durable();
  const std::uint32_t count = view_.partitions();
  const auto held = view_.store.touched();
  auto comparing = covered_by_all(held);
  Covered covered = co_await comparing;
  if (!view_.same_count(count)) covered.clear();
  if (covered.size() == held.size() && view_.store.permit_refill()) {
    view_.store.fail({Errc::kCatchingUp, "a file of the store cannot be read; started again, the node fetches "
                                      "what was in it from the other owners, who have all of it"});
    co_return Done{};
  }
  view_.log.warn("a file of the store cannot be read, and not all of what is here is elsewhere",
                 {{"partitions", held.size()}, {"elsewhere", covered.size()}});
  if (view_.giving_up) view_.giving_up = view_.read_only = false;  // Unless the node stops meanwhile.
  if (on_missed) on_missed();
  co_return Done{};
}

// Those of which every owner but ourselves covers our vector.
Task<HandOver::Covered> HandOver::covered_by_all(std::vector<PartitionId> partitions) {
  const std::uint32_t count = view_.partitions();
  std::map<NodeId, std::vector<PartitionId>> asked;
  std::map<PartitionId, std::size_t> needed, covers;
  for (const auto partition : partitions) {
    for (const auto& owner : view_.ring().owners(partition)) {
      if (owner == view_.self) continue;
      asked[owner].push_back(partition);
      ++needed[partition];
    }
  }
  std::optional<NodeId> blocked_by;
  for (const auto& [owner, theirs] : asked) {
    auto comparing = covered_by(owner, theirs);
    const auto covered = co_await comparing;
    if (!view_.same_count(count)) co_return Covered{};
    if (!covered) blocked_by = owner;
    if (!covered) continue;
    for (const auto partition : *covered) ++covers[partition];
  }
  blocked_by_ = blocked_by;
  Covered all;
  for (const auto partition : partitions) {
    if (needed[partition] > 0 && covers[partition] == needed[partition]) all.insert(partition);
  }
  co_return all;
}

Task<std::optional<HandOver::Covered>> HandOver::covered_by(NodeId owner,
                                                            std::vector<PartitionId> partitions) {
  Covered covered;
  std::vector<CompareReply::Item> to_bring;
  while (!partitions.empty()) {
    CompareRequest request;
    request.ring = view_.ring().number();
    request.all = true;
    request.partitions = view_.partitions();
    for (const auto partition : partitions) request.items.push_back({partition, 0});
    auto asking = overlay::call(view_.loop, view_.rpc, owner, Method::kCompare, pack(request),
                                kHomeCompareDeadline);
    const auto body = co_await asking;
    if (!body) co_return std::nullopt;
    auto answer = unpack<CompareReply>(*body);
    if (!answer) co_return std::nullopt;
    view_.heard_of_ring(owner, answer->ring);
    const bool same = view_.same_count(request.partitions) && view_.same_count(answer->partitions);
    if (!same || answer->ring != request.ring || view_.ring().number() != request.ring) co_return std::nullopt;
    for (auto& item : answer->items) {
      if (!std::binary_search(partitions.begin(), partitions.end(), item.partition)) continue;
      if (item.whole && lacking(item).empty()) {
        covered.insert(item.partition);
      } else {
        to_bring.push_back(std::move(item));
      }
    }
    if (!answer->more || answer->items.empty()) break;
    const PartitionId cut = answer->items.back().partition;
    if (std::erase_if(partitions, [cut](PartitionId p) { return p <= cut; }) == 0) break;  // Asked for ever.
  }
  // Told now, compared again in the next turn.
  const std::uint32_t count = view_.partitions();
  for (const auto& item : to_bring) {
    if (!view_.same_count(count)) co_return std::nullopt;
    auto bringing = bring_home(owner, item);
    co_await bringing;
  }
  co_return covered;
}

std::vector<Dot> HandOver::lacking(const CompareReply::Item& theirs) const {
  const auto ours = view_.store.vector(theirs.partition);
  const auto lost = view_.store.lost(theirs.partition);
  std::vector<Dot> out;
  for (const auto& dot : ours.dots()) {
    const bool wrote_off = std::any_of(theirs.lost.begin(), theirs.lost.end(), [&](const Dot& there) {
      return there.writer == dot.writer && there.n <= dot.n &&
             !std::binary_search(lost.begin(), lost.end(), there);
    });
    if (wrote_off || !theirs.vector.covers(dot)) out.push_back(dot);
  }
  return out;
}

// The owner fetches from us what it lacks, one writer after the other.
Task<Done> HandOver::bring_home(NodeId owner, const CompareReply::Item& theirs) {
  const std::uint32_t count = view_.partitions();
  for (const auto& dot : lacking(theirs)) {
    auto asking = overlay::call(view_.loop, view_.rpc, owner, Method::kHold,
                                pack(HoldRequest{theirs.partition, dot.writer, dot.n, count}), kHoldDeadline);
    if (const auto answer = co_await asking; !answer) co_return Done{};
  }
  co_return Done{};
}

}  // namespace starling::node
