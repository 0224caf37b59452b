// Returns and removals that could wait for ever: a member that missed more ring versions than anybody keeps, and dead
// owners whom those that own now need yet.
#include <nlohmann/json.hpp>

#include "node/ring/messages.h"
#include "overlay/ring/ring_change.h"
#include "tests/sim/moves/moves.h"
#include "tests/sim/names.h"

namespace starling::sim {
namespace {

using overlay::RingVersion;

class Returning : public Moves {
 protected:
  explicit Returning(std::size_t nodes) : Moves(nodes) {}

  Json ring(std::size_t i) {
    const auto answer = cluster.admin(i, "ring", Json::object());
    return answer ? *answer : Json::object();
  }
  std::uint64_t number(std::size_t i) { return ring(i).value("number", std::uint64_t{0}); }
  // What a node says of itself in `starling status`.
  std::string says(std::size_t i) {
    const auto status = cluster.admin(i, "status", Json::object());
    return status ? status->at("node").at("waits_for").get<std::string>() : status.error().text;
  }
  bool comes_to_say(std::size_t i, const std::string& what, Duration limit = 60s) {
    for (const Instant end = world.now() + limit; world.now() < end; world.run_for(200ms)) {
      if (says(i).find(what) != std::string::npos) return true;
    }
    return false;
  }
  bool completes(std::size_t at) {
    for (int turn = 0; turn < 600 && open_change(at) != ""; ++turn) world.run_for(100ms);
    return open_change(at) == "";
  }
  std::size_t names(std::size_t at, const std::string& prefix) { return create_names(cluster, at, prefix, 16); }
};

// --- Further behind than versions are kept. ---

class FarBehind : public Returning {
 protected:
  FarBehind() : Returning(4) {}

  void switch_off(std::size_t i) {
    cluster.crash(i, Crash::kPower);
    believes_dead(b, i);
  }
  // More than anybody keeps, and in the middle of them other owners than before.
  void change_often() {
    const std::uint64_t begin = number(b);
    for (std::uint64_t now = begin; now <= begin + node::kRingHistoryMax + 20; now = number(b)) {
      const bool stays = now > begin + 150 && std::exchange(moved_, true) == false;
      const auto changed = change(b, "weight", {b}, {{"weight", 200 + now - begin}});
      ASSERT_TRUE(changed) << now << ": " << changed.error().text;
      if (stays) {
        ASSERT_TRUE(completes(b)) << waits_for(b);
      } else {
        (void)cluster.admin(b, "abort", Json::object());
      }
    }
  }
  // What node `i` is told of old ring versions is bent on its way; nothing: it is told nothing.
  void bend_old_versions_told_to(std::size_t i, std::size_t by, std::function<bool(RingVersion&)> bend) {
    tap.alter_answer = [this, i, by, bend = std::move(bend)](const TapMessage& m, Bytes& body) {
      if (m.method != Method::kRingGet || m.from != i || (by != i && m.to != by)) return;
      const auto asked = unpack<node::RingGetRequest>(m.body);
      const auto answer = unpack<node::RingAnswer>(body);
      if (!asked || !answer || asked->number.value == 0) return;
      auto version = overlay::decode_ring_version(answer->ring.data);
      if (!version) return;
      ++bent;
      body = bend(*version) ? pack(node::RingAnswer{{overlay::encode(*version)}}) : Bytes("?");
    };
  }
  bool follows(std::size_t i) {
    for (int turn = 0; turn < 300 && ring(i) != ring(b); ++turn) world.run_for(100ms);
    return ring(i) == ring(b);
  }

