// What a node leaves out under load, and when it takes that up again.
#include "node/session/ladder.h"

#include <gtest/gtest.h>

namespace starling::node {
namespace {

// Looks at the same pressure for a while.
Instant hold(Ladder& ladder, double pressure, Duration span, Instant from) {
  for (Instant at = from; at <= from + span; at += kLadderLook) ladder.look(pressure, at);
  return from + span;
}

TEST(Ladder, GivesUpWhatIsMissedLeastFirst) {
  const struct {
    double pressure;
    Rung rung;
    const char* left_out;
  } cases[] = {
      {0.3, Rung::kNone, ""},
      {0.5, Rung::kTyping, "typing"},
      {0.65, Rung::kPresence, "typing, presence"},
      {0.7, Rung::kReceipts, "typing, presence, receipts"},
      {0.9, Rung::kHistory, "typing, presence, receipts, history reads"},
      {1.0, Rung::kSends, "typing, presence, receipts, history reads, sends"},
  };
  for (const auto& [pressure, rung, left_out] : cases) {
    Ladder ladder;
    hold(ladder, pressure, 2s, Instant{1s});
    EXPECT_EQ(ladder.rung(), rung) << pressure;
    EXPECT_EQ(ladder.left_out(), left_out);
  }
}

TEST(Ladder, AMomentsPeakCostsNothing) {
  Ladder ladder;
  Instant now = hold(ladder, 0.1, 1s, Instant{1s});
  ladder.look(1.0, now += kLadderLook);
  ladder.look(1.0, now += kLadderLook);
  now = hold(ladder, 0.1, 1s, now + kLadderLook);
  EXPECT_EQ(ladder.rung(), Rung::kNone);
}

TEST(Ladder, ComesDownRungByRungAndDoesNotFlap) {
  Ladder ladder;
  Instant now = hold(ladder, 1.0, 1s, Instant{1s});
  ASSERT_EQ(ladder.rung(), Rung::kSends);
  // Just under the height is not well below it.
  now = hold(ladder, kRungHeights[5] * 0.9, 10s, now + kLadderLook);
  EXPECT_EQ(ladder.rung(), Rung::kSends);
  now = hold(ladder, 0, kLadderFall, now + kLadderLook);
  EXPECT_EQ(ladder.rung(), Rung::kHistory);
  hold(ladder, 0, 5 * kLadderFall, now + kLadderLook);
  EXPECT_EQ(ladder.rung(), Rung::kNone);
}

TEST(Ladder, CountsWhatItRefuses) {
  Ladder ladder;
  EXPECT_FALSE(ladder.refuses(Rung::kHistory));
  hold(ladder, 0.85, 1s, Instant{1s});
  EXPECT_TRUE(ladder.refuses(Rung::kHistory));
  EXPECT_FALSE(ladder.refuses(Rung::kSends));
  EXPECT_EQ(ladder.refused(Rung::kHistory), 1u);
  EXPECT_EQ(ladder.refused(Rung::kSends), 0u);
}

}  // namespace
}  // namespace starling::node
