// Hazards F3 to F6: dots, holes, and the order of a sender. hazards.h says how.
#include "tests/sim/hazards/hazards.h"

namespace starling::sim {
namespace {

class Order : public Hazards {
 protected:
  void void_beats_what_a_keeps(bool first_of_lane);
};

INSTANTIATE_TEST_SUITE_P(Seeds, Order, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(10)));

// (a, n) = x reaches b and c never; a loses it with its power; a comes back and writes y.
TEST_P(Order, F03_AWriterThatLostItsTailReusesNoDot) {
  start(*alice, a);
  start(*bob, b);
  ASSERT_TRUE(acked(send(*bob)));
  cluster.disk(a).hold(true);
  SendIndex early = kUnsent;
  std::optional<Carried> at_b;
  tap.on_leave = [&](const TapMessage& m) {
    const bool to_c = m.method == Method::kReplicate && m.from == a && m.to == c;
    return to_c && find(m, early) ? Fate::kLose : Fate::kPass;
  };
  tap.on_arrive = [&](const TapMessage& m) {
    if (auto x = find(m, early); x && m.from == a && m.to == b) at_b = x;
  };
  early = send(*alice);
  ASSERT_TRUE(until([&] { return at_b.has_value(); }));
  ASSERT_TRUE(until([&] { return synced(b, at_b->dot) == at_b->dot.n; }));
  ASSERT_EQ(synced(a, at_b->dot), at_b->dot.n - 1);  // Its own disk has not.
  cluster.crash(a, Crash::kPower);
  cluster.disk(a).hold(false);
  tap.clear();
  ASSERT_TRUE(acked(early));

  std::optional<Carried> next;
  SendIndex later = kUnsent;
  tap.on_arrive = [&](const TapMessage& m) {
    if (auto y = find(m, later); y && m.from == a) next = y;
  };
  ASSERT_TRUE(cluster.restart(a));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 30s));
  for (int i = 0; i < 50 && !next; ++i) {  // Until a coordinates again.
    later = send(*bob);
    ASSERT_TRUE(acked(later));
    world.run_for(50ms);
  }
  ASSERT_TRUE(next.has_value());
  EXPECT_NE(next->dot.writer, at_b->dot.writer);
  EXPECT_EQ(synced(b, at_b->dot), at_b->dot.n);
  finish();
}

// (a, 5) is lost on the way to b and to c, (a, 6) comes to c alone; a is gone before it is asked.
TEST_P(Order, F04_AWriterThatDiesForGoodLeavesNoHole) {
  start(*alice, a);
  start(*alice2, b);
  start(*bob, b);
  start(*bob2, c);
  ASSERT_TRUE(acked(send(*alice)));
  SendIndex five = kUnsent;
  SendIndex six = kUnsent;
  std::optional<Carried> lost;
  bool six_at_c = false;
  bool asked = false;
  tap.on_leave = [&](const TapMessage& m) {
    if (m.method == Method::kReplicate && m.from == a) {
      if (auto x = find(m, five)) {
        lost = x;
        return Fate::kLose;
      }
      if (m.to == b && find(m, six)) return Fate::kLose;
    }
    if (m.to != a) return Fate::kPass;
    if (m.method == Method::kCompare) return Fate::kHold;
    if (m.method != Method::kFetch) return Fate::kPass;
    const auto fetch = unpack<node::FetchRequest>(m.body);
    if (!lost || !fetch || fetch->writer != lost->dot.writer) return Fate::kPass;
    asked = m.from == c && fetch->from == lost->dot.n;  // From 5: it holds 1..4.
    crash_soon(a, Crash::kPower);
    return Fate::kHold;
  };
  tap.on_arrive = [&](const TapMessage& m) {
    if (m.from == a && m.to == c && find(m, six) && !find(m, five)) six_at_c = true;
  };
  five = send(*alice);
  ASSERT_TRUE(until([&] { return lost.has_value(); }));
  six = send(*alice);
  ASSERT_TRUE(until([&] { return !cluster.up(a); })) << world.trace().text("tap", 20);
  ASSERT_TRUE(six_at_c && asked);
  tap.clear();
  ASSERT_FALSE(is_acked(five) || is_acked(six));
  EXPECT_TRUE(acked(five) && acked(six));  // Without a, as changes of others.
  world.run_for(5s);
  EXPECT_EQ(synced(b, lost->dot), lost->dot.n - 1);
  EXPECT_EQ(synced(c, lost->dot), lost->dot.n - 1);
  const auto found = check_delivered(work.history());
  EXPECT_TRUE(found.empty()) << text(found);
  finish();  // And with a again, that has both.
}

