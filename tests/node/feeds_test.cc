// What a gateway asks of the owner that it follows (parts.h).
#include "node/session/feeds.h"

#include "tests/node/parts.h"

namespace starling::node {
namespace {

using overlay::Method;

struct Listening final : FeedSubscriber {
  void on_feed_ready(const MailboxId& mailbox) override { ready.push_back(mailbox); }
  void on_feed_lost(const MailboxId& mailbox) override { lost.push_back(mailbox); }
  void on_change(const MailboxId&, const Delivery&) override {}
  void on_regained(const MailboxId&, const Delivery&) override {}
  std::vector<MailboxId> ready, lost;
};

// A gateway that owns nothing of the partition.
class FollowingAnOwner : public Parts {
 protected:
  static constexpr WriterId kReal{7};
  FollowingAnOwner() : Parts(std::nullopt) {}
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Parts::SetUp());
    in_turn([&] { feeds = std::make_unique<Feeds>(*view); });
  }
  void TearDown() override {
    in_turn([&] { feeds.reset(); });
  }
  void subscribe(const MailboxId& mailbox) {
    in_turn([&] { feeds->subscribe(mailbox, "@somebody", listening); });
  }
  // The newest request to follow is answered by an owner that knows kReal.
  FollowRequest answer_follow() {
    while (!rpc.calls.empty()) {
      auto call = std::move(rpc.calls.front());
      rpc.calls.erase(rpc.calls.begin());
      if (call.method != Method::kFollow) continue;
      asked_ = call.to;
      FollowReply reply;
      reply.vector.raise(kReal, 100);
      in_turn([&] { call.done(pack(reply)); });
      return *unpack<FollowRequest>(call.body);
    }
    return {};
  }
  // As a session does that read everything: what it says it has, and what its owner told it.
  bool join(const MailboxId& mailbox, std::uint64_t made_up, std::uint64_t real = 5) {
    storage::VersionVector vector;
    vector.raise(kReal, real);
    for (std::uint64_t w = 0; w < made_up; ++w) vector.raise(WriterId{1'000'000 + w}, 1);
    bool joined = false;
    in_turn([&] { joined = feeds->join(mailbox, listening, vector); });
    return joined;
  }
  void other_owner() {
    doubted = {asked_};
    run_for(1s);
  }

  Listening listening;
  std::unique_ptr<Feeds> feeds;

 private:
  NodeId asked_;
};

TEST_F(FollowingAnOwner, WhatADeviceMadeUpIsNotToldToTheNextOwner) {
  subscribe(testing::kAlice);
  EXPECT_FALSE(answer_follow().items.at(0).resume);
  ASSERT_TRUE(join(testing::kAlice, 4000));
  other_owner();
  const auto request = answer_follow();
  ASSERT_EQ(request.items.size(), 1u);
  EXPECT_TRUE(request.items[0].resume);
  storage::VersionVector real;
  real.raise(kReal, 5);
  EXPECT_EQ(request.items[0].vector, real);
  EXPECT_TRUE(listening.lost.empty());
}

// Were it one request, a link would refuse it, and nobody here would hear anything live again.
TEST_F(FollowingAnOwner, VectorsTooLargeForOneRequestAreReadAnew) {
  const auto dot_count = [](const FollowRequest& request) {
    std::size_t dots = 0;
    for (const auto& item : request.items) dots += item.vector.dots().size();
    return dots;
  };
  FollowReply known;
  known.vector.raise(kReal, 100);
  for (std::uint64_t w = 0; w < 30'000; ++w) known.vector.raise(WriterId{1'000'000 + w}, 1);
  std::vector<MailboxId> mailboxes;
  for (std::uint8_t i = 0; i < 5; ++i) {
    mailboxes.push_back(testing::kAlice);
    mailboxes.back().raw[15] = i;
    subscribe(mailboxes.back());
    ASSERT_FALSE(rpc.calls.empty());
    while (!rpc.calls.empty()) {
      auto call = std::move(rpc.calls.front());
      rpc.calls.erase(rpc.calls.begin());
      if (call.method == Method::kFollow) in_turn([&] { call.done(pack(known)); });
    }
    ASSERT_TRUE(join(mailboxes.back(), 30'000));
  }
  doubted = {owners[0], owners[1]};
  run_for(1s);
  doubted = {owners[2]};
  run_for(1s);
  listening.ready.clear();
  const auto request = answer_follow();
  EXPECT_LE(dot_count(request), kFollowDotsMax);
  EXPECT_LT(request.items.size(), mailboxes.size());
  EXPECT_FALSE(listening.lost.empty());
  const auto rest = answer_follow();
  EXPECT_EQ(request.items.size() + rest.items.size(), mailboxes.size());
  EXPECT_EQ(dot_count(rest), 0u);
  EXPECT_EQ(listening.ready.size(), listening.lost.size()) << "they read and join again";
}

}  // namespace
}  // namespace starling::node
