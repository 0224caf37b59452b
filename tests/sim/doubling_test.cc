// The partitions are doubled under a cluster that is idle, and under one that has something to do (decision 0025).
#include "tests/sim/doubling.h"

namespace starling::sim {
namespace {

INSTANTIATE_TEST_SUITE_P(Seeds, Doubling, ::testing::Range<std::uint64_t>(1, 11));

TEST_P(Doubling, AnIdleClusterGoesOnWithTwiceThePartitions) {
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  double_at(a);
  EXPECT_TRUE(agreed) << agreed.error().text;
  settle();
  start(*alice2, a);  // Reads what was said before.
  for (const char* to : {"#g", "@bob"}) EXPECT_TRUE(acked(send(*alice, to)));
  EXPECT_TRUE(acked(send(*bob, "@alice")));
  finish();
}

// What was stored before survives a restart of all, with its rows in either place.
TEST_P(Doubling, EachNodeStartsAgainBeforeItsSplitIsSettled) {
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  double_at(b);
  for (std::size_t i = 0; i < cluster.size(); ++i) cluster.crash(i, Crash::kPower);
  for (std::size_t i = 0; i < cluster.size(); ++i) ASSERT_TRUE(cluster.restart(i));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
  for (std::size_t i = 0; i < cluster.size(); ++i) EXPECT_EQ(count(i), 2 * options.partitions);
  EXPECT_TRUE(acked(send(*alice)));
  settle();
  finish();
}

TEST_P(Doubling, ABusyClusterIsDoubled) {
  work.start();
  world.run_for(3s);
  double_at(c);
  world.run_for(3s);
  settle();
  world.run_for(3s);
  work.stop();
  finish();
}

TEST_P(Doubling, TwiceInARow) {
  work.start();
  double_at(a);
  settle();
  double_at(b);
  settle();
  world.run_for(2s);
  work.stop();
  EXPECT_EQ(count(c), 4 * options.partitions);
  finish();
}

// The second has to wait: nobody votes for what nobody could follow.
TEST_P(Doubling, WhileOneIsNotSettledTheNextIsRefused) {
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  double_at(a);
  ASSERT_FALSE(all_settled());
  propose(b);
  ASSERT_TRUE(until([&] { return !agreed; }, 60s));
  for (std::size_t i = 0; i < cluster.size(); ++i) EXPECT_EQ(count(i), 2 * options.partitions);
  settle();
  double_at(b);
  settle();
  finish();
}

}  // namespace
}  // namespace starling::sim
