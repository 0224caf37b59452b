// Fewer than W owners reachable: members beyond them hold copies, and hand them home (hazards F14, F38).
#include <nlohmann/json.hpp>

#include "node/replication/stand_ins/holding.h"
#include "tests/sim/hazards/hazards.h"

namespace starling::sim {
namespace {

// Five nodes: a, b and c own #g, d and e do not.
class StandIns : public Hazards {
 protected:
  StandIns() : Hazards(5) {}
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Hazards::SetUp());
    for (std::size_t i = 0; i < cluster.size(); ++i) {
      if (i != a && i != b && i != c) (d == kNone ? d : e) = i;
    }
    tap.on_arrive = [this](const TapMessage& m) { see(m); };
  }
  void see(const TapMessage& m) {
    if (m.method == Method::kHint) {
      for (const auto& change : carried(m)) hinted[change.hash].insert(m.to);
    }
    if (m.method != Method::kHinted) return;
    if (const auto said = unpack<node::Hinted>(m.body)) {
      for (const auto& item : said->items) {
        if (item.partition == partition) segments.push_back(item);
      }
    }
  }
  [[nodiscard]] std::size_t holders(SendIndex i) { return hinted[record(i).hash].size(); }
  void cut_two_owners() {
    cluster.partition({{a, d, e}, {b, c}});
    world.run_for(15s);  // Until they are taken for dead.
  }

  // What a makes comes to b alone, which shows it to `look`, and a hears of no copy.
  void only_b_hears_of_a(std::function<void(const TapMessage&)> look) {
    tap.on_leave = [this](const TapMessage& m) {
      const bool from_a = m.method == Method::kReplicate && m.from == a && m.to == c;
      const bool to_a = m.method == Method::kReplicated && m.to == a;
      return from_a || to_a ? Fate::kLose : Fate::kPass;
    };
    tap.on_arrive = [this, look = std::move(look)](const TapMessage& m) {
      see(m);
      if (m.method == Method::kReplicate && m.from == a && m.to == b) look(m);
    };
  }

  static constexpr std::size_t kNone = ~std::size_t{0};
  std::size_t d = kNone, e = kNone;
  std::map<std::uint64_t, std::set<std::size_t>> hinted;  // Body -> nodes that were asked to hold it.
  std::vector<node::Hinted::Item> segments;
};

