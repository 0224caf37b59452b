// Placement: which nodes own which partition, as a pure function of the members.
//
// A node's claim on a partition (claims.h) is a weighted rendezvous hash of the two (none depends
// on the others, so a join or leave moves little); the ring version decides who takes part. Over
// that, two bounds (bounded loads, Mirrokni 2016): a node owns at most ceil(1.1 x its fair share)
// of all copies and is first (coordinates) for at most ceil(1.1 x its fair share) of partitions. A
// node at its bound keeps its best claims and gives the weakest up to the next node: deferred
// acceptance (matching.h); zones aside, the order of the partitions does not matter.
// Copies lie in distinct zones while the bounds allow; `zones_shared` lists where they do not.
// Under a policy of sites (sites.h) each partition gets a home first, by bounded claims of the sites
// in proportion to their weights; its home owners are chosen among the nodes there and the away
// owners among the others, in the same way and with the same bounds.
// The rule is a field of the ring version, so a better one never moves data by itself: kHashed
// draws each claim by chance; under kEven every node makes the same claims, on other partitions,
// and therefore meets its bound seldom (docs/decisions/0024).
//
// Invariants: (1) integers only: every node computes the same bytes;
//             (2) every partition has the same number of distinct owners, and the bounds hold.
// Measured (placement_test.cc prints it): one node joining or leaving moves 1.00 x the least
// possible at 3, 10 and (65,536 partitions) 1,000 nodes, 1.03 x at 100 with 4,096; a change of
// weight 1.00 to 1.04 x. A zone too small for a copy of everything costs up to 1.3 x. A heavy node
// among few stays below its share (a quarter of the weight of 10 nodes, N=3: 0.82 of it), because
// it owns a partition only once.
// Thread: any; no shared state. 5 ms for 10 nodes and 4,096 partitions, 2 s for 1,000 and 65,536
// (use Loop::work).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "overlay/ring/claims.h"
#include "overlay/ring/ring_version.h"
#include "storage/ids.h"

namespace starling::overlay {

struct PlacementNode {
  NodeId id;
  std::string zone;  // Empty: a zone of its own.
  std::uint32_t weight = kWeightDefault;
};

struct Placement {
  std::vector<PlacementNode> nodes;  // Sorted by id; MemberIndex points in here.
  std::uint32_t partitions = 0;
  std::size_t copies = 0;                  // min(N, nodes); under a policy home and away.
  std::size_t home = 0;                    // Of these, the first: those that count.
  bool by_site = false;                    // A policy of sites is in force.
  std::vector<MemberIndex> owners;         // `copies` for each partition, in preference order.
  std::vector<std::uint32_t> bound;        // Of each node: copies it may own.
  std::vector<std::uint32_t> first_bound;  // Of each node: partitions it may be first for.
  std::vector<PartitionId> zones_shared;   // Two owners share a zone though another zone exists.

  [[nodiscard]] std::span<const MemberIndex> of(std::size_t partition) const {
    return {owners.data() + partition * copies, copies};
  }
  [[nodiscard]] std::span<const MemberIndex> home_of(std::size_t partition) const {
    return of(partition).first(home);
  }
};

// REQUIRES: nodes sorted by id, not empty; partitions 1..65536; copies 1..7; weights 1..1000.
Placement compute_placement(std::vector<PlacementNode> nodes, std::uint32_t partitions,
                            std::size_t copies, PlacementRule rule, const SitePolicy& policy = {});

// In force under this version: of its units, which are its partitions unless it was doubled (ring_version.h).
// REQUIRES: the version is valid.
Placement current_placement(const RingVersion& version);
// As it will be when the open change completes; the current one when there is none.
Placement next_placement(const RingVersion& version);

}  // namespace starling::overlay
