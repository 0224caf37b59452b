// Hazards between nodes: F20 (what an ack waits for), F43 (reordering), F44 (what equality costs). hazards.h says how.
#include "node/replication/catch_up/digests.h"

#include <nlohmann/json.hpp>
#include "tests/sim/hazards/hazards.h"

namespace starling::sim {
namespace {

class BetweenNodes : public Hazards {
 protected:
  explicit BetweenNodes(std::size_t nodes = 3, std::uint32_t partitions = 16) : Hazards(nodes, partitions) {}
};

INSTANTIATE_TEST_SUITE_P(Seeds, BetweenNodes, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

// Whichever disk hangs, the two others are W. With two that hang there is no ack. Nobody shows what the disk
// of the node it follows does not have.
TEST_P(BetweenNodes, F20_AnAckWaitsForTheSecondFastestDiskAndAPushForItsOwn) {
  start(*alice, b);
  std::map<std::size_t, SimDevice*> at{{a, bob}, {b, alice2}, {c, bob2}};
  for (const auto& [node, device] : at) start(*device, node);
  ASSERT_TRUE(acked(send(*alice)));
  for (const auto slow : {a, b, c}) {
    std::optional<Carried> minted;
    SendIndex sent = kUnsent;
    tap.on_arrive = [&](const TapMessage& m) {
      if (m.method == Method::kReplicate && !minted) minted = find(m, sent);
    };
    world.run_for(2s);
    cluster.disk(slow).hold(true);
    sent = send(*alice);
    EXPECT_TRUE(acked(sent, 500ms)) << slow;
    EXPECT_EQ(record(sent).copies, 2) << slow;
    world.run_for(200ms);
    ASSERT_TRUE(minted);
    EXPECT_EQ(minted->partition, partition);
    for (const auto& [node, device] : at) EXPECT_EQ(shown(*device, sent), node == slow ? 0u : 1u) << node;
    cluster.disk(slow).hold(false);
    EXPECT_TRUE(until([&] { return shown(*at[slow], sent) == 1; }, 2s));
  }
  tap.on_arrive = nullptr;
  world.run_for(2s);
  cluster.disk(b).hold(true);
  cluster.disk(c).hold(true);
  const auto sent = send(*alice);
  EXPECT_FALSE(acked(sent, 1s));
  cluster.disk(b).hold(false);
  EXPECT_TRUE(acked(sent, 1s));
  finish();
}

// What the sender chose is what is waited for, and the answer says how far it got: nothing on disk, one disk, W, all.
TEST_P(BetweenNodes, F20_AnAckStatesTheCopiesThatItsGradeReached) {
  using node::protocol::Grade;
  start(*alice, a);
  ASSERT_TRUE(acked(send(*alice)));
  const auto say = [&](Grade grade) { return alice->send("#g", work.body(*alice), {.grade = grade}); };
  for (const auto i : {a, b, c}) cluster.disk(i).hold(true);
  const auto memory = say(Grade::kMemory);
  EXPECT_TRUE(acked(memory, 500ms));
  EXPECT_EQ(record(memory).copies, 0);
  const auto local = say(Grade::kLocal);
  EXPECT_FALSE(acked(local, 500ms));
  cluster.disk(a).hold(false);
  EXPECT_TRUE(acked(local, 500ms));
  EXPECT_EQ(record(local).copies, 1);
  const auto quorum = say(Grade::kQuorum);
  const auto all = say(Grade::kAll);
  EXPECT_FALSE(acked(quorum, 500ms));
  cluster.disk(b).hold(false);
  EXPECT_TRUE(acked(quorum, 500ms));
  EXPECT_EQ(record(quorum).copies, 2);
  EXPECT_FALSE(acked(all, 500ms));
  cluster.disk(c).hold(false);
  EXPECT_TRUE(acked(all, 1s));
  EXPECT_EQ(record(all).copies, 3);
  finish();
}

// While one sync is under way the next batch gathers; and an owner says how far it has synced, not what.
TEST_P(BetweenNodes, F20_WhatGathersDuringASyncIsSyncedAndAcknowledgedAtOnce) {
  start(*alice, a);
  ASSERT_TRUE(acked(send(*alice)));
  world.run_for(1s);
  cluster.disk(b).hold(true);
  cluster.disk(c).hold(true);
  std::vector<SendIndex> sent;
  for (int i = 0; i < 30; ++i) {
    sent.push_back(send(*alice));
    world.run_for(10ms);
  }
  ASSERT_EQ(std::count_if(sent.begin(), sent.end(), [&](SendIndex i) { return is_acked(i); }), 0);
  std::map<std::size_t, std::size_t> words;
  tap.on_leave = [&](const TapMessage& m) {
    const auto said = m.method == Method::kReplicated ? unpack<node::Replicated>(m.body)
                                                      : Result<node::Replicated>(Error{});
    if (!said || said->writer != cluster.writer(a)) return Fate::kPass;
    for (const auto& item : said->items) words[m.from] += item.partition == partition ? 1 : 0;
    return Fate::kPass;
  };
  cluster.disk(b).hold(false);
  for (const auto i : sent) EXPECT_TRUE(acked(i, 1s));
  EXPECT_GE(words[b], 1u);
  EXPECT_LE(words[b], 3u) << "of what was under way, of what gathered meanwhile, and once more";
  EXPECT_EQ(words[c], 0u);
  finish();
}

// Notices of all kinds between all nodes overtake each other, as they would over several links.
TEST_P(BetweenNodes, F43_AnyReorderBetweenTwoNodesIsTolerated) {
  start(*alice, b);
  start(*bob, a);
  start(*alice2, c);
  start(*bob2, b);
  ASSERT_TRUE(acked(send(*alice)));
  std::map<std::tuple<std::size_t, std::size_t, WriterId>, std::uint64_t> last;
  std::size_t replicates = 0, pushes = 0, acks = 0;  // That came after a later one.
  const auto overtaken = [&](const TapMessage& m, WriterId writer, std::uint64_t n) {
    auto& highest = last[{m.from * 100 + m.to, static_cast<std::size_t>(m.method), writer}];
    const bool late = n < highest;
    highest = std::max(highest, n);
    return late;
  };
  tap.on_leave = [&](const TapMessage& m) {
    const bool notice = m.kind == TapMessage::Kind::kNotice && m.from != m.to;
    return notice && world.random().below(2) == 0 ? Fate::kLate : Fate::kPass;
  };
  tap.on_arrive = [&](const TapMessage& m) {
    for (const auto& change : carried(m)) {
      if (change.partition != partition || m.from == m.to) continue;
      const bool late = overtaken(m, change.dot.writer, change.dot.n);
      (m.method == Method::kPush ? pushes : replicates) += late ? 1 : 0;
    }
    if (m.method != Method::kReplicated) return;
    const auto said = unpack<node::Replicated>(m.body);
    if (!said) return;
    for (const auto& item : said->items) {
      if (item.partition == partition) acks += overtaken(m, said->writer, item.n) ? 1 : 0;
    }
  };
  std::vector<SendIndex> sends;
  for (int i = 0; i < 60; ++i) {
    for (auto* device : {alice, bob, alice2}) {
      sends.push_back(send(*device));
      world.run_for(Duration(world.random().below(15'000'000)));
    }
    if (i % 10 == 0) sends.push_back(send(*alice, "@bob"));
  }
  for (const auto sent : sends) EXPECT_TRUE(acked(sent));
  ASSERT_GT(replicates, 0u);
  ASSERT_GT(acks, 0u);
  world.note("test", std::to_string(replicates) + " replicates, " + std::to_string(pushes) + " pushes, " +
                         std::to_string(acks) + " acks came out of order");
  EXPECT_TRUE(until([&] { return check_delivered(work.history()).empty(); }, 30s));
  finish();
}

// The same for what gateways are pushed, by a node that is no owner and so follows over a link.
class OverLinks : public BetweenNodes {
 protected:
  OverLinks() : BetweenNodes(4) {}
};
INSTANTIATE_TEST_SUITE_P(Seeds, OverLinks, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

TEST_P(OverLinks, F43_PushesThatOvertakeEachOtherAreShownInOrderAndOnce) {
  std::size_t d = 0;
  while (d == a || d == b || d == c) ++d;
  start(*alice, a);
  start(*bob, d);
  ASSERT_TRUE(acked(send(*alice)));
  std::map<WriterId, std::uint64_t> last;
  std::size_t late = 0;
  tap.on_leave = [&](const TapMessage& m) {
    return m.method == Method::kPush && m.to == d && world.random().below(2) == 0 ? Fate::kLate : Fate::kPass;
  };
  tap.on_arrive = [&](const TapMessage& m) {
    if (m.method != Method::kPush || m.to != d) return;
    for (const auto& change : carried(m)) {
      if (change.partition != partition) continue;
      late += change.dot.n < last[change.dot.writer] ? 1 : 0;
      last[change.dot.writer] = std::max(last[change.dot.writer], change.dot.n);
    }
  };
  std::vector<SendIndex> sends;
  for (int i = 0; i < 80; ++i) {
    sends.push_back(send(*alice));
    world.run_for(Duration(world.random().below(20'000'000)));
  }
  ASSERT_TRUE(acked(sends.back()));
  for (const auto sent : sends) {
    EXPECT_TRUE(until([&] { return shown(*bob, sent) == 1; }));
    EXPECT_EQ(shown(*bob, sent, true), 0u);
  }
  ASSERT_GT(late, 0u);
  finish();
}

// Anti-entropy between nodes that hold the same, in many partitions of which most are idle.
class Equal : public BetweenNodes {
 protected:
  static constexpr std::uint32_t kPartitions = 4096;
  Equal() : BetweenNodes(3, kPartitions) {}

  struct Round {
    std::size_t requests = 0, bytes = 0, items = 0, fetches = 0;
  };
  // What comparing costs all nodes together.
  Round listen(Duration duration) {
    Round out;
    tap.on_answer = [&out](const TapMessage& m, const Result<Bytes>& answer) {
      if (m.method == Method::kFetch) ++out.fetches;
      if (m.method != Method::kCompare) return Fate::kPass;
      ++out.requests;
      out.bytes += m.body.size() + (answer ? answer->size() : 0);
      if (const auto request = unpack<node::CompareRequest>(m.body)) out.items += request->items.size();
      return Fate::kPass;
    };
    world.run_for(duration);
    tap.on_answer = nullptr;
    return out;
  }
};

INSTANTIATE_TEST_SUITE_P(Seeds, Equal, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(3)));

TEST_P(Equal, F44_ARoundBetweenEqualNodesCostsAFewBytes) {
  const auto idle = listen(20s);
  ASSERT_GT(idle.requests, 20u);
  EXPECT_EQ(idle.items, 0u);
  EXPECT_LE(idle.bytes / idle.requests, 200u);
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(cluster.admin(0, "group.create", {{"group", "#h" + std::to_string(i)}, {"owner", "@bob"}}));
  }
  start(*alice, a);
  ASSERT_TRUE(acked(send(*alice)));
  ASSERT_TRUE(cluster.run_until_quiet(60s));
  world.run_for(5s);
  // Each of the 16 spans has something now.
  const auto equal = listen(20s);
  ASSERT_GT(equal.requests, 20u);
  EXPECT_EQ(equal.items, 0u);
  EXPECT_EQ(equal.fetches, 0u);
  constexpr std::size_t kSpans = kPartitions / node::kSpanPartitions;
  EXPECT_LE(equal.bytes / equal.requests, 32 + kSpans * 13);
  world.note("test", "bytes a round: idle " + std::to_string(idle.bytes / idle.requests) + ", equal " +
                         std::to_string(equal.bytes / equal.requests));
  RecordProperty("bytes", static_cast<int>(equal.bytes / equal.requests));

  // One change that b missed: found, by looking at the partitions of one span.
  tap.on_leave = [&](const TapMessage& m) {
    return m.method == Method::kReplicate && m.from == a && m.to == b ? Fate::kLose : Fate::kPass;
  };
  const auto missed = send(*alice);
  ASSERT_TRUE(acked(missed));
  tap.on_leave = nullptr;
  const auto after = listen(20s);
  EXPECT_GT(after.items, 0u);
  EXPECT_LE(after.items, 8 * node::kSpanPartitions);
  EXPECT_TRUE(cluster.run_until_quiet(5s));
  finish();
}

}  // namespace
}  // namespace starling::sim
