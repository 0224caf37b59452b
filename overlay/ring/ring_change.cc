#include "overlay/ring/ring_change.h"

#include <algorithm>
#include <set>
#include <utility>

#include "crypto/hash.h"

namespace starling::overlay {
namespace {

Result<RingVersion> checked(RingVersion version) {
  TRY(validate(version));
  return version;
}

// The oldest of those that are gone make room.
void forget_oldest_gone(RingVersion& version) {
  std::vector<std::pair<RingNumber, NodeId>> gone;
  for (const auto& member : version.members) {
    if (member.gone()) gone.emplace_back(member.since, member.id);
  }
  if (gone.size() <= kRingGoneMembersMax) return;
  std::sort(gone.begin(), gone.end());
  const auto first_kept = gone[gone.size() - kRingGoneMembersMax];
  std::erase_if(version.members, [&](const RingMember& member) {
    return member.gone() && std::pair(member.since, member.id) < first_kept;
  });
  std::erase_if(version.revoked, [&](const NodeId& id) { return version.find(id) == nullptr; });
}

void set_state(RingVersion& version, RingMember& member, RingMemberState state) {
  member.state = state;
  member.since = version.number;
}

// Who was being revoked is out: its word does not come back.
void take_back(RingVersion& version) {
  std::erase_if(version.members,
                [](const RingMember& member) { return member.state == RingMemberState::kJoining; });
  for (auto& member : version.members) {
    if (member.in_transit()) {
      const bool revoked = version.is_revoked(member.id);
      set_state(version, member, revoked ? RingMemberState::kRemoved : RingMemberState::kServing);
    }
    member.next_weight = 0;
  }
  version.next_sites = {};
  version.change = RingChange::kNone;
}

// Owners changed: W follows unless it was set.
void settle(RingVersion& version) {
  forget_oldest_gone(version);
  if (!version.synced_set) version.synced = version.majority();
}

RingVersion successor(const RingVersion& before) {
  RingVersion after = before;
  ++after.number.value;
  after.previous_lineage = before.lineage;
  return after;
}

Result<RingVersion> begin_change(const RingVersion& before, RingChange change, std::size_t nodes) {
  if (before.change != RingChange::kNone) {
    return Error{Errc::kOverloaded, "ring: another change is under way: wait until it completes, or abort it"};
  }
  if (nodes == 0) return bad_ring("a change names at least one node");
  if (nodes > kRingBatchMax) return bad_ring("a change names at most 256 nodes: use several");
  RingVersion after = successor(before);
  after.change = change;
  return after;
}

// Can the members of `version` keep the policy, and does each site hold the copies that it asks of it?
Status keeps(const SitePolicy& policy, const RingVersion& version) {
  RingVersion then = version;
  then.sites = policy;
  const Sites sites = then.site_counts();
  if (sites.homes.empty()) {
    return bad_ring("no zone has the " + std::to_string(policy.home) +
                   " nodes that a home takes: nodes get their zone when they join (--zone), "
                   "`starling ring` shows it");
  }
  if (!policy.only.empty() && sites.homes.front().zone != policy.only) {
    return bad_ring("zone " + policy.only + " has not the " + std::to_string(policy.home) +
                   " nodes that a home takes: let nodes join there first (--zone " + policy.only +
                   "), or name fewer home copies");
  }
  if (sites.away < policy.away) {
    return bad_ring("only " + std::to_string(sites.away) + " of the " + std::to_string(policy.away) +
                   " away copies would have a node outside of each home site: let nodes join in "
                   "another zone first, or name fewer");
  }
  return ok_status();
}

RingMember* find(RingVersion& version, const NodeId& id) {
  return const_cast<RingMember*>(version.find(id));
}

// A member that serves, to be changed.
Result<RingMember*> serving_member(RingVersion& version, const NodeId& id) {
  auto* member = find(version, id);
  if (member == nullptr || member->gone()) {
    return Error{Errc::kNotFound, "ring: " + short_text(id) + " is no member"};
  }
  if (member->state != RingMemberState::kServing || member->next_weight != 0) {
    return bad_ring(short_text(id) + " is named twice");
  }
  return member;
}

void add_revoked(RingVersion& version, std::span<const NodeId> nodes) {
  version.format = std::max(version.format, kRingFormatFirst);
  std::set<NodeId> all(version.revoked.begin(), version.revoked.end());
  all.insert(nodes.begin(), nodes.end());
  version.revoked.assign(all.begin(), all.end());
}

std::string so_many(std::size_t n, const char* one, const char* more) {
  return std::to_string(n) + " " + (n == 1 ? one : more);
}

bool invite_used(const RingVersion& version, const InviteId& invite) {
  return std::any_of(version.members.begin(), version.members.end(),
                     [&](const RingMember& member) { return member.invite == invite; });
}

void insert_sorted(std::vector<RingMember>& members, RingMember member) {
  const auto at = std::lower_bound(members.begin(), members.end(), member.id,
                                   [](const RingMember& m, const NodeId& id) { return m.id < id; });
  members.insert(at, std::move(member));
}

}  // namespace

Result<RingVersion> first_version(const LineageId& lineage, const NewMember& self,
                                  const RingSettings& settings) {
  RingVersion version;
  version.number.value = 1;
  version.lineage = lineage;
  version.copies = settings.copies;
  version.synced_set = settings.synced != 0;
  version.synced = settings.synced;
  version.partitions = settings.partitions;
  if (settings.sites.on()) {
    version.format = kRingFormatSites;
    version.sites = settings.sites;
    version.copies = settings.sites.copies();
  }
  version.members.push_back({fingerprint(self.key), self.key, self.zone, self.weight, 0,
                             RingMemberState::kServing, version.number, self.invite});
  settle(version);
  return checked(std::move(version));
}

Result<RingVersion> next_intent_join(const RingVersion& before, std::span<const NewMember> nodes) {
  TRY_ASSIGN(auto after, begin_change(before, RingChange::kJoin, nodes.size()));
  for (const auto& node : nodes) {
    const NodeId id = fingerprint(node.key);
    if (const auto* known = after.find(id)) {
      return Error{Errc::kExists, known->gone()
                                      ? "ring: " + short_text(id) +
                                            " has left: wipe it, then it joins as a new node"
                                      : "ring: " + short_text(id) + " is a member already"};
    }
    if (node.invite.is_zero()) return bad_ring("a node joins by an invite");
    if (invite_used(after, node.invite)) {
      return Error{Errc::kDenied,
                   "the invite was used already; make another with `starling invite`"};
    }
    insert_sorted(after.members, {id, node.key, node.zone, node.weight, 0,
                                  RingMemberState::kJoining, after.number, node.invite});
  }
  return checked(std::move(after));
}

Result<RingVersion> next_intent_leave(const RingVersion& before, std::span<const NodeId> nodes,
                                      bool force) {
  TRY_ASSIGN(auto after, begin_change(before, RingChange::kLeave, nodes.size()));
  for (const auto& id : nodes) {
    TRY_ASSIGN(auto* member, serving_member(after, id));
    set_state(after, *member, RingMemberState::kLeaving);
  }
  const std::size_t left = before.serving() - nodes.size();
  if (left < before.copies && !force) {
    const std::string stake = stake_of(before, after);
    return bad_ring("only " + so_many(left, "node", "nodes") + " would be left for " + so_many(before.copies, "copy", "copies") +
                    (stake.empty() ? "" : ". At stake: " + stake) + ". Add a node first, or accept it with --force");
  }
  if (const auto keeps = force ? ok_status() : keeps_homes(before, after); !keeps) {
    return Error{keeps.code(), keeps.error().text + ": add a node there first, or use --force"};
  }
  return checked(std::move(after));
}

Result<RingVersion> next_intent_remove(const RingVersion& before, std::span<const NodeId> nodes) {
  TRY_ASSIGN(auto after, begin_change(before, RingChange::kRemove, nodes.size()));
  for (const auto& id : nodes) {
    TRY_ASSIGN(auto* member, serving_member(after, id));
    set_state(after, *member, RingMemberState::kRemoving);
  }
  return checked(std::move(after));
}

Result<RingVersion> next_intent_revoke(const RingVersion& before, std::span<const NodeId> nodes) {
  TRY_ASSIGN(auto after, next_intent_remove(before, nodes));
  add_revoked(after, nodes);
  return checked(std::move(after));
}

Result<RingVersion> next_revoke_gone(const RingVersion& before, std::span<const NodeId> nodes) {
  TRY_ASSIGN(auto after, begin_change(before, RingChange::kNone, nodes.size()));
  for (const auto& id : nodes) {
    auto* member = find(after, id);
    if (member == nullptr || !member->gone()) {
      return Error{Errc::kNotFound,
                   "ring: " + short_text(id) + " is not among those that are gone"};
    }
    // Since when it is removed stays: that tells whether it was forced out.
    const bool left = member->state == RingMemberState::kLeft;
    if (left) set_state(after, *member, RingMemberState::kRemoved);
  }
  add_revoked(after, nodes);
  return checked(std::move(after));
}

Result<RingVersion> next_intent_replace(const RingVersion& before, const NewMember& node,
                                        const NodeId& dead) {
  TRY_ASSIGN(auto after, next_intent_join(before, {&node, 1}));
  TRY_ASSIGN(auto* member, serving_member(after, dead));
  set_state(after, *member, RingMemberState::kRemoving);
  after.change = RingChange::kReplace;
  after.format = std::max(after.format, kRingFormatFirst);
  return checked(std::move(after));
}

Result<RingVersion> next_intent_weight(const RingVersion& before,
                                       std::span<const NewWeight> nodes) {
  TRY_ASSIGN(auto after, begin_change(before, RingChange::kWeight, nodes.size()));
  for (const auto& node : nodes) {
    TRY_ASSIGN(auto* member, serving_member(after, node.id));
    if (node.weight == 0) return bad_ring("a weight is 1..1000; use leave to empty a node");
    member->next_weight = node.weight;
  }
  return checked(std::move(after));
}

Result<RingVersion> next_intent_rule(const RingVersion& before) {
  if (before.rule != PlacementRule::kHashed) {
    return Error{Errc::kExists, "ring: the newest placement rule is in force already"};
  }
  TRY_ASSIGN(auto after, begin_change(before, RingChange::kRule, 1));
  after.format = std::max(after.format, kRingFormatRule);
  return checked(std::move(after));
}

Result<RingVersion> next_doubled(const RingVersion& before) {
  TRY_ASSIGN(auto after, begin_change(before, RingChange::kNone, 1));
  if (before.partitions >= kPartitionsMax) return bad_ring("there are 65536 partitions, the most there can be");
  after.format = std::max(after.format, kRingFormatDoubled);
  after.units = before.placed();
  after.partitions = before.partitions * 2;
  return checked(std::move(after));
}

Result<RingVersion> next_intent_sites(const RingVersion& before, const SitePolicy& policy) {
  if (policy == before.sites) {
    return Error{Errc::kExists, policy.on() ? "ring: this policy of sites is in force already"
                                            : "ring: no policy of sites is in force"};
  }
  TRY_ASSIGN(auto after, begin_change(before, RingChange::kSites, 1));
  after.format = std::max(after.format, kRingFormatSites);
  after.next_sites = policy;
  if (policy.on()) TRY(keeps(policy, after));
  return checked(std::move(after));
}

Status keeps_homes(const RingVersion& before, const RingVersion& intent) {
  TRY_ASSIGN(const auto then, next_complete(intent));
  const Sites now = before.site_counts();
  const Sites next = then.site_counts();
  for (const auto& site : now.homes) {
    const bool stays = std::any_of(next.homes.begin(), next.homes.end(),
                                   [&](const auto& other) { return other.zone == site.zone; });
    if (stays) continue;
    return bad_ring("zone " + site.zone + " would have fewer than the " +
                   std::to_string(before.sites.home) + " nodes that a home takes, so " +
                   (next.homes.empty() ? "no site would be left that is one, and every owner would count"
                                       : "all it is home of would move to another site"));
  }
  if (!next.homes.empty() && next.away < now.away) {
    return bad_ring("only " + std::to_string(next.away) + " of " + std::to_string(now.away) +
                   " away copies would have a node in another site");
  }
  return ok_status();
}

Result<RingVersion> next_complete(const RingVersion& before) {
  if (before.change == RingChange::kNone) return bad_ring("no change is under way");
  RingVersion after = successor(before);
  after.rule = before.next_rule();
  after.copies = before.next_copies();
  after.sites = before.next_policy();
  after.next_sites = {};
  after.change = RingChange::kNone;
  for (auto& member : after.members) {
    if (member.next_weight != 0) member.weight = std::exchange(member.next_weight, 0);
    switch (member.state) {
      case RingMemberState::kJoining: set_state(after, member, RingMemberState::kServing); break;
      case RingMemberState::kLeaving: set_state(after, member, RingMemberState::kLeft); break;
      case RingMemberState::kRemoving: set_state(after, member, RingMemberState::kRemoved); break;
      case RingMemberState::kServing:
      case RingMemberState::kLeft:
      case RingMemberState::kRemoved: break;
    }
  }
  settle(after);
  return checked(std::move(after));
}

bool fulfilled(const RingVersion& intent, const RingVersion& after) {
  if (intent.change == RingChange::kNone) return true;
  const bool forced = after.lineage != intent.lineage;  // Nothing was copied for it.
  const auto then = next_complete(intent);
  if (!then || after.rule != then->rule || after.sites != then->sites || after.copies != then->copies) return false;
  return std::all_of(intent.members.begin(), intent.members.end(), [&](const RingMember& member) {
    if (!member.in_transit() && member.next_weight == 0) return true;
    const RingMember* wanted = then->find(member.id);
    const RingMember* is = after.find(member.id);
    if (wanted == nullptr || is == nullptr) return wanted == is;  // Those gone longest are forgotten.
    return is->state == wanted->state && is->weight == wanted->weight && (!forced || intent.is_revoked(member.id));
  });
}

std::string stake_of(const RingVersion& before, const RingVersion& intent) {
  const auto after = next_complete(intent);
  if (!after || after->owner_count() >= before.owner_count()) return "";
  const std::size_t home = after->site_counts().home, needed = after->needed(), down = home - needed + 1;
  return so_many(after->owner_count(), "copy", "copies") + " of each message instead of " + std::to_string(before.owner_count()) +
         ", nobody can send while " + std::to_string(down) + " of " + std::to_string(home) + " owners " +
         (down == 1 ? "is" : "are") + " down, and the loss of " + so_many(needed, "disk", "disks") + " loses messages";
}

Result<RingVersion> next_abort(const RingVersion& before) {
  if (before.change == RingChange::kNone) return bad_ring("no change is under way");
  for (const auto& member : before.members) {
    if (!member.in_transit() || !before.is_revoked(member.id)) continue;
    return Error{Errc::kDenied, "ring: " + short_text(member.id) +
                                    " is being revoked, which is not taken back. `starling ring "
                                    "--diff` tells what that waits for; `starling revoke --force` "
                                    "waits for nothing"};
  }
  RingVersion after = successor(before);
  take_back(after);
  return checked(std::move(after));
}

Result<RingVersion> forced_remove(const RingVersion& before, std::span<const NodeId> nodes,
                                  const LineageId& new_lineage, bool revoke) {
  if (nodes.empty()) return bad_ring("a removal names at least one node");
  if (new_lineage == before.lineage) return bad_ring("a forced removal needs a lineage of its own");
  RingVersion after = successor(before);
  after.lineage = new_lineage;
  take_back(after);
  for (const auto& id : nodes) {
    auto* member = find(after, id);
    if (member == nullptr) {
      return Error{Errc::kNotFound, "ring: " + short_text(id) + " is no member, nor was it one"};
    }
    set_state(after, *member, RingMemberState::kRemoved);
  }
  if (revoke) add_revoked(after, nodes);
  settle(after);
  return checked(std::move(after));
}

Result<LineageId> forced_lineage(const RingVersion& before, std::span<const NodeId> nodes, bool revoke) {
  std::vector<NodeId> sorted(nodes.begin(), nodes.end());
  std::sort(sorted.begin(), sorted.end());
  LineageId any = before.lineage;
  any.raw[0] ^= 1;
  TRY_ASSIGN(RingVersion after, forced_remove(before, sorted, any, revoke));
  after.lineage = {};
  return blake2b_id<LineageId>({"starling forced removal", encode(after)});
}

}  // namespace starling::overlay
