// Hazard F15: an owner that comes back. hazards.h says how.
#include "tests/sim/hazards/hazards.h"

#include <nlohmann/json.hpp>

namespace starling::sim {
namespace {

class Returns : public Hazards {};

INSTANTIATE_TEST_SUITE_P(Seeds, Returns, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(10)));

// a was away; what it missed is held back from it while everybody talks to it.
TEST_P(Returns, F15_AReturningOwnerServesNothingStale) {
  start(*alice, b);
  start(*bob, a);
  ASSERT_TRUE(acked(send(*bob)));
  bob->close();
  cluster.crash(a, Crash::kPower);
  const auto missed = send(*alice);
  ASSERT_TRUE(acked(missed));
  ASSERT_TRUE(manage([&](auto done) { alice->client().remove_member("#g", "@bob", done); }));

  const auto repairs = [&](const TapMessage& m) {
    return m.from == a && (m.method == Method::kCompare || m.method == Method::kFetch);
  };
  std::size_t served = 0;  // By a, of #g.
  tap.on_leave = [&](const TapMessage& m) { return repairs(m) ? Fate::kHold : Fate::kPass; };
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (m.to != a || !answer) return Fate::kPass;
    if (m.method == Method::kAppend) ++served;
    if (m.method == Method::kRead) {
      const auto read = unpack<node::ReadRequest>(m.body);
      served += read && read->mailbox == mailbox_of("#g");
    }
    if (m.method == Method::kFollow) {
      const auto follow = unpack<node::FollowRequest>(m.body);
      served += follow && follow->partition == partition;
    }
    return Fate::kPass;
  };
  ASSERT_TRUE(cluster.restart(a));
  // b and c know that a is back, and a knows them.
  const auto knows = [&](std::size_t i, std::size_t other) {
    const auto where = cluster.admin(i, "where", {{"address", "#g"}});
    return where && where->at("owners")[other].at("state") == "alive";
  };
  const auto together = [&] {
    return knows(b, 0) && knows(c, 0) && knows(a, 1) && knows(a, 2);
  };
  for (int turn = 0; turn < 100 && !together(); ++turn) world.run_for(50ms);
  ASSERT_TRUE(together());
  // Through a and the others: a message of the one who is out, and good ones.
  bob->start(a);
  alice2->start(a);
  const auto kicked = send(*bob);
  const auto through_a = send(*alice2);
  const auto through_b = send(*alice);
  EXPECT_TRUE(acked(through_a) && acked(through_b));
  EXPECT_TRUE(until([&] { return record(kicked).outcome == Outcome::kRefused; }));
  EXPECT_TRUE(until([&] { return shown(*alice2, missed) == 1; }));
  ASSERT_FALSE(cluster.node(a).serving());
  ASSERT_GT(tap.held(), 0u);
  EXPECT_EQ(served, 0u);

  tap.clear();
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 30s));
  bool coordinates = false;
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    coordinates |= m.to == a && m.method == Method::kAppend && answer.ok();
    return Fate::kPass;
  };
  for (int i = 0; i < 50 && !coordinates; ++i) {
    EXPECT_TRUE(acked(send(*alice)));
    world.run_for(50ms);
  }
  EXPECT_TRUE(coordinates);
  ASSERT_TRUE(manage([&](auto done) { alice->client().add_member("#g", "@bob", 0, done); }));
  finish();
}

// c catches up, and is stopped in order: its last sync is under way when more comes. Nothing is taken in any more, and
// the run does not end like a crash.
TEST_P(Returns, AnOwnerThatIsStoppedWhileItCatchesUpEndsCleanly) {
  start(*alice, b);
  ASSERT_TRUE(acked(send(*alice)));
  cluster.crash(c, Crash::kPower);
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(acked(alice->send("#g", work.body(*alice, 30'000))));
  std::size_t asked = 0;
  tap.on_leave = [&](const TapMessage& m) {
    if (m.method != Method::kFetch || m.from != c) return Fate::kPass;
    ++asked;
    return Fate::kHold;
  };
  ASSERT_TRUE(cluster.restart(c));
  ASSERT_TRUE(until([&] { return asked > 0; }, 60s));
  const auto writer = cluster.writer(c);
  std::size_t before = 0;
  world.after(280ms, [&] {
    cluster.disk(c).hold(true);
    before = asked;
    tap.release();
  });
  world.after(310ms, [&] { tap.release(); });
  world.after(350ms, [&] { cluster.disk(c).hold(false); });
  ASSERT_TRUE(cluster.stop(c));
  ASSERT_GT(asked, before) << "there was more to come";
  EXPECT_EQ(world.trace().text("not closed cleanly", 9), "");
  tap.clear();
  ASSERT_TRUE(cluster.restart(c));
  ASSERT_TRUE(until([&] { return cluster.up(c); }));
  EXPECT_EQ(cluster.writer(c), writer);
  finish();
}

// The coordinator's own disk may be the last: W others have synced, and who asks it next builds on that.
TEST_P(Returns, AReadOfRegistersShowsWhatWasAcknowledged) {
  ASSERT_TRUE(work.add_user("@carol"));
  start(*alice, b);
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  cluster.disk(a).hold(true);
  ASSERT_TRUE(manage([&](auto done) { alice->client().add_member("#g", "@carol", 0, done); }));
  world.after(200ms, [&] { cluster.disk(a).hold(false); });
  bool seen = false;
  bool answered = false;
  alice->client().members("#g", "", [&](const Result<node::protocol::Members>& members) {
    answered = true;
    if (!members) return;
    for (const auto& member : members->members) seen |= member.user == "@carol";
  });
  ASSERT_TRUE(until([&] { return answered; }));
  EXPECT_TRUE(seen);
  finish();
}

}  // namespace
}  // namespace starling::sim
