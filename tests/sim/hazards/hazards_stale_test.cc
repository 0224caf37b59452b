// Who has not heard of the ring as it is: a stale coordinator and an owner that closed (hazards F11), and a node that was
// removed and goes on (F34). hazards.h says how.
#include "tests/sim/moves/moves.h"

namespace starling::sim {
namespace {

// --- F11: the leaver has compared, and somebody still counts on it. ---

// Of the three the node `stale` hears nothing of the completion of a join. `closed` is no owner of `group` any more and
// `rest` still is.
class StaleCoordinator : public Hazards {
 protected:
  static constexpr std::size_t kNew = 3, kNone = ~std::size_t{0};

  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Hazards::SetUp());
    for (int n = 0; n < 24; ++n) {
      groups.push_back("#s" + std::to_string(n));
      ASSERT_TRUE(work.add_group(groups.back(), {"@alice", "@bob"}));
    }
    start(*alice, a);
    start(*bob, b);
    for (const auto& group : groups) ASSERT_TRUE(acked(send(*alice, group)));
    ASSERT_TRUE(cluster.run_until_quiet(30s));
    for (const auto& group : groups) before[group] = cluster.owners_of(group);
  }
  [[nodiscard]] bool is_news_for(const TapMessage& m, std::size_t node) const {
    // Nor does it vote, or drive the change on itself.
    const bool votes = m.method == Method::kPaxos && (m.to == node) != (m.from == node);
    const bool told = votes || (m.to == node && m.from != node && m.method == Method::kRingDecided);
    const bool asks = m.from == node && m.to != node && m.method == Method::kRingGet;
    return told || asks;
  }
  std::string open_change(std::size_t i) {
    const auto ring = cluster.admin(i, "ring", Json::object());
    return ring ? ring->at("change").get<std::string>() : "?";
  }
  // The first coordinates the group as before; of the others one lost it.
  bool choose() {
    const auto table = cluster.owner_table(b);
    for (const auto& group : groups) {
      const auto& now = table.at(partition_of(slot_of(mailbox_of(group)), options.partitions));
      const auto owns = [&](std::size_t i) { return std::find(now.begin(), now.end(), i) != now.end(); };
      if (before[group][0] != a || !owns(a) || (owns(b) && owns(c))) continue;
      chosen = group;
      closed = owns(b) ? c : b;
      rest = owns(b) ? b : c;
      return true;
    }
    return false;
  }

  std::vector<std::string> groups;
  std::map<std::string, std::vector<std::size_t>> before;
  std::string chosen;
  std::size_t closed = kNone, rest = kNone;
};

INSTANTIATE_TEST_SUITE_P(Seeds, StaleCoordinator, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(8)));

TEST_P(StaleCoordinator, F11_WhatItWritesToAnOwnerThatClosedIsNotCounted) {
  ASSERT_TRUE(cluster.begin_join(b));
  for (int turn = 0; turn < 3000 && open_change(a) != "join"; ++turn) world.run_for(1ms);
  ASSERT_EQ(open_change(a), "join");
  std::map<std::size_t, std::set<PartitionId>> fenced;
  SendIndex late = kUnsent;
  bool reached = false, held_back = true;
  tap.on_leave = [&](const TapMessage& m) {
    if (held_back && is_news_for(m, a)) return m.method == Method::kRingDecided ? Fate::kLose : Fate::kHold;
    if (m.method == Method::kCompare) {
      const auto request = unpack<node::CompareRequest>(m.body);
      for (std::size_t i = 0; request && request->all && i < request->items.size(); ++i) {
        fenced[m.from].insert(request->items[i].partition);
      }
    }
    // Only who closed hears of it.
    const bool copy = m.method == Method::kReplicate && m.from == a && find(m, late);
    return held_back && copy && m.to != closed ? Fate::kLose : Fate::kPass;
  };
  tap.on_arrive = [&](const TapMessage& m) {
    reached = reached || (m.method == Method::kReplicate && m.from == a && m.to == closed && find(m, late));
  };
  ASSERT_TRUE(until([&] { return cluster.up(kNew) && cluster.node(kNew).serving(); }, 120s));
  ASSERT_TRUE(choose()) << "no group moved like that";
  const PartitionId of = partition_of(slot_of(mailbox_of(chosen)), options.partitions);
  ASSERT_TRUE(until([&] { return fenced[closed].contains(of); }, 60s));
  ASSERT_EQ(open_change(a), "join") << "it has heard of it";
  late = send(*alice, chosen);
  ASSERT_TRUE(until([&] { return reached; }, 20s)) << world.trace().text("", 60);
  EXPECT_FALSE(acked(late, 1s)) << "by two, one of whom has closed the partition";
  held_back = false;
  tap.release();
  EXPECT_TRUE(acked(late));
  finish();
}

