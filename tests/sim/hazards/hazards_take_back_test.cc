// Hazards F22, F23 and F42 of a message that was acknowledged and is taken back: by any device of its sender's, through
// any owner, in any order with the message itself. hazards.h says how; what a sender gives up: hazards_recall_test.cc.
#include <nlohmann/json.hpp>

#include "tests/sim/hazards/hazards.h"
#include "tests/sim/world/metrics.h"

namespace starling::sim {
namespace {

class TakeBacks : public Hazards {
 public:
  using Hazards::Hazards;

 protected:
  [[nodiscard]] MessageKey key_of(SendIndex i) {
    const auto& send = record(i);
    return {work.history().devices()[send.device].id, lane_to(mailbox_of(send.to)), send.number};
  }
  [[nodiscard]] const RecallRecord& asked(History::RecallIndex i) { return work.history().recalls()[i]; }
  // Asked again while that may help.
  Result<std::string> recall(SimDevice& device, SendIndex i, Duration limit = 60s) {
    const Instant end = world.now() + limit;
    while (true) {
      const auto index = device.recall(i);
      EXPECT_TRUE(until([&] { return asked(index).outcome != Outcome::kPending; }, 30s));
      const RecallRecord done = asked(index);
      if (done.outcome == Outcome::kAcked) return done.id;
      if (done.outcome == Outcome::kRefused || world.now() >= end) return Error{done.error, "not taken back"};
      world.run_for(200ms);
    }
  }
  [[nodiscard]] std::optional<Carried> void_in(const std::vector<Carried>& changes, SendIndex i) {
    for (const auto& change : changes) {
      if (i != kUnsent && change.kind == storage::ChangeKind::kVoid && change.key == key_of(i)) return change;
    }
    return std::nullopt;
  }
  [[nodiscard]] static bool recalls(const TapMessage& m, std::uint8_t flags = node::kAppendRecall) {
    if (m.method != Method::kAppend) return false;
    const auto request = unpack<node::AppendRequest>(m.body);
    return request && (request->flags & flags) == flags;
  }
  [[nodiscard]] std::size_t told(const SimDevice& device, SendIndex i) {
    std::size_t times = 0;
    for (const auto& d : work.history().deliveries()) {
      times += d.device == device.index() && d.is_void && d.key == key_of(i);
    }
    return times;
  }
  // In some log of the node, whatever shows of it.
  [[nodiscard]] bool logs_body(std::size_t node, SendIndex i) {
    auto& store = cluster.store(node);
    for (const auto part : store.touched()) {
      const auto vector = store.vector(part);
      for (const auto& dot : vector.dots()) {
        const auto range = store.read_writer(part, dot.writer, 1, 1 << 30);
        if (!range) continue;
        for (const auto& item : range->live) {
          const auto change = storage::decode(item.change.data, {dot.writer, item.n});
          const bool entry = change && change->kind == storage::ChangeKind::kEntry;
          if (entry && body_hash(change->entry.body) == record(i).hash) return true;
        }
      }
    }
    return false;
  }
  [[nodiscard]] std::string logs(SendIndex i) {
    std::string out;
    for (std::size_t n = 0; n < cluster.size(); ++n) {
      if (cluster.up(n) && logs_body(n, i)) out += " n" + std::to_string(n);
    }
    return out;
  }
  void send_to_all() {
    start(*alice, a);
    start(*alice2, b);
    start(*bob, b);
    start(*bob2, c);
    sent = send(*alice);
    ASSERT_TRUE(acked(sent));
    ASSERT_TRUE(cluster.run_until_quiet(30s));
    ASSERT_TRUE(until([&] { return shown(*bob, sent) == 1 && shown(*bob2, sent) == 1 && shown(*alice2, sent) == 1; }));
  }
  // Gone from every log, shown by no device, unknown to a new one; then the judges.
  void expect_taken_back(SendIndex i) {
    cluster.heal();
    tap.clear();
    work.wake_all();
    ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 120s));
    ASSERT_TRUE(cluster.run_until_quiet(60s));
    // Who was started anew knows of what to erase when it has read everything, as it does once a day.
    for (std::size_t n = 0; n < cluster.size(); ++n) ASSERT_TRUE(cluster.admin(n, "repair", {{"start", true}}));
    EXPECT_TRUE(until([&] { return logs(i).empty(); }, 120s)) << "still in the logs of" << logs(i);
    SimDevice& late = work.add_device("@bob", "late");
    start(late, c);
    world.run_for(1s);
    EXPECT_EQ(shown(late, i), 0u);
    EXPECT_EQ(told(late, i), 0u) << "it never had it";
    finish();
    for (const auto* device : {alice2, bob, bob2}) EXPECT_LE(told(*device, i), 1u);
    EXPECT_EQ(still_shown_on(i), 0u);
  }

