// Who is asked in which order, who holds copies for whom, and when a coordinator gives up (parts.h).
#include "node/replication/append/forward.h"
#include "node/replication/copies/replicator.h"
#include "node/replication/stand_ins/stand_in.h"
#include "tests/node/parts.h"

namespace starling::node {
namespace {

using overlay::Method;
using overlay::test_id;
using testing::kAlice;

constexpr WriterId kOwnWriter{77};

class Candidates : public Parts {};

// The dead last: they are not asked at all while somebody is alive, but one in doubt is.
TEST_F(Candidates, AreCaughtUpThenBehindThenInDoubtThenDead) {
  EXPECT_EQ(view->candidates(kPartition), owners);
  dead = {owners[0]};  // Ourselves: never in doubt.
  EXPECT_EQ(view->candidates(kPartition), owners);
  dead = {owners[1]};
  doubted = {owners[2]};
  EXPECT_EQ(view->candidates(kPartition), (std::vector{owners[0], owners[2], owners[1]}));
  view->catching_up = true;
  EXPECT_EQ(view->candidates(kPartition), (std::vector{owners[0], owners[2], owners[1]}));
  doubted = {};
  dead = {};
  EXPECT_EQ(view->candidates(kPartition), (std::vector{owners[1], owners[2], owners[0]}));
}

class Routes : public Parts {
 protected:
  Routes() : Parts(std::nullopt) {}
  // The next question of the forwarder, and its answer.
  NodeId answer(Result<Bytes> result) {
    EXPECT_FALSE(rpc.calls.empty());
    if (rpc.calls.empty()) return {};
    auto call = std::move(rpc.calls.front());
    rpc.calls.erase(rpc.calls.begin());
    const auto request = unpack<WriteRegisterRequest>(call.body);
    flags.push_back(request ? request->flags : 0);
    in_turn([&] { call.done(std::move(result)); });
    return call.to;
  }
  void write() {
    in_turn([&] {
      forwarder = std::make_unique<Forwarder>(*view);
      WriteRegisterRequest request;
      request.mailbox = kAlice;
      forwarder->write_register(request, 5s, [this](Status done) { outcome = done; });
    });
  }

  std::unique_ptr<Forwarder> forwarder;
  std::vector<std::uint8_t> flags;
  std::optional<Status> outcome;
};

// An owner behind an open breaker may have all: whoever lacks something decides only when it does not answer.
TEST_F(Routes, AnOwnerThatCatchesUpIsForcedOnlyAfterThoseInDoubt) {
  late = {owners[0]};
  doubted = {owners[1]};
  dead = {owners[2]};
  write();
  EXPECT_EQ(answer(Error{Errc::kCatchingUp, "behind"}), owners[0]);
  EXPECT_EQ(answer(Error{Errc::kUnavailable, "breaker open"}), owners[1]);
  EXPECT_EQ(answer(Bytes()), owners[0]);
  EXPECT_EQ(flags[0] & kAppendForce, 0);
  EXPECT_EQ(flags[1] & kAppendForce, 0);
  EXPECT_NE(flags[2] & kAppendForce, 0);
  ASSERT_TRUE(outcome);
  EXPECT_TRUE(outcome->ok());
}

TEST_F(Routes, TheDeadAreAskedOnlyWhenNobodyElseIsThere) {
  dead = {owners[0], owners[1], owners[2]};
  write();
  EXPECT_EQ(answer(Error{Errc::kUnavailable, "gone"}), owners[0]);
  EXPECT_EQ(answer(Bytes()), owners[1]);
  dead = {owners[0]};
  write();
  EXPECT_EQ(answer(Error{Errc::kUnavailable, "gone"}), owners[1]);
  EXPECT_EQ(answer(Error{Errc::kUnavailable, "gone"}), owners[2]);
  EXPECT_TRUE(rpc.calls.empty());
  EXPECT_FALSE(outcome->ok());
}

class Holders : public Parts {
 protected:
  Holders() : Parts(std::nullopt) {}
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Parts::SetUp());
    in_turn([&] { stand_in = std::make_unique<StandIn>(*view); });
  }
  // W owners have what comes before.
  void hint(PartitionId partition, WriterId writer, std::uint64_t from, std::uint64_t to,
            std::uint64_t expires_ms = 0) {
    hint_covered(partition, writer, from, to, from - 1, expires_ms);
  }
  void hint_covered(PartitionId partition, WriterId writer, std::uint64_t from, std::uint64_t to, std::uint64_t covered,
                    std::uint64_t expires_ms = 0) {
    std::deque<Bytes> changes;  // Borrowed by the message.
    Replicate::Run run{partition, from, 0, {}, covered};
    for (std::uint64_t n = from; n <= to; ++n) {
      auto change = testing::entry(kAlice, n, hlc_at(1000 + n));
      change.entry.expires_ms = expires_ms;
      run.changes.push_back({changes.emplace_back(encoded(change, {writer, n}))});
    }
    const Bytes body = pack(Replicate{view->ring().number(), writer, {std::move(run)}});
    in_turn([&] { rpc.listeners.at(Method::kHint)(owners[0], body); });
    run_for(50ms);
  }
  // Which runs the owners are asked to take home, in the order of the questions; all hear the same answer.
  std::vector<WriterId> offered(const std::function<Result<Bytes>(const HoldRequest&)>& reply) {
    std::vector<WriterId> writers;
    for (auto& call : std::exchange(rpc.calls, {})) {
      const auto request = unpack<HoldRequest>(call.body);
      writers.push_back(request->writer);
      in_turn([&] { call.done(reply(*request)); });
    }
    return writers;
  }

