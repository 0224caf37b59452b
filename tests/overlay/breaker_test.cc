#include "overlay/links/breaker.h"

#include <gtest/gtest.h>

namespace starling::overlay {
namespace {

const Error kRefused{Errc::kUnavailable, "connection refused"};

TEST(Breaker, IsClosedUntilSomethingFails) {
  Breaker breaker;
  EXPECT_TRUE(breaker.closed());
  EXPECT_FALSE(breaker.may_try(Instant{} + 1h)) << "there is nothing to try";
}

TEST(Breaker, RestsLongerAfterEachFailureUpToALimit) {
  Breaker breaker;
  const Instant now = Instant{} + 1s;
  Duration before{};
  for (int i = 0; i < 30; ++i) {
    breaker.trip(now, 0, kRefused);
    const Duration rest = breaker.next() - now;
    EXPECT_GE(rest, kRedialMin);
    EXPECT_LE(rest, kRedialMax);
    EXPECT_TRUE(rest > before || rest == kRedialMax);
    EXPECT_FALSE(breaker.may_try(now + rest - 1us));
    EXPECT_TRUE(breaker.may_try(now + rest));
    before = rest;
  }
  EXPECT_EQ(before, kRedialMax);
}

TEST(Breaker, JitterSpreadsTheAttemptsOfManyNodes) {
  Breaker early, late;
  early.trip(Instant{}, 0.999, kRefused);
  late.trip(Instant{}, 0, kRefused);
  EXPECT_LT(early.next(), late.next());
  EXPECT_GT(early.next() - Instant{}, kRedialMin * 3 / 4);
}

TEST(Breaker, ClosesWithTheFirstSuccessAndForgetsTheFailures) {
  Breaker breaker;
  for (int i = 0; i < 5; ++i) breaker.trip(Instant{}, 0, kRefused);
  breaker.close();
  EXPECT_TRUE(breaker.closed());
  breaker.trip(Instant{}, 0, kRefused);
  EXPECT_EQ(breaker.next() - Instant{}, kRedialMin);
  EXPECT_EQ(breaker.cause().text, kRefused.text);
}

}  // namespace
}  // namespace starling::overlay
