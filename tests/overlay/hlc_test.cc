#include "overlay/loop/hlc.h"

#include <gtest/gtest.h>

namespace starling::overlay {
namespace {

constexpr std::int64_t kWall = 1'700'000'000'000;

TEST(Hlc, ReadingsRiseWhateverTheWallClockDoes) {
  HlcClock clock;
  Hlc last = 0;
  for (std::int64_t wall :
       {kWall, kWall, kWall - 3'600'000, kWall + 1, kWall + 1, std::int64_t{-5}}) {
    const Hlc next = clock.next(wall);
    EXPECT_GT(next, last);
    last = next;
  }
  EXPECT_EQ(hlc_ms(last), static_cast<std::uint64_t>(kWall + 1));
}

TEST(Hlc, FollowsTheWallClockForward) {
  HlcClock clock;
  EXPECT_EQ(clock.next(kWall), hlc_at(kWall));
  EXPECT_EQ(clock.next(kWall), hlc_at(kWall) + 1);
  EXPECT_EQ(clock.next(kWall + 5), hlc_at(kWall + 5));
}

TEST(Hlc, IsAboveTheFloor) {
  HlcClock clock;
  const Hlc floor = hlc_at(kWall + 900) + 7;
  EXPECT_EQ(clock.next(kWall, floor), floor + 1);
  EXPECT_GT(clock.next(kWall, hlc_at(kWall)), floor + 1);
}

TEST(Hlc, ALogicalOverflowCarriesIntoTheMilliseconds) {
  HlcClock clock(hlc_at(kWall) + 0xFFFF);
  EXPECT_EQ(clock.next(kWall), hlc_at(kWall + 1));
  EXPECT_EQ(clock.next(kWall), hlc_at(kWall + 1) + 1);
}

TEST(Hlc, RisesAboveAnObservedReading) {
  HlcClock clock;
  const Hlc remote = hlc_at(kWall + 5'000) + 3;
  ASSERT_TRUE(clock.observe(remote, kWall).ok()) << "exactly at the bound";
  EXPECT_EQ(clock.next(kWall), remote + 1);
}

TEST(Hlc, RefusesAReadingTooFarAheadAndIsNotMoved) {
  HlcClock clock;
  clock.next(kWall);
  const Hlc before = clock.last();
  const Status refused = clock.observe(hlc_at(kWall + 10'001), kWall);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.code(), Errc::kClock);
  EXPECT_EQ(clock.last(), before);
  EXPECT_EQ(HlcClock::check(~Hlc{0}, kWall).code(), Errc::kClock);
  EXPECT_TRUE(HlcClock::check(hlc_at(1), kWall).ok()) << "the past is welcome";
}

// A peer whose clock is as far ahead of ours as it may be took a floor that was as far ahead of its own: its changes are
// taken. Were our clock pulled along, the next node would refuse ours.
TEST(Hlc, WhatAPeerMayHaveMintedIsTakenAndPullsTheClockNoFurtherThanAFloor) {
  const Hlc theirs = HlcClock(0).next(kWall + to_ms(kClocksApartMax), hlc_at(kWall + to_ms(kLiveAheadMax)) - 1);
  EXPECT_EQ(hlc_ms(theirs), static_cast<std::uint64_t>(kWall + 10'000));
  HlcClock clock;
  EXPECT_TRUE(clock.observe(theirs, kWall).ok());
  EXPECT_EQ(hlc_ms(clock.last()), static_cast<std::uint64_t>(kWall + 5'000));
}

TEST(Hlc, RepairTrafficMovesTheClockNoFurtherThanTheBound) {
  HlcClock clock;
  clock.observe_repair(hlc_at(kWall + 86'400'000), kWall);
  EXPECT_EQ(clock.last(), hlc_at(kWall + 5'000));
  clock.observe_repair(hlc_at(kWall + 2'000), kWall);
  EXPECT_EQ(clock.last(), hlc_at(kWall + 5'000)) << "and never back";
}

}  // namespace
}  // namespace starling::overlay
