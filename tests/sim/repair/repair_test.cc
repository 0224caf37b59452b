// What the disk lost is brought back, written off in the open, or handed over before it is dropped
// (hazards F11, F12, F21, F30).
#include "tests/sim/repair/repair.h"

#include <nlohmann/json.hpp>

namespace starling::sim {
namespace {

using storage::ColumnFamily;
using storage::Engine;

INSTANTIATE_TEST_SUITE_P(Seeds, Repair, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(3)));

TEST_P(Repair, F30_ADamagedChangeComesBackFromAnotherOwnerWhileTheNodeServes) {
  say();
  const Dot bad = say();
  say();
  rot({c}, bad);
  const auto found = repair(c, {{"start", true}});
  EXPECT_EQ(found.at("found"), 1) << found;
  EXPECT_EQ(found.at("damaged"), 0) << found;
  EXPECT_EQ(found.at("lost"), 0) << found;
  EXPECT_EQ(verify(a).at("same"), options.partitions);
  // It is c that is asked.
  leave_alone(c);
  start(*bob2, c);
  for (const auto message : messages) EXPECT_EQ(history_of(*bob2, message).size(), 1u);
  finish();
}

// While nobody else can be reached, what is damaged is not served, nor is what it may belong to.
TEST_P(Repair, F30_AnOwnerThatIsNotWholeDoesNotCoordinate) {
  const Dot bad = say();
  rot({a}, bad);
  ASSERT_TRUE(caught_up(*alice));
  tap.on_leave = [&](const TapMessage& m) {
    return m.method == Method::kFetch && m.from == a ? Fate::kLose : Fate::kPass;
  };
  ASSERT_TRUE(cluster.admin(a, "repair", {{"start", true}}).ok());
  world.run_for(2s);
  std::set<std::size_t> coordinated;
  tap.on_arrive = [&](const TapMessage& m) {
    if (m.method == Method::kReplicate && !carried(m).empty()) coordinated.insert(m.from);
  };
  const auto meanwhile = send(*alice);
  EXPECT_TRUE(acked(meanwhile)) << world.trace().text("", 40);
  EXPECT_FALSE(coordinated.contains(a));
  EXPECT_EQ(outcome_of(verify(b)), "damaged");
  const auto status = cluster.admin(a, "status", Json::object());
  ASSERT_TRUE(status);
  EXPECT_EQ(status->at("node").at("damaged"), 1) << "an operator sees it";
  EXPECT_EQ(status->at("node").at("damaged_partitions"), 1);
  tap.clear();
  EXPECT_EQ(repair(a, {{"start", true}}).at("damaged"), 0);
  EXPECT_EQ(verify(b).at("same"), options.partitions);
  finish();
}

// All copies rotten: the loss is told, the operator writes it off, and the rest goes on.
TEST_P(Repair, F30_WhatNoOwnerHasIsWrittenOffByTheOperatorAndShown) {
  say();
  const Dot bad = say();
  say();
  rot({a, b, c}, bad);
  for (const auto owner : {a, b, c}) EXPECT_EQ(repair(owner, {{"start", true}}).at("damaged"), 1);
  EXPECT_EQ(outcome_of(verify(a)), "damaged");
  for (const auto owner : {a, b, c}) {
    // The others may have been cut off while it was tried first.
    Json answer;
    for (int turn = 0; turn < 20; ++turn) {
      answer = repair(owner, {{"start", true}, {"give_up", true}});
      if (answer.at("lost") == 1) break;
      world.run_for(1s);
    }
    EXPECT_EQ(answer.at("lost"), 1) << answer;
    EXPECT_EQ(answer.at("damaged"), 0) << answer;
  }
  const auto report = verify(a);
  EXPECT_EQ(report.at("same"), options.partitions) << report;
  ASSERT_EQ(report.at("findings").size(), 1u) << report;
  EXPECT_EQ(report.at("findings")[0].at("lost").size(), 1u);
  start(*bob2, b);
  EXPECT_EQ(history_of(*bob2, messages[0]).size(), 1u);
  EXPECT_EQ(history_of(*bob2, messages[1]).size(), 0u);
  EXPECT_EQ(history_of(*bob2, messages[2]).size(), 1u);
  EXPECT_TRUE(acked(send(*alice)));
}

// Nothing is written off while an owner that may have it is away.
TEST_P(Repair, F30_WithAnOwnerAwayNothingIsWrittenOff) {
  const Dot bad = say();
  rot({b, c}, bad);
  cluster.crash(a, Crash::kPower);
  world.run_for(15s);
  const auto answer = repair(b, {{"start", true}, {"give_up", true}});
  EXPECT_EQ(answer.at("lost"), 0) << answer;
  EXPECT_EQ(answer.at("damaged"), 1) << answer;
  ASSERT_TRUE(cluster.restart(a));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 120s));
  world.run_for(15s);
  EXPECT_EQ(verify(a).at("same"), options.partitions);
  finish();
}

