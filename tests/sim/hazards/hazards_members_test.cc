// Hazards of members: F39 (a joiner installs while everybody writes), F47 (one writer, two nodes). hazards.h says how.
#include "tests/sim/hazards/hazards.h"

namespace starling::sim {
namespace {

class Members : public Hazards {
 protected:
  explicit Members(std::size_t nodes = 3) : Hazards(nodes) {}
  explicit Members(ClusterOptions with) : Hazards(std::move(with)) {}
  using Run = std::pair<PartitionId, WriterId>;

  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Hazards::SetUp());
    start(*alice, a);
    start(*bob, b);
    for (int n = 0; n < 12; ++n) {
      groups.push_back("#g" + std::to_string(n));
      ASSERT_TRUE(work.add_group(groups.back(), {"@alice", "@bob"}));
      ASSERT_TRUE(acked(send(*alice, groups.back())));
    }
    ASSERT_TRUE(cluster.run_until_quiet(30s));
  }
  // Everybody writes until `done`; how many messages.
  std::size_t write_until(const std::function<bool()>& done, Duration limit) {
    std::size_t count = 0;
    for (const Instant end = world.now() + limit; !done() && world.now() < end; ++count) {
      send(count % 2 == 0 ? *alice : *bob, groups[count % groups.size()]);
      world.run_for(40ms);
    }
    EXPECT_TRUE(done());
    return count;
  }

  std::vector<std::string> groups;
};

INSTANTIATE_TEST_SUITE_P(Seeds, Members, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

// What comes to the joiner live is taken only behind what it has fetched, and acknowledged only so far.
TEST_P(Members, F39_LiveChangesMeetAJoinerThatInstalls) {
  const std::size_t joiner = cluster.size();
  std::map<Run, std::uint64_t> has;  // Delivered to the joiner without a hole, by fetches and live.
  std::map<WriterId, std::size_t> home;
  std::size_t live_gaps = 0, live = 0, fetched_while_live = 0, said_too_much = 0;
  tap.late_max = 800ms;  // So that more is written, and has to be fetched, while it installs.
  tap.on_leave = [&](const TapMessage& m) {
    return m.method == Method::kFetch && m.from == joiner ? Fate::kLate : Fate::kPass;
  };
  tap.on_arrive = [&](const TapMessage& m) {
    if (m.method == Method::kReplicate && m.to == joiner) {
      for (const auto& change : carried(m)) {
        auto& n = has[{change.partition, change.dot.writer}];
        live += 1;
        live_gaps += change.dot.n > n + 1 ? 1 : 0;
        if (change.dot.n == n + 1) n = change.dot.n;
      }
    }
    const auto said = m.from == joiner ? unpack<node::Replicated>(m.body) : Result<node::Replicated>(Error{});
    if (m.method != Method::kReplicated || !said) return;
    for (const auto& item : said->items) said_too_much += item.n > has[{item.partition, said->writer}] ? 1 : 0;
  };
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (m.method != Method::kFetch || m.from != joiner || !answer) return Fate::kPass;
    const auto asked = unpack<node::FetchRequest>(m.body);
    const auto range = unpack<storage::RangeStatement>(*answer);
    if (!asked || !range) return Fate::kPass;
    auto& n = has[{asked->partition, range->writer}];
    if (range->from <= n + 1) n = std::max(n, range->to);
    ++fetched_while_live;
    return Fate::kPass;
  };
  const auto joined = cluster.begin_join(c);
  ASSERT_TRUE(joined) << joined.error().text;
  ASSERT_EQ(*joined, joiner);
  const auto written = write_until([&] { return cluster.up(joiner) && cluster.node(joiner).serving(); }, 120s);
  ASSERT_GT(written, 20u);
  ASSERT_GT(fetched_while_live, 10u);
  write_until([&] { return live > 20; }, 60s);
  ASSERT_TRUE(caught_up(*alice) && caught_up(*bob));
  EXPECT_EQ(said_too_much, 0u);
  world.note("test", std::to_string(written) + " written meanwhile, " + std::to_string(live) + " came live, " +
                         std::to_string(live_gaps) + " before what is below them");
  finish();
}