// m1 is on a and c only, with the id of a clock that is ahead; b, which never saw it, orders m2.
TEST_P(Order, F05_TheFloorKeepsASendersOrderWhereClocksDiffer) {
  start(*alice, c);
  start(*bob, c);
  ASSERT_TRUE(acked(send(*alice)));
  cluster.partition({{a}, {b}});
  cluster.clock_step(a, 1500ms);
  SendIndex first = kUnsent;
  SendIndex second = kUnsent;
  bool first_at_b = false;
  std::optional<std::int64_t> above;  // How far the floor was above the clock of b, in ms.
  tap.on_leave = [&](const TapMessage& m) {
    const bool repair = m.method == Method::kFetch || m.method == Method::kCompare;
    return m.from == b && repair ? Fate::kHold : Fate::kPass;
  };
  tap.on_arrive = [&](const TapMessage& m) {
    if (m.to != b) return;
    if (find(m, first)) first_at_b = true;
    if (!above && appends(m, second)) {
      const auto request = unpack<node::AppendRequest>(m.body);
      above = static_cast<std::int64_t>(hlc_ms(request->floor.time)) - world.wall_ms();
    }
  };
  first = send(*alice);
  ASSERT_TRUE(acked(first, 3s));
  ASSERT_EQ(record(first).copies, 2);
  cluster.crash(a, Crash::kProcess);
  second = send(*alice);
  ASSERT_TRUE(acked(second, 3s));
  ASSERT_TRUE(above.has_value());
  ASSERT_GT(*above, 0);
  ASSERT_FALSE(first_at_b);
  EXPECT_LT(acked_id(first), acked_id(second));
  finish();
}

// m1, m2, m3: the link takes m2 with it, m3 comes to the coordinator without it, m2 to another.
TEST_P(Order, F05_ALaneTakesNoNumberBeforeTheOneBelow) {
  start(*alice, c);
  start(*bob, b);
  ASSERT_TRUE(acked(send(*alice)));
  SendIndex two = kUnsent;
  SendIndex three = kUnsent;
  bool broken = false;
  std::optional<Errc> said_of_three;
  tap.on_leave = [&](const TapMessage& m) {
    if (m.from != c || !appends(m, two)) return Fate::kPass;
    if (m.to == a && !broken) {
      broken = true;
      return Fate::kLose;
    }
    return m.to == b ? Fate::kHold : Fate::kPass;  // Slow on its way to the next owner.
  };
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (m.to == a && appends(m, three) && !said_of_three) {
      said_of_three = answer ? Errc{} : answer.code();
    }
    return Fate::kPass;
  };
  two = send(*alice);
  ASSERT_TRUE(until([&] { return broken && tap.held() == 1; }));
  three = send(*alice);
  ASSERT_TRUE(until([&] { return said_of_three.has_value(); }));
  EXPECT_EQ(*said_of_three, Errc::kLaneGap);
  tap.release();
  ASSERT_TRUE(acked(two) && acked(three));
  EXPECT_LT(acked_id(two), acked_id(three));
  finish();
}

// A number is stored at a alone, refused elsewhere and closed by a void; then a returns with it. It may be the first of
// its lane, of which only a knows then.
void Order::void_beats_what_a_keeps(bool first_of_lane) {
  start(*alice, b);
  start(*bob, a);
  if (!first_of_lane) {
    ASSERT_TRUE(acked(send(*bob)));
  }
  SendIndex kept = kUnsent;
  std::optional<Carried> at_a;
  bool voided = false;
  bool came_back = false;
  tap.on_leave = [&](const TapMessage& m) {
    const auto x = find(m, kept);
    if (m.method != Method::kReplicate || m.from != a || !x || voided) return Fate::kPass;
    at_a = x;
    return Fate::kLose;
  };
  tap.on_arrive = [&](const TapMessage& m) {
    for (const auto& change : carried(m)) {
      voided |= at_a && change.kind == storage::ChangeKind::kVoid && change.key == at_a->key;
    }
  };
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    came_back |= voided && m.to == a && find(carried(m, answer), kept).has_value();
    return Fate::kPass;
  };
  // For odd seeds its id is above what bob will say next, for even ones below the void's.
  // In steps: a larger one would not be trusted at once. b may need 4 s to give a up, and until then does
  // not refuse bob for good, because a may know better.
  for (const auto step : {1800ms, 1800ms, 1200ms}) {
    if (GetParam() % 2 == 0) break;
    cluster.clock_step(a, step);
    world.run_for(700ms);
  }
  kept = send(*bob);
  ASSERT_TRUE(until([&] { return at_a.has_value(); }));
  isolate(a);
  ASSERT_TRUE(until([&] { return synced(a, at_a->dot) == at_a->dot.n; }));
  bob->close();  // It remembers that the number is open.
  cluster.crash(a, Crash::kProcess);
  cluster.heal();
  ASSERT_TRUE(manage([&](auto done) { alice->client().remove_member("#g", "@bob", done); }));
  bob->start(b);
  ASSERT_TRUE(until([&] { return voided && bob->ready(); }));
  ASSERT_TRUE(manage([&](auto done) { alice->client().add_member("#g", "@bob", 0, done); }));
  const auto next = send(*bob);
  ASSERT_TRUE(acked(next));
  if (GetParam() % 2 == 1) {
    ASSERT_LT(acked_id(next), at_a->id);
  }
  ASSERT_TRUE(cluster.restart(a));
  ASSERT_TRUE(until([&] { return came_back; }, 60s));
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  EXPECT_TRUE(history_of(*alice, kept).empty());
  finish();
  EXPECT_EQ(still_shown_on(kept), 0u);
}

TEST_P(Order, F06_AVoidBeatsTheContentThatANodeKeptToItself) { void_beats_what_a_keeps(false); }

TEST_P(Order, F06_AVoidClosesALaneThatOnlyTheLostNodeKnew) { void_beats_what_a_keeps(true); }

}  // namespace
}  // namespace starling::sim
