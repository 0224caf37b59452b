// Twice the partitions (docs/decisions/0025): who would not follow, what it costs each node, and how far they are.
#include <algorithm>
#include <limits>
#include <utility>

#include "node/admin/admin_api.h"
#include "node/admin/metrics.h"
#include "node/admin/names_of.h"
#include "node/node_impl.h"
#include "overlay/ring/ring_change.h"

namespace starling::node {

using overlay::Ring;
using overlay::RingVersion;
using overlay::Task;

namespace {

// About half of the log moves; the rest of what is stored stays where it is.
std::uint64_t moved_bytes(const MovementReply& reply) { return reply.store_bytes / 2; }

bool is_settled(const MovementReply& reply, std::uint32_t partitions) {
  return reply.partitions_of == partitions && reply.split_share >= 100;
}

std::string mib(std::uint64_t bytes) { return std::to_string((bytes >> 20) + 1) + " MiB"; }

Result<RingVersion> doubled_to(const RingVersion& before, std::uint64_t to) {
  TRY_ASSIGN(auto after, overlay::next_doubled(before));
  if (after.partitions == to) return after;
  return Error{Errc::kInvalid, "there are " + std::to_string(before.partitions) + " partitions: a doubling makes " +
                                   std::to_string(after.partitions) + " of them, not " + std::to_string(to)};
}

}  // namespace

void AdminApi::add_split(MovementReply& reply) const {
  const auto& store = *node_.store_;
  reply.partitions_of = store.partitions();
  // The walk may be through while its last rows are on their way.
  const auto walked = static_cast<std::uint32_t>(100 * node_.settling_->share());
  reply.split_share = store.is_split_settled() ? 100 : std::min(walked, 99u);
  if (reply.waits_for.empty()) reply.waits_for = node_.settling_->waits_for();
  reply.damaged = store.damaged_partitions().size();
  reply.store_bytes = store.disk_use().file_bytes;
  reply.room_bytes = std::numeric_limits<std::uint64_t>::max();
  if (!node_.leaves_.free_space) return;
  const std::uint64_t left = node_.leaves_.free_space();
  reply.room_bytes = left - std::min(left, node_.config_.free_space_min);
}

void AdminApi::collect_split(MetricSink& sink) const {
  MovementReply own;
  add_split(own);
  sink.gauge("starling_partitions", "Partitions that the store of this node is split into", own.partitions_of);
  sink.gauge("starling_split_share", "Share of what a doubling of the partitions moves here that is in its place",
             own.split_share / 100.0);
}

// Of a member that answered. Each says what to do.
Status AdminApi::may_follow(const overlay::RingMember& member, const MovementReply& reply) const {
  const auto& ring = node_.view_->ring();
  const std::string node = "node " + short_text(member.id);
  const auto later = [&](const std::string& why) { return Error{Errc::kUnavailable, node + " " + why}; };
  if (member.gone()) {
    if (reply.safe) return ok_status();
    return later("left, and still hands over what it has: wait until `starling ring --diff` says that it is safe to "
                 "power off");
  }
  TRY(reads(member.id, reply, overlay::kRingFormatDoubled, "the doubling of partitions"));
  if (reply.partitions_of != ring.partitions() || reply.ring != ring.number()) {
    return later("has not come to ring version " + std::to_string(ring.number().value) + " yet" +
                 (reply.waits_for.empty() ? ": a moment later again" : ", because " + reply.waits_for));
  }
  if (reply.split_share < 100) {
    return later("has settled " + std::to_string(reply.split_share) + " % of the doubling before: wait until it has, "
                 "`starling ring --diff` tells how far it is");
  }
  if (node_.view_->behind(member.id)) {
    return later("catches up, or has no disk space: wait until `starling status` counts it as serving");
  }
  if (reply.leaving > 0) {
    return later("still hands " + std::to_string(reply.leaving) + " partitions over to their new owners: wait until "
                 "it has");
  }
  if (reply.damaged > 0) {
    return Error{Errc::kDenied, node + " cannot read all of " + std::to_string(reply.damaged) + " partitions: mend "
                                       "that first with `starling repair` there"};
  }
  if (reply.room_bytes < moved_bytes(reply)) {
    return Error{Errc::kFull, node + " would write up to " + mib(moved_bytes(reply)) + ", and has room for " +
                                  mib(reply.room_bytes) + ": make room on its disk first"};
  }
  return ok_status();
}

// All members that are not gone, and those gone that answer. The first that is in the way, and how many more are.
Status AdminApi::may_follow(const Answers& answers) const {
  std::vector<Error> in_the_way;
  for (const auto& member : node_.view_->ring().members()) {
    const std::string node = "node " + short_text(member.id);
    const auto answer = answers.find(member.id);
    Status may = ok_status();
    if (answer != answers.end() && answer->second) {
      may = may_follow(member, *answer->second);
    } else if (!member.gone() && answer == answers.end()) {
      may = Error{Errc::kUnavailable, node + " is down: start it, or take it out with `starling remove " +
                                          short_text(member.id) + "`. One that is too old to follow would be left behind"};
    } else if (!member.gone()) {
      may = Error{Errc::kUnavailable, node + " is alive and does not answer (" + answer->second.error().text +
                                          "): try again, or look at its log"};
    }
    if (!may) in_the_way.push_back(may.error());
  }
  if (in_the_way.empty()) return ok_status();
  const std::size_t more = in_the_way.size() - 1;
  const std::string others = more == 0   ? ""
                             : more == 1 ? ". One more node is not ready either"
                                         : ". " + std::to_string(more) + " more nodes are not ready either";
  return Error{in_the_way[0].code, in_the_way[0].text + others};
}

Json AdminApi::plan_json(const Answers& answers, std::uint32_t to) const {
  const auto& ring = node_.view_->ring();
  Json nodes = Json::array();
  for (const auto& [node, reply] : answers) {
    const auto* member = ring.member(node);
    if (member == nullptr || member->gone() || !reply) continue;
    const auto owned = ring.partitions_of(node).size();
    nodes.push_back({{"node", to_text(node)}, {"short", short_text(node)}, {"now", owned}, {"next", 2 * owned},
                     {"bytes", moved_bytes(*reply)}, {"room", reply->room_bytes}});
  }
  return {{"partitions", ring.partitions()}, {"to", to}, {"units", ring.version().placed()}, {"nodes", std::move(nodes)}};
}

// `to` has to be said unless it is a dry run: whoever asks again after a timeout must not double twice.
Task<Result<Json>> AdminApi::double_partitions(Json arguments) {
  const RingPtr ring = node_.view_->ring_ptr();
  const std::uint32_t now = ring->partitions();
  const bool dry_run = arguments.value("dry_run", false);
  const std::uint64_t to = dry_run && !arguments.contains("to") ? 2 * std::uint64_t{now}
                                                                : arguments.at("to").get<std::uint64_t>();
  if (to == now && ring->version().placed() < now) {
    co_return Json{{"ring", ring->number().value}, {"partitions", now}, {"to", now}, {"already", true},
                   {"dry_run", dry_run},           {"nodes", Json::array()}};
  }
  auto build = [to](const RingVersion& before) { return doubled_to(before, to); };
  CO_TRY(build(ring->version()));
  std::vector<NodeId> members;
  for (const auto& member : ring->members()) {
    if (node_.view_->alive(member.id)) members.push_back(member.id);
  }
  auto asking = ask_movement(std::move(members));
  const auto answers = co_await asking;
  CO_TRY(may_follow(answers));
  Json answer = plan_json(answers, static_cast<std::uint32_t>(to));
  answer["already"] = false;
  answer["dry_run"] = dry_run;
  if (!dry_run) {
    auto changing = node_.ring_->change(build);
    const auto changed = co_await changing;
    // Decided all the same, by whichever try.
    if (!changed && node_.view_->ring().partitions() != to) co_return changed.error();
  }
  answer["ring"] = node_.view_->ring().number().value;
  co_return answer;
}

// Nobody is asked in a cluster that was never doubled.
Task<Json> AdminApi::doubling_json() {
  const RingPtr ring = node_.view_->ring_ptr();
  Json settling = Json::array();
  std::vector<NodeId> alive;
  std::size_t nodes = 0;
  for (const auto& member : ring->members()) {
    if (member.gone()) continue;
    ++nodes;
    if (node_.view_->alive(member.id)) alive.push_back(member.id);
  }
  const bool doubled = ring->version().placed() < ring->partitions();
  if (!doubled) alive.clear();
  auto asking = ask_movement(std::move(alive));
  const auto answers = co_await asking;
  for (const auto& member : ring->members()) {
    const auto answer = answers.find(member.id);
    const bool answered = answer != answers.end() && answer->second.ok();
    if (!doubled || member.gone() || (answered && is_settled(*answer->second, ring->partitions()))) continue;
    Json one{{"node", to_text(member.id)}, {"short", short_text(member.id)}, {"answered", answered}};
    if (answered) {
      const bool followed = answer->second->partitions_of == ring->partitions();
      one["partitions"] = answer->second->partitions_of;
      one["share"] = followed ? std::min(answer->second->split_share, 100u) / 100.0 : 0.0;
      one["waits_for"] = answer->second->waits_for;
    }
    settling.push_back(std::move(one));
  }
  co_return Json{{"partitions", ring->partitions()},
                 {"units", ring->version().placed()},
                 {"nodes", nodes},
                 {"settling", std::move(settling)}};
}

}  // namespace starling::node
