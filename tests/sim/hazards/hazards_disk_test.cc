// Hazards of disks and of clocks: F13, F19, F23, F31, F41. hazards.h says how.
#include "tests/sim/hazards/hazards.h"

#include <nlohmann/json.hpp>

namespace starling::sim {
namespace {

class DisksAndClocks : public Hazards {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Hazards::SetUp());
    start(*alice, a);
  }
  std::set<WriterId> writers(std::size_t i) {
    std::set<WriterId> out;
    const auto vectors = cluster.vectors(i);
    if (!vectors.contains(partition)) return out;
    for (const auto& [writer, n] : vectors.at(partition)) out.insert(writer);
    return out;
  }
};

INSTANTIATE_TEST_SUITE_P(Seeds, DisksAndClocks, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

// What the disk holds after a failed sync nobody knows: the run ends, and with it its numbers.
TEST_P(DisksAndClocks, F31_AFailedSyncEndsTheRunAndItsWriter) {
  ASSERT_TRUE(acked(send(*alice)));
  const auto before = writers(b);
  ASSERT_EQ(cluster.fatal_errors(), 0u);
  cluster.disk(a).fail_next_sync();
  const auto failed = send(*alice);
  EXPECT_TRUE(acked(failed));
  // The two others are enough for the acknowledgement, so it may come first.
  EXPECT_TRUE(until([&] { return cluster.fatal_errors() == 1; }, 2s));
  ASSERT_TRUE(until([&] { return cluster.all_serving() && caught_up(*alice); }, 120s));
  world.run_for(10s);
  // a coordinates again, under another writer.
  ASSERT_TRUE(sees_all_owners(a));
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(acked(send(*alice)));
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  EXPECT_GT(writers(b).size(), before.size());
  start(*bob, c);
  EXPECT_TRUE(until([&] { return shown(*bob, failed) == 1; }));
  finish();
}

// Acknowledged by the two others, and not on the disk of the one whom bob's gateway follows: not shown yet.
TEST_P(DisksAndClocks, F41_NothingIsPushedBeforeThePusherHasSyncedIt) {
  ASSERT_TRUE(acked(send(*alice)));
  start(*bob, c);  // It follows itself.
  ASSERT_TRUE(until([&] { return bob->ready(); }));
  world.run_for(2s);
  cluster.disk(c).hold(true);
  const auto early = send(*alice);
  ASSERT_TRUE(acked(early));
  world.run_for(300ms);
  EXPECT_EQ(shown(*bob, early), 0u);
  cluster.disk(c).hold(false);
  EXPECT_TRUE(until([&] { return shown(*bob, early) == 1; }));
  finish();
}

// A node of the future neither coordinates nor leaves its time in anybody's ids.
TEST_P(DisksAndClocks, F19_AClockFarAheadPoisonsNoIds) {
  ASSERT_TRUE(acked(send(*alice)));
  cluster.clock_step(a, 1h);
  for (int i = 0; i < 5; ++i) {
    const auto sent = send(*alice);
    ASSERT_TRUE(acked(sent)) << world.trace().text("", 40);
    EXPECT_LT(static_cast<std::int64_t>(hlc_ms(acked_id(sent).time)), world.wall_ms() + 5000);
    world.run_for(1s);
  }
  cluster.clock_step(a, -1h);
  const auto after = send(*alice);
  ASSERT_TRUE(acked(after));
  EXPECT_LT(static_cast<std::int64_t>(hlc_ms(acked_id(after).time)), world.wall_ms() + 5000);
  finish();
}

// Two clocks that are wrong alike tell each other so; the one that is set right first has nothing of it in its ids.
TEST_P(DisksAndClocks, F19_TwoClocksThatAreWrongAlikePoisonNoIds) {
  ASSERT_TRUE(acked(send(*alice)));
  cluster.clock_step(a, 3000s);
  cluster.clock_step(c, 2900s);
  world.run_for(3s);
  cluster.network().reset_streams(cluster.ip(a), cluster.ip(c));
  world.run_for(10s);  // A link with a new hello.
  cluster.clock_step(a, -3000s);
  world.run_for(1s);
  for (int i = 0; i < 5; ++i) {
    const auto sent = send(*alice);
    ASSERT_TRUE(acked(sent)) << world.trace().text("", 40);
    EXPECT_LT(static_cast<std::int64_t>(hlc_ms(acked_id(sent).time)), world.wall_ms() + 5000);
  }
  cluster.clock_step(c, -2900s);
  finish();
}

// A message from the future lies in the stores (of a majority with wrong clocks, decision 0018). Who starts anew does
// not go on from it.
TEST_P(DisksAndClocks, F19_ANodeThatStartsDoesNotGoOnFromAnIdOfTheFuture) {
  for (const auto i : {a, b, c}) cluster.clock_step(i, 1h);
  const auto future = send(*alice);
  ASSERT_TRUE(acked(future, 120s)) << world.trace().text("", 40);
  ASSERT_GT(static_cast<std::int64_t>(hlc_ms(acked_id(future).time)), world.wall_ms() + 3'000'000);
  ASSERT_TRUE(cluster.run_until_quiet(60s));
  alice->close();
  for (const auto i : {a, b, c}) cluster.crash(i, Crash::kPower);
  for (const auto i : {a, b, c}) cluster.clock_step(i, -1h);
  for (const auto i : {a, b, c}) ASSERT_TRUE(cluster.restart(i));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 120s));
  ASSERT_TRUE(work.add_group("#fresh", {"@alice", "@bob"}));
  SimDevice& fresh = work.add_device("@bob", "fresh");
  start(fresh, a);
  const auto sent = send(fresh, "#fresh");
  ASSERT_TRUE(acked(sent)) << world.trace().text("", 40);
  EXPECT_LT(static_cast<std::int64_t>(hlc_ms(acked_id(sent).time)), world.wall_ms() + 6000);
}

