// What nodes do on the side goes on over a doubling: duties that are open, comparing, expiry, and two sites.
#include "tests/sim/doubling/doubling.h"
#include "tests/sim/judge/owners_equal.h"
#include "tests/sim/sites/sites.h"

namespace starling::sim {
namespace {

// --- Obligations: the sender's own copy of a direct message. ---

class DoublingDuties : public Doubling {
 protected:
  // Two people: `few` has a child with the number that the partition of `many` had, and of both the same node comes
  // first. What is settled of the one must not be taken for the other.
  void two_people() {
    for (int i = 0; few.empty() && i < 5000; ++i) {
      const std::string name = "@few" + std::to_string(i);
      const PartitionId child = of(slot(name), 2 * before());
      if (child.value >= before() || child == of(slot(name), before())) continue;
      const auto owners = cluster.owners_of(name);
      for (int k = 0; few.empty() && k < 200; ++k) {
        const std::string other = "@many" + std::to_string(k);
        if (of(slot(other), before()) != child || cluster.owners_of(other).front() != owners.front()) continue;
        few = name;
        many = other;
        first = owners.front();
      }
    }
    ASSERT_FALSE(few.empty());
    ASSERT_TRUE(work.add_user(few));
    ASSERT_TRUE(work.add_user(many));
  }

