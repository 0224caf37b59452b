// Claims: how strong each node's claim on each partition is; a lower key is stronger.
//
// A key is -log(u)/weight, so a node wins in proportion to its weight. u comes from a hash and,
// under kEven, from the place of the partition in the node's own order of all partitions: then each
// node makes the same claims, on other partitions, and loads vary less by chance (decision 0024).
// A claim depends on its node and partition alone.
// Invariant: integers only, so every node computes the same. Thread: any; const once filled.
#pragma once

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "overlay/ring/ring_version.h"
#include "storage/ids.h"

namespace starling::overlay {

using MemberIndex = std::uint16_t;
static_assert(kRingMembersMax < UINT16_MAX);

class Claims {
 public:
  // REQUIRES: a power of two of partitions.
  Claims(std::uint32_t partitions, PlacementRule rule);

  // The next node, of index nodes().
  void add(const NodeId& node, std::uint32_t weight);
  [[nodiscard]] std::uint64_t key(std::uint32_t partition, MemberIndex node) const;
  [[nodiscard]] std::size_t nodes() const { return seeds_.size(); }

 private:
  // One node's order of all partitions, from its seed: a permutation of 0..2^bits - 1. Each round
  // is one to one: an odd factor and a sum modulo 2^bits, then the high half folded into the low.
  class Order {
   public:
    Order(std::uint64_t seed, int bits);
    [[nodiscard]] std::uint32_t rank(std::uint32_t partition) const {
      std::uint32_t x = partition;
      for (const auto& [factor, sum] : rounds_) {
        x = (x * factor + sum) & mask_;
        x ^= x >> shift_;
      }
      return x;
    }

   private:
    static constexpr std::uint8_t kRounds = 4;
    std::uint32_t mask_;
    int shift_;
    std::array<std::pair<std::uint32_t, std::uint32_t>, kRounds> rounds_;
  };

  int bits_;  // Of the rank in a claim; 0: the hash alone.
  std::vector<std::uint64_t> seeds_;
  std::vector<Order> orders_;
  std::vector<std::uint64_t> per_weight_;
};

}  // namespace starling::overlay
