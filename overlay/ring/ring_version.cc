#include "overlay/ring/ring_version.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <set>
#include <utility>

namespace starling::overlay {
namespace {

struct Head {
  std::uint32_t format = 0;
  FIELDS(format)
};

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

Status check_member(const RingVersion& version, const RingMember& member) {
  const auto who = "member " + short_text(member.id);
  if (member.id != fingerprint(member.key)) return bad_ring(who + " is not the id of its key");
  if (member.weight < 1 || member.weight > kWeightMax)
    return bad_ring(who + ": weight not in 1..1000");
  if (member.zone.size() > kZoneSizeMax ||
      !std::all_of(member.zone.begin(), member.zone.end(), zone_character)) {
    return bad_ring(who + ": a zone is at most 32 letters, digits and . _ -");
  }
  if (member.state < RingMemberState::kServing || member.state > RingMemberState::kRemoved) {
    return bad_ring(who + ": unknown state");
  }
  if (member.in_transit() &&
      (!belongs(member.state, version.change) || member.since != version.number)) {
    return bad_ring(who + ": its state does not belong to the change");
  }
  if (member.since.value < 1 || member.since > version.number) {
    return bad_ring(who + ": its state is of a later version");
  }
  if (member.next_weight != 0 &&
      (version.change != RingChange::kWeight || member.state != RingMemberState::kServing ||
       member.next_weight > kWeightMax || member.next_weight == member.weight)) {
    return bad_ring(who + ": its next weight does not belong to the change");
  }
  return ok_status();
}

Status check_members(const RingVersion& version) {
  const auto& members = version.members;
  if (members.size() > kRingMembersMax) return bad_ring("over 4096 members");
  std::set<InviteId> invites;
  std::size_t gone = 0;
  std::size_t changing = 0;
  std::size_t staying = 0;
  for (std::size_t i = 0; i < members.size(); ++i) {
    if (i > 0 && !(members[i - 1].id < members[i].id)) return bad_ring("members are not in order");
    TRY(check_member(version, members[i]));
    if (!invites.insert(members[i].invite).second) return bad_ring("two members of one invite");
    gone += members[i].gone() ? 1 : 0;
    changing += members[i].in_transit() || members[i].next_weight != 0 ? 1 : 0;
    staying += members[i].state == RingMemberState::kServing ? 1 : 0;
  }
  if (gone > kRingGoneMembersMax) return bad_ring("over 256 members that are gone");
  if (changing > kRingBatchMax) return bad_ring("over 256 nodes in one change");
  if (staying == 0) return bad_ring("no member would be left to serve");
  const bool of_members =
      version.change != RingChange::kNone && version.change != RingChange::kRule &&
      version.change != RingChange::kSites;
  if ((changing > 0) != of_members) {
    return bad_ring("the change and its members disagree");
  }
  return ok_status();
}

Status check_rule(const RingVersion& version) {
  if (version.rule != PlacementRule::kHashed && version.rule != PlacementRule::kEven) {
    return Error{Errc::kUnsupported, "ring: placement rule " +
                                         std::to_string(static_cast<int>(version.rule)) +
                                         ": this node is older than the cluster; upgrade it"};
  }
  if (version.format == 1 &&
      (version.rule != PlacementRule::kHashed || !version.revoked.empty())) {
    return bad_ring("format 1 can say neither a placement rule nor who is revoked");
  }
  if (version.change == RingChange::kRule &&
      (version.format < 3 || version.rule != PlacementRule::kHashed)) {
    return bad_ring("only format 3 changes the placement rule, from 1 to 2");
  }
  return ok_status();
}

// The counts, the name, and that W lies at home.
Status check_policy(const RingVersion& version, const SitePolicy& policy) {
  if (!policy.on()) {
    return policy == SitePolicy{} ? ok_status() : bad_ring("a policy of sites without home copies");
  }
  if (policy.away < 1 || policy.copies() > kCopiesMax) {
    return bad_ring("a policy of sites has 1 copy at home and 1 away at least, and 7 in all at most");
  }
  if (policy.only.size() > kZoneSizeMax ||
      !std::all_of(policy.only.begin(), policy.only.end(), zone_character)) {
    return bad_ring("a site is a zone: at most 32 letters, digits and . _ -");
  }
  if (version.synced_set && version.synced > policy.home) {
    return bad_ring("an acknowledgement takes " + std::to_string(version.synced) +
                   " copies on disk, as was set when the cluster was founded: name at least as many "
                   "home copies");
  }
  return ok_status();
}

Status check_sites(const RingVersion& version) {
  const bool says = version.sites.on() || version.next_sites.on() ||
                    version.change == RingChange::kSites;
  if (says && version.format < 4) return bad_ring("only format 4 can say a policy of sites");
  TRY(check_policy(version, version.sites));
  TRY(check_policy(version, version.next_sites));
  if (version.sites.on() && version.copies != version.sites.copies()) {
    return bad_ring("the copies are not those of the policy of sites");
  }
  const bool changes = version.change == RingChange::kSites;
  if (changes ? version.next_sites == version.sites : version.next_sites != SitePolicy{}) {
    return bad_ring("the change and the next policy of sites disagree");
  }
  return ok_status();
}

Status check_revoked(const RingVersion& version) {
  for (std::size_t i = 0; i < version.revoked.size(); ++i) {
    if (i > 0 && !(version.revoked[i - 1] < version.revoked[i])) {
      return bad_ring("the revoked are not in order");
    }
    const auto* member = version.find(version.revoked[i]);
    if (member == nullptr || (member->state != RingMemberState::kRemoving &&
                              member->state != RingMemberState::kRemoved)) {
      return bad_ring(short_text(version.revoked[i]) + " is revoked but not removed");
    }
  }
  return ok_status();
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

Sites RingVersion::site_counts() const {
  std::vector<SiteNode> nodes;
  for (const auto& member : members) {
    if (member.owns()) nodes.push_back({member.zone, member.weight});
  }
  return sites_of(sites, copies, nodes);
}

std::size_t RingVersion::needed() const {
  return std::min<std::size_t>(synced, site_counts().home);
}

Status validate(const RingVersion& version) {
  if (version.format < 1 || version.format > kRingFormat) return bad_ring("unknown format");
  if (version.number.value < 1 || version.number.value > kRingNumberMax) {
    return bad_ring("number out of range");
  }
  if (version.lineage.is_zero()) return bad_ring("no lineage");
  if (version.previous_lineage.is_zero() != (version.number.value == 1)) {
    return bad_ring("the previous lineage does not fit the number");
  }
  if (version.copies < 1 || version.copies > kCopiesMax) return bad_ring("copies not in 1..7");
  if (version.synced < 1 || version.synced > version.copies) {
    return bad_ring("synced copies not in 1..copies");
  }
  if (version.partitions > kPartitionsMax || !std::has_single_bit(version.partitions)) {
    return bad_ring("partitions are not a power of two in 1..65536");
  }
  if (version.units != 0 &&
      (version.format < 5 || version.units >= version.partitions || !std::has_single_bit(version.units))) {
    return bad_ring("units are a power of two below the partitions, and only format 5 can say them");
  }
  if (version.change > RingChange::kSites) return bad_ring("unknown change");
  TRY(check_members(version));
  TRY(check_rule(version));
  TRY(check_revoked(version));
  TRY(check_sites(version));
  if (!version.synced_set && version.synced != version.majority()) {
    return bad_ring("synced copies are neither set nor the majority of the owners");
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

}  // namespace starling::overlay