// Equal vectors with another state must not be; the digest sees it, and tells where.
TEST_P(Repair, VerifySeesAReplicaThatHasAnotherState) {
  say();
  EXPECT_EQ(verify(a).at("same"), options.partitions);
  tamper({c}, ColumnFamily::kLanes, mailbox_of("#g").view(),
         [](Bytes& value) { value[0] = static_cast<char>(value[0] + 1); });
  EXPECT_EQ(outcome_of(verify(a)), "differs");
}

// --- Retention. ---

class Expiry : public Repair {
 protected:
  Expiry() : Repair(3) { cluster.set_retention(60s); }
  [[nodiscard]] std::uint64_t expiry_of(std::size_t i) {
    return cluster.admin(i, "repair", Json::object())->at("expiry_ms").get<std::uint64_t>();
  }
};

INSTANTIATE_TEST_SUITE_P(Seeds, Expiry, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(3)));

TEST_P(Expiry, HistoryEndsAtTheSameEntryEverywhere) {
  say();
  world.run_for(120s);
  say();
  start(*bob2, b);
  EXPECT_EQ(history_of(*bob2, messages[0]).size(), 0u);
  EXPECT_EQ(history_of(*bob2, messages[1]).size(), 1u);
  EXPECT_EQ(verify(a).at("same"), options.partitions);
}

