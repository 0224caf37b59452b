// Registers read from several owners: merged by kind, found where one owner lacks them, cut like one page.
#include <gtest/gtest.h>

#include "node/mailbox/read_registers.h"
#include "node/mailbox/write_register.h"
#include "node/replication/append/coordinator.h"
#include "node/replication/append/obligations.h"
#include "storage/change.h"
#include "tests/node/parts.h"

namespace starling::node {
namespace {

using storage::MemberValue;
using storage::MergeKind;

RegisterItem item(std::string key, std::string value, Hlc time, MergeKind merge = MergeKind::kLww) {
  return {std::move(key), {std::move(value)}, {time, WriterId{7}}, static_cast<std::uint8_t>(merge)};
}
std::vector<std::string> keys(const ReadRegistersReply& reply) {
  std::vector<std::string> out;
  for (const auto& one : reply.items) out.push_back(one.key);
  return out;
}

TEST(MergedRegisters, WhatOneOwnerLacksIsFoundAtTheOther) {
  const auto merged = merge_registers({{{item("a", "1", 5)}}, {{item("b", "2", 5)}}, {}}, 10);
  EXPECT_EQ(keys(merged), (std::vector<std::string>{"a", "b"}));
}

TEST(MergedRegisters, EachKindHasItsOwnWinner) {
  const ReadRegistersReply old{{item("account", "old", 5)}};
  const ReadRegistersReply fresh{{item("account", "new", 6)}};
  for (const auto& order : {std::vector{old, fresh}, std::vector{fresh, old}}) {
    EXPECT_EQ(merge_registers(order, 10).items.at(0).value.data, "new");
  }
  // Removed beats a role of the same generation, whatever the clocks say (hazards F18).
  const auto member = [](bool removed, std::uint8_t role, Hlc time) {
    return ReadRegistersReply{{item("member/@bob", pack(MemberValue{1, removed, role, "#g"}), time,
                                    MergeKind::kMember)}};
  };
  const auto kicked = member(true, 0, 5);
  const auto promoted = member(false, 1, 6);
  for (const auto& order : {std::vector{kicked, promoted}, std::vector{promoted, kicked}}) {
    const auto merged = merge_registers(order, 10);
    EXPECT_TRUE(unpack<MemberValue>(merged.items.at(0).value.data)->removed);
  }
}

// Behind the end of a full page its owner may have more than the other shows.
TEST(MergedRegisters, APageEndsWhereTheFirstFullOneEnds) {
  const ReadRegistersReply full{{item("a", "1", 5), item("c", "1", 5)}};
  const ReadRegistersReply other{{item("b", "1", 5), item("z", "1", 5)}};
  EXPECT_EQ(keys(merge_registers({full, other}, 2)), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(keys(merge_registers({full, {{item("z", "1", 5)}}}, 2)), (std::vector<std::string>{"a", "c"}));
  EXPECT_TRUE(merge_registers({}, 2).items.empty());
}

// Together they are of a version only when each is of it.
TEST(MergedRegisters, AreOfAVersionOnlyWhenAllOwnersAgreeOnIt) {
  const auto of = [](std::uint64_t version) { return ReadRegistersReply{{}, version}; };
  EXPECT_EQ(merge_registers({of(5), of(5)}, 10).version, 5u);
  EXPECT_EQ(merge_registers({of(5)}, 10).version, 5u);
  EXPECT_EQ(merge_registers({of(5), of(6)}, 10).version, 0u);
  EXPECT_EQ(merge_registers({of(5), of(0)}, 10).version, 0u);
  EXPECT_EQ(merge_registers({}, 10).version, 0u);
}

class WritingARegister : public Parts {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Parts::SetUp());
    in_turn([&] {
      controls = std::make_unique<MoveControls>(*view);
      catch_up = std::make_unique<CatchUp>(*view, *controls);
      replicator = std::make_unique<Replicator>(*view, [](const NodeId&, PartitionId, WriterId, std::uint64_t) {});
      coordinator = std::make_unique<Coordinator>(
          *view, *replicator, *catch_up, Permissions{[](const MailboxId&, View, View) { return ok_status(); },
                        [](const MailboxId&, View, View) { return true; }},
          [](const storage::ChangeView&) { return false; },
          [](PartitionId, const Dot&, Shared, const std::function<void(Status)>&) {}, 0);
      view->catching_up = false;
    });
    request.ring = view->ring().number();
    request.mailbox = testing::kAlice;
    request.merge = static_cast<std::uint8_t>(MergeKind::kLww);
    request.key = "account";
    request.value.data = "ours";
  }
  void TearDown() override {
    in_turn([&] {
      coordinator.reset();
      replicator.reset();
      catch_up.reset();
      controls.reset();
    });
  }
  void write() {
    outcome.reset();
    in_turn([&] { coordinator->write_register(request, [this](Status done) { outcome = std::move(done); }); });
    run_for(50ms);
  }