  bool moved_ = false;
  int bent = 0;
};

INSTANTIATE_TEST_SUITE_P(Seeds, FarBehind, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(4)));

TEST_P(FarBehind, AMemberComesBackByItselfAndVotesOnNamesAgain) {
  EXPECT_EQ(names(b, "before"), 16u);
  switch_off(c);
  EXPECT_EQ(names(b, "meanwhile"), 16u);
  ASSERT_NO_FATAL_FAILURE(change_often());
  say();
  ASSERT_TRUE(cluster.restart(c));
  EXPECT_TRUE(until([&] { return cluster.all_serving(); }, 60s)) << says(c);
  EXPECT_EQ(ring(c), ring(b));
  EXPECT_EQ(says(c), "");
  world.run_for(10s);
  const std::size_t d = other_than({a, b, c});
  switch_off(d);
  world.run_for(5s);
  EXPECT_EQ(names(b, "before"), 0u) << "chosen before it went";
  EXPECT_EQ(names(c, "meanwhile"), 0u) << "chosen while it was away";
  EXPECT_EQ(names(b, "after"), 16u);
  finish();
}

// It is killed on its way, with the ring at another version than what it voted on.
TEST_P(FarBehind, ARestartOnTheWayLosesNothing) {
  EXPECT_EQ(names(b, "before"), 16u);
  const std::uint64_t left_at = number(c);
  switch_off(c);
  ASSERT_NO_FATAL_FAILURE(change_often());
  tap.on_leave = [this](const TapMessage& m) {  // It takes nothing over.
    return m.from == c && m.method == Method::kSeal ? Fate::kHold : Fate::kPass;
  };
  ASSERT_TRUE(cluster.restart(c));
  for (int turn = 0; turn < 3000 && number(c) <= left_at + 1; ++turn) world.run_for(10ms);
  ASSERT_GT(number(c), left_at + 1) << says(c);
  cluster.crash(c, Crash::kProcess);
  ASSERT_TRUE(cluster.restart(c));
  EXPECT_TRUE(follows(c)) << says(c);
  tap.clear();
  EXPECT_TRUE(until([&] { return cluster.all_serving(); }, 60s)) << says(c);
  world.run_for(10s);
  switch_off(other_than({a, b, c}));
  EXPECT_EQ(names(b, "before"), 0u);
  EXPECT_EQ(names(b, "after"), 16u);
  finish();
}

// It is there, and cannot tell what it is asked for.
TEST_P(FarBehind, WhoCannotFollowHoldsUpTheReturnsOfOthersForAWhileOnly) {
  switch_off(c);
  ASSERT_NO_FATAL_FAILURE(change_often());
  bend_old_versions_told_to(c, c, [](RingVersion&) { return false; });
  ASSERT_TRUE(cluster.restart(c));
  EXPECT_TRUE(comes_to_say(c, "are kept no more")) << says(c);
  EXPECT_GT(bent, 0);
  EXPECT_FALSE(cluster.node(c).serving()) << "it does not know who owns what";
  cluster.crash(a, Crash::kPower);
  ASSERT_TRUE(cluster.restart(a));
  EXPECT_TRUE(comes_to_say(a, cluster.id(c), 30s)) << says(a);
  EXPECT_TRUE(until([&] { return cluster.node(a).serving(); }, 120s)) << says(a);
  ASSERT_TRUE(change(b, "weight", {a}, {{"weight", 150}}));
  world.run_for(10s);
  const std::string why = waits_for(b);
  EXPECT_NE(why.find(cluster.id(c)), std::string::npos) << why;
  EXPECT_NE(why.find("are kept no more"), std::string::npos) << why;
  tap.clear();
  EXPECT_TRUE(follows(c)) << says(c);
  EXPECT_TRUE(until([&] { return cluster.all_serving(); }, 60s)) << says(c);
  EXPECT_TRUE(completes(b)) << waits_for(b);
  finish();
}

TEST_P(FarBehind, ItFollowsNothingThatMembersDoNotAgreeOn) {
  switch_off(c);
  ASSERT_NO_FATAL_FAILURE(change_often());
  const std::uint64_t before = number(b);
  bend_old_versions_told_to(c, a, [](RingVersion& version) {
    version.members.front().weight = 777;
    return true;
  });
  const auto of_a = tap.alter_answer;
  const std::size_t d = other_than({a, b, c});
  tap.alter_answer = [this, of_a, d](const TapMessage& m, Bytes& body) {
    of_a(m, body);
    // Silent: with it b and c were a majority, before a's answer is there.
    if (m.method != Method::kRingGet || m.from != c || m.to != d) return;
    const auto asked = unpack<node::RingGetRequest>(m.body);
    if (asked && asked->number.value != 0) body = "?";
  };
  ASSERT_TRUE(cluster.restart(c));
  EXPECT_TRUE(comes_to_say(c, "do not say the same")) << says(c);
  EXPECT_LT(number(c) + node::kRingHistoryMax, before);
  tap.clear();
  EXPECT_TRUE(follows(c)) << says(c);
  finish();
}

// One of the three others answers, which with c is no majority of the four.
TEST_P(FarBehind, ItFollowsNoMinority) {
  switch_off(c);
  ASSERT_NO_FATAL_FAILURE(change_often());
  bend_old_versions_told_to(c, c, [](RingVersion&) { return false; });
  const auto all_but_b = tap.alter_answer;
  tap.alter_answer = [&, all_but_b](const TapMessage& m, Bytes& body) {
    if (m.to != b) all_but_b(m, body);
  };
  ASSERT_TRUE(cluster.restart(c));
  EXPECT_TRUE(comes_to_say(c, "only 1 answer")) << says(c);
  tap.clear();
  EXPECT_TRUE(follows(c)) << says(c);
  finish();
}

// A number of another lineage is another version: one that was forced out, say, and does not know it.
TEST_P(FarBehind, AnAnswerOfAnotherLineageIsNoContradiction) {
  switch_off(c);
  ASSERT_NO_FATAL_FAILURE(change_often());
  bend_old_versions_told_to(c, a, [](RingVersion& version) {
    version.lineage.raw.fill(7);
    version.previous_lineage = version.lineage;
    return true;
  });
  tap.on_leave = [this](const TapMessage& m) {  // It is the first to answer.
    const auto asked = m.method == Method::kRingGet && m.from == c && m.to != a ? unpack<node::RingGetRequest>(m.body)
                                                                               : Result<node::RingGetRequest>(Error{});
    return asked && asked->number.value != 0 && bent == 0 ? Fate::kHold : Fate::kPass;
  };
  ASSERT_TRUE(cluster.restart(c));
  ASSERT_TRUE(until([&] { return bent > 0; }, 60s)) << says(c);
  tap.release();
  EXPECT_TRUE(follows(c)) << says(c);
  tap.clear();
  EXPECT_TRUE(until([&] { return cluster.all_serving(); }, 60s)) << says(c);
  finish();
}

// Whether the new lineage began where ours ended, nobody can tell. It begins when a node that left is forced out.
TEST_P(FarBehind, OverANewLineageItIsToldToJoinAnew) {
  const std::size_t d = other_than({a, b, c});
  ASSERT_TRUE(change(b, "leave", {d}));
  ASSERT_TRUE(departs(d));
  cluster.retire(d);
  believes_gone(b, d);
  world.run_for(5s);
  switch_off(c);
  ASSERT_TRUE(change(b, "remove", {d}, {{"force", true}}));
  ASSERT_NO_FATAL_FAILURE(change_often());
  ASSERT_TRUE(cluster.restart(c));
  EXPECT_TRUE(comes_to_say(c, "join as a new node")) << says(c);
  EXPECT_FALSE(cluster.node(c).serving());
  cluster.retire(c);
  believes_dead(b, c);
  ASSERT_TRUE(change(b, "remove", {c}));
  EXPECT_TRUE(completes(b)) << waits_for(b);
  EXPECT_EQ(names(b, "late"), 16u);
  finish();
}

// Who joined while it was away holds the secret of the cluster, as any invited stranger does.
TEST_P(FarBehind, WhoKnowsNobodyThatIsThereSaysSoUntilOneIsBack) {
  switch_off(c);
  const auto joined = cluster.add_node(120s);
  ASSERT_TRUE(joined) << joined.error().text;
  std::vector<std::size_t> known;
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    if (i != c && i != *joined) known.push_back(i);
  }
  for (const auto i : known) cluster.crash(i, Crash::kProcess);
  ASSERT_TRUE(cluster.restart(c));
  EXPECT_TRUE(comes_to_say(c, "join as a new node")) << says(c);
  EXPECT_TRUE(comes_to_say(c, cluster.id(*joined))) << says(c);
  for (const auto i : known) ASSERT_TRUE(cluster.restart(i));
  EXPECT_TRUE(until([&] { return cluster.all_serving(); }, 60s)) << says(c);
  EXPECT_EQ(says(c), "");
  EXPECT_TRUE(follows(c));
  finish();
}

