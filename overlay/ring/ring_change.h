// RingChange: every step that the ring may take from one version to the next, and the rule that
// tells such a step from anything else.
//
// A change takes two versions: the first, next_intent_...(), states the intent while the owners
// stay as they are; the second, next_complete() or next_abort(), makes it effective or takes it
// back. One change at a time; a batch of nodes is one change. Three steps move nothing at first and
// stand alone: next_revoke_gone(), next_doubled(), and forced_remove(), which begins a lineage and
// which one node makes alone where no majority is left.
// Invariants: (1) succeeds(before, after) holds for every pair that is decided or adopted, so no node
//                 needs to trust the proposer of a version;
//             (2) no step gives the word back to who was revoked, or to an id that is gone.
// Thread: any; pure.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "overlay/ring/ring_version.h"

namespace starling::overlay {

struct RingSettings {
  std::uint8_t copies = 3;
  std::uint8_t synced = 0;  // 0: majority of the owners.
  std::uint32_t partitions = 4096;
  SitePolicy sites;  // Off: none. It rests until there are nodes enough.
};
struct NewMember {
  PublicKey key;
  std::string zone;
  std::uint32_t weight = kWeightDefault;
  InviteId invite;
};
struct NewWeight {
  NodeId id;
  std::uint32_t weight = kWeightDefault;
};

// Each builds the version after `before`. kInvalid or kExists says why it may not be; kDenied, that
// an invite admitted another node already, or that nothing takes this back.
Result<RingVersion> first_version(const LineageId& lineage, const NewMember& self,
                                  const RingSettings& settings);
Result<RingVersion> next_intent_join(const RingVersion& before, std::span<const NewMember> nodes);
// `force` lets the cluster shrink below N copies, and a site below what makes it a home.
Result<RingVersion> next_intent_leave(const RingVersion& before, std::span<const NodeId> nodes,
                                      bool force);
// Where it leaves fewer copies: how many, and which failures stop sends or lose messages then. Else empty.
// REQUIRES: `intent` follows `before`.
std::string stake_of(const RingVersion& before, const RingVersion& intent);
Result<RingVersion> next_intent_remove(const RingVersion& before, std::span<const NodeId> nodes);
// A removal of members that are not to be believed any more, whatever they hold.
Result<RingVersion> next_intent_revoke(const RingVersion& before, std::span<const NodeId> nodes);
// Of nodes that left or were removed: nothing moves, so it is complete at once.
Result<RingVersion> next_revoke_gone(const RingVersion& before, std::span<const NodeId> nodes);
Result<RingVersion> next_intent_replace(const RingVersion& before, const NewMember& node,
                                        const NodeId& dead);
Result<RingVersion> next_intent_weight(const RingVersion& before, std::span<const NewWeight> nodes);
// From placement rule kHashed to kEven. kExists when that is in force.
Result<RingVersion> next_intent_rule(const RingVersion& before);
// Twice the partitions: p becomes 2p and 2p + 1, which have its owners. Units stay, so nothing moves, and it is
// complete at once. kInvalid at the most there can be.
Result<RingVersion> next_doubled(const RingVersion& before);
// Another policy of sites; off ends the present one. kExists when that is in force; kInvalid when the
// nodes at hand cannot keep it.
Result<RingVersion> next_intent_sites(const RingVersion& before, const SitePolicy& policy);
// When `intent`, the version after `before`, is complete: is every home site still one, and has every
// away copy a node? kInvalid says what ends; that may be meant.
Status keeps_homes(const RingVersion& before, const RingVersion& intent);
Result<RingVersion> next_complete(const RingVersion& before);
// Is all in force that `intent` said, in `after`, the version behind it? Not when it was taken back, by an abort or because
// nodes were forced out; a revocation is not taken back.
bool fulfilled(const RingVersion& intent, const RingVersion& after);
// Not of a revocation: its nodes would be believed again.
Result<RingVersion> next_abort(const RingVersion& before);

// `remove --force`: complete at once, and under a new lineage. An open change is taken
// back, but for what it revokes. What only the removed nodes held is given up. Nodes that are gone
// may be named: then nobody waits for what they hold any more. `revoke`: they are not believed
// any more.
Result<RingVersion> forced_remove(const RingVersion& before, std::span<const NodeId> nodes,
                                  const LineageId& new_lineage, bool revoke = false);
// Its lineage: a digest of what it becomes. Whoever does the same to the same version makes the same version.
Result<LineageId> forced_lineage(const RingVersion& before, std::span<const NodeId> nodes, bool revoke);

// Ok when `after` is what one of the functions above (except forced_remove) makes of `before`.
Status follows(const RingVersion& before, const RingVersion& after);
// The same, or `after` begins a lineage by what forced_remove makes of `before`: kForeign when not. An
// acceptor asks before it accepts, a learner before it adopts.
Status succeeds(const RingVersion& before, const RingVersion& after);

}  // namespace starling::overlay
