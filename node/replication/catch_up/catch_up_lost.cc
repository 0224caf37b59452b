// What was written off as lost, and is still somewhere after all (decision 0027).
#include <algorithm>

#include "node/replication/catch_up/catch_up.h"

namespace starling::node {

using overlay::Task;

namespace {

constexpr std::size_t kRegainedAtOnceMax = 256;  // Of a partition, in one comparison.

// What the store took in lies under our own time.
void observe(ClusterView& view, const storage::RangeStatement& range) {
  for (const auto& item : range.live) {
    const auto change = storage::decode(item.change.data, Dot{range.writer, item.n});
    if (!change) continue;
    const bool is_register = change->kind == storage::ChangeKind::kRegister;
    view.observe_repair(is_register ? change->reg.stamp.time : change->entry.id.time);
  }
}

}  // namespace

// Content beats its loss: whoever has it, or knows that it is gone in order, is believed.
Task<Done> CatchUp::regain_some(NodeId peer, CompareReply::Item theirs) {
  std::vector<Dot> dots;
  for (const auto& dot : view_.store.lost(theirs.partition)) {
    const bool lost_there = std::find(theirs.lost.begin(), theirs.lost.end(), dot) != theirs.lost.end();
    if (theirs.vector.covers(dot) && !lost_there && dots.size() < kRegainedAtOnceMax) dots.push_back(dot);
  }
  if (dots.empty()) co_return Done{};
  auto regaining = regain(peer, theirs.partition, std::move(dots));
  if (const auto regained = co_await regaining; !regained) {
    view_.log.warn("what was written off was not got back", {{"peer", peer}, {"cause", regained.error()}});
  }
  co_return Done{};
}

Task<Status> CatchUp::regain(NodeId peer, PartitionId partition, std::vector<Dot> dots) {
  const std::uint32_t count = view_.partitions();
  for (const auto& dot : dots) {
    auto asking = ask_run(peer, partition, dot, dot.n);
    const auto range = co_await asking;
    // Damaged there, lost there too, or not there.
    const bool has_none = !range && (range.code() == Errc::kCorrupt || range.code() == Errc::kNotFound);
    if (has_none || (range && !range->lost.empty())) continue;
    if (!range) co_return range.error();
    if (range->live.empty()) {
      auto merging = merge_lanes(peer, partition);
      CO_TRY(co_await merging);
    }
    CO_TRY(view_.same_count(count));
    if (!is_ours(partition)) co_return Error{Errc::kNotOwner, "the partition is another's by now"};
    CO_TRY(view_.store.mend(partition, *range));
    observe(view_, *range);
    for (const auto& item : range->live) {
      if (on_regained) on_regained({range->writer, item.n}, item.change.data);
    }
    view_.log.info("a change written off as lost is back",
                   {{"peer", peer}, {"partition", partition.value}, {"dot", to_text(dot)}});
  }
  co_return ok_status();
}

}  // namespace starling::node
