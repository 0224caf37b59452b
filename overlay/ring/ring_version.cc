#include "overlay/ring/ring_version.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <optional>
#include <set>
#include <utility>

namespace starling::overlay {
namespace {

Error invalid(std::string why) { return {Errc::kInvalid, "ring: " + std::move(why)}; }

struct Head {
  std::uint32_t format = 0;
  FIELDS(format)
};

std::uint8_t majority(std::size_t owners) { return static_cast<std::uint8_t>(owners / 2 + 1); }

bool zone_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '_' || c == '-';
}

// May a member be in that state of transit under the change?
bool belongs(RingMemberState state, RingChange change) {
  switch (state) {
    case RingMemberState::kJoining:
      return change == RingChange::kJoin || change == RingChange::kReplace;
    case RingMemberState::kLeaving: return change == RingChange::kLeave;
    case RingMemberState::kRemoving:
      return change == RingChange::kRemove || change == RingChange::kReplace;
    case RingMemberState::kServing:
    case RingMemberState::kLeft:
    case RingMemberState::kRemoved: break;
  }
  return false;
}

bool in_transit(RingMemberState state) {
  return state == RingMemberState::kJoining || state == RingMemberState::kLeaving ||
         state == RingMemberState::kRemoving;
}

Status check_member(const RingVersion& version, const RingMember& member) {
  const auto who = "member " + short_text(member.id);
  if (member.id != fingerprint(member.key)) return invalid(who + " is not the id of its key");
  if (member.weight < 1 || member.weight > kWeightMax)
    return invalid(who + ": weight not in 1..1000");
  if (member.zone.size() > kZoneSizeMax ||
      !std::all_of(member.zone.begin(), member.zone.end(), zone_character)) {
    return invalid(who + ": a zone is at most 32 letters, digits and . _ -");
  }
  if (member.state < RingMemberState::kServing || member.state > RingMemberState::kRemoved) {
    return invalid(who + ": unknown state");
  }
  if (in_transit(member.state) &&
      (!belongs(member.state, version.change) || member.since != version.number)) {
    return invalid(who + ": its state does not belong to the change");
  }
  if (member.since.value < 1 || member.since > version.number) {
    return invalid(who + ": its state is of a later version");
  }
  if (member.next_weight != 0 &&
      (version.change != RingChange::kWeight || member.state != RingMemberState::kServing ||
       member.next_weight > kWeightMax || member.next_weight == member.weight)) {
    return invalid(who + ": its next weight does not belong to the change");
  }
  return ok_status();
}

Status check_members(const RingVersion& version) {
  const auto& members = version.members;
  if (members.size() > kRingMembersMax) return invalid("over 4096 members");
  std::set<InviteId> invites;
  std::size_t gone = 0;
  std::size_t changing = 0;
  std::size_t staying = 0;
  for (std::size_t i = 0; i < members.size(); ++i) {
    if (i > 0 && !(members[i - 1].id < members[i].id)) return invalid("members are not in order");
    TRY(check_member(version, members[i]));
    if (!invites.insert(members[i].invite).second) return invalid("two members of one invite");
    gone += members[i].gone() ? 1 : 0;
    changing += in_transit(members[i].state) || members[i].next_weight != 0 ? 1 : 0;
    staying += members[i].state == RingMemberState::kServing ? 1 : 0;
  }
  if (gone > kRingGoneMembersMax) return invalid("over 256 members that are gone");
  if (changing > kRingBatchMax) return invalid("over 256 nodes in one change");
  if (staying == 0) return invalid("no member would be left to serve");
  if ((changing == 0) != (version.change == RingChange::kNone)) {
    return invalid("the change and its members disagree");
  }
  return ok_status();
}

Status check_revoked(const RingVersion& version) {
  if (version.format == 1 &&
      (version.rule != PlacementRule::kHashed || !version.revoked.empty())) {
    return invalid("format 1 can say neither a placement rule nor who is revoked");
  }
  if (version.rule != PlacementRule::kHashed && version.rule != PlacementRule::kEven) {
    return Error{Errc::kUnsupported, "ring: placement rule " +
                                         std::to_string(static_cast<int>(version.rule)) +
                                         ": this node is older than the cluster; upgrade it"};
  }
  for (std::size_t i = 0; i < version.revoked.size(); ++i) {
    if (i > 0 && !(version.revoked[i - 1] < version.revoked[i])) {
      return invalid("the revoked are not in order");
    }
    const auto* member = version.find(version.revoked[i]);
    if (member == nullptr || (member->state != RingMemberState::kRemoving &&
                              member->state != RingMemberState::kRemoved)) {
      return invalid(short_text(version.revoked[i]) + " is revoked but not removed");
    }
  }
  return ok_status();
}

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

void take_back(RingVersion& version) {
  std::erase_if(version.members,
                [](const RingMember& member) { return member.state == RingMemberState::kJoining; });
  for (auto& member : version.members) {
    if (in_transit(member.state)) set_state(version, member, RingMemberState::kServing);
    member.next_weight = 0;
  }
  std::erase_if(version.revoked, [&](const NodeId& id) { return !version.find(id)->gone(); });
  version.change = RingChange::kNone;
}

// Owners changed: W follows unless it was set.
void settle(RingVersion& version) {
  forget_oldest_gone(version);
  if (!version.synced_set) version.synced = majority(version.owner_count());
}

RingVersion successor(const RingVersion& before) {
  RingVersion after = before;
  ++after.number.value;
  after.previous_lineage = before.lineage;
  return after;
}

Result<RingVersion> begin_change(const RingVersion& before, RingChange change, std::size_t nodes) {
  if (before.change != RingChange::kNone) {
    return invalid("another change is under way: wait until it completes, or abort it");
  }
  if (nodes == 0) return invalid("a change names at least one node");
  if (nodes > kRingBatchMax) return invalid("a change names at most 256 nodes: use several");
  RingVersion after = successor(before);
  after.change = change;
  return after;
}

// A member that serves, to be changed.
Result<RingMember*> serving_member(RingVersion& version, const NodeId& id) {
  auto* member = const_cast<RingMember*>(version.find(id));
  if (member == nullptr || member->gone()) {
    return Error{Errc::kNotFound, "ring: " + short_text(id) + " is no member"};
  }
  if (member->state != RingMemberState::kServing || member->next_weight != 0) {
    return invalid(short_text(id) + " is named twice");
  }
  return member;
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

// Builds the change that `after` claims to be, from `before`.
Result<RingVersion> rebuild(const RingVersion& before, const RingVersion& after) {
  std::vector<NewMember> joining;
  std::vector<NewWeight> weights;
  std::vector<NodeId> going;
  for (const auto& member : after.members) {
    if (member.state == RingMemberState::kJoining) {
      joining.push_back({member.key, member.zone, member.weight, member.invite});
    } else if (member.next_weight != 0) {
      weights.push_back({member.id, member.next_weight});
    } else if (in_transit(member.state)) {
      going.push_back(member.id);
    }
  }
  switch (after.change) {
    case RingChange::kJoin: return next_intent_join(before, joining);
    case RingChange::kLeave: return next_intent_leave(before, going, /*force=*/true);
    case RingChange::kRemove:
      return after.revoked == before.revoked ? next_intent_remove(before, going)
                                             : next_intent_revoke(before, going);
    case RingChange::kWeight: return next_intent_weight(before, weights);
    case RingChange::kReplace:
      if (joining.size() != 1 || going.size() != 1) return invalid("one node replaces one");
      return next_intent_replace(before, joining.front(), going.front());
    case RingChange::kNone: break;
  }
  return invalid("a version without a change follows one with a change only");
}

}  // namespace

const RingMember* RingVersion::find(const NodeId& id) const {
  const auto at = std::lower_bound(members.begin(), members.end(), id,
                                   [](const RingMember& m, const NodeId& i) { return m.id < i; });
  return at != members.end() && at->id == id ? &*at : nullptr;
}

bool RingVersion::is_revoked(const NodeId& id) const {
  return std::binary_search(revoked.begin(), revoked.end(), id);
}

std::size_t RingVersion::serving() const {
  return static_cast<std::size_t>(
      std::count_if(members.begin(), members.end(), [](const RingMember& m) { return m.owns(); }));
}

std::size_t RingVersion::owner_count() const { return std::min<std::size_t>(copies, serving()); }

std::size_t RingVersion::needed() const { return std::min<std::size_t>(synced, owner_count()); }

Status validate(const RingVersion& version) {
  if (version.format < 1 || version.format > kRingFormat) return invalid("unknown format");
  if (version.number.value < 1 || version.number.value > kRingNumberMax) {
    return invalid("number out of range");
  }
  if (version.lineage.is_zero()) return invalid("no lineage");
  if (version.previous_lineage.is_zero() != (version.number.value == 1)) {
    return invalid("the previous lineage does not fit the number");
  }
  if (version.copies < 1 || version.copies > kCopiesMax) return invalid("copies not in 1..7");
  if (version.synced < 1 || version.synced > version.copies) {
    return invalid("synced copies not in 1..copies");
  }
  if (version.partitions > kPartitionsMax || !std::has_single_bit(version.partitions)) {
    return invalid("partitions are not a power of two in 1..65536");
  }
  if (version.change > RingChange::kReplace) return invalid("unknown change");
  TRY(check_members(version));
  TRY(check_revoked(version));
  if (!version.synced_set && version.synced != majority(version.owner_count())) {
    return invalid("synced copies are neither set nor the majority of the owners");
  }
  return ok_status();
}

Bytes encode(const RingVersion& version) { return pack(version); }

Result<RingVersion> decode_ring_version(View bytes) {
  // First the format alone: a later one may have other fields.
  TRY_ASSIGN(const auto head, unpack<Head>(bytes));
  if (head.format > kRingFormat) {
    return Error{Errc::kUnsupported, "ring version of format " + std::to_string(head.format) +
                                         ": this node is older than the cluster; upgrade it"};
  }
  TRY_ASSIGN(auto version, unpack<RingVersion>(bytes));
  if (auto valid = validate(version); !valid) {
    const bool newer = valid.code() == Errc::kUnsupported;
    return Error{newer ? Errc::kUnsupported : Errc::kCorrupt, valid.error().text};
  }
  return version;
}

std::vector<NodeId> voters(const RingVersion& version) {
  std::vector<NodeId> out;
  for (const auto& member : version.members) {
    if (member.votes()) out.push_back(member.id);
  }
  return out;
}

Bytes next_instance(const RingVersion& version) {
  Bytes out = "ring";
  BytesWriter writer(out);
  writer.raw(version.lineage.view());
  writer.u64be(version.number.value + 1);
  return out;
}

Result<RingVersion> first_version(const LineageId& lineage, const NewMember& self,
                                  const RingSettings& settings) {
  RingVersion version;
  version.number.value = 1;
  version.lineage = lineage;
  version.copies = settings.copies;
  version.synced_set = settings.synced != 0;
  version.synced = settings.synced;
  version.partitions = settings.partitions;
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
    if (node.invite.is_zero()) return invalid("a node joins by an invite");
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
    return invalid("only " + std::to_string(left) + " nodes would be left for " +
                   std::to_string(before.copies) +
                   " copies: add a node first, or use --force to keep fewer copies");
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
  after.format = kRingFormat;
  after.revoked.insert(after.revoked.end(), nodes.begin(), nodes.end());
  std::sort(after.revoked.begin(), after.revoked.end());
  return checked(std::move(after));
}

Result<RingVersion> next_intent_replace(const RingVersion& before, const NewMember& node,
                                        const NodeId& dead) {
  TRY_ASSIGN(auto after, next_intent_join(before, {&node, 1}));
  TRY_ASSIGN(auto* member, serving_member(after, dead));
  set_state(after, *member, RingMemberState::kRemoving);
  after.change = RingChange::kReplace;
  after.format = kRingFormat;
  return checked(std::move(after));
}

Result<RingVersion> next_intent_weight(const RingVersion& before,
                                       std::span<const NewWeight> nodes) {
  TRY_ASSIGN(auto after, begin_change(before, RingChange::kWeight, nodes.size()));
  for (const auto& node : nodes) {
    TRY_ASSIGN(auto* member, serving_member(after, node.id));
    if (node.weight == 0) return invalid("a weight is 1..1000; use leave to empty a node");
    member->next_weight = node.weight;
  }
  return checked(std::move(after));
}

Result<RingVersion> next_complete(const RingVersion& before) {
  if (before.change == RingChange::kNone) return invalid("no change is under way");
  RingVersion after = successor(before);
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

Result<RingVersion> next_abort(const RingVersion& before) {
  if (before.change == RingChange::kNone) return invalid("no change is under way");
  RingVersion after = successor(before);
  take_back(after);
  return checked(std::move(after));
}

Result<RingVersion> forced_remove(const RingVersion& before, std::span<const NodeId> nodes,
                                  const LineageId& new_lineage) {
  if (nodes.empty()) return invalid("a removal names at least one node");
  if (new_lineage == before.lineage) return invalid("a forced removal needs a lineage of its own");
  RingVersion after = successor(before);
  after.lineage = new_lineage;
  take_back(after);
  for (const auto& id : nodes) {
    TRY_ASSIGN(auto* member, serving_member(after, id));
    set_state(after, *member, RingMemberState::kRemoved);
  }
  settle(after);
  return checked(std::move(after));
}

Status follows(const RingVersion& before, const RingVersion& after) {
  TRY(validate(after));
  if (before.change == RingChange::kNone) {
    TRY_ASSIGN(const auto rebuilt, rebuild(before, after));
    if (rebuilt == after) return ok_status();
  } else {
    const auto completed = next_complete(before);
    const auto aborted = next_abort(before);
    if ((completed && *completed == after) || (aborted && *aborted == after)) return ok_status();
  }
  return invalid("version " + std::to_string(after.number.value) + " is no step from version " +
                 std::to_string(before.number.value));
}

}  // namespace starling::overlay