  std::unique_ptr<StandIn> stand_in;
};

// Decision 0020: a node that was told "safe to power off" may be gone in the next moment, with the copy that counted.
TEST_F(Holders, WhoHasLeftHoldsNothingForOthers) {
  hint(kPartition, kOwnWriter, 1, 2);
  EXPECT_EQ(rpc.said(Method::kHinted), 1u);
  const std::vector<NodeId> leaver{view->self};
  auto gone = overlay::must(overlay::next_complete(
      overlay::must(overlay::next_intent_leave(view->ring().version(), leaver, false))));
  in_turn([&] { view->set_ring(overlay::must(overlay::Ring::make(gone))); });
  ASSERT_TRUE(view->is_holder());
  hint(kPartition, kOwnWriter, 3, 4);
  EXPECT_EQ(rpc.said(Method::kHinted), 1u) << "an ack would count it";
  EXPECT_FALSE(stand_in->holds(kPartition, {kOwnWriter, 3}));
  EXPECT_TRUE(stand_in->holds(kPartition, {kOwnWriter, 2})) << "what it had, it hands home";
}

// If its writer died now, nobody could ever take home what goes on from nothing.
TEST_F(Holders, WhatComesEarlyIsHeldOnceItIsReached) {
  hint_covered(kPartition, kOwnWriter, 5, 6, 1);
  hint_covered(kPartition, kOwnWriter, 3, 3, 1);
  EXPECT_EQ(stand_in->segments(), 0u);
  EXPECT_EQ(rpc.said(Method::kHinted), 0u);
  hint_covered(kPartition, kOwnWriter, 4, 4, 2);  // Two owners have 2 by now: it goes on from there, with 3.
  ASSERT_EQ(rpc.said(Method::kHinted), 1u);
  const auto said = unpack<Hinted>(rpc.notices.back().body);
  ASSERT_TRUE(said.ok());
  EXPECT_EQ(said->items[0].from, 3u);
  EXPECT_EQ(said->items[0].to, 6u);
  EXPECT_EQ(box.store->read_held(kPartition, {kOwnWriter, 1}, 1 << 20).size(), 4u);
  hint_covered(kPartition, kOwnWriter, 9, 9, 2);
  run_for(kEarlyFor + 1s);
  hint_covered(kPartition, kOwnWriter, 7, 8, 2);
  EXPECT_TRUE(stand_in->holds(kPartition, {kOwnWriter, 8}));
  EXPECT_FALSE(stand_in->holds(kPartition, {kOwnWriter, 9})) << "it was not waited for so long";
}

TEST_F(Holders, ARunThatNobodyCanTakeHoldsUpNoOther) {
  for (std::uint64_t w = 1; w <= 6; ++w) hint(kPartition, WriterId{w}, 1, 1);
  hint(kPartition, WriterId{100}, 1, 1);
  std::set<WriterId> seen;
  for (int i = 0; i < 20; ++i) {
    for (const auto& writer : offered([](const HoldRequest& request) -> Result<Bytes> {
           if (request.writer != WriterId{100}) return Error{Errc::kCorrupt, "damaged there"};
           return pack(HoldReply{request.n});
         })) {
      seen.insert(writer);
    }
    run_for(500ms);
  }
  EXPECT_TRUE(seen.contains(WriterId{100}));
  EXPECT_FALSE(stand_in->holds(kPartition, {WriterId{100}, 1})) << "all owners have it";
  EXPECT_EQ(stand_in->segments(), 6u);
}

