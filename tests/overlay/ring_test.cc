#include "overlay/ring/ring.h"

#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "tests/overlay/ring_fixture.h"

namespace starling::overlay {
namespace {

std::set<NodeId> set_of(const NodeList& list) { return {list.begin(), list.end()}; }

TEST(Ring, RefusesAVersionThatIsNotValid) {
  auto version = test_ring(3);
  version.partitions = 7;
  EXPECT_EQ(Ring::make(version).code(), Errc::kInvalid);
}

TEST(Ring, KnowsOwnersBothWays) {
  const auto ring = ring_of(test_ring(5));
  double shares = 0;
  for (const auto& member : ring->members()) {
    const auto owned = ring->partitions_of(member.id);
    EXPECT_TRUE(std::is_sorted(owned.begin(), owned.end()));
    std::set<PartitionId> all(owned.begin(), owned.end());
    for (std::uint32_t p = 0; p < ring->partitions(); ++p) {
      const PartitionId partition{static_cast<std::uint16_t>(p)};
      ASSERT_EQ(all.contains(partition), ring->is_owner(partition, member.id));
      ASSERT_EQ(ring->owners(partition).size(), 3u);
    }
    shares += ring->share(member.id);
    EXPECT_NEAR(ring->share(member.id), 0.2, 0.02);
  }
  EXPECT_NEAR(shares, 1.0, 1e-9);
  EXPECT_EQ(ring->w(), 2u);
  EXPECT_EQ(ring->copies(), 3u);
}

TEST(Ring, SaysNothingOfStrangers) {
  const auto ring = ring_of(test_ring(3));
  EXPECT_EQ(ring->member(test_id(99)), nullptr);
  EXPECT_TRUE(ring->partitions_of(test_id(99)).empty());
  EXPECT_EQ(ring->share(test_id(99)), 0.0);
  EXPECT_FALSE(ring->is_owner({0}, test_id(99)));
}

TEST(Ring, AListReadsLikeAContainer) {
  const auto ring = ring_of(test_ring(5));
  const auto owners = ring->owners({17});
  const auto copy = owners.to_vector();
  ASSERT_EQ(copy.size(), 3u);
  EXPECT_EQ(owners.front(), copy[0]);
  EXPECT_EQ(owners[2], copy[2]);
  EXPECT_TRUE(owners.contains(copy[1]));
  EXPECT_TRUE(NodeList().empty());
  EXPECT_EQ(NodeList().begin(), NodeList().end());
}

TEST(Ring, AMailboxLiesInThePartitionOfItsSlot) {
  const auto ring = ring_of(test_ring(1, {.partitions = 4096}));
  MailboxId mailbox;
  mailbox.raw[0] = 0xAB;
  mailbox.raw[1] = 0xCD;
  EXPECT_EQ(ring->partition_of(mailbox).value, 0xABC);
}

TEST(Ring, OwnersStayWhileAJoinIsOpenAndTheNextRingTakesOverTheOwnersToBe) {
  const auto before = test_ring(4);
  const std::vector<NewMember> joiner = {test_member(8)};
  const auto intent = must(next_intent_join(before, joiner));
  const auto old_ring = ring_of(before);
  const auto open = ring_of(intent);
  const auto next = ring_of(must(next_complete(intent)));
  std::size_t to_be = 0;
  for (std::uint32_t p = 0; p < open->partitions(); ++p) {
    const PartitionId partition{static_cast<std::uint16_t>(p)};
    ASSERT_EQ(open->owners(partition).to_vector(), old_ring->owners(partition).to_vector());
    ASSERT_EQ(open->owners_next(partition).to_vector(), next->owners(partition).to_vector());
    for (const auto& id : open->owners_to_be(partition)) {
      ASSERT_FALSE(open->is_owner(partition, id));
      ASSERT_TRUE(next->is_owner(partition, id));
      ASSERT_TRUE(open->is_owner_to_be(partition, id));
      ++to_be;
    }
    auto all = set_of(open->owners(partition));
    all.merge(set_of(open->owners_to_be(partition)));
    for (const auto& id : next->owners(partition)) ASSERT_TRUE(all.contains(id));
  }
  EXPECT_EQ(to_be, open->partitions_to_be_of(test_id(8)).size());
  EXPECT_GT(to_be, 0u);
  EXPECT_TRUE(open->partitions_of(test_id(8)).empty());
  EXPECT_TRUE(open->changing());
  EXPECT_FALSE(next->changing());
  EXPECT_TRUE(next->owners_to_be({0}).empty());
  EXPECT_TRUE(next->partitions_to_be_of(test_id(8)).empty());
}

TEST(Ring, TheSecondNodeIsToOwnEverythingTheFirstOwns) {
  const std::vector<NewMember> joiner = {test_member(1)};
  const auto open = ring_of(must(next_intent_join(test_ring(1), joiner)));
  EXPECT_EQ(open->w(), 1u);
  EXPECT_EQ(open->partitions_to_be_of(test_id(1)).size(), open->partitions());
  EXPECT_EQ(open->owners_next({0}).size(), 2u);
}

TEST(Ring, AMemberThatLeftOwnsNothing) {
  const std::vector<NodeId> leaver = {test_id(1)};
  const auto ring =
      ring_of(must(next_complete(must(next_intent_leave(test_ring(4), leaver, false)))));
  ASSERT_NE(ring->member(test_id(1)), nullptr);
  EXPECT_TRUE(ring->partitions_of(test_id(1)).empty());
  EXPECT_EQ(ring->voters().size(), 3u);
}

TEST(Ring, SixtyFiveThousandPartitionsFitTheirIds) {
  const auto ring = ring_of(test_ring(2, {.partitions = kPartitionsMax}));
  EXPECT_EQ(ring->owners({65535}).size(), 2u);
  EXPECT_EQ(ring->partitions_of(test_id(0)).size(), 65536u);
  EXPECT_EQ(ring->partitions_of(test_id(0)).back().value, 65535u);
}

}  // namespace
}  // namespace starling::overlay