  std::unique_ptr<MoveControls> controls;
  std::unique_ptr<CatchUp> catch_up;
  std::unique_ptr<Replicator> replicator;
  std::unique_ptr<Coordinator> coordinator;
  WriteRegisterRequest request;
  std::optional<Status> outcome;
};

// What a write must be above may be further ahead than a peer's clock pulls ours: no write loses in silence.
TEST_F(WritingARegister, AWriteThatWouldLoseByItsTimeAloneIsRefusedUntilItWins) {
  const auto stands = [&] { return box.store->find_register(testing::kAlice, "account")->value; };
  in_turn([&] {
    storage::ChangeView ahead;
    ahead.kind = storage::ChangeKind::kRegister;
    ahead.mailbox = testing::kAlice;
    const Hlc time = hlc_at(static_cast<std::uint64_t>(loop.wall_ms() + 8'000));
    ahead.reg = {MergeKind::kLww, {time, WriterId{7}}, "account", "theirs"};
    box.store->append(ahead);
    ASSERT_TRUE(view->observe(time).ok());
  });
  run_for(50ms);
  write();
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->code(), Errc::kOverloaded);
  EXPECT_EQ(stands(), "theirs");
  run_for(4s);
  write();
  EXPECT_EQ(stands(), "ours");
}

// Two gateways read the same, and ask for different roles: the one that writes last takes nothing away.
TEST_F(WritingARegister, ARoleIsNotLoweredByALaterStamp) {
  request.merge = static_cast<std::uint8_t>(MergeKind::kMember);
  request.key = "member/@bob";
  for (const std::uint8_t role : {2, 1}) {
    request.value.data = pack(MemberValue{3, false, role, "#g"});
    request.stamp = {hlc_at(static_cast<std::uint64_t>(loop.wall_ms()) + 3u - role), WriterId{7}};
    write();
    EXPECT_EQ(unpack<MemberValue>(box.store->find_register(testing::kAlice, request.key)->value)->role, 2);
  }
  request.value.data = pack(MemberValue{3, true, 0, "#g"});
  write();
  EXPECT_TRUE(unpack<MemberValue>(box.store->find_register(testing::kAlice, request.key)->value)->removed);
}

// With one of three, two know all that was acknowledged.
class ChangingAMember : public Parts {
 protected:
  overlay::Task<Done> change(bool removed) {
    Forwarder forwarder(*view);
    auto changing = change_member(*view, forwarder, testing::kAlice, "member/@bob", {1, removed, 0, "#g"});
    outcome = co_await changing;
    co_return Done{};
  }
  void begin(bool removed) {
    in_turn([&] { scope.spawn(change(removed)); });
    run_for(50ms);
  }
  // What the first so many that are asked say stands.
  void answer(std::size_t count, const MemberValue& stands) {
    for (std::size_t i = 0; i < count; ++i) {
      const auto call = std::find_if(rpc.calls.begin(), rpc.calls.end(),
                                     [](const auto& one) { return one.method == overlay::Method::kReadRegisters; });
      ASSERT_NE(call, rpc.calls.end());
      auto done = std::move(call->done);
      rpc.calls.erase(call);
      const Bytes reply = pack(ReadRegistersReply{{item("member/@bob", pack(stands), 5, MergeKind::kMember)}});
      in_turn([&] { done(reply); });
    }
    run_for(50ms);
  }
  [[nodiscard]] std::optional<WriteRegisterRequest> written() const {
    const auto call = std::find_if(rpc.calls.begin(), rpc.calls.end(),
                                   [](const auto& one) { return one.method == overlay::Method::kWriteRegister; });
    if (call == rpc.calls.end()) return std::nullopt;
    return *unpack<WriteRegisterRequest>(call->body);
  }

  std::optional<Status> outcome;
  overlay::Scope scope{loop};
};

TEST_F(ChangingAMember, ToAddUnderARemovalRaisesTheGeneration) {
  begin(/*removed=*/false);
  answer(2, {3, true, 1, "#g"});
  const auto request = written();
  ASSERT_TRUE(request);
  const auto value = unpack<MemberValue>(request->value.data);
  EXPECT_EQ(value->generation, 4u);
  EXPECT_EQ(value->role, 0) << "a right ends with the membership";
}

TEST_F(ChangingAMember, ToAddAgainTakesNoRoleAwayAndSaysNothingNew) {
  begin(/*removed=*/false);
  answer(2, {3, false, 1, "#g"});
  const auto request = written();
  ASSERT_TRUE(request);
  EXPECT_EQ(request->value.data, pack(MemberValue{3, false, 1, "#g"}));
  EXPECT_EQ(request->stamp, (EntryId{5, WriterId{7}})) << "as it stands";
}

TEST_F(ChangingAMember, WhereTooFewAnswerItIsRefusedInTime) {
  begin(/*removed=*/true);
  for (int turn = 0; turn < 100 && !outcome; ++turn) {
    answer(1, {1, false, 0, "#g"});
    while (!rpc.calls.empty()) {
      auto done = std::move(rpc.calls.front().done);
      rpc.calls.erase(rpc.calls.begin());
      in_turn([&] { done(Error{Errc::kTimeout, "no answer"}); });
    }
    run_for(250ms);
  }
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->code(), Errc::kUnavailable);
  EXPECT_FALSE(written());
}

// Three copies at home, two away, one of those here: of three home owners two know what was acknowledged.
class ReadingAtHome : public Parts {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Parts::SetUp());
    overlay::RingSettings settings;
    settings.partitions = testing::kTestPartitions;
    settings.sites = {3, 2, "east"};
    std::uint32_t self = 0;
    while (overlay::test_id(self) != view->self) ++self;
    const auto zone = [&](std::uint32_t i) { return i == self || i == (self + 1) % kNodes ? "west" : "east"; };
    const auto founder = overlay::test_member(0, zone(0));
    const auto alone = overlay::must(overlay::first_version(overlay::test_lineage(), founder, settings));
    std::vector<overlay::NewMember> joiners;
    for (std::uint32_t i = 1; i < kNodes; ++i) joiners.push_back(overlay::test_member(i, zone(i)));
    const auto joined = overlay::must(overlay::next_complete(overlay::must(overlay::next_intent_join(alone, joiners))));
    in_turn([&] { view->set_ring(overlay::must(overlay::Ring::make(joined))); });
    home = view->ring().home(kPartition).to_vector();
    ASSERT_EQ(home.size(), 3u);
    for (const auto& owner : view->ring().owners(kPartition)) {
      if (!view->ring().is_home(kPartition, owner)) away.push_back(owner);
    }
    ASSERT_EQ(away.size(), 2u);
  }
  overlay::Task<Done> read() {
    auto reading = read_registers(*view, testing::kAlice, "", "", 10);
    outcome = co_await reading;
    co_return Done{};
  }
  void begin() {
    in_turn([&] { scope.spawn(read()); });
    run_for(50ms);
  }
  bool is_asked(const NodeId& node) {
    return std::any_of(rpc.calls.begin(), rpc.calls.end(), [&](const auto& call) { return call.to == node; });
  }
  void answer(const NodeId& node, Result<Bytes> body) {
    const auto call = std::find_if(rpc.calls.begin(), rpc.calls.end(), [&](const auto& one) { return one.to == node; });
    ASSERT_NE(call, rpc.calls.end());
    auto done = std::move(call->done);
    rpc.calls.erase(call);
    in_turn([&] { done(std::move(body)); });
    run_for(50ms);
  }
  static Bytes account(std::string value, Hlc time) {
    return pack(ReadRegistersReply{{item("account", std::move(value), time)}});
  }

  std::vector<NodeId> home, away;
  std::optional<Result<ReadRegistersReply>> outcome;
  overlay::Scope scope{loop};
};

