#include "overlay/loop/at_once.h"

#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "tests/sim/world/sim_loop.h"

namespace starling::overlay {
namespace {

struct AtOnce : ::testing::Test {
  Task<bool> work(std::size_t i) {
    most = std::max(most, ++running);
    Timer timer;
    if (i % 3 != 0) co_await sleep(loop, Duration(1ms) * static_cast<int>(i % 7), timer);  // Every third is done at once.
    --running;
    done[i] += 1;
    co_return true;
  }
  Task<bool> all(std::size_t count, std::size_t window) {
    auto working = at_once(loop, count, window, [this](std::size_t i) { return work(i); });
    co_await working;
    finished = true;
    co_return true;
  }
  void run(std::size_t count, std::size_t window) {
    done.assign(count, 0);
    loop.enter([&] { scope.spawn(all(count, window)); });
  }

  sim::World world{1};
  sim::SimLoop loop{world, "at once"};
  std::size_t running = 0, most = 0;
  bool finished = false;
  std::vector<int> done;
  Scope scope{loop};
};

TEST_F(AtOnce, EachIsDoneOnceAndNoMoreThanTheWindowAtATime) {
  run(100, 8);
  EXPECT_FALSE(finished);
  world.run_for(1s);
  EXPECT_TRUE(finished);
  EXPECT_EQ(done, std::vector<int>(100, 1));
  EXPECT_EQ(most, 8u);
  EXPECT_EQ(running, 0u);
}

TEST_F(AtOnce, NothingToDoIsDoneAndAWideWindowIsNoMoreThanThereIs) {
  run(0, 8);
  world.run_for(1ms);
  EXPECT_TRUE(finished);
  finished = false;
  run(3, 8);
  world.run_for(1s);
  EXPECT_TRUE(finished);
  EXPECT_LE(most, 3u);
}

TEST_F(AtOnce, AWaiterThatGoesAwayTakesItsTasksAlong) {
  {
    Scope waiter{loop};
    done.assign(100, 0);
    loop.enter([&] { waiter.spawn(all(100, 8)); });
    world.run_for(2ms);
  }
  const auto so_far = std::accumulate(done.begin(), done.end(), 0);
  EXPECT_LT(so_far, 100);
  world.run_for(1s);
  EXPECT_EQ(std::accumulate(done.begin(), done.end(), 0), so_far);
  EXPECT_FALSE(finished);
}

}  // namespace
}  // namespace starling::overlay