  std::string few, many;
  std::size_t first = 0;  // Owner of both.
};

INSTANTIATE_TEST_SUITE_P(Seeds, DoublingDuties, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

// It is open when the count doubles, and nobody's memory outlives that: it is found in the log of its child.
TEST_P(DoublingDuties, AnOpenObligationIsMetInTheChild) {
  ASSERT_NO_FATAL_FAILURE(two_people());
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(acked(send(*alice, many)));
  ASSERT_TRUE(cluster.run_until_quiet(30s));  // All of them settled, and told.
  bool blocked = true;
  int kept = 0;
  tap.on_leave = [&](const TapMessage& m) {
    const auto append = m.method == Method::kAppend ? unpack<node::AppendRequest>(m.body)
                                                    : Result<node::AppendRequest>(Error{});
    const bool copy = append && (append->flags & node::kAppendCopy) != 0 && append->to == few;
    if (!copy || !blocked) return Fate::kPass;
    ++kept;
    return Fate::kHold;
  };
  const auto message = send(*alice, few);
  ASSERT_TRUE(until([&] { return kept > 0; }));
  world.run_for(1s);
  alice->close();  // Nobody asks for it again.
  ASSERT_TRUE(agree(b));
  ASSERT_TRUE(until([&] { return all_have(2 * before()); }, 30s));
  ASSERT_NO_FATAL_FAILURE(settle_all());
  world.run_for(30s);  // Nor does her gateway.
  ASSERT_FALSE(is_acked(message));
  // Her gateway asked others, too: they have the duty in memory.
  for (const auto i : {a, b, c}) cluster.crash(i, Crash::kPower);
  blocked = false;
  tap.clear();
  for (const auto i : {a, b, c}) ASSERT_TRUE(cluster.restart(i));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
  ASSERT_TRUE(cluster.run_until_quiet(60s));
  start(*alice2, c);
  EXPECT_TRUE(until([&] { return shown(*alice2, message) == 1; }, 30s)) << "the sender's copy is missing";
  start(*alice, b);
  finish();
}

// --- Verifying. ---

class DoublingVerify : public Doubling {
 protected:
  // Of all partitions as node i counts them. "differs" is said of owners that hold different things.
  std::size_t same_at(std::size_t i) {
    const auto report = cluster.admin(i, "verify", {{"limit", 1024}}, 120s);
    EXPECT_TRUE(report.ok()) << report.error().text;
    if (!report) return 0;
    for (const auto& finding : report->at("findings")) EXPECT_NE(finding.at("outcome"), "differs") << finding;
    return report->at("same").get<std::size_t>();
  }
};

INSTANTIATE_TEST_SUITE_P(Seeds, DoublingVerify, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

TEST_P(DoublingVerify, OwnersThatCountDifferentlyAreNotSaidToDiffer) {
  say_both(5, 10'000);
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  EXPECT_EQ(same_at(a), before());
  deafen(c);
  ASSERT_TRUE(agree(b));
  ASSERT_TRUE(until([&] { return have({a, b}, 2 * before()); }, 30s));
  same_at(a);
  same_at(c);
  hear();
  ASSERT_TRUE(until([&] { return all_have(2 * before()); }, 30s));
  same_at(b);
  ASSERT_NO_FATAL_FAILURE(settle_all());
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  EXPECT_EQ(same_at(a), 2 * before());
  finish();
}

// A month passes, with the split not settled at one owner: all that is old goes from all, in both children.
TEST_P(DoublingVerify, WhatExpiredGoesFromBothChildren) {
  const auto old = say_both(5, 10'000);
  all_shown(old);
  alice->close();
  bob->close();
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  cluster.disk(c).on_commit([&](std::uint64_t) {
    if (cluster.partitions(c) == before()) return;
    cluster.disk(c).on_commit(nullptr);
    crash_soon(c, Crash::kProcess);
  });
  ASSERT_TRUE(agree(b));
  ASSERT_TRUE(until([&] { return !cluster.up(c) && have({a, b}, 2 * before()); }, 30s));
  for (const auto i : {a, b}) ASSERT_TRUE(cluster.stop(i));
  world.run_for(31 * 24h);
  for (const auto i : {a, b, c}) ASSERT_TRUE(cluster.restart(i));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 120s));
  start(*alice, b);
  const auto fresh = say_both();
  world.run_for(60s);
  ASSERT_NO_FATAL_FAILURE(settle_all());
  ASSERT_TRUE(cluster.run_until_quiet(60s));
  EXPECT_EQ(same_at(a), 2 * before());
  for (const auto i : {a, b, c}) {
    leave_alone(i);  // It answers itself.
    start(*alice2, i);
    for (std::size_t m = 0; m < old.size(); m += 2) EXPECT_TRUE(history_of(*alice2, old[m]).empty());
    EXPECT_EQ(history_of(*alice2, fresh[0]).size(), 1u);
    alice2->close();
    cluster.heal();
    ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
  }
  ASSERT_TRUE(cluster.run_until_quiet(60s));
  const auto stores = cluster.stop_and_export();
  ASSERT_TRUE(stores) << stores.error().text;
  for (const auto& found : {check_counts(*stores), check_rows(*stores, {}), check_stored_dots(*stores)}) {
    EXPECT_TRUE(found.empty()) << text(found);
  }
}

// --- Two sites. ---

class DoublingSites : public Doubling {
 protected:
  DoublingSites() : Doubling(two_sites(6, {2, 1, ""}, 16)) {}
};

INSTANTIATE_TEST_SUITE_P(Seeds, DoublingSites, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

// The away owner has not heard of the last messages, nor of the doubling, when its site is cut off.
TEST_P(DoublingSites, TheAwayOwnerFollowsWhenItsSiteIsBack) {
  deafen(c);
  auto said = say_both(3);
  ASSERT_TRUE(agree(b));
  ASSERT_TRUE(until([&] { return have({a, b}, 2 * before()); }, 30s));
  cluster.cut_zone(cluster.zone(c));
  hear();
  world.run_for(10s);
  for (const auto m : say_both(5)) said.push_back(m);
  ASSERT_TRUE(has(c, before()));
  cluster.heal();
  ASSERT_TRUE(until([&] { return all_have(2 * before()); }, 60s)) << world.trace().text("", 60);
  all_shown(said);
  finish();
}

// What was acknowledged at home is there when the away site is gone for a while, in either numbering.
TEST_P(DoublingSites, AnAcknowledgementCountsHomeCopiesOfTheRightChild) {
  tap.late_min = 500ms;
  tap.late_max = 900ms;
  tap.on_leave = [&](const TapMessage& m) {
    return m.method == Method::kReplicated && m.from == b && m.to == a ? Fate::kLate : Fate::kPass;
  };
  const auto early = send(*alice);
  const auto other = send(*alice, sibling);
  ASSERT_TRUE(agree(c));
  ASSERT_TRUE(until([&] { return all_have(2 * before()); }, 30s));
  EXPECT_TRUE(acked(early));
  EXPECT_TRUE(acked(other));
  tap.clear();
  cluster.crash(a, Crash::kPower);
  start(*bob2, b);
  all_shown({early, other});
  finish();
}

}  // namespace
}  // namespace starling::sim
