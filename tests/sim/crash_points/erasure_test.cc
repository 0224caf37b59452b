// Crash points of what erases: expiry, and what was replaced. A node dies at one of the commits that it leads to, by the
// seed; what may go goes all the same, and nothing else.
#include "tests/sim/crash_points/crash_points.h"
#include "tests/sim/repair/repair.h"

namespace starling::sim {
namespace {

class CrashErasure : public CrashPointOf<Repair> {
 protected:
  // From now on: node i dies at its n-th commit, which the disk then has, in part, or not.
  void kill_at_commit(std::size_t i, std::uint64_t n) {
    cluster.disk(i).on_commit([this, i, last = cluster.disk(i).commits() + n](std::uint64_t number) {
      if (number < last) return;
      cluster.disk(i).on_commit(nullptr);
      cluster.crash(i, kind());
    });
  }
  void expect_equal() {
    ASSERT_TRUE(cluster.run_until_quiet(60s));
    Json report;
    for (int turn = 0; turn < 60; ++turn, world.run_for(1s)) {
      report = verify(a);
      if (report.at("same") == options.partitions) return;
    }
    ADD_FAILURE() << report;
  }
  [[nodiscard]] std::uint64_t step() const { return 1 + GetParam() % 6; }
};

INSTANTIATE_TEST_SUITE_P(Seeds, CrashErasure, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(12)));

TEST_P(CrashErasure, OfAReplacedRegister) {
  auto& client = alice->client();
  ASSERT_TRUE(manage([&](auto done) { client.remove_member("#g", "@bob", std::move(done)); }));
  ASSERT_TRUE(manage([&](auto done) { client.add_member("#g", "@bob", 0, std::move(done)); }));
  ASSERT_FALSE(cluster.store(b).superseded(partition).empty());
  kill_at_commit(b, step());
  ASSERT_TRUE(until([&] { return !cluster.up(b); }, 300s)) << "it erased nothing";
  ASSERT_NO_FATAL_FAILURE(revive(b));
  world.run_for(60s);
  expect_equal();
  for (const auto i : {a, b, c}) {
    EXPECT_TRUE(cluster.store(i).superseded(partition).empty()) << i;
    const auto member = cluster.store(i).find_register(mailbox_of("#g"), "member/@bob");
    ASSERT_TRUE(member) << i;
    const auto value = unpack<storage::MemberValue>(member->value);
    EXPECT_TRUE(value && !value->removed && value->generation == 2) << i;
  }
  EXPECT_TRUE(acked(send(*bob)));
  finish();
}

class CrashExpiry : public CrashErasure {
 protected:
  CrashExpiry() { cluster.set_retention(60s); }
};

INSTANTIATE_TEST_SUITE_P(Seeds, CrashExpiry, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(12)));

TEST_P(CrashExpiry, OfMessages) {
  say();
  world.run_for(45s);
  kill_at_commit(b, step());
  ASSERT_TRUE(until([&] { return !cluster.up(b); }, 300s));
  ASSERT_NO_FATAL_FAILURE(revive(b));
  world.run_for(90s);
  say();
  expect_equal();
  start(*bob2, b);
  EXPECT_EQ(history_of(*bob2, messages[0]).size(), 0u);
  EXPECT_EQ(history_of(*bob2, messages[1]).size(), 1u);
}

// Expiry does not go back, nor on by itself, when everybody's power is gone.
TEST_P(CrashExpiry, AllAtOnce) {
  say();
  world.run_for(120s);
  say();
  ASSERT_NO_FATAL_FAILURE(power_cut());
  start(*bob2, b);
  EXPECT_EQ(history_of(*bob2, messages[0]).size(), 0u);
  EXPECT_EQ(history_of(*bob2, messages[1]).size(), 1u);
  expect_equal();
}

}  // namespace
}  // namespace starling::sim
