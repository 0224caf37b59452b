#include "node/ring/ring_service.h"

#include <algorithm>

#include "crypto/text.h"
#include "node/layout.h"

namespace starling::node {

using overlay::Access;
using overlay::Method;
using overlay::Reply;
using overlay::RingVersion;
using overlay::Task;
using storage::Store;

namespace {

constexpr int kChangeTriesMax = 10;

// Since `before`, and as we would.
bool has_forced_out(const RingVersion& before, const RingVersion& now, const std::vector<NodeId>& nodes, bool revoke) {
  return now.lineage != before.lineage && std::all_of(nodes.begin(), nodes.end(), [&](const NodeId& id) {
    const auto* member = now.find(id);
    return member != nullptr && member->state == overlay::RingMemberState::kRemoved && member->since > before.number &&
           (!revoke || now.is_revoked(id));
  });
}

// Only a skip over forgotten versions leads there.
Error other_partitions(const RingVersion& version, std::uint32_t ours) {
  return {Errc::kUnsupported, "ring version " + std::to_string(version.number.value) + " has " +
                                  std::to_string(version.partitions) + " partitions, and this node " +
                                  std::to_string(ours) + ": it can follow one doubling after the other only; remove it, "
                                  "and join with an empty folder"};
}

}  // namespace

RingService::RingService(ClusterView& view, PaxosService& paxos, const Identity& identity, const Keyring& keyring)
    : view_(view), paxos_(paxos), identity_(identity), keyring_(keyring), scope_(view.loop) {
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
    // What is chosen must be adopted by somebody.
    if (next.partitions != now.partitions && !view_.store.is_split_settled()) {
      return Error{Errc::kOverloaded, "the doubling before this one is not settled"};
    }
    return overlay::succeeds(now, next);
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

// The store first: what it refuses leaves everything as it was, and what is put in this turn, by those who watch the
// ring, too, is durable with its split.
Status RingService::take_partitions(const RingVersion& version) {
  auto& store = view_.store;
  if (!view_.in_ring()) store.set_partitions(version.partitions);
  if (version.partitions == store.partitions()) return ok_status();
  if (version.partitions != 2 * store.partitions()) return other_partitions(version, store.partitions());
  const auto split = store.split();
  if (!split) note_stuck(split.error());  // Members go on to tell of the version, so we try again.
  return split;
}

void RingService::note_stuck(const Error& why) {
  if (std::exchange(stuck_, why.text) == why.text) return;
  view_.log.warn("a newer ring version cannot be followed", {{"cause", why}});
}

Status RingService::set(const RingVersion& version) {
  TRY_ASSIGN(auto ring, overlay::Ring::make(version));
  TRY(take_partitions(version));
  const Bytes encoded = overlay::encode(version);
  view_.store.put(Store::Family::kNode, kRingKey, encoded);
  view_.store.put(Store::Family::kNode, ring_history_key(version.number), encoded);
  // One falls out; after a skip several.
  const std::uint64_t last = view_.in_ring() ? view_.ring().number().value : version.number.value - 1;
  const std::uint64_t oldest = last < kRingHistoryMax ? 1 : last + 1 - kRingHistoryMax;
  for (std::uint64_t n = oldest; n <= last && n + kRingHistoryMax <= version.number.value; ++n) {
    view_.store.put(Store::Family::kNode, ring_history_key({n}), "");
  }
  stuck_.clear();
  stranger_.reset();
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
  if (!view_.in_ring()) return set(version);
  const auto& now = view_.ring().version();
  if (version.number <= now.number) return ok_status();
  if (version.number.value != now.number.value + 1) {
    return Error{Errc::kStaleRing, "ring version " + std::to_string(version.number.value) + " is not the next after " +
                                       std::to_string(now.number.value)};
  }
  TRY(overlay::succeeds(now, version));
  if (version.lineage != now.lineage) {
    view_.log.warn("nodes were forced out of the ring: it goes on under a new lineage",
                   {{"number", version.number.value}});
  }
  return set(version);
}

// From one version to the next partitions become more, never fewer. So one with fewer goes on from before ours were
// doubled, and who does not know of that numbers differently what was accepted since: it cannot be told.
Status RingService::may_lead_to(const RingVersion& version) const {
  const auto& ours = view_.ring().version();
  if (version.number <= ours.number || version.partitions >= ours.partitions) return ok_status();
  return Error{Errc::kForeign, "nodes were forced out of the ring before its partitions were doubled, and it goes on with " +
                                   std::to_string(version.partitions) + ", while node " + short_text(view_.self) +
                                   " has " + std::to_string(ours.partitions) + ": what only it holds cannot come home "
                                   "until they are doubled there, too; keep its folder"};
}

// What a member says was decided.
void RingService::learn(const NodeId& from, const RingVersion& version) {
  if (view_.in_ring()) {
    if (const auto may = may_lead_to(version); !may) return note_stuck(may.error());
  }
  const auto adopted = adopt(version);
  const bool between = !adopted && (adopted.code() == Errc::kStaleRing || adopted.code() == Errc::kForeign);
  if (between) scope_.spawn(walk(from, version.number));
}

void RingService::serve() {
  view_.rpc.serve(Method::kRingGet, Access::kHolders, [this](const NodeId&, View body, Reply reply) {
    const auto request = unpack<RingGetRequest>(body);
    if (!request) return reply(request.error());
    if (!view_.in_ring()) return reply(Error{Errc::kNotFound, "no ring version is known here"});
    if (request->number.value == 0) return reply(pack(RingAnswer{{overlay::encode(view_.ring().version())}}));
    auto version = remembered(request->number);
    if (!version) return reply(Error{Errc::kNotFound, "this ring version is not known here"});
    reply(pack(RingAnswer{{std::move(*version)}}));
  });
  view_.on_notice<RingAnswer>(Method::kRingDecided, [this](const NodeId& from, const RingAnswer& answer) {
    if (!view_.in_ring()) return;
    const auto version = overlay::decode_ring_version(answer.ring.data);
    if (!version) return view_.bad_notice("ring", from, Method::kRingDecided, version.error());
    learn(from, *version);
  });
  serve_joiners();
  serve_progress();
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
  if (!member && view_.in_ring()) note_stranger(peer);
  if (member) stranger_.reset();
  if (!member || !fetching_.insert(*member).second) return;
  view_.rpc.call(*member, Method::kRingGet, pack(RingGetRequest{}), kRingAskDeadline,
                 [this, member = *member](Result<Bytes> body) {
    fetching_.erase(member);
    if (!body) return;
    auto answer = unpack<RingAnswer>(*body);
    if (!answer) return;
    if (auto version = overlay::decode_ring_version(answer->ring.data)) learn(member, *version);
  });
}

// One version after the other, over those that begin a lineage, if ours ends there.
Task<Done> RingService::walk(NodeId peer, RingNumber until) {
  if (std::exchange(walking_, true)) co_return Done{};
  Status walked = ok_status();
  while (walked && view_.ring().number() < until) {
    const RingNumber next{view_.ring().number().value + 1};
    auto asking = recall(next, peer);
    const auto version = co_await asking;
    if (version) {
      walked = adopt(*version);
    } else if (next.value + kRingHistoryMax <= until.value) {
      auto skipping = skip(until);
      walked = co_await skipping;
    } else {
      walked = version.error();
    }
    // It came by another way meanwhile.
    if (!walked && view_.ring().number() >= next) walked = ok_status();
  }
  if (!walked) note_stuck(walked.error());
  walking_ = false;
  co_return Done{};
}

// A majority that is alive may be deciding another version in this moment: of the same number, so a second ring.
Task<Status> RingService::force_out(std::vector<NodeId> nodes, bool revoke) {
  if (is_alone() && view_.loop.now() < born_ + kFindOthersFor) {
    co_return Error{Errc::kUnavailable, "this node has just started and has not found the others: try again in " +
                                            span_text(static_cast<std::uint64_t>(to_ms(kFindOthersFor)))};
  }
  const RingVersion asked = view_.ring().version();
  auto build = [nodes, revoke](const RingVersion& before) -> Result<RingVersion> {
    TRY_ASSIGN(const LineageId lineage, overlay::forced_lineage(before, nodes, revoke));
    return overlay::forced_remove(before, nodes, lineage, revoke);
  };
  if (!has_live_majority_without(nodes)) {
    if (const auto voted = accepted_after(asked)) CO_TRY(set(*voted));
    CO_TRY_ASSIGN(const RingVersion next, build(view_.ring().version()));
    co_return set(next);  // The others hear of it when their links to us come up again.
  }
  auto changing = change([=](const RingVersion& before) -> Result<RingVersion> {
    if (!has_forced_out(asked, before, nodes, revoke)) return build(before);
    return Error{Errc::kExists, "done"};  // Our own value in a rival's round, or the same command at another node.
  });
  const auto changed = co_await changing;
  if (changed || changed.code() == Errc::kExists) co_return ok_status();
  if (changed.code() != Errc::kUnavailable) co_return changed.error();
  co_return Error{Errc::kUnavailable, "a majority of the nodes that vote is alive, and has not decided in time (" +
                                          changed.error().text + "). Stop those that do not answer, or let them come "
                                          "back, and repeat the command; it may be decided yet, so do not start the "
                                          "nodes that are named in it"};
}

// What it gives up does not count: it may be alive, and vote for nothing.
bool RingService::has_live_majority_without(const std::vector<NodeId>& nodes) const {
  const auto& voters = view_.ring().voters();
  const auto there = std::count_if(voters.begin(), voters.end(), [&](const NodeId& voter) {
    const bool given_up = std::find(nodes.begin(), nodes.end(), voter) != nodes.end();
    return !given_up && (voter == view_.self || view_.alive(voter));
  });
  return static_cast<std::size_t>(there) * 2 > voters.size();
}

// We voted for it, so it may be decided: those who know would come back at a version that ours does not follow from.
std::optional<RingVersion> RingService::accepted_after(const RingVersion& now) const {
  const auto stored = view_.store.get(Store::Family::kPaxos, overlay::next_instance(now));
  const auto state = stored ? unpack<overlay::AcceptorState>(*stored) : Result<overlay::AcceptorState>(Error{});
  if (!state || !state->value) return std::nullopt;
  auto version = overlay::decode_ring_version(state->value->data);
  if (!version || !overlay::succeeds(now, *version)) return std::nullopt;
  return std::move(*version);
}

Status RingService::may_force_out(const std::vector<NodeId>& nodes) const {
  const auto lineage = overlay::forced_lineage(view_.ring().version(), nodes, /*revoke=*/false);
  return lineage ? ok_status() : Status(lineage.error());
}

Task<Result<RingNumber>> RingService::change(Build build) {
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
    }
    const auto is_decided = [&] { return known(next.number) == next; };
    // Our value in a rival's round: we hear of it by the version.
    if (!is_decided()) co_await overlay::sleep(view_.loop, 50ms + Duration(view_.random.below(100'000'000)), timer);
    if (!is_decided()) continue;
    // Votes alone would have to be asked for by somebody: a version that was told of is known again after a power cut.
    co_await view_.durable();
    co_return next.number;
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

}  // namespace starling::node
