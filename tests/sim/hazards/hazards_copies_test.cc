// Hazards F7 to F10: two copies of one message, reads that are behind, retries. hazards.h says how.
#include "tests/sim/hazards/hazards.h"

#include <nlohmann/json.hpp>

namespace starling::sim {
namespace {

class Copies : public Hazards {
 protected:
  // A message that a alone has, as idA; retried elsewhere it is acknowledged as idB, above. a is
  // down and cut off.
  void make_two_copies() {
    start(*alice, a);
    start(*bob, b);
    start(*bob2, c);
    ASSERT_TRUE(acked(send(*alice)));
    tap.on_leave = [this](const TapMessage& m) {
      const auto x = find(m, sent);
      if (m.method != Method::kReplicate || m.from != a || !x) return Fate::kPass;
      at_a = x;
      return Fate::kLose;
    };
    sent = send(*alice);
    ASSERT_TRUE(until([&] { return at_a.has_value(); }));
    isolate(a);
    ASSERT_TRUE(until([&] { return synced(a, at_a->dot) == at_a->dot.n; }));
    cluster.crash(a, Crash::kProcess);
    ASSERT_TRUE(acked(sent));
    ASSERT_LT(at_a->id, acked_id(sent));
    ASSERT_TRUE(until([&] { return shown(*bob, sent) == 1 && shown(*bob2, sent) == 1; }));
    tap.clear();
  }

  SendIndex sent = kUnsent;
  std::optional<Carried> at_a;
};

INSTANTIATE_TEST_SUITE_P(Seeds, Copies, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(10)));

// a returns with idA < idB: the message stays the one that was acknowledged, at one position.
TEST_P(Copies, F07_AMessageIsItsKeyWhicheverCopyMeetsWhich) {
  make_two_copies();
  std::set<std::size_t> got_a;  // Who got idA,
  bool a_got_b = false;         // and whether a got idB.
  const auto see = [&](std::size_t who, const std::optional<Carried>& x) {
    if (x && x->id == at_a->id) got_a.insert(who);
    a_got_b |= x && who == a && x->id == acked_id(sent);
  };
  tap.on_arrive = [&](const TapMessage& m) {
    if (m.method == Method::kReplicate) see(m.to, find(m, sent));
  };
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (m.method == Method::kFetch) see(m.from, find(carried(m, answer), sent));
    return Fate::kPass;
  };
  cluster.heal();
  ASSERT_TRUE(cluster.restart(a));
  ASSERT_TRUE(until([&] { return a_got_b && got_a.contains(b) && got_a.contains(c); }, 60s));
  const auto next = send(*alice);
  ASSERT_TRUE(acked(next));
  EXPECT_LT(acked_id(sent), acked_id(next));
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  // Whichever owner is asked: the first copy is the position.
  auto& fresh = work.add_device("@bob", "d2");
  for (const auto at : {a, b, c}) {
    start(fresh, at);
    leave_alone(at);  // It answers itself.
    EXPECT_EQ(history_of(fresh, sent), std::vector<std::string>{to_text(at_a->id)});
    fresh.close();
    cluster.heal();
    for (int turn = 0; turn < 300 && !sees_all_owners(at); ++turn) world.run_for(100ms);
  }
  finish();
}

// A device read idB from b; then it reads from a, which knows idA only.
TEST_P(Copies, F08_ADeviceShowsAMessageOnceWhicheverReplicaItReads) {
  make_two_copies();
  bob->close();
  bob2->close();
  ASSERT_TRUE(cluster.restart(a));  // Still cut off.
  bob->start(a);
  bob2->start(a);
  ASSERT_TRUE(until([&] { return shown(*bob, sent, true) == 1 && shown(*bob2, sent, true) == 1; }));
  for (const auto& d : work.history().deliveries()) {
    if (d.again && d.hash == record(sent).hash) {
      EXPECT_EQ(d.id, to_text(at_a->id));
    }
  }
  EXPECT_EQ(shown(*bob, sent), 1u);
  EXPECT_EQ(shown(*bob2, sent), 1u);
  finish();
}

// One more node, d, that owns nothing of #g: the gateway of bob.
class FarGateway : public Hazards {
 protected:
  FarGateway() : Hazards(4) {}
  void SetUp() override {
    Hazards::SetUp();
    while (d == a || d == b || d == c) ++d;
    tap.on_answer = [this](const TapMessage& m, const Result<Bytes>& answer) {
      if (follows_group(m) && answer) followed = m.to;
      return Fate::kPass;
    };
  }
  // A read of #g, of the followed owner, by the gateway for a device that logs in.
  bool reads_group(const TapMessage& m) {
    if (m.method != Method::kRead || m.from != d || m.to != followed) return false;
    const auto read = unpack<node::ReadRequest>(m.body);
    return read && read->mailbox == mailbox_of("#g");
  }
  bool follows_group(const TapMessage& m) {
    if (m.method != Method::kFollow || m.from != d) return false;
    const auto follow = unpack<node::FollowRequest>(m.body);
    return follow && follow->partition == partition;
  }

