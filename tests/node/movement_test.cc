// What a change of the ring moves, and when it may begin and end.
#include "node/ring/movement.h"

#include <gtest/gtest.h>

#include "tests/overlay/ring_fixture.h"

namespace starling::node {
namespace {

using overlay::must;
using overlay::Ring;
using overlay::ring_of;
using overlay::RingVersion;
using overlay::test_id;
using overlay::test_member;
using overlay::test_ring;

RingVersion leaving(std::uint32_t nodes, std::uint32_t i) {
  const NodeId id = test_id(i);
  return must(overlay::next_intent_leave(test_ring(nodes), {&id, 1}, false));
}

std::set<NodeId> all(std::uint32_t nodes) {
  std::set<NodeId> out;
  for (std::uint32_t i = 0; i < nodes; ++i) out.insert(test_id(i));
  return out;
}

std::set<NodeId> without(std::set<NodeId> nodes, std::uint32_t i) {
  nodes.erase(test_id(i));
  return nodes;
}

TEST(Movement, ALeaveMovesWhatTheLeaverOwnsAndNothingIsLostOrDoubled) {
  const auto ring = ring_of(leaving(5, 2));
  const auto moves = moves_of(*ring);
  std::uint32_t gains = 0, loses = 0;
  for (const auto& item : moves.nodes) {
    EXPECT_EQ(item.now + item.gains - item.loses, item.next);
    if (item.node == test_id(2)) {
      EXPECT_EQ(item.next, 0u);
    }
    gains += item.gains;
    loses += item.loses;
  }
  EXPECT_EQ(gains, loses);
  EXPECT_EQ(gains, moves.moved);
  EXPECT_GE(moves.moved, ring->partitions_of(test_id(2)).size());
  EXPECT_EQ(moves.copies, 3 * ring->partitions());
}

TEST(Movement, ARebalanceMovesPartitionsAndChangesWhoOwnsOnlyWhenItIsComplete) {
  auto old = test_ring(6);
  old.format = 1;
  old.rule = overlay::PlacementRule::kHashed;
  const auto before = ring_of(old);
  const auto intent = must(overlay::next_intent_rule(old));
  const auto during = ring_of(intent);
  const auto after = ring_of(must(overlay::next_complete(intent)));
  const auto moves = moves_of(*during);
  EXPECT_GT(moves.moved, 0u);
  EXPECT_LT(moves.moved, moves.copies);
  for (std::uint32_t i = 0; i < before->partitions(); i += 7) {
    const PartitionId p{static_cast<std::uint16_t>(i)};
    EXPECT_EQ(during->owners(p).to_vector(), before->owners(p).to_vector());
    EXPECT_EQ(during->owners_next(p).to_vector(), after->owners(p).to_vector());
  }
  EXPECT_TRUE(may_complete(*during, all(6), all(6)));
}

TEST(Movement, WithoutAChangeNothingMoves) {
  EXPECT_EQ(moves_of(*ring_of(test_ring(4))).moved, 0u);
}

TEST(Movement, ARemovalKeepsAMajorityOfTheOwnersOfEveryPartition) {
  const auto ring = ring_of(test_ring(5));
  EXPECT_TRUE(may_remove(*ring, {test_id(1)}));
  const auto refused = may_remove(*ring, {test_id(1), test_id(2)});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.code(), Errc::kDenied);
  EXPECT_NE(refused.error().text.find("--force"), std::string::npos);
}

// With W=1 a change may be at one owner alone.
TEST(Movement, ARemovalKeepsAsManyOwnersAsKnowEveryAcknowledgedChange) {
  const auto ring = ring_of(test_ring(5, {.copies = 3, .synced = 1}));
  EXPECT_FALSE(may_remove(*ring, {test_id(1)}));
}

TEST(Movement, AChangeEndsWhenAllThatGainHaveInstalled) {
  const auto ring = ring_of(leaving(5, 2));
  EXPECT_TRUE(may_complete(*ring, all(5), all(5)));
  const auto waits = may_complete(*ring, all(5), without(all(5), 3));
  ASSERT_FALSE(waits);
  EXPECT_NE(waits.error().text.find(short_text(test_id(3))), std::string::npos);
}

TEST(Movement, WhoGainsAndIsAwayHoldsItUpOnlyWhereTooFewOwnersAreLeft) {
  const auto ring = ring_of(leaving(6, 2));
  // Two of three owners-to-be are there.
  EXPECT_TRUE(may_complete(*ring, without(all(6), 3), without(all(6), 3)));
  // The leaver, and one who stays, serve where the other two would be away.
  const auto two = without(without(all(6), 3), 4);
  const auto waits = may_complete(*ring, two, two);
  ASSERT_FALSE(waits);
  EXPECT_NE(waits.error().text.find("starling abort"), std::string::npos);
}

TEST(Movement, AJoinWaitsForItsJoiner) {
  const auto joiner = test_member(9);
  const auto ring = ring_of(must(overlay::next_intent_join(test_ring(4), {&joiner, 1})));
  const auto waits = may_complete(*ring, all(4), all(4));
  ASSERT_FALSE(waits);
  EXPECT_NE(waits.error().text.find(short_text(test_id(9))), std::string::npos);
  auto there = all(4);
  there.insert(test_id(9));
  EXPECT_FALSE(may_complete(*ring, there, all(4)));
  EXPECT_TRUE(may_complete(*ring, there, there));
}

// Nobody gains where only two are left, and yet one of them is away.
TEST(Movement, ALeaveDoesNotEndInARingThatCannotWriteOrAgree) {
  const NodeId id = test_id(2);
  const auto ring = ring_of(must(overlay::next_intent_leave(test_ring(3), {&id, 1}, true)));
  EXPECT_TRUE(may_complete(*ring, all(3), all(3)));
  const auto waits = may_complete(*ring, without(all(3), 1), without(all(3), 1));
  ASSERT_FALSE(waits) << "of two owners and voters one would be away";
  EXPECT_EQ(waits.code(), Errc::kUnavailable);
  EXPECT_NE(waits.error().text.find(short_text(test_id(1))), std::string::npos) << waits.error().text;
  EXPECT_NE(waits.error().text.find("starling abort"), std::string::npos);
  // With one copy each no partition misses the other, but no version could be decided.
  const auto single = ring_of(
      must(overlay::next_intent_leave(test_ring(3, {.copies = 1}), {&id, 1}, true)));
  const auto votes = may_complete(*single, without(all(3), 1), without(all(3), 1));
  ASSERT_FALSE(votes);
  EXPECT_NE(votes.error().text.find("vote"), std::string::npos) << votes.error().text;
}

TEST(Movement, WhoIsCutOffIsNotMissedByTheMajorityOfTheOthers) {
  const auto revoking = [](std::uint32_t nodes) {
    const NodeId id = test_id(0);
    return must(overlay::next_intent_revoke(test_ring(nodes), {&id, 1}));
  };
  EXPECT_TRUE(keeps_majority(revoking(3), all(3)));
  const auto refused = keeps_majority(revoking(3), without(all(3), 2));
  ASSERT_FALSE(refused) << "one of two would be left";
  EXPECT_EQ(refused.code(), Errc::kDenied);
  EXPECT_NE(refused.error().text.find(short_text(test_id(2))), std::string::npos) << refused.error().text;
  EXPECT_TRUE(keeps_majority(revoking(5), without(all(5), 2)));
}

// The leaver was reachable, and nobody else is: what is left must not become less.
TEST(Movement, AClusterThatCannotBeReachedAnywayIsNotHeldUpByThat) {
  const auto ring = ring_of(leaving(4, 2));
  EXPECT_TRUE(may_complete(*ring, {}, {}));
}

}  // namespace
}  // namespace starling::node
