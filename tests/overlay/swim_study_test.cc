// The small form of swim_study: bounds that the failure detector keeps at any time.
#include "tests/overlay/swim_study.h"

#include <algorithm>

#include <gtest/gtest.h>

namespace starling::overlay {
namespace {

TEST(SwimStudy, ACrashIsKnownToAllInTheTimeThatTheConfigurationPromises) {
  // A probe interval until it is first missed, a second one in which the probe fails, and the suspicion:
  // 4 x max(1, log10(n)) x 500 ms.
  for (const auto& [members, first, all] :
       {std::tuple{3, 3500ms, 3600ms}, {10, 3500ms, 3700ms}, {100, 6500ms, 7500ms}}) {
    for (const auto& found : study_detection(members, members == 3 ? 1 : 3, 5)) {
      EXPECT_GE(found.first, 2s) << members << ": nobody is given up at once";
      EXPECT_LE(found.first, first) << members;
      EXPECT_LE(found.all, all) << members;
    }
  }
}

TEST(SwimStudy, TheCostOfAMemberHardlyGrowsWithTheirNumber) {
  const Cost few = study_cost(3, 60s, 1);
  const Cost many = study_cost(100, 60s, 1);
  EXPECT_NEAR(few.packets, 4, 0.5);  // A ping and an ack of its own, and of others, every 500 ms.
  EXPECT_NEAR(many.packets, 4, 0.5);
  EXPECT_LT(many.packet_bytes, 1200);
  EXPECT_LT(many.push_pull_bytes, 5000);
}

// Issue 4: "a node paused for 10 s must not cause others to be declared dead".
TEST(SwimStudy, APauseOfTenSecondsCondemnsNobodyElse) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    for (const auto& [members, paused] : {std::pair{3, 1}, {10, 1}, {10, 3}, {30, 3}}) {
      const Errors errors = study_pauses(members, paused, 10s, 5s, 15s, seed);
      EXPECT_EQ(errors.healthy_dead, 0u) << members << " members, seed " << seed;
      EXPECT_TRUE(errors.healed) << members << " members, seed " << seed;
    }
  }
}

TEST(SwimStudy, AMemberThatStandsStillAgainAndAgainCondemnsNobodyElse) {
  for (const Duration pause : {Duration(150ms), Duration(300ms), Duration(900ms), Duration(2500ms)}) {
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
      const Errors errors = study_pauses(20, 4, pause, 250ms, 60s, seed);
      EXPECT_EQ(errors.healthy_dead, 0u) << to_ms(pause) << " ms, seed " << seed;
      EXPECT_TRUE(errors.healed) << to_ms(pause) << " ms, seed " << seed;
    }
  }
}

// The same without what Swim knows of itself: the study sees the difference.
TEST(SwimStudy, AMemberThatDoesNotNoticeItsPausesCondemnsOthers) {
  SwimConfig blind = SwimConfig::lan();
  blind.oversleep = 24h;
  blind.awareness_max = 1;
  std::uint64_t condemned = 0;
  for (std::uint64_t seed = 1; condemned == 0 && seed <= 40; ++seed) {  // Some histories in a hundred show it.
    condemned += study_pauses(20, 4, 2500ms, 250ms, 60s, seed, blind).healthy_dead;
  }
  EXPECT_GT(condemned, 0u);
}

TEST(SwimStudy, LossCondemnsNobodyForLong) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    EXPECT_EQ(study_loss(20, 0.05, 60s, seed).healthy_dead, 0u) << seed;
    EXPECT_TRUE(study_loss(20, 0.25, 60s, seed).healed) << seed;
  }
}

}  // namespace
}  // namespace starling::overlay
