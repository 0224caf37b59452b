#include "node/replication/follow/heads.h"

namespace starling::node {

using overlay::Method;
using overlay::Reply;

Heads::Heads(ClusterView& view) : view_(view) {
  view_.rpc.serve(Method::kHeads, overlay::Access::kMembers,
                  [this](const NodeId& from, View body, Reply reply) {
    const auto request = unpack<HeadsRequest>(body);
    if (!request) return reply(request.error());
    view_.heard_of_ring(from, request->ring);
    reply(answer(*request));
  });
}

Result<Bytes> Heads::answer(const HeadsRequest& request) const {
  if (request.items.size() > kHeadsMax || request.claims.size() > kHeadsMax) {
    return Error{Errc::kTooLarge, "at most " + std::to_string(kHeadsMax) + " mailboxes at once"};
  }
  HeadsReply out;
  out.behind = view_.catching_up;
  for (const auto& item : request.items) {
    const auto refuse = [&](Errc code) {
      out.refused.push_back({item.mailbox, static_cast<std::uint8_t>(code)});
    };
    if (!view_.is_owner(view_.store.partition_of(item.mailbox))) {
      refuse(Errc::kNotOwner);
      continue;
    }
    auto vector = view_.store.mailbox_vector(item.mailbox);
    if (!vector) {
      refuse(vector.code());
      continue;
    }
    vector->merge(view_.store.lost_vector(item.mailbox));
    if (vector->digest() != item.digest) out.changed.push_back(item.mailbox);
  }
  for (const auto& claim : request.claims) {
    const bool ours = claim.dot.writer == view_.store.writer();
    if (ours && claim.dot.n > view_.store.issued(view_.store.partition_of(claim.mailbox))) out.unissued.push_back(claim);
  }
  return pack(out);
}

}  // namespace starling::node
