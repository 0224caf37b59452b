#include "node/repair/farewell.h"

#include <map>

#include "node/layout.h"

namespace starling::node {

using overlay::Method;
using overlay::Task;
using storage::Store;

namespace {

constexpr Duration kFarewellEvery = 1s;
constexpr Duration kFarewellDeadline = 3s;
constexpr Duration kTellPatience = 30s;  // With members that are there and do not answer.

}  // namespace

Farewell::Farewell(ClusterView& view, const HandOver& hand_over, const StandIn& stand_in,
                   const Tenures& tenures)
    : view_(view), hand_over_(hand_over), stand_in_(stand_in), tenures_(tenures), scope_(view.loop) {
  view_.on_doubled([this] { home_.clear(); });
  scope_.spawn(run());
}

bool Farewell::was_safe(Store& store) { return store.get(Store::Family::kNode, kFarewellKey).has_value(); }

std::size_t Farewell::names() const {
  std::size_t count = 0;
  for (const auto partition : tenures_.voted()) count += home_.contains(partition) ? 0 : 1;
  return count;
}

bool Farewell::all_home() const {
  return hand_over_.leaving().empty() && stand_in_.is_known() && stand_in_.segments() == 0 && names() == 0;
}

std::string Farewell::waits_for() const {
  if (!view_.is_holder() || safe_) return "";
  if (const auto owner = hand_over_.blocked_by()) {
    return "node " + short_text(*owner) + " owns what is handed over and cannot be reached: start it again, or "
           "remove it with `starling remove " + short_text(*owner) + "`";
  }
  return "";
}

Task<Done> Farewell::run() {
  overlay::Timer timer;
  for (;;) {
    co_await overlay::sleep(view_.loop, kFarewellEvery, timer);
    if (!view_.is_holder() || safe_) continue;
    // Batch after batch, as long as that gets on.
    for (std::size_t left = names() + 1; names() > 0 && names() < left;) {
      left = names();
      auto asking = ask_owners();
      co_await asking;
    }
    if (!view_.is_holder() || !all_home()) continue;
    auto telling = tell_members();
    if (!co_await telling) continue;
    view_.store.put(Store::Family::kNode, kFarewellKey, "1");
    co_await view_.durable();
    safe_ = true;
    view_.log.info("everything is handed over: safe to power off");
  }
}

// True when all that can be reached have written it down. Others hear it from them when they need to know.
Task<bool> Farewell::tell_members() {
  if (!telling_since_) telling_since_ = view_.loop.now();
  const RingPtr ring = view_.ring_ptr();
  std::map<NodeId, overlay::Future<Result<Bytes>>> calls;
  for (const auto& member : ring->members()) {
    if (member.gone() || told_.contains(member.id) || !view_.alive(member.id)) continue;
    const SealRequest request{ring->number(), {}, /*safe=*/true, ring->lineage()};
    calls.emplace(member.id, overlay::call(view_.loop, view_.rpc, member.id, Method::kSeal, pack(request),
                                           kFarewellDeadline));
  }
  bool all = true;
  for (auto& [node, call] : calls) {
    const auto answer = co_await call;
    const auto reply = answer ? unpack<SealReply>(*answer) : Result<SealReply>(answer.error());
    // A program from before answers, too, and writes nothing down.
    const bool known = reply && std::any_of(reply->safe.begin(), reply->safe.end(),
                                            [this](const auto& safe) { return safe.node == view_.self; });
    if (known) told_.insert(node);
    all = all && known;
  }
  co_return all || view_.loop.now() - *telling_since_ > kTellPatience;
}

// Asks for partitions in batches, and counts the owners of each that vote in its present term.
Task<Done> Farewell::ask_owners() {
  std::map<NodeId, std::vector<SealRequest::Item>> asked;
  const RingPtr ring = view_.ring_ptr();
  for (const auto partition : tenures_.voted()) {
    if (home_.contains(partition)) continue;
    for (const auto& owner : ring->home(partition)) {
      auto& items = asked[owner];
      if (items.size() < kSealPartitionsMax) items.push_back({partition, ring->number()});
    }
  }
  std::map<PartitionId, std::size_t> voting;
  for (auto& [owner, items] : asked) {
    if (!view_.alive(owner)) continue;
    auto asking = overlay::call(view_.loop, view_.rpc, owner, Method::kSeal,
                                pack(SealRequest{ring->number(), std::move(items), false, {}, ring->partitions()}),
                                kFarewellDeadline);
    const auto body = co_await asking;
    const auto answer = body ? unpack<SealReply>(*body) : Result<SealReply>(body.error());
    if (!answer) continue;
    view_.heard_of_ring(owner, answer->ring);
    if (answer->ring != ring->number() || !view_.same_count(answer->partitions)) continue;
    for (const auto& item : answer->items) {
      voting[item.partition] += item.from.value != 0 && item.until.value == 0 ? 1 : 0;
    }
  }
  if (!view_.same_count(ring->partitions())) co_return Done{};
  for (const auto& [partition, owners] : voting) {
    if (partition.value < ring->partitions() && owners > ring->home(partition).size() / 2) {
      home_.insert(partition);
    }
  }
  co_return Done{};
}

}  // namespace starling::node
