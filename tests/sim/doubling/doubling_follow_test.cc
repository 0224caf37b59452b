// Devices over a doubling: who follows goes on, who comes back resumes by a cursor of before, and a retry finds its key.
#include "tests/sim/doubling/doubling.h"

namespace starling::sim {
namespace {

class DoublingFollow : public Doubling {
 protected:
  // Its gateway is d, which owns none of the groups.
  explicit DoublingFollow(std::size_t nodes = 4) : Doubling(nodes) {}
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Doubling::SetUp());
    d = other_than({a, b, c});
  }
  std::size_t d = 0;
};

INSTANTIATE_TEST_SUITE_P(Seeds, DoublingFollow, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

TEST_P(DoublingFollow, ADeviceResumesByACursorOfBefore) {
  start(*bob2, d);
  auto said = say_both(5);
  all_shown(said);
  bob2->close();
  const auto missed = say_both(5);
  ASSERT_NO_FATAL_FAILURE(double_all(b));
  const auto after = say_both(5);
  start(*bob2, d);
  for (const auto& some : {missed, after}) said.insert(said.end(), some.begin(), some.end());
  all_shown(said);
  finish();
}

// The cursor is of the new numbering, and it is shown to a node that has the old one yet.
TEST_P(DoublingFollow, ADeviceResumesAtANodeThatLags) {
  start(*bob2, b);
  deafen(d);
  ASSERT_TRUE(agree(b));
  ASSERT_TRUE(until([&] { return have({a, b, c}, 2 * before()); }, 30s));
  auto said = say_both(5);
  ASSERT_TRUE(until([&] { return shown(*bob2, said.back()) == 1; }));
  bob2->close();
  for (const auto m : say_both(5)) said.push_back(m);
  ASSERT_TRUE(has(d, before()));
  bob2->start(d);
  world.run_for(3s);
  ASSERT_TRUE(has(d, before()));
  hear();
  ASSERT_TRUE(until([&] { return has(d, 2 * before()); }, 30s));
  for (const auto m : say_both(2)) said.push_back(m);
  all_shown(said);
  finish();
}

// People write all the time, through a gateway that splits before the owners, or after them.
TEST_P(DoublingFollow, WhoFollowsMissesNothingAndSeesNothingTwice) {
  start(*alice2, d);
  start(*bob2, d);
  const std::size_t late = GetParam() % 2 == 0 ? d : b;
  deafen(late);
  std::vector<SendIndex> said;
  const auto write = [&](int times) {
    for (int i = 0; i < times; ++i) {
      for (auto* device : {alice, alice2, bob, bob2}) {
        said.push_back(send(*device));
        said.push_back(send(*device, sibling));
        world.run_for(20ms);
      }
    }
  };
  write(5);
  ASSERT_TRUE(agree(a));
  write(20);
  ASSERT_TRUE(has(late, before()));
  hear();
  write(10);
  ASSERT_TRUE(until([&] { return all_have(2 * before()); }, 30s));
  write(5);
  for (const auto m : said) EXPECT_TRUE(acked(m)) << world.trace().text("", 60);
  all_shown(said);
  finish();
}

// What is pushed late is of no stream that the gateway still has; it comes by the new one, once.
TEST_P(DoublingFollow, ALatePushIsShownOnce) {
  start(*bob2, d);
  bool delaying = true;
  int late = 0;
  tap.late_min = 1500ms;
  tap.late_max = 2000ms;
  tap.on_leave = [&](const TapMessage& m) {
    const bool it = m.method == Method::kPush && m.to == d && count_said<node::Push>(m) == before();
    return it && delaying ? Fate::kLate : Fate::kPass;
  };
  tap.on_arrive = [&](const TapMessage& m) {
    if (m.method == Method::kPush && m.to == d && count_said<node::Push>(m) == before()) late += !has(d, before());
  };
  auto said = say_both(3);
  ASSERT_NO_FATAL_FAILURE(double_all(a));
  ASSERT_TRUE(until([&] { return late > 0; }));
  delaying = false;
  for (const auto m : say_both(2)) said.push_back(m);
  all_shown(said);
  finish();
}

// Its answer is lost and the count doubles: the message keeps its key, its number and its place.
TEST_P(DoublingFollow, ARetryFindsItsMessage) {
  bool lose = true;
  SendIndex early = kUnsent, other = kUnsent;
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>&) {
    return lose && (appends(m, early) || appends(m, other)) ? Fate::kLose : Fate::kPass;
  };
  early = send(*alice);
  other = send(*alice, sibling);
  const std::uint64_t had = synced_of(b, "#g", cluster.writer(a));
  ASSERT_TRUE(until([&] { return synced_of(b, "#g", cluster.writer(a)) > had; }));
  ASSERT_TRUE(agree(c));
  ASSERT_TRUE(until([&] { return all_have(2 * before()); }, 30s));
  ASSERT_FALSE(is_acked(early));
  if (GetParam() % 2 == 0) cluster.crash(a, Crash::kPower);
  lose = false;
  EXPECT_TRUE(acked(early, 90s)) << world.trace().text("", 60);
  EXPECT_TRUE(acked(other, 90s));
  all_shown({early, other});
  finish();
}

}  // namespace
}  // namespace starling::sim
