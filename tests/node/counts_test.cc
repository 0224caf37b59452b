// What names a partition says how many there are at its sender; what means another count is not taken (parts.h,
// decision 0025). Without that, "all of it is gone" of a parent would be believed of a child, and what counts for a
// partition would count for a stranger with its number.
#include "node/repair/verifier.h"
#include "node/replication/catch_up/catch_up.h"
#include "node/replication/append/find_copy.h"
#include "node/replication/follow/publisher.h"
#include "node/replication/copies/replicator.h"
#include "node/replication/stand_ins/stand_in.h"
#include "tests/node/parts.h"

namespace starling::node {
namespace {

using overlay::Method;
using testing::kAlice;

constexpr WriterId kCountedWriter{77};
constexpr std::uint32_t kBefore = testing::kTestPartitions;
constexpr std::uint32_t kAfter = 2 * kBefore;

class Counts : public Parts {
 protected:
  explicit Counts(std::optional<std::size_t> place = 0) : Parts(place) {}
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Parts::SetUp());
    view->on_newer_ring = [this](const NodeId& peer, RingNumber) { newer.push_back(peer); };
    in_turn([&] {
      controls = std::make_unique<MoveControls>(*view);
      catch_up = std::make_unique<CatchUp>(*view, *controls);
      catch_up->held_for_others = [](PartitionId, WriterId, std::uint64_t) { return storage::RangeStatement{}; };
      catch_up->holds_for = [](PartitionId, const NodeId&) { return false; };
      replicator = std::make_unique<Replicator>(*view, [](const NodeId&, PartitionId, WriterId, std::uint64_t) {});
      box.store->on_synced([this](std::span<const storage::SyncedChange> changes) { replicator->on_synced(changes); });
      stand_in = std::make_unique<StandIn>(*view);
      publisher = std::make_unique<Publisher>(*view);
      find_copy = std::make_unique<FindCopy>(*view, *publisher, *stand_in);
      verifier = std::make_unique<Verifier>(*view);
      scope.emplace(loop);
    });
  }
  void TearDown() override { scope.reset(); }

  void double_partitions() {
    in_turn([&] {
      auto doubled = overlay::must(overlay::Ring::make(overlay::must(overlay::next_doubled(view->ring().version()))));
      ASSERT_TRUE(box.store->split().ok());
      view->set_ring(doubled);
    });
    box.sync();
    ASSERT_EQ(view->partitions(), kAfter);
    child = box.store->partition_of(kAlice);
  }
  template <class T>
  void hear(Method method, const T& message, std::optional<NodeId> from = {}) {
    in_turn([&] { rpc.listeners.at(method)(from.value_or(owners[1]), pack(message)); });
    run_for(100ms);
  }
  // The answer to the oldest question of the method.
  void answer(Method method, Result<Bytes> body) {
    const auto call = std::find_if(rpc.calls.begin(), rpc.calls.end(),
                                   [=](const NotedRpc::Call& c) { return c.method == method; });
    ASSERT_NE(call, rpc.calls.end());
    auto done = std::move(call->done);
    rpc.calls.erase(call);
    in_turn([&] { done(std::move(body)); });
    run_for(100ms);
  }
  [[nodiscard]] bool asked(Method method) const {
    return std::any_of(rpc.calls.begin(), rpc.calls.end(), [=](const auto& call) { return call.method == method; });
  }
  Replicate run(std::uint32_t partitions) {
    change = encoded(testing::entry(kAlice, 1, hlc_at(1000)), {kCountedWriter, 1});
    return {view->ring().number(), kCountedWriter, {{child, 1, 0, {{change}}, 1}}, partitions};
  }
  overlay::Task<Done> note(overlay::Task<Status> task) {
    outcome = co_await task;
    co_return Done{};
  }
  void start(overlay::Task<Status> task) {
    in_turn([&] { scope->spawn(note(std::move(task))); });
  }

  PartitionId child;
  Bytes change;  // Borrowed by a message.
  std::vector<NodeId> newer;
  std::optional<Status> outcome;
  std::unique_ptr<MoveControls> controls;
  std::unique_ptr<CatchUp> catch_up;
  std::unique_ptr<Replicator> replicator;
  std::unique_ptr<StandIn> stand_in;
  std::unique_ptr<Publisher> publisher;
  std::unique_ptr<FindCopy> find_copy;
  std::unique_ptr<Verifier> verifier;
  std::optional<overlay::Scope> scope;
};

// --- Answers that were asked for before the doubling. ---

