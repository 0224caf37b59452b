// Whose acceptor states a new owner takes over before it votes on names (parts.h).
#include "node/ring/tenure.h"

#include "tests/node/parts.h"
#include "tests/overlay/ring_steps.h"

namespace starling::node {
namespace {

using overlay::Method;
using overlay::RingVersion;
using overlay::Task;

// Version 3 made five nodes of one, and us an owner of kPartition.
class TakingOver : public Parts {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Parts::SetUp());
    add(overlay::must(overlay::first_version(overlay::test_lineage(), overlay::test_member(0),
                                             {.copies = 3, .synced = 0, .partitions = testing::kTestPartitions})));
    std::vector<overlay::NewMember> joiners;
    for (std::uint32_t i = 1; i < kNodes; ++i) joiners.push_back(overlay::test_member(i));
    add(overlay::must(overlay::next_intent_join(newest(), joiners)));
    add(overlay::must(overlay::next_complete(newest())));
    ASSERT_EQ(newest(), view->ring().version());
    for (const auto& member : view->ring().members()) said[member.id] = {};
    voter = owners[1] == founder ? owners[2] : owners[1];
    other = owners[1] == voter ? owners[2] : owners[1];
  }
  void add(const RingVersion& version) { versions.emplace(version.number, version); }
  [[nodiscard]] const RingVersion& newest() const { return versions.rbegin()->second; }

  // It learns of the newest version, and the others answer.
  void begin() {
    in_turn([&] {
      view->set_ring(overlay::must(overlay::Ring::make(newest())));
      tenures = std::make_unique<Tenures>(
          *view, [this](RingNumber number) { return recall(number); },
          [](RingNumber) { return std::nullopt; });
      view->set_ring(overlay::must(overlay::Ring::make(newest())));
    });
    go(2s);
  }
  void go(Duration duration) {
    for (Duration done{}; done < duration; done += 50ms) {
      run_for(50ms);
      while (!rpc.calls.empty()) {
        auto call = std::move(rpc.calls.front());
        rpc.calls.erase(rpc.calls.begin());
        auto answer = answer_to(call);
        in_turn([&] { call.done(std::move(answer)); });
      }
    }
  }
  Task<Result<RingVersion>> recall(RingNumber number) {
    const auto it = versions.find(number);
    if (it == versions.end()) co_return Error{Errc::kUnavailable, "not kept"};
    co_return it->second;
  }
  Result<Bytes> answer_to(const NotedRpc::Call& call) {
    if (call.method == Method::kHandOver) {
      handed.insert(call.to);
      return pack(HandOverReply{});
    }
    const auto it = said.find(call.to);
    const auto request = unpack<SealRequest>(call.body);
    if (call.method != Method::kSeal || it == said.end() || !request) return Error{Errc::kTimeout, "no answer"};
    SealReply reply{newest().number, {}, {}, count_said};
    if (request->items.empty() && told_safe) reply.safe.push_back(*told_safe);
    for (const auto& item : request->items) {
      reply.items.push_back({item.partition, it->second.from, it->second.until, false});
    }
    return pack(reply);
  }

  struct Said {  // Of all partitions.
    RingNumber from, until;
  };
  std::map<RingNumber, RingVersion> versions;
  std::map<NodeId, Said> said;  // Others are silent.
  std::optional<SealReply::Safe> told_safe;  // What the others know of who left.
  std::set<NodeId> handed;      // Were asked for their states.
  std::uint32_t count_said = testing::kTestPartitions;
  const NodeId founder = overlay::test_id(0);
  NodeId voter, other;          // Owners beside us; the first of them did not found the cluster.
  std::unique_ptr<Tenures> tenures;
};

// It skipped versions, and calls the term by a later one of its versions than we do.
TEST_F(TakingOver, TheTermOfAnotherIsTheSameByALaterName) {
  add(overlay::must(overlay::next_intent_leave(newest(), std::vector{others[0]}, true)));
  said = {{voter, {RingNumber{4}, {}}}};
  begin();
  EXPECT_TRUE(tenures->may_vote(kPartition).ok()) << tenures->settled().error().text;
  EXPECT_TRUE(handed.contains(voter));
}

// As of no version at all everything would be new, and nobody would have voted before us.
TEST_F(TakingOver, ADamagedMarkOfWhereTheTenuresStandVotesOnNothing) {
  said = {{voter, {RingNumber{4}, {}}}};
  in_turn([this] { box.store->put(storage::Store::Family::kPaxos, kTenureKey, "?"); });
  box.sync();
  begin();
  EXPECT_EQ(tenures->may_vote(kPartition).code(), Errc::kCatchingUp);
  ASSERT_FALSE(tenures->settled().ok());
  EXPECT_NE(tenures->settled().error().text.find("damaged"), std::string::npos) << tenures->settled().error().text;
}

TEST_F(TakingOver, AVoterOfALaterVersionThanOursIsNoSource) {
  said = {{voter, {RingNumber{4}, {}}}};
  begin();
  EXPECT_FALSE(tenures->may_vote(kPartition).ok());
  EXPECT_FALSE(handed.contains(voter));
}

// One that voted before it skipped is asked, however far back those are who could vote then.
TEST_F(TakingOver, WhoEverVotedIsMergedFromWhicheverTermTheOthersCome) {
  add(overlay::must(overlay::next_intent_leave(newest(), std::vector{other}, true)));
  add(overlay::must(overlay::next_complete(newest())));
  said[founder] = {RingNumber{1}, RingNumber{2}};
  said[voter] = {RingNumber{1}, RingNumber{1}};
  begin();
  EXPECT_TRUE(tenures->may_vote(kPartition).ok()) << tenures->settled().error().text;
  EXPECT_TRUE(handed.contains(voter));
}