TEST_P(Expiry, F12_AClockThatJumpsErasesNothing) {
  world.run_for(30s);
  ASSERT_GT(expiry_of(b), 0u);
  for (const auto& clocks : {std::vector<std::size_t>{c}, std::vector<std::size_t>{a, b, c}}) {
    const auto before = expiry_of(b);
    for (const auto i : clocks) cluster.clock_step(i, 40 * 24h);
    world.run_for(30s);
    for (const auto i : {a, b, c}) EXPECT_LE(expiry_of(i), before + 60'000) << i;
    for (const auto i : clocks) cluster.clock_step(i, -40 * 24h);
    world.run_for(30s);
  }
  say();
  start(*bob2, c);
  EXPECT_EQ(history_of(*bob2, messages[0]).size(), 1u);
  finish();
}

TEST_P(Expiry, F12_AClockThatFallsBackHoldsAllBack) {
  world.run_for(30s);
  cluster.clock_step(c, -24h);
  world.run_for(5s);
  const auto before = expiry_of(c);
  world.run_for(60s);
  EXPECT_EQ(expiry_of(c), before);
  EXPECT_LE(expiry_of(a), before + 30'000);
}

// a begins while c's clock is behind: once that is set right, a is no more behind than the others.
TEST_P(Expiry, F12_AClockThatWasBehindAtAStartHoldsNothingBackAfterwards) {
  cluster.clock_step(c, -1h);
  world.run_for(30s);
  cluster.crash(a, Crash::kProcess);
  ASSERT_TRUE(cluster.restart(a));
  world.run_for(60s);
  const auto behind = expiry_of(a);
  ASSERT_LT(behind, static_cast<std::uint64_t>(world.wall_ms()) - 1'000'000) << "c holds it back";
  cluster.clock_step(c, 1h);
  world.run_for(60s);
  for (const auto i : {a, b, c}) EXPECT_GT(expiry_of(i), static_cast<std::uint64_t>(world.wall_ms()) - 60'000) << i;
}

// c was away while a message came and went: it fetches no entry, but must still know its number.
TEST_P(Expiry, F21_TheLaneOfAnExpiredMessageComesHomeWithItsRun) {
  say();
  cluster.crash(c, Crash::kPower);
  world.run_for(15s);
  const auto gone = send(*alice);
  ASSERT_TRUE(acked(gone));
  world.run_for(120s);
  ASSERT_TRUE(cluster.restart(c));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 120s));
  ASSERT_TRUE(cluster.run_until_quiet(60s));
  EXPECT_EQ(verify(a).at("same"), options.partitions) << verify(a);
  start(*bob2, c);
  EXPECT_EQ(history_of(*bob2, gone).size(), 0u);
}

// The sender may ask for less than the cluster keeps.
TEST_P(Repair, F22_ABurningMessageGoesBeforeTheHistory) {
  say();
  std::optional<Result<node::Sent>> sent;
  ASSERT_TRUE(alice->client().send("#g", "burn after reading", {.lifetime_s = 60},
                                   [&](Result<node::Sent> s) { sent.emplace(std::move(s)); }));
  ASSERT_TRUE(until([&] { return sent.has_value(); }));
  ASSERT_TRUE(sent->ok()) << sent->error().text;
  start(*bob2, c);
  const auto bodies = [&] {
    std::optional<Result<node::protocol::HistoryPage>> page;
    bob2->client().history("#g", "", 100, [&](auto answer) { page.emplace(std::move(answer)); });
    EXPECT_TRUE(until([&] { return page.has_value(); }));
    std::set<std::string> out;
    for (const auto& entry : (*page)->entries) out.insert(entry.body.data);
    return out;
  };
  EXPECT_TRUE(bodies().contains("burn after reading"));
  world.run_for(120s);
  EXPECT_FALSE(bodies().contains("burn after reading"));
  EXPECT_EQ(history_of(*bob2, messages[0]).size(), 1u);
  EXPECT_EQ(verify(a).at("same"), options.partitions);
}

// --- Erasing what was replaced. ---

class Erasure : public Repair {
 protected:
  // Values of bob's membership in the log of a node.
  std::size_t values_at(std::size_t i) {
    EXPECT_TRUE(cluster.stop(i));
    std::size_t count = 0;
    {
      auto engine = Engine::open({cluster.folder(i) + "/store", cluster.disk(i).env(), false});
      EXPECT_TRUE(engine.ok());
      Engine::Scan rows(**engine, ColumnFamily::kLog, {});
      for (rows->SeekToFirst(); rows.valid(); rows->Next()) {
        const auto dot = storage::parse_dot_key(rows.key(), 2);
        const auto change = storage::decode(rows.value(), *dot);
        count += change.ok() && change->kind == storage::ChangeKind::kRegister &&
                 change->mailbox == mailbox_of("#g") && change->reg.key == "member/@bob";
      }
    }
    EXPECT_TRUE(cluster.restart(i));
    EXPECT_TRUE(until([&] { return cluster.up(i) && cluster.node(i).serving(); }, 120s));
    return count;
  }
  void replace_twice() {
    auto& client = alice->client();
    ASSERT_TRUE(manage([&](auto done) { client.remove_member("#g", "@bob", std::move(done)); }));
    ASSERT_TRUE(manage([&](auto done) { client.add_member("#g", "@bob", 0, std::move(done)); }));
  }
};

INSTANTIATE_TEST_SUITE_P(Seeds, Erasure, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(3)));