TEST_F(Counts, WhatIsGoneOfAParentIsNotGoneOfAChild) {
  start(catch_up->fetch_until(owners[1], kPartition, kCountedWriter, 3));
  ASSERT_TRUE(asked(Method::kFetch));
  double_partitions();
  answer(Method::kFetch, pack(storage::RangeStatement{kCountedWriter, 1, 3, {}, {}}));
  if (asked(Method::kLanes)) answer(Method::kLanes, pack(LanesReply{}));
  EXPECT_EQ(box.store->held(kPartition, kCountedWriter), 0u);
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->code(), Errc::kStaleRing);
}

TEST_F(Counts, AFetchThatWaitsForLanesOverADoublingAppliesNothing) {
  start(catch_up->fetch_until(owners[1], kPartition, kCountedWriter, 3));
  answer(Method::kFetch, pack(storage::RangeStatement{kCountedWriter, 1, 3, {}, {}}));
  ASSERT_TRUE(asked(Method::kLanes));
  double_partitions();
  answer(Method::kLanes, pack(LanesReply{}));
  EXPECT_EQ(box.store->held(kPartition, kCountedWriter), 0u);
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->code(), Errc::kStaleRing);
}

TEST_F(Counts, AVectorOfAParentIsNoneOfAChild) {
  bool compared = false;
  catch_up->on_compared = [&](const NodeId&, const CompareReply::Item&) { compared = true; };
  catch_up->on_covered = [&](const NodeId&, PartitionId, const storage::VersionVector&) { compared = true; };
  start(catch_up->compare_partition(owners[1], kPartition, 5s));
  double_partitions();
  storage::VersionVector vector;
  vector.raise(kCountedWriter, 3);
  answer(Method::kCompare, pack(CompareReply{{1}, {{kPartition, vector, true, {}}}, false, false, {}, kBefore}));
  EXPECT_FALSE(asked(Method::kFetch));
  EXPECT_FALSE(compared);
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->code(), Errc::kStaleRing);
}

// One that was removed before, and whose program does not know that counts are said.
TEST_F(Counts, AVectorOfOneThatCannotFollowIsNotTaken) {
  double_partitions();
  storage::VersionVector vector;
  vector.raise(kCountedWriter, 3);
  for (const std::uint32_t count : {0u, kBefore, 2 * kAfter}) {
    outcome.reset();
    start(catch_up->compare_partition(owners[1], child, 5s));
    answer(Method::kCompare, pack(CompareReply{{1}, {{child, vector, true, {}}}, false, false, {}, count}));
    EXPECT_FALSE(asked(Method::kFetch)) << count;
    ASSERT_TRUE(outcome);
    EXPECT_EQ(outcome->code(), Errc::kStaleRing) << count;
  }
  start(catch_up->compare_partition(owners[1], child, 5s));
  answer(Method::kCompare, pack(CompareReply{{1}, {{child, vector, true, {}}}, false, false, {}, kAfter}));
  EXPECT_TRUE(asked(Method::kFetch));
}

// --- Notices. ---

TEST_F(Counts, AnAcknowledgementCountsForThePartitionThatItMeant) {
  double_partitions();
  storage::Appended appended;
  std::optional<Result<std::uint8_t>> copies;
  in_turn([&] {
    appended = box.store->append(testing::entry(kAlice, 1, hlc_at(1000)));
    replicator->send(appended);
    replicator->when_replicated(kAlice, appended.dot.n, false, [&](Result<std::uint8_t> done) { copies = std::move(done); });
  });
  run_for(100ms);
  for (const std::uint32_t count : {0u, kBefore, 2 * kAfter}) {
    hear(Method::kReplicated, Replicated{{1}, appended.dot.writer, {{child, appended.dot.n}}, count});
    EXPECT_FALSE(copies) << count;
  }
  hear(Method::kReplicated, Replicated{{1}, appended.dot.writer, {{child, appended.dot.n}}, kAfter});
  ASSERT_TRUE(copies);
  EXPECT_TRUE(copies->ok());
}

TEST_F(Counts, ASegmentCountsForThePartitionThatItMeant) {
  double_partitions();
  doubted = {owners[1], owners[2]};
  storage::Appended appended;
  std::optional<Result<std::uint8_t>> copies;
  in_turn([&] {
    appended = box.store->append(testing::entry(kAlice, 1, hlc_at(1000)));
    replicator->send(appended);
    replicator->when_replicated(kAlice, appended.dot.n, false, [&](Result<std::uint8_t> done) { copies = std::move(done); });
  });
  run_for(100ms);
  for (const std::uint32_t count : {0u, kBefore, 2 * kAfter}) {
    hear(Method::kHinted, Hinted{{1}, appended.dot.writer, {{child, 1, appended.dot.n}}, count}, others[0]);
    EXPECT_FALSE(copies) << count;
  }
  hear(Method::kHinted, Hinted{{1}, appended.dot.writer, {{child, 1, appended.dot.n}}, kAfter}, others[0]);
  ASSERT_TRUE(copies);
  EXPECT_TRUE(copies->ok());
}

