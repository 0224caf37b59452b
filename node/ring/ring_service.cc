#include "node/ring/ring_service.h"

#include <algorithm>

namespace starling::node {

using overlay::Access;
using overlay::Method;
using overlay::Reply;
using overlay::RingVersion;
using overlay::Task;
using storage::Store;

namespace {

constexpr View kRingKey = "ring";
constexpr View kHistoryPrefix = "ring/";
constexpr View kRingInstances = "ring";  // overlay::next_instance
constexpr Duration kAskDeadline = 3s;
constexpr Duration kJoinDeadline = 15s;
constexpr std::int64_t kClockOffsetMaxMs = 5000;  // As overlay::kHlcAheadMax.
constexpr int kChangeTriesMax = 10;

Bytes history_key(RingNumber number) {
  Bytes key(kHistoryPrefix);
  BytesWriter(key).u64be(number.value);
  return key;
}

}  // namespace

RingService::RingService(ClusterView& view, PaxosService& paxos, const Identity& identity)
    : view_(view), paxos_(paxos), identity_(identity), scope_(view.loop) {
  view_.on_newer_ring = [this](const NodeId& peer, RingNumber) { fetch(peer); };
  PaxosService::Kind kind;
  kind.may_vote = [this](const NodeId&, const overlay::PaxosRequest& request) -> Status {
    if (!view_.in_ring()) return Error{Errc::kStaleRing, "this node knows no ring version yet"};
    const auto& now = view_.ring().version();
    if (request.kind == overlay::PaxosKind::kDecided) return ok_status();
    if (request.ring != now.number || request.instance.data != overlay::next_instance(now)) {
      return Error{Errc::kStaleRing, "the ring is at version " + std::to_string(now.number.value)};
    }
    const auto voters = overlay::voters(now);
    if (!std::binary_search(voters.begin(), voters.end(), view_.self)) {
      return Error{Errc::kDenied, "this node does not vote in this ring version"};
    }
    if (request.kind != overlay::PaxosKind::kAccept || !request.value) return ok_status();
    TRY_ASSIGN(const auto next, overlay::decode_ring_version(request.value->data));
    return overlay::follows(now, next);
  };
  kind.known = [](View) -> std::optional<Blob> { return std::nullopt; };
  kind.decided = [this](View, const Blob& value) {
    if (auto version = overlay::decode_ring_version(value.data)) (void)adopt(*version);
  };
  paxos_.add_kind(std::string(kRingInstances), std::move(kind));
  view_.on_ring([this] { prepare(); });
  serve();
}

Result<std::optional<RingVersion>> RingService::load(Store& store) {
  const auto stored = store.get(Store::Family::kNode, kRingKey);
  if (!stored) return std::optional<RingVersion>{};
  TRY_ASSIGN(auto version, overlay::decode_ring_version(*stored));
  return std::optional<RingVersion>{std::move(version)};
}

Status RingService::set(const RingVersion& version) {
  TRY_ASSIGN(auto ring, overlay::Ring::make(version));
  const Bytes encoded = overlay::encode(version);
  view_.store.put(Store::Family::kNode, kRingKey, encoded);
  view_.store.put(Store::Family::kNode, history_key(version.number), encoded);
  if (version.number.value > kRingHistoryMax) {
    view_.store.put(Store::Family::kNode, history_key({version.number.value - kRingHistoryMax}), "");
  }
  view_.store.set_partitions(version.partitions);
  view_.set_ring(std::move(ring));
  view_.log.info("ring version", {{"number", version.number.value},
                                  {"members", version.members.size()},
                                  {"serving", version.serving()}});
  return ok_status();
}

Status RingService::found(const LineageId& lineage, const overlay::RingSettings& settings,
                          const std::string& zone, std::uint32_t weight) {
  TRY_ASSIGN(const auto version,
             overlay::first_version(lineage, {identity_.public_key(), zone, weight}, settings));
  return set(version);
}

Status RingService::adopt(const RingVersion& version) {
  if (view_.in_ring()) {
    const auto& now = view_.ring().version();
    if (version.number <= now.number) return ok_status();
    if (version.lineage != now.lineage) {
      return Error{Errc::kForeign, "a ring version of another lineage; see docs/operations.md"};
    }
    if (version.number.value == now.number.value + 1) TRY(overlay::follows(now, version));
  }
  return set(version);
}

void RingService::serve() {
  view_.rpc.serve(Method::kRingGet, Access::kMembers, [this](const NodeId&, View body, Reply reply) {
    const auto request = unpack<RingGetRequest>(body);
    if (!request) return reply(request.error());
    if (!view_.in_ring()) return reply(Error{Errc::kNotFound, "no ring version is known here"});
    if (request->number.value == 0) return reply(pack(RingAnswer{{overlay::encode(view_.ring().version())}}));
    auto version = remembered(request->number);
    if (!version) return reply(Error{Errc::kNotFound, "this ring version is not known here"});
    reply(pack(RingAnswer{{std::move(*version)}}));
  });
  view_.rpc.on_notice(Method::kRingDecided, [this](const NodeId&, View body) {
    auto answer = unpack<RingAnswer>(body);
    if (!answer) return;
    if (auto version = overlay::decode_ring_version(answer->ring.data)) (void)adopt(*version);
  });
  view_.rpc.serve(Method::kJoin, Access::kJoiners,
                  [this](const NodeId& from, View body, Reply reply) {
    auto request = unpack<JoinRequest>(body);
    if (!request) return reply(request.error());
    scope_.spawn(admit(from, std::move(*request), std::move(reply)));
  });
  view_.rpc.serve(Method::kRingProgress, Access::kMembers,
                  [this](const NodeId&, View body, Reply reply) {
    auto progress = unpack<RingProgress>(body);
    if (!progress) return reply(progress.error());
    if (!view_.in_ring() || progress->ring != view_.ring().number()) {
      return reply(Error{Errc::kStaleRing, "the ring has another version by now"});
    }
    scope_.spawn(complete(std::move(reply)));
  });
  view_.rpc.serve(Method::kInstalled, Access::kMembers, [this](const NodeId&, View body, Reply reply) {
    auto asked = unpack<RingProgress>(body);
    if (!asked) return reply(asked.error());
    if (auto done = installed(asked->ring); !done) return reply(done.error());
    reply(Bytes());
  });
}

// `peer` when it is a member as far as we know, else a member that seems alive.
std::optional<NodeId> RingService::trusted(const NodeId& peer) {
  if (!view_.in_ring()) return std::nullopt;
  std::vector<NodeId> members;
  for (const auto& member : view_.ring().version().members) {
    if (member.gone() || member.id == view_.self) continue;
    if (member.id == peer) return peer;
    if (view_.alive(member.id)) members.push_back(member.id);
  }
  if (members.empty()) return std::nullopt;
  return members[view_.random.below(members.size())];
}

void RingService::fetch(const NodeId& peer) {
  const auto member = trusted(peer);
  if (!member || !fetching_.insert(*member).second) return;
  view_.rpc.call(*member, Method::kRingGet, pack(RingGetRequest{}), kAskDeadline,
                 [this, member = *member](Result<Bytes> body) {
    fetching_.erase(member);
    if (!body) return;
    auto answer = unpack<RingAnswer>(*body);
    if (!answer) return;
    if (auto version = overlay::decode_ring_version(answer->ring.data)) (void)adopt(*version);
  });
}

std::optional<Bytes> RingService::remembered(RingNumber number) {
  auto stored = view_.store.get(Store::Family::kNode, history_key(number));
  if (stored && stored->empty()) return std::nullopt;  // Forgotten.
  return stored;
}

Task<Result<RingVersion>> RingService::recall(RingNumber number) {
  if (const auto stored = remembered(number)) co_return overlay::decode_ring_version(*stored);
  const RingPtr ring = view_.ring_ptr();  // It may be replaced meanwhile.
  for (const auto& member : ring->version().members) {
    if (member.gone() || member.id == view_.self || !view_.alive(member.id)) continue;
    auto asking = overlay::call(view_.loop, view_.rpc, member.id, Method::kRingGet,
                                pack(RingGetRequest{number}), kAskDeadline);
    const auto body = co_await asking;
    const auto answer = body ? unpack<RingAnswer>(*body) : Result<RingAnswer>(body.error());
    if (!answer) continue;
    auto version = overlay::decode_ring_version(answer->ring.data);
    if (!version || version->number != number) continue;
    view_.store.put(Store::Family::kNode, history_key(number), answer->ring.data);
    co_return version;
  }
  co_return Error{Errc::kUnavailable, "no member that answers knows ring version " +
                                          std::to_string(number.value)};
}

Task<Status> RingService::change(Build build) {
  overlay::Timer timer;
  for (int attempt = 0; attempt < kChangeTriesMax; ++attempt) {
    if (!view_.in_ring()) co_return Error{Errc::kUnavailable, "this node is not in a ring yet"};
    const RingVersion before = view_.ring().version();
    CO_TRY_ASSIGN(const RingVersion next, build(before));
    auto proposing = paxos_.propose(overlay::next_instance(before), before.number,
                                    overlay::voters(before), {overlay::encode(next)},
                                    kProposeDeadline);
    auto decision = co_await proposing;
    if (!decision && decision.code() != Errc::kStaleRing) co_return decision.error();
    if (decision) {
      CO_TRY_ASSIGN(const RingVersion decided, overlay::decode_ring_version(decision->data));
      CO_TRY(adopt(decided));
      announce();
      if (decided == next) co_return ok_status();
    }
    co_await overlay::sleep(view_.loop, 50ms + Duration(view_.random.below(100'000'000)), timer);
  }
  co_return Error{Errc::kOverloaded, "others change the ring at the same time; try again"};
}

void RingService::announce() {
  const Bytes body = pack(RingAnswer{{overlay::encode(view_.ring().version())}});
  for (const auto& member : view_.ring().version().members) {
    if (member.id != view_.self && view_.alive(member.id)) {
      view_.rpc.notify(member.id, Method::kRingDecided, body);
    }
  }
}

Task<Done> RingService::admit(NodeId from, JoinRequest request, Reply reply) {
  auto checking = admit_checked(from, std::move(request));
  auto answer = co_await checking;
  if (!answer) view_.log.warn("a node may not join", {{"node", from}, {"cause", answer.error()}});
  reply(std::move(answer));
  co_return Done{};
}

Task<Result<Bytes>> RingService::admit_checked(NodeId from, JoinRequest request) {
  if (!view_.in_ring()) co_return Error{Errc::kUnavailable, "this node is still joining itself"};
  if (fingerprint(request.key) != from) {
    co_return Error{Errc::kUnauthenticated, "the key is not that of the link"};
  }
  CO_TRY_ASSIGN(const Invite invite, parse_invite(request.invite));
  CO_TRY(check_not_expired(invite, view_.loop.wall_ms()));
  if (invite.lineage != view_.ring().version().lineage) {
    co_return Error{Errc::kForeign, "the token is of another cluster"};
  }
  // Compared, not subtracted: the joiner may send any number.
  const std::int64_t now = view_.loop.wall_ms();
  if (request.wall_ms < now - kClockOffsetMaxMs || request.wall_ms > now + kClockOffsetMaxMs) {
    co_return Error{Errc::kClock, "the joiner's clock is at " + std::to_string(request.wall_ms) +
                                      " ms and ours at " + std::to_string(now) +
                                      " ms; set it right (NTP) and join again"};
  }
  // A joiner that did not hear the answer asks again.
  const auto* known = view_.ring().version().find(from);
  if (known == nullptr || known->gone()) {
    const overlay::NewMember member{request.key, request.zone, request.weight, invite.id};
    auto build = [member](const RingVersion& before) -> Result<RingVersion> {
      if (before.change != overlay::RingChange::kNone) {
        return Error{Errc::kOverloaded, "another change of the ring is under way; try again soon"};
      }
      return overlay::next_intent_join(before, {&member, 1});
    };
    auto changing = change(build);
    const auto changed = co_await changing;
    // A rival's round may have decided our value, and told us before our own round could.
    const auto* now_known = view_.ring().version().find(from);
    if (!changed && (now_known == nullptr || now_known->gone())) co_return changed.error();
  }
  JoinReply answer{{overlay::encode(view_.ring().version())}, {}};
  if (seeds) answer.seeds = seeds();
  co_return pack(answer);
}

Task<Result<JoinReply>> RingService::ask_to_join(NodeId seed, JoinRequest request) {
  auto asking = overlay::call(view_.loop, view_.rpc, seed, Method::kJoin, pack(request),
                              kJoinDeadline);
  CO_TRY_ASSIGN(const Bytes body, co_await asking);
  CO_TRY_ASSIGN(JoinReply answer, unpack<JoinReply>(body));
  co_return answer;
}

// The second version of a join. The member that is asked believes the joiner: it cannot gain by lying,
// it would only have to fetch the rest as an owner that catches up.
Task<Done> RingService::complete(Reply reply) {
  const RingNumber number = view_.ring().number();
  auto asking = all_installed(number);
  if (const auto installed = co_await asking; !installed) {
    reply(installed.error());
    co_return Done{};
  }
  auto build = [number](const RingVersion& before) -> Result<RingVersion> {
    if (before.number != number) return Error{Errc::kStaleRing, "the ring has moved on"};
    return overlay::next_complete(before);
  };
  auto changing = change(build);
  const auto done = co_await changing;
  if (done || view_.ring().number() > number) {
    reply(pack(RingAnswer{{overlay::encode(view_.ring().version())}}));
  } else {
    reply(done.error());
  }
  co_return Done{};
}

Status RingService::installed(RingNumber number) const {
  if (!view_.in_ring() || view_.ring().number() != number) {
    return Error{Errc::kStaleRing, "this node is at another ring version"};
  }
  if (installed_ == number || view_.ring().partitions_to_be_of(view_.self).empty()) return ok_status();
  return Error{Errc::kOverloaded, short_text(view_.self) + " still fetches what it shall own"};
}

Task<Status> RingService::all_installed(RingNumber number) {
  const auto ring = view_.ring_ptr();
  for (const auto& member : ring->members()) {
    if (ring->partitions_to_be_of(member.id).empty()) continue;
    if (member.id == view_.self) {
      CO_TRY(installed(number));
    } else if (view_.alive(member.id)) {  // Who is away compares before it serves.
      auto asking = overlay::call(view_.loop, view_.rpc, member.id, Method::kInstalled,
                                  pack(RingProgress{number}), kAskDeadline);
      CO_TRY(co_await asking);
    }
  }
  co_return ok_status();
}

// Who is in the ring may gain partitions by a change, too (hazards F32). A joiner installs by itself.
void RingService::prepare() {
  const auto* self = view_.ring().member(view_.self);
  if (installing_ || !view_.ring().changing() || self == nullptr) return;
  if (self->state == overlay::RingMemberState::kJoining) return;
  if (view_.ring().partitions_to_be_of(view_.self).empty()) return;
  installing_ = true;
  scope_.spawn(install_what_we_gain());
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

Task<Status> RingService::report_installed() {
  overlay::Timer timer;
  installed_ = view_.ring().number();
  for (;;) {
    const RingVersion now = view_.ring().version();
    const auto* self = now.find(view_.self);
    if (self == nullptr || self->gone()) {
      co_return Error{Errc::kDenied, "this node was removed from the ring while it joined"};
    }
    if (self->state != overlay::RingMemberState::kJoining) co_return ok_status();
    const auto voters = overlay::voters(now);
    const auto& member = voters[view_.random.below(voters.size())];
    auto telling = overlay::call(view_.loop, view_.rpc, member, Method::kRingProgress,
                                 pack(RingProgress{now.number}), kJoinDeadline);
    const auto body = co_await telling;
    if (body) {
      if (auto answer = unpack<RingAnswer>(*body)) {
        if (auto version = overlay::decode_ring_version(answer->ring.data)) (void)adopt(*version);
      }
    }
    co_await overlay::sleep(view_.loop, 200ms, timer);
  }
}

}  // namespace starling::node