// For half a second after its clock stepped a node does not know whether to trust it, and takes no time over. What was
// written meanwhile is in its store, and its own next id is above that all the same: nobody was wrong by much.
TEST_P(DisksAndClocks, F19_WhatCameWhileTheClockSteppedIsBelowTheNextId) {
  std::string group;  // That c coordinates.
  for (int i = 0; group.empty() && i < 40; ++i) {
    const std::string name = "#h" + std::to_string(i);
    ASSERT_TRUE(work.add_group(name, {"@alice", "@bob"}));
    if (cluster.owners_of(name)[0] == c) group = name;
  }
  ASSERT_FALSE(group.empty());
  start(*bob, c);
  cluster.clock_step(a, 1500ms);
  world.run_for(5s);
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  cluster.clock_step(c, -2500ms);
  const auto before = send(*alice);
  ASSERT_TRUE(until([&] { return is_acked(before) && shown(*bob, before) == 1; }, 1s));
  world.run_for(600ms);
  const auto after = send(*bob, group);
  ASSERT_TRUE(acked(after, 1s));
  EXPECT_GT(acked_id(after), acked_id(before));
  cluster.clock_step(a, -1500ms);
  cluster.clock_step(c, 2500ms);
  finish();
}

// Stopped in order and started again under one wrong clock, a store keeps its writer. When that clock is set right
// before it was ever compared, the writer has made ids of a time that is still to come, and might make them twice.
TEST_P(DisksAndClocks, F19_AWriterOfTheFutureEndsOnceTheClockIsRight) {
  for (const auto i : {a, b, c}) cluster.clock_step(i, 1h);
  const auto future = send(*alice);
  ASSERT_TRUE(acked(future, 120s)) << world.trace().text("", 40);
  ASSERT_TRUE(cluster.run_until_quiet(60s));
  alice->close();
  for (const auto i : {a, b, c}) ASSERT_TRUE(cluster.stop(i));
  const WriterId writer = cluster.writer(a);
  ASSERT_TRUE(cluster.restart(a));
  world.run_for(10s);
  ASSERT_EQ(cluster.writer(a), writer) << "by its clock all is well";
  for (const auto i : {a, b, c}) cluster.clock_step(i, -1h);
  for (const auto i : {b, c}) ASSERT_TRUE(cluster.restart(i));
  EXPECT_TRUE(until([&] { return cluster.all_serving() && cluster.writer(a) != writer; }, 60s));
  EXPECT_EQ(cluster.fatal_errors(), 1u);
}

// One synced copy is enough for an ack there, so a node that starts alone could write at once.
class AloneEnough : public Hazards {
 protected:
  AloneEnough() : Hazards(3, 16, 1) {}
};

