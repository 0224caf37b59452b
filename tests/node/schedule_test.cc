// Of a bench that changes its rate: what was due is due, whenever it can be said.
#include "node/cli/load/schedule.h"

#include <gtest/gtest.h>

namespace starling::node::cli {
namespace {

using namespace std::chrono_literals;

constexpr Instant kScheduleStart = Instant{} + 100s;

// All that is due by `now` is said; how many.
std::size_t say_until(Schedule& schedule, Instant now) {
  std::size_t said = 0;
  for (; schedule.due() <= now; schedule.said()) ++said;
  return said;
}

TEST(Schedule, SaysEachAtItsTime) {
  Schedule schedule(10, kScheduleStart);
  EXPECT_EQ(schedule.due(), kScheduleStart);
  EXPECT_EQ(say_until(schedule, kScheduleStart), 1u);
  EXPECT_EQ(schedule.due(), kScheduleStart + 100ms);
  EXPECT_EQ(say_until(schedule, kScheduleStart + 1s), 10u);
  EXPECT_EQ(schedule.number(), 11u);
}

// In the middle of a burst 600 are late when it ends.
TEST(Schedule, ForgetsNothingThatWasDueBeforeTheRateChanged) {
  Schedule schedule(100, kScheduleStart);
  EXPECT_EQ(say_until(schedule, kScheduleStart + 999ms), 100u);
  schedule.set_rate(1000, kScheduleStart + 1s);
  EXPECT_EQ(say_until(schedule, kScheduleStart + 1400ms), 401u);
  schedule.set_rate(100, kScheduleStart + 2s);
  EXPECT_EQ(schedule.due(), kScheduleStart + 1401ms) << "late, at the time that it was due";
  EXPECT_EQ(say_until(schedule, kScheduleStart + 2s), 600u);
  EXPECT_EQ(schedule.due(), kScheduleStart + 2010ms);
  EXPECT_EQ(say_until(schedule, kScheduleStart + 3s), 100u);
  EXPECT_EQ(schedule.number(), 1201u);
}

TEST(Schedule, KeepsSeveralChangesThatItHasNotReached) {
  Schedule schedule(10, kScheduleStart);
  schedule.set_rate(1000, kScheduleStart + 1s);
  schedule.set_rate(10, kScheduleStart + 1100ms);
  EXPECT_EQ(say_until(schedule, kScheduleStart + 1s), 11u);
  EXPECT_EQ(say_until(schedule, kScheduleStart + 1100ms), 100u);
  EXPECT_EQ(say_until(schedule, kScheduleStart + 2100ms), 10u);
}

}  // namespace
}  // namespace starling::node::cli
