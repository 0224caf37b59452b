// Rings for tests: node i always has the same key, id and invite; node 0, the founder, has none.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "overlay/ring/ring.h"
#include "overlay/ring/ring_change.h"

namespace starling::overlay {

inline NewMember test_member(std::uint32_t i, std::string zone = "",
                             std::uint32_t weight = kWeightDefault) {
  NewMember out{{}, std::move(zone), weight, {}};
  for (std::size_t b = 0; b < 4; ++b) {
    out.key.raw[b] = out.invite.raw[b] = static_cast<std::uint8_t>(i >> (8 * b));
  }
  out.key.raw[31] = 1;
  return out;
}

inline NodeId test_id(std::uint32_t i) { return fingerprint(test_member(i).key); }

inline LineageId test_lineage(std::uint8_t i = 1) {
  LineageId out;
  out.raw.fill(i);
  return out;
}

template <class T>
T must(Result<T> result) {
  EXPECT_TRUE(result.ok()) << (result.ok() ? "" : result.error().text);
  if (!result.ok()) std::abort();
  return std::move(result).value();
}

// Nodes 0..n-1 serve.
inline RingVersion test_ring(std::uint32_t n, const RingSettings& settings = {}) {
  auto version = must(first_version(test_lineage(), test_member(0), settings));
  for (std::uint32_t next = 1; next < n;) {
    std::vector<NewMember> batch;
    for (; next < n && batch.size() < kRingBatchMax; ++next) batch.push_back(test_member(next));
    version = must(next_complete(must(next_intent_join(version, batch))));
  }
  return version;
}

using RingPtr = std::shared_ptr<const Ring>;

inline RingPtr ring_of(const RingVersion& version) { return must(Ring::make(version)); }

}  // namespace starling::overlay
