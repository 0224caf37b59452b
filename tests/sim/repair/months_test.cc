// Months pass (hazards F13, decision 0018): a node or a device that was away for longer than history is kept comes back
// like any other. Most of the time nothing runs, so that it is simulated in a moment; the others come up in between,
// write, and see what expired go.
#include "tests/sim/hazards/hazards.h"

#include <nlohmann/json.hpp>

namespace starling::sim {
namespace {

// a and b live on, c is away.
class Months : public Hazards {
 protected:
  static constexpr auto kDay = 24h;
  static_assert(node::kRetentionDefaultMs == 30 * 24 * 3600 * 1000ull);

  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Hazards::SetUp());
    start(*alice, b);
  }
  // What c alone has, and has acknowledged: it is cut off.
  SendIndex say_at_c_alone() {
    start(*bob, c);
    EXPECT_TRUE(cluster.run_until_quiet(30s));
    leave_alone(c);
    const auto said = bob->send("#g", work.body(*bob), {.grade = node::protocol::Grade::kLocal});
    EXPECT_TRUE(acked(said));
    EXPECT_EQ(record(said).copies, 1);
    bob->close();
    return said;
  }
  void lose_c() {
    cluster.crash(c, Crash::kPower);
    cluster.heal();
    world.run_for(15s);
  }
  SendIndex say() {
    const auto said = send(*alice);
    EXPECT_TRUE(acked(said));
    return said;
  }
  // Nobody runs for so long; then a and b do.
  void days(int count) {
    alice->close();
    for (const auto i : {a, b}) ASSERT_TRUE(cluster.stop(i));
    world.run_for(count * kDay);
    for (const auto i : {a, b}) ASSERT_TRUE(cluster.restart(i));
    ASSERT_TRUE(until([&] { return cluster.node(a).serving() && cluster.node(b).serving(); }, 120s));
    start(*alice, b);
    world.run_for(60s);
  }
  void c_returns() {
    ASSERT_TRUE(cluster.restart(c));
    ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 120s)) << world.trace().text("", 40);
    ASSERT_TRUE(cluster.run_until_quiet(60s));
    world.run_for(30s);
  }
  void expect_equal_owners() {
    Result<Json> report = Error{};
    for (int turn = 0; turn < 30; ++turn) {
      report = cluster.admin(a, "verify", {{"limit", 1024}}, 120s);
      if (report && report->at("same") == options.partitions) return;
      world.run_for(1s);
    }
    ADD_FAILURE() << (report ? report->dump() : report.error().text);
  }
  std::set<std::string> members() {
    const auto answer = std::make_shared<std::optional<Result<node::protocol::Members>>>();
    alice2->client().members("#g", "", [answer](auto said) { answer->emplace(std::move(said)); });
    EXPECT_TRUE(until([&] { return answer->has_value() && (*answer)->ok(); }));
    std::set<std::string> out;
    for (const auto& member : (**answer)->members) out.insert(member.user);
    return out;
  }
  // Messages of #g that a device was handed, in that order.
  std::vector<std::uint64_t> shown_on(const SimDevice& device) {
    std::vector<std::uint64_t> out;
    for (const auto& d : work.history().deliveries()) {
      if (d.device == device.index() && !d.is_void && !d.again) out.push_back(d.hash);
    }
    return out;
  }
};

