// What an owner forgets because the others have (decision 0035), and what follows for changes that were replaced.
#include "node/repair/pruner.h"

#include "node/repair/eraser.h"
#include "tests/node/parts.h"

namespace starling::node {
namespace {

using overlay::test_id;
using testing::kAlice;

constexpr WriterId kClosed{77};
constexpr WriterId kOpen{78};
constexpr std::uint64_t kExpiresMs = 100'000;
constexpr std::uint64_t kNowMs = 200'000;

class Forgetting : public Parts {
 protected:
  static void hold(storage::Store& store, WriterId writer, std::uint64_t n, std::uint64_t expires_ms) {
    auto change = testing::entry(kAlice, writer.value * 1000 + n, hlc_at(1000 + n), "hello", writer);
    change.entry.expires_ms = expires_ms;
    ASSERT_TRUE(store.apply(kPartition, {writer, n}, encoded(change, {writer, n})).ok());
  }
  void prepare() override {
    for (std::uint64_t n = 1; n <= 3; ++n) hold(*box.store, kClosed, n, kExpiresMs);
    hold(*box.store, kOpen, 1, kExpiresMs);
    box.sync();
  }
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Parts::SetUp());
    in_turn([&] {
      forwarder = std::make_unique<Forwarder>(*view);
      replicator = std::make_unique<Replicator>(*view, [](const NodeId&, PartitionId, WriterId, std::uint64_t) {});
      obligations = std::make_unique<Obligations>(*view, *forwarder, *replicator, [](WriterId) { return false; });
      pruner = std::make_unique<Pruner>(*view, *obligations, [] { return std::set<WriterId>{kOpen}; });
    });
    box.store->set_expiry_time(kNowMs);
    box.sync();
  }
  // Each of these owners says so often that it holds just this.
  void hear(const std::vector<NodeId>& peers, int times, const storage::VersionVector& vector = {}, bool whole = true) {
    for (int i = 0; i < times; ++i) {
      for (const auto& peer : peers) in_turn([&] { pruner->compared(peer, {kPartition, vector, whole, {}}); });
      run_for(2s);
    }
  }
  [[nodiscard]] std::uint64_t held(WriterId writer) const { return box.store->held(kPartition, writer); }

  std::unique_ptr<Forwarder> forwarder;
  std::unique_ptr<Replicator> replicator;
  std::unique_ptr<Obligations> obligations;
  std::unique_ptr<Pruner> pruner;
};

TEST_F(Forgetting, WhoWasAwayForgetsWhatAllOtherOwnersForgot) {
  hear({owners[1], owners[2]}, 10);
  run_for(60s);
  EXPECT_EQ(held(kClosed), 0u);
  EXPECT_TRUE(pruner->is_forgotten(kPartition, {kClosed, 3})) << "or it would come back from a third";
  EXPECT_EQ(held(kOpen), 1u) << "its run goes on";
}

TEST_F(Forgetting, OneOwnerThatHasItIsEnoughToKeepIt) {
  storage::VersionVector some;
  some.raise(kClosed, 1);
  hear({owners[1]}, 10);
  hear({owners[2]}, 10, some);
  run_for(60s);
  EXPECT_EQ(held(kClosed), 3u);
}

TEST_F(Forgetting, AnOwnerWithDamageOrOneThatCatchesUpSaysNothing) {
  hear({owners[1], owners[2]}, 10, {}, false);
  run_for(60s);
  EXPECT_EQ(held(kClosed), 3u);
  late = {owners[2]};
  hear({owners[1], owners[2]}, 10);
  run_for(60s);
  EXPECT_EQ(held(kClosed), 3u);
}

TEST_F(Forgetting, WhoJustLagsBehindIsGivenTime) {
  hear({owners[1], owners[2]}, 2);
  run_for(60s);
  EXPECT_EQ(held(kClosed), 3u);
}

class ForgettingWhatLives : public Forgetting {
 protected:
  void prepare() override {
    for (std::uint64_t n = 1; n <= 3; ++n) hold(*box.store, kClosed, n, n == 2 ? 0 : kExpiresMs);
    box.sync();
  }
};

TEST_F(ForgettingWhatLives, WhatIsNotSpentStays) {
  hear({owners[1], owners[2]}, 10);
  run_for(60s);
  EXPECT_EQ(held(kClosed), 3u);
}

// A record that was found damaged when the others forgot its writer: nobody can give it any more.
class ForgettingDamage : public Forgetting {
 protected:
  void prepare() override {
    for (std::uint64_t n = 1; n <= 3; ++n) {
      hold(*box.store, kClosed, n, n == 3 ? last_expires_ms : n == 2 ? damaged_expires_ms : kExpiresMs);
    }
    box.close_cleanly();
    box.tamper(storage::ColumnFamily::kLog, 1, [](Bytes& value) { value[value.size() / 2] ^= 1; });
    box.open();
    (void)box.scrub();
    ASSERT_EQ(box.store->damaged(kPartition), (std::vector<Dot>{{kClosed, 2}}));
  }
  std::uint64_t last_expires_ms = kExpiresMs;
  std::uint64_t damaged_expires_ms = kExpiresMs;
};

TEST_F(ForgettingDamage, CountsAsForgottenToo) {
  hear({owners[1]}, 10);
  EXPECT_FALSE(box.store->is_whole(kPartition));
  hear({owners[1], owners[2]}, 10);
  run_for(60s);
  EXPECT_TRUE(box.store->is_whole(kPartition));
  EXPECT_EQ(held(kClosed), 0u);
  EXPECT_TRUE(box.store->lost(kPartition).empty());
}

