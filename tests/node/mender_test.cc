// What an order to give up does with several changes, and with another order (parts.h).
#include "node/repair/mender.h"

#include <gmock/gmock.h>

#include "tests/node/parts.h"

namespace starling::node {
namespace {

using overlay::Method;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::entry;
using testing::kAlice;

constexpr WriterId kMendedWriter{77};

// The second and the third change cannot be read by anybody; the first is another copy of what the second says.
class GivingUp : public Parts {
 protected:
  void prepare() override {
    const std::uint64_t seqs[] = {1, 1, 2, 3}, times[] = {20, 10, 30, 40};
    for (std::uint64_t n = 1; n <= 4; ++n) {
      const auto change = entry(kAlice, seqs[n - 1], hlc_at(times[n - 1]));
      ASSERT_TRUE(box.store->apply(kPartition, dot(n), encoded(change, dot(n))).ok());
    }
    box.close_cleanly();
    for (const std::size_t row : {1, 2}) {
      box.tamper(storage::ColumnFamily::kLog, row, [](Bytes& value) { value[60] ^= 1; });
    }
    box.open();
    for (const std::uint64_t n : {2, 3}) (void)box.store->read_change(kPartition, dot(n));
  }
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Parts::SetUp());
    ASSERT_THAT(box.store->damaged(kPartition), ElementsAre(dot(2), dot(3)));
    in_turn([&] {
      controls = std::make_unique<MoveControls>(*view);
      catch_up = std::make_unique<CatchUp>(*view, *controls);
      replicator = std::make_unique<Replicator>(*view, [](const NodeId&, PartitionId, WriterId, std::uint64_t) {});
      coordinator = std::make_unique<Coordinator>(
          *view, *replicator, *catch_up, Permissions{[](const MailboxId&, View, View) { return ok_status(); },
                      [](const MailboxId&, View, View) { return true; }},
          [](const storage::ChangeView&) { return false; },
          [](PartitionId, const Dot&, const Shared&, const std::function<void(Status)>&) {}, 1000);
      mender = std::make_unique<Mender>(*view, *catch_up, *coordinator);
      scope.emplace(loop);
    });
  }
  void TearDown() override { scope.reset(); }
  static Dot dot(std::uint64_t n) { return {kMendedWriter, n}; }
  overlay::Task<Done> give_up() {
    auto giving = mender->give_up();
    outcomes.push_back(co_await giving);
    co_return Done{};
  }
  void order() {
    in_turn([&] { scope->spawn(give_up()); });
  }
  void go(Duration duration) {
    for (Duration done{}; done < duration; done += 50ms) {
      run_for(50ms);
      answer_all();
    }
  }
  void answer_all() {
    while (!rpc.calls.empty()) {
      auto call = std::move(rpc.calls.front());
      rpc.calls.erase(rpc.calls.begin());
      const bool fetch = call.method == Method::kFetch;
      in_turn([&] {
        call.done(fetch ? Error{Errc::kCorrupt, "damaged here, too"} : Error{Errc::kUnavailable, "not here"});
      });
    }
  }

  std::unique_ptr<MoveControls> controls;
  std::unique_ptr<CatchUp> catch_up;
  std::unique_ptr<Replicator> replicator;
  std::unique_ptr<Coordinator> coordinator;
  std::unique_ptr<Mender> mender;
  std::optional<overlay::Scope> scope;
  std::vector<Result<std::size_t>> outcomes;
};

// A node without disk space makes nothing anew.
TEST_F(GivingUp, WhatCannotBeWrittenOffHoldsUpNothingElseAndStaysListed) {
  view->read_only = true;
  order();
  go(5s);
  ASSERT_EQ(outcomes.size(), 1u);
  ASSERT_TRUE(outcomes[0].ok()) << outcomes[0].error().text;
  EXPECT_EQ(*outcomes[0], 1u);
  EXPECT_THAT(box.store->lost(kPartition), ElementsAre(dot(3)));
  EXPECT_THAT(mender->hopeless(), ElementsAre(Mender::Change{kPartition, dot(2)}));
  order();
  go(5s);
  ASSERT_EQ(outcomes.size(), 2u);
  EXPECT_EQ(outcomes[1].code(), Errc::kFull) << "none could";
  view->read_only = false;
  order();
  go(5s);
  ASSERT_EQ(outcomes.size(), 3u);
  ASSERT_TRUE(outcomes[2].ok());
  EXPECT_EQ(*outcomes[2], 1u);
  EXPECT_THAT(box.store->damaged(kPartition), IsEmpty());
  const auto stands = box.store->find_key(kAlice, {testing::device(1), 5, 1});
  ASSERT_TRUE(stands);
  EXPECT_EQ(stands->id.time, hlc_at(10)) << "made anew in the place of the lost one";
  EXPECT_EQ(stands->dot.writer, box.store->writer());
}

TEST_F(GivingUp, OrdersThatMeetTakeTheirTurns) {
  for (int i = 0; i < 40; ++i) {
    order();
    go(50ms);
  }
  go(30s);
  ASSERT_EQ(outcomes.size(), 40u);
  std::size_t written_off = 0;
  for (const auto& outcome : outcomes) {
    EXPECT_TRUE(outcome.ok());
    written_off += outcome ? *outcome : 0;
  }
  EXPECT_EQ(written_off, 2u);
  EXPECT_EQ(box.store->held(kPartition, box.store->writer()), 1u) << "it is made anew once";
  EXPECT_THAT(box.store->lost(kPartition), ElementsAre(dot(2), dot(3)));
}

// Neither counts what the other writes off.
TEST_F(GivingUp, OrdersOfOneTurnDoNotWriteOffTogether) {
  order();
  order();
  go(10s);
  ASSERT_EQ(outcomes.size(), 2u);
  ASSERT_TRUE(outcomes[0].ok() && outcomes[1].ok());
  EXPECT_EQ(*outcomes[0] + *outcomes[1], 2u);
}

// It is listed as damaged until the disk has it, and an owner that is asked then may give it.
TEST_F(GivingUp, NothingIsMendedUntilWhatIsWrittenOffIsOnDisk) {
  box.sync();
  order();
  for (int step = 0; step < 40 && box.commits.waiting() == 0; ++step) {
    world.run_for(10ms);
    answer_all();
    box.store->flush();
  }
  ASSERT_EQ(box.commits.waiting(), 1u) << "nothing else is written here";
  ASSERT_THAT(box.store->damaged(kPartition), ElementsAre(dot(2), dot(3)));
  ASSERT_TRUE(rpc.calls.empty() && outcomes.empty());
  mender->look();
  world.run_for(2s);
  EXPECT_TRUE(std::none_of(rpc.calls.begin(), rpc.calls.end(), [](const auto& call) {
    return call.method == Method::kFetch;
  }));
  go(1s);
  ASSERT_EQ(outcomes.size(), 1u);
  ASSERT_TRUE(outcomes[0].ok());
  EXPECT_EQ(*outcomes[0], 2u);
  order();
  go(2s);
  EXPECT_EQ(outcomes.size(), 2u) << "and then others have their turn";
}

}  // namespace
}  // namespace starling::node
