// Runs of writers, fetched from one peer: those that a comparison found missing, gaps of live traffic, and lanes.
#include <algorithm>
#include <tuple>

#include "node/replication/catch_up/catch_up.h"

namespace starling::node {

using overlay::Method;
using overlay::Task;

namespace {

constexpr std::size_t kFetchesAtOnce = 16;  // Runs of one comparison.
constexpr int kGapTries = 3;                // That bring nothing.
constexpr Duration kGapRest = 20ms;

// Lanes come in this order.
auto place_of(const storage::LaneRow& row) { return std::tie(row.mailbox, row.device, row.lane); }

}  // namespace

// Several runs at once, because a round trip for each in turn would cost more than what it brings.
Task<Status> CatchUp::fetch_all(std::shared_ptr<Fetches> fetches) {
  const std::size_t count = fetches->runs.size();
  if (count == 0) co_return ok_status();
  note_missing(*fetches);
  auto [finished, future] = overlay::Completer<bool>::make(view_.loop);
  fetches->finished = finished;
  fetches->running = std::min(count, kFetchesAtOnce);
  for (std::size_t i = fetches->running; i > 0; --i) scope_.spawn(fetch_next(fetches));
  co_await future;
  forget_missing(*fetches);
  if (fetches->error) co_return *fetches->error;
  co_return ok_status();
}

Task<Done> CatchUp::fetch_next(std::shared_ptr<Fetches> fetches) {
  while (fetches->next < fetches->runs.size() && !fetches->error) {
    const auto [partition, dot] = fetches->runs[fetches->next++];
    auto fetching = fetch_until(fetches->peer, partition, dot.writer, dot.n, true);
    const auto fetched = co_await fetching;
    if (fetched) continue;
    fetches->failed.push_back({partition, dot});
    if (fetched.code() != Errc::kOverloaded) {
      view_.log.warn("a run could not be fetched", {{"peer", fetches->peer}, {"cause", fetched.error()}});
    }
    // One damaged or refused run must not keep the others from coming home.
    const Errc code = fetched.code();
    if (code != Errc::kCorrupt && code != Errc::kUnsupported && code != Errc::kOverloaded &&
        code != Errc::kNotOwner && !fetches->error) {
      fetches->error = fetched.error();
    }
  }
  if (--fetches->running == 0) fetches->finished.set(true);
  co_return Done{};
}

// Of several peers that say different things of a run, the highest number counts until it is refuted.
void CatchUp::note_missing(Fetches& fetches) {
  fetches.partitions = view_.partitions();
  for (const auto& [partition, dot] : fetches.runs) {
    auto& lack = lacks_[{partition, dot.writer}];
    lack.n = std::max(lack.n, dot.n);
    ++lack.rounds;
  }
}

void CatchUp::forget_missing(const Fetches& fetches) {
  if (!view_.same_count(fetches.partitions)) return;  // All were forgotten then.
  for (const auto& [partition, dot] : fetches.runs) {
    const auto lack = lacks_.find({partition, dot.writer});
    if (--lack->second.rounds == 0) lacks_.erase(lack);
  }
}

std::uint64_t CatchUp::missing() const {
  std::uint64_t changes = 0;
  for (const auto& [run, lack] : lacks_) {
    changes += lack.n - std::min(lack.n, view_.store.held(run.first, run.second));
  }
  return changes;
}

bool CatchUp::is_missing_known() const {
  if (!view_.catching_up) return true;
  const auto there = peers();
  const bool all = std::all_of(there.begin(), there.end(), [this](const NodeId& peer) { return compared_.contains(peer); });
  return view_.in_ring() && all && why_not_enough(compared_, /*patient=*/false).empty();
}

void CatchUp::fetch_gap(const NodeId& peer, PartitionId partition, WriterId writer, std::uint64_t n) {
  const std::pair run{partition, writer};
  if (const auto gap = gaps_.find(run); gap != gaps_.end()) {
    gap->second = std::max(gap->second, n);
    return;
  }
  if (gaps_.size() >= kFetchesInFlightMax) return;  // Anti-entropy or a retransmit comes back to it.
  gaps_.emplace(run, n);
  scope_.spawn(gap(peer, partition, writer));
}

// What comes early meanwhile was passed over as a gap, too, and mostly nothing follows it soon that would show that. It
// may have left its coordinator before that had synced it, and be given a moment later.
Task<Done> CatchUp::gap(NodeId peer, PartitionId partition, WriterId writer) {
  const std::uint32_t count = view_.partitions();
  const std::pair run{partition, writer};
  overlay::Timer timer;
  for (int tries = 0; tries < kGapTries && view_.same_count(count);) {
    const std::uint64_t held = view_.store.held(partition, writer);
    auto fetching = fetch_until(peer, partition, writer, gaps_[run], /*in_bulk=*/view_.catching_up);
    const auto fetched = co_await fetching;
    if (!view_.same_count(count)) co_return Done{};  // The gap is another one's, if there is one.
    if (fetched && view_.store.held(partition, writer) >= gaps_[run]) break;
    if (!fetched && fetched.code() != Errc::kNotFound) break;
    tries = view_.store.held(partition, writer) > held ? 0 : tries + 1;
    if (!fetched) co_await overlay::sleep(view_.loop, kGapRest, timer);
  }
  if (view_.same_count(count)) gaps_.erase(run);
  co_return Done{};
}

Status CatchUp::may_store(PartitionId partition, std::uint32_t count) const {
  TRY(view_.same_count(count));
  if (!is_ours(partition)) return Error{Errc::kNotOwner, "the partition is another's by now"};
  if (view_.read_only) return Error{Errc::kFull, "no disk space here: nothing is stored"};
  return ok_status();
}

Task<Status> CatchUp::fetch_until(NodeId peer, PartitionId partition, WriterId writer,
                                  std::uint64_t n, bool in_bulk) {
  const std::uint32_t count = view_.partitions();
  while (view_.store.held(partition, writer) < n) {
    CO_TRY(may_store(partition, count));
    if (filing_.contains(partition)) co_return Error{Errc::kOverloaded, "it comes by files, and they are not written yet"};
    const bool returns = in_bulk && view_.catching_up && !gains(partition);
    Pace& pace = returns ? return_pace_ : pace_;
    std::uint64_t charged = 0;
    if (returns) {
      auto heeding = heed_return_rate();
      charged = co_await heeding;
    } else {
      auto heeding = heed_controls(partition);
      CO_TRY_ASSIGN(charged, co_await heeding);
    }
    if (const auto same = view_.same_count(count); !same) {
      pace.give_back(charged);
      co_return same;
    }
    if (view_.store.held(partition, writer) >= n) {  // It came by another way meanwhile.
      pace.give_back(charged);
      break;
    }
    ++view_.counters.fetches;
    auto asking = ask_run(peer, partition, {writer, view_.store.held(partition, writer) + 1}, 0);
    const auto answered = co_await asking;
    pace.give_back(charged);
    if (!answered) co_return answered.error();
    const storage::RangeStatement& range = *answered;
    if (range.live.size() < range.to - range.from + 1) {
      // The peer has come as far as n, and what it says now covers that.
      auto& merged = lanes_merged_[{peer, partition, writer}];
      if (merged < range.to) {
        auto merging = merge_lanes_behind(peer, partition);
        CO_TRY(co_await merging);
        CO_TRY(view_.same_count(count));
        lanes_merged_[{peer, partition, writer}] = std::max(range.to, n);
      }
    }
    auto waiting = turns_.take(view_.self, kNever);
    if (!co_await waiting) co_return Error{Errc::kOverloaded, "too many runs wait to be applied"};
    turns_.did(cost_of(range));
    CO_TRY(may_store(partition, count));
    view_.counters.fetched_changes += range.live.size();
    moved(partition, range);
    if (in_bulk && !gains(partition)) came_back(range);
    auto applied = view_.store.apply(partition, range);
    while (!applied && applied.code() == Errc::kOverloaded) {
      co_await view_.durable();  // The disk sets the pace.
      CO_TRY(may_store(partition, count));
      applied = view_.store.apply(partition, range);
    }
    if (!applied) co_return applied.error();
    view_.observe_repair(view_.store.highest_time());
    if (*applied == storage::Applied::kGap) {
      co_return Error{Errc::kCorrupt, "the peer answered with another run than asked for"};
    }
  }
  co_return ok_status();
}

Task<std::uint64_t> CatchUp::heed_return_rate() {
  overlay::Timer timer;
  for (;;) {
    const Duration wait = return_pace_.wait(controls_.return_rate(), view_.loop.now());
    if (wait == Duration(0)) break;
    co_await overlay::sleep(view_.loop, wait, timer);
  }
  return_pace_.charge(kFetchBytesMax);
  co_return kFetchBytesMax;
}

void CatchUp::came_back(const storage::RangeStatement& range) {
  std::uint64_t bytes = 0;
  for (const auto& item : range.live) bytes += item.change.data.size();
  const Instant now = view_.loop.now();
  if (view_.catching_up) return_pace_.charge(bytes);
  return_bytes_.add(bytes, now);
  return_rate_.add(range.to - range.from + 1, now);
}

Task<Result<storage::RangeStatement>> CatchUp::ask_run(NodeId peer, PartitionId partition, Dot from,
                                                       std::uint64_t to) {
  const std::uint32_t count = view_.partitions();
  Bytes request = pack(FetchRequest{partition, from.writer, from.n, to, count});
  auto asking = overlay::call(view_.loop, view_.rpc, peer, Method::kFetch, std::move(request),
                              kFetchDeadline);
  CO_TRY_ASSIGN(const Bytes body, co_await asking);
  CO_TRY(view_.same_count(count));  // What is gone of a parent may be here in the other child.
  CO_TRY_ASSIGN(storage::RangeStatement range, unpack<storage::RangeStatement>(body));
  if (range.writer != from.writer || range.from != from.n || range.to < range.from) {
    co_return Error{Errc::kNotFound, "the peer has not come so far"};
  }
  co_return range;
}

Task<Result<std::size_t>> CatchUp::merge_lanes(NodeId peer, PartitionId partition) {
  std::size_t merged = 0;
  auto take = [this, partition, &merged](const std::vector<storage::LaneRow>& lanes) -> Status {
    if (!is_ours(partition)) return Error{Errc::kNotOwner, "the partition is another's by now"};
    merged += lanes.size();
    return view_.store.merge_lanes(partition, lanes);
  };
  auto reading = read_lanes(peer, partition, std::move(take));
  CO_TRY(co_await reading);
  co_return merged;
}

Task<Status> CatchUp::merge_lanes_behind(NodeId peer, PartitionId partition) {
  auto merging = merge_lanes(peer, partition);
  CO_TRY_ASSIGN(const std::size_t merged, co_await merging);
  if (merged > 0 || view_.ring().is_owner(partition, peer)) co_return ok_status();
  // All of them first: the run is stored behind this, and the debts are to be on disk no later.
  const auto owners = view_.ring().owners(partition);
  for (const auto& owner : owners) {
    if (owner != view_.self) lane_debts_.owe(partition, owner);
  }
  const std::uint32_t count = view_.partitions();
  for (const auto& owner : owners) {
    if (owner == view_.self || !view_.reachable(owner)) continue;
    auto asking = merge_lanes(owner, partition);
    const auto came = co_await asking;
    CO_TRY(view_.same_count(count));
    if (came) lane_debts_.paid(partition, owner);
  }
  co_return ok_status();
}

// What one partition lacks, or is damaged there, keeps no round from being one.
Task<Done> CatchUp::merge_lanes_owed(NodeId peer) {
  const std::uint32_t count = view_.partitions();
  const auto partitions = lane_debts_.of(peer);
  for (const auto partition : partitions) {
    auto merging = merge_lanes(peer, partition);
    const auto merged = co_await merging;
    if (!view_.same_count(count)) break;
    if (merged) lane_debts_.paid(partition, peer);
    if (!merged && (merged.code() == Errc::kTimeout || merged.code() == Errc::kUnavailable)) break;
  }
  co_return Done{};
}

Task<Status> CatchUp::read_lanes(NodeId peer, PartitionId partition, TakeLanes take) {
  LanesRequest request{partition, {}, view_.partitions()};
  for (bool more = true; more;) {
    auto asking = overlay::call(view_.loop, view_.rpc, peer, Method::kLanes, pack(request), kFetchDeadline);
    CO_TRY_ASSIGN(const Bytes body, co_await asking);
    CO_TRY(view_.same_count(request.partitions));
    CO_TRY_ASSIGN(const LanesReply reply, unpack<LanesReply>(body));
    CO_TRY(take(reply.lanes));
    for (const auto& owner : reply.owed) {
      if (owner != view_.self && view_.ring().is_owner(partition, owner)) lane_debts_.owe(partition, owner);
    }
    more = reply.more && !reply.lanes.empty();
    if (more && !request.after.empty() && !(place_of(request.after.back()) < place_of(reply.lanes.back()))) {
      co_return Error{Errc::kCorrupt, "the peer answers in pages that do not advance"};
    }
    if (more) request.after = {reply.lanes.back()};
  }
  co_return ok_status();
}

}  // namespace starling::node