  std::size_t d = 0;
  std::optional<std::size_t> followed;  // Of #g, by d.
};

INSTANTIATE_TEST_SUITE_P(Seeds, FarGateway, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(10)));

// The answer of a login's read is slow; the stream of the gateway is past it when it comes.
TEST_P(FarGateway, F09_AReadOlderThanTheStreamDoesNotJoinIt) {
  start(*alice, b);
  start(*bob, d);
  ASSERT_TRUE(acked(send(*alice)));
  ASSERT_TRUE(until([&] { return shown(*bob, 0) == 1; }));
  SendIndex missed = kUnsent;
  std::optional<storage::VersionVector> answered;
  std::optional<Carried> pushed;
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (!reads_group(m) || answered || !answer) return Fate::kPass;
    answered = unpack<node::ReadReply>(*answer)->cursor;
    return Fate::kHold;
  };
  tap.on_arrive = [&](const TapMessage& m) {
    if (m.method == Method::kPush && m.to == d) {
      if (auto x = find(m, missed)) pushed = x;
    }
  };
  bob2->start(d);
  ASSERT_TRUE(until([&] { return answered.has_value(); }));
  missed = send(*alice);  // And nothing after it, that would show the gap.
  ASSERT_TRUE(until([&] { return pushed && shown(*bob, missed) == 1; }, 2s));
  ASSERT_FALSE(answered->covers(pushed->dot));
  ASSERT_EQ(tap.held(), 1u);
  tap.release();
  EXPECT_TRUE(until([&] { return shown(*bob2, missed) == 1; }, 5s));
  finish();
}

// One owner answered the login's read; when it comes, the gateway follows another, whose stream
// begins after what the first had pushed meanwhile.
TEST_P(FarGateway, F09_AReadOfAnOwnerThatWasLeftDoesNotJoinTheStreamOfAnother) {
  start(*alice, b);
  start(*bob, d);
  ASSERT_TRUE(acked(send(*alice)));
  ASSERT_TRUE(until([&] { return shown(*bob, 0) == 1; }));
  SendIndex missed = kUnsent;
  std::optional<std::size_t> reader;
  std::optional<storage::VersionVector> answered;
  std::optional<Carried> pushed;
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (follows_group(m) && answer) followed = m.to;
    if (!reads_group(m) || reader || !answer) return Fate::kPass;
    reader = m.to;
    answered = unpack<node::ReadReply>(*answer)->cursor;
    return Fate::kHold;
  };
  tap.on_arrive = [&](const TapMessage& m) {
    if (m.method == Method::kPush && m.to == d) {
      if (auto x = find(m, missed); x && reader == m.from) pushed = x;
    }
  };
  bob2->start(d);
  ASSERT_TRUE(until([&] { return reader.has_value(); }));
  missed = send(*alice);
  ASSERT_TRUE(until([&] { return pushed && shown(*bob, missed) == 1; }, 500ms));
  cluster.crash(*reader, Crash::kProcess);
  ASSERT_TRUE(until([&] { return followed && followed != reader; }, 2900ms));
  ASSERT_FALSE(answered->covers(pushed->dot));
  ASSERT_EQ(tap.held(), 1u);
  tap.release();
  EXPECT_TRUE(until([&] { return shown(*bob2, missed) == 1; }, 5s));
  finish();
}

class Retries : public Hazards {
 protected:
  std::uint64_t dedup_hits(std::size_t i) {
    const auto status = cluster.admin(i, "status", Json::object());
    return status ? status->at("rates").at("dedup_hits").get<std::uint64_t>() : 0;
  }
  bool is_retry(const TapMessage& m) {
    const auto request = unpack<node::AppendRequest>(m.body);
    return request && (request->flags & node::kAppendRetry) != 0;
  }
  void hold_disks_of_others(bool on) {
    cluster.disk(b).hold(on);
    cluster.disk(c).hold(on);
  }
  // Every dot that ever carries `sent`.
  void watch() {
    tap.on_leave = [this](const TapMessage& m) {
      if (auto x = find(m, sent)) dots.insert(x->dot);
      return Fate::kPass;
    };
  }

  SendIndex sent = kUnsent;
  std::set<Dot> dots;
};

INSTANTIATE_TEST_SUITE_P(Seeds, Retries, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(10)));

