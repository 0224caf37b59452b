// Matching: gives every partition so many of the nodes that claim it, and no node more than its
// bound.
//
// Deferred acceptance (Gale and Shapley 1962): a partition asks its strongest candidates in turn; a
// node at its bound keeps its best claims and gives the weakest up. Where nobody is left to ask, a
// chain of partitions that each move on by one node makes room: by the choice of the bounds there
// is one always.
// Invariant: the same input gives the same matching everywhere. Thread: any; pure.
#pragma once

#include <cstdint>
#include <deque>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "overlay/ring/claims.h"

namespace starling::overlay {

inline constexpr MemberIndex kNobody = UINT16_MAX;

// A partition asks its 64 strongest nodes in turn; that all of them are full does not happen at a
// bound of 1.1, and if it did, make_room() looks at every node.
inline constexpr std::size_t kCandidatesMax = 64;

// Which nodes may hold which partitions, by site: those of the partition's own, or the others.
struct Area {
  std::vector<MemberIndex> of_partition;  // Empty: every node may.
  std::vector<MemberIndex> of_node;
  bool within = true;
  [[nodiscard]] bool allows(std::uint32_t partition, MemberIndex node) const {
    return of_partition.empty() || (of_partition[partition] == of_node[node]) == within;
  }
};

// The strongest nodes of each partition, `width` of them, strongest first. Where fewer are allowed
// kNobody fills the end.
struct Candidates {
  std::size_t width = 0;
  std::vector<MemberIndex> list;
  [[nodiscard]] std::span<const MemberIndex> of(std::uint32_t partition) const {
    return {list.data() + partition * width, width};
  }
};
Candidates strongest(const Claims& claims, std::uint32_t partitions, const Area& area);

class Matching {
 public:
  struct Zones {  // None: without zones.
    std::span<const MemberIndex> of_node;
    std::vector<bool> scarce;  // Of each zone: has no room for a copy of everything. Empty: none.
  };

  // `any_node`: when its candidates are full a partition may go elsewhere in its area.
  Matching(const Claims& claims, const Candidates& candidates, std::uint32_t partitions,
           std::size_t want, const std::vector<std::uint32_t>& bound, const Zones& zones,
           const Area& area, bool any_node);

  // `want` holders for each partition, in no order.
  std::vector<MemberIndex> run() &&;

 private:
  bool fill(std::uint32_t p);
  [[nodiscard]] std::size_t next_choice(std::uint32_t p) const;
  [[nodiscard]] bool zone_taken(std::uint32_t p, MemberIndex zone) const;
  void make_room(std::uint32_t p);
  [[nodiscard]] bool may_take(std::uint32_t p, MemberIndex node) const;
  void give(std::uint32_t p, MemberIndex node);
  void drop(std::uint32_t p, MemberIndex node);
  MemberIndex* free_place(std::uint32_t p);
  std::span<MemberIndex> places(std::uint32_t p) { return {holders_.data() + p * want_, want_}; }
  [[nodiscard]] std::span<const MemberIndex> places(std::uint32_t p) const {
    return {holders_.data() + p * want_, want_};
  }

  // Set at construction.
  const Claims& claims_;
  const Candidates& candidates_;
  const std::size_t want_;
  const std::vector<std::uint32_t>& bound_;
  const Zones& zones_;
  const Area& area_;
  const bool any_node_;

  // The matching so far.
  std::vector<MemberIndex> holders_;
  std::vector<std::uint64_t> asked_;  // One bit per candidate; none is asked twice.
  std::vector<std::set<std::pair<std::uint64_t, std::uint32_t>>> held_;  // Of each node, by key.
  std::deque<std::uint32_t> open_;
};

}  // namespace starling::overlay
