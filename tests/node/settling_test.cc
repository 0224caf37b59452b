// What was stored before a doubling moves to its place, at a pace that leaves the loop to others (parts.h).
#include "node/repair/settling.h"

#include "tests/node/parts.h"
#include "tests/storage/split.h"

namespace starling::node {
namespace {

using testing::entry;
using testing::kAlice;
using testing::kEve;

constexpr WriterId kSettledWriter{77};
constexpr std::uint64_t kChanges = 100;  // Of each child of kPartition.
constexpr std::size_t kBody = 8000;
constexpr int kSteps = 2 * kChanges * kBody / kSettleBytes;  // Of a walk, at least.

class Settles : public Parts {
 protected:
  void prepare() override { fill(kAlice, kEve); }
  // Odd numbers are of `a`.
  void fill(const MailboxId& a, const MailboxId& b) {
    const std::string body(kBody, 'x');
    for (std::uint64_t n = 1; n <= 2 * kChanges; ++n) {
      const Dot dot{kSettledWriter, n};
      const auto change = entry(n % 2 == 1 ? a : b, n, hlc_at(1000 + n), body, kSettledWriter);
      ASSERT_TRUE(box.store->apply(kPartition, dot, encoded(change, dot)).ok());
    }
    box.sync();
  }
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Parts::SetUp());
    in_turn([&] { settling = std::make_unique<Settling>(*view); });
    run_for(1s);
    ASSERT_EQ(settling->share(), 1);
  }
  void TearDown() override { settling.reset(); }
  void double_partitions() {
    in_turn([&] {
      auto doubled = overlay::must(overlay::Ring::make(overlay::must(overlay::next_doubled(view->ring().version()))));
      ASSERT_TRUE(box.store->split().ok());
      view->set_ring(doubled);
    });
    box.sync();
  }
  // Until it is done, in steps of 10 ms; how long that took.
  Duration settled_after() {
    const Instant began = world.now();
    while (!box.store->is_split_settled() && world.now() - began < 1min) {
      world.run_for(10ms);
      box.sync();
      EXPECT_GE(settling->share(), shown);
      shown = settling->share();
    }
    return world.now() - began;
  }

  double shown = 0;
  std::unique_ptr<Settling> settling;
};

TEST_F(Settles, WhatLiesElsewhereMovesAtAPaceAndAllIsThere) {
  double_partitions();
  EXPECT_EQ(settling->share(), 0);
  const Duration took = settled_after();
  EXPECT_GT(took, kSteps * kSettleRest);
  EXPECT_LT(took, 5s);
  EXPECT_EQ(settling->share(), 1);
  EXPECT_EQ(settling->waits_for(), "");
  EXPECT_EQ(testing::page_of(box, kAlice).size(), kChanges);
  EXPECT_EQ(testing::page_of(box, kEve).size(), kChanges);
}

TEST_F(Settles, WhileNobodyIsServedItDoesNotRest) {
  double_partitions();
  (void)settled_after();
  view->catching_up = true;
  shown = 0;
  double_partitions();  // All rows are of lower children now: they are read, and the disk is not waited for.
  EXPECT_LE(settled_after(), kSettleLook + 20ms);
}

TEST_F(Settles, TheNextDoublingFollowsWhenThisOneIsSettled) {
  double_partitions();
  EXPECT_EQ(box.store->split().code(), Errc::kOverloaded);
  (void)settled_after();
  shown = 0;
  double_partitions();
  EXPECT_LT(settling->share(), 1);
  EXPECT_LT(settled_after(), 10s);
  EXPECT_EQ(testing::page_of(box, kEve).size(), kChanges);
}

TEST_F(Settles, AFullDiskStopsItAndItGoesOnWhenThereIsSpace) {
  view->read_only = true;
  double_partitions();
  run_for(20s);
  EXPECT_FALSE(box.store->is_split_settled());
  EXPECT_NE(settling->waits_for(), "");
  view->read_only = false;
  EXPECT_LT(settled_after(), 5s);
  EXPECT_EQ(settling->waits_for(), "");
}

class SettlesOfTheFuture : public Settles {
 protected:
  void prepare() override {
    Settles::prepare();
    box.close_cleanly();
    box.tamper(storage::ColumnFamily::kLog, 50, [](Bytes& value) {  // Rows are in the order of their numbers.
      value[0] = 99;
      testing::seal(value, {kSettledWriter, 51});
    });
    box.open();
  }
};

TEST_F(SettlesOfTheFuture, AFormatThatCannotBeReadIsSaidAndWaitsForAnotherProgram) {
  double_partitions();
  run_for(20s);
  EXPECT_FALSE(box.store->is_split_settled());
  EXPECT_NE(settling->waits_for(), "");
  EXPECT_LT(settling->share(), 1);
}

}  // namespace
}  // namespace starling::node
