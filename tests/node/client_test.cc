// Client against a FakeCluster, in virtual time: every fault of a connection and of a node.
#include "tests/node/client_fixture.h"

namespace starling::node {
namespace {

TEST_F(ClientTest, MessagesReachTheOtherUserAndTheSendersOtherDevice) {
  auto a = device("@a"), tablet = device("@a", "tablet"), b = device("@b");
  ASSERT_TRUE(ready(*a) && ready(*b) && ready(*tablet));
  send(*a, "@b", "hello");
  settle();
  EXPECT_EQ(a->results, (std::vector<std::string>{"hello acked"}));
  EXPECT_EQ(b->diary.messages, (std::vector<std::string>{"@a>@b hello"}));
  EXPECT_EQ(tablet->diary.messages, b->diary.messages);
  EXPECT_EQ(a->client->open_sends(), 0u);
}

TEST_F(ClientTest, WhatIsSentBeforeTheLoginLeavesAfterIt) {
  auto a = device("@a");
  send_numbers(*a, "@b", 1, 3);
  settle();
  EXPECT_EQ(a->results, numbers(3, "", " acked"));
}

TEST_F(ClientTest, ACursorBringsOnlyWhatIsNew) {
  auto a = device("@a"), b = device("@b");
  ASSERT_TRUE(ready(*a) && ready(*b));
  send(*a, "@b", "old");
  settle();
  auto state = unpack<ClientState>(pack(b->client->state()));
  ASSERT_TRUE(state.ok());
  b.reset();
  send(*a, "@b", "new");
  settle();
  auto again = device("@b", "phone", *state);
  settle();
  EXPECT_EQ(again->diary.messages, (std::vector<std::string>{"@a>@b new"}));
  EXPECT_EQ(again->diary.backlog, (std::vector<std::string>{"new"}));
}

TEST_F(ClientTest, ALostConnectionLosesAndDoublesNothing) {
  auto b = device("@b");
  ASSERT_TRUE(ready(*b));
  int sends = 0;
  cluster_.judge = [&](const protocol::Send&, std::size_t) {
    if (++sends > 100) return FakeCluster::Verdict{};
    if (sends % 7 == 3) return FakeCluster::Verdict{Fate::kHangUp, {}, 0};
    if (sends % 7 == 5) return FakeCluster::Verdict{Fate::kStoreAndHangUp, {}, 0};
    return FakeCluster::Verdict{};
  };
  auto a = device("@a");
  send_numbers(*a, "@b", 1, 30);
  ASSERT_TRUE(until([&] { return a->client->open_sends() == 0; }, 120s));
  settle();
  EXPECT_EQ(a->results, numbers(30, "", " acked"));
  EXPECT_EQ(b->diary.messages, numbers(30, "@a>@b "));
  EXPECT_EQ(cluster_.bodies("@b"), numbers(30));
  EXPECT_GT(a->client->stats().drops, 0u);
}

TEST_F(ClientTest, AnUnknownOutcomeIsSentAgainUnderTheSameNumberAndMarked) {
  int sends = 0;
  cluster_.judge = [&](const protocol::Send&, std::size_t) {
    return FakeCluster::Verdict{++sends == 1 ? Fate::kStoreAndRefuse : Fate::kServe, Errc::kTimeout, 0};
  };
  auto a = device("@a");
  send(*a, "@b", "once");
  settle();
  ASSERT_EQ(cluster_.sends().size(), 2u);
  EXPECT_EQ(cluster_.sends()[1].seq, 1u);
  EXPECT_EQ(cluster_.sends()[0].flags, 0);
  EXPECT_EQ(cluster_.sends()[1].flags, protocol::kSendRetry | protocol::kSendUnanswered);
  EXPECT_EQ(cluster_.bodies("@b"), (std::vector<std::string>{"once"}));
  EXPECT_EQ(a->results, (std::vector<std::string>{"once acked"}));
}

TEST_F(ClientTest, ARefusalInTheMiddleOfAPipelineKeepsTheOrder) {
  bool refused = false;
  cluster_.judge = [&](const protocol::Send& send, std::size_t) {
    const bool now = send.seq == 5 && !std::exchange(refused, refused || send.seq == 5);
    return FakeCluster::Verdict{now ? Fate::kRefuse : Fate::kServe, Errc::kUnavailable, 100};
  };
  auto a = device("@a");
  ASSERT_TRUE(ready(*a));
  send_numbers(*a, "@b", 1, 20);
  ASSERT_TRUE(until([&] { return a->client->open_sends() == 0; }));
  EXPECT_EQ(cluster_.bodies("@b"), numbers(20));
  EXPECT_GT(a->client->stats().errors.at(Errc::kLaneGap), 0u);
  EXPECT_EQ(a->client->stats().drops, 0u);
}

TEST_F(ClientTest, AFinalRefusalIsToldOnceAndLaterMessagesGoThrough) {
  cluster_.judge = [&](const protocol::Send& send, std::size_t) {
    const bool bad = send.body.data == "2" && (send.flags & protocol::kSendVoid) == 0;
    return FakeCluster::Verdict{bad ? Fate::kRefuse : Fate::kServe, Errc::kDenied, 0};
  };
  auto a = device("@a"), b = device("@b");
  ASSERT_TRUE(ready(*a) && ready(*b));
  send_numbers(*a, "@b", 1, 4);
  settle();
  std::sort(a->results.begin(), a->results.end());
  EXPECT_EQ(a->results, (std::vector<std::string>{"1 acked", "2 denied", "3 acked", "4 acked"}));
  EXPECT_EQ(cluster_.bodies("@b"), (std::vector<std::string>{"1", "3", "4"}));
  EXPECT_TRUE(b->diary.voids.empty()) << "it never had the one that was refused";
}

TEST_F(ClientTest, ASilentNodeDoesNotHangASend) {
  auto a = device("@a");
  ASSERT_TRUE(ready(*a));
  const Endpoint first = a->client->endpoint();
  cluster_.judge = [&](const protocol::Send&, std::size_t door) {
    return FakeCluster::Verdict{doors_[door] == first ? Fate::kIgnore : Fate::kServe, {}, 0};
  };
  const Instant start = world_.now();
  send(*a, "@b", "x");
  ASSERT_TRUE(until([&] { return a->client->open_sends() == 0; }));
  EXPECT_NE(a->client->endpoint(), first);
  EXPECT_LT(world_.now() - start, 6s);
  EXPECT_EQ(cluster_.bodies("@b"), (std::vector<std::string>{"x"}));
}

TEST_F(ClientTest, AHungLinkIsNoticedByTheHeartbeat) {
  auto a = device("@a");
  ASSERT_TRUE(ready(*a));
  net_.cut("10.0.0.1", "10.0.0.9");
  EXPECT_TRUE(until([&] { return !a->diary.troubles.empty(); }, 25s));
  EXPECT_EQ(a->diary.troubles.front(), Errc::kTimeout);
  net_.heal_all();
  EXPECT_TRUE(ready(*a));
}

TEST_F(ClientTest, AnIdleConnectionIsKeptByPings) {
  auto a = device("@a");
  world_.run_for(5min);
  EXPECT_EQ(a->client->phase(), ClientPhase::kReady);
  EXPECT_EQ(a->client->stats().drops, 0u);
  EXPECT_GE(cluster_.pings(), 10u);
  EXPECT_LE(cluster_.pings(), 25u);
}

TEST_F(ClientTest, ADeadNodeIsReplacedByTheNextEndpoint) {
  auto a = device("@a");
  ASSERT_TRUE(ready(*a));
  ASSERT_EQ(a->client->endpoint(), doors_[0]);
  server_loop_.enter([&] { cluster_.close_door(0); });
  EXPECT_TRUE(until([&] { return a->client->endpoint() == doors_[1] &&
                                 a->client->phase() == ClientPhase::kReady; }, 1s));
}

TEST_F(ClientTest, WithoutAnyNodeItWaitsLongerAndLongerButNotForever) {
  server_loop_.enter([&] { cluster_.close_door(0), cluster_.close_door(1); });
  auto a = device("@a");
  world_.run_for(60s);
  EXPECT_GE(a->client->stats().drops, 30u);
  EXPECT_LE(a->client->stats().drops, 80u);
}

TEST_F(ClientTest, GoAwayMovesItAtOnceAndLosesNothing) {
  auto a = device("@a"), b = device("@b");
  ASSERT_TRUE(ready(*a) && ready(*b));
  ASSERT_EQ(a->client->endpoint(), doors_[0]);
  send_numbers(*a, "@b", 1, 10);
  server_loop_.enter([&] { cluster_.go_away(0, {}); });
  world_.run_for(500ms);
  EXPECT_EQ(a->client->endpoint(), doors_[1]);
  EXPECT_EQ(a->client->phase(), ClientPhase::kReady);
  EXPECT_EQ(b->diary.messages, numbers(10, "@a>@b "));
  EXPECT_EQ(a->results, numbers(10, "", " acked"));
}

TEST_F(ClientTest, WithOneAddressItFollowsTheAdviceOfTheDrainingNode) {
  options_.endpoints = {doors_[0]};
  auto a = device("@a");
  ASSERT_TRUE(ready(*a));
  server_loop_.enter([&] {
    cluster_.go_away(0, {doors_[1].text()});
  });
  world_.run_for(500ms);
  EXPECT_EQ(a->client->endpoint(), doors_[1]);
  EXPECT_EQ(a->client->phase(), ClientPhase::kReady);
}

TEST_F(ClientTest, ItGoesWhereItIsSentEvenWhenItKnowsOthers) {
  doors_.push_back(cluster_.open_door(*servers_, {"10.0.0.1", 7402}));
  auto a = device("@a");
  ASSERT_TRUE(ready(*a));
  ASSERT_EQ(a->client->endpoint(), doors_[0]);
  server_loop_.enter([&] { cluster_.go_away(0, {doors_[2].text(), doors_[1].text()}); });
  world_.run_for(500ms);
  EXPECT_EQ(a->client->endpoint(), doors_[2]);
  EXPECT_EQ(a->client->phase(), ClientPhase::kReady);
  EXPECT_EQ(cluster_.logins(), 2u);
}

// The advice leads to nobody, or to where it cannot go: its own list has the way in, and it asks no more.
TEST_F(ClientTest, FromAnAdviceThatFailsItGoesBackToItsOwnList) {
  options_.endpoints = {doors_[0]};
  auto a = device("@a");
  ASSERT_TRUE(ready(*a));
  for (int turn = 0; turn < 2; ++turn) {
    const Instant start = world_.now();
    server_loop_.enter([&] { cluster_.go_away(0, {"10.9.9.9:7400", doors_[1].text()}); });
    world_.run_for(1ms);
    ASSERT_TRUE(until([&] { return a->client->phase() == ClientPhase::kIdle; }, 1s));
    ASSERT_TRUE(ready(*a));
    EXPECT_EQ(a->client->endpoint(), doors_[0]);
    EXPECT_LT(world_.now() - start, turn == 0 ? 1s : Duration(200ms));
  }
}

TEST_F(ClientTest, AnotherLineageDropsTheCursorsAndKeepsEachMessageOnce) {
  auto a = device("@a"), b = device("@b");
  ASSERT_TRUE(ready(*a) && ready(*b));
  send(*a, "@b", "x");
  settle();
  cluster_.lineage.raw[0] = 1;
  server_loop_.enter([&] { cluster_.drop_connections(0), cluster_.drop_connections(1); });
  settle();
  ASSERT_EQ(b->client->phase(), ClientPhase::kReady);
  EXPECT_EQ(b->client->stats().duplicates, 1u) << "it was read again";
  EXPECT_EQ(b->diary.messages.size(), 1u) << "and shown once";
}

TEST_F(ClientTest, ARefusedTokenFallsBackToThePassword) {
  auto a = device("@a");
  ASSERT_TRUE(ready(*a));
  cluster_.revoked_tokens.insert("token of @a phone");
  server_loop_.enter([&] { cluster_.drop_connections(0); });
  settle();
  EXPECT_EQ(a->client->phase(), ClientPhase::kReady);
  EXPECT_EQ(a->client->stats().connects, 2u);
}

TEST_F(ClientTest, ADeviceThatLostItsStateGoesOnAfterItsLastNumber) {
  auto a = device("@a");
  send_numbers(*a, "@b", 1, 3);
  settle();
  a.reset();
  ClientState empty;
  empty.user = "@a";
  empty.device = "phone";
  empty.lanes_known = false;
  auto again = device("@a", "phone", empty);
  send(*again, "@b", "1");  // The same words as number 1, but a new message.
  settle();
  EXPECT_EQ(again->results, (std::vector<std::string>{"1 acked"}));
  EXPECT_EQ(cluster_.bodies("@b"), (std::vector<std::string>{"1", "2", "3", "1"}));
}

TEST_F(ClientTest, TheFloorIsTheHighestPositionSeenInTheConversation) {
  auto a = device("@a"), b = device("@b");
  ASSERT_TRUE(ready(*a) && ready(*b));
  send(*a, "@b", "question");
  settle();
  send(*b, "@a", "answer");
  settle();
  ASSERT_EQ(cluster_.sends().size(), 2u);
  EXPECT_EQ(cluster_.sends()[0].floor, "");
  EXPECT_EQ(cluster_.sends()[1].floor, cluster_.mailbox("@b")[0].entry.id);
}

TEST_F(ClientTest, GroupsAreCreatedJoinedReadAndLeft) {
  auto a = device("@a"), b = device("@b");
  ASSERT_TRUE(ready(*a) && ready(*b));
  bool created = false, added = false;
  client_loop_.enter([&] {
    (*a)->create_group("#g", [&](Status status) { created = status.ok(); });
    (*a)->add_member("#g", "@b", 0, [&](Status status) { added = status.ok(); });
  });
  settle();
  EXPECT_TRUE(created && added);
  EXPECT_EQ(b->diary.groups, (std::vector<std::string>{"+#g"}));
  send_numbers(*a, "#g", 1, 3);
  settle();
  EXPECT_EQ(b->diary.messages, numbers(3, "@a>#g "));
  std::vector<std::string> newest_first;
  bool more = false;
  std::size_t members = 0;
  Errc missing{};
  client_loop_.enter([&] {
    (*b)->history("#g", "", 2, [&](Result<protocol::HistoryPage> page) {
      for (const auto& entry : page->entries) newest_first.push_back(entry.body.data);
      more = page->more;
    });
    (*b)->members("#g", "", [&](Result<protocol::Members> r) { members = r->members.size(); });
    (*b)->members("#none", "", [&](Result<protocol::Members> r) { missing = r.code(); });
  });
  settle();
  EXPECT_EQ(newest_first, (std::vector<std::string>{"3", "2"}));
  EXPECT_TRUE(more);
  EXPECT_EQ(members, 2u);
  EXPECT_EQ(missing, Errc::kNotFound);
  server_loop_.enter([&] { cluster_.leave_group("#g", "@b"); });
  settle();
  EXPECT_EQ(b->diary.groups.back(), "-#g");
}

TEST_F(ClientTest, AQuestionOnALostConnectionIsAnsweredAsUnavailable) {
  auto a = device("@a");
  ASSERT_TRUE(ready(*a));
  std::optional<Errc> code;
  cluster_.mute = true;
  client_loop_.enter([&] { (*a)->groups([&](auto result) { code = result.code(); }); });
  EXPECT_TRUE(until([&] { return code.has_value(); }, 6s));
  EXPECT_EQ(code, Errc::kUnavailable);
  code.reset();
  client_loop_.enter([&] { (*a)->groups([&](auto result) { code = result.code(); }); });
  EXPECT_EQ(code, Errc::kUnavailable) << "at once while there is no session";
}

TEST_F(ClientTest, WhatCannotBeSentIsRefusedAtOnceAndUsesNoNumber) {
  auto a = device("@a");
  ASSERT_TRUE(ready(*a));
  client_loop_.enter([&] {
    EXPECT_EQ((*a)->send("b", "x", {}, {}).code(), Errc::kInvalid);
    EXPECT_EQ((*a)->send("@b", Bytes(storage::kBodySizeMax + 1, 'x'), {}, {}).code(),
              Errc::kTooLarge);
  });
  send(*a, "@b", "x");
  settle();
  ASSERT_EQ(cluster_.sends().size(), 1u);
  EXPECT_EQ(cluster_.sends()[0].seq, 1u);
}

TEST_F(ClientTest, OpenSendsAreBounded) {
  server_loop_.enter([&] { cluster_.close_door(0), cluster_.close_door(1); });
  auto a = device("@a");
  client_loop_.enter([&] {
    for (std::size_t i = 0; i < kClientOpenSendsMax; ++i) {
      ASSERT_TRUE((*a)->send("@b", "x", {}, {}).ok());
    }
    EXPECT_EQ((*a)->send("@b", "x", {}, {}).code(), Errc::kOverloaded);
  });
}

TEST_F(ClientTest, AFrameThatIsNotOfTheProtocolEndsTheConnection) {
  std::vector<std::unique_ptr<overlay::Stream>> kept;
  auto listener = servers_->listen({"10.0.0.1", 7500}, [&](std::unique_ptr<overlay::Stream> stream) {
    stream->write(Bytes("\x04\0\0\0oops", 8));
    kept.push_back(std::move(stream));
  });
  options_.endpoints = {{"10.0.0.1", 7500}};
  auto a = device("@a");
  world_.run_for(100ms);
  ASSERT_FALSE(a->diary.troubles.empty());
  EXPECT_EQ(a->diary.troubles.front(), Errc::kCorrupt);
}

}  // namespace
}  // namespace starling::node
