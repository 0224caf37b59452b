#include "overlay/gossip/member_table.h"

#include <gtest/gtest.h>

namespace starling::overlay {
namespace {

using Change = MemberTable::Change;
constexpr MemberState kStates[] = {MemberState::kAlive, MemberState::kSuspect, MemberState::kDead,
                                   MemberState::kLeft};

NodeId member_id(std::uint32_t n) {
  NodeId id;
  for (int i = 0; i < 4; ++i) id.raw[i] = static_cast<std::uint8_t>(n >> (8 * i));
  return id;
}
MemberRecord record(std::uint32_t n, std::uint64_t incarnation, std::uint64_t writer = 1) {
  MemberRecord out;
  out.node = member_id(n);
  out.incarnation = incarnation;
  out.writer = WriterId{writer};
  return out;
}
Claim claim(std::uint32_t n, std::uint64_t incarnation, MemberState state) {
  return {member_id(n), incarnation, static_cast<std::uint8_t>(state), member_id(n)};
}
Instant at(int seconds) { return Instant{std::chrono::seconds(seconds)}; }

// The table of the paper: which news about incarnation i beats what is held as of j. Of claims about i > j none is
// believed before the record of i came: then it is alive as of i.
TEST(MemberTable, ClaimsAndRecordsBeatEachOtherAsInThePaper) {
  const struct {
    MemberState news;
    MemberState held;
    bool lower, same, higher;  // i < j, i = j, i > j
  } kRows[] = {
      {MemberState::kAlive, MemberState::kAlive, false, false, true},
      {MemberState::kAlive, MemberState::kSuspect, false, false, true},
      {MemberState::kAlive, MemberState::kDead, false, false, true},
      {MemberState::kAlive, MemberState::kLeft, false, false, true},
      {MemberState::kSuspect, MemberState::kAlive, false, true, false},
      {MemberState::kSuspect, MemberState::kSuspect, false, false, false},
      {MemberState::kSuspect, MemberState::kDead, false, false, false},
      {MemberState::kSuspect, MemberState::kLeft, false, false, false},
      {MemberState::kDead, MemberState::kAlive, false, true, false},
      {MemberState::kDead, MemberState::kSuspect, false, true, false},
      {MemberState::kDead, MemberState::kDead, false, false, false},
      {MemberState::kDead, MemberState::kLeft, false, false, false},
      {MemberState::kLeft, MemberState::kAlive, false, true, false},
      {MemberState::kLeft, MemberState::kSuspect, false, true, false},
      {MemberState::kLeft, MemberState::kDead, false, true, false},
      {MemberState::kLeft, MemberState::kLeft, false, false, false},
  };
  static_assert(std::size(kRows) == std::size(kStates) * std::size(kStates));
  for (const auto& row : kRows) {
    for (const auto& [i, expected] : {std::pair(4, row.lower), {5, row.same}, {6, row.higher}}) {
      MemberTable table;
      table.put(record(1, 5), nullptr, at(0));
      if (row.held != MemberState::kAlive) table.apply(claim(1, 5, row.held), at(0));
      bool took = false;
      if (row.news == MemberState::kAlive) {
        took = table.wants(member_id(1), i) && table.put(record(1, i), nullptr, at(1)) != Change::kNone;
      } else {
        took = table.apply(claim(1, i, row.news), at(1));
      }
      EXPECT_EQ(took, expected) << int(row.news) << "(" << i << ") over " << int(row.held) << "(5)";
      const Member& member = *table.find(member_id(1));
      EXPECT_EQ(member.state, expected ? row.news : row.held);
      EXPECT_EQ(member.incarnation, static_cast<std::uint64_t>(expected ? i : 5));
      EXPECT_EQ(table.live(), member.live() ? 1u : 0u);
    }
  }
}

TEST(MemberTable, AClaimCountsOnceTheRecordOfItsIncarnationCame) {
  MemberTable table;
  table.put(record(1, 5), nullptr, at(0));
  EXPECT_FALSE(table.apply(claim(1, 7, MemberState::kSuspect), at(1)));
  EXPECT_EQ(table.put(record(1, 7), nullptr, at(2)), Change::kChanged);
  ASSERT_TRUE(table.apply(claim(1, 7, MemberState::kSuspect), at(2)));
  EXPECT_FALSE(table.wants(member_id(1), 7)) << "the record of that incarnation refutes nothing";
  EXPECT_EQ(table.put(record(1, 8), nullptr, at(3)), Change::kRevived);
  EXPECT_EQ(table.find(member_id(1))->since, at(3));
}

TEST(MemberTable, AClaimAboutAStrangerIsNotNews) {
  MemberTable table;
  EXPECT_FALSE(table.apply(claim(1, 5, MemberState::kDead), at(0)));
  EXPECT_EQ(table.find(member_id(1)), nullptr);
}

TEST(MemberTable, ANewRunBeginsItsCounterAfresh) {
  MemberTable table;
  table.put(record(1, 5, 100), nullptr, at(0));
  Member* member = table.find(member_id(1));
  EXPECT_TRUE(member->window.accept(900));
  member->knows_us = 4;
  table.put(record(1, 6, 100), nullptr, at(1));
  EXPECT_FALSE(member->window.accept(900)) << "the same run";
  EXPECT_EQ(member->knows_us, 4u);
  table.put(record(1, 7, 101), nullptr, at(2));
  EXPECT_TRUE(member->window.accept(900));
  EXPECT_EQ(member->knows_us, 0u);
}

TEST(MemberTable, WhenFullTheLongestDeadGivesWayAndTheLivingNever) {
  MemberTable table;
  for (std::uint32_t i = 1; i < kMembersMax; ++i) table.put(record(i, 1), nullptr, at(0));
  EXPECT_EQ(table.put(record(9'000, 1), nullptr, at(1)), Change::kNone);
  ASSERT_TRUE(table.apply(claim(20, 1, MemberState::kDead), at(2)));
  ASSERT_TRUE(table.apply(claim(10, 1, MemberState::kLeft), at(3)));
  EXPECT_EQ(table.put(record(9'000, 1), nullptr, at(4)), Change::kJoined);
  EXPECT_EQ(table.find(member_id(20)), nullptr);
  EXPECT_NE(table.find(member_id(10)), nullptr);
  EXPECT_EQ(table.all().size(), kMembersMax - 1);
  EXPECT_EQ(table.live(), kMembersMax - 2);
}

}  // namespace
}  // namespace starling::overlay
