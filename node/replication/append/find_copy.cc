#include "node/replication/append/find_copy.h"

#include <algorithm>

#include "storage/expiry.h"

namespace starling::node {

using overlay::Method;
using overlay::Reply;
using overlay::Task;

namespace {
constexpr Duration kPageRest = 1ms;  // Between two pages of what is held.
}  // namespace

FindCopy::FindCopy(ClusterView& view, const Publisher& publisher, const StandIn& stand_in)
    : view_(view), publisher_(publisher), stand_in_(stand_in), scope_(view.loop) {
  view_.rpc.serve(Method::kFindCopy, overlay::Access::kMembers,
                  [this](const NodeId& from, View body, Reply reply) {
    auto request = unpack<FindCopyRequest>(body);
    if (!request) return reply(request.error());
    if (const auto same = view_.same_count(from, request->partitions); !same) return reply(same.error());
    if (const auto may = may_answer(*request); !may) return reply(may.error());
    scope_.spawn(answer(std::move(*request), std::move(reply)));
  });
}

Status FindCopy::may_answer(const FindCopyRequest& request) const {
  if (!view_.in_ring() || request.partition != view_.store.partition_of(request.mailbox)) {
    return Error{Errc::kInvalid, "the mailbox is of another partition"};
  }
  if (request.dots.size() > kFindDotsMax) return Error{Errc::kTooLarge, "too many copies in one question"};
  return ok_status();
}

// Who is asked of certain copies has been asked for the message before.
Task<Done> FindCopy::answer(FindCopyRequest request, Reply reply) {
  FindCopyReply found;
  found.whole = view_.store.is_whole(request.partition);
  found.followers = publisher_.followers(request.mailbox);
  find(request, found);
  if (!found.found && request.dots.empty()) {
    auto looking = find_held(request, std::move(found));
    found = co_await looking;
  }
  for (const auto& dot : request.dots) {
    const auto same = [&](const FindCopyReply::Copy& copy) { return copy.dot == dot; };
    if (std::any_of(found.copies.begin(), found.copies.end(), same)) continue;
    found.copies.push_back({dot, static_cast<std::uint8_t>(state_of(request.partition, dot))});
  }
  for (const auto& copy : found.copies) {
    if (static_cast<CopyState>(copy.state) != CopyState::kHint) continue;
    for (const auto& owner : stand_in_.waits_for(request.partition, copy.dot.writer)) {
      const bool told = std::find(found.held_for.begin(), found.held_for.end(), owner) != found.held_for.end();
      if (!told) found.held_for.push_back(owner);
    }
  }
  reply(pack(found));
  co_return Done{};
}

// By position first, where no key is given: one seek finds what can be read, and its key leads to its row.
std::optional<storage::Trace> FindCopy::trace_of(const FindCopyRequest& request) const {
  if (!(request.key == MessageKey{})) return view_.store.trace(request.mailbox, request.key);
  const auto entry = view_.store.find_entry(request.mailbox, request.id);
  const auto change = entry && *entry ? storage::decode(*(*entry)->bytes, (*entry)->dot)
                                      : Result<storage::ChangeView>(Error{Errc::kNotFound, ""});
  if (change) return view_.store.trace(request.mailbox, change->entry.key);
  return view_.store.trace(request.mailbox, request.id);
}

void FindCopy::find(const FindCopyRequest& request, FindCopyReply& reply) const {
  const auto trace = trace_of(request);
  if (!trace) {
    const auto& key = request.key;
    reply.is_past = key.seq > 0 && view_.store.lane_high(request.mailbox, key.device, key.lane) >= key.seq;
    return;
  }
  const auto state = state_of(request.partition, trace->dot);
  reply.found = true;
  reply.key = trace->key;
  reply.id = trace->id;
  reply.is_void = trace->is_void;
  reply.expires_s = trace->expiry;
  reply.is_expired = storage::is_expired(trace->expiry, view_.store.expiry_time());
  reply.written_off = state == CopyState::kLost;
  reply.copies.push_back({trace->dot, static_cast<std::uint8_t>(state)});
  const auto stored = view_.store.read_change(request.partition, trace->dot);
  const auto change = stored ? storage::decode(*stored->bytes, stored->dot)
                             : Result<storage::ChangeView>(stored.error());
  if (!change) return;
  reply.from = Bytes(change->entry.from);
  reply.to = Bytes(change->entry.to);
}

// What is held for others has no rows.
Task<FindCopyReply> FindCopy::find_held(FindCopyRequest request, FindCopyReply reply) const {
  const std::uint32_t count = view_.partitions();
  const bool by_key = !(request.key == MessageKey{});
  overlay::Timer timer;
  std::size_t left = kHeldLookedThroughMax;
  for (const auto writer : stand_in_.runs(request.partition)) {
    for (Dot from{writer, 1};;) {
      if (!view_.same_count(count)) co_return reply;
      const auto page = view_.store.read_held(request.partition, from, kFetchBytesMax);
      if (page.empty()) break;
      for (const auto& held : page) {
        left -= std::min(left, held.bytes->size());
        const auto change = storage::decode(*held.bytes, held.dot);
        if (!change || change->kind == storage::ChangeKind::kRegister || change->mailbox != request.mailbox) continue;
        const auto& entry = change->entry;
        if (by_key ? entry.key != request.key : entry.id != request.id) continue;
        reply.copies.push_back({held.dot, static_cast<std::uint8_t>(CopyState::kHint)});
        const bool is_void = change->kind == storage::ChangeKind::kVoid;
        if (reply.found && (reply.is_void || !is_void)) continue;
        reply.found = true;
        reply.key = entry.key;
        reply.id = entry.id;
        reply.is_void = is_void;
        reply.expires_s = storage::expiry_seconds(entry.expires_ms);
        reply.from = Bytes(entry.from);
        reply.to = Bytes(entry.to);
      }
      from.n = page.back().dot.n + 1;
      reply.is_cut = left == 0;
      if (reply.is_cut) co_return reply;
      co_await overlay::sleep(view_.loop, kPageRest, timer);
    }
  }
  co_return reply;
}

CopyState FindCopy::state_of(PartitionId partition, const Dot& dot) const {
  auto& store = view_.store;
  const auto contains = [&](const std::vector<Dot>& dots) {
    return std::find(dots.begin(), dots.end(), dot) != dots.end();
  };
  if (contains(store.damaged(partition))) return CopyState::kDamaged;
  if (contains(store.lost(partition))) return CopyState::kLost;
  if (dot.n > store.held(partition, dot.writer)) {
    return stand_in_.holds(partition, dot) ? CopyState::kHint : CopyState::kAbsent;
  }
  if (dot.n > store.synced(partition, dot.writer)) return CopyState::kHeld;
  const auto stored = store.read_change(partition, dot);
  if (stored) return CopyState::kSynced;
  return stored.code() == Errc::kCorrupt ? CopyState::kDamaged : CopyState::kGone;
}

}  // namespace starling::node