// Its power goes in the middle: what it had synced counts, the rest it asks for, and nothing of it twice.
// Without files, of which a whole group is begun anew (files_test.cc).
class RunByRun : public Members {
 protected:
  RunByRun() : Members(ClusterOptions{.nodes = 3, .files_from = ~std::uint64_t{0}}) {}
};
INSTANTIATE_TEST_SUITE_P(Seeds, RunByRun, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

TEST_P(RunByRun, F39_AnInterruptedInstallGoesOnWhereItStopped) {
  const std::size_t joiner = cluster.size();
  std::size_t asked = 0;
  bool stop = false;
  tap.on_leave = [&](const TapMessage& m) {  // Many leave at once.
    if (m.method != Method::kFetch || m.from != joiner) return Fate::kPass;
    stop = ++asked > 3;
    return stop ? Fate::kHold : Fate::kPass;
  };
  ASSERT_TRUE(cluster.begin_join(c));
  write_until([&] { return stop; }, 60s);
  world.run_for(300ms);
  const auto before = cluster.vectors(joiner);
  std::size_t synced_before = 0;
  for (const auto& [p, vector] : before) synced_before += vector.size();
  ASSERT_GT(synced_before, 0u);
  ASSERT_FALSE(cluster.node(joiner).serving());
  cluster.crash(joiner, Crash::kPower);
  tap.clear();
  std::size_t again = 0, twice = 0;
  tap.on_leave = [&](const TapMessage& m) {
    const auto fetch = m.method == Method::kFetch && m.from == joiner ? unpack<node::FetchRequest>(m.body)
                                                                     : Result<node::FetchRequest>(Error{});
    if (!fetch) return Fate::kPass;
    ++again;
    const auto p = before.find(fetch->partition);
    if (p == before.end()) return Fate::kPass;
    const auto n = p->second.find(fetch->writer);
    twice += n != p->second.end() && fetch->from <= n->second ? 1 : 0;
    return Fate::kPass;
  };
  ASSERT_TRUE(cluster.restart(joiner));
  write_until([&] { return cluster.all_serving(); }, 120s);
  EXPECT_GT(again, 0u);
  EXPECT_EQ(twice, 0u);
  ASSERT_TRUE(caught_up(*alice) && caught_up(*bob));
  finish();
}

// --- One writer, two nodes. ---

class Writers : public Members {
 protected:
  Writers() : Members(5) {}
};

INSTANTIATE_TEST_SUITE_P(Seeds, Writers, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

// The younger of two has made no dot yet, and draws again; the older goes on.
TEST_P(Writers, F47_OfTwoNodesWithOneWriterTheYoungerDrawsAgain) {
  const std::size_t older = a;
  std::size_t younger = 0;
  while (younger == a || younger == b || younger == c) ++younger;
  bob->close();
  cluster.crash(older, Crash::kProcess);
  ASSERT_TRUE(cluster.restart(older));
  ASSERT_TRUE(until([&] { return cluster.all_serving() && caught_up(*alice); }, 60s));
  world.run_for(5s);  // Until the others ask it again.
  ASSERT_TRUE(acked(send(*alice)));
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  const WriterId writer = cluster.writer(older);
  const auto has_written = [&](std::size_t i) {
    const auto vectors = cluster.vectors(i);
    return std::any_of(vectors.begin(), vectors.end(),
                       [&](const auto& item) { return item.second.contains(writer); });
  };
  ASSERT_TRUE(has_written(older));
  ASSERT_FALSE(has_written(younger)) << "who has seen it in its log does not draw it";
  const auto fatal = cluster.fatal_errors();
  cluster.crash(younger, Crash::kPower);
  cluster.draw(younger, writer);
  ASSERT_TRUE(cluster.restart(younger));
  world.run_for(10ms);
  ASSERT_EQ(cluster.writer(younger), writer);
  EXPECT_TRUE(until([&] { return cluster.fatal_errors() > fatal; }, 10s));
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
  world.run_for(15s);
  EXPECT_EQ(cluster.fatal_errors(), fatal + 1);
  EXPECT_NE(cluster.writer(younger), writer);
  EXPECT_EQ(cluster.writer(older), writer);
  start(*bob, younger);
  for (const auto& group : groups) EXPECT_TRUE(acked(send(*bob, group)));
  finish();
}

}  // namespace
}  // namespace starling::sim