// After a rotation of keys nobody who joined since can even tell it that there is a newer version.
TEST_P(FarBehind, WhoKnowsNobodyThatIsThereSaysWhatToDo) {
  switch_off(c);
  const auto joined = cluster.add_node(120s);
  ASSERT_TRUE(joined) << joined.error().text;
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    if (i != c && i != *joined) cluster.crash(i, Crash::kProcess);
  }
  isolate(c);  // As the key would.
  ASSERT_TRUE(cluster.restart(c));
  EXPECT_TRUE(comes_to_say(c, "if all of them left or were replaced")) << says(c);
  EXPECT_TRUE(comes_to_say(c, "join as a new node")) << says(c);
  finish();
}

// --- Removals of who is needed yet. ---

class Needed : public Returning {
 protected:
  Needed() : Returning(6) {}

  // a and b give up nearly all that they own, and die before those who own it now have compared with them once more.
  void give_up_and_die() {
    ASSERT_TRUE(change(c, "weight", {a, b}, {{"weight", 1}}));
    const std::uint64_t intent = number(c);
    tap.on_leave = [this, intent](const TapMessage& m) {
      if (m.method != Method::kCompare || (m.to != a && m.to != b)) return Fate::kPass;
      const auto asked = unpack<node::CompareRequest>(m.body);
      return asked && asked->ring.value > intent ? Fate::kHold : Fate::kPass;
    };
    ASSERT_TRUE(completes(c)) << waits_for(c);
    for (const auto i : {a, b}) cluster.crash(i, Crash::kPower);
    for (const auto i : {a, b}) believes_dead(c, i);
    world.run_for(5s);
  }
  Json both() { return Json::array({cluster.id(a), cluster.id(b)}); }
  void force_them_out() {
    const auto forced = cluster.admin(c, "remove", {{"nodes", both()}, {"force", true}});
    ASSERT_TRUE(forced) << forced.error().text;
    lost = forced->at("lost").get<std::string>();
    cluster.retire(a);
    cluster.retire(b);
    EXPECT_TRUE(until([&] { return cluster.all_serving(); }, 60s)) << waits_for(c);
  }