// It may lack what two others acknowledged, and the first one, too.
TEST_F(ReadingAtHome, AnAwayAnswerIsNotCountedWhileOneAtHomeMayAnswer) {
  dead.insert(home[2]);
  begin();
  answer(home[0], account("old", 5));
  run_for(100ms);  // The second one is slow: another is asked.
  ASSERT_TRUE(is_asked(away[0]) || is_asked(away[1]));
  answer(is_asked(away[0]) ? away[0] : away[1], account("old", 5));
  ASSERT_FALSE(outcome.has_value());
  answer(home[1], account("new", 6));
  ASSERT_TRUE(outcome.has_value() && outcome->ok());
  EXPECT_EQ(outcome->value().items.at(0).value.data, "new");
}

TEST_F(ReadingAtHome, AnAwayAnswerAloneWaitsForTheOneAtHomeThatMayCome) {
  dead = {home[1], home[2]};
  begin();
  answer(is_asked(away[0]) ? away[0] : away[1], account("old", 5));
  run_for(1s);
  ASSERT_FALSE(outcome.has_value());
  answer(home[0], account("new", 6));
  run_for(500ms);
  ASSERT_TRUE(outcome.has_value() && outcome->ok());
  EXPECT_EQ(outcome->value().items.at(0).value.data, "new");
}

