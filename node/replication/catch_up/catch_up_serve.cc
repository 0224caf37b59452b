// The side of catching up that answers: vectors, runs, lanes, and "tell me when you hold it".
#include <algorithm>

#include "node/replication/catch_up/catch_up.h"
#include "node/replication/catch_up/digests.h"

namespace starling::node {

using overlay::Method;
using overlay::Reply;
using overlay::Task;

namespace {

constexpr std::size_t kCompareDotsMax = 64 << 10;  // In one answer.

}  // namespace

void CatchUp::serve() {
  view_.rpc.serve(Method::kCompare, overlay::Access::kHolders,
                  [this](const NodeId& from, View body, Reply reply) {
    auto request = unpack<CompareRequest>(body);
    if (!request) return reply(request.error());
    view_.heard_of_ring(from, request->ring);
    if (const auto same = view_.same_count(from, request->partitions); !same) return reply(same.error());
    reply(pack(request->by_span ? spans_for(from, *request) : vectors_for(from, *request)));
  });
  view_.rpc.serve(Method::kFetch, overlay::Access::kHolders,
                  [this](const NodeId& from, View body, Reply reply) {
    auto request = unpack<FetchRequest>(body);
    if (!request) return reply(request.error());
    if (const auto same = view_.same_count(from, request->partitions); !same) return reply(same.error());
    if (!view_.exists(request->partition)) return reply(Error{Errc::kInvalid, "no such partition"});
    if (request->from == 0) return reply(Error{Errc::kInvalid, "a run begins with number 1"});
    scope_.spawn(answer_fetch(from, *request, std::move(reply)));
  });
  view_.rpc.serve(Method::kLanes, overlay::Access::kHolders,
                  [this](const NodeId& from, View body, Reply reply) {
    auto request = unpack<LanesRequest>(body);
    if (!request) return reply(request.error());
    if (const auto same = view_.same_count(from, request->partitions); !same) return reply(same.error());
    if (!view_.exists(request->partition)) return reply(Error{Errc::kInvalid, "no such partition"});
    std::optional<storage::LaneRow> after;
    if (!request->after.empty()) after = request->after.back();
    if (after && view_.store.partition_of(after->mailbox) != request->partition) {
      return reply(Error{Errc::kInvalid, "a lane of another partition"});
    }
    auto lanes = view_.store.read_lanes(request->partition, after, kLanesMax);
    if (!lanes) return reply(lanes.error());
    const bool more = lanes->size() == kLanesMax;
    reply(pack(LanesReply{std::move(*lanes), more, lane_debts_.in(request->partition)}));
  });
  view_.rpc.serve(Method::kHold, overlay::Access::kHolders,
                  [this](const NodeId& from, View body, Reply reply) {
    auto request = unpack<HoldRequest>(body);
    if (!request) return reply(request.error());
    if (const auto same = view_.same_count(from, request->partitions); !same) return reply(same.error());
    if (!view_.is_owner(request->partition)) {
      return reply(Error{Errc::kNotOwner, "this node does not own the partition"});
    }
    scope_.spawn(answer_hold(from, *request, std::move(reply)));
  });
}

Task<Done> CatchUp::answer_fetch(NodeId from, FetchRequest request, Reply reply) {
  const std::uint32_t count = view_.partitions();
  auto waiting = turns_.take(from, view_.loop.now() + kFetchDeadline);
  if (!co_await waiting) {
    reply(Error{Errc::kOverloaded, "more runs are asked for here than can be read in time"});
    co_return Done{};
  }
  if (const auto same = view_.same_count(count); !same) {
    turns_.did(0);
    reply(same.error());
    co_return Done{};
  }
  auto range = view_.store.read_writer(request.partition, request.writer, request.from, kFetchBytesMax);
  turns_.did(range ? cost_of(*range) : 0);
  if (!range) {
    reply(range.error());
    co_return Done{};
  }
  if (range->to < range->from) range = held_for_others(request.partition, request.writer, request.from);
  if (request.to != 0 && range->to > request.to) {
    std::erase_if(range->live, [&](const auto& item) { return item.n > request.to; });
    std::erase_if(range->lost, [&](std::uint64_t n) { return n > request.to; });
    std::erase_if(range->traces, [&](const auto& trace) { return trace.dot.n > request.to; });
    range->to = request.to;
  }
  reply(pack(*range));
  co_return Done{};
}

CompareReply CatchUp::spans_for(const NodeId& from, const CompareRequest& request) const {
  CompareReply answer;
  if (!view_.in_ring()) return answer;
  answer.ring = view_.ring().number();
  answer.partitions = view_.partitions();
  answer.by_span = answer.ring == request.ring;
  if (answer.by_span) answer.spans = differing_spans(view_, from, request.spans);
  return answer;
}

CompareReply CatchUp::vectors_for(const NodeId& from, const CompareRequest& request) const {
  CompareReply answer;
  answer.ring = view_.in_ring() ? view_.ring().number() : RingNumber{};
  answer.partitions = view_.partitions();
  std::size_t dots = 0;
  for (const auto& theirs : request.items) {
    if (!view_.exists(theirs.partition)) continue;
    answer.held = answer.held || holds_for(theirs.partition, from);
    auto vector = view_.store.vector(theirs.partition);
    const bool told = request.all ? view_.is_owner(theirs.partition)
                                  : theirs.digest != digest_of(view_.store, theirs.partition);
    if (!told) continue;
    auto lost = view_.store.lost(theirs.partition);
    dots += vector.dots().size() + lost.size();
    answer.items.push_back({theirs.partition, std::move(vector), view_.store.is_whole(theirs.partition),
                            std::move(lost)});
    answer.more = dots >= kCompareDotsMax;
    if (answer.more) break;  // The asker goes on behind the last one.
  }
  return answer;
}

// A damaged copy is none (hazards F30).
bool CatchUp::holds(const HoldRequest& request) const {
  if (view_.store.is_whole(request.partition)) return true;
  if (view_.awaits_refill(request.partition)) return false;
  const auto damaged = view_.store.damaged(request.partition);
  return std::none_of(damaged.begin(), damaged.end(), [&](const Dot& dot) {
    return dot.writer == request.writer && dot.n <= request.n;
  });
}

Task<Done> CatchUp::answer_hold(NodeId from, HoldRequest request, Reply reply) {
  const std::uint32_t count = view_.partitions();
  Status fetched = ok_status();
  if (view_.store.held(request.partition, request.writer) < request.n) {
    auto fetch = fetch_until(from, request.partition, request.writer, request.n);
    fetched = co_await fetch;
  }
  if (fetched) fetched = view_.same_count(count);
  // Who asks may be about to drop what was written off here.
  auto lost = view_.store.lost(request.partition);
  std::erase_if(lost, [&](const Dot& dot) { return dot.writer != request.writer || dot.n > request.n; });
  if (fetched && !lost.empty()) {
    auto regaining = regain(from, request.partition, std::move(lost));
    fetched = co_await regaining;
  }
  if (!fetched) {
    reply(fetched.error());
    co_return Done{};
  }
  co_await view_.durable();
  if (const auto same = view_.same_count(count); !same) {
    reply(same.error());
  } else if (!view_.is_owner(request.partition)) {
    reply(Error{Errc::kNotOwner, "this node does not own the partition any more"});
  } else if (!holds(request)) {
    reply(Error{Errc::kCorrupt, "this owner's copy is damaged and being repaired"});
  } else {
    reply(pack(HoldReply{view_.store.synced(request.partition, request.writer)}));
  }
  co_return Done{};
}

}  // namespace starling::node
