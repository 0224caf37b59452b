#include "overlay/ring/claims.h"

#include <bit>

#include <xxhash.h>

namespace starling::overlay {
namespace {

constexpr std::uint64_t kClaimSeed = 0x537461726C696E67;  // "Starling"; of every cluster, for ever.

// log2(1 + i/1024) in 32 fraction bits, by repeated squaring.
constexpr std::array<std::uint64_t, 1025> log2_table() {
  std::array<std::uint64_t, 1025> table{};
  for (std::uint64_t i = 0; i < 1024; ++i) {
    std::uint64_t x = (std::uint64_t{1} << 31) + (i << 21);
    for (int bit = 0; bit < 32; ++bit) {
      x = (x * x) >> 31;
      table[i] <<= 1;
      if (x >> 32) {
        table[i] |= 1;
        x >>= 1;
      }
    }
  }
  table[1024] = std::uint64_t{1} << 32;
  return table;
}
constexpr auto kLog2 = log2_table();

// -log2(hash / 2^64) in 32 fraction bits: 0 < result <= 64 * 2^32, falling as `hash` grows.
std::uint64_t negative_log2(std::uint64_t hash) {
  hash |= 1;
  const int zeros = std::countl_zero(hash);
  const std::uint64_t mantissa = hash << zeros;  // Top bit set.
  const std::uint64_t i = (mantissa >> 53) & 1023;
  const std::uint64_t fraction = (mantissa >> 21) & 0xFFFFFFFF;
  const std::uint64_t step = ((kLog2[i + 1] - kLog2[i]) * fraction) >> 32;
  return (static_cast<std::uint64_t>(zeros + 1) << 32) - kLog2[i] - step;
}

}  // namespace

Claims::Order::Order(std::uint64_t seed, int bits)
    : mask_((std::uint32_t{1} << bits) - 1), shift_((bits + 1) / 2) {
  for (std::uint8_t i = 0; i < kRounds; ++i) {
    const std::uint64_t drawn = XXH64(&i, 1, seed);
    rounds_[i] = {static_cast<std::uint32_t>(drawn) | 1, static_cast<std::uint32_t>(drawn >> 32)};
  }
}

Claims::Claims(std::uint32_t partitions, PlacementRule rule)
    : bits_(rule == PlacementRule::kEven ? std::countr_zero(partitions) : 0) {}

void Claims::add(const NodeId& node, std::uint32_t weight) {
  seeds_.push_back(XXH64(node.raw.data(), node.raw.size(), kClaimSeed));
  orders_.emplace_back(seeds_.back(), bits_);
  per_weight_.push_back((std::uint64_t{1} << 24) / weight);
}

std::uint64_t Claims::key(std::uint32_t partition, MemberIndex node) const {
  const std::uint8_t bytes[4] = {
      static_cast<std::uint8_t>(partition), static_cast<std::uint8_t>(partition >> 8),
      static_cast<std::uint8_t>(partition >> 16), static_cast<std::uint8_t>(partition >> 24)};
  std::uint64_t u = XXH64(bytes, sizeof bytes, seeds_[node]);
  if (bits_ > 0) {
    u = u >> bits_ | std::uint64_t{orders_[node].rank(partition)} << (64 - bits_);
  }
  return negative_log2(u) * per_weight_[node];
}

}  // namespace starling::overlay