  std::string lost;
};

INSTANTIATE_TEST_SUITE_P(Seeds, Needed, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(3)));

TEST_P(Needed, ByThoseWhoOwnNowTheyAreRemovedByForceOnly) {
  ASSERT_NO_FATAL_FAILURE(give_up_and_die());
  const auto refused = cluster.admin(c, "remove", {{"nodes", both()}});
  ASSERT_FALSE(refused) << "it would never complete";
  EXPECT_EQ(refused.code(), Errc::kDenied);
  EXPECT_NE(refused.error().text.find("of before the ring changed last"), std::string::npos) << refused.error().text;
  EXPECT_NE(refused.error().text.find("--force"), std::string::npos) << refused.error().text;
  EXPECT_EQ(open_change(c), "");
  ASSERT_NO_FATAL_FAILURE(force_them_out());
  EXPECT_NE(lost.find("of before the ring changed last"), std::string::npos) << lost;
  finish();
}

class NamesNeed : public Returning {
 protected:
  NamesNeed() : Returning(5) {}
};
INSTANTIATE_TEST_SUITE_P(Seeds, NamesNeed, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(3)));

// Two owners of before are dead when others took their place: the names that only they voted on are lost without them.
// A leave does not wait for names, so it can come to that; the removal of the dead would wait for ever.
TEST_P(NamesNeed, WhoVotedOnThemIsRemovedByForceOnly) {
  tap.on_leave = [this](const TapMessage& m) {
    const bool names = m.method == Method::kSeal || m.method == Method::kHandOver;
    return names && (m.to == a || m.to == b) ? Fate::kLose : Fate::kPass;
  };
  ASSERT_TRUE(change(c, "weight", {a, b}, {{"weight", 1}}));
  ASSERT_TRUE(completes(c)) << waits_for(c);
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
  for (const auto i : {a, b}) cluster.crash(i, Crash::kPower);
  for (const auto i : {a, b}) believes_dead(c, i);
  tap.clear();
  world.run_for(10s);
  const Json both = Json::array({cluster.id(a), cluster.id(b)});
  const auto refused = cluster.admin(c, "remove", {{"nodes", both}});
  ASSERT_FALSE(refused) << "it would never complete";
  EXPECT_NE(refused.error().text.find("every name"), std::string::npos) << refused.error().text;
  ASSERT_TRUE(cluster.admin(c, "remove", {{"nodes", both}, {"force", true}}));
  cluster.retire(a);
  cluster.retire(b);
  EXPECT_TRUE(until([&] { return cluster.all_serving(); }, 60s)) << waits_for(c);
  world.run_for(10s);
  EXPECT_EQ(names(c, "late"), 16u);
  finish();
}

