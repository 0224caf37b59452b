// Histogram: percentiles are close, and never below the truth.
#include <gtest/gtest.h>

#include <algorithm>

#include "crypto/random.h"
#include "node/cli/load/histogram.h"

namespace starling::node::cli {
namespace {

TEST(Histogram, WithoutRecordsIsZero) {
  Histogram h;
  EXPECT_EQ(h.percentile(50), 0u);
  EXPECT_EQ(h.max(), 0u);
  EXPECT_EQ(h.min(), 0u);
  EXPECT_EQ(h.mean(), 0.0);
}

TEST(Histogram, SmallValuesAreExact) {
  Histogram h;
  for (std::uint64_t v = 1; v <= 100; ++v) h.record(v);
  EXPECT_EQ(h.percentile(1), 1u);
  EXPECT_EQ(h.percentile(50), 50u);
  EXPECT_EQ(h.percentile(99), 99u);
  EXPECT_EQ(h.percentile(100), 100u);
  EXPECT_EQ(h.mean(), 50.5);
}

TEST(Histogram, PercentilesAreWithinOnePartIn64OfTheExactOnes) {
  SeededRandom random(11);
  Histogram h;
  std::vector<std::uint64_t> exact;
  for (int i = 0; i < 50'000; ++i) {
    const std::uint64_t v = random.u64() >> (1 + random.below(60));
    exact.push_back(v);
    h.record(v);
  }
  std::sort(exact.begin(), exact.end());
  for (const double p : {0.1, 10.0, 50.0, 90.0, 99.0, 99.9, 100.0}) {
    const auto rank = static_cast<std::size_t>(std::ceil(p / 100 * 50'000)) - 1;
    EXPECT_GE(h.percentile(p), exact[rank]) << p;
    EXPECT_LE(h.percentile(p), exact[rank] + exact[rank] / 64 + 1) << p;
  }
  EXPECT_EQ(h.max(), exact.back());
}

TEST(Histogram, TheLargestValueHasABucket) {
  Histogram h;
  h.record(UINT64_MAX);
  EXPECT_EQ(h.percentile(50), UINT64_MAX);
}

TEST(Histogram, AddsUp) {
  Histogram a, b, both;
  for (std::uint64_t v = 0; v < 1'000; ++v) {
    (v % 2 ? a : b).record(v * v);
    both.record(v * v);
  }
  a.merge(b);
  a.merge(Histogram());
  EXPECT_EQ(a.count(), both.count());
  EXPECT_EQ(a.percentile(99), both.percentile(99));
  EXPECT_EQ(a.max(), both.max());
  EXPECT_EQ(a.min(), both.min());
}

}  // namespace
}  // namespace starling::node::cli
