// `starling ring double`: whom it asks, and what it is refused for. How the doubling itself goes: doubling_test.cc.
#include "node/ring/messages.h"
#include "tests/sim/moves/moves.h"

namespace starling::sim {
namespace {

class DoubleRefused : public Moves {
 protected:
  // That node says so of itself.
  void says(std::size_t who, std::function<void(node::MovementReply&)> change) {
    tap.alter_answer = [who, change = std::move(change)](const TapMessage& m, Bytes& answer) {
      if (m.method != Method::kMovement || m.to != who) return;
      auto reply = unpack<node::MovementReply>(answer);
      ASSERT_TRUE(reply);
      change(*reply);
      answer = pack(*reply);
    };
  }
  // Why not, also as a dry run; that nothing happened is seen.
  std::string refused(Json question = Json::object()) {
    const auto before = cluster.admin(a, "ring", Json::object())->at("number");
    std::string why;
    for (const bool dry : {true, false}) {
      if (!question.contains("to")) question["to"] = 32;
      question["dry_run"] = dry;
      const auto answer = cluster.admin(a, "double", question);
      EXPECT_FALSE(answer.ok()) << answer->dump();
      if (answer) return "";
      why = answer.error().text;
    }
    EXPECT_EQ(cluster.admin(a, "ring", Json::object())->at("number"), before);
    return why;
  }
};
INSTANTIATE_TEST_SUITE_P(Seeds, DoubleRefused, ::testing::Values(1, 2, 3));

#define EXPECT_SAYS(why, what) EXPECT_NE(std::string(why).find(what), std::string::npos) << why

TEST_P(DoubleRefused, WhoCouldNotFollowIsNamed) {
  const std::string node = "node " + cluster.id(c);
  says(c, [](auto& reply) { reply.ring_format = 4; });
  EXPECT_SAYS(refused(), node + " is older than the doubling of partitions");
  says(c, [](auto& reply) { reply.split_share = 34; });
  EXPECT_SAYS(refused(), node + " has settled 34 % of the doubling before");
  says(c, [](auto& reply) { reply.partitions_of = 8; });
  EXPECT_SAYS(refused(), node + " has not come to ring version");
  says(c, [](auto& reply) { reply.leaving = 3; });
  EXPECT_SAYS(refused(), node + " still hands 3 partitions over");
  says(c, [](auto& reply) { reply.damaged = 2; });
  EXPECT_SAYS(refused(), node + " cannot read all of 2 partitions");
  says(c, [](auto& reply) { reply.store_bytes = 9 << 20; reply.room_bytes = 4 << 20; });
  EXPECT_SAYS(refused(), node + " would write up to 5 MiB");
  tap.clear();
  tap.on_leave = [this](const TapMessage& m) {
    return m.method == Method::kMovement && m.to == c ? Fate::kLose : Fate::kPass;
  };
  EXPECT_SAYS(refused(), node + " is alive and does not answer");
  tap.clear();
  cluster.crash(c, Crash::kPower);
  believes_dead(a, c);
  EXPECT_SAYS(refused(), node + " is down: start it");
  ASSERT_TRUE(cluster.restart(c));
  finish();
}

TEST_P(DoubleRefused, TheNumberHasToBeSaidAndRight) {
  EXPECT_SAYS(refused({{"to", 16}}), "a doubling makes 32 of them, not 16");
  EXPECT_SAYS(refused({{"to", 64}}), "not 64");
  const auto unsaid = cluster.admin(a, "double", Json::object());
  ASSERT_FALSE(unsaid);
  EXPECT_EQ(unsaid.code(), Errc::kInvalid);
  const auto told = cluster.admin(a, "double", {{"dry_run", true}});
  ASSERT_TRUE(told) << told.error().text;
  EXPECT_EQ(told->at("to"), 32);
  EXPECT_EQ(told->at("nodes").size(), cluster.size());
  EXPECT_EQ(cluster.admin(a, "ring", Json::object())->at("partitions"), 16);
}

TEST_P(DoubleRefused, AChangeThatIsOpenAndALeaverThatHandsOverComeFirst) {
  const std::size_t d = 6 - a - b - c;
  tap.on_leave = [](const TapMessage& m) { return m.method == Method::kInstalled ? Fate::kLose : Fate::kPass; };
  ASSERT_TRUE(change(a, "leave", {d}));
  EXPECT_SAYS(refused(), "another change");
  tap.clear();
  ASSERT_TRUE(comes_to(d, "left", a));
  ASSERT_TRUE(departs(d));
  EXPECT_TRUE(until([&] { return cluster.admin(a, "double", {{"to", 32}, {"dry_run", true}}).ok(); }, 60s));
  says(d, [](auto& reply) { reply.safe = false; });
  EXPECT_SAYS(refused(), "node " + cluster.id(d) + " left, and still hands over");
  tap.clear();
  cluster.retire(d);
  finish();
}

}  // namespace
}  // namespace starling::sim
