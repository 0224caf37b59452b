// Series: rows by when a message was due, and when a burst is over.
#include <gtest/gtest.h>

#include "node/cli/load/series.h"

namespace starling::node::cli {
namespace {

constexpr Instant kSeriesStart{std::chrono::seconds(100)};

// A second of a message each 10 ms, answered after `latency`.
void second(Series& series, int number, Duration latency) {
  for (int i = 0; i < 100; ++i) {
    const Instant due = kSeriesStart + std::chrono::seconds(number) + 10ms * i;
    series.answered(due, due + latency, true);
  }
}

TEST(Series, CountsAMessageWhereItWasDueAndNothingOfTheWarmUp) {
  Series series(kSeriesStart, 1s);
  series.answered(kSeriesStart - 1ms, kSeriesStart + 1s, true);
  series.answered(kSeriesStart + 200ms, kSeriesStart + 5s, true);
  series.answered(kSeriesStart + 1s, kSeriesStart + 1010ms, false);
  series.nodes(kSeriesStart + 1s, 7, 100);
  series.nodes(kSeriesStart + 1500ms, 5, 130);
  ASSERT_EQ(series.rows().size(), 2u);
  EXPECT_EQ(series.rows()[0].ack.count(), 1u);
  EXPECT_EQ(series.rows()[0].ack.max(), 4'800'000u);
  EXPECT_EQ(series.rows()[1].ack.count(), 0u);
  EXPECT_EQ(series.rows()[1].refused, 1u);
  EXPECT_EQ(series.rows()[1].rss, 7u) << "the largest";
  EXPECT_EQ(series.rows()[1].written, 30u) << "what was written meanwhile";
}

TEST(Series, ABurstIsOverWhenASecondIsAsTheOnesBefore) {
  const Burst burst{10, 2s, 4s};
  Series series(kSeriesStart, 1s);
  second(series, 0, 3ms);
  second(series, 1, 3ms);
  second(series, 2, 1s);
  second(series, 3, 2s);
  EXPECT_LT(series.recovered_after(burst), 0) << "not yet";
  second(series, 4, 500ms);
  EXPECT_LT(series.recovered_after(burst), 0);
  second(series, 5, 5ms);
  EXPECT_EQ(series.recovered_after(burst), 2) << "the end of the sixth second";
}

}  // namespace
}  // namespace starling::node::cli
