// Guessing of passwords is slowed, and hashes wait in a bounded line.
#include "node/mailbox/guesses.h"

#include <gtest/gtest.h>

#include "node/mailbox/hash_queue.h"
#include "tests/sim/world/sim_loop.h"

namespace starling::node {
namespace {

using namespace std::chrono_literals;
using overlay::Task;

constexpr Instant kStart{1h};

int tries(Guesses& guesses, View user, View address, Instant now) {
  int n = 0;
  while (n < 1000 && guesses.take(user, address, now)) ++n;
  return n;
}

TEST(Guesses, AreFewForAUserFromOneAddressAndComeBackSlowly) {
  Guesses guesses;
  EXPECT_EQ(tries(guesses, "@alice", "10.0.0.1", kStart), 10);
  EXPECT_EQ(guesses.take("@alice", "10.0.0.1", kStart).code(), Errc::kOverloaded);
  EXPECT_EQ(tries(guesses, "@alice", "10.0.0.1", kStart + 9s), 0);
  EXPECT_EQ(tries(guesses, "@alice", "10.0.0.1", kStart + 31s), 3);
  EXPECT_EQ(tries(guesses, "@alice", "10.0.0.2", kStart + 31s), 10) << "her own address is not theirs";
  EXPECT_EQ(tries(guesses, "@bob", "10.0.0.1", kStart + 31s), 10);
}

TEST(Guesses, AreBoundedOfOneUserFromManyAddressesAndFromOneAddressAtManyUsers) {
  Guesses guesses;
  int of_user = 0, from_address = 0;
  for (int i = 0; i < 50; ++i) of_user += tries(guesses, "@alice", "10.0.0." + std::to_string(i), kStart);
  EXPECT_EQ(of_user, 100);
  for (int i = 0; i < 50; ++i) from_address += tries(guesses, "@u" + std::to_string(i), "10.9.9.9", kStart);
  EXPECT_EQ(from_address, 100);
}

TEST(Guesses, WhoKnowsThePasswordIsNeverSlowed) {
  Guesses guesses;
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(guesses.take("@alice", "10.0.0.1", kStart));
    guesses.give_back("@alice", "10.0.0.1");
  }
  EXPECT_EQ(guesses.kept(), 0u) << "nothing is kept of them";
}

TEST(Guesses, KeepABoundedNumberOfBuckets) {
  Guesses guesses;
  for (std::size_t i = 0; i < kGuessersMax; ++i) {
    (void)guesses.take("@u" + std::to_string(i), "10.1." + std::to_string(i), kStart + i * 1ms);
    ASSERT_LE(guesses.kept(), kGuessersMax);
  }
}

// Jobs of a node run one after the other in a simulation, but each counts as running until its time is over.
struct Hashing {
  sim::World world{1};
  sim::SimLoop loop{world, "hashing"};
  HashQueue queue{loop};
  int begun = 0, ended = 0;

  Task<Done> ask(HashQueue::Place place) {
    auto running = queue.run(std::move(place), [this] { ++begun; });
    const bool ran = co_await running;
    ended += ran ? 1 : 0;
    co_return Done{};
  }
};

TEST(HashQueue, TwoRunAtOnceAndABoundedNumberWait) {
  Hashing hashing;
  overlay::Scope scope(hashing.loop);
  const std::size_t places = kHashesAtOnceMax + kHashesWaitingMax;
  hashing.loop.enter([&] {
    for (std::size_t i = 0; i < places; ++i) {
      auto place = hashing.queue.take_place("");
      ASSERT_TRUE(place);
      scope.spawn(hashing.ask(std::move(*place)));
    }
    EXPECT_EQ(hashing.queue.take_place("").code(), Errc::kOverloaded);
    EXPECT_EQ(hashing.queue.running(), kHashesAtOnceMax);
  });
  hashing.world.run_for(60s);
  EXPECT_EQ(hashing.ended, static_cast<int>(places));
  EXPECT_EQ(hashing.queue.places_taken(), 0u);
}

TEST(HashQueue, AnAddressHasAPartOfThePlacesAndTheOperatorAFew) {
  Hashing hashing;
  const std::size_t places = kHashesAtOnceMax + kHashesWaitingMax;
  std::vector<HashQueue::Place> held;
  const auto take = [&](const std::string& from) {
    auto place = hashing.queue.take_place(from);
    if (place) held.push_back(std::move(*place));
    return place.ok();
  };
  for (std::size_t i = 0; i < kHashPlacesOfAddressMax; ++i) EXPECT_TRUE(take("10.0.0.1"));
  EXPECT_FALSE(take("10.0.0.1"));
  EXPECT_TRUE(take("10.0.0.2"));
  held.erase(held.begin());
  EXPECT_TRUE(take("10.0.0.1"));
  for (std::size_t i = 0; i < places; ++i) take("10.0.1." + std::to_string(i));
  EXPECT_EQ(held.size(), places - kHashPlacesOfOperator);
  for (std::size_t i = 0; i < kHashPlacesOfOperator; ++i) EXPECT_TRUE(take(""));
  EXPECT_FALSE(take(""));
  held.clear();
  EXPECT_EQ(hashing.queue.places_taken(), 0u);
}

TEST(HashQueue, WhoGoesAwayKeepsItsPlaceUntilItsTurnAndIsThenLeftOut) {
  Hashing hashing;
  auto gone = std::make_unique<overlay::Scope>(hashing.loop);
  hashing.loop.enter([&] {
    for (int i = 0; i < 10; ++i) gone->spawn(hashing.ask(*hashing.queue.take_place("")));
    gone.reset();
    EXPECT_EQ(hashing.queue.places_taken(), 10u);
  });
  hashing.world.run_for(60s);
  EXPECT_EQ(hashing.ended, 0);
  EXPECT_LE(hashing.begun, static_cast<int>(kHashesAtOnceMax));
  EXPECT_EQ(hashing.queue.places_taken(), 0u);
}

}  // namespace
}  // namespace starling::node
