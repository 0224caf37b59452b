// MemberTable: who is in the cluster and how they are, and the rule which news beats which (SWIM,
// DSN 2002, section 4.2).
//
//   a record of incarnation i   makes alive what is known as of less than i
//   suspect(i)                  beats alive(j) for i >= j, suspect(j) for i > j
//   dead(i)                     beats alive(j) and suspect(j) for i >= j, dead(j) for i > j
//   left(i)                     beats every other state(j) for i >= j
// Invariants: (1) the table never holds this node itself, nor more than kMembersMax - 1 others;
//             (2) a member's state incarnation never decreases, nor does its record's;
//             (3) a state incarnation is not above the record's: a node could not refute what is said of an
//                 incarnation that it never had.
// When it is full, the member that left or died first gives way; the living never do.
// Thread: one loop; pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "overlay/gossip/replay_window.h"
#include "overlay/gossip/swim_wire.h"
#include "overlay/loop/clock.h"

namespace starling::overlay {

// Of a member's runs before this one the last so many are remembered: it is told of them, since its folder may be an older
// copy that knows nothing of them (hazards F3).
inline constexpr std::size_t kEarlierRunsMax = 3;
struct EarlierRun {
  std::uint32_t run = 0;
  Shared update;  // Its record.
};

struct Member {
  NodeId id;
  MemberRecord record;
  Shared update;  // The record as an encoded update, for gossip and push-pull.
  MemberState state = MemberState::kAlive;
  std::uint64_t incarnation = 0;  // Of `state`; the record may be older or newer.
  Instant since;                  // When `state` was entered.
  Heartbeat heartbeat;            // The newest heard of it,
  std::optional<Instant> heard;   // and when it told its clock; none: only what the record says.
  bool first_hand = false;        // It told its clock itself: for kClockHeardMax nobody else does.
  std::optional<Instant> rumoured;  // When it told the rest of it, where that is another's word.
  ReplayWindow window;            // Of the datagrams of its run (MemberRecord::run).
  std::uint64_t knows_us = 0;     // The highest incarnation of ours that it has surely heard of.
  std::vector<EarlierRun> earlier;

  [[nodiscard]] bool live() const {
    return state == MemberState::kAlive || state == MemberState::kSuspect;
  }
};

class MemberTable {
 public:
  using Map = std::map<NodeId, Member>;
  enum class Change { kNone, kJoined, kChanged, kRevived };

  [[nodiscard]] const Map& all() const { return members_; }
  [[nodiscard]] const Member* find(const NodeId& id) const;
  Member* find(const NodeId& id);
  [[nodiscard]] std::size_t live() const { return live_; }

  // True when a record of that incarnation would be news.
  [[nodiscard]] bool wants(const NodeId& id, std::uint64_t incarnation) const;

  // Takes a verified record that it wants. kNone: the table is full of living members.
  Change put(MemberRecord record, Shared update, Instant now);

  // True when the claim is news: the member has the new state. A claim about a stranger is not, nor one about an
  // incarnation whose record did not come yet: that comes by the same ways, and the state with the next push-pull.
  bool apply(const Claim& claim, Instant now);

  void erase(const NodeId& id);

 private:
  bool make_room();
  void set_state(Member& member, MemberState state, Instant now);

  Map members_;
  std::size_t live_ = 0;  // Invariant: members in state alive or suspect.
};

}  // namespace starling::overlay
