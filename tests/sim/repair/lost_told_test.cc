// What was written off is shown to readers: at the login, in the history, and by `starling where`.
#include <numeric>

#include "tests/sim/repair/repair.h"
#include "tests/sim/repair/where.h"
#include "tests/sim/world/metrics.h"

namespace starling::sim {
namespace {

class LostTold : public Repair {
 protected:
  explicit LostTold(std::size_t nodes = 3) : Repair(nodes) {}

  void give_up(const std::vector<std::size_t>& nodes) {
    for (const auto i : nodes) (void)repair(i, {{"start", true}});
    for (const auto i : nodes) {
      const auto answer = Repair::give_up(i);
      ASSERT_EQ(answer.at("damaged"), 0) << i;
      ASSERT_EQ(answer.at("lost"), 1) << i;
    }
  }
  Result<node::protocol::HistoryPage> page(SimDevice& device, const std::string& before = "", std::uint32_t limit = 50) {
    std::optional<Result<node::protocol::HistoryPage>> out;
    device.client().history("#g", before, limit, [&](auto answer) { out.emplace(std::move(answer)); });
    EXPECT_TRUE(until([&] { return out.has_value(); }));
    return out ? *out : Result<node::protocol::HistoryPage>(Error{Errc::kTimeout, "no page"});
  }
  [[nodiscard]] bool is(const node::protocol::LostMessage& lost, SendIndex i) {
    return lost.id == record(i).id && lost.mailbox == "#g" && lost.conversation == mailbox_of("#g");
  }
  Result<Json> ask(std::size_t at, const std::string& message) {
    return cluster.admin(at, "where", {{"address", "#g"}, {"message", message}});
  }
};
INSTANTIATE_TEST_SUITE_P(Seeds, LostTold, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(4)));

TEST_P(LostTold, ADeviceIsToldOnceAtItsLoginAndInItsHistory) {
  say();
  const Dot bad = say();
  say();
  rot({a, b, c}, bad);
  ASSERT_NO_FATAL_FAILURE(give_up({a, b, c}));
  // Who has it keeps it, and hears nothing.
  alice->reconnect();
  ASSERT_TRUE(caught_up(*alice));
  EXPECT_EQ(alice->lost().size(), 0u);
  for (const auto owner : {a, b, c}) {
    if (bob2->running()) bob2->close();
    start(*bob2, owner);
    ASSERT_EQ(bob2->lost().size(), 1u) << owner;
    EXPECT_TRUE(is(bob2->lost()[0], messages[1]));
    const auto all = page(*bob2);
    ASSERT_TRUE(all.ok()) << all.error().text;
    EXPECT_EQ(all->entries.size(), 2u);
    ASSERT_EQ(all->lost.size(), 1u);
    EXPECT_TRUE(is(all->lost[0], messages[1]));
    // It stands between the others: on one page, whatever their size.
    const auto newest = page(*bob2, "", 1);
    ASSERT_TRUE(newest.ok() && newest->entries.size() == 1);
    EXPECT_EQ(newest->lost.size(), 0u);
    const auto next = page(*bob2, newest->entries[0].id, 1);
    ASSERT_TRUE(next.ok());
    EXPECT_EQ(next->lost.size(), 1u);
    const auto rest = page(*bob2, record(messages[1]).id, 50);
    ASSERT_TRUE(rest.ok());
    EXPECT_EQ(rest->lost.size(), 0u);
  }
  double told = 0;
  for (const auto i : {a, b, c}) told += metrics_of(world, cluster, i)["starling_lost_told_total"];
  EXPECT_EQ(told, 1) << "bob2, once";
  EXPECT_EQ(cluster.fatal_errors(), 0u);
}

// It was the last one of its writer, so that nothing newer in the mailbox leads to it.
TEST_P(LostTold, NothingElseNeedBeNew) {
  say();
  start(*bob2, b);
  ASSERT_TRUE(caught_up(*bob2));
  bob2->close();
  const Dot bad = say();
  rot({a, b, c}, bad);
  ASSERT_NO_FATAL_FAILURE(give_up({a, b, c}));
  start(*bob2, c);
  ASSERT_EQ(bob2->lost().size(), 1u);
  EXPECT_TRUE(is(bob2->lost()[0], messages[1]));
  bob2->close();
  start(*bob2, b);
  EXPECT_EQ(bob2->lost().size(), 1u);
  EXPECT_EQ(cluster.fatal_errors(), 0u);
}

// c never had it, and takes the loss over from the others.
TEST_P(LostTold, AnOwnerThatTakesTheLossOverTellsItToo) {
  const auto said = say_without_c();
  const SendIndex sent = said.first;
  const auto& change = said.second;
  ASSERT_TRUE(change);
  rot({a, b}, change->dot);
  ASSERT_LT(synced(c, change->dot), change->dot.n);
  ASSERT_NO_FATAL_FAILURE(give_up({a, b}));
  ASSERT_LT(synced(c, change->dot), change->dot.n);
  tap.on_leave = nullptr;
  tap.release();
  ASSERT_TRUE(until([&] { return synced(c, change->dot) >= change->dot.n; }, 60s));
  start(*bob2, c);
  leave_alone(c);
  const auto all = page(*bob2);
  ASSERT_TRUE(all.ok()) << all.error().text;
  ASSERT_EQ(all->lost.size(), 1u);
  EXPECT_TRUE(is(all->lost[0], sent));
  // And after a restart.
  cluster.heal();
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
  ASSERT_TRUE(cluster.stop(c));
  ASSERT_TRUE(cluster.restart(c));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
  const auto where = ask(c, record(sent).id);
  ASSERT_TRUE(where) << where.error().text;
  EXPECT_EQ(where->at("message").at("written_off"), true);
  EXPECT_EQ(states(*where), (std::map<std::string, int>{{"lost", 3}}));
  EXPECT_EQ(cluster.fatal_errors(), 0u);
}

// More than a page holds.
TEST_P(LostTold, ThousandsAreToldEachOnceAndStandInTheHistory) {
  constexpr std::uint64_t kMany = 1200;
  constexpr WriterId kOld{77};
  say();
  storage::RangeStatement range{kOld, 1, kMany, {}, {}, {}};
  const EntryId first = acked_id(messages[0]);
  for (std::uint64_t n = 1; n <= kMany; ++n) {
    range.lost.push_back(n);
    const storage::Trace trace{mailbox_of("#g"), mailbox_of("#g"), {DeviceId{}, 1, n}, {first.time + n, kOld}, {kOld, n}, false, 1, 0};
    range.traces.push_back(trace);
  }
  for (const auto i : {a, b, c}) ASSERT_TRUE(cluster.store(i).apply(partition, range).ok());
  ASSERT_TRUE(until([&] { return synced(a, {kOld, 1}) == kMany && synced(c, {kOld, 1}) == kMany; }));
  start(*bob2, c);
  ASSERT_TRUE(caught_up(*bob2));
  const auto numbers = [](const std::vector<node::protocol::LostMessage>& lost) {
    std::vector<std::uint64_t> out;
    for (const auto& message : lost) out.push_back(message.n);
    return out;
  };
  std::vector<std::uint64_t> all(kMany);
  std::iota(all.begin(), all.end(), 1);
  EXPECT_EQ(numbers(bob2->lost()), all) << "in order, as often as the cursor passes them";
  bob2->close();
  start(*bob2, b);
  EXPECT_EQ(bob2->lost().size(), kMany) << "once";
  std::vector<std::uint64_t> seen;
  std::size_t entries = 0, pages = 0;
  std::string before;
  for (bool more = true; more; ++pages) {
    ASSERT_LT(pages, 10u);
    const auto found = page(*bob2, before);
    ASSERT_TRUE(found.ok()) << found.error().text;
    for (const auto n : numbers(found->lost)) seen.push_back(n);
    entries += found->entries.size();
    if (!found->lost.empty()) before = found->lost.back().id;
    if (!found->entries.empty() && (before.empty() || found->entries.back().id < before)) before = found->entries.back().id;
    more = found->more;
  }
  EXPECT_EQ(entries, 1u);
  EXPECT_EQ(seen, std::vector<std::uint64_t>(all.rbegin(), all.rend()));
  EXPECT_EQ(cluster.fatal_errors(), 0u);
}

// Found again: it is a message like any other, and was not lost.
TEST_P(LostTold, WhatTurnsUpIsNotLostAnyMore) {
  say();
  const Dot bad = say();
  say();
  tap.on_answer = [this](const TapMessage& m, const Result<Bytes>&) {
    const bool fetches = m.method == Method::kFetch && m.to == a && m.from != a;
    return fetches ? Fate::kDamage : Fate::kPass;
  };
  rot({b, c}, bad);
  ASSERT_NO_FATAL_FAILURE(give_up({b, c}));
  auto where = ask(b, record(messages[1]).id);
  ASSERT_TRUE(where) << where.error().text;
  EXPECT_EQ(where->at("message").at("written_off"), false) << "a has it";
  EXPECT_EQ(states(*where), (std::map<std::string, int>{{"synced", 1}, {"lost", 2}}));
  tap.clear();
  const auto all_synced = [&] {
    where = ask(b, record(messages[1]).id);
    return where && states(*where) == std::map<std::string, int>{{"synced", 3}};
  };
  for (int turn = 0; turn < 60 && !all_synced(); ++turn) world.run_for(1s);
  EXPECT_TRUE(all_synced());
  start(*bob2, b);
  EXPECT_EQ(bob2->lost().size(), 0u);
  const auto all = page(*bob2);
  ASSERT_TRUE(all.ok());
  EXPECT_EQ(all->lost.size(), 0u);
  EXPECT_EQ(all->entries.size(), 3u);
  finish();
}

// --- An operator asks where it is. ---

TEST_P(LostTold, WhereShowsDamageAndThenTheLoss) {
  say();
  const Dot bad = say();
  rot({a, b, c}, bad);
  for (const auto i : {a, b, c}) (void)repair(i, {{"start", true}});
  const std::string id = record(messages[1]).id;
  auto where = ask(b, id);
  ASSERT_TRUE(where) << where.error().text;
  EXPECT_EQ(states(*where), (std::map<std::string, int>{{"damaged", 3}}));
  for (const auto& owner : where->at("owners")) EXPECT_EQ(owner.at("whole"), false);
  const auto& message = where->at("message");
  const std::string key = message.at("device").get<std::string>() + "/" + message.at("seq").dump();
  EXPECT_EQ(states(*ask(c, key)), states(*where));
  ASSERT_NO_FATAL_FAILURE(give_up({a, b, c}));
  for (const auto& text : {id, key}) {
    where = ask(b, text);
    ASSERT_TRUE(where) << where.error().text;
    EXPECT_EQ(states(*where), (std::map<std::string, int>{{"lost", 3}}));
    EXPECT_EQ(where->at("message").at("written_off"), true);
    EXPECT_EQ(where->at("message").at("id"), id);
  }
  EXPECT_EQ(cluster.fatal_errors(), 0u);
}

}  // namespace
}  // namespace starling::sim