// The owners forgot the writer; what lies before the segment is nowhere, so they can never take it.
TEST_F(Holders, WhatExpiredAndCannotGoHomeIsReleased) {
  hint(kPartition, kOwnWriter, 40, 60, 100'000);
  hint(kPartition, WriterId{78}, 40, 41);  // Does not expire.
  const auto refused = [](const HoldRequest&) -> Result<Bytes> { return Error{Errc::kNotFound, "not come so far"}; };
  for (int i = 0; i < 30; ++i) {
    (void)offered(refused);
    run_for(500ms);
  }
  ASSERT_EQ(stand_in->segments(), 2u);
  box.store->set_expiry_time(10'000'000);
  for (int i = 0; i < 60; ++i) {
    (void)offered(refused);
    run_for(500ms);
  }
  EXPECT_FALSE(stand_in->holds(kPartition, {kOwnWriter, 50}));
  EXPECT_TRUE(stand_in->holds(kPartition, {WriterId{78}, 41}));
  EXPECT_TRUE(box.store->read_held(kPartition, {kOwnWriter, 40}, 1 << 20).empty());
}

class Quorum : public Parts {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Parts::SetUp());
    in_turn([&] {
      replicator = std::make_unique<Replicator>(*view, [](const NodeId&, PartitionId, WriterId, std::uint64_t) {});
      box.store->on_synced([this](std::span<const storage::SyncedChange> changes) { replicator->on_synced(changes); });
      appended = box.store->append(testing::entry(kAlice, 1, hlc_at(1000)));
      replicator->send(appended);
      replicator->when_replicated(kAlice, appended.dot.n, false, [this](Result<std::uint8_t> copies) {
        outcome = std::move(copies);
        answered = world.now();
      });
    });
    begin = world.now();
  }

  std::unique_ptr<Replicator> replicator;
  storage::Appended appended;
  Instant begin, answered;
  std::optional<Result<std::uint8_t>> outcome;
};

TEST_F(Quorum, ACoordinatorGivesUpAsSoonAsItCanReachTooFew) {
  dead = {others[0], others[1]};  // Nobody stands in.
  run_for(1s);
  ASSERT_FALSE(outcome);
  doubted = {owners[1]};
  run_for(1s);
  ASSERT_FALSE(outcome) << "two owners are W";
  doubted = {owners[1], owners[2]};
  run_for(200ms);
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->code(), Errc::kUnavailable) << "the client tries again with the same key";
}

TEST_F(Quorum, StandInsServeInThePlaceOfOwnersBeforeACoordinatorGivesUp) {
  doubted = {owners[1], owners[2]};
  run_for(1s);
  EXPECT_FALSE(outcome);
  EXPECT_GT(rpc.said(Method::kHint), 0u);
}

// Who is no owner any more under the acknowledger's version would be counted under ours (hazards F32).
TEST_F(Quorum, AnAcknowledgementOfANewerVersionCountsWhenWeAreThereToo) {
  const auto& before = view->ring().version();
  const overlay::NewWeight weight{others[0], 200};
  const auto next = overlay::must(overlay::next_intent_weight(before, {&weight, 1}));
  const Bytes body = pack(Replicated{next.number, box.store->writer(), {{kPartition, appended.dot.n}}});
  run_for(100ms);  // Our own disk.
  in_turn([&] { rpc.listeners.at(Method::kReplicated)(owners[1], body); });
  run_for(100ms);
  EXPECT_FALSE(outcome);
  in_turn([&] { view->set_ring(overlay::must(overlay::Ring::make(next))); });
  ASSERT_TRUE(outcome);
  EXPECT_TRUE(outcome->ok());
}

// A dot is made by one node: under the writer of another, replicas would hold two changes for it.
TEST_F(Quorum, NobodyWritesUnderTheWriterOfAnotherMember) {
  view->liveness.runner = [&](WriterId writer) {
    return writer == kOwnWriter ? std::optional(owners[2]) : std::nullopt;
  };
  const Bytes change = encoded(testing::entry(kAlice, 9, hlc_at(1000)), {kOwnWriter, 1});
  const Bytes body = pack(Replicate{view->ring().number(), kOwnWriter, {{kPartition, 1, 0, {{change}}, 0}}});
  in_turn([&] { rpc.listeners.at(Method::kReplicate)(owners[1], body); });
  run_for(100ms);
  EXPECT_EQ(box.store->held(kPartition, kOwnWriter), 0u);
  EXPECT_EQ(view->counters.forged, 1u);
  in_turn([&] { rpc.listeners.at(Method::kReplicate)(owners[2], body); });
  run_for(100ms);
  EXPECT_EQ(box.store->held(kPartition, kOwnWriter), 1u);
  EXPECT_EQ(view->counters.forged, 1u);
}

// All that it sends are notices, and a link looks after silence only while a call is out.
TEST_F(Quorum, OwnersThatDoNotAcknowledgeAreAskedForASignOfLife) {
  run_for(400ms);
  std::set<NodeId> asked;
  for (const auto& call : rpc.calls) {
    EXPECT_EQ(call.method, Method::kPing);
    EXPECT_TRUE(asked.insert(call.to).second) << "one question to each at one time";
  }
  EXPECT_EQ(asked, (std::set<NodeId>{owners[1], owners[2]}));
}

}  // namespace
}  // namespace starling::node