INSTANTIATE_TEST_SUITE_P(Seeds, Months, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

TEST_P(Months, F13_ANodeThatWasAwayForTwoMonthsCatchesUpAndBringsNothingBack) {
  const auto first = say();
  const auto kept = say_at_c_alone();
  lose_c();
  const auto second = say();
  ASSERT_TRUE(manage([&](auto done) { alice->client().remove_member("#g", "@bob", done); }));
  ASSERT_NO_FATAL_FAILURE(days(45));
  const auto third = say();
  ASSERT_NO_FATAL_FAILURE(days(20));
  const auto fourth = say();
  ASSERT_NO_FATAL_FAILURE(c_returns());
  expect_equal_owners();
  leave_alone(c);  // It answers itself.
  start(*alice2, c);
  for (const auto gone : {first, kept, second}) EXPECT_TRUE(history_of(*alice2, gone).empty()) << gone;
  for (const auto live : {third, fourth}) EXPECT_EQ(history_of(*alice2, live).size(), 1u) << live;
  cluster.heal();
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
  EXPECT_FALSE(members().contains("@bob"));
  EXPECT_EQ(shown(*alice, kept) + shown(*alice2, kept), 0u) << "it came home, and had expired";
  // The number that c alone had given out is not given again: it may be in a history that nobody has any more.
  ASSERT_TRUE(manage([&](auto done) { alice->client().add_member("#g", "@bob", 0, done); }));
  start(*bob, a);
  const auto next = send(*bob);
  EXPECT_TRUE(acked(next));
  EXPECT_TRUE(until([&] { return shown(*alice, next) == 1 && shown(*alice2, next) == 1; }, 30s));
  EXPECT_EQ(record(next).seq, record(kept).seq + 1);
  expect_equal_owners();
}

// Within the time that history is kept: what c alone had comes home, in its place.
TEST_P(Months, ANodeThatWasAwayForWeeksHandsHomeWhatItAloneHas) {
  const auto first = say();
  const auto kept = say_at_c_alone();
  lose_c();
  const auto second = say();
  ASSERT_NO_FATAL_FAILURE(days(20));
  const auto third = say();
  ASSERT_NO_FATAL_FAILURE(c_returns());
  EXPECT_TRUE(until([&] { return shown(*alice, kept) == 1; }, 30s)) << "to who was online";
  for (const auto i : {a, b}) {
    leave_alone(i);
    start(*alice2, i);
    for (const auto live : {first, kept, second, third}) EXPECT_EQ(history_of(*alice2, live).size(), 1u) << live;
    EXPECT_LT(history_of(*alice2, first).front(), history_of(*alice2, kept).front());
    EXPECT_LT(history_of(*alice2, kept).front(), history_of(*alice2, second).front());
    alice2->close();
    cluster.heal();
    ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
    world.run_for(5s);
  }
  expect_equal_owners();
}

// Its cursor is of long ago, before the oldest message there is: it is handed what is left, in order, and goes on.
TEST_P(Months, ADeviceThatWasAwayForTwoMonthsIsHandedWhatIsLeft) {
  start(*alice2, a);
  start(*bob, c);
  const auto old = say();
  ASSERT_TRUE(until([&] { return shown(*alice2, old) == 1 && shown(*bob, old) == 1; }));
  alice2->close();
  bob->close();
  lose_c();
  const auto missed = say();
  ASSERT_NO_FATAL_FAILURE(days(40));
  std::vector<SendIndex> left;
  for (int i = 0; i < 5; ++i) left.push_back(say());
  ASSERT_NO_FATAL_FAILURE(days(25));
  for (int i = 0; i < 5; ++i) left.push_back(say());
  ASSERT_NO_FATAL_FAILURE(c_returns());
  std::vector<std::uint64_t> expected{record(old).hash};
  for (const auto i : left) expected.push_back(record(i).hash);
  start(*alice2, c);
  start(*bob, a);
  EXPECT_TRUE(until([&] { return shown_on(*alice2).size() == expected.size(); }, 30s));
  EXPECT_TRUE(until([&] { return shown_on(*bob).size() == expected.size(); }, 30s));
  EXPECT_EQ(shown_on(*alice2), expected);
  EXPECT_EQ(shown_on(*bob), expected);
  EXPECT_EQ(shown(*alice2, missed), 0u);
  for (auto* device : {alice2, bob}) {
    const auto sent = send(*device);
    EXPECT_TRUE(acked(sent)) << "its lanes go on";
    EXPECT_TRUE(until([&] { return shown(*alice, sent) == 1; }));
  }
  expect_equal_owners();
}

// Only cursors of another lineage are told `reset`: the device drops them, is handed what there is, and shows nothing twice.
TEST_P(Months, ADeviceOfAnotherLineageStartsCleanly) {
  start(*alice2, a);
  const auto before = say();
  ASSERT_TRUE(until([&] { return shown(*alice2, before) == 1; }));
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  alice2->close();
  alice->close();
  const auto lineage = [&] { return cluster.admin(a, "status", Json::object())->at("cluster").at("lineage"); };
  const auto old = lineage();
  Json nodes = Json::array();
  for (const auto i : {b, c}) {
    nodes.push_back(cluster.id(i));
    cluster.crash(i, Crash::kPower);
  }
  world.run_for(30s);
  const auto forced = cluster.admin(a, "remove", {{"nodes", nodes}, {"force", true}}, 120s);
  ASSERT_TRUE(forced) << forced.error().text;
  for (const auto i : {b, c}) cluster.retire(i);
  ASSERT_TRUE(until([&] { return cluster.node(a).serving(); }, 120s));
  ASSERT_NE(lineage(), old);
  start(*alice, a);
  const auto after = say();
  start(*alice2, a);
  EXPECT_TRUE(until([&] { return shown(*alice2, after) == 1; }));
  EXPECT_EQ(shown_on(*alice2), (std::vector<std::uint64_t>{record(before).hash, record(after).hash}));
  EXPECT_TRUE(acked(send(*alice2)));
}

}  // namespace
}  // namespace starling::sim
