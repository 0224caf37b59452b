#include "node/repair/mender.h"

#include <algorithm>

namespace starling::node {

using overlay::Task;

namespace {

constexpr Duration kDamageEvery = 500ms;   // For news of damage.
constexpr Duration kMendEvery = 10s;    // What could not be mended.
constexpr std::size_t kAskedMax = 64;    // Of a partition that is fetched anew, in a pass.
constexpr Duration kMendTurn = 10ms;         // Between two parts of long work in the store: as long as one may take,
constexpr int kTurnsMax = 10'000;        // of so many at most.

}  // namespace

Mender::Mender(ClusterView& view, CatchUp& catch_up, Coordinator& coordinator)
    : view_(view), catch_up_(catch_up), coordinator_(coordinator), scope_(view.loop) {
  view_.on_doubled([this] {
    hopeless_.clear();
    due_ = true;
  });
  scope_.spawn(run());
}

Task<Done> Mender::run() {
  overlay::Timer timer;
  Duration waited{};
  for (;;) {
    co_await overlay::sleep(view_.loop, kDamageEvery, timer);
    waited += kDamageEvery;
    if (!view_.in_ring() || (!due_ && waited < kMendEvery)) continue;
    waited = {};
    due_ = false;
    auto mending = mend_all();
    co_await mending;
  }
}

Task<Done> Mender::mend_all() {
  if (std::exchange(busy_, true)) co_return Done{};
  auto trying = try_all();
  co_await trying;
  busy_ = false;
  co_return Done{};
}

Task<Done> Mender::try_all() {
  const std::uint32_t count = view_.partitions();
  for (const auto partition : view_.store.damaged_partitions()) {
    if (!view_.same_count(count)) break;
    auto mending = mend_partition(partition);
    co_await mending;
  }
  // What was mended, dropped or lost is no case any more.
  std::erase_if(hopeless_, [this](const Change& change) {
    const auto damaged = view_.store.damaged(change.first);
    return std::find(damaged.begin(), damaged.end(), change.second) == damaged.end();
  });
  co_return Done{};
}

// One writer after the other, each from its first damaged change to its last.
Task<Done> Mender::mend_partition(PartitionId partition) {
  const std::uint32_t count = view_.partitions();
  const auto damaged = view_.store.damaged(partition);
  std::size_t asked = 0;
  for (std::size_t at = 0; at < damaged.size();) {
    std::size_t end = at + 1;
    while (end < damaged.size() && damaged[end].writer == damaged[at].writer) ++end;
    std::uint64_t from = damaged[at].n;
    const std::uint64_t to = damaged[end - 1].n;
    while (from <= to) {
      // What is fetched anew with everything else is only asked for: whether anybody has it.
      const bool stays = !view_.awaits_refill(partition);
      if (!stays && ++asked > kAskedMax) co_return Done{};
      auto mending = mend_run(partition, damaged[at].writer, from, stays ? to : from);
      const Answer answer = co_await mending;
      if (!view_.same_count(count)) co_return Done{};  // Looked for anew, in the children.
      if (answer == Answer::kMended && stays) break;
      const Change change{partition, {damaged[at].writer, from}};
      if (answer == Answer::kNobodyHasIt) {
        hopeless_.insert(change);
      } else {
        hopeless_.erase(change);
      }
      // The next damaged one may fare better.
      const auto next = std::find_if(damaged.begin() + static_cast<std::ptrdiff_t>(at),
                                     damaged.begin() + static_cast<std::ptrdiff_t>(end),
                                     [from](const Dot& dot) { return dot.n > from; });
      if (next == damaged.begin() + static_cast<std::ptrdiff_t>(end)) break;
      from = next->n;
    }
    at = end;
  }
  co_return Done{};
}

// kMended: all of from..to. Otherwise the verdict is about `from`, or about what is left behind it.
Task<Mender::Answer> Mender::mend_run(PartitionId partition, WriterId writer, std::uint64_t from,
                                      std::uint64_t to) {
  const std::uint32_t count = view_.partitions();
  bool silent = false, lost = false;
  const auto owners = view_.ring().owners(partition).to_vector();
  std::vector<NodeId> nodes = owners;
  for (const auto& member : view_.ring().members()) {
    const bool owner = std::find(owners.begin(), owners.end(), member.id) != owners.end();
    if (!owner && !member.gone()) nodes.push_back(member.id);
  }
  std::uint64_t at = from;
  for (const auto& node : nodes) {
    if (node == view_.self) continue;
    // Whoever is away may have the only copy.
    if (!view_.alive(node)) silent = true;
    while (at <= to && view_.alive(node)) {
      auto asking = catch_up_.ask_run(node, partition, {writer, at}, to);
      auto range = co_await asking;
      if (!view_.same_count(count)) co_return Answer::kOpen;
      if (range && !range->lost.empty()) {
        // Written off there; another node may have it all the same.
        lost = lost || range->lost.front() == at;
        if (range->lost.front() == at) break;
        range->to = range->lost.front() - 1;
        range->lost.clear();
        std::erase_if(range->live, [&](const auto& item) { return item.n > range->to; });
      }
      if (!range) {
        silent = silent || (range.code() != Errc::kCorrupt && range.code() != Errc::kNotFound);
        break;
      }
      auto mending = mend(partition, *range);
      if (const auto mended = co_await mending; !mended) {
        view_.log.warn("a change from another owner does not mend ours",
                       {{"peer", node}, {"cause", mended.error()}});
        silent = true;
        break;
      }
      at = range->to + 1;
    }
    if (at > to) break;
  }
  co_await view_.durable();
  if (!view_.same_count(count)) co_return Answer::kOpen;
  if (at > to) {
    if (view_.awaits_refill(partition)) co_return Answer::kMended;
    view_.log.info("damage is mended", {{"partition", partition.value}, {"first", to_text({writer, from})}});
    co_return Answer::kMended;
  }
  if (at > from || silent) co_return Answer::kOpen;
  if (lost) {
    auto writing_off = write_off(partition, {writer, from});
    if (co_await writing_off) {
      co_await view_.durable();
      co_return Answer::kOpen;
    }
  }
  co_return Answer::kNobodyHasIt;
}

Task<Status> Mender::mend(PartitionId partition, const storage::RangeStatement& range) {
  const std::uint32_t count = view_.partitions();
  overlay::Timer timer;
  for (int turn = 0;; ++turn) {
    CO_TRY(view_.same_count(count));
    if (view_.awaits_refill(partition)) co_return ok_status();  // It comes with everything else.
    auto mended = view_.store.mend(partition, range);
    if (mended || mended.code() != Errc::kOverloaded || turn == kTurnsMax) co_return mended;
    co_await overlay::sleep(view_.loop, kMendTurn, timer);
  }
}

// Lost, and made anew in one batch. The store says once that it has found all copies before it writes anything off.
Task<Status> Mender::write_off(PartitionId partition, Dot dot) {
  const std::uint32_t count = view_.partitions();
  overlay::Timer timer;
  for (int turn = 0;; ++turn) {
    CO_TRY(view_.same_count(count));
    // An owner that fetches everything anew has no rows to set right.
    const bool stays = view_.is_owner(partition) && !view_.awaits_refill(partition);
    const auto copy = stays ? next_best(partition, dot) : std::nullopt;
    if (copy) CO_TRY(coordinator_.may_make_anew(partition));
    auto marked = view_.store.mark_lost(partition, dot);
    if (marked && copy) coordinator_.make_anew(copy->change);
    if (marked || marked.code() != Errc::kOverloaded || turn == kTurnsMax) co_return marked;
    co_await overlay::sleep(view_.loop, kMendTurn, timer);
  }
}

std::optional<Mender::Copy> Mender::next_best(PartitionId partition, const Dot& lost) const {
  std::optional<Copy> best;
  for (const auto& pair : view_.store.superseded(partition, lost)) {
    const auto stored = view_.store.read_change(partition, pair.dot);
    const auto change = stored ? storage::decode(*stored->bytes, pair.dot)
                               : Result<storage::ChangeView>(stored.error());
    if (!change || change->kind == storage::ChangeKind::kRegister) continue;  // The value stays.
    if (!best || change->entry.id < best->change.entry.id) best = {stored->bytes, *change};
  }
  if (!best) return std::nullopt;
  auto& change = best->change;
  auto& entry = change.entry;
  const auto stands = view_.store.find_key(change.mailbox, entry.key);
  if (!stands || stands->dot != lost) return std::nullopt;
  const bool reopens = stands->is_void && change.kind != storage::ChangeKind::kVoid;
  if (entry.id == stands->id && !reopens) return std::nullopt;
  if (reopens) {
    // What was closed stays closed, for longer than any copy of it lives. A recall stands where its message stood.
    change.kind = storage::ChangeKind::kVoid;
    if (entry.id == stands->id) entry.flags |= storage::kEntryIsRecall;
    entry.body = {};
    entry.expires_ms += entry.expires_ms - std::min(entry.expires_ms, hlc_ms(entry.id.time));
  }
  entry.id = stands->id;
  return best;
}

Task<Result<std::size_t>> Mender::give_up() {
  overlay::Timer timer;
  while (busy_) co_await overlay::sleep(view_.loop, kDamageEvery, timer);
  busy_ = true;  // To the end: what is mended meanwhile would be written off.
  hopeless_.clear();  // Only what this pass says counts.
  const std::uint32_t partitions = view_.partitions();
  auto trying = try_all();
  co_await trying;
  const auto hopeless = hopeless_;
  std::size_t count = 0;
  std::optional<Error> refused;
  for (const auto& [partition, dot] : hopeless) {
    if (const auto same = view_.same_count(partitions); !same) {
      refused = same.error();
      break;
    }
    auto writing_off = write_off(partition, dot);
    const auto written_off = co_await writing_off;
    if (!written_off && written_off.code() != Errc::kInvalid) {
      view_.log.warn("a change cannot be written off now", {{"partition", partition.value}, {"dot", to_text(dot)},
                                                            {"cause", written_off.error()}});
      if (!refused) refused = written_off.error();
      continue;
    }
    hopeless_.erase({partition, dot});
    if (!written_off) continue;  // It is here after all.
    view_.log.error("a change is written off as lost", {{"partition", partition.value}, {"dot", to_text(dot)}});
    ++count;
  }
  co_await view_.durable();
  busy_ = false;
  if (count == 0 && refused) co_return *refused;
  co_return count;
}

}  // namespace starling::node
