#include "node/replication/find_copy.h"

#include <algorithm>

namespace starling::node {

using overlay::Method;
using overlay::Reply;

FindCopy::FindCopy(ClusterView& view, const Publisher& publisher, const StandIn& stand_in)
    : view_(view), publisher_(publisher), stand_in_(stand_in) {
  view_.rpc.serve(Method::kFindCopy, overlay::Access::kMembers,
                  [this](const NodeId& from, View body, Reply reply) {
    const auto request = unpack<FindCopyRequest>(body);
    if (!request) return reply(request.error());
    if (const auto same = view_.same_count(from, request->partitions); !same) return reply(same.error());
    reply(answer(*request));
  });
}

Result<Bytes> FindCopy::answer(const FindCopyRequest& request) const {
  if (!view_.in_ring() || request.partition != view_.store.partition_of(request.mailbox)) {
    return Error{Errc::kInvalid, "the mailbox is of another partition"};
  }
  if (request.dots.size() > kFindDotsMax) return Error{Errc::kTooLarge, "too many copies in one question"};
  FindCopyReply reply;
  reply.whole = view_.store.is_whole(request.partition);
  reply.followers = publisher_.followers(request.mailbox);
  find(request, reply);
  for (const auto& dot : request.dots) {
    const auto same = [&](const FindCopyReply::Copy& copy) { return copy.dot == dot; };
    if (std::any_of(reply.copies.begin(), reply.copies.end(), same)) continue;
    reply.copies.push_back({dot, static_cast<std::uint8_t>(state_of(request.partition, dot))});
  }
  return pack(reply);
}

// By position first, where no key is given: then by the key that stands there.
void FindCopy::find(const FindCopyRequest& request, FindCopyReply& reply) const {
  MessageKey key = request.key;
  if (key == MessageKey{}) {
    const auto entry = view_.store.find_entry(request.mailbox, request.id);
    if (!entry || !*entry) return;
    const auto change = storage::decode(*(*entry)->bytes, (*entry)->dot);
    if (!change) return;
    key = change->entry.key;
  }
  const auto state = view_.store.find_key(request.mailbox, key);
  if (!state) return;
  reply.found = true;
  reply.key = key;
  reply.id = state->id;
  reply.is_void = state->is_void;
  reply.copies.push_back(
      {state->dot, static_cast<std::uint8_t>(state_of(request.partition, state->dot))});
  const auto stored = view_.store.read_change(request.partition, state->dot);
  const auto change = stored ? storage::decode(*stored->bytes, stored->dot)
                             : Result<storage::ChangeView>(stored.error());
  if (!change) return;
  reply.from = Bytes(change->entry.from);
  reply.to = Bytes(change->entry.to);
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