TEST_P(Erasure, AnOldValueGoesOnceEveryOwnerHasWhatReplacedIt) {
  replace_twice();
  world.run_for(60s);
  for (const auto owner : {a, b, c}) EXPECT_EQ(values_at(owner), 1u) << owner;
  EXPECT_EQ(verify(a).at("same"), options.partitions);
  finish();
}

TEST_P(Erasure, F21_NothingGoesWhileAnOwnerMayNeedIt) {
  cluster.crash(c, Crash::kPower);
  world.run_for(15s);
  replace_twice();
  world.run_for(60s);
  EXPECT_EQ(values_at(a), 3u);
  ASSERT_TRUE(cluster.restart(c));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 120s));
  world.run_for(60s);
  for (const auto owner : {b, c}) EXPECT_EQ(values_at(owner), 1u) << owner;
  finish();
}

// The last change of a writer that is gone was pushed to bob's session, and erased since: no page has it. His new device
// at the same gateway joins all the same, there and at once.
TEST_P(Erasure, WhatWasPushedAndIsErasedKeepsNoNewDeviceWaiting) {
  ASSERT_TRUE(work.add_user("@carol"));
  alice->close();
  start(*alice, b);
  bob->close();
  start(*bob, c);
  std::optional<Dot> pushed;
  std::size_t reads = 0;  // Of who knows that it was pushed, and lacks it.
  tap.on_arrive = [&](const TapMessage& m) {
    const auto push = m.method == Method::kPush && m.to == c && !pushed ? unpack<node::Push>(m.body)
                                                                       : Result<node::Push>(Error{});
    for (const auto& stream : push ? push->streams : std::vector<node::Push::Stream>()) {
      for (const auto& item : stream.changes) {
        const auto change = storage::decode(item.change.data, item.dot);
        if (change && change->mailbox == mailbox_of("#g") && change->reg.key == "member/@carol") pushed = item.dot;
      }
    }
    const auto read = m.method == Method::kRead && pushed ? unpack<node::ReadRequest>(m.body)
                                                          : Result<node::ReadRequest>(Error{});
    reads += read && std::find(read->pushed.begin(), read->pushed.end(), *pushed) != read->pushed.end() ? 1 : 0;
  };
  auto& client = alice->client();
  ASSERT_TRUE(manage([&](auto done) { client.add_member("#g", "@carol", 0, std::move(done)); }));
  ASSERT_TRUE(until([&] { return pushed.has_value(); }));
  cluster.crash(a, Crash::kPower);
  world.run_for(15s);
  ASSERT_TRUE(manage([&](auto done) { client.remove_member("#g", "@carol", std::move(done)); }));
  ASSERT_TRUE(cluster.restart(a));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 120s));
  for (const auto i : {a, b, c}) {
    ASSERT_TRUE(until([&] { return !cluster.store(i).read_change(partition, *pushed).ok(); }, 60s)) << i << " keeps it";
  }
  ASSERT_EQ(reads, 0u);
  bob2->start(c);
  EXPECT_TRUE(until([&] { return bob2->ready(); }, 2s)) << "else it tries another node, in the end";
  EXPECT_GE(reads, 1u);
  EXPECT_LE(reads, 4u);
  finish();
}

// --- Handing over. ---

