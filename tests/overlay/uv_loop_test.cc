#include "overlay/loop/uv_loop.h"

#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/overlay/uv_runner.h"

namespace starling::overlay {
namespace {

using ::testing::ElementsAre;

TEST(UvLoop, RunsTimersInOrderOfDeadlineThenOfCreation) {
  UvLoop loop;
  std::vector<int> order;
  Timer c = loop.after(3ms, [&] {
    order.push_back(3);
    loop.stop();
  });
  Timer a = loop.after(1ms, [&] { order.push_back(1); });
  Timer b = loop.after(1ms, [&] { order.push_back(2); });
  loop.run();
  EXPECT_THAT(order, ElementsAre(1, 2, 3));
}

TEST(UvLoop, NeverRunsATimerEarly) {
  UvLoop loop;
  const Instant start = loop.now();
  Instant fired{};
  Timer timer = loop.after(2500us, [&] {
    fired = loop.now();
    loop.stop();
  });
  loop.run();
  EXPECT_GE(fired - start, 2500us);
}

TEST(UvLoop, DropsATimerThatIsCancelledByAnEarlierOneOfTheSameTurn) {
  UvLoop loop;
  bool ran = false;
  Timer second;
  Timer first = loop.after(1ms, [&] { second.cancel(); });
  second = loop.after(1ms, [&] { ran = true; });
  run_for(loop, 5ms);
  EXPECT_FALSE(ran);
}

TEST(UvLoop, LetsATimerDestroyItselfInsideItsCallback) {
  UvLoop loop;
  auto held = std::make_shared<int>(7);
  int seen = 0;
  Timer timer;
  timer = loop.after(0ms, [&timer, &seen, held] {
    timer.cancel();
    seen = *held;
  });
  run_for(loop, 2ms);
  EXPECT_EQ(seen, 7);
  EXPECT_EQ(held.use_count(), 1);
}

TEST(UvLoop, RunsATimerSetInsideATimerInALaterTurn) {
  UvLoop loop;
  std::vector<Instant> turns;
  Timer inner;
  Timer outer = loop.after(0ms, [&] {
    turns.push_back(loop.now());
    inner = loop.after(0ms, [&] {
      turns.push_back(loop.now());
      loop.stop();
    });
  });
  loop.run();
  ASSERT_EQ(turns.size(), 2u);
  EXPECT_LT(turns[0], turns[1]);
}

TEST(UvLoop, FreesWhatACancelledTimerHolds) {
  UvLoop loop;
  auto nested = std::make_shared<Timer>(loop.after(1h, [] {}));
  std::weak_ptr<Timer> watch = nested;
  Timer outer = loop.after(1h, [nested] {});
  nested.reset();
  outer.cancel();
  EXPECT_TRUE(watch.expired());
}

TEST(UvLoop, RunsDeferredFunctionsInTheSameTurnBeforeItSleeps) {
  UvLoop loop;
  std::vector<int> order;
  Instant turn{};
  Timer timer = loop.after(0ms, [&] {
    turn = loop.now();
    loop.defer([&] {
      order.push_back(2);
      loop.defer([&] {
        order.push_back(3);
        EXPECT_EQ(loop.now(), turn);
      });
    });
    order.push_back(1);
  });
  Timer next = loop.after(5ms, [&] {
    order.push_back(4);
    loop.stop();
  });
  loop.run();
  EXPECT_THAT(order, ElementsAre(1, 2, 3, 4));
}

TEST(UvLoop, RunsAnEarlierStageFirstAlsoWhatALaterOneDefers) {
  using Stage = Loop::Stage;
  UvLoop loop;
  std::string order;
  Timer timer = loop.after(0ms, [&] {
    loop.defer(Stage::kWrite, [&] { order += 'w'; });
    loop.defer(Stage::kSeal, [&] {
      order += 's';
      loop.defer([&] { order += 'b'; });
      loop.defer(Stage::kSeal, [&] { order += 't'; });
    });
    loop.defer(Stage::kCommit, [&] { order += 'c'; });
    loop.defer([&] { order += 'a'; });
  });
  Timer next = loop.after(5ms, [&] { loop.stop(); });
  loop.run();
  EXPECT_EQ(order, "acsbtw");
}

TEST(UvLoop, RunsWhatWasDeferredBeforeItStarted) {
  UvLoop loop;
  bool ran = false;
  loop.defer([&] {
    ran = true;
    loop.stop();
  });
  loop.run();
  EXPECT_TRUE(ran);
}

TEST(UvLoop, RunsWhatAPostedFunctionDeferred) {
  UvLoop loop;
  bool ran = false;
  loop.post([&] {
    loop.defer([&] { ran = true; });
    loop.stop();
  });
  loop.run();
  EXPECT_TRUE(ran);
}

TEST(UvLoop, TakesPostsFromOtherThreadsInOrder) {
  UvLoop loop;
  std::vector<int> got;
  const auto owner = std::this_thread::get_id();
  std::thread thread([&] {
    for (int i = 0; i < 1000; ++i) {
      loop.post([&got, &loop, owner, i] {
        EXPECT_EQ(std::this_thread::get_id(), owner);
        got.push_back(i);
        if (i == 999) loop.stop();
      });
    }
  });
  loop.run();
  thread.join();
  ASSERT_EQ(got.size(), 1000u);
  EXPECT_TRUE(std::is_sorted(got.begin(), got.end()));
}

TEST(UvLoop, NeverRunsAPostInsideThePoster) {
  UvLoop loop;
  bool ran = false;
  loop.post([&] {
    ran = true;
    loop.stop();
  });
  EXPECT_FALSE(ran);
  loop.run();
  EXPECT_TRUE(ran);
}

TEST(UvLoop, WorksOffTheLoopAndFinishesOnIt) {
  UvLoop loop;
  const auto owner = std::this_thread::get_id();
  std::thread::id worked;
  std::thread::id finished;
  loop.work([&] { worked = std::this_thread::get_id(); },
            [&] {
              finished = std::this_thread::get_id();
              loop.stop();
            });
  loop.run();
  EXPECT_NE(worked, owner);
  EXPECT_EQ(finished, owner);
}

// What burns CPU for whoever asks gives way to the loop.
TEST(UvLoop, WorksAtALowerPriorityThanItsOwn) {
  UvLoop loop;
  const auto nice_of_thread = [] { return getpriority(PRIO_PROCESS, static_cast<id_t>(gettid())); };
  const int own = nice_of_thread();
  int of_work = own;
  loop.work([&] { of_work = nice_of_thread(); }, [&] { loop.stop(); });
  loop.run();
  EXPECT_TRUE(of_work > own || own == 19) << of_work;
  EXPECT_EQ(nice_of_thread(), own);
}

TEST(UvLoop, WaitsForRunningJobsAndDropsTheirEndWhenDestroyed) {
  std::atomic<bool> worked = false;
  bool finished = false;
  {
    UvLoop loop;
    loop.work([&] { worked = true; }, [&] { finished = true; });
  }
  EXPECT_TRUE(worked);
  EXPECT_FALSE(finished);
}

TEST(UvLoop, CallsBackOnASignal) {
  UvLoop loop;
  int signals = 0;
  loop.on_signal(SIGUSR1, [&] {
    ++signals;
    loop.stop();
  });
  loop.post([] { std::raise(SIGUSR1); });
  loop.run();
  EXPECT_EQ(signals, 1);
}

TEST(UvLoopDeathTest, AbortsWhenCalledFromAnotherThread) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        UvLoop loop;
        std::thread([&] { loop.assert_current(); }).join();
      },
      "");
}

}  // namespace
}  // namespace starling::overlay