// They were cut off a moment ago, and nobody knows yet. The third one may have what was acknowledged last.
TEST_F(ReadingAtHome, WhoIsAskedAndSilentIsNotWaitedForAlone) {
  begin();
  ASSERT_TRUE(is_asked(home[0]) && is_asked(home[1]));
  ASSERT_FALSE(is_asked(home[2]));
  run_for(300ms);
  ASSERT_TRUE(is_asked(home[2]));
  answer(home[2], account("new", 6));
  run_for(300ms);
  ASSERT_TRUE(outcome.has_value() && outcome->ok());
  EXPECT_EQ(outcome->value().items.at(0).value.data, "new");
}

// Far away is not cut off.
TEST_F(ReadingAtHome, HowSoonAnotherIsAskedFollowsTheRoundTrips) {
  begin();
  run_for(400ms);
  ASSERT_TRUE(is_asked(home[2])) << "nothing is known of anybody";
  answer(home[0], account("old", 5));
  answer(home[1], account("old", 5));
  ASSERT_TRUE(outcome.has_value() && outcome->ok());
  outcome.reset();
  rpc.calls.clear();
  begin();
  run_for(400ms);
  EXPECT_FALSE(is_asked(home[2]));
  answer(home[0], account("old", 5));
  answer(home[1], account("old", 5));
  EXPECT_TRUE(outcome.has_value() && outcome->ok());
}

// While the home is cut off people log in by what has come.
TEST_F(ReadingAtHome, AwayAnswersWillDoWhenNoneAtHomeCanBeReached) {
  dead = {home.begin(), home.end()};
  begin();
  answer(away[0], account("old", 5));
  run_for(500ms);
  ASSERT_TRUE(outcome.has_value() && outcome->ok());
  EXPECT_EQ(outcome->value().items.at(0).value.data, "old");
}

}  // namespace
}  // namespace starling::node
