// How far away owners are: what is known of a site, what a comparison tells, and who is asked next (parts.h).
#include "node/replication/copies/away_lag.h"

#include "tests/node/parts.h"

namespace starling::node {
namespace {

// Two nodes at home, of which we are one; each partition has one away copy, at one of the three others.
class Away : public Parts {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Parts::SetUp());
    overlay::RingSettings settings;
    settings.partitions = testing::kTestPartitions;
    settings.sites = {2, 1, "east"};
    std::uint32_t self = 0;
    while (overlay::test_id(self) != view->self) ++self;
    const auto zone = [&](std::uint32_t i) { return i == self || i == (self + 1) % kNodes ? "east" : "west"; };
    const auto founder = overlay::test_member(0, zone(0));
    const auto alone = overlay::must(overlay::first_version(overlay::test_lineage(), founder, settings));
    std::vector<overlay::NewMember> joiners;
    for (std::uint32_t i = 1; i < kNodes; ++i) joiners.push_back(overlay::test_member(i, zone(i)));
    const auto joined = overlay::must(overlay::next_complete(overlay::must(overlay::next_intent_join(alone, joiners))));
    in_turn([&] {
      view->set_ring(overlay::must(overlay::Ring::make(joined)));
      lag = std::make_unique<AwayLag>(*view);
    });
    for (std::uint32_t i = 0; i < testing::kTestPartitions; ++i) {
      const PartitionId partition{static_cast<std::uint16_t>(i)};
      ASSERT_TRUE(view->is_home(partition));
      for (const auto& owner : view->ring().owners(partition)) {
        if (!view->ring().is_home(partition, owner)) copies.emplace_back(partition, owner);
      }
    }
    ASSERT_EQ(copies.size(), testing::kTestPartitions);
    for (const auto& copy : copies) there.insert(copy.second);
    ASSERT_GE(there.size(), 2u);
  }
  void compared(const NodeId& owner, Instant begun) {
    in_turn([&] { lag->compared(owner, begun); });
  }
  // Five changes, of which nobody away has one.
  void all_lag() {
    in_turn([&] {
      for (const auto& [partition, owner] : copies) lag->note(partition, owner, 0, 5);
    });
    run_for(2s);
  }
  [[nodiscard]] std::set<AwayLag::Copy> copies_at(const NodeId& owner) const {
    std::set<AwayLag::Copy> out;
    for (const auto& copy : copies) {
      if (copy.second == owner) out.insert(copy);
    }
    return out;
  }
  [[nodiscard]] std::optional<AwayLag::Lag> west() const { return lag->by_site().at("west"); }

  std::vector<AwayLag::Copy> copies;
  std::set<NodeId> there;
  std::unique_ptr<AwayLag> lag;
};

// What this node accepted before it was started may not have come.
TEST_F(Away, OfASiteNothingIsKnownBeforeItsOwnersAreHeard) {
  for (const auto& owner : there) {
    EXPECT_FALSE(west().has_value());
    compared(owner, loop.now());
  }
  ASSERT_TRUE(west().has_value());
  EXPECT_EQ(west()->changes, 0u);
  EXPECT_FALSE(lag->by_site().contains("east")) << "our own";
  all_lag();
  EXPECT_EQ(west()->changes, 5 * copies.size());
  EXPECT_GE(west()->age, 2s);
}

// However many partitions, and whatever became of their last changes, that could be sent again.
TEST_F(Away, AComparisonTellsOfAllPartitionsAtOnce) {
  for (const auto& owner : there) compared(owner, loop.now());
  all_lag();
  const NodeId owner = copies.front().second;
  const std::size_t at_it = copies_at(owner).size();
  const Instant begun = loop.now();
  in_turn([&] { lag->note(copies.front().first, owner, 3, 5); });  // Told by the comparison.
  compared(owner, begun);
  EXPECT_EQ(west()->changes, 5 * (copies.size() - at_it) + 2);
  for (const auto& copy : copies) {
    EXPECT_EQ(lag->lags(copy), copy.second != owner || copy == copies.front());
  }
}

TEST_F(Away, WhoCannotBeReachedTakesNobodysTurn) {
  all_lag();
  const NodeId owner = copies.back().second;
  doubted = there;
  doubted.erase(owner);
  const auto expected = copies_at(owner);
  std::set<AwayLag::Copy> seen;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const auto some = lag->some(1);
    ASSERT_EQ(some.size(), 1u);
    seen.insert(some.front());
  }
  EXPECT_EQ(seen, expected) << "each in its turn";
}

}  // namespace
}  // namespace starling::node
