#include "overlay/gossip/suspicion.h"

#include <gtest/gtest.h>

#include "overlay/gossip/awareness.h"

namespace starling::overlay {
namespace {

NodeId suspect(std::uint8_t n) {
  NodeId id;
  id.raw[0] = n;
  return id;
}

TEST(Suspicion, ShrinksWithConfirmations) {
  const struct {
    int confirmations;
    Duration expected;
  } kRows[] = {{0, 30s}, {1, 16s}, {2, 7810ms}, {3, 2s}, {4, 2s}};
  for (const auto& row : kRows) {
    EXPECT_EQ(suspicion_timeout(row.confirmations, 3, 2s, 30s), row.expected)
        << row.confirmations << " confirmations";
  }
}

TEST(Suspicion, IsShortWhereNobodyCanConfirm) { EXPECT_EQ(suspicion_timeout(0, 0, 2s, 30s), 2s); }

TEST(Suspicion, CountsEachVoiceOnceAndTheFirstNotAtAll) {
  const Instant begin{10s};
  Suspicion suspicion(suspect(1), 3, 2s, 30s, begin);
  EXPECT_EQ(suspicion.deadline(), begin + 30s);
  EXPECT_FALSE(suspicion.confirm(suspect(1)));
  EXPECT_TRUE(suspicion.confirm(suspect(2)));
  EXPECT_FALSE(suspicion.confirm(suspect(2)));
  EXPECT_EQ(suspicion.deadline(), begin + 16s);
  EXPECT_TRUE(suspicion.confirm(suspect(3)));
  EXPECT_TRUE(suspicion.confirm(suspect(4)));
  EXPECT_EQ(suspicion.deadline(), begin + 2s);
  EXPECT_FALSE(suspicion.confirm(suspect(5))) << "k voices are enough";
}

TEST(Suspicion, IsPostponedByOurOwnSleep) {
  const Instant begin{10s};
  Suspicion suspicion(suspect(1), 0, 2s, 30s, begin);
  suspicion.postpone(10s);
  EXPECT_EQ(suspicion.deadline(), begin + 12s);
}

TEST(Awareness, ScalesWithBadNewsAndStaysInItsBounds) {
  Awareness health(8);
  EXPECT_EQ(health.scale(500ms), 500ms);
  health.apply(-1);
  EXPECT_EQ(health.score(), 0);
  health.apply(+2);
  EXPECT_EQ(health.scale(500ms), 1500ms);
  health.apply(+100);
  EXPECT_EQ(health.score(), 7);
  EXPECT_EQ(health.scale(500ms), 4s);
  health.apply(-1);
  EXPECT_EQ(health.score(), 6);
}

}  // namespace
}  // namespace starling::overlay