INSTANTIATE_TEST_SUITE_P(Seeds, AloneEnough, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

TEST_P(AloneEnough, F12_NothingIsMintedBeforeTheClockWasComparedWithAnother) {
  start(*alice, a);
  ASSERT_TRUE(acked(send(*alice)));
  for (const auto i : {a, b, c}) ASSERT_TRUE(cluster.stop(i));
  cluster.clock_step(a, 1h);
  ASSERT_TRUE(cluster.restart(a));
  const auto sent = send(*alice);
  EXPECT_FALSE(acked(sent, 20s));
  for (const auto i : {b, c}) ASSERT_TRUE(cluster.restart(i));
  ASSERT_TRUE(acked(sent, 60s)) << world.trace().text("", 40);
  EXPECT_LT(static_cast<std::int64_t>(hlc_ms(acked_id(sent).time)), world.wall_ms() + 5000);
  cluster.clock_step(a, -1h);
  finish();
}

// A machine without a battery: c comes up in 1970, later a node that never was there. Neither erases anything, nor has
// anybody's message a time of then.
TEST_P(DisksAndClocks, F12_ANodeThatComesUpIn1970ErasesNothing) {
  const auto since_1970 = std::chrono::milliseconds(world.wall_ms());
  const auto expect_kept = [&](const std::vector<SendIndex>& messages) {
    for (const auto i : messages) {
      const auto id = parse_entry_id(record(i).id).value();
      EXPECT_GT(static_cast<std::int64_t>(hlc_ms(id.time)), World::kStartWallMs - 1000);
    }
    for (std::size_t i = 0; i < cluster.size(); ++i) {
      const auto state = cluster.admin(i, "repair", Json::object());
      if (!state) continue;
      EXPECT_LE(state->at("expiry_ms").get<std::int64_t>(), world.wall_ms() + 60'000) << i;
    }
  };
  std::vector<SendIndex> said;
  const auto say = [&] {
    said.push_back(send(*alice));
    ASSERT_TRUE(acked(said.back())) << world.trace().text("", 40);
  };
  say();
  cluster.crash(c, Crash::kPower);
  cluster.clock_step(c, -since_1970);
  ASSERT_TRUE(cluster.restart(c));
  for (int i = 0; i < 10; ++i, world.run_for(2s)) say();
  expect_kept(said);
  cluster.clock_step(c, since_1970);
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 120s)) << world.trace().text("", 40);
  // Of a node that never was there the others say so, and let it in once its clock is right.
  auto fresh = cluster.begin_join(a);
  ASSERT_TRUE(fresh);
  cluster.clock_step(*fresh, -since_1970);  // Nothing of it has run yet.
  for (int i = 0; i < 10; ++i, world.run_for(2s)) say();
  expect_kept(said);
  ASSERT_FALSE(cluster.up(*fresh) && cluster.node(*fresh).serving());
  cluster.retire(*fresh);
  fresh = cluster.begin_join(a);
  ASSERT_TRUE(fresh);
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 180s)) << world.trace().text("", 40);
  say();
  world.run_for(30s);
  expect_kept(said);
  start(*bob, *fresh);
  for (const auto i : said) {
    EXPECT_EQ(history_of(*bob, i).size(), 1u) << i;
    EXPECT_TRUE(until([&] { return shown(*bob, i) == 1; }, 30s)) << i;
  }
  finish();
}

// c starts with a clock that is behind, which is set right later: its expiry time is as the others' soon. It is,
// too, where c's clock stays so little behind that only its ids would harm.
TEST_P(DisksAndClocks, F12_AStartUnderAClockThatIsBehindDoesNotHoldExpiryBackForLong) {
  const auto behind = 25min;
  ASSERT_TRUE(acked(send(*alice)));
  ASSERT_TRUE(cluster.stop(c));
  cluster.clock_step(c, -behind);
  // A second one, so that the median is as far back as c's.
  cluster.clock_step(b, -2 * behind);
  ASSERT_TRUE(cluster.restart(c));
  world.run_for(25s);
  cluster.clock_step(c, behind);
  cluster.clock_step(b, 2 * behind);
  const auto expect_late_at_most = [&](Duration late) {
    for (const auto i : {a, b, c}) {
      EXPECT_GT(static_cast<std::int64_t>(cluster.store(i).expiry_time()), world.wall_ms() - to_ms(late)) << i;
    }
  };
  world.run_for(30s);
  expect_late_at_most(30s);
  ASSERT_TRUE(cluster.stop(c));
  cluster.clock_step(c, -20s);
  ASSERT_TRUE(cluster.restart(c));
  world.run_for(60s);
  expect_late_at_most(50s);
  cluster.clock_step(c, 20s);
  finish();
}

