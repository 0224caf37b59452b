// Writers pile up with every crash, and are forgotten once nothing of theirs is left (hazards F40).
#include "tests/sim/hazards/hazards.h"

#include <nlohmann/json.hpp>

#include "node/repair/pruner.h"
#include "storage/engine/engine.h"
#include "tests/sim/world/metrics.h"

namespace starling::sim {
namespace {

constexpr Duration kPeriod{std::chrono::milliseconds(node::kPrunePeriodMs)};

class Prune : public Hazards {
 protected:
  explicit Prune(std::size_t nodes = 3) : Hazards(nodes) {}
  void SetUp() override {
    cluster.set_retention(60s);
    ASSERT_NO_FATAL_FAILURE(Hazards::SetUp());
  }
  // A run of `a` under which it writes messages and nothing else; its dots. `quiet`: nothing is held for others.
  WriterId run_of_a(bool quiet = true) {
    cluster.crash(a, Crash::kPower);
    EXPECT_TRUE(cluster.restart(a));
    EXPECT_TRUE(until([&] { return cluster.all_serving(); }, 120s));
    EXPECT_TRUE(until([&] { return sees_all_owners(a) && sees_all_owners(b) && sees_all_owners(c); }, 60s));
    SimDevice& device = work.add_device("@alice", "d" + std::to_string(next_device_++));
    device.start(a);
    EXPECT_TRUE(until([&] { return device.ready(); }, 60s));
    for (int i = 0; i < 3; ++i) {
      const auto sent = send(device);
      EXPECT_TRUE(acked(sent));
    }
    if (!quiet) world.run_for(10s);
    EXPECT_TRUE(!quiet || cluster.run_until_quiet(60s));
    device.close();
    EXPECT_EQ(knowing(cluster.writer(a)), 3u) << "a coordinated nothing in this run";
    return cluster.writer(a);
  }
  // Everything is off meanwhile, so that a month costs nothing to simulate.
  void sleep(Duration length, const std::vector<std::size_t>& woken) {
    for (std::size_t i = 0; i < cluster.size(); ++i) {
      if (!cluster.up(i)) continue;
      ASSERT_TRUE(cluster.stop(i));
    }
    world.run_for(length);
    for (const auto i : woken) ASSERT_TRUE(cluster.restart(i));
    ASSERT_TRUE(until([&] { return cluster.node(woken[0]).serving() && cluster.node(woken[1]).serving(); }, 300s));
    world.run_for(180s);  // Expiry time, and the turn of the pruner.
  }
  // What a node that is down had listed, as if it had never been there when the others looked.
  void erase_list(std::size_t down) {
    auto engine = storage::Engine::open({cluster.folder(down) + "/store", cluster.disk(down).env(), false});
    ASSERT_TRUE(engine.ok()) << engine.error().text;
    rocksdb::WriteBatch batch;
    storage::Engine::Scan rows(**engine, storage::ColumnFamily::kNode, {});
    std::size_t erased = 0;
    for (rows->SeekToFirst(); rows.valid(); rows->Next()) {
      if (View(rows.key()).find("spent/") == View::npos) continue;
      (*engine)->erase(batch, storage::ColumnFamily::kNode, rows.key());
      ++erased;
    }
    ASSERT_GT(erased, 0u);
    ASSERT_TRUE((*engine)->write_synced(batch).ok());
  }
  [[nodiscard]] std::size_t knowing(WriterId writer) {
    std::size_t count = 0;
    for (const auto i : {a, b, c}) {
      if (cluster.up(i) && cluster.vectors(i)[partition][writer] > 0) ++count;
    }
    return count;
  }

