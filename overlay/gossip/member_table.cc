#include "overlay/gossip/member_table.h"

#include <cassert>
#include <utility>

namespace starling::overlay {
namespace {

bool beats(MemberState news, std::uint64_t i, MemberState held, std::uint64_t j) {
  switch (news) {
    case MemberState::kAlive: return i > j;
    case MemberState::kSuspect:
      return held == MemberState::kAlive ? i >= j : held == MemberState::kSuspect && i > j;
    case MemberState::kDead:
      if (held == MemberState::kLeft) return false;
      return held == MemberState::kDead ? i > j : i >= j;
    case MemberState::kLeft: return held == MemberState::kLeft ? i > j : i >= j;
  }
  return false;
}

// What a record says of the things that heartbeats say more often.
void refresh(Member& member) {
  member.heartbeat.ring = member.record.ring;
  member.heartbeat.catching_up = member.record.catching_up;
  member.heartbeat.sessions = member.record.sessions;
  if (!member.heard) member.heartbeat.wall_ms = member.record.wall_ms;
}

// A program that names no run keeps its writer over a clean stop: of such a one the return from the dead or the left is
// all that can be seen.
bool is_new_run(const Member& held, const MemberRecord& record, bool revived) {
  if (held.record.run != record.run || held.record.writer != record.writer) return true;
  return record.run == 0 && revived && !held.live();
}

// Whatever its writer: the copy may be of the one before.
void remember_run(Member& held, const MemberRecord& next) {
  const std::uint32_t run = held.record.run;
  if (run == 0 || run == next.run || held.update == nullptr) return;
  std::erase_if(held.earlier, [&](const EarlierRun& one) { return one.run == run || one.run == next.run; });
  if (held.earlier.size() == kEarlierRunsMax) held.earlier.erase(held.earlier.begin());
  held.earlier.push_back({run, held.update});
}

}  // namespace

const Member* MemberTable::find(const NodeId& id) const {
  const auto it = members_.find(id);
  return it == members_.end() ? nullptr : &it->second;
}

Member* MemberTable::find(const NodeId& id) {
  const auto it = members_.find(id);
  return it == members_.end() ? nullptr : &it->second;
}

bool MemberTable::wants(const NodeId& id, std::uint64_t incarnation) const {
  const Member* held = find(id);
  return held == nullptr || incarnation > held->record.incarnation;
}

MemberTable::Change MemberTable::put(MemberRecord record, Shared update, Instant now) {
  assert(wants(record.node, record.incarnation));
  Member* held = find(record.node);
  if (held == nullptr) {
    if (members_.size() >= kMembersMax - 1 && !make_room()) return Change::kNone;
    Member& member = members_[record.node];
    member.id = record.node;
    member.incarnation = record.incarnation;
    member.since = now;
    member.record = std::move(record);
    member.update = std::move(update);
    refresh(member);
    ++live_;
    return Change::kJoined;
  }
  const bool revived =
      held->state != MemberState::kAlive &&
      beats(MemberState::kAlive, record.incarnation, held->state, held->incarnation);
  if (is_new_run(*held, record, revived)) {
    held->window = {};   // It counts its datagrams from 1,
    held->knows_us = 0;  // and remembers nobody.
    held->first_hand = false;
    remember_run(*held, record);
  }
  held->record = std::move(record);
  held->update = std::move(update);
  refresh(*held);
  if (revived) set_state(*held, MemberState::kAlive, now);
  if (held->state == MemberState::kAlive) held->incarnation = held->record.incarnation;
  return revived ? Change::kRevived : Change::kChanged;
}

bool MemberTable::apply(const Claim& claim, Instant now) {
  assert(claim.as() != MemberState::kAlive);
  Member* held = find(claim.node);
  if (held == nullptr || claim.incarnation > held->record.incarnation) return false;
  if (!beats(claim.as(), claim.incarnation, held->state, held->incarnation)) return false;
  held->incarnation = claim.incarnation;
  if (held->state != claim.as()) set_state(*held, claim.as(), now);
  return true;
}

void MemberTable::erase(const NodeId& id) {
  const auto it = members_.find(id);
  if (it == members_.end()) return;
  if (it->second.live()) --live_;
  members_.erase(it);
}

bool MemberTable::make_room() {
  auto oldest = members_.end();
  for (auto it = members_.begin(); it != members_.end(); ++it) {
    if (it->second.live()) continue;
    if (oldest == members_.end() || it->second.since < oldest->second.since) oldest = it;
  }
  if (oldest == members_.end()) return false;
  members_.erase(oldest);
  return true;
}

void MemberTable::set_state(Member& member, MemberState state, Instant now) {
  const bool was_live = member.live();
  member.state = state;
  member.since = now;
  if (was_live && !member.live()) --live_;
  if (!was_live && member.live()) ++live_;
}

}  // namespace starling::overlay
