// A benchmark that lost something must say so, whatever else arrived.
#include <gtest/gtest.h>

#include "node/cli/load/tally.h"

namespace starling::node::cli {
namespace {

using Arrival = Tally::Arrival;

TEST(Tally, WhatWasAcknowledgedIsMissingUntilItArrived) {
  Tally tally;
  Post before{{}, 1}, after{{}, 1}, never{{}, 2};
  EXPECT_EQ(tally.arrived(before), Arrival::kDue);
  EXPECT_EQ(tally.missing(), 0U) << "nobody promised it yet";
  tally.answered(before, true);
  EXPECT_EQ(tally.missing(), 0U);
  tally.answered(after, true);
  tally.answered(never, true);
  EXPECT_EQ(tally.missing(), 3U);
  EXPECT_EQ(tally.arrived(after), Arrival::kDue);
  EXPECT_EQ(tally.arrived(never), Arrival::kDue);
  EXPECT_EQ(tally.missing(), 1U);
  EXPECT_EQ(tally.acked(), 3U);
  EXPECT_EQ(tally.delivered(), 3U);
}

TEST(Tally, WhatArrivesTwiceHidesNothing) {
  Tally tally;
  Post twice{{}, 1}, lost{{}, 1};
  tally.answered(twice, true);
  tally.answered(lost, true);
  EXPECT_EQ(tally.arrived(twice), Arrival::kDue);
  EXPECT_EQ(tally.arrived(twice), Arrival::kAgain);
  EXPECT_EQ(tally.delivered(), 1U);
  EXPECT_EQ(tally.missing(), 1U);
}

TEST(Tally, WhatWasRefusedIsNotMissingAndHidesNothing) {
  Tally tally;
  Post refused{{}, 1}, lost{{}, 1};
  tally.answered(refused, false);
  tally.answered(lost, true);
  EXPECT_EQ(tally.arrived(refused), Arrival::kRefused);
  EXPECT_EQ(tally.delivered(), 0U);
  EXPECT_EQ(tally.refused(), 1U);
  EXPECT_EQ(tally.missing(), 1U);
}

}  // namespace
}  // namespace starling::node::cli
