// Owners that lag or are away when the partitions are doubled, and members that come and go around it: whoever comes to
// the new count late splits its own store, and fetches the rest of a parent's runs child by child.
#include "tests/sim/doubling/doubling.h"

namespace starling::sim {
namespace {

class DoublingMembers : public Doubling {
 protected:
  explicit DoublingMembers(std::size_t nodes = 3) : Doubling(nodes) {}

  // Of both groups, by the writer of a, which coordinates them.
  bool has_all(std::size_t i) {
    for (const auto& group : {std::string("#g"), sibling}) {
      if (synced_of(i, group, cluster.writer(a)) != synced_of(a, group, cluster.writer(a))) return false;
    }
    return true;
  }
  void complete(std::size_t seen_by) {
    for (int turn = 0; turn < 600 && !open_change(seen_by).empty(); ++turn) world.run_for(200ms);
    ASSERT_EQ(open_change(seen_by), "") << waits_for(seen_by);
  }
};

INSTANTIATE_TEST_SUITE_P(Seeds, DoublingMembers, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

// c has a part of a's runs when it is cut off; the rest of them is told to it in the numbers of the children.
TEST_P(DoublingMembers, AnOwnerThatLagsFetchesTheRestOfAParentsRun) {
  isolate(c);
  bob->close();
  start(*bob2, a);
  auto said = say_both(10);
  ASSERT_TRUE(agree(b));
  ASSERT_TRUE(until([&] { return have({a, b}, 2 * before()); }, 30s));
  for (const auto m : say_both(10)) said.push_back(m);
  ASSERT_TRUE(has(c, before()));
  ASSERT_FALSE(has_all(c));
  cluster.heal();
  ASSERT_TRUE(until([&] { return has(c, 2 * before()) && has_all(c); }, 60s)) << world.trace().text("", 60);
  all_shown(said);
  finish();
}

TEST_P(DoublingMembers, AnOwnerThatWasAwaySplitsWhenItComesBack) {
  bob->close();
  cluster.crash(c, Crash::kPower);
  auto said = say_both(5);
  ASSERT_TRUE(agree(b));
  ASSERT_TRUE(until([&] { return have({a, b}, 2 * before()); }, 30s));
  for (const auto m : say_both(5)) said.push_back(m);
  ASSERT_NO_FATAL_FAILURE(settle_all());
  ASSERT_TRUE(cluster.restart(c));
  ASSERT_TRUE(until([&] { return has(c, 2 * before()) && has_all(c); }, 60s)) << world.trace().text("", 60);
  start(*bob, c);
  all_shown(said);
  finish();
}

// It coordinated: what it had given out in the old numbering and nobody heard of is its children's when it is back.
TEST_P(DoublingMembers, ACoordinatorThatWasAwayBringsWhatItAloneHad) {
  start(*alice2, a);
  tap.on_leave = [&](const TapMessage& m) {
    return m.method == Method::kReplicate && m.from == a ? Fate::kLose : Fate::kPass;
  };
  const auto alone = send(*alice2);
  const auto other = send(*alice2, sibling);
  ASSERT_TRUE(until([&] {
    const auto in_g = synced_of(a, "#g", cluster.writer(a));
    return in_g > synced_of(b, "#g", cluster.writer(a)) && in_g > synced_of(c, "#g", cluster.writer(a));
  }));
  ASSERT_FALSE(is_acked(alone) && is_acked(other));
  cluster.crash(a, GetParam() % 2 == 0 ? Crash::kProcess : Crash::kPower);
  tap.clear();
  believes_dead(b, a);
  ASSERT_TRUE(agree(b));
  ASSERT_TRUE(until([&] { return have({b, c}, 2 * before()); }, 30s));
  const auto said = say_both(2);
  ASSERT_TRUE(cluster.restart(a));
  ASSERT_TRUE(until([&] { return has(a, 2 * before()); }, 60s));
  EXPECT_TRUE(acked(alone, 90s));
  EXPECT_TRUE(acked(other, 90s));
  all_shown(said);
  finish();
}

// The second is agreed on while the first is settled; who is not done with that one waits with it.
TEST_P(DoublingMembers, TwiceTheSecondWhileTheFirstIsSettled) {
  const auto said = say_both(4, 20'000);
  ASSERT_TRUE(agree(b));
  ASSERT_TRUE(until([&] { return has(b, 2 * before()); }, 30s));
  ASSERT_FALSE(all_settled());
  ASSERT_TRUE(agree(b));
  ASSERT_TRUE(until([&] { return all_have(4 * before()); }, 60s)) << world.trace().text("", 60);
  say_both(2);
  all_shown(said);
  finish();
}

// c hangs in the middle of the first; the others go on without it.
TEST_P(DoublingMembers, AnOwnerThatHasNotSettledTheFirstAdoptsTheSecondLater) {
  bob->close();
  auto said = say_both(4, 20'000);
  cluster.disk(c).on_commit([&](std::uint64_t) {  // The version is on its disk, and nothing behind it.
    if (cluster.partitions(c) == before()) return;
    cluster.disk(c).on_commit(nullptr);
    world.after(Duration(0), [&] { cluster.disk(c).hold(true); });
  });
  ASSERT_TRUE(agree(b));
  ASSERT_TRUE(until([&] { return all_have(2 * before()); }, 30s));
  ASSERT_TRUE(until([&] { return cluster.settled(a) && cluster.settled(b); }, 60s));
  ASSERT_TRUE(agree(b));
  ASSERT_TRUE(until([&] { return have({a, b}, 4 * before()); }, 60s));
  for (const auto m : say_both(3)) said.push_back(m);
  world.run_for(3s);
  ASSERT_TRUE(has(c, 2 * before()));
  ASSERT_FALSE(cluster.settled(c));
  if (GetParam() % 2 == 0) cluster.crash(c, Crash::kPower);
  cluster.disk(c).hold(false);
  ASSERT_TRUE(cluster.restart(c));
  ASSERT_TRUE(until([&] { return has(c, 4 * before()) && has_all(c); }, 60s)) << world.trace().text("", 60);
  start(*bob, c);
  all_shown(said);
  finish();
}

// Two were missed: the store is settled between them.
TEST_P(DoublingMembers, AnOwnerThatMissedTwoWalksOverBoth) {
  bob->close();
  cluster.crash(c, Crash::kPower);
  auto said = say_both(4, 20'000);
  for (const std::uint32_t count : {2 * before(), 4 * before()}) {
    ASSERT_TRUE(agree(b));
    ASSERT_TRUE(until([&] { return have({a, b}, count); }, 60s));
    for (const auto m : say_both(2)) said.push_back(m);
    ASSERT_NO_FATAL_FAILURE(settle_all());
  }
  ASSERT_TRUE(cluster.restart(c));
  ASSERT_TRUE(until([&] { return has(c, 4 * before()) && has_all(c); }, 60s)) << world.trace().text("", 60);
  start(*bob, c);
  all_shown(said);
  finish();
}

// --- Members that come and go. ---

class DoublingMoves : public DoublingMembers {
 protected:
  DoublingMoves() : DoublingMembers(4) {}
};

INSTANTIATE_TEST_SUITE_P(Seeds, DoublingMoves, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

// It gains partitions of a store that nobody has settled yet.
TEST_P(DoublingMoves, ANodeJoinsRightAfterIt) {
  auto said = say_both(6, 20'000);
  ASSERT_NO_FATAL_FAILURE(double_all(b));
  const auto joining = cluster.begin_join(c);
  ASSERT_TRUE(joining) << joining.error().text;
  for (const auto m : say_both(3)) said.push_back(m);
  ASSERT_TRUE(until([&] { return cluster.up(*joining) && cluster.node(*joining).serving(); }, 120s)) << waits_for(b);
  ASSERT_TRUE(has(*joining, 2 * before()));
  start(*bob2, *joining);
  all_shown(said);
  finish();
}

TEST_P(DoublingMoves, ANodeJoinsWhileItIsAgreedOn) {
  const auto joining = cluster.begin_join(c);
  ASSERT_TRUE(joining) << joining.error().text;
  world.run_for(world.between(Duration(0), 300ms));
  EXPECT_TRUE(agree(b)) << world.trace().text("", 60);
  const auto said = say_both(3);
  ASSERT_TRUE(until([&] { return cluster.up(*joining) && cluster.node(*joining).serving(); }, 120s)) << waits_for(b);
  ASSERT_TRUE(until([&] { return all_have(2 * before()); }, 60s));
  all_shown(said);
  finish();
}

// The files of its partitions are being written there when the count changes.
TEST_P(DoublingMoves, AWeightChangesRightAfterIt) {
  auto said = say_both(6, 20'000);
  ASSERT_NO_FATAL_FAILURE(double_all(b));
  const auto changed = change(b, "weight", {c}, {{"weight", 300}});
  ASSERT_TRUE(changed) << changed.error().text;
  for (const auto m : say_both(3)) said.push_back(m);
  ASSERT_NO_FATAL_FAILURE(complete(b));
  all_shown(said);
  finish();
}

// Who leaves hands over child by child.
TEST_P(DoublingMoves, AnOwnerLeavesRightAfterIt) {
  auto said = say_both(6, 20'000);
  ASSERT_NO_FATAL_FAILURE(double_all(b));
  const auto changed = change(b, "leave", {a});
  ASSERT_TRUE(changed) << changed.error().text;
  for (const auto m : say_both(3)) said.push_back(m);
  ASSERT_NO_FATAL_FAILURE(complete(b));
  ASSERT_TRUE(departs(a)) << waits_for(b);
  cluster.retire(a);
  all_shown(said);
  finish();
}

// And who left before it, and hands over still.
TEST_P(DoublingMoves, AnOwnerThatLeftHandsOverAcrossIt) {
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>&) {  // It cannot know that others have it.
    const auto asked = m.method == Method::kCompare && m.from == a ? unpack<node::CompareRequest>(m.body)
                                                                    : Result<node::CompareRequest>(Error{});
    return asked && asked->all ? Fate::kLose : Fate::kPass;
  };
  auto said = say_both(3);
  const auto changed = change(b, "leave", {a});
  ASSERT_TRUE(changed) << changed.error().text;
  ASSERT_NO_FATAL_FAILURE(complete(b));
  ASSERT_FALSE(cluster.departed(a));
  ASSERT_TRUE(agree(b));
  ASSERT_TRUE(until([&] { return have({b, c}, 2 * before()); }, 30s));
  for (const auto m : say_both(3)) said.push_back(m);
  tap.clear();
  ASSERT_TRUE(departs(a)) << waits_for(b);
  cluster.retire(a);
  all_shown(said);
  finish();
}

// Removed while it was away, with something that only it has; it comes back with the old count.
TEST_P(DoublingMoves, ARemovedMemberReturnsWithTheOldCount) {
  start(*alice2, a);
  tap.on_leave = [&](const TapMessage& m) {
    return m.method == Method::kReplicate && m.from == a ? Fate::kLose : Fate::kPass;
  };
  node::SendOptions lightly;
  lightly.grade = node::protocol::Grade::kLocal;
  const auto alone = alice2->send("#g", work.body(*alice2), lightly);
  const auto other = alice2->send(sibling, work.body(*alice2), lightly);
  ASSERT_TRUE(acked(alone) && acked(other));
  ASSERT_GT(synced_of(a, "#g", cluster.writer(a)), synced_of(b, "#g", cluster.writer(a)));
  alice2->close();
  cluster.crash(a, Crash::kPower);
  tap.clear();
  believes_dead(b, a);
  const auto removed = change(b, "remove", {a});
  ASSERT_TRUE(removed) << removed.error().text;
  ASSERT_NO_FATAL_FAILURE(complete(b));
  ASSERT_TRUE(agree(b));
  ASSERT_TRUE(until([&] { return all_have(2 * before()); }, 30s));
  const auto said = say_both(3);
  ASSERT_NO_FATAL_FAILURE(settle_all());
  ASSERT_TRUE(cluster.restart(a));
  ASSERT_TRUE(departs(a)) << waits_for(b);
  cluster.retire(a);
  all_shown(said);
  all_shown({alone, other});  // What it had is home.
  finish();
}

}  // namespace
}  // namespace starling::sim