  SendIndex sent = kUnsent;
  bool asked_back = false;
};

class TakeBacksAmongFive : public TakeBacks {
 protected:
  TakeBacksAmongFive() : TakeBacks(5) {}
  [[nodiscard]] std::vector<std::size_t> others() {
    std::vector<std::size_t> out;
    for (std::size_t n = 0; n < cluster.size(); ++n) {
      if (n != a && n != b && n != c) out.push_back(n);
    }
    return out;
  }
};

INSTANTIATE_TEST_SUITE_P(Seeds, TakeBacks, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));
INSTANTIATE_TEST_SUITE_P(Seeds, TakeBacksAmongFive, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

// By another device than sent it, while one that shows it is away: that hears of it when it comes back by its cursor.
TEST_P(TakeBacks, F42_WhoShowsItIsToldAndWhoWasAwayIsToldWhenHeReturns) {
  send_to_all();
  bob2->close();
  const auto id = recall(*alice2, sent);
  ASSERT_TRUE(id.ok()) << id.error().text;
  EXPECT_EQ(*id, record(sent).id);
  ASSERT_TRUE(until([&] { return told(*alice, sent) == 1 && told(*alice2, sent) == 1 && told(*bob, sent) == 1; }));
  EXPECT_EQ(told(*bob2, sent), 0u);
  EXPECT_TRUE(history_of(*bob, sent).empty());
  start(*bob2, a);
  ASSERT_TRUE(until([&] { return told(*bob2, sent) == 1; }));
  // Once more, by the device that sent it: the same answer, and nothing new.
  const auto again = recall(*alice, sent);
  ASSERT_TRUE(again.ok()) << again.error().text;
  EXPECT_EQ(*again, *id);
  ASSERT_TRUE(acked(send(*alice))) << "the lane goes on";
  expect_taken_back(sent);
}

TEST_P(TakeBacks, SomebodyElseIsRefusedAndNothingHappens) {
  send_to_all();
  const auto id = recall(*bob, sent);
  ASSERT_FALSE(id.ok());
  EXPECT_EQ(id.code(), Errc::kNotFound) << "it tells a stranger that there is such a message";
  // Nor is there a message of the device's own under a number that was never sent.
  const SendIndex none = work.history().invoke(bob->index(), "#g", "never sent", world.now());
  work.history().failed(none, Outcome::kRefused, Errc::kOverloaded, world.now());
  const auto nothing = recall(*bob, none);
  ASSERT_FALSE(nothing.ok());
  EXPECT_EQ(nothing.code(), Errc::kNotFound);
  double refused = 0;
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    refused += metrics_of(world, cluster, i).at("starling_recall_errors_total");
  }
  EXPECT_EQ(refused, 2);
  world.run_for(2s);
  for (const auto* device : {alice, alice2, bob, bob2}) EXPECT_EQ(told(*device, sent), 0u);
  EXPECT_EQ(history_of(*bob, sent).size(), 1u);
}

// The owners are apart: those who took it back, and one that has the message and shows it until it hears.
TEST_P(TakeBacks, F22_AnOwnerThatWasCutOffForgetsTheBodyWhenItReturns) {
  send_to_all();
  isolate(c);
  const auto id = recall(*alice, sent);
  ASSERT_TRUE(id.ok()) << id.error().text;
  ASSERT_TRUE(until([&] { return told(*bob, sent) == 1; }));
  EXPECT_EQ(told(*bob2, sent), 0u);
  world.run_for(15s);
  EXPECT_TRUE(logs_body(a, sent)) << "one owner could have the only copy, for all that it knows";
  EXPECT_TRUE(logs_body(c, sent));
  // Where the void is, nobody new is handed the body.
  SimDevice& fresh = work.add_device("@bob", "fresh");
  start(fresh, a);
  EXPECT_EQ(shown(fresh, sent), 0u);
  expect_taken_back(sent);
  EXPECT_EQ(told(*bob2, sent), 1u);
}

