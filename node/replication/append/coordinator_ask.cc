// What a coordinator asks the other owners before it answers: does one hold this number, and what was acknowledged without
// having come here? The lane of the send waits meanwhile.
#include <algorithm>

#include "node/replication/append/coordinator.h"

namespace starling::node {

using overlay::Method;
using overlay::Task;

namespace {

constexpr Duration kAskDeadline = 500ms;
constexpr Duration kComparePatience = 2s;  // An owner may have much that did not come here.

}  // namespace

// Any owner may hold what we lack.
Task<Coordinator::Asked> Coordinator::ask_for_key(MailboxId mailbox, MessageKey key) {
  Asked asked;
  const auto owners = view_.candidates(view_.store.partition_of(mailbox));
  for (const auto& owner : owners) {
    if (owner == view_.self) continue;
    if (!view_.alive(owner)) {
      asked.everybody = false;
      continue;
    }
    auto asking = overlay::call(view_.loop, view_.rpc, owner, Method::kFindKey, pack(FindKeyRequest{mailbox, key}),
                                kAskDeadline);
    const auto answer = co_await asking;
    const auto reply = answer ? unpack<FindKeyReply>(*answer) : Result<FindKeyReply>(answer.error());
    if (!answer) asked.alive = false;
    if (reply && !reply->found) asked.written_off |= reply->dot != Dot{};
    if (!reply || !reply->found) continue;
    asked.found = true;
    const PartitionId partition = view_.store.partition_of(mailbox);
    auto fetching = catch_up_.fetch_until(owner, partition, reply->dot.writer, reply->dot.n);
    const auto fetched = co_await fetching;
    asked.alive = fetched.ok();
    break;
  }
  asked.everybody = asked.everybody && asked.alive;
  co_return asked;
}

// A retry, or a number below the lane's end that we do not have.
Task<starling::Done> Coordinator::ask_owners(Pending send, LaneId lane) {
  send.asked = true;
  auto asking = ask_for_key(send.mailbox, send.key);
  const Asked asked = co_await asking;
  send.all_answered = asked.everybody;  // Who is away may hold it: what is refused as gone is never shown.
  admit(std::move(send));
  resume_lane(lane);
  co_return starling::Done{};
}

// A refusal is final for the sender, and the group or its right may be acknowledged without having come here.
Task<starling::Done> Coordinator::compare_first(Pending send, LaneId lane) {
  send.compared = true;
  auto comparing = compare_with_owners(send.mailbox);
  const Known known = co_await comparing;
  send.knows = known.by_all && known.by_enough;
  admit(std::move(send));
  resume_lane(lane);
  co_return starling::Done{};
}

// With all at once: in an outage one that does not answer would else hold up the others, and all that waits behind them.
Task<Coordinator::Known> Coordinator::compare_with_owners(MailboxId mailbox) {
  auto comparison = std::make_shared<Comparison>();
  auto [done, future] = overlay::Completer<bool>::make(view_.loop);
  comparison->done = done;
  comparison->home = view_.is_home(view_.store.partition_of(mailbox)) ? 1 : 0;
  auto owners = view_.readers(view_.store.partition_of(mailbox));
  std::erase_if(owners, [this](const NodeId& owner) { return owner == view_.self || !view_.alive(owner); });
  comparison->left = owners.size();
  if (comparison->left > 0) ++comparing_;
  for (const auto& owner : owners) scope_.spawn(compare_one(owner, mailbox, comparison));
  if (comparison->left > 0) {
    const auto patience = view_.loop.after(kComparePatience, [done = done]() mutable { done.set(true); });
    co_await future;
  }
  Known known = comparison->known;
  known.by_all &= comparison->left == 0;
  known.by_enough = comparison->home >= view_.ring().enough_to_know();
  // One owner who is away, and a stand-in, may have what none of these has heard of.
  if (known.by_all && known.by_enough && comparison->home < view_.ring().home_copies()) {
    ++comparing_;
    auto asking = catch_up_.may_be_held(view_.store.partition_of(mailbox), kAskDeadline);
    known.by_enough = !co_await asking;
    --comparing_;
  }
  co_return known;
}

Task<starling::Done> Coordinator::compare_one(NodeId owner, MailboxId mailbox, std::shared_ptr<Comparison> comparison) {
  const PartitionId partition = view_.store.partition_of(mailbox);
  auto comparing = catch_up_.compare_partition(owner, partition, kAskDeadline);
  const auto compared = co_await comparing;
  if (--comparison->left == 0) --comparing_;
  comparison->known.by_all &= compared.ok();
  comparison->home += compared && view_.ring().is_home(view_.store.partition_of(mailbox), owner) ? 1 : 0;
  if (comparison->left == 0) comparison->done.set(true);
  co_return starling::Done{};
}

void Coordinator::resume_lane(const LaneId& lane) {
  auto it = held_lanes_.find(lane);
  if (it == held_lanes_.end()) return;
  auto waiting = std::move(it->second);
  held_lanes_.erase(it);
  while (!waiting.empty()) {
    Pending next = std::move(waiting.front());
    waiting.pop_front();
    admit(std::move(next));
    if (auto held = held_lanes_.find(lane); held != held_lanes_.end()) {
      held->second = std::move(waiting);  // The next one asks, too.
      return;
    }
  }
}

}  // namespace starling::node
