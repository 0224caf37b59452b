// The steps from one ring version to the next: which there are, what each changes, and that nothing else passes.
#include "overlay/ring/ring_change.h"

#include <algorithm>
#include <functional>

#include <gtest/gtest.h>

#include "tests/overlay/ring_steps.h"

namespace starling::overlay {
namespace {

TEST(RingChange, AJoinTakesTwoVersionsAndJoinersDoNotVote) {
  const auto before = test_ring(2);
  const auto intent = joined(before, {test_member(5, "z"), test_member(4)});
  EXPECT_EQ(intent.number.value, before.number.value + 1);
  EXPECT_EQ(intent.find(test_id(5))->state, RingMemberState::kJoining);
  EXPECT_EQ(voters(intent), voters(before));
  EXPECT_EQ(intent.owner_count(), 2u);
  EXPECT_EQ(intent.needed(), 2u);
  const auto after = must(next_complete(intent));
  EXPECT_EQ(voters(after).size(), 4u);
  EXPECT_EQ(after.owner_count(), 3u);
  EXPECT_EQ(after.find(test_id(5))->zone, "z");
  EXPECT_EQ(after.find(test_id(5))->since, after.number);
}

TEST(RingChange, ALeaverOwnsAndVotesUntilTheChangeIsComplete) {
  const auto intent = leaving(test_ring(4), {1});
  EXPECT_TRUE(intent.find(test_id(1))->owns());
  EXPECT_FALSE(intent.find(test_id(1))->will_own());
  EXPECT_EQ(voters(intent).size(), 4u);
  const auto after = must(next_complete(intent));
  EXPECT_EQ(after.find(test_id(1))->state, RingMemberState::kLeft);
  EXPECT_EQ(voters(after).size(), 3u);
}

TEST(RingChange, ARemovedNodeStopsVotingAtOnceAndOwningAtTheEnd) {
  const auto intent = removing(test_ring(4), {1});
  EXPECT_TRUE(intent.find(test_id(1))->owns());
  EXPECT_EQ(voters(intent).size(), 3u);
  const auto after = must(next_complete(intent));
  EXPECT_EQ(after.find(test_id(1))->state, RingMemberState::kRemoved);
  EXPECT_EQ(after.serving(), 3u);
}

TEST(RingChange, AnAbortChangesNothingButTheNumber) {
  const auto before = test_ring(4);
  const std::vector<NewWeight> heavier = {{test_id(2), 500}};
  for (const auto& intent : {joined(before, {test_member(8)}), leaving(before, {1}),
                             removing(before, {1}), must(next_intent_weight(before, heavier))}) {
    auto after = must(next_abort(intent));
    EXPECT_EQ(after.number.value, before.number.value + 2);
    after.number = before.number;
    for (auto& member : after.members) member.since = before.find(member.id)->since;
    EXPECT_EQ(after, before);
  }
}

TEST(RingChange, WhatCameOfAChangeIsSeenByTheVersionBehindIt) {
  const auto before = test_ring(5);
  const std::vector<NewWeight> heavier = {{test_id(2), 500}};
  for (const auto& intent : {joined(before, {test_member(8)}), leaving(before, {1}), removing(before, {1}),
                             must(next_intent_weight(before, heavier)),
                             must(next_intent_replace(before, test_member(8), test_id(1)))}) {
    EXPECT_TRUE(fulfilled(intent, must(next_complete(intent))));
    EXPECT_FALSE(fulfilled(intent, must(next_abort(intent))));
    EXPECT_FALSE(fulfilled(intent, must(forced_remove(intent, ids({3}), test_lineage(9)))));
  }
  const auto revoked = must(next_intent_revoke(before, ids({1})));
  EXPECT_TRUE(fulfilled(revoked, must(forced_remove(revoked, ids({3}), test_lineage(9))))) << "that is not taken back";
  // It is gone, but nobody copied what it had.
  for (const auto& intent : {leaving(before, {1}), removing(before, {1})}) {
    EXPECT_FALSE(fulfilled(intent, must(forced_remove(intent, ids({1}), test_lineage(9)))));
  }
  EXPECT_TRUE(fulfilled(before, before)) << "of what was complete at once";
  auto hashed = before;
  hashed.rule = PlacementRule::kHashed;
  const auto rule = must(next_intent_rule(hashed));
  EXPECT_TRUE(fulfilled(rule, must(next_complete(rule))));
  EXPECT_FALSE(fulfilled(rule, must(next_abort(rule))));
}

TEST(RingChange, AWeightChangesWhenTheChangeIsComplete) {
  const std::vector<NewWeight> heavier = {{test_id(2), 500}};
  const auto intent = must(next_intent_weight(test_ring(3), heavier));
  EXPECT_EQ(intent.find(test_id(2))->weight, kWeightDefault);
  const auto after = must(next_complete(intent));
  EXPECT_EQ(after.find(test_id(2))->weight, 500u);
  EXPECT_EQ(after.find(test_id(2))->next_weight, 0u);
}

TEST(RingChange, OneChangeAtATime) {
  const auto before = test_ring(4);
  const auto intent = joined(before, {test_member(8)});
  const std::vector<NewMember> joiner = {test_member(9)};
  EXPECT_EQ(next_intent_join(intent, joiner).code(), Errc::kOverloaded);
  EXPECT_EQ(next_intent_leave(intent, ids({1}), true).code(), Errc::kOverloaded);
  EXPECT_EQ(next_intent_remove(intent, ids({1})).code(), Errc::kOverloaded);
  EXPECT_EQ(next_complete(before).code(), Errc::kInvalid);
  EXPECT_EQ(next_abort(before).code(), Errc::kInvalid);
}

TEST(RingChange, RefusesIllegalChangesWithTheReason) {
  const auto before = test_ring(3);
  const std::vector<NewMember> known = {test_member(1)};
  EXPECT_EQ(next_intent_join(before, known).code(), Errc::kExists);
  const std::vector<NewMember> twice = {test_member(8), test_member(8)};
  EXPECT_EQ(next_intent_join(before, twice).code(), Errc::kExists);
  const std::vector<NewMember> bad_zone = {test_member(8, "a b")};
  EXPECT_EQ(next_intent_join(before, bad_zone).code(), Errc::kInvalid);
  const std::vector<NewMember> weightless = {test_member(8, "", 0)};
  EXPECT_EQ(next_intent_join(before, weightless).code(), Errc::kInvalid);
  EXPECT_EQ(next_intent_join(before, {}).code(), Errc::kInvalid);
  EXPECT_EQ(next_intent_leave(before, ids({9}), true).code(), Errc::kNotFound);
  EXPECT_EQ(next_intent_leave(test_ring(5), ids({1, 1}), true).code(), Errc::kInvalid);
  EXPECT_EQ(next_intent_leave(before, ids({0, 1, 2}), true).code(), Errc::kInvalid);
  EXPECT_EQ(next_intent_remove(before, ids({0, 1, 2})).code(), Errc::kInvalid);
  for (const std::uint32_t weight : {0u, kWeightDefault, kWeightMax + 1}) {
    const std::vector<NewWeight> wrong = {{test_id(1), weight}};
    EXPECT_EQ(next_intent_weight(before, wrong).code(), Errc::kInvalid) << weight;
  }
  const std::vector<NewMember> crowd(kRingBatchMax + 1, test_member(8));
  EXPECT_EQ(next_intent_join(before, crowd).code(), Errc::kInvalid);
}

TEST(RingChange, ALeaveBelowTheCopiesTakesForce) {
  EXPECT_EQ(next_intent_leave(test_ring(3), ids({1}), false).code(), Errc::kInvalid);
  EXPECT_TRUE(next_intent_leave(test_ring(3), ids({1}), true).ok());
  EXPECT_TRUE(next_intent_leave(test_ring(4), ids({1}), false).ok());
}

TEST(RingChange, WhoLowersTheCopiesIsToldWhatIsAtStake) {
  const auto stake = [](const RingVersion& before, std::initializer_list<std::uint32_t> who) {
    return stake_of(before, must(next_intent_leave(before, ids(who), true)));
  };
  EXPECT_EQ(stake(test_ring(5), {1, 2}), "");
  EXPECT_EQ(stake(test_ring(3), {1}), "2 copies of each message instead of 3, nobody can send while 1 of 2 owners is down, and the "
                                      "loss of 2 disks loses messages");
  EXPECT_EQ(stake(test_ring(5), {1, 2, 3, 4}), "1 copy of each message instead of 3, nobody can send while 1 of 1 owners is down, "
                                               "and the loss of 1 disk loses messages");
  EXPECT_EQ(stake(test_ring(2), {1}), "1 copy of each message instead of 2, nobody can send while 1 of 1 owners is down, and the loss of 1 "
                             "disk loses messages");
  auto weak = test_ring(3);
  weak.synced_set = true;
  weak.synced = 1;
  EXPECT_EQ(stake(weak, {1}), "2 copies of each message instead of 3, nobody can send while 2 of 2 owners are down, and the loss of "
                              "1 disk loses messages");
  EXPECT_NE(next_intent_leave(test_ring(3), ids({1}), false).error().text.find("At stake: 2 copies"), std::string::npos);
}

TEST(RingChange, AnIdThatIsGoneDoesNotComeBack) {
  const std::vector<NewMember> again = {test_member(1)};
  EXPECT_EQ(next_intent_join(must(next_complete(leaving(test_ring(4), {1}))), again).code(),
            Errc::kExists);
  EXPECT_EQ(next_intent_join(must(next_complete(removing(test_ring(4), {1}))), again).code(),
            Errc::kExists);
}

TEST(RingChange, AnInviteAdmitsOneNodeWhetherItStaysOrGoes) {
  const auto by_invite_of = [](std::uint32_t node, std::uint32_t other) {
    auto member = test_member(node);
    member.invite = test_member(other).invite;
    return std::vector<NewMember>{member};
  };
  const auto staying = test_ring(4);
  for (const auto& before : {staying, must(next_complete(leaving(staying, {1}))),
                             must(next_complete(removing(staying, {1})))}) {
    const auto again = next_intent_join(before, by_invite_of(8, 1));
    EXPECT_EQ(again.code(), Errc::kDenied);
    EXPECT_NE(again.error().text.find("starling invite"), std::string::npos);
  }
  EXPECT_EQ(next_intent_join(staying, by_invite_of(8, 0)).code(), Errc::kInvalid) << "no invite";
  auto twice = by_invite_of(8, 9);
  twice.push_back(test_member(9));
  EXPECT_EQ(next_intent_join(staying, twice).code(), Errc::kDenied);
  // A join that was taken back admitted nobody.
  const auto aborted = must(next_abort(joined(staying, {test_member(8)})));
  EXPECT_TRUE(next_intent_join(aborted, by_invite_of(9, 8)).ok());
}

TEST(RingChange, ForgetsTheOldestOfThoseThatAreGone) {
  auto version = test_ring(2);
  for (std::uint32_t i = 0; i < kRingGoneMembersMax + 2; ++i) {
    version = must(next_complete(joined(version, {test_member(100 + i)})));
    version = must(next_complete(leaving(version, {100 + i})));
  }
  EXPECT_EQ(version.members.size(), kRingGoneMembersMax + 2);
  EXPECT_EQ(version.find(test_id(100)), nullptr);
  EXPECT_EQ(version.find(test_id(101)), nullptr);
  EXPECT_NE(version.find(test_id(102)), nullptr);
}

TEST(RingChange, AForcedRemovalStartsALineage) {
  const auto before = joined(test_ring(2), {test_member(7)});
  const auto after = must(forced_remove(before, ids({1}), test_lineage(9)));
  EXPECT_EQ(after.lineage, test_lineage(9));
  EXPECT_EQ(after.previous_lineage, before.lineage);
  EXPECT_EQ(after.find(test_id(1))->state, RingMemberState::kRemoved);
  EXPECT_EQ(after.find(test_id(7)), nullptr);
  EXPECT_EQ(after.needed(), 1u);
  EXPECT_FALSE(follows(before, after).ok());
  EXPECT_FALSE(forced_remove(before, ids({1}), before.lineage).ok());
  EXPECT_FALSE(forced_remove(before, ids({0, 1}), test_lineage(9)).ok());
  EXPECT_EQ(forced_remove(before, ids({7}), test_lineage(9)).code(), Errc::kNotFound);
  EXPECT_TRUE(succeeds(before, after).ok());
}

// Two operators, the same command: one version.
TEST(RingChange, TheLineageOfAForcedRemovalSaysWhatItDoes) {
  const auto before = test_ring(4);
  const auto lineage = must(forced_lineage(before, ids({1, 2}), false));
  EXPECT_EQ(lineage, must(forced_lineage(before, ids({2, 1}), false)));
  EXPECT_NE(lineage, must(forced_lineage(before, ids({2, 1}), true)));
  EXPECT_NE(lineage, must(forced_lineage(before, ids({1}), false)));
  EXPECT_NE(lineage, must(forced_lineage(before, ids({0, 3}), false)));
  auto other = before;
  other.number.value += 1;
  EXPECT_NE(lineage, must(forced_lineage(other, ids({1, 2}), false)));
  EXPECT_EQ(forced_lineage(before, ids({7}), false).code(), Errc::kNotFound);
}

// The dead leaver that everybody waits for.
TEST(RingChange, AForcedRemovalTakesWhoIsGoneAlready) {
  const auto before = must(next_complete(leaving(test_ring(4), {1})));
  const auto after = must(forced_remove(before, ids({1}), test_lineage(9)));
  EXPECT_EQ(after.find(test_id(1))->state, RingMemberState::kRemoved);
  EXPECT_EQ(after.find(test_id(1))->since, after.number);
  EXPECT_EQ(voters(after), voters(before));
  EXPECT_TRUE(succeeds(before, after).ok());
}

TEST(RingChange, OfAnotherLineageOnlyAForcedRemovalSucceeds) {
  const auto before = joined(test_ring(5), {test_member(7)});
  const auto forced = must(forced_remove(before, ids({1, 2}), test_lineage(9)));
  EXPECT_TRUE(succeeds(before, forced).ok());
  const std::vector<std::function<void(RingVersion&)>> extras = {
      [](auto& v) { v.previous_lineage = test_lineage(3); },
      [](auto& v) { ++v.number.value; },
      [](auto& v) { member(v, 3).weight = 7; },
      [](auto& v) { member(v, 3).state = RingMemberState::kLeft; },
      [](auto& v) { member(v, 1).since.value = 1; },
      [](auto& v) { v.copies = 2, v.synced = 2; },
      [](auto& v) { v.revoked = {test_id(1)}; },  // Of two that go one is believed on.
      [](auto& v) { std::erase_if(v.members, [](auto& m) { return m.id == test_id(4); }); },
      [](auto& v) { v.rule = PlacementRule::kHashed; },
  };
  for (std::size_t i = 0; i < extras.size(); ++i) {
    auto after = forced;
    extras[i](after);
    EXPECT_EQ(succeeds(before, after).code(), Errc::kForeign) << i;
  }
  EXPECT_FALSE(succeeds(forced, before).ok());
  // Steps of one lineage are those that follow.
  EXPECT_TRUE(succeeds(before, must(next_complete(before))).ok());
  EXPECT_FALSE(succeeds(before, removing(test_ring(5), {1})).ok());
}

TEST(RingChange, OnlyALegalStepFollows) {
  const auto before = test_ring(4);
  const auto intent = joined(before, {test_member(8)});
  const std::vector<NewWeight> heavier = {{test_id(2), 500}};
  for (const auto& after : {intent, leaving(before, {1, 2, 3}), removing(before, {1}),
                            must(next_intent_weight(before, heavier))}) {
    EXPECT_TRUE(follows(before, after).ok());
    EXPECT_TRUE(follows(after, must(next_complete(after))).ok());
    EXPECT_TRUE(follows(after, must(next_abort(after))).ok());
    EXPECT_FALSE(follows(before, must(next_complete(after))).ok());
    EXPECT_FALSE(follows(after, after).ok());
  }
  EXPECT_FALSE(follows(before, before).ok());
  EXPECT_FALSE(follows(intent, joined(before, {test_member(9)})).ok());

  // A join that slips in another change.
  const std::vector<std::function<void(RingVersion&)>> extras = {
      [](auto& v) { v.lineage = test_lineage(3); },
      [](auto& v) { v.previous_lineage = test_lineage(3); },
      [](auto& v) { ++v.number.value; },
      [](auto& v) { v.partitions = 1024; },
      [](auto& v) { v.synced = 3, v.synced_set = true; },
      [](auto& v) { std::erase_if(v.members, [](auto& m) { return m.id == test_id(1); }); },
      [](auto& v) { member(v, 1).weight = 7; },
      [](auto& v) { member(v, 1).zone = "elsewhere"; },
      [](auto& v) { member(v, 1).since.value = 1; },
      [](auto& v) { member(v, 1).invite = test_member(77).invite; },
      [](auto& v) { member(v, 8).invite = test_member(1).invite; },
      [](auto& v) { member(v, 8).invite = {}; },
  };
  for (std::size_t i = 0; i < extras.size(); ++i) {
    auto after = intent;
    extras[i](after);
    EXPECT_FALSE(follows(before, after).ok()) << i;
  }
}

TEST(RingChange, ANewNodeReplacesADeadOneInOneChange) {
  const auto before = test_ring(4);
  const auto intent = must(next_intent_replace(before, test_member(9), test_id(2)));
  EXPECT_EQ(intent.change, RingChange::kReplace);
  EXPECT_EQ(intent.find(test_id(9))->state, RingMemberState::kJoining);
  EXPECT_EQ(intent.find(test_id(2))->state, RingMemberState::kRemoving);
  EXPECT_TRUE(follows(before, intent).ok());
  const auto after = must(next_complete(intent));
  EXPECT_EQ(after.find(test_id(9))->state, RingMemberState::kServing);
  EXPECT_EQ(after.find(test_id(2))->state, RingMemberState::kRemoved);
  EXPECT_EQ(must(next_abort(intent)).find(test_id(2))->state, RingMemberState::kServing);
  EXPECT_EQ(next_intent_replace(before, test_member(9), test_id(7)).code(), Errc::kNotFound);
  auto two = intent;
  two.members[0].state = RingMemberState::kRemoving;
  two.members[0].since = two.number;
  EXPECT_FALSE(follows(before, two).ok());
}

TEST(RingChange, ARevocationIsARemovalThatNobodyForgets) {
  const auto before = of_format_1(test_ring(4));
  const auto intent = must(next_intent_revoke(before, ids({3, 1})));
  EXPECT_TRUE(follows(before, intent).ok());
  EXPECT_EQ(intent.format, 2u);
  EXPECT_EQ(intent.rule, PlacementRule::kHashed) << "no data moves for the format's sake";
  EXPECT_TRUE(intent.is_revoked(test_id(1)) && intent.is_revoked(test_id(3)));
  EXPECT_EQ(intent.find(test_id(3))->state, RingMemberState::kRemoving);

  const auto done = must(next_complete(intent));
  EXPECT_TRUE(done.is_revoked(test_id(3)));
  EXPECT_EQ(done.find(test_id(3))->state, RingMemberState::kRemoved);
  EXPECT_TRUE(must(next_complete(leaving(done, {2}))).is_revoked(test_id(3)));
  EXPECT_FALSE(must(next_intent_remove(before, ids({3}))).is_revoked(test_id(3)));

  auto quiet = must(next_intent_remove(before, ids({3})));
  quiet.format = 2;
  quiet.revoked = ids({1});
  EXPECT_FALSE(follows(before, quiet).ok()) << "one is removed and another revoked";
}

TEST(RingChange, NothingGivesTheWordBackToWhoIsRevoked) {
  const auto intent = must(next_intent_revoke(test_ring(5), ids({3})));
  const auto aborted = next_abort(intent);
  EXPECT_EQ(aborted.code(), Errc::kDenied);
  EXPECT_NE(aborted.error().text.find("starling revoke --force"), std::string::npos);
  // As an older program would take it back.
  auto believed = must(next_abort(removing(test_ring(5), {3})));
  believed.format = 2;
  EXPECT_FALSE(follows(intent, believed).ok());

  const auto forced = must(forced_remove(intent, ids({1}), test_lineage(9)));
  EXPECT_TRUE(forced.is_revoked(test_id(3)));
  EXPECT_FALSE(forced.is_revoked(test_id(1)));
  EXPECT_EQ(forced.find(test_id(3))->state, RingMemberState::kRemoved);
  EXPECT_EQ(voters(forced).size(), 3u);
  EXPECT_TRUE(succeeds(intent, forced).ok());
  // What only waits is finished by force.
  EXPECT_TRUE(succeeds(intent, must(forced_remove(intent, ids({3}), test_lineage(9), true))).ok());

  const auto cut = must(forced_remove(test_ring(5), ids({1, 2}), test_lineage(9), true));
  EXPECT_TRUE(cut.is_revoked(test_id(1)) && cut.is_revoked(test_id(2)));
  EXPECT_TRUE(succeeds(test_ring(5), cut).ok());
}

TEST(RingChange, WhoIsGoneIsRevokedInOneStepThatMovesNothing) {
  auto before = must(next_complete(leaving(of_format_1(test_ring(5)), {1})));
  before = must(next_complete(removing(before, {2})));
  const auto since = before.find(test_id(2))->since;
  const auto after = must(next_revoke_gone(before, ids({1, 2})));
  EXPECT_TRUE(follows(before, after).ok());
  EXPECT_EQ(after.change, RingChange::kNone);
  EXPECT_EQ(after.format, 2u);
  EXPECT_TRUE(after.is_revoked(test_id(1)) && after.is_revoked(test_id(2)));
  EXPECT_EQ(after.find(test_id(1))->state, RingMemberState::kRemoved);
  EXPECT_EQ(after.find(test_id(2))->since, since) << "when it was removed is not forgotten";
  EXPECT_EQ(voters(after), voters(before));
  EXPECT_EQ(next_revoke_gone(before, ids({3})).code(), Errc::kNotFound);
  EXPECT_EQ(next_intent_revoke(before, ids({1})).code(), Errc::kNotFound);
  EXPECT_FALSE(next_revoke_gone(leaving(before, {3}), ids({1})).ok()) << "one change at a time";
  auto more = after;
  member(more, 3).weight = 7;
  EXPECT_FALSE(follows(before, more).ok());
}

TEST(RingChange, AnOldClusterMovesToTheNewestPlacementRuleInAChangeOfItsOwn) {
  const auto old = of_format_1(test_ring(5));
  const auto intent = must(next_intent_rule(old));
  EXPECT_TRUE(follows(old, intent).ok());
  EXPECT_EQ(intent.format, 3u) << "older nodes say that they are";
  EXPECT_EQ(intent.rule, PlacementRule::kHashed) << "owners stay until it is complete";
  EXPECT_EQ(voters(intent), voters(old));
  const auto after = must(next_complete(intent));
  EXPECT_TRUE(follows(intent, after).ok());
  EXPECT_EQ(after.rule, PlacementRule::kEven);
  EXPECT_EQ(after.change, RingChange::kNone);
  auto back = must(next_abort(intent));
  EXPECT_TRUE(follows(intent, back).ok());
  EXPECT_EQ(back.rule, PlacementRule::kHashed);
  EXPECT_EQ(next_intent_rule(after).code(), Errc::kExists);
  EXPECT_EQ(next_intent_rule(leaving(old, {1})).code(), Errc::kOverloaded);
  EXPECT_EQ(must(decode_ring_version(encode(intent))), intent);
  auto too_old = intent;
  too_old.format = 2;
  EXPECT_FALSE(validate(too_old).ok());
  auto nothing = intent;
  nothing.rule = PlacementRule::kEven;
  EXPECT_FALSE(validate(nothing).ok());
}

}  // namespace
}  // namespace starling::overlay
