// Movement: what a change of the ring moves, and when it may begin and end.
//
// Rules: (1) a removal leaves every partition a majority of its owners, who hand over its names, and so many
//            that every acknowledged change is at one of them (N-W+1); less is for `remove --force`;
//        (2) a change ends when every node that joins and every node that gains and can be reached has
//            installed what it gains: who was away compares before it serves (hazards F32, F33);
//        (3) it does not end in a ring that can do less: in which a partition that reaches the W owners of
//            today would not reach the W of then, or the members that can be reached are no majority of
//            those who vote then.
// Thread: any; pure.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "crypto/result.h"
#include "overlay/ring/ring.h"

namespace starling::node {

// Copies of partitions, by node.
struct Moves {
  struct Item {
    NodeId node;
    std::uint32_t now = 0;
    std::uint32_t next = 0;
    std::uint32_t gains = 0;
    std::uint32_t loses = 0;
  };
  std::vector<Item> nodes;   // Those that own now or will, sorted.
  std::uint32_t copies = 0;  // Of all partitions together, after the change.
  std::uint32_t moved = 0;   // Of those, new where they are.
  // Under a policy of sites (overlay/ring/sites.h):
  std::uint32_t homes_moved = 0;             // Partitions of which another site is the home,
  std::vector<std::string> ends, begins;     // sites that are one no more, or are one then.
  bool rests = false;                        // None is left.
};
// Of the change that `ring` is in.
Moves moves_of(const overlay::Ring& ring);

// Rule 1. kDenied with what is at stake.
Status may_remove(const overlay::Ring& ring, const std::vector<NodeId>& removed);

// Part of rule 3, asked before a node that votes now is cut off. kDenied.
Status keeps_majority(const overlay::RingVersion& next, const std::set<NodeId>& alive);

// Rules 2 and 3, of the change that `ring` is in. kUnavailable names the node that is waited for.
Status may_complete(const overlay::Ring& ring, const std::set<NodeId>& alive,
                    const std::set<NodeId>& installed);

}  // namespace starling::node
