#include "node/replication/stand_ins/holding.h"

#include <algorithm>

namespace starling::node {

using overlay::Method;
using overlay::Task;
using protocol::Grade;

namespace {
constexpr Duration kHoldersDeadline = kAppendDeadline / 2;
}  // namespace

Holding::Holding(ClusterView& view, Replicator& replicator) : view_(view), replicator_(replicator) {
  replicator_.on_held = [this](const NodeId& from, const Hinted& message) { received(from, message); };
  view_.on_doubled([this] { give_up_all(); });
}

Task<Result<std::uint8_t>> Holding::hold(PartitionId partition, Dot dot, Grade grade) {
  std::uint8_t copies = 1;
  const RingNumber ring = view_.ring().number();
  const bool all = grade == Grade::kAll;
  const auto owners = all ? view_.readers(partition) : view_.candidates(partition);
  const std::size_t needed = all ? owners.size() : view_.ring().w();
  for (const auto& owner : owners) {
    if (owner == view_.self || !view_.alive(owner)) continue;
    if (copies >= needed) break;
    auto asking = ask_owner(owner, partition, dot);
    if (co_await asking) ++copies;
  }
  if (copies < needed && !all && view_.ring().number() == ring) {
    for (const auto& node : view_.stand_ins(partition)) {
      if (copies >= needed || view_.ring().number() != ring) break;
      auto holding = view_.ring().is_owner(partition, node) ? ask_owner(node, partition, dot)
                                                            : hand(node, partition, dot);
      if (co_await holding) ++copies;
    }
  }
  if (!view_.is_home(partition) || view_.ring().number() != ring) copies = 0;  // Count again.
  if (copies < needed) co_return Error{Errc::kTimeout, "too few nodes hold it yet; retry with the same key"};
  co_return copies;
}

Task<bool> Holding::ask_owner(NodeId owner, PartitionId partition, Dot dot) {
  auto asking = overlay::call(view_.loop, view_.rpc, owner, Method::kHold,
                              pack(HoldRequest{partition, dot.writer, dot.n, view_.partitions()}), kHoldersDeadline);
  const auto answer = co_await asking;
  const auto reply = answer ? unpack<HoldReply>(*answer) : Result<HoldReply>(answer.error());
  co_return reply && reply->synced >= dot.n;
}

Task<bool> Holding::hand(NodeId stand_in, PartitionId partition, Dot dot) {
  const Run run{stand_in, partition, dot.writer};
  const std::uint64_t first = std::min(replicator_.covered(partition, dot.writer) + 1, dot.n);
  if (!make_room() || handed_[run].hopeless_until > view_.loop.now()) co_return false;
  if (!send(run, {dot.n, dot.n}, first - 1)) co_return false;
  auto asking = answer(run, first, dot.n, /*asks=*/true);
  const Segment held = co_await asking;
  const bool joins = held.to >= dot.n;
  if (joins && held.from <= first) co_return true;
  if (!make_room()) co_return false;
  // Nothing that it has reaches n: it keeps n for a while, and holds it when what comes before is there.
  if (!send(run, {first, joins ? held.from - 1 : dot.n}, first - 1)) {
    handed_[run].hopeless_until = view_.loop.now() + kHopelessFor;
    co_return false;
  }
  auto filling = answer(run, first, dot.n, /*asks=*/false);
  const Segment filled = co_await filling;
  co_return filled.to >= dot.n && filled.from <= first;
}

// What nobody waits for says only what is hopeless.
bool Holding::make_room() {
  if (waits_ >= kHandedWaitsMax) return false;
  if (handed_.size() >= kHandedRunsMax) std::erase_if(handed_, [](const auto& run) { return run.second.waits.empty(); });
  return handed_.size() < kHandedRunsMax;
}

bool Holding::send(const Run& run, Segment numbers, std::uint64_t covered) {
  const auto& [stand_in, partition, writer] = run;
  std::vector<storage::RangeStatement> pieces;
  std::size_t bytes = 0;
  for (std::uint64_t next = numbers.from; next <= numbers.to;) {
    auto range = view_.store.read_writer(partition, writer, next, kReplicateBytesMax / 4,
                                         storage::Store::Expired::kShown);
    if (!range) return false;
    std::erase_if(range->live, [&](const auto& item) { return item.n > numbers.to; });
    range->to = std::min(range->to, numbers.to);
    const std::uint64_t count = range->to + 1 - next;
    const bool gaps = range->live.size() != count;
    if (gaps && (!view_.says_gaps() || !range->lost.empty() || count > kGapsHandedMax)) return false;
    for (const auto& item : range->live) bytes += item.change.data.size();
    if (range->to < next || bytes > kHandedBytesMax) return false;
    next = range->to + 1;
    pieces.push_back(std::move(*range));
  }
  for (const auto& range : pieces) {
    Replicate::Run changes;
    changes.partition = partition;
    changes.first = range.from;
    changes.covered = covered;
    changes.changes.resize(range.to + 1 - range.from);  // Without bytes: nothing of that number is here.
    for (const auto& item : range.live) changes.changes[item.n - range.from] = {item.change.data};
    view_.rpc.notify(stand_in, Method::kHint, pack(Replicate{view_.ring().number(), writer, {std::move(changes)},
                                                             view_.partitions()}));
  }
  return true;
}

// The segment that `n` is in; empty when nothing comes in time.
Task<Holding::Segment> Holding::answer(Run run, std::uint64_t from, std::uint64_t n, bool asks) {
  auto [done, told] = overlay::Completer<Segment>::make(view_.loop);
  Wait wait{from, asks, std::move(done), view_.loop.after(kHoldersDeadline, [this, run, n] { give_up(run, n); })};
  handed_[run].waits.emplace(n, std::move(wait));
  ++waits_;
  co_return co_await told;
}

void Holding::received(const NodeId& from, const Hinted& message) {
  for (const auto& item : message.items) {
    const auto handed = handed_.find({from, item.partition, message.writer});
    if (handed == handed_.end() || item.from == 0 || item.from > item.to) continue;
    auto& waits = handed->second.waits;
    const auto end = waits.upper_bound(item.to);
    for (auto wait = waits.lower_bound(item.from); wait != end;) {
      if (item.from > wait->second.from && !wait->second.asks) {
        ++wait;
        continue;
      }
      wait->second.done.set({item.from, item.to});
      wait = waits.erase(wait);
      --waits_;
    }
  }
}

// Runs are other ones by now. hold() counts again under the new ring version, so nothing of them counts.
void Holding::give_up_all() {
  for (auto& [run, handed] : std::exchange(handed_, {})) {
    for (auto& [n, wait] : handed.waits) wait.done.set({});
  }
  waits_ = 0;
}

// Something was lost on the way. Each number has its own patience.
void Holding::give_up(const Run& run, std::uint64_t n) {
  const auto handed = handed_.find(run);
  if (handed == handed_.end()) return;
  auto& waits = handed->second.waits;
  const auto [first, end] = waits.equal_range(n);
  for (auto wait = first; wait != end; --waits_) {
    wait->second.done.set({});
    wait = waits.erase(wait);
  }
}

}  // namespace starling::node