// The owner that is asked lacks the message; it looks for it, fetches it, and sees whose it is.
TEST_P(TakeBacks, F42_AnOwnerThatLacksTheMessageFetchesItFirst) {
  start(*alice, c);
  start(*bob, c);
  bool looked = false;
  std::optional<Carried> closed;
  tap.on_leave = [&](const TapMessage& m) {
    looked |= m.method == Method::kFindKey && m.from == b;
    if (!looked && m.from == a && m.to == b && find(m, sent)) return Fate::kLose;
    if (!looked && m.from == b && m.method == Method::kFetch) return Fate::kHold;  // Nor by catching up.
    return m.from == c && m.to == a && recalls(m) ? Fate::kLose : Fate::kPass;
  };
  tap.on_arrive = [&](const TapMessage& m) {
    if (const auto x = void_in(carried(m), sent); x && m.from == b) closed = x;
  };
  sent = send(*alice);
  ASSERT_TRUE(acked(sent));
  ASSERT_TRUE(until([&] { return shown(*bob, sent) == 1; }));
  ASSERT_FALSE(logs_body(b, sent));
  const auto id = recall(*alice, sent);
  ASSERT_TRUE(id.ok()) << id.error().text;
  EXPECT_EQ(*id, record(sent).id);
  ASSERT_TRUE(looked && closed);
  ASSERT_EQ(closed->dot.writer, cluster.writer(b));
  expect_taken_back(sent);
}

// The void is at an owner before the message: that shows nothing, and keeps nothing.
TEST_P(TakeBacks, F42_AVoidThatOvertakesItsMessageErasesItWhenItComes) {
  start(*alice, a);
  start(*bob, b);
  isolate(c);
  sent = send(*alice);
  ASSERT_TRUE(acked(sent));
  // b takes it back, with c; a, whose change it is, is away, and c may not fetch yet.
  std::optional<Carried> closed;
  bool came = false;
  tap.on_leave = [&](const TapMessage& m) {
    return m.method == Method::kFetch && m.from == c && m.to != c ? Fate::kHold : Fate::kPass;
  };
  tap.on_arrive = [&](const TapMessage& m) {
    if (const auto x = void_in(carried(m), sent); x && m.to == c && !closed) closed = x;
    came |= m.to == c && closed && find(carried(m), sent);
  };
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    came |= m.from == c && closed && find(carried(m, answer), sent);
    return Fate::kPass;
  };
  cluster.heal();
  isolate(a);
  alice->close();
  start(*alice2, b);
  const auto id = recall(*alice2, sent);
  ASSERT_TRUE(id.ok()) << id.error().text;
  ASSERT_TRUE(until([&] { return closed && synced(c, closed->dot) >= closed->dot.n; }));
  ASSERT_FALSE(logs_body(c, sent));
  SimDevice& fresh = work.add_device("@bob", "fresh");
  start(fresh, c);
  tap.on_leave = nullptr;
  tap.release();
  cluster.heal();
  ASSERT_TRUE(until([&] { return came; }, 60s)) << "c never got the message";
  // It is not pushed; whoever follows c reads past the gap, and is shown what comes after it.
  start(*alice, a);
  const SendIndex next = send(*alice);
  ASSERT_TRUE(acked(next));
  ASSERT_TRUE(until([&] { return shown(fresh, next) == 1; }));
  expect_taken_back(sent);
  EXPECT_EQ(shown(fresh, sent), 0u);
}

// The answer to the send is lost: the sender sends it again while another device of his takes it back.
TEST_P(TakeBacks, ARetryOfTheSendIsAnsweredAndBringsNothingBack) {
  start(*alice, a);
  start(*alice2, b);
  start(*bob, c);
  std::size_t answers = 0;
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (!appends(m, sent) || !answer.ok()) return Fate::kPass;
    ++answers;
    return asked_back ? Fate::kPass : Fate::kHold;
  };
  sent = send(*alice);
  ASSERT_TRUE(until([&] { return answers > 0 && shown(*bob, sent) == 1; }));
  ASSERT_FALSE(is_acked(sent));
  const auto id = recall(*alice2, sent);
  ASSERT_TRUE(id.ok()) << id.error().text;
  ASSERT_FALSE(is_acked(sent));
  asked_back = true;
  ASSERT_TRUE(acked(sent));
  EXPECT_EQ(record(sent).id, *id) << "the message's own position";
  // The sender's device twice: what its acknowledgement showed is to be dropped, too.
  ASSERT_TRUE(until([&] { return told(*alice, sent) == 2 && told(*bob, sent) == 1; }));
  expect_taken_back(sent);
}