INSTANTIATE_TEST_SUITE_P(Seeds, StandIns, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

// a and a stand-in acknowledge; a is gone before b and c are back: the message comes home all the same.
TEST_P(StandIns, F38_WhatAStandInHoldsComesHome) {
  start(*alice, a);
  start(*bob, d);
  ASSERT_TRUE(acked(send(*alice)));
  cut_two_owners();
  const auto alone = send(*alice);
  ASSERT_TRUE(acked(alone)) << world.trace().text("", 40);
  EXPECT_EQ(record(alone).copies, 2);
  ASSERT_EQ(holders(alone), 1u);
  cluster.crash(a, Crash::kPower);
  cluster.heal();
  start(*bob2, b);
  EXPECT_TRUE(until([&] { return shown(*bob, alone) == 1 && shown(*bob2, alone) == 1; }, 60s))
      << world.trace().text("", 60);
  finish();
}

// What a stand-in holds begins where W owners end, or it would stand above a hole.
TEST_P(StandIns, F38_ASegmentBeginsNoLaterThanTheFirstThatIsNotOnW) {
  start(*alice, a);
  ASSERT_TRUE(acked(send(*alice)));
  // Lost on the way to both owners, whose links go down with it; then they are cut off.
  SendIndex lost = 0;
  std::optional<Carried> minted;
  tap.on_leave = [&](const TapMessage& m) {
    if (m.method != Method::kReplicate || m.from != a) return Fate::kPass;
    if (auto x = find(m, lost)) minted = x;
    return minted ? Fate::kLose : Fate::kPass;
  };
  lost = send(*alice);
  ASSERT_TRUE(until([&] { return minted.has_value(); }));
  cut_two_owners();
  const auto later = send(*alice);
  ASSERT_TRUE(acked(later)) << world.trace().text("", 40);
  ASSERT_FALSE(segments.empty());
  EXPECT_LE(segments.back().from, minted->dot.n);
  EXPECT_TRUE(is_acked(lost));
  tap.on_leave = nullptr;
  finish();
}

// b has it of a, which is cut off before it could acknowledge: with a stand-in those are two.
TEST_P(StandIns, ARetryOfAnUnreachableCoordinatorsMessageIsHeldByAStandIn) {
  start(*alice, d);
  start(*alice2, e);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(acked(send(*alice)));
  // Neither is on two nodes for all that is known, and the first one is never sent again.
  SendIndex first = kUnsent, second = kUnsent;
  std::optional<Carried> first_came;
  bool second_came = false;
  only_b_hears_of_a([&](const TapMessage& m) {
    if (auto x = find(m, first)) first_came = x;
    second_came = second_came || find(m, second);
  });
  first = send(*alice2);
  ASSERT_TRUE(until([&] { return first_came.has_value(); }));
  alice2->close();
  second = send(*alice);
  ASSERT_TRUE(until([&] { return second_came; }));
  ASSERT_FALSE(is_acked(first) || is_acked(second));
  tap.on_leave = nullptr;
  cluster.partition({{b, d, e}, {a, c}});
  ASSERT_TRUE(acked(second, 40s)) << world.trace().text("", 40);
  EXPECT_EQ(record(second).copies, 2);
  EXPECT_EQ(holders(second), 1u);
  ASSERT_FALSE(segments.empty());
  EXPECT_LE(segments.back().from, first_came->dot.n) << "above a hole (hazards F38)";
  EXPECT_GT(segments.back().from, 1u) << "what is on two nodes is not held once more";
  finish();
}

// b was told by nobody since its start what is on W nodes, and the whole log of a is more than it may hand at once. What it
// handed before it knew that would stand behind a hole, and go home to nobody if b died.
TEST_P(StandIns, F38_OfWhatIsTooMuchToHandNothingIsHeld) {
  start(*alice, d);
  start(*alice2, e);
  for (std::size_t bytes = 0; bytes <= node::kHandedBytesMax; bytes += storage::kBodySizeMax) {
    ASSERT_TRUE(acked(alice2->send("#g", work.body(*alice2, storage::kBodySizeMax))));
  }
  alice2->close();
  SendIndex second = kUnsent;
  std::optional<Carried> came;
  only_b_hears_of_a([&](const TapMessage& m) {
    if (auto x = find(m, second)) came = x;
  });
  second = send(*alice);
  ASSERT_TRUE(until([&] { return came.has_value(); }));
  ASSERT_TRUE(until([&] { return synced(b, came->dot) >= came->dot.n; }));
  ASSERT_FALSE(is_acked(second));
  cluster.partition({{b, d, e}, {a, c}});
  cluster.crash(b, Crash::kProcess);
  ASSERT_TRUE(cluster.restart(b));
  tap.on_leave = nullptr;
  segments.clear();
  ASSERT_TRUE(until([&] { return holders(second) > 0; }, 60s)) << world.trace().text("", 40);
  world.run_for(10s);
  EXPECT_TRUE(segments.empty()) << "held from " << segments.back().from;
  finish();
}

// An owner is needed: stand-ins alone have no roster, no lanes and no keys.
TEST_P(StandIns, F14_WithoutAnOwnerNothingIsAccepted) {
  start(*alice, d);
  ASSERT_TRUE(acked(send(*alice)));
  cluster.partition({{d, e}, {a, b, c}});
  world.run_for(15s);
  const auto refused = send(*alice);
  // Her device turns to a node of the other side.
  EXPECT_TRUE(acked(refused));
  EXPECT_EQ(holders(refused), 0u);
  cluster.heal();
  finish();
}

// Nothing is asked of others while W owners are there.
TEST_P(StandIns, AreNotUsedWhileWOwnersAreReachable) {
  start(*alice, a);
  cluster.partition({{a, b, d, e}, {c}});
  world.run_for(15s);
  const auto sent = send(*alice);
  ASSERT_TRUE(acked(sent));
  EXPECT_EQ(holders(sent), 0u);
  finish();
}

// The writer's power goes before it sent what comes before: nobody has that, so nobody could ever take home what does.
TEST_P(StandIns, WhatNobodyCouldTakeHomeIsNotHeld) {
  start(*alice, a);
  start(*alice2, a);
  ASSERT_TRUE(acked(send(*alice)));
  cluster.disk(a).hold(true);
  SendIndex lost = kUnsent;
  std::optional<Carried> minted;
  tap.on_leave = [&](const TapMessage& m) {
    if ((m.method != Method::kReplicate && m.method != Method::kHint) || m.from != a) return Fate::kPass;
    const auto x = find(m, lost);
    if (x) minted = x;
    return x ? Fate::kLose : Fate::kPass;
  };
  lost = send(*alice2);
  ASSERT_TRUE(until([&] { return minted.has_value(); }));
  cut_two_owners();
  tap.on_leave = [&](const TapMessage& m) {
    return m.from == a && m.method == Method::kHint && find(m, lost) ? Fate::kLose : Fate::kPass;
  };
  const auto later = send(*alice);
  ASSERT_TRUE(until([&] { return holders(later) > 0; })) << world.trace().text("", 40);
  cluster.crash(a, Crash::kPower);
  cluster.disk(a).hold(false);
  tap.on_leave = nullptr;
  finish();
}

// When all owners have it, nobody else keeps it.
TEST_P(StandIns, LetGoWhenEveryOwnerHasIt) {
  start(*alice, a);
  ASSERT_TRUE(acked(send(*alice)));
  cut_two_owners();
  const auto alone = send(*alice);
  ASSERT_TRUE(acked(alone));
  auto held = [&] {
    std::uint64_t bytes = 0;
    for (const auto i : {d, e}) {
      const auto status = cluster.admin(i, "status", Json::object());
      if (status) bytes += status->at("rates").at("hints_bytes").get<std::uint64_t>();
    }
    return bytes;
  };
  EXPECT_GT(held(), 0u);
  cluster.heal();
  EXPECT_TRUE(until([&] { return held() == 0; }, 60s));
  finish();
}

}  // namespace
}  // namespace starling::sim