  int next_device_ = 10;
};

INSTANTIATE_TEST_SUITE_P(Seeds, Prune, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

TEST_P(Prune, F40_AClosedWriterIsForgottenByAllOnceNothingOfItIsLeft) {
  const WriterId first = run_of_a();
  ASSERT_NO_FATAL_FAILURE(sleep(kPeriod, {a, b, c}));
  EXPECT_EQ(knowing(first), 3u) << "listed, and not a whole period old";
  const WriterId second = run_of_a();
  ASSERT_NE(first, second);
  EXPECT_EQ(knowing(first), 3u);
  ASSERT_NO_FATAL_FAILURE(sleep(kPeriod, {a, b, c}));
  EXPECT_EQ(knowing(first), 0u);
  EXPECT_EQ(knowing(second), 3u) << "what was listed last stays, because it brings the lanes";
  // The founder of the group wrote registers, which do not expire.
  EXPECT_FALSE(cluster.vectors(a)[partition].empty());
  EXPECT_EQ(cluster.admin(a, "verify", {{"limit", 1024}}, 120s)->at("same"), options.partitions);
}

// There is no horizon behind which a cursor means nothing (decision 0018): one that names writers whom nobody knows any
// more says of them what is true, that all they wrote is seen.
TEST_P(Prune, F29_ACursorThatLayForMonthsIsHandedWhatIsLeft) {
  start(*bob, b);
  const std::size_t before = bob->shown();
  const WriterId first = run_of_a();
  ASSERT_TRUE(until([&] { return bob->shown() == before + 3; }));
  bob->close();
  ASSERT_NO_FATAL_FAILURE(sleep(kPeriod, {a, b, c}));
  const WriterId second = run_of_a();
  ASSERT_NO_FATAL_FAILURE(sleep(kPeriod, {a, b, c}));
  ASSERT_EQ(knowing(first), 0u);
  ASSERT_EQ(knowing(second), 3u);
  start(*alice, a);
  const auto kept = send(*alice);
  ASSERT_TRUE(acked(kept));
  bool named = false;
  tap.on_arrive = [&](const TapMessage& m) {
    const auto read = m.method == Method::kRead ? unpack<node::ReadRequest>(m.body) : Result<node::ReadRequest>(Error{});
    if (read && read->mailbox == mailbox_of("#g")) named |= read->cursor.get(first) > 0;
  };
  start(*bob, c);
  EXPECT_TRUE(named) << "its cursor is of then";
  EXPECT_TRUE(until([&] { return shown(*bob, kept) == 1; }));
  EXPECT_EQ(bob->shown(), before + 4) << "what it had not, and had not expired";
  const auto live = send(*alice);
  EXPECT_TRUE(until([&] { return shown(*bob, live) == 1; }));
  EXPECT_TRUE(acked(send(*bob)));
  for (const auto& [name, value] : metrics_of(world, cluster, c)) {
    EXPECT_FALSE(name.starts_with("starling_cursors_refused_total") && value > 0) << name;
  }
}

// A joiner that meets nothing of a forgotten run learns all the same how far its lanes had come.
TEST_P(Prune, F40_AJoinerLearnsTheLanesOfAForgottenWriter) {
  const WriterId first = run_of_a();
  ASSERT_NO_FATAL_FAILURE(sleep(kPeriod, {a, b, c}));
  (void)run_of_a();
  ASSERT_NO_FATAL_FAILURE(sleep(kPeriod, {a, b, c}));
  ASSERT_EQ(knowing(first), 0u);
  ASSERT_TRUE(cluster.add_node(120s));
  ASSERT_TRUE(cluster.run_until_quiet(60s));
  EXPECT_EQ(cluster.admin(a, "verify", {{"limit", 1024}}, 120s)->at("same"), options.partitions);
}

// c knows the writer and has never listed it. Nobody takes it from c, and c hears that all others forgot it.
TEST_P(Prune, F40_WhoWasAwayAtTheTurnBringsNoWriterBack) {
  const WriterId first = run_of_a();
  ASSERT_NO_FATAL_FAILURE(sleep(kPeriod, {a, b, c}));
  ASSERT_EQ(knowing(first), 3u);
  (void)run_of_a();
  for (const auto i : {a, b, c}) ASSERT_TRUE(cluster.stop(i));
  world.run_for(kPeriod);
  for (const auto i : {a, b, c}) ASSERT_TRUE(cluster.restart(i));
  // The others hear of c, and it is gone before its own turn.
  ASSERT_TRUE(until([&] { return sees_all_owners(a) && sees_all_owners(b); }, 25s));
  ASSERT_EQ(knowing(first), 3u);
  cluster.crash(c, Crash::kPower);
  world.run_for(180s);
  ASSERT_EQ(knowing(first), 0u);
  ASSERT_NO_FATAL_FAILURE(erase_list(c));
  world.run_for(15min);
  ASSERT_TRUE(cluster.restart(c));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
  EXPECT_EQ(knowing(first), 1u);
  for (int i = 0; i < 100 && knowing(first) > 0; ++i) {
    world.run_for(2s);
    EXPECT_LE(knowing(first), 1u) << "what was forgotten is fetched again";
  }
  EXPECT_EQ(knowing(first), 0u);
  ASSERT_TRUE(cluster.run_until_quiet(60s));
  EXPECT_EQ(cluster.admin(a, "verify", {{"limit", 1024}}, 120s)->at("same"), options.partitions);
}

TEST_P(Prune, F40_AWriterThatMayComeBackIsKept) {
  const WriterId first = run_of_a();
  // A clean stop keeps the writer, however long it lasts for the others.
  ASSERT_TRUE(cluster.stop(a));
  world.run_for(180s);
  for (int i = 0; i < 3; ++i) {
    ASSERT_NO_FATAL_FAILURE(sleep(kPeriod, {b, c}));
    EXPECT_EQ(knowing(first), 2u) << i;
  }
}

// A folder that stood still for months may be a copy: its writer could have been forgotten meanwhile.
TEST_P(Prune, F40_AStoreThatStoodStillForLongDrawsANewWriter) {
  const WriterId first = run_of_a();
  ASSERT_NO_FATAL_FAILURE(sleep(kPeriod, {a, b, c}));
  SimDevice& device = work.add_device("@bob", "late");
  device.start(a);
  ASSERT_TRUE(until([&] { return device.ready(); }, 60s));
  const auto sent = send(device);
  ASSERT_TRUE(acked(sent));
  ASSERT_TRUE(cluster.run_until_quiet(60s));
  EXPECT_NE(cluster.writer(a), first);
}

// The same under a clock that is as old as the folder, which tells the store nothing: the others' clocks do, and
// nothing is written before they are heard.
TEST_P(Prune, F40_AnOldFolderUnderAnOldClockDrawsANewWriterOnceTheClockIsRight) {
  const WriterId first = run_of_a();
  constexpr auto kAway = std::chrono::hours(24 * 40);
  for (const auto i : {a, b, c}) ASSERT_TRUE(cluster.stop(i));
  world.run_for(kAway);
  cluster.clock_step(a, -kAway);
  for (const auto i : {a, b, c}) ASSERT_TRUE(cluster.restart(i));
  world.run_for(30s);
  ASSERT_EQ(cluster.writer(a), first) << "by its clock the folder is of today";
  ASSERT_EQ(cluster.fatal_errors(), 0u);
  cluster.clock_step(a, kAway);
  EXPECT_TRUE(until([&] { return cluster.writer(a) != first; }, 30s));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 120s));
}

// --- Stand-ins. ---

class PruneStandIns : public Prune {
 protected:
  PruneStandIns() : Prune(5) {}
  std::uint64_t held_by(std::size_t i) {
    const auto status = cluster.admin(i, "status", Json::object());
    return status ? status->at("rates").at("hints_bytes").get<std::uint64_t>() : 0;
  }
};

INSTANTIATE_TEST_SUITE_P(Seeds, PruneStandIns, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(3)));

