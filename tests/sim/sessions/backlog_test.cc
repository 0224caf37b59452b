// A gateway that comes back to an owner after more was written than an owner pushes at once.
#include "node/replication/follow/publisher.h"
#include "tests/sim/hazards/hazards.h"

namespace starling::sim {
namespace {

class Backlog : public Hazards {
 protected:
  Backlog() : Hazards(5) {}
};

INSTANTIATE_TEST_SUITE_P(Seeds, Backlog, ::testing::Values(1, 2));

TEST_P(Backlog, BeyondTheBudgetIsReadInPages) {
  std::size_t gateway = 0;
  while (gateway == a || gateway == b || gateway == c) ++gateway;
  start(*bob, gateway);
  start(*alice, a);
  ASSERT_TRUE(acked(send(*alice)));
  ASSERT_TRUE(until([&] { return bob->shown() == 1; }));
  std::size_t behind = 0;
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (m.method == Method::kFollow && m.from == gateway && answer) {
      if (const auto reply = unpack<node::FollowReply>(*answer)) behind += reply->behind.size();
    }
    return Fate::kPass;
  };
  isolate(gateway);
  world.run_for(15s);  // Until its links are given up: a short hang loses nothing.
  constexpr std::size_t kBody = 60'000;
  constexpr std::size_t kMessages = node::kBacklogBytesMax / kBody + 10;
  std::vector<SendIndex> sends;
  for (std::size_t i = 0; i < kMessages; ++i) {
    sends.push_back(alice->send("#g", work.body(*alice, kBody)));
    if (i % 10 == 9) {
      ASSERT_TRUE(acked(sends.back()));
    }
  }
  ASSERT_TRUE(acked(sends.back()));
  cluster.heal();
  EXPECT_TRUE(until([&] { return bob->shown() == 1 + kMessages; }, 120s)) << bob->shown();
  EXPECT_GT(behind, 0u) << "the budget was never met";
  // The live tail goes on behind it.
  const auto last = send(*alice);
  EXPECT_TRUE(until([&] { return shown(*bob, last) == 1; }));
  finish();
}

}  // namespace
}  // namespace starling::sim
