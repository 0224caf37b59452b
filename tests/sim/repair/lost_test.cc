// What must not be thrown away, and what was written off too early: giving up needs everybody's word (hazards F30),
// content beats its loss (decision 0027), a void outlives what it closes (F6).
#include "tests/sim/repair/repair.h"

#include <nlohmann/json.hpp>

namespace starling::sim {
namespace {

// --- Giving up. ---

class GiveUp : public Repair {
 protected:
  explicit GiveUp(std::size_t nodes = 3) : Repair(nodes) {}
  // Whatever is asked of this node in the partition of #g, it cannot read, as it were.
  void answer_damaged(std::size_t from) {
    tap.on_answer = [this, from](const TapMessage& m, const Result<Bytes>&) {
      const auto fetch = m.method == Method::kFetch && m.to == from ? unpack<node::FetchRequest>(m.body)
                                                                    : Result<node::FetchRequest>(Error{});
      if (!fetch || (!all_partitions && fetch->partition != partition)) return Fate::kPass;
      ++refused;
      return Fate::kDamage;
    };
  }
  bool all_partitions = false;
  std::size_t refused = 0;
};

INSTANTIATE_TEST_SUITE_P(Seeds, GiveUp, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

// Hopeless a moment ago; the order to give up asks once more, and a has it.
TEST_P(GiveUp, F30_WhatAReachableMemberHasIsNotWrittenOff) {
  say();
  const Dot bad = say();
  answer_damaged(a);
  rot({b, c}, bad);
  for (const auto owner : {b, c}) EXPECT_EQ(repair(owner, {{"start", true}}).at("damaged"), 1);
  ASSERT_GT(refused, 0u);
  tap.clear();
  const auto answer = repair(b, {{"start", true}, {"give_up", true}});
  EXPECT_EQ(answer.at("lost"), 0) << answer;
  EXPECT_EQ(answer.at("damaged"), 0) << answer;
  EXPECT_TRUE(until([&] { return verify(a).at("same") == options.partitions; }, 60s));
  EXPECT_EQ(lost_of(verify(a)), 0u);
  start(*bob2, b);
  EXPECT_EQ(history_of(*bob2, messages[1]).size(), 1u);
  finish();
}

class GiveUpOfFour : public GiveUp {
 protected:
  GiveUpOfFour() : GiveUp(4) {}
};
INSTANTIATE_TEST_SUITE_P(Seeds, GiveUpOfFour, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

// A member that owns nothing of it may hold it for others: its word is needed as well.
TEST_P(GiveUpOfFour, F30_EveryMemberIsHeardBeforeAnythingIsWrittenOff) {
  std::size_t d = 0;
  while (d == a || d == b || d == c) ++d;
  say();
  const Dot bad = say();
  rot({a, b, c}, bad);
  for (const auto owner : {a, b, c}) EXPECT_EQ(repair(owner, {{"start", true}}).at("damaged"), 1);
  cluster.crash(d, Crash::kPower);
  world.run_for(15s);
  auto answer = repair(b, {{"start", true}, {"give_up", true}});
  EXPECT_EQ(answer.at("lost"), 0) << answer;
  EXPECT_EQ(answer.at("damaged"), 1) << answer;
  ASSERT_TRUE(cluster.restart(d));
  ASSERT_TRUE(until([&] { return cluster.up(d) && cluster.node(d).serving(); }, 120s));
  world.run_for(10s);
  for (const auto owner : {a, b, c}) EXPECT_EQ(give_up(owner).at("damaged"), 0);
  const auto report = verify(a);
  EXPECT_EQ(report.at("same"), options.partitions) << report;
  EXPECT_EQ(lost_of(report), 1u) << report;
}

// --- Written off, and there after all. ---

class Lost : public GiveUp {
 protected:
  Json lost_at(std::size_t i) { return cluster.admin(i, "repair", Json::object())->at("lost"); }
  bool all_agree_that_nothing_is_lost() {
    for (int turn = 0; turn < 30; ++turn) {
      world.run_for(1s);
      const auto report = verify(a);
      if (report.at("same") == options.partitions && lost_of(report) == 0) return true;
    }
    return false;
  }
};
INSTANTIATE_TEST_SUITE_P(Seeds, Lost, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(10)));

// b and c wrote it off while a could not be read; then a can: all have it again, and nothing is lost.
TEST_P(Lost, ContentThatTurnsUpBeatsItsLoss) {
  say();
  const Dot bad = say();
  say();
  answer_damaged(a);
  rot({b, c}, bad);
  ASSERT_EQ(repair(b, {{"start", true}}).at("damaged"), 1);
  for (const auto owner : {b, c}) ASSERT_EQ(give_up(owner).at("damaged"), 0);
  ASSERT_EQ(lost_of(verify(a)), 1u);
  world.run_for(10s);
  for (const auto owner : {b, c}) ASSERT_EQ(lost_at(owner), 1);
  tap.clear();
  EXPECT_TRUE(all_agree_that_nothing_is_lost()) << verify(a);
  // Each has it by itself.
  for (const auto owner : {b, c}) {
    start(*alice2, owner);
    leave_alone(owner);
    for (const auto message : messages) EXPECT_EQ(history_of(*alice2, message).size(), 1u);
    cluster.heal();
    alice2->close();
    ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
    world.run_for(5s);
  }
  finish();
}

// A device that passed the number while the message was lost is shown it when it turns up, without asking.
TEST_P(Lost, ContentThatTurnsUpIsShownToDevicesThatAreOnline) {
  say();
  const Dot bad = say();
  say();
  answer_damaged(a);
  rot({b, c}, bad);
  ASSERT_EQ(repair(b, {{"start", true}}).at("damaged"), 1);
  for (const auto owner : {b, c}) ASSERT_EQ(give_up(owner).at("damaged"), 0);
  // Nor can it be read there.
  tap.on_answer = [this](const TapMessage& m, const Result<Bytes>&) {
    const bool reads = m.method == Method::kFetch || m.method == Method::kRead || m.method == Method::kHeads;
    return reads && m.to == a && m.from != a ? Fate::kDamage : Fate::kPass;
  };
  start(*bob2, b);
  start(*alice2, c);
  ASSERT_TRUE(until([&] { return shown(*bob2, messages[2]) == 1 && shown(*alice2, messages[2]) == 1; }));
  ASSERT_EQ(shown(*bob2, messages[1]) + shown(*alice2, messages[1]), 0u);
  tap.clear();
  EXPECT_TRUE(all_agree_that_nothing_is_lost()) << verify(a);
  EXPECT_EQ(shown(*bob2, messages[1]), 1u);
  EXPECT_EQ(shown(*alice2, messages[1]), 1u);
  for (auto* device : {bob2, alice2}) {
    for (const auto message : messages) EXPECT_EQ(shown(*device, message, true), 0u);
  }
  finish();
}

// c was behind when a wrote a message off, and hears of that first; b has it.
TEST_P(Lost, ALaggingOwnerTakesTheWordOfOneForNothingFinal) {
  const auto said = say_without_c();
  const SendIndex sent = said.first;
  const auto& change = said.second;
  ASSERT_TRUE(change);
  messages.push_back(sent);
  answer_damaged(b);
  rot({a}, change->dot);
  ASSERT_EQ(repair(a, {{"start", true}}).at("damaged"), 1);
  ASSERT_EQ(give_up(a).at("damaged"), 0);
  ASSERT_LT(synced(c, change->dot), change->dot.n);
  // c hears of a alone.
  tap.on_leave = [&](const TapMessage& m) {
    const bool repairs = m.method == Method::kCompare || m.method == Method::kFetch;
    return m.from == c && m.to == b && repairs ? Fate::kHold : Fate::kPass;
  };
  tap.release();
  ASSERT_TRUE(until([&] { return synced(c, change->dot) >= change->dot.n; }, 60s));
  ASSERT_EQ(lost_at(c), 1);
  ASSERT_EQ(lost_at(b), 0) << "it has had it all the time";
  tap.clear();
  EXPECT_TRUE(all_agree_that_nothing_is_lost()) << verify(a);
  start(*bob2, c);
  leave_alone(c);
  EXPECT_EQ(history_of(*bob2, sent).size(), 1u);
  finish();
}

// The ring takes the partition from the only one that has it: it goes when the others have it, too.
TEST_P(Lost, AnOwnerThatLeavesBringsHomeWhatTheOthersWroteOff) {
  all_partitions = true;
  std::map<PartitionId, Dot> dots;
  std::vector<SendIndex> sent;
  for (int n = 0; n < 12; ++n) {
    const std::string group = "#g" + std::to_string(n);
    ASSERT_TRUE(work.add_group(group, {"@alice", "@bob"}));
    const auto of = partition_of(slot_of(mailbox_of(group)), options.partitions);
    if (dots.contains(of)) continue;
    SendIndex one = kUnsent;
    tap.on_leave = [&](const TapMessage& m) {
      const auto x = m.method == Method::kReplicate ? find(m, one) : std::nullopt;
      if (x) dots[of] = x->dot;
      return Fate::kPass;
    };
    one = send(*alice, group);
    ASSERT_TRUE(acked(one));
    sent.push_back(one);
  }
  tap.on_leave = nullptr;
  ASSERT_GE(dots.size(), 6u);
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  answer_damaged(a);
  rot({b, c}, dots);
  for (const auto owner : {b, c}) {
    (void)repair(owner, {{"start", true}});
    ASSERT_EQ(give_up(owner).at("damaged"), 0);
  }
  const auto joined = cluster.add_node(120s);
  ASSERT_TRUE(joined) << joined.error().text;
  std::set<PartitionId> left_by_a;
  for (const auto& [of, owners] : cluster.owner_table(b)) {
    if (dots.contains(of) && std::find(owners.begin(), owners.end(), a) == owners.end()) left_by_a.insert(of);
  }
  world.run_for(5s);
  const auto at_a = cluster.vectors(a);
  for (const auto of : left_by_a) EXPECT_TRUE(at_a.contains(of)) << "dropped before the others had it";
  tap.clear();
  const auto gone = [&] {
    const auto vectors = cluster.vectors(a);
    return std::none_of(left_by_a.begin(), left_by_a.end(), [&](PartitionId of) {
      const auto it = vectors.find(of);
      return it != vectors.end() && !it->second.empty();
    });
  };
  bool dropped = false;
  for (int turn = 0; turn < 60 && !dropped; ++turn) {
    world.run_for(1s);
    dropped = gone();
  }
  EXPECT_TRUE(dropped);
  world.run_for(10s);
  const auto report = verify(b);
  EXPECT_EQ(report.at("same"), options.partitions) << report;
  EXPECT_EQ(report.at("findings").size(), 0u) << report;
  finish();
}

// --- Recalls. ---

class LostRecall : public GiveUp {
 protected:
  // Every owner has the message and the void that took it back, and cannot read the void.
  void spoil() {
    say();
    sent = messages.back();
    const auto& send = record(sent);
    const MessageKey key{work.history().devices()[send.device].id, lane_to(mailbox_of("#g")), send.number};
    tap.on_leave = [this, key](const TapMessage& m) {
      for (const auto& x : m.method == Method::kReplicate ? carried(m) : std::vector<Carried>()) {
        if (x.kind == storage::ChangeKind::kVoid && x.key == key) closed = x;
      }
      return m.method == Method::kCompare ? Fate::kHold : Fate::kPass;  // So nobody erases the body.
    };
    const auto index = alice->recall(sent);
    ASSERT_TRUE(until([&] { return work.history().recalls()[index].outcome == Outcome::kAcked; }));
    ASSERT_TRUE(closed);
    ASSERT_EQ(to_text(closed->id), send.id);
    ASSERT_TRUE(until([&] {
      return synced(a, closed->dot) >= closed->dot.n && synced(b, closed->dot) >= closed->dot.n &&
             synced(c, closed->dot) >= closed->dot.n;
    }));
    tap.clear();
    ASSERT_NO_FATAL_FAILURE(rot({a, b, c}, closed->dot));
  }
  SendIndex sent = kUnsent;
  std::optional<Carried> closed;
};

INSTANTIATE_TEST_SUITE_P(Seeds, LostRecall, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

// The void stood where the message had stood; the message must not stand there again.
TEST_P(LostRecall, WhatWasTakenBackStaysTakenBackWhenItsVoidIsWrittenOff) {
  ASSERT_NO_FATAL_FAILURE(spoil());
  for (const auto owner : {a, b, c}) ASSERT_EQ(repair(owner, {{"start", true}}).at("damaged"), 1);
  for (const auto owner : {a, b, c}) EXPECT_EQ(give_up(owner).at("damaged"), 0);
  ASSERT_TRUE(cluster.run_until_quiet(60s));
  EXPECT_EQ(verify(a).at("same"), options.partitions);
  for (const auto owner : {a, b, c}) {
    start(*bob2, owner);
    EXPECT_TRUE(history_of(*bob2, sent).empty()) << owner;
    bob2->close();
  }
  EXPECT_EQ(shown(*bob2, sent), 0u);
  // It is a recall still.
  ASSERT_TRUE(caught_up(*alice));
  const auto again = alice->recall(sent);
  ASSERT_TRUE(until([&] { return work.history().recalls()[again].outcome != Outcome::kPending; }));
  EXPECT_EQ(work.history().recalls()[again].outcome, Outcome::kAcked);
  EXPECT_EQ(work.history().recalls()[again].id, record(sent).id);
}

// Of a message that may come back it is not said for good that there is none.
TEST_P(LostRecall, WhatWasWrittenOffIsNotTakenBackAndMayBeLater) {
  say();
  const Dot bad = say();
  const SendIndex gone = messages.back();
  say();
  rot({a, b, c}, bad);
  for (const auto owner : {a, b, c}) ASSERT_EQ(repair(owner, {{"start", true}}).at("damaged"), 1);
  for (const auto owner : {a, b, c}) ASSERT_EQ(give_up(owner).at("damaged"), 0);
  ASSERT_TRUE(cluster.run_until_quiet(60s));
  ASSERT_EQ(lost_of(verify(a)), 1u);
  ASSERT_TRUE(caught_up(*alice));
  const auto index = alice->recall(gone);
  ASSERT_TRUE(until([&] { return work.history().recalls()[index].outcome != Outcome::kPending; }, 60s));
  EXPECT_NE(work.history().recalls()[index].outcome, Outcome::kRefused);
  EXPECT_EQ(work.history().recalls()[index].error, Errc::kUnavailable);
}

// --- Two copies, of which one had lost. ---

// A message that two coordinators made (hazards F7). All have both copies; a erased the one that lost, because all have
// the one that won, and b and c are about to.
class TwoCopies : public GiveUp {
 protected:
  void make_two() {
    say();
    tap.on_leave = [&](const TapMessage& m) {
      const auto x = m.method == Method::kReplicate && m.from == a ? find(m, sent) : std::nullopt;
      if (!x) return Fate::kPass;
      won = x;
      return Fate::kLose;
    };
    sent = send(*alice);
    ASSERT_TRUE(until([&] { return won.has_value(); }));
    isolate(a);
    ASSERT_TRUE(until([&] { return synced(a, won->dot) == won->dot.n; }));
    cluster.crash(a, Crash::kProcess);
    std::set<std::size_t> has_both;  // Of b and c: they do not learn what others have.
    tap.on_leave = [&](const TapMessage& m) {
      if (const auto x = m.method == Method::kReplicate ? find(m, sent) : std::nullopt) lost = x;
      return m.method == Method::kCompare && has_both.contains(m.from) ? Fate::kHold : Fate::kPass;
    };
    ASSERT_TRUE(acked(sent));
    ASSERT_TRUE(lost && won->id < lost->id);
    cluster.heal();
    ASSERT_TRUE(cluster.restart(a));
    const auto all_have_both = [&] {
      for (const auto i : {b, c}) {
        if (synced(i, won->dot) >= won->dot.n) has_both.insert(i);
      }
      return has_both.size() == 2 && synced(a, lost->dot) >= lost->dot.n;
    };
    ASSERT_TRUE(until(all_have_both, 60s));
    world.run_for(30s);  // a erases.
    std::vector<bool> has_the_other;
    alter({a, b, c}, [&](storage::Engine& engine, rocksdb::WriteBatch& batch) {
      tap.clear();
      const auto key_of = [&](const Dot& dot) {
        return storage::log_key(first_slot(partition, options.partitions), dot);
      };
      rocksdb::PinnableSlice row;
      has_the_other.push_back(*engine.get(storage::ColumnFamily::kLog, key_of(lost->dot).view(), row));
      row.Reset();
      ASSERT_TRUE(*engine.get(storage::ColumnFamily::kLog, key_of(won->dot).view(), row));
      Bytes value(row.data(), row.size());
      value[value.size() / 2] ^= 1;
      engine.put(batch, storage::ColumnFamily::kLog, key_of(won->dot).view(), value);
    });
    ASSERT_EQ(has_the_other, (std::vector<bool>{false, true, true}));
  }

  // Every owner, and in the place that devices were told.
  void expect_one_message() {
    ASSERT_TRUE(cluster.run_until_quiet(60s));
    world.run_for(30s);
    const auto report = verify(a);
    EXPECT_EQ(report.at("same"), options.partitions) << report;
    ASSERT_TRUE(caught_up(*alice));
    EXPECT_TRUE(acked(send(*alice)));
    for (const auto owner : {a, b, c}) {
      start(*bob2, owner);
      leave_alone(owner);
      EXPECT_EQ(history_of(*bob2, sent), std::vector<std::string>{to_text(won->id)}) << owner;
      bob2->close();
      cluster.heal();
      for (int turn = 0; turn < 300 && !sees_all_owners(owner); ++turn) world.run_for(100ms);
    }
    // Nobody is shown it twice.
    for (const auto* device : {alice, bob, bob2}) EXPECT_LE(shown(*device, sent), 1u);
  }

  SendIndex sent = kUnsent;
  std::optional<Carried> won, lost;
};
INSTANTIATE_TEST_SUITE_P(Seeds, TwoCopies, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

TEST_P(TwoCopies, WhenTheOneThatWonIsWrittenOffTheOtherIsTheMessageEverywhere) {
  ASSERT_NO_FATAL_FAILURE(make_two());
  for (const auto owner : {a, b, c}) ASSERT_EQ(repair(owner, {{"start", true}}).at("damaged"), 1);
  for (const auto owner : {a, b, c}) EXPECT_EQ(give_up(owner).at("damaged"), 0);
  expect_one_message();
}

// Nothing was looked through since they were started: that it is damaged is known from before, which copies there are is
// not. a writes off on the operator's word, the others by themselves.
TEST_P(TwoCopies, AfterARestartWhoHearsOfTheLossFindsTheOtherOneAllTheSame) {
  ASSERT_NO_FATAL_FAILURE(make_two());
  for (const auto owner : {a, b, c}) ASSERT_EQ(repair(owner, {{"start", true}}).at("damaged"), 1);
  ASSERT_NO_FATAL_FAILURE(alter({a, b, c}, [](storage::Engine&, rocksdb::WriteBatch&) {}));
  Json answer;
  for (int turn = 0; turn < 30; ++turn) {
    answer = repair(a, {{"give_up", true}});
    if (answer.at("damaged") == 0) break;
    world.run_for(1s);
  }
  EXPECT_EQ(answer.at("damaged"), 0) << answer;
  world.run_for(40s);
  for (const auto owner : {b, c}) EXPECT_EQ(repair(owner, Json::object()).at("damaged"), 0);
  for (const auto owner : {a, b, c}) (void)repair(owner, {{"start", true}});
  expect_one_message();
}

// --- Voids. ---

class Voids : public Hazards {
 protected:
  static constexpr auto kRetention = 60s;
  Voids() { cluster.set_retention(kRetention); }
};

INSTANTIATE_TEST_SUITE_P(Seeds, Voids, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

// A content that a kept to itself, with a clock that was ahead, and the void that closed its number.
TEST_P(Voids, F06_AVoidOutlivesWhatItCloses) {
  start(*alice, b);
  start(*bob, a);
  ASSERT_TRUE(acked(send(*bob)));
  SendIndex kept = kUnsent;
  std::optional<Carried> content;
  std::uint64_t content_expires = 0, void_expires = 0, void_ms = 0;
  const auto look = [&](const TapMessage& m) {
    const auto replicate = m.method == Method::kReplicate ? unpack<node::Replicate>(m.body)
                                                          : Result<node::Replicate>(Error{});
    if (!replicate) return;
    for (const auto& run : replicate->runs) {
      for (std::size_t i = 0; i < run.changes.size(); ++i) {
        const auto change = storage::decode(run.changes[i].data, {replicate->writer, run.first + i});
        if (!change || change->kind == storage::ChangeKind::kRegister) continue;
        const bool is_void = change->kind == storage::ChangeKind::kVoid;
        if (is_void && content && change->entry.key == content->key) {
          void_expires = change->entry.expires_ms;
          void_ms = hlc_ms(change->entry.id.time);
        }
        if (!is_void && content && change->entry.key == content->key) content_expires = change->entry.expires_ms;
      }
    }
  };
  tap.on_leave = [&](const TapMessage& m) {
    const auto x = find(m, kept);
    if (m.method != Method::kReplicate || m.from != a || !x || void_expires > 0) return Fate::kPass;
    content = x;
    look(m);
    return Fate::kLose;
  };
  tap.on_arrive = look;
  for (const auto step : {1800ms, 1800ms, 1200ms}) {
    cluster.clock_step(a, step);
    world.run_for(700ms);
  }
  kept = send(*bob);
  ASSERT_TRUE(until([&] { return content.has_value(); }));
  isolate(a);
  ASSERT_TRUE(until([&] { return synced(a, content->dot) == content->dot.n; }));
  bob->close();
  cluster.crash(a, Crash::kProcess);
  cluster.heal();
  ASSERT_TRUE(manage([&](auto done) { alice->client().remove_member("#g", "@bob", done); }));
  bob->start(b);
  ASSERT_TRUE(until([&] { return void_expires > 0 && bob->ready(); }));
  ASSERT_TRUE(manage([&](auto done) { alice->client().add_member("#g", "@bob", 0, done); }));
  ASSERT_GT(content_expires, 0u);
  const auto retention = static_cast<std::uint64_t>(to_ms(kRetention));
  EXPECT_EQ(void_expires, void_ms + 2 * retention);
  EXPECT_GT(void_expires, content_expires) << "however the clocks stood";
  // Back while the content still lives: for as long as it does, and ever after, it is not shown.
  world.run_for(kRetention - 20s);
  ASSERT_TRUE(cluster.restart(a));
  ASSERT_TRUE(until([&] { return cluster.all_serving() && caught_up(*alice); }, 60s));
  for (int turn = 0; turn < 40; ++turn) {
    world.run_for(2s);
    EXPECT_TRUE(history_of(*alice, kept).empty()) << turn;
  }
  EXPECT_EQ(still_shown_on(kept), 0u);
}

}  // namespace
}  // namespace starling::sim