TEST_F(Counts, ChangesOfAnotherCountAreNotTaken) {
  double_partitions();
  for (const std::uint32_t count : {0u, kBefore, 2 * kAfter}) {
    hear(Method::kReplicate, run(count));
    EXPECT_EQ(box.store->held(child, kCountedWriter), 0u) << count;
    EXPECT_EQ(replicator->covered(child, kCountedWriter), 0u) << count;
  }
  hear(Method::kReplicate, run(kAfter));
  EXPECT_EQ(box.store->held(child, kCountedWriter), 1u);
}

TEST_F(Counts, BeforeTheFirstDoublingNobodyHasToSay) {
  child = kPartition;
  hear(Method::kReplicate, run(0));
  EXPECT_EQ(box.store->held(kPartition, kCountedWriter), 1u);
}

TEST_F(Counts, WhoCountsMoreKnowsOfANewerRing) {
  hear(Method::kReplicated, Replicated{{1}, box.store->writer(), {}, kBefore});
  EXPECT_TRUE(newer.empty());
  hear(Method::kReplicated, Replicated{{1}, box.store->writer(), {}, kAfter});
  EXPECT_EQ(newer, std::vector{owners[1]});
  EXPECT_EQ(refusal(Method::kFetch, owners[1], FetchRequest{kPartition, kCountedWriter, 1, 0, kAfter}), Errc::kStaleRing);
  EXPECT_EQ(newer.size(), 2u);
}

class CountsHeld : public Counts {
 protected:
  CountsHeld() : Counts(std::nullopt) {}
};

TEST_F(CountsHeld, HintsOfAnotherCountAreNotTaken) {
  double_partitions();
  ASSERT_FALSE(view->is_owner(child));
  for (const std::uint32_t count : {0u, kBefore, 2 * kAfter}) {
    hear(Method::kHint, run(count));
    EXPECT_FALSE(stand_in->holds(child, {kCountedWriter, 1})) << count;
  }
  EXPECT_EQ(rpc.said(Method::kHinted), 0u);
}

// An owner says that it holds the parent's run: the child's stays here.
TEST_F(CountsHeld, WhatGoesHomeIsWhatTheOwnerWasAskedFor) {
  child = kPartition;
  hear(Method::kHint, run(kBefore));
  run_for(1s);
  ASSERT_TRUE(asked(Method::kHold));
  double_partitions();
  while (asked(Method::kHold)) answer(Method::kHold, pack(HoldReply{1}));
  EXPECT_EQ(view->counters.hints_home, 0u);
}

// --- Requests. ---

TEST_F(Counts, RequestsOfAnotherCountAreRefused) {
  double_partitions();
  const RingNumber ring = view->ring().number();
  std::size_t methods = 0;
  const auto check = [&](Method method, auto request) {
    ++methods;
    for (const std::uint32_t count : {0u, kBefore, 2 * kAfter}) {
      request.partitions = count;
      EXPECT_EQ(refusal(method, owners[1], request), Errc::kStaleRing) << static_cast<int>(method) << " of " << count;
    }
    request.partitions = kAfter;
    EXPECT_EQ(refusal(method, owners[1], request), std::nullopt) << static_cast<int>(method);
  };
  check(Method::kCompare, CompareRequest{ring, {{child, 7}}, false, false, {}});
  check(Method::kCompare, CompareRequest{ring, {}, false, true, {}});
  check(Method::kFetch, FetchRequest{child, kCountedWriter, 1, 0});
  check(Method::kLanes, LanesRequest{child, {}});
  check(Method::kHold, HoldRequest{child, kCountedWriter, 0});
  check(Method::kVerify, VerifyRequest{child, 1000});
  check(Method::kFindCopy, FindCopyRequest{child, kAlice, {}, {}, {{kCountedWriter, 1}}});
  check(Method::kFollow, FollowRequest{ring, child, 7, {{kAlice, false, {}}}});
  EXPECT_EQ(methods, 8u);
}

TEST_F(Counts, AStreamOfAnotherCountIsNotEnded) {
  double_partitions();
  const FollowRequest follow{view->ring().number(), child, 7, {{kAlice, false, {}}}, kAfter};
  ASSERT_EQ(refusal(Method::kFollow, owners[1], follow), std::nullopt);
  hear(Method::kUnfollow, Unfollow{child, 7, {}, kBefore});
  EXPECT_EQ(publisher->followed(), 1u);
  hear(Method::kUnfollow, Unfollow{child, 7, {}, kAfter});
  EXPECT_EQ(publisher->followed(), 0u);
}

}  // namespace
}  // namespace starling::node
