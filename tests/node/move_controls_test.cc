// What operators say of the copying for changes of the ring, and how it keeps to a rate.
#include "node/replication/catch_up/catch_up_controls.h"
#include "node/replication/catch_up/catch_up_pace.h"

#include <gtest/gtest.h>

namespace starling::node {
namespace {

EntryId at(std::uint64_t ms, std::uint64_t writer = 1) { return {hlc_at(ms), WriterId{writer}}; }

TEST(MoveSettings, OfEachSettingTheLaterWordWins) {
  MoveSettings a{true, at(20), 100'000, at(10)};
  const MoveSettings b{false, at(10), 200'000, at(20)};
  MoveSettings c = b;
  EXPECT_TRUE(merge(a, b));
  EXPECT_TRUE(merge(c, {true, at(20), 100'000, at(10)}));
  EXPECT_EQ(pack(a), pack(c)) << "whoever tells whom";
  EXPECT_TRUE(a.paused);
  EXPECT_EQ(a.rate, 200'000u);
  EXPECT_FALSE(merge(a, b));
}

TEST(MoveSettings, TwoWordsOfOneMomentEndAlikeEverywhere) {
  MoveSettings a{true, at(10, 1), 0, {}};
  MoveSettings b{false, at(10, 2), 0, {}};
  const MoveSettings was = a;
  merge(a, b);
  merge(b, was);
  EXPECT_EQ(pack(a), pack(b));
}

// Bytes that come in a while when each fetch brings `size`, `many` at once, each taking `trip`.
std::uint64_t fetched(std::uint64_t rate, std::uint64_t size, int many, Duration trip, Duration span) {
  Pace pace;
  std::vector<Instant> back(static_cast<std::size_t>(many), Instant{});
  std::uint64_t total = 0;
  const Instant start{1s};
  for (Instant now = start; now < start + span; now += 1ms) {
    for (auto& slot : back) {
      if (slot > now) continue;
      if (slot != Instant{}) {
        pace.give_back(128 << 10);
        pace.charge(size);
        total += size;
        slot = Instant{};
      }
      if (pace.wait(rate, now) > Duration(0)) continue;
      pace.charge(128 << 10);
      slot = now + trip;
    }
  }
  return total;
}

TEST(Pace, KeepsToItsRateHoweverManyFetchAtOnceAndHoweverLittleTheyBring) {
  for (const std::uint64_t rate : {kMoveRateMin, std::uint64_t{1} << 20, std::uint64_t{20} << 20}) {
    for (const std::uint64_t size : {2'000u, 128u << 10, 192u << 10}) {
      const auto total = static_cast<double>(fetched(rate, size, 16, 5ms, 20s));
      EXPECT_LE(total, 1.1 * 20 * static_cast<double>(rate) + 2 * (192 << 10)) << rate << " " << size;
    }
  }
  // And uses it.
  EXPECT_GE(static_cast<double>(fetched(1 << 20, 128 << 10, 16, 5ms, 20s)), 0.9 * 20 * (1 << 20));
}

TEST(Pace, WithoutALimitNothingWaits) {
  Pace pace;
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(pace.wait(0, Instant{1s}), Duration(0));
    pace.charge(1 << 20);
  }
}

TEST(RateMeter, TellsWhatComesNowAndForgetsWhatCame) {
  RateMeter meter;
  Instant now{10s};
  for (int i = 0; i < 100; ++i) meter.add(1'000'000, now += 100ms);
  EXPECT_NEAR(static_cast<double>(meter.per_second(now)), 1e7, 5e5);
  EXPECT_LT(meter.per_second(now + 30s), 1000u);
  RateMeter young;
  young.add(1'000'000, now);
  young.add(1'000'000, now + 500ms);
  EXPECT_NEAR(static_cast<double>(young.per_second(now + 500ms)), 4e6, 5e5);
}

}  // namespace
}  // namespace starling::node