// Who is there and does not answer holds the operator up for a while, not one after the other.
TEST_P(Needed, AllAreAskedAtOnce) {
  std::set<std::size_t> silent;
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    if (i != a && i != c) silent.insert(i);
  }
  const Instant begin = world.now();
  int held = 0;
  tap.on_leave = [&](const TapMessage& m) {
    const bool asks = m.method == Method::kMovement && m.from == c && silent.contains(m.to);
    held += asks && world.now() - begin < 1s ? 1 : 0;
    return asks ? Fate::kHold : Fate::kPass;
  };
  (void)cluster.admin(c, "remove", {{"nodes", Json::array({cluster.id(a)})}, {"dry_run", true}});
  EXPECT_EQ(held, 4);
  EXPECT_LT(world.now() - begin, 10s);
  tap.clear();
  finish();
}

// What it would say is not known: it may be that it needs whom the operator takes for dispensable.
TEST_P(Needed, WhoIsAliveAndSilentIsNotTakenForContent) {
  cluster.crash(b, Crash::kPower);
  believes_dead(c, b);
  bool silent = true;
  tap.on_leave = [&](const TapMessage& m) {
    return silent && m.method == Method::kMovement && m.from == c && m.to == a ? Fate::kHold : Fate::kPass;
  };
  const auto refused = change(c, "remove", {b});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text.find(cluster.id(a)), std::string::npos) << refused.error().text;
  EXPECT_NE(refused.error().text.find("--force"), std::string::npos) << refused.error().text;
  EXPECT_EQ(open_change(c), "");
  // It answers after all, while it is asked.
  world.after(2s, [&] { silent = false; });
  ASSERT_TRUE(change(c, "remove", {b}));
  EXPECT_TRUE(completes(c)) << waits_for(c);
  cluster.retire(b);
  tap.clear();
  finish();
}

TEST_P(Needed, ForceDoesWithoutTheWordOfTheSilent) {
  cluster.crash(b, Crash::kPower);
  believes_dead(c, b);
  tap.on_leave = [&](const TapMessage& m) {
    return m.method == Method::kMovement && m.from == c && m.to == a ? Fate::kHold : Fate::kPass;
  };
  const auto forced = cluster.admin(c, "remove", {{"nodes", Json::array({cluster.id(b)})}, {"force", true}});
  ASSERT_TRUE(forced) << forced.error().text;
  EXPECT_NE(forced->at("lost").get<std::string>().find(cluster.id(a)), std::string::npos) << forced->dump();
  tap.clear();
  cluster.retire(b);
  EXPECT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
  finish();
}

// When they are back, whoever needed them has what it needs.
TEST_P(Needed, OnceTheyAreBackNobodyIsHeldUp) {
  ASSERT_NO_FATAL_FAILURE(give_up_and_die());
  ASSERT_FALSE(cluster.admin(c, "remove", {{"nodes", both()}}));
  ASSERT_TRUE(cluster.restart(b));
  tap.clear();
  ASSERT_TRUE(until([&] { return cluster.node(b).serving(); }, 60s));
  const auto may_go = [&] {
    return cluster.admin(c, "remove", {{"nodes", Json::array({cluster.id(a)})}, {"dry_run", true}}).ok();
  };
  for (int turn = 0; turn < 300 && !may_go(); ++turn) world.run_for(100ms);
  ASSERT_TRUE(change(c, "remove", {a}));
  EXPECT_TRUE(completes(c)) << waits_for(c);
  cluster.retire(a);
  finish();
}

TEST_P(Needed, AChangeUnderWaySaysWhomItWaitsForAndWhatToDo) {
  ASSERT_NO_FATAL_FAILURE(give_up_and_die());
  ASSERT_TRUE(change(c, "weight", {c}, {{"weight", 150}}));
  world.run_for(10s);
  EXPECT_EQ(open_change(c), "weight");
  const std::string why = waits_for(c);
  EXPECT_NE(why.find("remove --force"), std::string::npos) << why;
  EXPECT_TRUE(why.find(cluster.id(a)) != std::string::npos || why.find(cluster.id(b)) != std::string::npos) << why;
  ASSERT_NO_FATAL_FAILURE(force_them_out());
  EXPECT_EQ(open_change(c), "");
  finish();
}

}  // namespace
}  // namespace starling::sim