// Entries that are minted while the clocks of all three stand 40 days ahead live as long as others.
TEST_P(DisksAndClocks, F12_NothingExpiresEarlyThatWasWrittenUnderAClockFarBehindOrAhead) {
  constexpr auto kFar = std::chrono::hours(40 * 24);
  std::vector<SendIndex> said;
  for (const auto far : {-kFar, kFar}) {
    cluster.clock_step(a, far);
    for (int i = 0; i < 3; ++i, world.run_for(2s)) {
      said.push_back(send(*alice));
      ASSERT_TRUE(acked(said.back())) << world.trace().text("", 40);
    }
    cluster.clock_step(a, -far);
    world.run_for(5s);
  }
  start(*bob, c);
  for (const auto i : said) {
    EXPECT_EQ(history_of(*bob, i).size(), 1u) << i;
    EXPECT_LT(std::abs(static_cast<std::int64_t>(hlc_ms(acked_id(i).time)) - world.wall_ms()), 120'000);
  }
  finish();
}

// c was away while entries expired and bob was removed: it brings neither back, and learns both.
TEST_P(DisksAndClocks, F13_AReplicaThatWasAwayForLongBringsNothingBack) {
  for (const auto i : {a, b, c}) {
    ASSERT_TRUE(cluster.stop(i));
    cluster.set_retention(60s);
    ASSERT_TRUE(cluster.restart(i));
    ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 120s));
  }
  ASSERT_TRUE(caught_up(*alice));
  const auto old = send(*alice);
  ASSERT_TRUE(acked(old));
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  cluster.crash(c, Crash::kPower);
  world.run_for(15s);
  ASSERT_TRUE(manage([&](auto done) { alice->client().remove_member("#g", "@bob", done); }));
  world.run_for(180s);
  ASSERT_TRUE(cluster.restart(c));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 120s));
  ASSERT_TRUE(cluster.run_until_quiet(60s));
  world.run_for(30s);
  start(*alice2, c);
  EXPECT_EQ(history_of(*alice2, old).size(), 0u);
  const auto members = std::make_shared<std::optional<Result<node::protocol::Members>>>();
  alice2->client().members("#g", "", [members](auto answer) { members->emplace(std::move(answer)); });
  ASSERT_TRUE(until([&] { return members->has_value(); }));
  ASSERT_TRUE((*members)->ok());
  for (const auto& member : (**members)->members) EXPECT_NE(member.user, "@bob");
  const auto report = cluster.admin(a, "verify", {{"limit", 1024}}, 120s);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->at("same"), options.partitions) << *report;
}

// One message, two mailboxes: the same id in both, also when the copy of the sender was slow.
TEST_P(DisksAndClocks, F23_BothSidesOfADirectMessageHaveOneId) {
  start(*alice2, b);
  start(*bob, c);
  tap.on_leave = [&](const TapMessage& m) {
    if (m.method != Method::kAppend) return Fate::kPass;
    const auto request = unpack<node::AppendRequest>(m.body);
    return request && (request->flags & node::kAppendCopy) != 0 && world.random().below(2) == 0 ? Fate::kHold
                                                                                                : Fate::kPass;
  };
  std::vector<SendIndex> sends;
  for (int i = 0; i < 6; ++i) sends.push_back(send(*alice, "@bob"));
  world.run_for(1s);
  tap.on_leave = nullptr;
  tap.release();
  for (const auto i : sends) {
    ASSERT_TRUE(acked(i));
    EXPECT_TRUE(until([&] { return shown(*bob, i) == 1 && shown(*alice2, i) == 1; }));
    std::set<std::string> ids;
    for (const auto& d : work.history().deliveries()) {
      if (d.hash == record(i).hash) ids.insert(d.id);
    }
    EXPECT_EQ(ids, std::set<std::string>{record(i).id});
  }
  finish();
}

}  // namespace
}  // namespace starling::sim
