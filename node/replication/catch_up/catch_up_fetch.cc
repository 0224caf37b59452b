// Runs of writers, fetched from one peer: those that a comparison found missing, gaps of live traffic, and lanes.
#include <algorithm>
#include <tuple>

#include "node/replication/catch_up/catch_up.h"

namespace starling::node {

using overlay::Method;
using overlay::Task;

namespace {

constexpr std::size_t kFetchesAtOnce = 16;  // Runs of one comparison.

// Lanes come in this order.
auto place_of(const storage::LaneRow& row) { return std::tie(row.mailbox, row.device, row.lane); }

}  // namespace

// Several runs at once, because a round trip for each in turn would cost more than what it brings.
Task<Status> CatchUp::fetch_all(std::shared_ptr<Fetches> fetches) {
  const std::size_t count = fetches->runs.size();
  if (count == 0) co_return ok_status();
  if (missing_ == 0) came_ = 0;
  missing_ += fetches->changes;
  auto [finished, future] = overlay::Completer<bool>::make(view_.loop);
  fetches->finished = finished;
  fetches->running = std::min(count, kFetchesAtOnce);
  for (std::size_t i = fetches->running; i > 0; --i) scope_.spawn(fetch_next(fetches));
  co_await future;
  missing_ -= fetches->changes;
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

void CatchUp::fetch_gap(const NodeId& peer, PartitionId partition, WriterId writer) {
  if (gaps_.size() >= kFetchesInFlightMax) return;  // Anti-entropy or a retransmit comes back to it.
  if (!gaps_.insert({partition, writer}).second) return;
  scope_.spawn(gap(peer, partition, writer));
}

Task<Done> CatchUp::gap(NodeId peer, PartitionId partition, WriterId writer) {
  auto fetching = fetch_until(peer, partition, writer, view_.store.held(partition, writer) + 1);
  (void)co_await fetching;
  gaps_.erase({partition, writer});
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
  came_ += range.to - range.from + 1;
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
  const auto owners = view_.ring().owners(partition);
  for (const auto& owner : owners) {
    if (owner == view_.self) continue;
    lanes_owed_.insert({partition, owner});
    if (!view_.reachable(owner)) continue;
    auto asking = merge_lanes(owner, partition);
    const auto came = co_await asking;
    if (came) lanes_owed_.erase({partition, owner});
  }
  co_return ok_status();
}

// What one partition lacks, or is damaged there, keeps no round from being one.
Task<Done> CatchUp::merge_lanes_owed(NodeId peer) {
  std::vector<PartitionId> partitions;
  std::erase_if(lanes_owed_, [&](const auto& owed) {
    if (!view_.ring().is_owner(owed.first, owed.second) || !is_ours(owed.first)) return true;
    if (owed.second == peer) partitions.push_back(owed.first);
    return false;
  });
  for (const auto partition : partitions) {
    auto merging = merge_lanes(peer, partition);
    const auto merged = co_await merging;
    if (merged) lanes_owed_.erase({partition, peer});
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
    more = reply.more && !reply.lanes.empty();
    if (more && !request.after.empty() && !(place_of(request.after.back()) < place_of(reply.lanes.back()))) {
      co_return Error{Errc::kCorrupt, "the peer answers in pages that do not advance"};
    }
    if (more) request.after = {reply.lanes.back()};
  }
  co_return ok_status();
}

}  // namespace starling::node
