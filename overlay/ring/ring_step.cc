// Which version is a step from which: `after` is built anew from what it claims to be, and has to come out the same.
#include <algorithm>
#include <iterator>
#include <utility>

#include "overlay/ring/ring_change.h"

namespace starling::overlay {
namespace {

// Those that `after` revokes.
std::vector<NodeId> newly_revoked(const RingVersion& before, const RingVersion& after) {
  std::vector<NodeId> out;
  std::set_difference(after.revoked.begin(), after.revoked.end(), before.revoked.begin(),
                      before.revoked.end(), std::back_inserter(out));
  return out;
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
    } else if (member.in_transit()) {
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
      if (joining.size() != 1 || going.size() != 1) return bad_ring("one node replaces one");
      return next_intent_replace(before, joining.front(), going.front());
    case RingChange::kRule: return next_intent_rule(before);
    case RingChange::kSites: return next_intent_sites(before, after.next_sites);
    case RingChange::kNone: break;
  }
  const auto revoked = newly_revoked(before, after);
  if (!revoked.empty()) return next_revoke_gone(before, revoked);
  if (after.partitions != before.partitions) return next_doubled(before);
  return bad_ring("a version without a change follows one with a change only");
}

}  // namespace

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
  return bad_ring("version " + std::to_string(after.number.value) + " is no step from version " +
                 std::to_string(before.number.value));
}

Status succeeds(const RingVersion& before, const RingVersion& after) {
  if (after.lineage == before.lineage) return follows(before, after);
  std::vector<NodeId> forced;
  for (const auto& member : after.members) {
    const bool now = member.since == after.number;
    if (now && member.state == RingMemberState::kRemoved) forced.push_back(member.id);
  }
  const bool revokes = !newly_revoked(before, after).empty();
  const auto rebuilt = forced_remove(before, forced, after.lineage, revokes);
  if (rebuilt && *rebuilt == after) return ok_status();
  return Error{Errc::kForeign, "ring: version " + std::to_string(after.number.value) +
                                   " of another lineage is no forced removal from version " +
                                   std::to_string(before.number.value) +
                                   " of ours; see docs/operations.md"};
}

}  // namespace starling::overlay