// A direct message lies in two mailboxes. The coordinator of the recipient's dies with the void there, and none in the
// sender's; who takes up its duties brings it there.
TEST_P(TakeBacks, F23_TheSendersCopyFollowsThoughTheCoordinatorDies) {
  start(*alice, a);
  start(*alice2, b);
  start(*bob, c);
  sent = send(*alice, "@bob");
  ASSERT_TRUE(acked(sent));
  ASSERT_TRUE(until([&] { return shown(*bob, sent) == 1 && shown(*alice2, sent) == 1; }));
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  std::optional<std::size_t> coordinator;
  tap.on_leave = [&](const TapMessage& m) {
    if (!recalls(m, node::kAppendCopy | node::kAppendRecall)) return Fate::kPass;
    if (!coordinator) coordinator = m.from;
    return *coordinator == m.from ? Fate::kHold : Fate::kPass;
  };
  // Asked by a raw hand, so that nobody asks again.
  const auto index = alice->recall(sent);
  ASSERT_TRUE(until([&] { return coordinator.has_value(); }));
  ASSERT_TRUE(until([&] { return told(*bob, sent) == 1 || *coordinator == c; }));
  world.run_for(500ms);
  ASSERT_EQ(told(*alice2, sent), 0u);
  ASSERT_NE(asked(index).outcome, Outcome::kAcked);
  cluster.crash(*coordinator, Crash::kProcess);
  ASSERT_TRUE(until([&] { return told(*alice2, sent) == 1 || !alice2->ready(); }, 60s));
  ASSERT_TRUE(cluster.restart(*coordinator));
  expect_taken_back(sent);
  EXPECT_EQ(told(*alice2, sent), 1u);
  EXPECT_EQ(told(*bob, sent), 1u);
}

// The other way round: the coordinator of the recipient's mailbox, to which the device is connected, loses power with the
// void, of which only the sender's copy is left. Nobody asks again.
TEST_P(TakeBacks, F23_TheRecipientsMailboxFollowsTheSendersCopy) {
  const std::size_t maker = cluster.owners_of("@alice")[0];
  SimDevice* reader = nullptr;
  for (int i = 0; reader == nullptr && i < 60; ++i) {
    const std::string name = "@reader" + std::to_string(i);
    if (cluster.owners_of(name)[0] == maker) continue;
    ASSERT_TRUE(work.add_user(name));
    reader = &work.add_device(name, "d0");
  }
  ASSERT_NE(reader, nullptr);
  const std::string& to = reader->identity().user;
  const std::size_t dies = cluster.owners_of(to)[0];
  start(*alice, dies);
  start(*alice2, maker);
  start(*reader, maker);
  sent = send(*alice, to);
  ASSERT_TRUE(acked(sent));
  ASSERT_TRUE(until([&] { return shown(*reader, sent) == 1 && shown(*alice2, sent) == 1; }));
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  tap.on_leave = [&](const TapMessage& m) {
    const bool repairs = m.method == Method::kFetch || m.method == Method::kCompare || m.method == Method::kHold;
    if (repairs && m.from != m.to) return Fate::kHold;
    return m.method == Method::kReplicate && m.from == dies && void_in(carried(m), sent) ? Fate::kLose : Fate::kPass;
  };
  cluster.disk(dies).hold(true);
  alice->recall(sent);
  ASSERT_TRUE(until([&] { return told(*alice2, sent) == 1; }));
  ASSERT_EQ(told(*reader, sent), 0u);
  cluster.crash(dies, Crash::kPower);
  tap.clear();
  cluster.disk(dies).hold(false);
  ASSERT_TRUE(cluster.restart(dies));
  EXPECT_TRUE(until([&] { return told(*reader, sent) == 1; }, 60s)) << "the sender's devices alone forgot it";
  expect_taken_back(sent);
}