class HandOver : public Repair {
 protected:
  HandOver() : Repair(3) {}
  // Partitions of which node i has something.
  std::set<PartitionId> held_by(std::size_t i) {
    std::set<PartitionId> held;
    for (const auto& [p, vector] : cluster.vectors(i)) {
      if (!vector.empty()) held.insert(p);
    }
    return held;
  }
  std::set<PartitionId> owned_by(std::size_t i) {
    std::set<PartitionId> owned;
    const auto ring = cluster.admin(0, "ring", {{"partitions", true}});
    for (std::size_t p = 0; p < ring->at("table").size(); ++p) {
      for (const auto& owner : ring->at("table")[p]) {
        if (cluster.index_of(owner.get<std::string>()) == i) {
          owned.insert(PartitionId{static_cast<std::uint16_t>(p)});
        }
      }
    }
    return owned;
  }
  [[nodiscard]] bool holds_only_what_it_owns(std::size_t i) {
    const auto owned = owned_by(i);
    const auto held = held_by(i);
    return std::includes(owned.begin(), owned.end(), held.begin(), held.end());
  }
  void talk_to_everybody() {
    for (int n = 0; n < 12; ++n) {
      const std::string group = "#g" + std::to_string(n);
      ASSERT_TRUE(work.add_group(group, {"@alice", "@bob"}));
      ASSERT_TRUE(acked(send(*alice, group)));
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Seeds, HandOver, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

TEST_P(HandOver, F11_WhoLosesAPartitionDropsItOnceItsOwnersHaveIt) {
  talk_to_everybody();
  const auto joined = cluster.add_node(120s);
  ASSERT_TRUE(joined) << joined.error().text;
  ASSERT_FALSE(owned_by(*joined).empty());
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    EXPECT_TRUE(until([&] { return holds_only_what_it_owns(i); }, 60s)) << i;
  }
  EXPECT_EQ(verify(a).at("same"), options.partitions);
  finish();
}

// The new owner does not answer: the old one keeps its copy for as long as that takes.
TEST_P(HandOver, F11_NothingIsDroppedBeforeEveryOwnerSaidThatItHasIt) {
  talk_to_everybody();
  std::size_t joined = 3;
  tap.on_leave = [&](const TapMessage& m) {
    // Comparisons of anti-entropy pass, those of a hand-over are lost.
    if (m.method != Method::kCompare || m.to != joined) return Fate::kPass;
    const auto request = unpack<node::CompareRequest>(m.body);
    return request && request->all ? Fate::kLose : Fate::kPass;
  };
  const auto added = cluster.add_node(120s);
  ASSERT_TRUE(added) << added.error().text;
  joined = *added;
  const auto of_the_new = owned_by(joined);
  std::map<std::size_t, std::set<PartitionId>> before;
  for (std::size_t i = 0; i < joined; ++i) before[i] = held_by(i);
  world.run_for(30s);
  bool one_waits = false;
  for (std::size_t i = 0; i < joined; ++i) {
    const auto owned = owned_by(i);
    for (const auto p : before[i]) {
      if (owned.contains(p) || !of_the_new.contains(p)) continue;
      one_waits = true;
      EXPECT_TRUE(held_by(i).contains(p)) << "node " << i << " partition " << p.value;
    }
  }
  EXPECT_TRUE(one_waits) << Json(before[0].size()) << Json(of_the_new.size()) << Json(owned_by(0).size());
  tap.clear();
  for (std::size_t i = 0; i < joined; ++i) {
    EXPECT_TRUE(until([&] { return holds_only_what_it_owns(i); }, 60s)) << i;
  }
  finish();
}

// A change that only the old owner has when it closes comes home before the drop.
TEST_P(HandOver, F11_WhatOnlyTheLeaverHasComesHomeFirst) {
  talk_to_everybody();
  tap.on_leave = [&](const TapMessage& m) {
    // Anti-entropy finds nothing; only the leaver's own request makes the owners fetch.
    return m.method == Method::kReplicate && m.from == a ? Fate::kLose : Fate::kPass;
  };
  const auto only = send(*alice);
  world.run_for(500ms);
  const auto joined = cluster.add_node(120s);
  ASSERT_TRUE(joined) << joined.error().text;
  tap.on_leave = nullptr;
  EXPECT_TRUE(acked(only));
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    EXPECT_TRUE(until([&] { return holds_only_what_it_owns(i); }, 60s)) << i;
  }
  finish();
}

}  // namespace
}  // namespace starling::sim
