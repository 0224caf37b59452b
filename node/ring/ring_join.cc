// Joining: the member that admits, and the joiner.
#include "crypto/text.h"
#include "node/ring/movement.h"
#include "node/ring/ring_service.h"

namespace starling::node {

using overlay::Access;
using overlay::Method;
using overlay::Reply;
using overlay::RingVersion;
using overlay::Task;

namespace {

constexpr Duration kJoinDeadline = 15s;
constexpr Duration kStandingDeadline = 2s;
constexpr Duration kReportEvery = 200ms;
constexpr int kReportsBeforeAsking = 10;
constexpr Duration kJoinWaiterForgotten = 5min;  // Since it asked last; it asks every few seconds.
constexpr std::size_t kJoinWaitersMax = 1024;
constexpr std::int64_t kJoinClocksApartMaxMs = to_ms(overlay::kClocksApartMax);

// Compared, not subtracted as they are: the joiner may send any number.
Status check_clock(std::int64_t theirs, std::int64_t ours) {
  if (theirs >= ours - kJoinClocksApartMaxMs && theirs <= ours + kJoinClocksApartMaxMs) return ok_status();
  const bool ahead = theirs > ours;
  const auto high = static_cast<std::uint64_t>(ahead ? theirs : ours);
  const std::uint64_t apart = high - static_cast<std::uint64_t>(ahead ? ours : theirs);
  return Error{Errc::kClock, "the joiner's clock is " + span_text(apart) + (ahead ? " ahead of" : " behind") +
                                 " ours: set right (NTP) the one that is wrong, and join again"};
}

Error taken_back() {
  return {Errc::kDenied, "the join was taken back (starling abort, or nodes were forced out meanwhile): empty the folder and "
                        "join with a new token"};
}

}  // namespace

void RingService::serve_joiners() {
  view_.rpc.serve(Method::kJoin, Access::kJoiners,
                  [this](const NodeId& from, View body, Reply reply) {
    auto request = unpack<JoinRequest>(body);
    if (!request) return reply(request.error());
    scope_.spawn(admit(from, std::move(*request), std::move(reply)));
  });
  // Nobody learns more than its own standing.
  view_.rpc.serve(Method::kStanding, Access::kJoiners, [this](const NodeId& from, View, Reply reply) {
    if (!view_.in_ring()) return reply(Error{Errc::kUnavailable, "this node is still joining itself"});
    const auto* member = view_.ring().member(from);
    reply(pack(StandingReply{view_.ring().number(), member != nullptr}));
  });
}

Task<Done> RingService::admit(NodeId from, JoinRequest request, Reply reply) {
  auto checking = admit_checked(from, std::move(request));
  auto answer = co_await checking;
  if (!answer) view_.log.warn("a node may not join", {{"node", from}, {"cause", answer.error()}});
  reply(std::move(answer));
  co_return Done{};
}

// A token has to be good when its node first asks. Who is put off asks again, and is not too late by that.
Status RingService::in_time(const Invite& invite, const NodeId& from) {
  const Instant now = view_.loop.now();
  std::erase_if(waiters_, [now](const auto& item) { return now - item.second.asked > kJoinWaiterForgotten; });
  const auto known = waiters_.find(invite.id);
  const bool waits = known != waiters_.end() && known->second.node == from;
  if (!waits) TRY(check_time(invite, view_.loop.wall_ms()));
  if (waits || waiters_.size() < kJoinWaitersMax) waiters_[invite.id] = {from, now};
  return ok_status();
}

Task<Result<Bytes>> RingService::admit_checked(NodeId from, JoinRequest request) {
  if (!view_.in_ring()) co_return Error{Errc::kUnavailable, "this node is still joining itself"};
  if (fingerprint(request.key) != from) {
    co_return Error{Errc::kUnauthenticated, "the key is not that of the link"};
  }
  CO_TRY_ASSIGN(const Invite invite, parse_invite(request.invite));
  if (invite.lineage != view_.ring().version().lineage) {
    co_return Error{Errc::kForeign, "the token is of another cluster, or of before `starling remove --force`: make one "
                                    "with `starling invite` on a member of this one"};
  }
  // The link may be older than the rotation that retired the secret under which it came.
  if (!keyring_.holds(invite.secret)) {
    co_return Error{Errc::kUnauthenticated, "the token carries a secret of the cluster that is retired: make another "
                                            "with `starling invite`"};
  }
  CO_TRY(in_time(invite, from));
  CO_TRY(check_clock(request.wall_ms, view_.loop.wall_ms()));
  // A joiner that did not hear the answer asks again.
  const auto* known = view_.ring().version().find(from);
  if (known == nullptr || known->gone()) {
    if (!request.replaces.is_zero()) {
      auto asking = may_do_without({request.replaces});
      CO_TRY(co_await asking);
    }
    const overlay::NewMember member{request.key, request.zone, request.weight, invite.id};
    auto build = [this, member, dead = request.replaces](const RingVersion& before) -> Result<RingVersion> {
      if (before.change != overlay::RingChange::kNone) {
        return Error{Errc::kOverloaded, "another change of the ring is under way; try again soon"};
      }
      if (dead.is_zero()) return overlay::next_intent_join(before, {&member, 1});
      if (view_.alive(dead)) {
        return Error{Errc::kDenied, "node " + short_text(dead) + ", which shall be replaced, is alive: join without "
                                    "that, and let it go with `starling leave " + short_text(dead) + "`"};
      }
      TRY_ASSIGN(const auto next, overlay::next_intent_replace(before, member, dead));
      TRY_ASSIGN(const auto ring, overlay::Ring::make(next));
      TRY(may_remove(*ring, {dead}));
      if (const auto keeps = overlay::keeps_homes(before, next); !keeps) {
        return Error{Errc::kDenied, keeps.error().text + ": start the new node with the --zone of the dead one, or take "
                                    "that out first, with `starling remove --end-home`"};
      }
      return next;
    };
    auto changing = change(build);
    const auto changed = co_await changing;
    // A rival's round may have decided our value, and told us before our own round could.
    const auto* now_known = view_.ring().version().find(from);
    if (!changed && (now_known == nullptr || now_known->gone())) co_return changed.error();
  }
  JoinReply answer{{overlay::encode(view_.ring().version())}, {}, {keyring_.serialise()}};
  if (seeds) answer.seeds = seeds();
  co_return pack(answer);
}

// Taken back before its answer left, or reached us: the version that it brings does not have us.
Task<Result<JoinReply>> RingService::ask_to_join(NodeId seed, JoinRequest request) {
  auto asking = overlay::call(view_.loop, view_.rpc, seed, Method::kJoin, pack(request),
                              kJoinDeadline);
  CO_TRY_ASSIGN(const Bytes body, co_await asking);
  CO_TRY_ASSIGN(JoinReply answer, unpack<JoinReply>(body));
  CO_TRY_ASSIGN(const RingVersion version, overlay::decode_ring_version(answer.ring.data));
  const auto* self = version.find(view_.self);
  if (self == nullptr || self->gone()) co_return taken_back();
  co_return answer;
}

// Tells a voter that we cover what we shall own.
Task<Status> RingService::tell_installed() {
  const auto voters = view_.ring().voters();
  const NodeId member = voters[view_.random.below(voters.size())];
  auto telling = overlay::call(view_.loop, view_.rpc, member, Method::kRingProgress,
                               pack(RingProgress{view_.ring().number()}), kJoinDeadline);
  CO_TRY_ASSIGN(const Bytes body, co_await telling);
  CO_TRY_ASSIGN(const RingAnswer answer, unpack<RingAnswer>(body));
  CO_TRY_ASSIGN(const RingVersion version, overlay::decode_ring_version(answer.ring.data));
  learn(member, version);
  co_return ok_status();
}

// A join that was taken back leaves no trace of the joiner in the ring, so nobody tells it.
Task<Status> RingService::still_joining() {
  const RingPtr ring = view_.ring_ptr();
  for (const auto& voter : ring->voters()) {
    auto asking = overlay::call(view_.loop, view_.rpc, voter, Method::kStanding, Bytes(), kStandingDeadline);
    const auto body = co_await asking;
    const auto answer = body ? unpack<StandingReply>(*body) : Result<StandingReply>(body.error());
    if (answer && answer->ring > ring->number() && !answer->known) {
      co_return taken_back();
    }
  }
  co_return ok_status();
}

Task<Status> RingService::await_completion() {
  overlay::Timer timer;
  for (int turn = 1;; ++turn) {
    const auto* self = view_.ring().member(view_.self);
    if (self == nullptr) co_return Error{Errc::kDenied, "this node was removed from the ring while it joined"};
    if (self->state != overlay::RingMemberState::kJoining) co_return ok_status();
    if (installed(view_.ring().number())) {
      auto telling = tell_installed();
      (void)co_await telling;
    }
    if (turn % kReportsBeforeAsking == 0) {
      auto asking = still_joining();
      CO_TRY(co_await asking);
    }
    co_await overlay::sleep(view_.loop, kReportEvery, timer);
  }
}

}  // namespace starling::node
