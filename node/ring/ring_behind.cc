// Far behind: the versions that follow ours are kept by nobody any more, so they cannot be walked (decision 0042).
//
// Within one lineage a number is one version. So the oldest that is still kept is taken from those who were members
// with us: all that answer in our lineage must say the same, and with us they must be a majority of those of them who
// are members still. From there we walk. Over the beginning of a lineage nothing tells whether ours ended in it.
// Where everybody whom we knew has left or been replaced, nobody tells us of a version: who holds the secret of the
// cluster and is no member that we know may be an invited stranger, and after a rotation of keys nobody does. Only an
// operator can tell that from a network that is down: the status says what to do in either case.
#include <algorithm>

#include "node/ring/ring_service.h"

namespace starling::node {

using overlay::Method;
using overlay::RingVersion;
using overlay::Task;

namespace {

// We skip to so much behind the oldest that is kept, which may be forgotten before all have answered.
constexpr std::uint64_t kRingHistoryEdge = 16;
// After a start, and after a stranger came, until those that are there have been found.
constexpr Duration kAloneAfter = 20s;
constexpr View kJoinAnew = ": stop it, remove it from the ring at another node (starling remove), and join as a new "
                           "node with an empty folder";

}  // namespace

Task<Status> RingService::skip(RingNumber until) {
  const RingNumber target{until.value - kRingHistoryMax + kRingHistoryEdge};
  const RingPtr ours = view_.ring_ptr();
  std::map<NodeId, overlay::Future<Result<Bytes>>> calls;
  for (const auto& member : ours->version().members) {
    if (!member.votes() || member.id == view_.self || !view_.alive(member.id)) continue;
    calls.emplace(member.id, overlay::call(view_.loop, view_.rpc, member.id, Method::kRingGet,
                                           pack(RingGetRequest{target}), kRingAskDeadline));
  }
  std::optional<RingVersion> found, foreign;
  std::set<NodeId> vouch;
  for (auto& [node, call] : calls) {
    const auto body = co_await call;
    const auto answer = body ? unpack<RingAnswer>(*body) : Result<RingAnswer>(body.error());
    auto version = answer ? overlay::decode_ring_version(answer->ring.data) : Result<RingVersion>(answer.error());
    if (!version || version->number != target) continue;
    // In another lineage the number is another version: who says so is forced out of ours, or we out of that.
    if (version->lineage != ours->version().lineage) {
      foreign = std::move(*version);
      continue;
    }
    if (found && *found != *version) {
      co_return Error{Errc::kCorrupt, "the members that node " + short_text(view_.self) + " knows do not say the same "
                                          "of ring version " + std::to_string(target.value)};
    }
    if (!found) found = std::move(*version);
    vouch.insert(node);
  }
  if (view_.ring().number() != ours->number()) co_return ok_status();
  if (!found && foreign) co_return may_skip_to(*foreign, vouch);
  if (!found) {
    co_return Error{Errc::kUnavailable, "no member that node " + short_text(view_.self) + " knows answers and has ring "
                                            "version " + std::to_string(target.value) + ", and those from " +
                                            std::to_string(ours->number().value + 1) + " on are kept no more"};
  }
  CO_TRY(may_skip_to(*found, vouch));
  view_.log.warn("ring versions that nobody keeps any more are skipped",
                 {{"from", ours->number().value}, {"to", target.value}, {"members", vouch.size()}});
  co_return set(*found);
}

Status RingService::may_skip_to(const RingVersion& version, const std::set<NodeId>& vouch) const {
  const auto& ours = view_.ring().version();
  const std::string who = "node " + short_text(view_.self);
  if (version.lineage != ours.lineage) {
    return Error{Errc::kForeign, "nodes were forced out of the ring while " + who + " was away, and so long ago that "
                                     "nobody can tell whether it goes on from the version known here" +
                                     std::string(kJoinAnew)};
  }
  if (version.find(view_.self) == nullptr) {
    return Error{Errc::kDenied, who + " left the ring, and so long ago that it is forgotten: what it holds can go"};
  }
  std::size_t still = 0, there = 0;
  for (const auto& member : ours.members) {
    const auto* then = version.find(member.id);
    if (!member.votes() || member.id == view_.self || then == nullptr || then->gone()) continue;
    ++still;
    there += vouch.contains(member.id) ? 1 : 0;
  }
  if (still == 0) {
    return Error{Errc::kDenied, "of those who were members of the ring with " + who + " nobody is left" +
                                    std::string(kJoinAnew)};
  }
  // With ourselves, a majority.
  if (there * 2 >= still) return ok_status();
  return Error{Errc::kUnavailable, "of the " + std::to_string(still) + " other members that " + who + " knows only " +
                                       std::to_string(there) + " answer: start them again, or" +
                                       std::string(kJoinAnew).substr(1)};
}

// There are others, and none of them is there.
bool RingService::is_alone() const {
  if (!view_.in_ring()) return false;
  std::size_t others = 0, there = 0;
  for (const auto& member : view_.ring().version().members) {
    if (member.id == view_.self || member.gone()) continue;
    ++others;
    there += view_.alive(member.id) ? 1 : 0;
  }
  return others > 0 && there == 0;
}

void RingService::note_stranger(const NodeId& peer) {
  if (!stranger_) stranger_ = {peer, view_.loop.now(), false};
  if (view_.loop.now() < stranger_->since + kAloneAfter) return;
  const std::string why = lonely();
  if (why.empty() || std::exchange(stranger_->told, true)) return;
  view_.log.warn("a newer ring version cannot be followed", {{"cause", why}});
}

std::string RingService::lonely() const {
  const Instant now = view_.loop.now();
  if (!is_alone() || now < born_ + kAloneAfter) return "";
  const bool stranger = stranger_ && now >= stranger_->since + kAloneAfter;
  return "none of the nodes that node " + short_text(view_.self) + " knows answers" +
         (stranger ? ", and node " + short_text(stranger_->id) + ", which it does not know, is at a newer ring version"
                   : std::string()) +
         ": start one of them, or mend the network; if all of them left or were replaced while this one was away," +
         std::string(kJoinAnew).substr(1) + ": what only this one holds is lost then";
}

std::string RingService::stuck() const { return stuck_.empty() ? lonely() : stuck_; }

}  // namespace starling::node