// a has it synced, nobody else; the first request ended without an answer; the retry comes to a.
TEST_P(Retries, F10_ADuplicateIsAcknowledgedAtItsGradeOnly) {
  start(*alice, a);
  start(*bob, b);
  ASSERT_TRUE(acked(send(*alice)));
  hold_disks_of_others(true);
  bool timed_out = false;
  bool again = false;
  watch();
  tap.on_arrive = [&](const TapMessage& m) {
    again |= timed_out && m.to == a && appends(m, sent) && is_retry(m);
  };
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    timed_out |= m.to == a && appends(m, sent) && !answer && answer.code() == Errc::kTimeout;
    return Fate::kPass;
  };
  const auto hits = dedup_hits(a);
  sent = send(*alice);
  ASSERT_TRUE(until([&] { return again; }));
  ASSERT_EQ(dedup_hits(a), hits + 1);
  EXPECT_FALSE(acked(sent, 1s));  // One copy is not two.
  hold_disks_of_others(false);
  EXPECT_TRUE(acked(sent));
  EXPECT_GE(record(sent).copies, 2);
  EXPECT_EQ(dots.size(), 1u);
  finish();
}

// The retry comes while the first request is in flight at a.
TEST_P(Retries, F10_ARetryJoinsWhatIsInFlight) {
  start(*alice, b);
  start(*bob, b);
  ASSERT_TRUE(acked(send(*alice)));
  hold_disks_of_others(true);
  bool ended = false;
  bool again = false;
  watch();
  tap.on_arrive = [&](const TapMessage& m) {
    again |= !ended && m.from == c && m.to == a && appends(m, sent) && is_retry(m);
  };
  std::set<std::size_t> answered;  // By a.
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (!appends(m, sent)) return Fate::kPass;
    ended = true;
    if (m.to == a && answer) answered.insert(m.from);
    return Fate::kPass;
  };
  const auto hits = dedup_hits(a);
  sent = send(*alice);
  ASSERT_TRUE(until([&] { return !dots.empty(); }));
  alice->close();
  alice->start(c);
  ASSERT_TRUE(until([&] { return again; }, 3s));
  ASSERT_EQ(dedup_hits(a), hits + 1);
  ASSERT_FALSE(ended);
  hold_disks_of_others(false);
  EXPECT_TRUE(caught_up(*alice));
  EXPECT_TRUE(until([&] { return answered == std::set<std::size_t>{b, c}; }));  // One flight.
  EXPECT_EQ(dots.size(), 1u);
  finish();
}

// a alone has it; the retry reaches b, which lacks it and mints no second copy.
TEST_P(Retries, F10_ARetryAsksTheOtherOwnersBeforeItMints) {
  start(*alice, a);
  start(*bob, b);
  ASSERT_TRUE(acked(send(*alice)));
  bool at_b = false;
  bool found = false;
  tap.on_leave = [&](const TapMessage& m) {
    if (auto x = find(m, sent)) {
      dots.insert(x->dot);
      if (!found && m.from == a) return Fate::kLose;
    }
    if (!found && m.to == a && m.method == Method::kFetch) return Fate::kHold;  // Nor by catching up.
    return m.from == c && m.to == a && appends(m, sent) ? Fate::kLose : Fate::kPass;
  };
  tap.on_arrive = [&](const TapMessage& m) {
    at_b |= m.from == c && m.to == b && appends(m, sent) && is_retry(m);
  };
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (m.method == Method::kFindKey && m.from == b && m.to == a && answer) {
      found |= unpack<node::FindKeyReply>(*answer)->found;
    }
    return Fate::kPass;
  };
  sent = send(*alice);
  ASSERT_TRUE(until([&] { return !dots.empty(); }));
  alice->close();
  world.run_for(100ms);  // The links are back; the next try of a is not yet.
  alice->start(c);
  ASSERT_TRUE(until([&] { return at_b; }, 3s));
  EXPECT_TRUE(until([&] { return found; }, 1s));
  EXPECT_TRUE(caught_up(*alice));
  EXPECT_EQ(dots.size(), 1u);
  finish();
}

// The answer to the client is lost, wherever the retry goes.
TEST_P(Retries, F10_ALostAnswerNeverMakesASecondMessage) {
  for (auto* device : {alice, alice2, bob, bob2}) start(*device, device == alice ? b : c);
  for (int round = 0; round < 4; ++round) {
    const auto at = alice->client().endpoint().host;
    cluster.network().cut(at, alice->identity().ip);  // Requests arrive, answers do not.
    sent = send(*alice, round % 2 == 0 ? "#g" : "@bob");
    world.run_for(std::chrono::milliseconds(round));
    alice->reconnect();
    EXPECT_TRUE(acked(sent));
    cluster.network().heal(at, alice->identity().ip);
  }
  finish();
}

}  // namespace
}  // namespace starling::sim