// A stand-in never heard that the owners have what it holds. Then they have forgotten the writer, and lack what came
// before the segment: they can never take it, and nobody needs it any more.
TEST_P(PruneStandIns, F40_ASegmentOfAForgottenWriterIsLetGo) {
  const WriterId first = run_of_a();
  std::vector<std::size_t> rest;
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    if (i != b && i != c) rest.push_back(i);
  }
  cluster.partition({rest, {b, c}});
  world.run_for(15s);
  SimDevice& device = work.add_device("@alice", "alone");
  device.start(a);
  ASSERT_TRUE(until([&] { return device.ready(); }, 60s));
  const auto alone = send(device);
  ASSERT_TRUE(acked(alone)) << world.trace().text("", 40);
  device.close();
  ASSERT_EQ(cluster.writer(a), first);
  std::size_t holder = a;
  for (const auto i : rest) {
    if (i != a && held_by(i) > 0) holder = i;
  }
  ASSERT_NE(holder, a) << "nobody stood in";
  tap.alter_answer = [holder](const TapMessage& m, Bytes& body) {
    if (m.method == Method::kHold && m.from == holder) body = pack(node::HoldReply{0});
  };
  cluster.heal();
  ASSERT_TRUE(until([&] { return sees_all_owners(a) && sees_all_owners(b) && sees_all_owners(c); }, 60s));
  world.run_for(30s);
  EXPECT_EQ(knowing(first), 3u);
  const std::vector<std::size_t> all{0, 1, 2, 3, 4};
  ASSERT_NO_FATAL_FAILURE(sleep(kPeriod, all));
  (void)run_of_a(/*quiet=*/false);
  ASSERT_GT(held_by(holder), 0u);
  ASSERT_NO_FATAL_FAILURE(sleep(kPeriod, all));
  ASSERT_EQ(knowing(first), 0u) << "still known";
  EXPECT_EQ(held_by(holder), 0u) << "nobody can take it any more";
  tap.clear();
  EXPECT_TRUE(cluster.run_until_quiet(60s));
  EXPECT_EQ(knowing(first), 0u) << "it came back with the segment";
}

}  // namespace
}  // namespace starling::sim
