// The policy of sites: what it is, how it is changed, and what the loss of a site comes to.
#include <algorithm>
#include <map>
#include <set>

#include "node/admin/admin_api.h"
#include "node/admin/metrics.h"
#include "node/admin/names_of.h"
#include "node/node_impl.h"
#include "overlay/ring/ring_change.h"

namespace starling::node {

using overlay::RingVersion;
using overlay::Task;

namespace {

Json policy_json(const overlay::SitePolicy& policy) {
  return {{"home", policy.home}, {"away", policy.away}, {"only", policy.only}};
}

Result<std::uint8_t> copies_of(const Json& arguments, const char* name) {
  const auto number = arguments.at(name).get<std::int64_t>();
  if (number >= 1 && number < overlay::kCopiesMax) return static_cast<std::uint8_t>(number);
  return Error{Errc::kInvalid, std::string(name) + " copies are 1 to 6, and 7 with the others at most"};
}

}  // namespace

// Also in `status`: what is to be, and what it comes to with the members at hand.
Json AdminApi::sites_json() const {
  const auto& ring = node_.view_->ring();
  const auto& version = ring.version();
  std::map<std::string, Json> zones;
  for (const auto& member : version.members) {
    if (!member.owns() || member.zone.empty()) continue;
    Json& zone = zones.try_emplace(member.zone, Json{{"zone", member.zone}, {"nodes", 0}, {"home_of", 0}}).first->second;
    zone["nodes"] = zone["nodes"].get<int>() + 1;
  }
  for (std::uint32_t p = 0; ring.by_site() && p < ring.partitions(); ++p) {
    const auto* home = ring.member(ring.home(PartitionId{static_cast<std::uint16_t>(p)}).front());
    Json& zone = zones[home->zone];
    zone["home_of"] = zone["home_of"].get<int>() + 1;
  }
  Json list = Json::array();
  for (auto& [name, zone] : zones) list.push_back(std::move(zone));
  return {{"policy", policy_json(version.sites)},
          {"in_force", ring.by_site()},
          {"home_copies", ring.home_copies()},
          {"away_copies", ring.copies() - ring.home_copies()},
          {"zones", std::move(list)}};
}

// What every member that answers accepted at home, and has not come to a site yet. Null: one of them does not know.
Task<Json> AdminApi::site_lags() {
  const auto& view = *node_.view_;
  const RingPtr ring = view.ring_ptr();
  std::vector<NodeId> asked, silent;
  std::set<std::string> sites_there;
  for (const auto& member : ring->members()) {
    if (member.owns() && ring->by_site()) sites_there.insert(member.zone);
    if (!member.owns() && member.id != view.self) continue;
    (view.alive(member.id) ? asked : silent).push_back(member.id);
  }
  std::map<std::string, MovementReply::Lag> sites;
  std::set<std::string> unknown;
  const auto add = [&](const NodeId& node, const MovementReply& reply) {
    std::set<std::string> known;
    for (const auto& lag : reply.lags) {
      auto& site = sites[lag.zone];
      site.changes += lag.changes;
      site.ms = std::max(site.ms, lag.ms);
      known.insert(lag.zone);
    }
    const auto* member = ring->member(node);
    if (member == nullptr || !member->owns()) return;
    for (const auto& zone : sites_there) {
      if (zone != member->zone && !known.contains(zone)) unknown.insert(zone);
    }
  };
  auto asking = ask_movement(std::move(asked));
  const auto answers = co_await asking;
  for (const auto& [node, reply] : answers) {
    if (reply) add(node, *reply);
    if (!reply) silent.push_back(node);
  }
  Json zones = Json::object();
  for (const auto& [zone, lag] : sites) zones[zone] = {{"changes", lag.changes}, {"ms", lag.ms}};
  for (const auto& zone : unknown) zones[zone] = {{"changes", nullptr}, {"ms", nullptr}};
  co_return Json{{"zones", std::move(zones)}, {"silent", short_names(silent)}};
}

void AdminApi::collect_sites(MetricSink& sink) const {
  for (const auto& [zone, lag] : node_.replicator_->away().by_site()) {
    if (!lag) continue;  // Not known yet.
    sink.gauge("starling_site_behind_changes", "Changes accepted at home here that have not come to another site yet",
               static_cast<double>(lag->changes), {{"site", zone}});
    sink.gauge("starling_site_behind_seconds", "For so long something of those has not come there",
               std::chrono::duration<double>(lag->age).count(), {{"site", zone}});
  }
}

// A node that cannot read the new format would be left behind.
Status AdminApi::reads(const NodeId& node, const MovementReply& reply, std::uint32_t format, const std::string& what) {
  if (reply.ring_format >= format) return ok_status();
  return Error{Errc::kUnsupported, "node " + short_text(node) + " is older than " + what + " and would not follow: "
                                   "upgrade it first"};
}

// Without `home`, `away` or `off` it only tells.
Task<Result<Json>> AdminApi::sites(Json arguments) {
  const bool off = arguments.value("off", false);
  if (!off && !arguments.contains("home")) {
    auto asking = site_lags();
    Json lags = co_await asking;
    Json told = sites_json();
    for (Json& zone : told["zones"]) {
      const auto lag = lags["zones"].find(zone.at("zone").get<std::string>());
      if (lag != lags["zones"].end()) zone["behind"] = *lag;
    }
    told["silent"] = std::move(lags["silent"]);
    co_return told;
  }
  overlay::SitePolicy policy;
  if (!off) {
    CO_TRY_ASSIGN(policy.home, copies_of(arguments, "home"));
    CO_TRY_ASSIGN(policy.away, copies_of(arguments, "away"));
    policy.only = arguments.value("only", "");
  }
  std::vector<NodeId> members;
  for (const auto& member : node_.view_->ring().members()) {
    if (!member.gone() && node_.view_->alive(member.id)) members.push_back(member.id);
  }
  auto asking = ask_movement(std::move(members));
  const auto answers = co_await asking;
  for (const auto& [node, reply] : answers) {
    if (!reply) co_return reply.error();
    CO_TRY(reads(node, *reply, overlay::kRingFormatSites, "policies of sites"));
  }
  auto build = [policy](const RingVersion& before) { return overlay::next_intent_sites(before, policy); };
  auto changing = change(build, arguments.value("dry_run", false));
  co_return co_await changing;
}

// Before these nodes are forced out: of how many partitions the home is lost, who takes over, and how far they are.
Task<Json> AdminApi::site_loss(std::vector<NodeId> nodes) {
  const RingPtr ring = node_.view_->ring_ptr();
  const auto goes = [&](const NodeId& node) { return std::find(nodes.begin(), nodes.end(), node) != nodes.end(); };
  std::uint64_t taken_over = 0;
  for (std::uint32_t i = 0; ring->by_site() && i < ring->partitions(); ++i) {
    const PartitionId partition{static_cast<std::uint16_t>(i)};
    const auto home = ring->home(partition);
    const auto owners = ring->owners(partition);
    if (std::all_of(home.begin(), home.end(), goes) && !std::all_of(owners.begin(), owners.end(), goes)) ++taken_over;
  }
  std::uint64_t newest = 0;
  const auto note = [&](const MovementReply& reply) {
    for (const auto& item : reply.newest) newest = std::max(newest, goes(item.node) ? item.ms : 0);
  };
  std::vector<NodeId> asked{node_.view_->self};
  for (const auto& member : ring->members()) {
    const bool other = !member.gone() && !goes(member.id) && member.id != node_.view_->self;
    if (taken_over > 0 && other && node_.view_->alive(member.id)) asked.push_back(member.id);
  }
  auto asking = ask_movement(std::move(asked));
  const auto answers = co_await asking;
  for (const auto& [node, reply] : answers) {
    if (reply) note(*reply);
  }
  co_return Json{{"taken_over", taken_over}, {"newest_ms", newest}};
}

}  // namespace starling::node
