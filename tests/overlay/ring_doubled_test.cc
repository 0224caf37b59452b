// Doubling: twice the partitions, the owners that were.
#include <algorithm>
#include <functional>

#include <gtest/gtest.h>

#include "overlay/ring/ring.h"
#include "tests/overlay/ring_steps.h"

namespace starling::overlay {
namespace {

PartitionId partition_at(std::uint32_t i) { return {static_cast<std::uint16_t>(i)}; }

RingVersion small_ring(std::uint32_t n) { return test_ring(n, {.partitions = 256}); }

// Nodes 0..n-1 in two sites by turns.
RingVersion ring_of_sites(std::uint32_t n, const SitePolicy& policy) {
  RingSettings settings;
  settings.partitions = 256;
  settings.sites = policy;
  auto version = must(first_version(test_lineage(), test_member(0, "east"), settings));
  for (std::uint32_t i = 1; i < n; ++i) {
    version = must(next_complete(joined(version, {test_member(i, i % 2 == 0 ? "east" : "west")})));
  }
  return version;
}

// A node that owns little of two sites, so that copies of some partitions share a zone.
RingVersion ring_of_zones() {
  auto version = must(first_version(test_lineage(), test_member(0, "a"), {.partitions = 256}));
  return must(next_complete(joined(version, {test_member(1, "a"), test_member(2, "a"), test_member(3, "b", 5)})));
}

void expect_owners_of_parents(const RingVersion& before, const RingVersion& after) {
  const auto was = ring_of(before);
  const auto is = ring_of(after);
  const std::uint32_t times = is->partitions() / was->partitions();
  ASSERT_GT(times, 1u);
  EXPECT_EQ(is->w(), was->w());
  EXPECT_EQ(is->copies(), was->copies());
  EXPECT_EQ(is->home_copies(), was->home_copies());
  for (std::uint32_t i = 0; i < is->partitions(); ++i) {
    ASSERT_EQ(was->covering(partition_at(i), is->partitions()), partition_at(i / times));
    ASSERT_EQ(is->owners(partition_at(i)).to_vector(), was->owners(partition_at(i / times)).to_vector());
    ASSERT_EQ(is->home(partition_at(i)).to_vector(), was->home(partition_at(i / times)).to_vector());
    ASSERT_EQ(is->owners_next(partition_at(i)).to_vector(), was->owners_next(partition_at(i / times)).to_vector());
    ASSERT_EQ(is->home_next(partition_at(i)).to_vector(), was->home_next(partition_at(i / times)).to_vector());
    ASSERT_EQ(is->owners_to_be(partition_at(i)).to_vector(), was->owners_to_be(partition_at(i / times)).to_vector());
  }
  for (const auto& member : is->members()) {
    const auto owned = is->partitions_of(member.id);
    EXPECT_EQ(owned.size(), times * was->partitions_of(member.id).size());
    EXPECT_TRUE(std::is_sorted(owned.begin(), owned.end()));
    EXPECT_EQ(is->partitions_to_be_of(member.id).size(), times * was->partitions_to_be_of(member.id).size());
    EXPECT_DOUBLE_EQ(is->share(member.id), was->share(member.id));
    for (const auto partition : owned) ASSERT_TRUE(is->is_owner(partition, member.id));
  }
  ASSERT_EQ(is->zones_shared().size(), times * was->zones_shared().size());
  for (std::size_t i = 0; i < is->zones_shared().size(); ++i) {
    ASSERT_EQ(was->covering(is->zones_shared()[i], is->partitions()), was->zones_shared()[i / times]);
  }
}

TEST(RingDoubled, IsOneStepThatChangesNothingElse) {
  const auto before = small_ring(5);
  const auto after = must(next_doubled(before));
  EXPECT_EQ(after.partitions, 512u);
  EXPECT_EQ(after.units, 256u);
  EXPECT_EQ(after.format, kRingFormat);
  EXPECT_EQ(after.change, RingChange::kNone);
  EXPECT_TRUE(follows(before, after).ok());
  EXPECT_TRUE(succeeds(before, after).ok());
  EXPECT_EQ(voters(after), voters(before));
  auto same = after;
  same.number = before.number;
  same.previous_lineage = before.previous_lineage;
  same.format = before.format;
  same.partitions = before.partitions;
  same.units = 0;
  EXPECT_EQ(same, before);
}

TEST(RingDoubled, NothingElseIsSuchAStep) {
  const auto before = small_ring(5);
  const auto after = must(next_doubled(before));
  const std::vector<std::function<void(RingVersion&)>> breaks = {
      [](auto& v) { v.partitions *= 2; },
      [](auto& v) { v.partitions = 256, v.units = 128; },
      [](auto& v) { v.partitions = 128, v.units = 0; },
      [](auto& v) { v.units = 0; },
      [](auto& v) { v.units = 128; },
      [](auto& v) { v.copies = 5; },
      [](auto& v) { member(v, 1).weight = 7; },
      [](auto& v) { v.rule = PlacementRule::kHashed; },
      [](auto& v) { ++v.number.value; },
      [](auto& v) { v.lineage = test_lineage(9); },
  };
  for (std::size_t i = 0; i < breaks.size(); ++i) {
    auto other = after;
    breaks[i](other);
    EXPECT_FALSE(follows(before, other).ok()) << i;
  }
  auto twice = must(next_doubled(after));
  EXPECT_FALSE(follows(before, twice).ok());
  twice.number = after.number;
  EXPECT_FALSE(follows(before, twice).ok());
}

TEST(RingDoubled, WaitsForAnOpenChangeAndEndsAtTheMostThereCanBe) {
  const auto intent = joined(small_ring(3), {test_member(9)});
  EXPECT_EQ(next_doubled(intent).code(), Errc::kOverloaded);
  auto version = test_ring(2, {.partitions = kPartitionsMax / 2});
  version = must(next_doubled(version));
  EXPECT_EQ(ring_of(version)->owners({65535}).size(), 2u);
  EXPECT_EQ(next_doubled(version).code(), Errc::kInvalid);
}

TEST(RingDoubled, ChildrenHaveTheOwnersOfTheirParentHoweverOften) {
  for (const auto& before : {small_ring(1), small_ring(2), small_ring(7), ring_of_sites(6, {2, 1, ""}),
                             ring_of_sites(7, {3, 2, "east"}), ring_of_zones()}) {
    const auto once = must(next_doubled(before));
    expect_owners_of_parents(before, once);
    const auto twice = must(next_doubled(once));
    EXPECT_EQ(twice.units, 256u);
    expect_owners_of_parents(before, twice);
    expect_owners_of_parents(once, twice);
  }
}

TEST(RingDoubled, ZonesAreSharedSomewhereInTheTestOfThem) {
  EXPECT_FALSE(ring_of(ring_of_zones())->zones_shared().empty());
}

// A rule of an old cluster is kept, too.
TEST(RingDoubled, OfAnOlderFormatKeepsItsPlacement) {
  const auto old = of_format_1(small_ring(4));
  const auto after = must(next_doubled(old));
  EXPECT_EQ(after.rule, PlacementRule::kHashed);
  EXPECT_TRUE(follows(old, after).ok());
  expect_owners_of_parents(old, after);
  EXPECT_EQ(must(decode_ring_version(encode(after))), after);
}

// Whatever changes afterwards goes by units: both children of a partition move together.
TEST(RingDoubled, ChangesAfterItMoveWhatTheyWouldHaveMovedBefore) {
  const auto before = small_ring(5);
  const auto doubled = must(next_doubled(before));
  const std::vector<std::function<RingVersion(const RingVersion&)>> intents = {
      [](const auto& v) { return joined(v, {test_member(8)}); },
      [](const auto& v) { return leaving(v, {1}); },
      [](const auto& v) { return removing(v, {2}); },
      [](const auto& v) { return must(next_intent_weight(v, std::vector<NewWeight>{{test_id(3), 300}})); },
  };
  for (const auto& intent : intents) {
    const auto plain = intent(before);
    const auto open = intent(doubled);
    EXPECT_TRUE(follows(doubled, open).ok());
    EXPECT_EQ(open.units, 256u);
    expect_owners_of_parents(plain, open);
    const auto done = must(next_complete(open));
    EXPECT_TRUE(follows(open, done).ok());
    expect_owners_of_parents(must(next_complete(plain)), done);
    const auto aborted = must(next_abort(open));
    EXPECT_EQ(aborted.units, 256u);
    expect_owners_of_parents(before, aborted);
  }
}

TEST(RingDoubled, AForcedRemovalKeepsThePartitionsAndTheirUnits) {
  const auto doubled = must(next_doubled(small_ring(5)));
  const auto forced = must(forced_remove(doubled, ids({1, 2}), test_lineage(7)));
  EXPECT_TRUE(succeeds(doubled, forced).ok());
  EXPECT_EQ(forced.partitions, 512u);
  EXPECT_EQ(forced.units, 256u);
  expect_owners_of_parents(must(forced_remove(small_ring(5), ids({1, 2}), test_lineage(7))), forced);
}

}  // namespace
}  // namespace starling::overlay
