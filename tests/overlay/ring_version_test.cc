#include "overlay/ring/ring_version.h"

#include <algorithm>
#include <functional>

#include <gtest/gtest.h>

#include "tests/overlay/golden.h"
#include "tests/overlay/ring_steps.h"

namespace starling::overlay {
namespace {

TEST(RingVersion, StartsWithTheFirstNodeAlone) {
  const auto version = test_ring(1);
  EXPECT_EQ(version.number.value, 1u);
  EXPECT_EQ(voters(version), ids({0}));
  EXPECT_EQ(version.owner_count(), 1u);
  EXPECT_EQ(version.needed(), 1u);
  EXPECT_FALSE(first_version(test_lineage(), test_member(0), {.copies = 8}).ok());
  EXPECT_FALSE(first_version(test_lineage(), test_member(0), {.copies = 3, .synced = 4}).ok());
  EXPECT_FALSE(first_version(test_lineage(), test_member(0), {.partitions = 100}).ok());
  EXPECT_FALSE(first_version(LineageId{}, test_member(0), {}).ok());
}

TEST(RingVersion, SyncedCopiesAreTheMajorityOfTheOwnersUnlessSet) {
  struct Row {
    std::uint32_t nodes;
    std::uint8_t copies, set;
    std::size_t owners, needed;
  };
  for (const auto& row : {Row{1, 3, 0, 1, 1},
                          {2, 3, 0, 2, 2},
                          {3, 3, 0, 3, 2},
                          {9, 3, 0, 3, 2},
                          {9, 5, 0, 5, 3},
                          {9, 4, 0, 4, 3},
                          {3, 3, 3, 3, 3},
                          {2, 3, 3, 2, 2},
                          {3, 3, 1, 3, 1}}) {
    const auto version = test_ring(row.nodes, {.copies = row.copies, .synced = row.set});
    EXPECT_EQ(version.owner_count(), row.owners);
    EXPECT_EQ(version.needed(), row.needed) << row.nodes << " nodes, N=" << int(row.copies);
  }
}

TEST(RingVersion, InstancesDifferByLineageAndNumber) {
  const auto before = test_ring(2);
  const auto intent = joined(before, {test_member(8)});
  EXPECT_NE(next_instance(before), next_instance(intent));
  EXPECT_NE(next_instance(before),
            next_instance(must(forced_remove(before, ids({1}), test_lineage(9)))));
  EXPECT_LE(next_instance(before).size(), kPaxosInstanceSizeMax);
}

// --- Bytes ---

RingVersion golden_version_1() {
  auto version = of_format_1(test_ring(3));
  version = must(next_complete(leaving(version, {2})));
  return joined(version, {test_member(5, "rack-1", 250)});
}

RingVersion golden_version() {
  auto version = test_ring(4);
  version = must(next_complete(leaving(version, {2})));
  version = must(next_complete(must(next_intent_revoke(version, ids({3})))));
  return joined(version, {test_member(5, "rack-1", 250)});
}

// Of the format that can change the rule.
RingVersion golden_version_3() {
  auto version = of_format_1(test_ring(4));
  version = must(next_complete(leaving(version, {2})));
  version = must(next_complete(must(next_intent_revoke(version, ids({3})))));
  return must(next_intent_rule(version));
}

// Of the format that can say a policy of sites: one is in force, another is to be.
RingVersion golden_version_4() {
  RingSettings settings;
  settings.sites = {2, 1, ""};
  auto version = must(first_version(test_lineage(), test_member(0, "east"), settings));
  for (std::uint32_t i = 1; i < 6; ++i) {
    version = must(next_complete(joined(version, {test_member(i, i % 2 == 0 ? "east" : "west")})));
  }
  return must(next_intent_sites(version, {3, 2, "west"}));
}

// Of the format that can say units.
RingVersion golden_version_5() { return must(next_doubled(test_ring(1))); }

TEST(RingVersion, FrozenBytesStayTheSame) {
  EXPECT_EQ(hex(encode(golden_version_1())), hex(golden("ring_version.v1")));
  EXPECT_EQ(must(decode_ring_version(golden("ring_version.v1"))), golden_version_1());
  EXPECT_EQ(hex(encode(golden_version())), hex(golden("ring_version.v2")));
  EXPECT_EQ(must(decode_ring_version(golden("ring_version.v2"))), golden_version());
  EXPECT_EQ(hex(encode(golden_version_3())), hex(golden("ring_version.v3")));
  EXPECT_EQ(must(decode_ring_version(golden("ring_version.v3"))), golden_version_3());
  EXPECT_EQ(hex(encode(golden_version_4())), hex(golden("ring_version.v4")));
  EXPECT_EQ(must(decode_ring_version(golden("ring_version.v4"))), golden_version_4());
  EXPECT_EQ(hex(encode(golden_version_5())), hex(golden("ring_version.v5")));
  EXPECT_EQ(must(decode_ring_version(golden("ring_version.v5"))), golden_version_5());
  EXPECT_EQ(golden_version_5().format, kRingFormat) << "a newer format has bytes to freeze, too";
}

TEST(RingVersion, KeepsItsFormatAndItsPlacementRuleOverChanges) {
  const auto old = of_format_1(test_ring(4));
  const auto changed = must(next_complete(leaving(old, {2})));
  EXPECT_EQ(changed.format, 1u);
  EXPECT_EQ(changed.rule, PlacementRule::kHashed);
  EXPECT_EQ(test_ring(1).rule, PlacementRule::kEven);

  auto other = leaving(old, {2});
  other.format = 2;
  other.rule = PlacementRule::kEven;
  EXPECT_FALSE(follows(old, other).ok()) << "the rule changed on the way";
  auto unsaid = old;
  unsaid.rule = PlacementRule::kEven;
  EXPECT_FALSE(validate(unsaid).ok()) << "format 1 cannot say it";
}

TEST(RingVersion, RefusesBytesThatAreNoValidVersion) {
  const std::vector<std::function<void(RingVersion&)>> breaks = {
      [](auto& v) { v.format = 0; },
      [](auto& v) { v.format = 1; v.rule = PlacementRule::kHashed; v.change = RingChange::kNone; },
      [](auto& v) { v.revoked.push_back(v.revoked.back()); },
      [](auto& v) { v.revoked = {test_id(0)}; },
      [](auto& v) { v.revoked = {test_id(77)}; },
      [](auto& v) { v.number.value = 0; },
      [](auto& v) { v.number.value = kRingNumberMax + 1; },
      [](auto& v) { v.lineage = {}; },
      [](auto& v) { v.previous_lineage = {}; },
      [](auto& v) { v.copies = 0; },
      [](auto& v) { v.copies = 8; },
      [](auto& v) { v.synced = 0; },
      [](auto& v) { v.synced = 1; },
      [](auto& v) { v.synced = 4, v.synced_set = true; },
      [](auto& v) { v.partitions = 0; },
      [](auto& v) { v.partitions = 3; },
      [](auto& v) { v.partitions = 131072; },
      [](auto& v) { v.change = RingChange::kNone; },
      [](auto& v) { v.change = RingChange::kLeave; },
      [](auto& v) { v.change = RingChange::kRule; },
      [](auto& v) { v.change = RingChange::kSites; },
      [](auto& v) { v.change = static_cast<RingChange>(8); },
      [](auto& v) { v.members.clear(); },
      [](auto& v) { std::swap(v.members[0], v.members[1]); },
      [](auto& v) { v.members.push_back(v.members.back()); },
      [](auto& v) { v.members[0].key.raw[5] ^= 1; },
      [](auto& v) { v.members[0].weight = 0; },
      [](auto& v) { v.members[0].weight = 1001; },
      [](auto& v) { v.members[0].next_weight = 5; },
      [](auto& v) { v.members[0].zone = "a\n"; },
      [](auto& v) { v.members[0].zone = std::string(33, 'a'); },
      [](auto& v) { v.members[0].state = static_cast<RingMemberState>(0); },
      [](auto& v) { v.members[0].state = static_cast<RingMemberState>(7); },
      [](auto& v) { v.members[0].invite = v.members[1].invite; },
      [](auto& v) { v.members[0].since.value = 0; },
      [](auto& v) { v.members[0].since.value = v.number.value + 1; },
      [](auto& v) {
        for (auto& member : v.members) member.since.value = 1;
      },
  };
  for (std::size_t i = 0; i < breaks.size(); ++i) {
    auto version = golden_version();
    breaks[i](version);
    const auto decoded = decode_ring_version(encode(version));
    ASSERT_FALSE(decoded.ok()) << i;
    EXPECT_EQ(decoded.code(), Errc::kCorrupt) << i;
  }
  auto future = golden_version();
  future.format = kRingFormat + 1;
  EXPECT_EQ(decode_ring_version(encode(future)).code(), Errc::kUnsupported);
  future = golden_version();
  future.rule = static_cast<PlacementRule>(3);
  EXPECT_EQ(decode_ring_version(encode(future)).code(), Errc::kUnsupported);
  EXPECT_EQ(decode_ring_version(pack(std::vector<int>{6})).code(), Errc::kUnsupported);
  EXPECT_EQ(decode_ring_version(pack(std::vector<int>{2})).code(), Errc::kCorrupt);
  EXPECT_EQ(decode_ring_version(pack(std::string("2"))).code(), Errc::kCorrupt);
}

TEST(RingVersion, RefusesAPolicyOfSitesThatIsNone) {
  const std::vector<std::function<void(RingVersion&)>> breaks = {
      [](auto& v) { v.next_sites = v.sites; },
      [](auto& v) { v.next_sites = {0, 1, ""}; },
      [](auto& v) { v.next_sites = {2, 0, ""}; },
      [](auto& v) { v.next_sites = {4, 4, ""}; },
      [](auto& v) { v.next_sites = {200, 100, ""}; },
      [](auto& v) { v.next_sites.only = "a\n"; },
      [](auto& v) { v.next_sites.only = std::string(33, 'a'); },
      [](auto& v) { v.sites = {3, 1, ""}; },
      [](auto& v) { v.copies = 4; },
      [](auto& v) { v.change = RingChange::kNone; },
      [](auto& v) { v.synced = 3, v.synced_set = true; },
  };
  for (std::size_t i = 0; i < breaks.size(); ++i) {
    auto version = golden_version_4();
    breaks[i](version);
    const auto decoded = decode_ring_version(encode(version));
    ASSERT_FALSE(decoded.ok()) << i;
    EXPECT_EQ(decoded.code(), Errc::kCorrupt) << i;
  }
}

TEST(RingVersion, RefusesUnitsThatAreNone) {
  const std::vector<std::function<void(RingVersion&)>> breaks = {
      [](auto& v) { v.units = 3; },
      [](auto& v) { v.units = v.partitions; },
      [](auto& v) { v.units = v.partitions * 2; },
  };
  for (std::size_t i = 0; i < breaks.size(); ++i) {
    auto version = golden_version_5();
    breaks[i](version);
    const auto decoded = decode_ring_version(encode(version));
    ASSERT_FALSE(decoded.ok()) << i;
    EXPECT_EQ(decoded.code(), Errc::kCorrupt) << i;
  }
  auto unsaid = golden_version_5();
  unsaid.format = 4;
  EXPECT_FALSE(validate(unsaid).ok()) << "format 4 cannot say units";
}

class RingVersionBytes : public ::testing::TestWithParam<RingVersion (*)()> {};

TEST_P(RingVersionBytes, RefusesEveryCutAndSurvivesEveryFlippedByte) {
  const auto bytes = encode(GetParam()());
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    EXPECT_FALSE(decode_ring_version(View(bytes).substr(0, n)).ok());
    for (int bit = 0; bit < 8; ++bit) {
      auto flipped = bytes;
      flipped[n] = static_cast<char>(flipped[n] ^ (1 << bit));
      if (auto decoded = decode_ring_version(flipped)) {
        EXPECT_TRUE(validate(*decoded).ok());
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, RingVersionBytes,
                         ::testing::Values(golden_version, golden_version_4, golden_version_5));

TEST(RingVersion, TheLargestVersionFitsAPaxosValue) {
  RingMember member{test_id(0),      test_member(0).key, std::string(kZoneSizeMax, 'z'),
                    kWeightMax,      kWeightMax - 1,     RingMemberState::kRemoved,
                    {kRingNumberMax}, test_member(1).invite};
  EXPECT_LE(pack(member).size(), kRingMemberSizeMax);
}

}  // namespace
}  // namespace starling::overlay
