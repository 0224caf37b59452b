// One partition, when somebody has to know now: what the others have of it, and whether others hold something of it.
#include <algorithm>

#include "node/replication/catch_up/catch_up.h"
#include "overlay/loop/at_once.h"

namespace starling::node {

using overlay::Task;

namespace {

constexpr std::size_t kMembersAskedAtOnce = 32;

}  // namespace

Task<Status> CatchUp::compare_partition(NodeId peer, PartitionId partition, Duration deadline) {
  std::vector<PartitionId> one{partition};
  Differences differences;
  differences.fetches = std::make_shared<Fetches>();
  differences.fetches->peer = peer;
  auto comparing = compare(peer, std::move(one), deadline, differences);
  CO_TRY(co_await comparing);
  auto taking = take(differences);
  CO_TRY(co_await taking);
  if (differences.fetches->failed.empty()) co_return ok_status();
  co_return Error{Errc::kUnavailable, "a run that the peer has did not come"};
}

Task<bool> CatchUp::may_be_held(PartitionId partition, Duration deadline) {
  if (holds_for(partition, view_.self)) co_return true;  // Behind a hole.
  std::vector<NodeId> others;
  for (const auto& member : view_.ring().members()) {
    if (member.id == view_.self || (member.gone() && is_safe && is_safe(member.id))) continue;
    const bool there = view_.alive(member.id);
    if (!there && !view_.ring().is_home(partition, member.id)) co_return true;
    if (there) others.push_back(member.id);
  }
  const CompareRequest request{view_.ring().number(), {{partition}}, true, false, {}, view_.partitions()};
  bool held = false;
  auto asking = overlay::at_once(view_.loop, others.size(), kMembersAskedAtOnce, [&](std::size_t i) {
    return is_held_at(others[i], pack(request), deadline, held);
  });
  co_await asking;
  co_return held;
}

Task<Done> CatchUp::is_held_at(NodeId peer, Bytes request, Duration deadline, bool& held) {
  if (held) co_return Done{};
  auto asking = overlay::call(view_.loop, view_.rpc, peer, overlay::Method::kCompare, std::move(request), deadline);
  const auto answer = co_await asking;
  const auto reply = answer ? unpack<CompareReply>(*answer) : Result<CompareReply>(answer.error());
  held = held || !reply || reply->held;
  co_return Done{};
}

}  // namespace starling::node
