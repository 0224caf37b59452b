// The operator's changes of the ring: leave, remove, weight, abort; how far one is; and sessions, which may
// be asked to go without any change of the ring.
#include <algorithm>

#include "node/admin/admin_api.h"
#include "node/admin/names_of.h"
#include "node/node_impl.h"
#include "node/ring/movement.h"
#include "overlay/ring/ring_change.h"

namespace starling::node {

using overlay::Ring;
using overlay::RingVersion;
using overlay::Task;

namespace {

Json moves_json(const Moves& moves) {
  Json nodes = Json::array();
  for (const auto& item : moves.nodes) {
    nodes.push_back({{"node", to_text(item.node)}, {"short", short_text(item.node)},
                     {"now", item.now}, {"next", item.next},
                     {"gains", item.gains}, {"loses", item.loses}});
  }
  return {{"nodes", std::move(nodes)}, {"moved", moves.moved}, {"copies", moves.copies},
          {"homes", {{"moved", moves.homes_moved}, {"end", moves.ends}, {"begin", moves.begins},
                     {"rests", moves.rests}}}};
}

Json movement_json(const MovementReply& reply) {
  return {{"answered", true},          {"ring", reply.ring.value},
          {"installed", reply.installed}, {"missing", reply.missing},
          {"leaving", reply.leaving},  {"names", reply.names},
          {"safe", reply.safe},        {"waits_for", reply.waits_for},
          {"partitions", reply.partitions}, {"partitions_done", reply.partitions_done},
          {"changes", reply.changes},  {"changes_done", reply.changes_done},
          {"bytes", reply.bytes},      {"bytes_left", reply.bytes_left},
          {"rate", reply.rate},        {"split", {{"partitions", reply.partitions_of},
                                                  {"share", std::min(reply.split_share, 100u) / 100.0}}}};
}

}  // namespace

void AdminApi::serve_movement() {
  node_.view_->rpc.serve(overlay::Method::kMovement, overlay::Access::kMembers,
                         [this](const NodeId&, View, overlay::Reply reply) { reply(pack(own_movement())); });
}

MovementReply AdminApi::own_movement() const {
  MovementReply out;
  if (!node_.view_->in_ring()) return out;
  out.ring = node_.view_->ring().number();
  out.installed = !node_.view_->ring().changing() || node_.ring_->installed(out.ring).ok();
  out.missing = node_.catch_up_->missing();
  add_progress(out);
  out.leaving = static_cast<std::uint32_t>(node_.hand_over_->leaving().size());
  out.safe = node_.farewell_->safe();
  if (node_.view_->is_holder()) {
    out.names = static_cast<std::uint32_t>(node_.farewell_->names());
    out.waits_for = node_.farewell_->waits_for();
  } else {
    out.waits_for = out.installed ? "" : node_.catch_up_->install_waits_for();
    if (out.waits_for.empty()) out.waits_for = node_.ring_->waits_for();
    if (!node_.ring_->stuck().empty()) out.waits_for = node_.ring_->stuck();
    out.needs = node_.ring_->who_is_needed();
  }
  out.ring_format = overlay::kRingFormat;
  add_split(out);
  for (const auto& [zone, lag] : node_.replicator_->away().by_site()) {
    if (lag) out.lags.push_back({zone, lag->changes, static_cast<std::uint64_t>(to_ms(lag->age))});
  }
  for (const auto& member : node_.view_->ring().members()) {
    const auto ms = node_.view_->alive(member.id) ? 0 : node_.replicator_->newest_from(member.id);
    if (ms > 0) out.newest.push_back({member.id, ms});
  }
  return out;
}

Json AdminApi::own_movement_json() const { return movement_json(own_movement()); }

// All at once. Who does not answer has the error.
Task<AdminApi::Answers> AdminApi::ask_movement(std::vector<NodeId> nodes) {
  const auto& view = *node_.view_;
  std::map<NodeId, overlay::Future<Result<Bytes>>> calls;
  Answers answers;
  for (const auto& node : nodes) {
    if (node == view.self) {
      answers.emplace(node, own_movement());
    } else {
      calls.emplace(node, overlay::call(view.loop, view.rpc, node, overlay::Method::kMovement, Bytes(),
                                        kMovementDeadline));
    }
  }
  for (auto& [node, call] : calls) {
    const auto body = co_await call;
    answers.emplace(node, body ? unpack<MovementReply>(*body) : Result<MovementReply>(body.error()));
  }
  co_return answers;
}

// A full id, or enough of its beginning.
Result<NodeId> AdminApi::find_node(const std::string& text) const {
  std::string begin = text;
  std::transform(begin.begin(), begin.end(), begin.begin(), [](unsigned char c) { return std::toupper(c); });
  std::optional<NodeId> found;
  for (const auto& member : node_.view_->ring().members()) {
    if (begin.empty() || !to_text(member.id).starts_with(begin)) continue;
    if (found) return Error{Errc::kInvalid, "'" + text + "' fits several nodes: give more of the id"};
    found = member.id;
  }
  if (!found) {
    return Error{Errc::kNotFound, "no node of the ring has an id that begins with '" + text +
                                      "'; `starling ring` lists them"};
  }
  return *found;
}

// `nodes`, or all of a `zone`, or this node. With force a zone means those, too, who left it and died before they had
// handed over their names: they would be waited for.
Result<std::vector<NodeId>> AdminApi::nodes_of(const Json& arguments) const {
  std::vector<NodeId> nodes;
  for (const Json& text : arguments.value("nodes", Json::array())) {
    TRY_ASSIGN(const NodeId node, find_node(text.get<std::string>()));
    if (std::find(nodes.begin(), nodes.end(), node) == nodes.end()) nodes.push_back(node);
  }
  if (const std::string zone = arguments.value("zone", ""); !zone.empty()) {
    for (const auto& member : node_.view_->ring().members()) {
      const bool left = member.state == overlay::RingMemberState::kLeft && arguments.value("force", false) &&
                        !node_.view_->alive(member.id) && !node_.tenures_->is_safe(member.id);
      if (member.zone == zone && (!member.gone() || left)) nodes.push_back(member.id);
    }
    if (nodes.empty()) return Error{Errc::kNotFound, "no member is in zone " + zone + "; `starling ring` lists them"};
  }
  if (nodes.empty()) nodes.push_back(node_.view_->self);
  return nodes;
}

std::set<NodeId> AdminApi::live_members() const {
  std::set<NodeId> live;
  for (const auto& member : node_.view_->ring().members()) {
    if (node_.view_->alive(member.id)) live.insert(member.id);
  }
  return live;
}

// Tells what moves, and unless it is a dry run begins it. What is refused is so in a dry run, too.
Task<Result<Json>> AdminApi::change(Build build, bool dry_run) {
  CO_TRY_ASSIGN(const RingVersion next, build(node_.view_->ring().version()));
  CO_TRY_ASSIGN(const auto ring, Ring::make(next));
  Json answer = moves_json(moves_of(*ring));
  answer["change"] = change_name(next.change);
  answer["dry_run"] = dry_run;
  answer["stake"] = overlay::stake_of(node_.view_->ring().version(), next);
  RingNumber number = node_.view_->ring().number();
  if (!dry_run) {
    auto changing = node_.ring_->change(std::move(build));
    CO_TRY_ASSIGN(number, co_await changing);
  }
  answer["ring"] = number.value;
  co_return answer;
}

// It hands over what it has, so it has to be there.
Task<Result<Json>> AdminApi::leave(Json arguments) {
  CO_TRY_ASSIGN(const auto nodes, nodes_of(arguments));
  const bool force = arguments.value("force", false);
  auto build = [this, nodes, force](const RingVersion& before) -> Result<RingVersion> {
    for (const auto& node : nodes) {
      const auto* member = before.find(node);
      if (node == node_.view_->self || node_.view_->alive(node) || member == nullptr || member->gone()) continue;
      return Error{Errc::kUnavailable, "node " + short_text(node) + " does not answer, so it cannot hand over what it has: "
                                       "start it, or, if it does not come back, take it out with `starling remove " +
                                           short_text(node) + "`"};
    }
    return overlay::next_intent_leave(before, nodes, force);
  };
  auto changing = change(build, arguments.value("dry_run", false));
  co_return co_await changing;
}

// Does one of these know a version that we have not heard of? If the partitions were doubled in it, the two sides number
// what they accept differently from there on.
Status AdminApi::none_ahead(const std::vector<NodeId>& nodes) const {
  const RingNumber ours = node_.view_->ring().number();
  for (const auto& node : nodes) {
    const auto member = node_.membership_->find(node);
    if (!member || member->heartbeat.ring <= ours) continue;
    return Error{Errc::kStaleRing, "node " + short_text(node) + " was at ring version " +
                                       std::to_string(member->heartbeat.ring.value) + ", and this node is at " +
                                       std::to_string(ours.value) + ": if the partitions were doubled meanwhile, what "
                                       "only such nodes accepted cannot come home until they are doubled here, too"};
  }
  return ok_status();
}

Status AdminApi::none_alive(const std::vector<NodeId>& nodes) const {
  for (const auto& node : nodes) {
    if (!node_.view_->alive(node)) continue;
    const auto* member = node_.view_->ring().member(node);
    const bool gone = member != nullptr && member->gone();
    return Error{Errc::kDenied, "node " + short_text(node) +
                                    (gone ? " is alive and hands over what it has: wait until it is safe to power "
                                            "off, or stop it first"
                                          : " is alive: let it go with `starling leave " + short_text(node) +
                                                "`, or stop it first")};
  }
  return ok_status();
}

Task<Result<Json>> AdminApi::remove(Json arguments) {
  CO_TRY_ASSIGN(const auto nodes, nodes_of(arguments));
  auto asking = node_.ring_->may_do_without(nodes);
  const Status spared = co_await asking;
  CO_TRY(none_alive(nodes));
  const bool dry_run = arguments.value("dry_run", false);
  if (arguments.value("force", false)) {
    const auto& ring = node_.view_->ring();
    std::string lost;
    for (const auto& node : nodes) {
      const auto* member = ring.member(node);
      if (member == nullptr || !member->gone()) continue;
      lost += (lost.empty() ? "what was not handed over yet by " : ", ") + short_text(node);
    }
    for (const Status& kept : {spared, may_remove(ring, nodes), none_ahead(nodes)}) {
      if (!kept) lost += (lost.empty() ? "" : "; ") + kept.error().text;
    }
    auto looking = site_loss(nodes);
    const Json site = co_await looking;
    if (dry_run) {
      CO_TRY(node_.ring_->may_force_out(nodes));
      co_return Json{{"dry_run", true}, {"ring", node_.view_->ring().number().value}, {"forced", true},
                     {"lost", lost},    {"site", site}};
    }
    auto forcing = node_.ring_->force_out(nodes, /*revoke=*/false);
    CO_TRY(co_await forcing);
    co_await node_.view_->durable();
    co_return Json{{"ring", node_.view_->ring().number().value},
                   {"lineage", hex(node_.view_->ring().lineage().view())},
                   {"forced", true},
                   {"lost", lost},
                   {"site", site}};
  }
  CO_TRY(spared);
  const bool end_home = arguments.value("end_home", false);
  auto build = [this, nodes, end_home](const RingVersion& before) -> Result<RingVersion> {
    TRY(none_alive(nodes));
    TRY_ASSIGN(const auto next, overlay::next_intent_remove(before, nodes));
    TRY_ASSIGN(const auto ring, Ring::make(next));
    TRY(may_remove(*ring, nodes));
    if (const auto keeps = end_home ? ok_status() : overlay::keeps_homes(before, next); !keeps) {
      return Error{Errc::kDenied, keeps.error().text + ": let a node join there first, or accept it with --end-home"};
    }
    return next;
  };
  auto changing = change(build, dry_run);
  co_return co_await changing;
}

Task<Result<Json>> AdminApi::weight(Json arguments) {
  CO_TRY_ASSIGN(const auto nodes, nodes_of(arguments));
  const std::uint64_t weight = arguments.at("weight").get<std::uint64_t>();
  if (weight < 1 || weight > overlay::kWeightMax) {
    co_return Error{Errc::kInvalid, "a weight is 1 to " + std::to_string(overlay::kWeightMax) +
                                        "; to empty a node use `starling leave`"};
  }
  std::vector<overlay::NewWeight> weights;
  for (const auto& node : nodes) {
    const auto* member = node_.view_->ring().member(node);
    if (member != nullptr && member->weight == weight) {
      co_return Error{Errc::kExists, "node " + short_text(node) + " has weight " + std::to_string(weight) +
                                         " already"};
    }
    weights.push_back({node, static_cast<std::uint32_t>(weight)});
  }
  auto build = [weights](const RingVersion& before) { return overlay::next_intent_weight(before, weights); };
  auto changing = change(build, arguments.value("dry_run", false));
  co_return co_await changing;
}

// To the newest placement rule, which moves less from then on (decisions 0024 and 0033).
Task<Result<Json>> AdminApi::rebalance(Json arguments) {
  auto changing = change(overlay::next_intent_rule, arguments.value("dry_run", false));
  co_return co_await changing;
}

// The change that is under way now, and no other that may come after it.
Task<Result<Json>> AdminApi::abort(Json) {
  const RingVersion open = node_.view_->ring().version();
  auto build = [&open](const RingVersion& before) -> Result<RingVersion> {
    if (before.number == open.number) return overlay::next_abort(before);
    return Error{Errc::kStaleRing, "the " + change_name(open.change) + " that was under way ended meanwhile, and was not taken "
                                   "back by this command; `starling ring --diff` tells whether something else is under way"};
  };
  auto aborting = node_.ring_->change(build);
  CO_TRY_ASSIGN(const RingNumber number, co_await aborting);
  std::vector<NodeId> nodes;
  for (const auto& member : open.members) {
    if (member.in_transit() || member.next_weight != 0) nodes.push_back(member.id);
  }
  co_return Json{{"ring", number.value}, {"change", change_name(open.change)}, {"nodes", short_names(nodes)}};
}

Task<Json> AdminApi::movement_of(NodeId node) {
  const auto& view = *node_.view_;
  Json out{{"answered", false}};
  if (view.alive(node)) {
    auto asking = ask_movement({node});
    const auto answers = co_await asking;
    if (const auto& reply = answers.at(node)) out = movement_json(*reply);
  }
  const auto* member = view.ring().member(node);
  out["node"] = to_text(node);
  out["short"] = short_text(node);
  out["state"] = member != nullptr ? state_name(member->state) : "unknown";
  out["gains"] = view.ring().partitions_to_be_of(node).size();
  co_return out;
}

// Those who gain by the change under way, and those who left and can be reached or are not known to be safe.
Task<Result<Json>> AdminApi::movement(Json arguments) {
  const RingPtr ring = node_.view_->ring_ptr();
  Json nodes = Json::array();
  std::string waits_for;
  for (const auto& member : ring->members()) {
    const bool gains = !ring->partitions_to_be_of(member.id).empty();
    const bool joins = member.state == overlay::RingMemberState::kJoining;
    const bool unsafe = member.state == overlay::RingMemberState::kLeft && !node_.tenures_->is_safe(member.id);
    const bool left = member.gone() && (unsafe || node_.view_->alive(member.id));
    const bool drives = ring->changing() && member.votes() && node_.view_->alive(member.id);
    if (!gains && !joins && !left && !drives) continue;
    auto asking = movement_of(member.id);
    Json one = co_await asking;
    const std::string waits = one.value("waits_for", "");
    if (waits_for.empty() && !left) waits_for = waits;
    if (gains || joins || left) nodes.push_back(std::move(one));
  }
  auto looking = doubling_json();
  Json doubling = co_await looking;
  std::optional<std::string> came;
  if (arguments.contains("of")) {
    auto asking = outcome({arguments.at("of").get<std::uint64_t>()});
    came = co_await asking;
  }
  // Of two versions mixed, a node that just left would be missing, as if it were safe.
  if (node_.view_->ring().number() != ring->number()) {
    auto again = movement(std::move(arguments));
    co_return co_await again;
  }
  // Who drives the change knows who is not done, but not why.
  if (!waits_for.empty() && node_.move_controls_->paused()) waits_for = node_.catch_up_->install_waits_for();
  const auto& version = node_.view_->ring().version();
  Json out{{"ring", version.number.value},
           {"change", change_name(version.change)},
           {"waits_for", version.change == overlay::RingChange::kNone ? "" : waits_for},
           {"controls", controls_json()},
           {"moves", moves_json(moves_of(*ring))},
           {"nodes", std::move(nodes)},
           {"doubling", std::move(doubling)}};
  if (came) out["outcome"] = *came;
  co_return out;
}

// By gossip, for `status` at other nodes.
void AdminApi::tell_draining() {
  overlay::MemberRecord record = node_.membership_->self();
  record.draining = node_.draining_;
  if (auto told = node_.membership_->update_self(record); !told) {
    node_.view_->log.warn("the others are not told", {{"cause", told.error()}});
  }
}

Task<Result<Json>> AdminApi::drain(Json) {
  if (node_.other_gateways().empty()) {
    co_return Error{Errc::kUnavailable, "no other node serves: the sessions of this one have nowhere to go"};
  }
  node_.draining_ = true;
  node_.mind_sessions();
  tell_draining();
  co_return Json{{"sessions", node_.view_->counters.sessions}};
}

Task<Result<Json>> AdminApi::undrain(Json) {
  node_.draining_ = false;
  node_.mind_sessions();
  tell_draining();
  co_return Json{{"sessions", node_.view_->counters.sessions}};
}

}  // namespace starling::node
