// An open change: those who gain install, and the voters drive it on to its completion.
#include <algorithm>

#include "node/ring/movement.h"
#include "node/ring/ring_service.h"

namespace starling::node {

using overlay::Method;
using overlay::Reply;
using overlay::Task;

namespace {

constexpr Duration kDriveEvery = 300ms;
constexpr Duration kDriveLater = 2s;  // For each live voter before us.
// What a joiner said counts for so long without gossip of it. It says it again all the time.
constexpr Duration kSaidHolds = 10s;
// Members that are alive and silent are asked for so long whom they need.
constexpr Duration kSparePatience = 6s;
constexpr Duration kSpareRest = 200ms;

}  // namespace

void RingService::serve_progress() {
  view_.rpc.serve(Method::kRingProgress, overlay::Access::kMembers,
                  [this](const NodeId& from, View body, Reply reply) {
    auto progress = unpack<RingProgress>(body);
    if (!progress) return reply(progress.error());
    if (!view_.in_ring() || progress->ring != view_.ring().number()) {
      return reply(Error{Errc::kStaleRing, "the ring has another version by now"});
    }
    scope_.spawn(answer_progress(from, std::move(reply)));
  });
  view_.rpc.serve(Method::kInstalled, overlay::Access::kMembers,
                  [this](const NodeId&, View body, Reply reply) {
    auto asked = unpack<RingProgress>(body);
    if (!asked) return reply(asked.error());
    if (auto done = installed(asked->ring); !done) return reply(done.error());
    reply(Bytes());
  });
}

// --- Who gains. ---

// Who is in the ring may gain partitions by a change as a joiner does (hazards F32).
void RingService::prepare() {
  if (!view_.ring().changing()) {
    waits_for_.clear();
    return;
  }
  const auto& voters = view_.ring().voters();
  if (std::binary_search(voters.begin(), voters.end(), view_.self) && !std::exchange(driving_, true)) {
    scope_.spawn(drive());
  }
  if (!view_.ring().partitions_to_be_of(view_.self).empty() && !std::exchange(installing_, true)) {
    scope_.spawn(install_what_we_gain());
  }
}

Task<Done> RingService::install_what_we_gain() {
  overlay::Timer timer;
  while (view_.ring().changing() && installed_ != view_.ring().number()) {
    co_await overlay::sleep(view_.loop, 0s, timer);  // set_ring is still telling everybody.
    const RingNumber number = view_.ring().number();
    auto installing = install();
    if (co_await installing) installed_ = number;
  }
  installing_ = false;
  co_return Done{};
}

Status RingService::installed(RingNumber number) const {
  if (!view_.in_ring() || view_.ring().number() != number) {
    const std::string at = view_.in_ring() ? std::to_string(view_.ring().number().value) : "none";
    return Error{Errc::kStaleRing, "node " + short_text(view_.self) + " is at ring version " + at +
                                       (stuck_.empty() ? "" : ": " + stuck_)};
  }
  // Who is removed answers no more for names: those of the changes before this one must be at home.
  const auto change = view_.ring().version().change;
  const bool removal = change == overlay::RingChange::kRemove || change == overlay::RingChange::kReplace;
  if (removal) TRY(names_settled());
  const auto* self = view_.ring().member(view_.self);
  const bool leaves = self != nullptr && self->state == overlay::RingMemberState::kLeaving;
  if (!leaves) TRY(covered());
  if (installed_ == number || view_.ring().partitions_to_be_of(view_.self).empty()) return ok_status();
  return Error{Errc::kOverloaded, "node " + short_text(view_.self) + " still fetches what it shall own"};
}

// Who owned before the last change and died may have what some of those who own now need yet, changes or names: they
// would wait for it while the change that gives it up waits for them. Who is alive and does not answer may be one of
// those: it is asked again until it answers or is taken for dead.
Task<Status> RingService::may_do_without(std::vector<NodeId> nodes) {
  const auto goes = [&nodes](const NodeId& node) { return std::find(nodes.begin(), nodes.end(), node) != nodes.end(); };
  const Instant until = view_.loop.now() + kSparePatience;
  std::map<NodeId, std::vector<NodeId>> needs;
  if (!goes(view_.self)) needs[view_.self] = who_is_needed();
  std::optional<NodeId> silent;
  do {
    std::map<NodeId, overlay::Future<Result<Bytes>>> calls;
    for (const auto& member : view_.ring().members()) {
      // Those that are to go have no say in it.
      if (goes(member.id) || member.gone() || needs.contains(member.id) || !view_.alive(member.id)) continue;
      calls.emplace(member.id, overlay::call(view_.loop, view_.rpc, member.id, Method::kMovement, Bytes(),
                                             kRingAskDeadline));
    }
    silent.reset();
    for (auto& [node, call] : calls) {
      const auto body = co_await call;
      const auto reply = body ? unpack<MovementReply>(*body) : Result<MovementReply>(body.error());
      if (reply) needs[node] = reply->needs;
      if (!reply && view_.alive(node)) silent = node;
    }
    overlay::Timer timer;
    if (silent) co_await overlay::sleep(view_.loop, kSpareRest, timer);
  } while (silent && view_.loop.now() < until);
  for (const auto& [node, needed_by_it] : needs) {
    for (const auto& needed : needed_by_it) {
      if (view_.alive(needed) || !goes(needed)) continue;
      co_return Error{Errc::kDenied, "node " + short_text(node) + " needs " + short_text(needed) +
                                         " to know every message and every name of before the ring changed last: "
                                         "start it again, or accept the loss of what only it holds with --force"};
    }
  }
  if (!silent) co_return ok_status();
  co_return Error{Errc::kUnavailable, "node " + short_text(*silent) + " is alive and does not say whom it needs to know "
                                          "every message and every name: stop it or make it answer, and try again, or "
                                          "accept the loss of what only those hold that are to go with --force"};
}

// --- Driving. ---

std::size_t RingService::live_voters_before_us() const {
  std::size_t before = 0;
  for (const auto& voter : view_.ring().voters()) {
    if (voter == view_.self) break;
    before += view_.alive(voter) ? 1 : 0;
  }
  return before;
}

Task<Done> RingService::drive() {
  overlay::Timer timer;
  while (view_.ring().changing()) {
    const Duration rest = kDriveEvery + kDriveLater * static_cast<int>(live_voters_before_us());
    co_await overlay::sleep(view_.loop, rest, timer);
    if (!view_.ring().changing()) break;
    auto completing = complete(view_.ring().number());
    const auto done = co_await completing;
    waits_for_ = done ? "" : done.error().text;
  }
  driving_ = false;
  co_return Done{};
}

// The second version of a change. A joiner is believed that it covers what it shall own: it cannot gain
// by lying, it would only have to fetch the rest as an owner that catches up.
Task<Done> RingService::answer_progress(NodeId from, Reply reply) {
  const RingNumber number = view_.ring().number();
  if (std::exchange(said_of_, number) != number) said_installed_.clear();
  said_installed_[from] = view_.loop.now();
  auto completing = complete(number);
  const auto done = co_await completing;
  if (done || view_.ring().number() > number) {
    reply(pack(RingAnswer{{overlay::encode(view_.ring().version())}}));
  } else {
    reply(done.error());
  }
  co_return Done{};
}

Task<Status> RingService::complete(RingNumber number) {
  auto asking = all_installed(number);
  CO_TRY(co_await asking);
  auto build = [number](const overlay::RingVersion& before) -> Result<overlay::RingVersion> {
    if (before.number != number) return Error{Errc::kStaleRing, "the ring has moved on"};
    return overlay::next_complete(before);
  };
  auto changing = change(build);
  CO_TRY(co_await changing);
  co_return ok_status();
}

Task<Status> RingService::all_installed(RingNumber number) {
  const auto ring = view_.ring_ptr();
  std::set<NodeId> alive, ready;
  for (const auto& member : ring->members()) {
    const auto heard = said_installed_.find(member.id);
    const bool said = said_of_ == number && heard != said_installed_.end() &&
                      view_.loop.now() - heard->second < kSaidHolds;
    if (member.gone() || (!said && !view_.alive(member.id))) continue;
    alive.insert(member.id);
    if (member.id == view_.self) {
      CO_TRY(installed(number));
    } else if (!said) {
      auto asking = overlay::call(view_.loop, view_.rpc, member.id, Method::kInstalled,
                                  pack(RingProgress{number}), kRingAskDeadline);
      const auto answer = co_await asking;
      if (!answer && (answer.code() == Errc::kTimeout || answer.code() == Errc::kUnavailable)) {
        co_return Error{answer.code(), "node " + short_text(member.id) + " is alive and does not answer: " +
                                           answer.error().text};
      }
      if (!answer) co_return answer.error();
    }
    ready.insert(member.id);
  }
  co_return may_complete(*ring, alive, ready);
}

}  // namespace starling::node
