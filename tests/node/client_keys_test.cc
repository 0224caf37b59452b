// Client: copies and voids of one key, what a refused login leaves, and nodes that say "try again".
#include "tests/node/client_fixture.h"

namespace starling::node {
namespace {

class ClientKeys : public ClientTest {
 protected:
  // @a and @b are there, and @b got one message.
  void SetUp() override {
    ClientTest::SetUp();
    a_ = device("@a");
    b_ = device("@b");
    ASSERT_TRUE(ready(*a_) && ready(*b_));
    send(*a_, "@b", "x");
    settle();
    ASSERT_EQ(b_->diary.messages.size(), 1u);
    first_ = cluster_.mailbox("@b").back().entry;
  }
  // The message once more, `later` ticks behind its first copy, or before it.
  void deliver_copy(int later, std::uint8_t content = 1, std::uint64_t seq = 1) {
    auto copy = first_;
    auto id = *parse_entry_id(first_.id);
    id.time += static_cast<std::uint64_t>(later);
    copy.id = to_text(id);
    copy.content = content;
    copy.seq = seq;
    last_id_ = copy.id;
    server_loop_.enter([&] { cluster_.deliver("@b", copy); });
    settle();
  }

  std::unique_ptr<Device> a_;
  std::unique_ptr<Device> b_;
  protocol::EntryMessage first_;
  std::string last_id_;
};

TEST_F(ClientKeys, ASecondCopyBehindTheFirstIsSilent) {
  deliver_copy(0);
  deliver_copy(1);
  EXPECT_EQ(b_->diary.messages.size(), 1u);
  EXPECT_TRUE(b_->diary.moves.empty());
  EXPECT_EQ(b_->client->stats().duplicates, 2u);
}

TEST_F(ClientKeys, ASmallerIdMovesTheMessageOnce) {
  deliver_copy(-2);
  deliver_copy(-1);
  deliver_copy(-2);
  deliver_copy(-1);
  EXPECT_EQ(b_->diary.messages.size(), 1u);
  ASSERT_EQ(b_->diary.moves.size(), 1u);
  deliver_copy(-3);
  ASSERT_EQ(b_->diary.moves.size(), 2u);
  EXPECT_EQ(b_->diary.moves[1], "1 " + last_id_);
}

TEST_F(ClientKeys, ThePositionIsRememberedOverARestart) {
  deliver_copy(-2);
  auto state = unpack<ClientState>(pack(b_->client->state()));
  ASSERT_TRUE(state.ok());
  b_.reset();
  auto again = device("@b", "phone", *state);
  ASSERT_TRUE(ready(*again));
  deliver_copy(-1);
  EXPECT_TRUE(again->diary.moves.empty());
  deliver_copy(-3);
  EXPECT_EQ(again->diary.moves, (std::vector<std::string>{"1 " + last_id_}));
}

TEST_F(ClientKeys, AVoidTakesBackAMessageOnceOnEveryDeviceThatHasIt) {
  deliver_copy(1, 0);
  deliver_copy(2, 0);
  EXPECT_EQ(b_->diary.voids, (std::vector<std::string>{"1"}));
  auto late = device("@b", "tablet");
  settle();
  EXPECT_EQ(late->diary.voids.size(), 1u);
}

TEST_F(ClientKeys, WhatIsVoidIsNeitherShownNorMoved) {
  deliver_copy(1, 0, 2);  // Number 2 was never heard of.
  deliver_copy(2, 1, 2);
  deliver_copy(-2, 1, 2);
  EXPECT_EQ(b_->diary.messages.size(), 1u);
  EXPECT_TRUE(b_->diary.voids.empty());
  EXPECT_TRUE(b_->diary.moves.empty());
}

TEST_F(ClientKeys, AnEntryWithoutAnIdEndsTheConnection) {
  auto broken = first_;
  broken.id = "none";
  server_loop_.enter([&] { cluster_.deliver("@b", broken); });
  world_.run_for(20ms);
  ASSERT_FALSE(b_->diary.troubles.empty());
  EXPECT_EQ(b_->diary.troubles.front(), Errc::kCorrupt);
}

TEST_F(ClientTest, ARefusedLoginLeavesNothingToBeSentLater) {
  cluster_.add_user("@a", "another");
  auto a = device("@a");
  send(*a, "@b", "x");
  settle();
  EXPECT_EQ(a->client->phase(), ClientPhase::kFailed);
  EXPECT_EQ(a->results, (std::vector<std::string>{"x unauthenticated"}));
  EXPECT_EQ(a->client->open_sends(), 0u);
  EXPECT_EQ(cluster_.logins(), 0u);
  cluster_.add_user("@a", "secret");
  auto again = device("@a", "phone", a->client->state());
  send(*again, "@b", "y");
  settle();
  EXPECT_EQ(cluster_.bodies("@b"), (std::vector<std::string>{"y"}));
  EXPECT_EQ(cluster_.sends().front().seq, 1u) << "no number is skipped";
}

TEST_F(ClientTest, WhatWasOnItsWayWhenTheLoginEndedIsTakenBackByAVoid) {
  cluster_.judge = [](const protocol::Send&, std::size_t) {
    return FakeCluster::Verdict{Fate::kStoreAndForget, {}, 0};
  };
  auto a = device("@a"), b = device("@b");
  ASSERT_TRUE(ready(*a) && ready(*b));
  send(*a, "@b", "x");
  world_.run_for(1s);
  cluster_.add_user("@a", "another");
  cluster_.revoked_tokens.insert("token of @a phone");
  server_loop_.enter([&] { cluster_.drop_connections(0), cluster_.drop_connections(1); });
  settle();
  ASSERT_EQ(a->client->phase(), ClientPhase::kFailed);
  EXPECT_EQ(a->results, (std::vector<std::string>{"x unauthenticated"}));
  cluster_.add_user("@a", "secret");
  cluster_.judge = {};
  auto again = device("@a", "phone", a->client->state());
  settle();
  ASSERT_EQ(cluster_.sends().size(), 2u);
  EXPECT_EQ(cluster_.sends()[1].seq, 1u);
  EXPECT_TRUE(cluster_.sends()[1].flags & protocol::kSendVoid);
  EXPECT_TRUE(again->diary.kept.empty()) << "a void is no message";
}

TEST_F(ClientTest, ARestartedDeviceSendsWhatWasOpenUnderTheSameNumbersAndSaysSo) {
  cluster_.judge = [&](const protocol::Send& send, std::size_t) {
    return FakeCluster::Verdict{send.seq == 2 ? Fate::kStoreAndForget : Fate::kServe, {}, 0};
  };
  auto a = device("@a");
  ASSERT_TRUE(ready(*a));
  send_numbers(*a, "@b", 1, 2);
  world_.run_for(1s);
  auto state = unpack<ClientState>(pack(a->client->state()));
  a.reset();
  cluster_.judge = {};
  auto again = device("@a", "phone", *state);
  send(*again, "@b", "3");
  settle();
  EXPECT_EQ(cluster_.bodies("@b"), numbers(3));
  EXPECT_EQ(again->diary.kept, (std::vector<std::string>{"@b acked"}));
  EXPECT_EQ(again->results, (std::vector<std::string>{"3 acked"}));
  EXPECT_EQ(again->client->open_sends(), 0u);
}

// A node on the smaller side of a split goes on saying so; the others can serve.
TEST_F(ClientTest, ANodeThatOnlySaysTryAgainIsLeftForAnother) {
  for (const Errc code : {Errc::kUnavailable, Errc::kStaleRing, Errc::kOverloaded}) {
    cluster_.judge = [code](const protocol::Send&, std::size_t door) {
      return FakeCluster::Verdict{door == 0 ? Fate::kRefuse : Fate::kServe, code, 100};
    };
    auto a = device("@a", std::string(name(code)));
    ASSERT_TRUE(ready(*a));
    ASSERT_EQ(a->client->endpoint(), doors_[0]);
    send_numbers(*a, "@b", 1, 3);
    ASSERT_TRUE(until([&] { return a->results.size() == 3; }, 20s)) << name(code);
    EXPECT_EQ(a->results, numbers(3, "", " acked"));
    EXPECT_EQ(a->client->endpoint(), doors_[1]);
    EXPECT_EQ(a->diary.troubles, (std::vector<Errc>{code})) << "the owner hears why";
  }
}

TEST_F(ClientTest, ANodeThatServesOtherLanesIsNotLeft) {
  cluster_.judge = [](const protocol::Send& send, std::size_t) {
    return FakeCluster::Verdict{send.to == "@c" ? Fate::kRefuse : Fate::kServe, Errc::kUnavailable, 0};
  };
  auto a = device("@a");
  ASSERT_TRUE(ready(*a));
  send(*a, "@c", "stuck");
  for (int i = 1; i <= 30; ++i) {
    send(*a, "@b", std::to_string(i));
    world_.run_for(500ms);
  }
  EXPECT_EQ(a->client->stats().drops, 0u);
  EXPECT_EQ(a->results, numbers(30, "", " acked"));
}

TEST_F(ClientTest, AClusterThatServesNobodyIsNotStormed) {
  cluster_.judge = [](const protocol::Send&, std::size_t) {
    return FakeCluster::Verdict{Fate::kRefuse, Errc::kUnavailable, 1'000};
  };
  auto a = device("@a");
  for (const char* to : {"@a", "@b", "@c"}) send(*a, to, "x");
  world_.run_for(60s);
  EXPECT_GE(cluster_.logins(), 3u) << "every node is asked";
  EXPECT_LE(cluster_.logins(), 20u);
  EXPECT_EQ(a->client->open_sends(), 3u) << "and nothing is given up";
}

TEST_F(ClientTest, ThoseWhoAreAskedToGoDoNotComeBackInOneInstant) {
  std::vector<std::unique_ptr<Device>> devices;
  for (int i = 0; i < 8; ++i) devices.push_back(device("@a", "d" + std::to_string(i)));
  settle();
  const std::size_t before = cluster_.logins();
  server_loop_.enter([&] { cluster_.go_away(0, {}); });
  ASSERT_TRUE(until([&] { return cluster_.logins() > before; }));
  EXPECT_LT(cluster_.logins(), before + devices.size());
  world_.run_for(500ms);
  EXPECT_EQ(cluster_.logins(), before + devices.size());
}

}  // namespace
}  // namespace starling::node