class ForgettingDamageAmongWhatLives : public ForgettingDamage {
 protected:
  ForgettingDamageAmongWhatLives() { last_expires_ms = 0; }
};

TEST_F(ForgettingDamageAmongWhatLives, StaysForTheOperator) {
  hear({owners[1], owners[2]}, 10);
  run_for(60s);
  EXPECT_FALSE(box.store->is_whole(kPartition));
  EXPECT_EQ(held(kClosed), 3u);
}

// The others may never have had it: that they hold nothing of the run says nothing of what has not expired.
class ForgettingTheOnlyCopy : public ForgettingDamage {
 protected:
  ForgettingTheOnlyCopy() { damaged_expires_ms = 2 * kNowMs; }
};

TEST_F(ForgettingTheOnlyCopy, StaysDamagedUntilItExpires) {
  hear({owners[1], owners[2]}, 10);
  run_for(60s);
  EXPECT_EQ(box.store->damaged(kPartition), (std::vector<Dot>{{kClosed, 2}}));
  EXPECT_EQ(held(kClosed), 3u);
  box.store->set_expiry_time(3 * kNowMs);
  box.sync();
  hear({owners[1], owners[2]}, 10);
  run_for(60s);
  EXPECT_TRUE(box.store->is_whole(kPartition));
  EXPECT_EQ(held(kClosed), 0u);
}

class ForgettingTheOnlyCopyOfWhatStays : public ForgettingDamage {
 protected:
  ForgettingTheOnlyCopyOfWhatStays() { damaged_expires_ms = 0; }
};

TEST_F(ForgettingTheOnlyCopyOfWhatStays, IsWrittenOffByTheOperatorAlone) {
  hear({owners[1], owners[2]}, 10);
  run_for(60s);
  ASSERT_EQ(box.store->damaged(kPartition), (std::vector<Dot>{{kClosed, 2}}));
  ASSERT_EQ(box.store->mark_lost(kPartition, {kClosed, 2}).code(), Errc::kOverloaded);  // Looks for its rows.
  ASSERT_TRUE(box.store->mark_lost(kPartition, {kClosed, 2}).ok());
  box.sync();
  EXPECT_TRUE(box.store->is_whole(kPartition));
  EXPECT_EQ(box.store->lost(kPartition), (std::vector<Dot>{{kClosed, 2}}));
}

// Many runs: looked at and forgotten a few at a time.
class ForgettingMany : public Forgetting {
 protected:
  static constexpr std::uint64_t kRuns = 400;
  void prepare() override {
    for (std::uint64_t w = 1; w <= kRuns; ++w) hold(*box.store, WriterId{1000 + w}, 1, kExpiresMs);
    box.sync();
  }
};

TEST_F(ForgettingMany, ATurnYieldsBetweenBoundedPieces) {
  const auto at_period = [&](std::uint64_t period) {
    box.store->set_expiry_time(period * kPrunePeriodMs + kNowMs);
    box.sync();
  };
  at_period(1);
  run_for(60s);
  hold(*box.store, WriterId{5000}, 1, kExpiresMs);  // Listed last: stays.
  box.sync();
  at_period(2);
  std::size_t before = kRuns + 1, most = 0, steps = 0;
  for (int ms = 0; ms < 60'000 && before > 1; ++ms) {
    world.run_for(1ms);
    const std::size_t left = box.store->vector(kPartition).dots().size();
    most = std::max(most, before - left);
    steps += left < before ? 1 : 0;
    before = left;
    if (left < kRuns + 1) box.sync();
  }
  EXPECT_EQ(before, 1u);
  EXPECT_LE(most, 64u);
  EXPECT_GE(steps, 10u);
}

// A register, a value that replaced it, and the run of that value forgotten: the old one may go all the same.
class Replaced : public Parts {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Parts::SetUp());
    const auto put = [&](WriterId writer, Hlc time, View value) {
      const auto change = testing::reg(kAlice, "k", value, time, storage::MergeKind::kLww, writer);
      ASSERT_TRUE(box.store->apply(kPartition, {writer, 1}, encoded(change, {writer, 1})).ok());
      box.sync();
    };
    put(WriterId{1}, hlc_at(1000), "old");
    put(WriterId{2}, hlc_at(2000), "newer");
    put(WriterId{3}, hlc_at(3000), "newest");
    // The newest is on all owners, so what it replaced is erased first, and the run of that is spent.
    const storage::Superseded middle{{WriterId{2}, 1}, {WriterId{3}, 1}};
    ASSERT_TRUE(box.store->erase_superseded(kPartition, {&middle, 1}).ok());
    box.sync();
    ASSERT_TRUE(box.store->forget(kPartition, WriterId{2}));
    box.sync();
    ASSERT_EQ(box.store->superseded(kPartition).size(), 1u);
  }
};

TEST_F(Replaced, AWinnerThatWasForgottenKeepsNothing) {
  std::unique_ptr<Eraser> eraser;
  in_turn([&] { eraser = std::make_unique<Eraser>(*view, [](auto, const auto&) { return true; }); });
  run_for(15s);
  EXPECT_TRUE(box.store->superseded(kPartition).empty());
  EXPECT_TRUE(box.store->read_writer(kPartition, WriterId{1}, 1, 1 << 20)->live.empty());
  EXPECT_EQ(box.store->find_register(kAlice, "k")->value, "newest");
}

}  // namespace
}  // namespace starling::node