// --- F34: it was removed, and does not know. ---

class StaleMember : public Moves {
 protected:
  StaleMember() : Moves(5) {}
};

INSTANTIATE_TEST_SUITE_P(Seeds, StaleMember, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(6)));

// a and a stand-in are on the smaller side of a split, so they go on accepting; the others remove a.
TEST_P(StaleMember, F34_WhatItAcceptsWithAStandInComesHome) {
  const std::size_t d = other_than({a, b, c});
  const std::size_t e = other_than({a, b, c, d});
  start(*alice2, a);
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  cluster.partition({{a, d}, {b, c, e}});
  believes_dead(b, a);
  believes_dead(a, b);
  ASSERT_TRUE(change(b, "remove", {a}));
  const auto early = send(*alice2);
  ASSERT_TRUE(acked(early)) << world.trace().text("", 40);
  ASSERT_TRUE(comes_to(a, "removed", b, 300s) || state_of(a, b) == "removing") << state_of(a, b) << waits_for(b);
  const auto late = send(*alice2);
  ASSERT_TRUE(acked(late)) << "its side has W nodes, and does not know";
  EXPECT_EQ(record(late).copies, 2);
  ASSERT_EQ(state_of(a, a), "serving");
  cluster.heal();
  ASSERT_TRUE(departs(a)) << world.trace().text("", 60);
  EXPECT_FALSE(cluster.node(a).serving());
  start(*bob2, b);
  for (const auto i : {early, late}) EXPECT_TRUE(until([&] { return shown(*bob2, i) == 1; }, 60s)) << i;
  cluster.retire(a);
  finish();
}

// The same, alone: what it stores meanwhile is acknowledged by nobody, and by the others once it is home.
TEST_P(StaleMember, F34_WhatItStoresAloneIsNotAcknowledgedBeforeItIsHome) {
  start(*alice2, a);
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  // From here on: what leaves while it is cut off may lie in a link that outlives that.
  SendIndex late = kUnsent;
  bool minted = false, held_back = true;
  tap.on_leave = [&](const TapMessage& m) {
    const bool told = m.to == a && m.from != a && (m.method == Method::kRingDecided || m.method == Method::kPaxos);
    const bool asks = m.from == a && m.to != a && (m.method == Method::kRingGet || m.method == Method::kStanding);
    if (held_back && (told || asks)) return m.method == Method::kRingDecided ? Fate::kLose : Fate::kHold;
    minted = minted || (m.from == a && m.method == Method::kReplicate && find(m, late));
    return Fate::kPass;
  };
  isolate(a);
  believes_dead(b, a);
  ASSERT_TRUE(change(b, "remove", {a}));
  ASSERT_TRUE(comes_to(a, "removed", b)) << waits_for(b);
  cluster.heal();
  late = send(*alice2);
  ASSERT_TRUE(until([&] { return minted; })) << world.trace().text("", 60);
  ASSERT_EQ(state_of(a, a), "serving") << "it has heard of it";
  EXPECT_FALSE(acked(late, 1s));
  held_back = false;
  tap.release();
  ASSERT_TRUE(departs(a)) << world.trace().text("", 60);
  EXPECT_TRUE(acked(late));
  cluster.retire(a);
  finish();
}

}  // namespace
}  // namespace starling::sim