// Of what burns the void outlives every copy.
TEST_P(TakeBacks, F42_TheVoidOfAMessageThatBurnsOutlivesIt) {
  start(*alice, a);
  start(*bob, b);
  sent = alice->send("#g", work.body(*alice), {.lifetime_s = 20});
  ASSERT_TRUE(acked(sent));
  ASSERT_TRUE(until([&] { return shown(*bob, sent) == 1; }));
  const auto id = recall(*alice, sent);
  ASSERT_TRUE(id.ok()) << id.error().text;
  world.run_for(1s);
  const auto look = [&](const MessageKey& key) {
    const auto state = cluster.store(a).find_key(mailbox_of("#g"), key);
    const auto stored = state ? cluster.store(a).read_change(partition, state->dot)
                              : Result<storage::StoredChange>(Error{Errc::kNotFound, ""});
    const auto change = stored ? storage::decode(*stored->bytes, state->dot)
                               : Result<storage::ChangeView>(Error{Errc::kNotFound, ""});
    return change ? change->entry.expires_ms : 0;
  };
  const auto now = static_cast<std::uint64_t>(world.wall_ms());
  EXPECT_GT(look(key_of(sent)), now + 2 * 24 * 3600 * 1000ull) << "longer than a retry can make another copy live";
  world.run_for(60s);
  EXPECT_GT(look(key_of(sent)), now);
  EXPECT_TRUE(history_of(*bob, sent).empty());
}

// Owners b and c are out of reach: a takes it back with a stand-in, which brings the void home.
TEST_P(TakeBacksAmongFive, AStandInHoldsTheVoid) {
  send_to_all();
  auto side = others();
  side.push_back(a);
  alice2->close();
  bob->close();
  bob2->close();
  cluster.partition({side, {b, c}});
  const auto id = recall(*alice, sent);
  ASSERT_TRUE(id.ok()) << id.error().text;
  std::size_t hints = 0;
  for (const auto n : others()) hints += cluster.store(n).hints().size();
  ASSERT_GT(hints, 0u);
  cluster.crash(a, Crash::kPower);
  cluster.heal();
  start(*bob, b);
  ASSERT_TRUE(until([&] { return told(*bob, sent) == 1; }, 60s)) << "what the stand-in holds comes home";
  ASSERT_TRUE(cluster.restart(a));
  expect_taken_back(sent);
}

// Where the message may be with an owner that cannot be asked, nobody says that there is none.
TEST_P(TakeBacksAmongFive, AnOwnerThatCannotKnowDoesNotGuess) {
  start(*alice, a);
  auto with_a = others();
  const std::size_t stays = with_a.back();
  with_a.pop_back();
  with_a.push_back(a);
  // a and a stand-in have the message; b and c do not.
  cluster.partition({with_a, {b, c, stays}});
  sent = send(*alice);
  ASSERT_TRUE(acked(sent));
  alice->close();
  cluster.partition({{a}, with_a.size() > 1 ? std::vector<std::size_t>{with_a.front()} : std::vector<std::size_t>{},
                     {b, c, stays}});
  start(*alice2, b);
  const auto index = alice2->recall(sent);
  ASSERT_TRUE(until([&] { return asked(index).outcome != Outcome::kPending; }, 30s));
  EXPECT_EQ(asked(index).outcome, Outcome::kUnknown) << name(asked(index).error);
  cluster.heal();
  const auto id = recall(*alice2, sent);
  ASSERT_TRUE(id.ok()) << id.error().text;
  expect_taken_back(sent);
}

// Two sides take it back, each for itself.
TEST_P(TakeBacksAmongFive, F22_TwoRecallsAtOnceAreOne) {
  send_to_all();
  const auto away = others();
  cluster.partition({{a, away[0]}, {b, c, away[1]}});
  std::set<Dot> voids;
  tap.on_leave = [&](const TapMessage& m) {
    for (const auto& x : carried(m)) {
      if (x.kind == storage::ChangeKind::kVoid && x.key == key_of(sent)) voids.insert(x.dot);
    }
    return Fate::kPass;
  };
  const auto one = recall(*alice, sent);
  const auto two = recall(*alice2, sent);
  ASSERT_TRUE(one.ok() && two.ok());
  EXPECT_EQ(*one, *two);
  ASSERT_EQ(voids.size(), 2u) << "each side made its own";
  expect_taken_back(sent);
}

}  // namespace
}  // namespace starling::sim
