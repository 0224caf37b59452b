// News: records, claims and heartbeats, how they are believed, spread and, about ourselves, refuted
// (SWIM, DSN 2002, section 4.2; Lifeguard, section IV-B).
#include <algorithm>
#include <cassert>
#include <cmath>
#include <utility>

#include "overlay/gossip/swim.h"

namespace starling::overlay {
namespace {

Claim claim_of(const NodeId& node, std::uint64_t incarnation, MemberState state,
               const NodeId& from) {
  return {node, incarnation, static_cast<std::uint8_t>(state), from};
}

}  // namespace

// Takes a record in, and a stranger in the state `initial`. Returns whom it is about.
std::optional<NodeId> Swim::take_record(View signed_bytes, bool spread, MemberState initial) {
  Result<MemberRecord> read = read_record(signed_bytes);
  if (!read) {
    ++stats_.malformed;
    return {};
  }
  MemberRecord& record = read.value();
  const NodeId id = record.node;
  const std::uint64_t incarnation = record.incarnation;
  if (id != self_.node && !hears(id)) {
    ++stats_.outsider;
    return {};
  }
  if (id == self_.node) {
    take_own_record(record, signed_bytes);
    return id;
  }
  if (!table_.wants(id, incarnation)) return id;
  if (!verify_record(record, signed_bytes)) {
    ++stats_.forged;
    return {};
  }
  const Shared update = encode_record(signed_bytes);
  switch (table_.put(std::move(record), update, now_)) {
    case MemberTable::Change::kNone: ++stats_.table_full; return {};
    case MemberTable::Change::kJoined:
      if (initial == MemberState::kDead || initial == MemberState::kLeft) {
        // Known to us from now on, but no news: gossiping its record would raise the dead.
        table_.apply(claim_of(id, incarnation, initial, id), now_);
        return id;
      }
      enter_round(id);
      event(MemberEvent::Kind::kJoined, id);
      break;
    case MemberTable::Change::kChanged: event(MemberEvent::Kind::kChanged, id); break;
    case MemberTable::Change::kRevived:
      suspicions_.erase(id);
      enter_round(id);
      event(MemberEvent::Kind::kAliveAgain, id);
      break;
  }
  if (spread) queue_.add(UpdateKind::kRecord, id, incarnation, update);
  return id;
}

// A record of an earlier run of ours that outranks this one's, because a clock went back or a
// restart was quick: go above it.
void Swim::take_own_record(const MemberRecord& record, View signed_bytes) {
  const bool unknown = record.writer == self_.writer && record.run != 0 && record.run != self_.run &&
                       !known_runs_.empty() && !known_runs_.contains(record.run);
  // One that began after us is of a copy of our folder, and a rival. Until we were told who we are, our own clock may
  // be behind that of the run before.
  const bool may_be_earlier = !was_told_ || record.incarnation < born_as_;
  if (unknown && may_be_earlier && verify_record(record, signed_bytes)) event(MemberEvent::Kind::kUnknownRun, self_.node);
  if (record.incarnation < self_.incarnation || phase_ != Phase::kRunning) return;
  if (record.incarnation == self_.incarnation && record.run == self_.run) return;
  if (!verify_record(record, signed_bytes)) {
    ++stats_.forged;
    return;
  }
  look_for_rival(record);
  // Who gives way says nothing more, so that the other does not.
  if (rival_bids_ >= (now_ - started_at_ < kNewcomerFor ? kRivalBidsOfNewcomer : kRivalBids)) return;
  self_.incarnation = std::min(record.incarnation + 1, kIncarnationMax);
  died_at_ = std::max(died_at_, record.incarnation);
  sign_self();
}

void Swim::look_for_rival(const MemberRecord& record) {
  if (record.run == self_.run || record.run == 0) return;
  if (std::exchange(rival_run_, record.run) != record.run) rival_bids_ = 0;
  // Only who knows our incarnation goes exactly one above it, time after time.
  if (record.incarnation != self_.incarnation + 1) return;
  const bool newcomer = now_ - started_at_ < kNewcomerFor;
  if (++rival_bids_ == (newcomer ? kRivalBidsOfNewcomer : kRivalBids)) event(MemberEvent::Kind::kRival, self_.node);
}

void Swim::take_claim(const Claim& claim) {
  if (claim.node == self_.node) return refute(claim);
  if (claim.as() == MemberState::kSuspect) return accuse(claim);
  const Member* member = table_.find(claim.node);
  if (member == nullptr) return;
  const MemberState before = member->state;
  if (!table_.apply(claim, now_)) return;
  suspicions_.erase(claim.node);
  spread(claim);
  if (member->state == before) return;
  const bool left = claim.as() == MemberState::kLeft;
  event(left ? MemberEvent::Kind::kLeft : MemberEvent::Kind::kDied, claim.node);
}

void Swim::accuse(const Claim& claim) {
  const Member* member = table_.find(claim.node);
  if (member == nullptr) return;
  const bool suspected = member->state == MemberState::kSuspect;
  if (suspected && claim.incarnation == member->incarnation) {
    const auto it = suspicions_.find(claim.node);
    if (it != suspicions_.end() && it->second.confirm(claim.from)) spread(claim);
    return;
  }
  if (!table_.apply(claim, now_)) return;
  // Of the n members, all but us and the suspect may confirm; where they are too few, none need to.
  const int n = static_cast<int>(cluster_size());
  const int wanted = std::max(config_.suspicion_mult - 2, 0);
  const int k = n - 2 < wanted ? 0 : wanted;
  const double scale = std::max(1.0, std::log10(static_cast<double>(n)));
  const auto min = Duration(std::chrono::milliseconds(std::llround(
      config_.suspicion_mult * scale * static_cast<double>(to_ms(config_.probe_interval)))));
  suspicions_.insert_or_assign(
      claim.node, Suspicion(claim.from, k, min, min * config_.suspicion_max_mult, now_));
  ++stats_.suspicions;
  spread(claim);
  if (!suspected) event(MemberEvent::Kind::kSuspected, claim.node);
}

void Swim::run_suspicions() {
  std::vector<NodeId> expired;
  for (const auto& [id, suspicion] : suspicions_) {
    if (now_ >= suspicion.deadline()) expired.push_back(id);
  }
  for (const NodeId& id : expired) {
    ++stats_.deaths;
    take_claim(claim_of(id, table_.find(id)->incarnation, MemberState::kDead, self_.node));
  }
}

// We are said to be suspect, dead or gone: only a record above that incarnation proves otherwise.
void Swim::refute(const Claim& claim) {
  if (phase_ != Phase::kRunning) return;
  // Of an incarnation that we never had in this run. Where an earlier run had it, its record tells us (take_own_record).
  if (claim.incarnation > self_.incarnation || claim.incarnation >= kIncarnationMax) {
    ++stats_.malformed;
    return;
  }
  // The death counts even when we had already answered the suspicion before it: we were not heard.
  if (claim.as() == MemberState::kDead && claim.incarnation > died_at_) {
    died_at_ = claim.incarnation;
    event(MemberEvent::Kind::kSelfDeclaredDead, self_.node);
  }
  if (claim.incarnation < self_.incarnation) return;
  self_.incarnation = claim.incarnation + 1;
  ++stats_.refutations;
  awareness_.apply(+1);
  sign_self();
}

// What it says itself, in a datagram of its own or over its link.
void Swim::take_heartbeat(Member& member, const Heartbeat& heartbeat) {
  member.heartbeat = heartbeat;
  member.heard = now_;
  member.first_hand = true;
  mind_ring(member);
}

// What another says that it heard of it. Its clock is its own to tell, for as long as its word of it counts: one that
// lies would otherwise be as many as it names. Then, with whom we hear only through others, theirs is all there is.
void Swim::take_rumour(Member& member, Heartbeat heartbeat, Instant heard) {
  if (heard <= std::max(member.heard, member.rumoured)) return;
  member.rumoured = heard;
  member.first_hand = member.first_hand && now_ - *member.heard <= kClockHeardMax;
  if (member.first_hand) {
    heartbeat.wall_ms = member.heartbeat.wall_ms;
  } else {
    member.heard = heard;
  }
  member.heartbeat = heartbeat;
  mind_ring(member);
}

void Swim::mind_ring(const Member& member) {
  const RingNumber ring = member.heartbeat.ring;
  if (ring <= heartbeat_.ring) return;
  if (ring <= ring_told_ && now_ < ring_told_at_ + kRingReminder) return;
  ring_told_ = ring;
  ring_told_at_ = now_;
  event(MemberEvent::Kind::kNewerRing, member.id, ring);
}

void Swim::take_entry(const NodeId& from, const MemberEntry& entry, bool spread) {
  const std::optional<NodeId> id = take_record(entry.record.data, spread, entry.as());
  if (!id) return;
  Claim claim{*id, entry.incarnation, entry.state, from};
  if (*id == self_.node) {
    if (entry.as() != MemberState::kAlive) refute(claim);
    return;
  }
  Member* member = table_.find(*id);
  if (member == nullptr) return;
  if (*id == from) {
    take_heartbeat(*member, entry.heartbeat);
  } else if (entry.age_ms <= static_cast<std::uint64_t>(to_ms(kClockHeardMax)) && !gone_.contains(from)) {
    take_rumour(*member, entry.heartbeat, now_ - std::chrono::milliseconds(entry.age_ms));
  }
  switch (entry.as()) {
    case MemberState::kAlive: return;
    case MemberState::kLeft: claim.from = *id; return take_claim(claim);
    case MemberState::kSuspect:
    case MemberState::kDead:
      // After a split each side holds the other for dead. One who is alive to us gets the chance to
      // say so.
      claim.state = static_cast<std::uint8_t>(MemberState::kSuspect);
      return accuse(claim);
  }
}

void Swim::sign_self() {
  self_.ring = heartbeat_.ring;
  self_.catching_up = heartbeat_.catching_up;
  self_.sessions = heartbeat_.sessions;
  self_.wall_ms = wall_ms_;
  self_update_ = encode_record(sign_record(self_, identity_));
  queue_.add(UpdateKind::kRecord, self_.node, self_.incarnation, self_update_);
}

void Swim::spread(const Claim& claim) {
  queue_.add(UpdateKind::kClaim, claim.node, claim.incarnation, encode_claim(claim));
}

PushPull Swim::push_pull(Instant now, std::int64_t now_wall_ms, const NodeId& to) const {
  assert(self_update_ != nullptr);
  const auto record_in = [](const Shared& update) { return Blob{update->substr(1)}; };
  PushPull out;
  out.members.reserve(table_.all().size() + 1);
  Heartbeat own = heartbeat_;
  own.wall_ms = now_wall_ms;
  const MemberState own_state =
      phase_ == Phase::kRunning ? MemberState::kAlive : MemberState::kLeft;
  out.members.push_back(
      {record_in(self_update_), static_cast<std::uint8_t>(own_state), self_.incarnation, own, 0});
  for (const auto& [id, member] : table_.all()) {
    const std::uint64_t age_ms =
        member.heard ? static_cast<std::uint64_t>(to_ms(now - *member.heard)) : ~std::uint64_t{0};
    out.members.push_back({record_in(member.update), static_cast<std::uint8_t>(member.state),
                           member.incarnation, member.heartbeat, age_ms});
  }
  const Member* peer = table_.find(to);
  for (std::size_t i = 0; peer != nullptr && i < peer->earlier.size() && out.members.size() < kMembersMax; ++i) {
    out.members.push_back({record_in(peer->earlier[i].update), static_cast<std::uint8_t>(MemberState::kAlive),
                           peer->incarnation, {}, ~std::uint64_t{0}});
  }
  return out;
}

std::optional<ClockStanding> Swim::clock_standing(Instant now, std::int64_t now_wall_ms) const {
  std::vector<std::int64_t> offsets;
  for (const auto& [id, member] : table_.all()) {
    if (!member.live() || !member.heard || now - *member.heard > kClockHeardMax || gone_.contains(id)) continue;
    // A peer may send any number: of impossible ones the nearest possible is as far off.
    const std::int64_t theirs = std::clamp<std::int64_t>(member.heartbeat.wall_ms, 0, kWallMsMax);
    offsets.push_back(theirs + to_ms(now - *member.heard) - now_wall_ms);
  }
  if (offsets.empty()) return {};
  const std::size_t clocks = offsets.size() + 1;
  const auto most_are_within = [&offsets, clocks](Duration most) {
    const auto within = std::count_if(offsets.begin(), offsets.end(), [most](std::int64_t offset) {
      return offset <= to_ms(most) && offset >= -to_ms(most);
    });
    return (static_cast<std::size_t>(within) + 1) * 2 > clocks;
  };
  ClockStanding standing{0, most_are_within(kClocksApartMax), most_are_within(kClocksNearMax)};
  // Ours makes an even number odd: of three clocks the one that is wrong convicts no other.
  if (offsets.size() % 2 == 0) offsets.push_back(0);
  const auto middle = offsets.begin() + static_cast<std::ptrdiff_t>(offsets.size() / 2);
  std::nth_element(offsets.begin(), middle, offsets.end());
  standing.median_ms = *middle;
  return standing;
}

}  // namespace starling::overlay
