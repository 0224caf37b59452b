#include "node/replication/holding.h"

#include <algorithm>

namespace starling::node {

using overlay::Method;
using overlay::Task;
using protocol::Grade;

namespace {
constexpr Duration kAskDeadline = kAppendDeadline / 2;
}

Holding::Holding(ClusterView& view, Replicator& replicator) : view_(view), replicator_(replicator) {
  replicator_.on_held = [this](const NodeId& from, const Hinted& message) { received(from, message); };
  view_.on_ring([this] { handed_.clear(); });
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
                              pack(HoldRequest{partition, dot.writer, dot.n}), kAskDeadline);
  const auto answer = co_await asking;
  const auto reply = answer ? unpack<HoldReply>(*answer) : Result<HoldReply>(answer.error());
  co_return reply && reply->synced >= dot.n;
}

Task<bool> Holding::hand(NodeId stand_in, PartitionId partition, Dot dot) {
  const Run run{stand_in, partition, dot.writer};
  if (handed_.size() >= kHandedRunsMax) handed_.clear();
  const std::uint64_t first = std::min(replicator_.covered(partition, dot.writer) + 1, dot.n);
  auto& handed = handed_[run];
  // What it was sent before may begin too late, or never have come.
  if (handed.from == 0 || handed.from > first) handed = {first, first - 1, first - 1};
  if (handed.held >= dot.n) co_return true;
  if (handed.sent < dot.n && !send(run, handed, dot.n)) {
    handed_.erase(run);
    co_return false;
  }
  auto [done, held] = overlay::Completer<bool>::make(view_.loop);
  auto& wait = waits_.emplace_back(Wait{run, dot.n, std::move(done), {}});
  wait.patience = view_.loop.after(kAskDeadline, [this, run, n = dot.n] { finish(run, n, /*given_up=*/true); });
  co_return co_await held;
}

// Of our log, from what it was sent last. False: that is too much, or there are gaps.
bool Holding::send(const Run& run, Handed& handed, std::uint64_t to) {
  const auto& [stand_in, partition, writer] = run;
  std::vector<storage::RangeStatement> pieces;
  std::size_t bytes = 0;
  for (std::uint64_t next = handed.sent + 1; next <= to;) {
    auto range = view_.store.read_writer(partition, writer, next, kReplicateBytesMax / 4);
    if (!range) return false;
    for (const auto& item : range->live) {
      if (item.n != next++) return false;
      bytes += item.change.data.size();
    }
    if (next != range->to + 1 || range->live.empty() || bytes > kHandedBytesMax) return false;
    pieces.push_back(std::move(*range));
  }
  for (const auto& range : pieces) {
    Replicate::Run changes;
    changes.partition = partition;
    changes.first = range.from;
    for (const auto& item : range.live) changes.changes.push_back({item.change.data});
    view_.rpc.notify(stand_in, Method::kHint, pack(Replicate{view_.ring().number(), writer, {std::move(changes)}}));
    handed.sent = range.to;
  }
  return true;
}

void Holding::received(const NodeId& from, const Hinted& message) {
  for (const auto& item : message.items) {
    const Run run{from, item.partition, message.writer};
    const auto handed = handed_.find(run);
    if (handed == handed_.end() || item.from == 0 || item.from > item.to) continue;
    // It let go of what came before, since the owners had it: the next one begins anew.
    if (item.from > handed->second.from) {
      handed_.erase(handed);
      continue;
    }
    handed->second.held = std::max(handed->second.held, std::min(item.to, handed->second.sent));
    finish(run, handed->second.held, /*given_up=*/false);
  }
}

// Of those that wait for numbers up to there.
void Holding::finish(Run run, std::uint64_t held, bool given_up) {
  if (given_up) handed_.erase(run);  // Something was lost on the way.
  for (auto wait = waits_.begin(); wait != waits_.end();) {
    const auto at = wait++;
    if (at->run != run || at->n > held) continue;
    at->done.set(!given_up);
    waits_.erase(at);
  }
}

}  // namespace starling::node