TEST_F(TakingOver, WhoEverVotedIsMergedWhenTheRestWasForcedOut) {
  std::vector<NodeId> out{other};
  if (founder != other && founder != view->self) out.push_back(founder);
  add(overlay::must(overlay::forced_remove(newest(), out, overlay::test_lineage(9))));
  said[voter] = {RingNumber{1}, RingNumber{1}};
  for (const auto& node : out) said.erase(node);
  begin();
  EXPECT_TRUE(tenures->may_vote(kPartition).ok()) << tenures->settled().error().text;
  EXPECT_TRUE(handed.contains(voter));
}

// What it says of is another partition (decision 0025).
TEST_F(TakingOver, AnAnswerOfAnotherCountOfPartitionsCountsForNothing) {
  count_said = 2 * testing::kTestPartitions;
  said[founder] = {RingNumber{1}, RingNumber{2}};
  begin();
  EXPECT_FALSE(tenures->may_vote(kPartition).ok());
  EXPECT_TRUE(handed.empty());
}

TEST_F(TakingOver, WhoCountsOtherPartitionsIsNotTold) {
  said[founder] = {RingNumber{1}, RingNumber{2}};
  begin();
  ASSERT_TRUE(tenures->may_vote(kPartition).ok()) << tenures->settled().error().text;
  SealRequest seal{newest().number, {{kPartition, newest().number}}, false, newest().lineage};
  HandOverRequest hand_over{newest().number, kPartition, newest().number, {}};
  for (const std::uint32_t count : {0u, testing::kTestPartitions}) {
    seal.partitions = hand_over.partitions = count;
    EXPECT_EQ(refusal(Method::kSeal, voter, seal), std::nullopt) << count;
    EXPECT_EQ(refusal(Method::kHandOver, voter, hand_over), std::nullopt) << count;
  }
  seal.partitions = hand_over.partitions = 2 * testing::kTestPartitions;
  EXPECT_EQ(refusal(Method::kSeal, voter, seal), Errc::kStaleRing);
  EXPECT_EQ(refusal(Method::kHandOver, voter, hand_over), Errc::kStaleRing);
  seal.items.clear();
  EXPECT_EQ(refusal(Method::kSeal, voter, seal), std::nullopt) << "who left is not said of partitions";
}

// Of who owned kPartition at version 3, one left, the other was forced out then; nobody who is left voted.
class AfterForce : public TakingOver {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(TakingOver::SetUp());
    gone = voter;
    add(overlay::must(overlay::next_intent_leave(newest(), std::vector{gone}, true)));
    add(overlay::must(overlay::next_complete(newest())));  // 5
    const auto ring = overlay::must(overlay::Ring::make(newest()));
    std::vector<NodeId> out;
    for (const auto& owner : ring->owners(kPartition)) {
      if (owner != view->self) out.push_back(owner);
    }
    if (std::find(out.begin(), out.end(), other) == out.end()) out.push_back(other);
    add(overlay::must(overlay::forced_remove(newest(), out, overlay::test_lineage(9))));  // 6
    for (const auto& node : out) said.erase(node);
    said.erase(gone);
    dead.insert(gone);
  }
  NodeId gone;
};

TEST_F(AfterForce, WhoLeftAndSaidNothingIsWaitedFor) {
  begin();
  EXPECT_FALSE(tenures->may_vote(kPartition).ok());
  const std::string why = tenures->settled().error().text;
  EXPECT_NE(why.find(short_text(gone)), std::string::npos) << why;
}

TEST_F(AfterForce, WhoWasSafeBeforeIsNot) {
  told_safe = {gone, RingNumber{5}};
  begin();
  EXPECT_TRUE(tenures->may_vote(kPartition).ok()) << tenures->settled().error().text;
  EXPECT_TRUE(tenures->is_safe(gone));
}

// By then the owners of our own term may have had it, and one of those may be down only.
TEST_F(AfterForce, WhoWasSafeUnderOurTermIsWaitedFor) {
  told_safe = {gone, RingNumber{6}};
  begin();
  EXPECT_FALSE(tenures->may_vote(kPartition).ok());
}

// When it matters those who know may be lost.
TEST_F(TakingOver, WhoWasNotToldThatALeaverIsSafeAsksBeforeAnybodyWaits) {
  const NodeId left = others[0];
  add(overlay::must(overlay::next_intent_leave(newest(), std::vector{left}, true)));
  add(overlay::must(overlay::next_complete(newest())));
  begin();
  ASSERT_FALSE(tenures->is_safe(left));
  told_safe = {left, newest().number};
  go(15s);
  EXPECT_TRUE(tenures->is_safe(left));
}

// It was forced out, and forced us out: its version 4 is not ours.
TEST_F(TakingOver, TheAnswerOfAFormerHalfCountsForNothing) {
  add(overlay::must(overlay::forced_remove(newest(), std::vector{other}, overlay::test_lineage(9))));
  said[other] = {RingNumber{4}, {}};
  said[voter] = {RingNumber{3}, RingNumber{3}};
  begin();
  EXPECT_TRUE(tenures->may_vote(kPartition).ok()) << tenures->settled().error().text;
  EXPECT_TRUE(handed.contains(voter));
  EXPECT_FALSE(handed.contains(other));
}

}  // namespace
}  // namespace starling::node
