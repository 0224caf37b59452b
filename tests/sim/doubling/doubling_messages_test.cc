// Messages of the old numbering that arrive under the new one, and the other way round: a partition's number means
// nothing without the count. What is late is passed over or refused, and what it was about comes by another way.
#include "tests/sim/doubling/doubling.h"

namespace starling::sim {
namespace {

class DoublingMessages : public Doubling {
 protected:
  // Of those: sent under the old count, arrived where there is the new one.
  void see(const TapMessage& m, std::uint32_t said) {
    if (said == before() && cluster.up(m.to) && cluster.partitions(m.to) == 2 * before()) ++late;
  }
  // Notices of this kind, between these two, are late from now on: the doubling overtakes them.
  template <class T>
  void delay(Method method, std::size_t from, std::size_t to) {
    tap.late_min = 1500ms;
    tap.late_max = 2000ms;
    tap.on_leave = [this, method, from, to](const TapMessage& m) {
      const bool it = m.method == method && m.from == from && m.to == to && count_said<T>(m) == before();
      return it && delaying ? Fate::kLate : Fate::kPass;
    };
    tap.on_arrive = [this, method](const TapMessage& m) {
      if (m.method == method) see(m, count_said<T>(m));
    };
    delaying = true;
  }

  bool delaying = false;
  int late = 0;
};

INSTANTIATE_TEST_SUITE_P(Seeds, DoublingMessages, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

// Acknowledged by a and b; what c is told of it comes late, and says nothing to c any more.
TEST_P(DoublingMessages, AnAcknowledgedChangeReachesTheThirdOwnerByTheNewNumbers) {
  delay<node::Replicate>(Method::kReplicate, a, c);
  const auto said = say_both(3);
  ASSERT_NO_FATAL_FAILURE(double_all(b));
  ASSERT_TRUE(until([&] { return late > 0; }));
  delaying = false;
  say_both();
  all_shown(said);
  finish();
}

// Nobody but its coordinator has it when that splits.
TEST_P(DoublingMessages, AChangeInFlightIsAcknowledgedUnderTheNewNumbers) {
  SendIndex early = kUnsent, other = kUnsent;
  tap.late_min = 1500ms;
  tap.late_max = 2000ms;
  bool hold = true;
  tap.on_leave = [&](const TapMessage& m) {
    return hold && m.method == Method::kReplicate && m.from == a ? Fate::kLate : Fate::kPass;
  };
  tap.on_arrive = [&](const TapMessage& m) {
    if (m.method == Method::kReplicate && (find(m, early) || find(m, other))) see(m, count_said<node::Replicate>(m));
  };
  early = send(*alice);
  other = send(*alice, sibling);
  world.run_for(100ms);
  ASSERT_FALSE(is_acked(early) || is_acked(other));
  ASSERT_NO_FATAL_FAILURE(double_all(c));
  ASSERT_FALSE(is_acked(early) || is_acked(other));
  ASSERT_TRUE(until([&] { return late > 0; }));
  hold = false;
  EXPECT_TRUE(acked(early)) << world.trace().text("", 60);
  EXPECT_TRUE(acked(other)) << world.trace().text("", 60);
  say_both();
  all_shown({early, other});
  finish();
}

// The same, and the coordinator dies before it could tell anybody under the new numbers either.
TEST_P(DoublingMessages, AChangeInFlightOfACoordinatorThatDies) {
  SendIndex early = kUnsent;
  tap.on_leave = [&](const TapMessage& m) {
    return m.method == Method::kReplicate && m.from == a ? Fate::kLate : Fate::kPass;
  };
  tap.late_min = 1500ms;
  tap.late_max = 2000ms;
  early = send(*alice);
  world.run_for(100ms);
  ASSERT_FALSE(is_acked(early));
  ASSERT_TRUE(agree(c));
  ASSERT_TRUE(until([&] { return all_have(2 * before()); }, 30s));
  cluster.crash(a, GetParam() % 2 == 0 ? Crash::kProcess : Crash::kPower);
  tap.clear();
  EXPECT_TRUE(acked(early, 90s)) << world.trace().text("", 60);
  ASSERT_TRUE(cluster.restart(a));
  all_shown({early});
  finish();
}

// An acknowledgement of the parent says nothing about the child that has its number now.
TEST_P(DoublingMessages, ALateAcknowledgementCountsForNoChild) {
  delay<node::Replicated>(Method::kReplicated, b, a);
  const auto said = say_both(2);
  ASSERT_NO_FATAL_FAILURE(double_all(c));
  ASSERT_TRUE(until([&] { return late > 0; }));
  delaying = false;
  say_both(2);
  all_shown(said);
  finish();
}

class DoublingFetches : public DoublingMessages {
 protected:
  // c lacks what it is told from now on, and has to fetch it.
  void starve_c() {
    tap.on_leave = [this](const TapMessage& m) {
      return starving && m.method == Method::kReplicate && m.to == c ? Fate::kLose : Fate::kPass;
    };
    starving = true;
  }
  void see_fetches() {
    tap.on_arrive = [this](const TapMessage& m) {
      if (m.method == Method::kFetch && m.from == c) see(m, count_said<node::FetchRequest>(m));
    };
  }
  bool starving = false;
};

INSTANTIATE_TEST_SUITE_P(Seeds, DoublingFetches, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

// Asked under the old numbers, heard under the new ones: "all gone" of a stranger would be believed.
TEST_P(DoublingFetches, ALateFetchIsNotAnsweredForAnotherPartition) {
  starve_c();
  see_fetches();
  const auto drop = tap.on_leave;
  int held = 0;
  tap.on_leave = [&](const TapMessage& m) {
    if (m.method == Method::kFetch && m.from == c && count_said<node::FetchRequest>(m) == before()) {
      ++held;
      return Fate::kHold;
    }
    return drop(m);
  };
  const auto said = say_both(3);
  ASSERT_TRUE(until([&] { return held > 0; }, 30s)) << world.trace().text("", 60);
  ASSERT_TRUE(agree(b));
  ASSERT_TRUE(until([&] { return all_have(2 * before()); }, 30s));
  tap.release();
  ASSERT_TRUE(until([&] { return late > 0; }));
  starving = false;
  all_shown(said);
  finish();
}

// Its answer, given under the old numbers, comes when c has the new ones.
TEST_P(DoublingFetches, ALateAnswerIsNotAppliedToAnotherPartition) {
  starve_c();
  int held = 0;
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (m.method != Method::kFetch || m.from != c || !answer || cluster.partitions(c) != before()) return Fate::kPass;
    ++held;
    return Fate::kHold;
  };
  const auto said = say_both(3);
  ASSERT_TRUE(until([&] { return held > 0; }, 30s)) << world.trace().text("", 60);
  ASSERT_TRUE(agree(b));
  ASSERT_TRUE(until([&] { return all_have(2 * before()); }, 30s));
  tap.on_answer = nullptr;
  tap.release();
  starving = false;
  all_shown(said);
  finish();
}

// c keeps the old count for a while, and compares with those who have the new one.
TEST_P(DoublingFetches, AnOwnerWithTheOldCountIsToldNothingUntilItFollows) {
  starve_c();
  tap.on_arrive = [this](const TapMessage& m) {
    if (m.method == Method::kCompare && m.from == c) see(m, count_said<node::CompareRequest>(m));
  };
  deafen(c);
  auto said = say_both(3);
  ASSERT_TRUE(agree(b));
  ASSERT_TRUE(until([&] { return have({a, b}, 2 * before()); }, 30s));
  for (const auto m : say_both(3)) said.push_back(m);
  ASSERT_TRUE(until([&] { return late > 0; }, 60s)) << "c asks nobody";
  world.run_for(2s);
  ASSERT_TRUE(has(c, before()));
  starving = false;
  hear();
  ASSERT_TRUE(until([&] { return has(c, 2 * before()); }, 30s));
  all_shown(said);
  finish();
}

// And the reverse: those who keep the old count are asked by c, which has the new one.
TEST_P(DoublingFetches, AnOwnerWithTheNewCountLearnsNothingFalseFromTheOthers) {
  starve_c();
  auto said = say_both(3);
  deafen(a);
  ASSERT_TRUE(agree(c));
  ASSERT_TRUE(until([&] { return have({b, c}, 2 * before()); }, 30s));
  world.run_for(2s);
  ASSERT_TRUE(has(a, before()));
  starving = false;
  hear();
  ASSERT_TRUE(until([&] { return has(a, 2 * before()); }, 30s));
  for (const auto m : say_both(3)) said.push_back(m);
  all_shown(said);
  finish();
}

}  // namespace
}  // namespace starling::sim
