// A node with too much to do says no to what may wait, and clients come through all the same.
#include "tests/sim/hazards/hazards.h"

#include <nlohmann/json.hpp>

#include "node/replication/copies/replicator.h"
#include "tests/sim/world/metrics.h"
#include "tests/sim/world/raw_peer.h"

namespace starling::sim {
namespace {

class Overload : public Hazards {
 protected:
  std::string left_out(std::size_t i) {
    const auto status = cluster.admin(i, "status", Json::object());
    return status ? status->at("node").at("left_out").get<std::string>() : "?";
  }
  // Turns of a second and more, one after the other.
  void late_turns(std::size_t i, int count) {
    for (int turn = 0; turn < count; ++turn) {
      cluster.pause(i);
      world.run_for(1300ms);
      cluster.resume(i);
      world.run_for(5ms);
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Seeds, Overload, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(3)));

TEST_P(Overload, ANodeWhoseTurnsAreLateRefusesHistoryAndThenSendsUntilItIsCalm) {
  start(*alice, a);
  start(*bob, b);
  ASSERT_TRUE(acked(send(*alice)));
  ASSERT_EQ(left_out(a), "");
  late_turns(a, 1);
  EXPECT_EQ(left_out(a), "") << "one pause is no overload";
  late_turns(a, 14);
  EXPECT_EQ(left_out(a), "typing, presence, receipts, history reads, sends");
  EXPECT_EQ(metrics_of(world, cluster, a)["starling_ladder_rung"], 5);
  if (alice->ready() && alice->client().endpoint() == cluster.client_address(a)) {
    std::optional<Errc> refused;
    alice->client().history("#g", "", 10, [&](auto page) { refused = page ? Errc::kInvalid : page.code(); });
    const auto sent = send(*alice);
    EXPECT_TRUE(until([&] { return refused.has_value(); }));
    EXPECT_EQ(refused, Errc::kOverloaded);
    EXPECT_TRUE(until([&] { return alice->client().stats().errors.contains(Errc::kOverloaded); }));
    EXPECT_TRUE(acked(sent));
  } else {
    ADD_FAILURE() << "alice is not at the overloaded node";
  }
  world.run_for(20s);
  EXPECT_EQ(left_out(a), "");
  EXPECT_EQ(metrics_of(world, cluster, a)["starling_ladder_rung"], 0);
  finish();
}

// To send again what only waits for a disk makes an overload outlive its cause.
TEST_P(Overload, OwnersWithSlowDisksAreNotGivenTheSameAgainAndAgain) {
  start(*alice, a);
  start(*bob, b);
  for (const auto i : {b, c}) cluster.disk(i).set_speed(300ms, 350ms);
  std::map<std::pair<std::size_t, Dot>, int> times;  // Each change left for each owner.
  const auto say_something_for = [this](int turns) {
    for (int turn = 0; turn < turns; ++turn) {
      send(*alice);
      world.run_for(50ms);
    }
  };
  say_something_for(200);  // The round trips are known.
  tap.on_leave = [&](const TapMessage& message) {
    if (message.method != Method::kReplicate) return Fate::kPass;
    for (const auto& change : carried(message)) ++times[{message.to, change.dot}];
    return Fate::kPass;
  };
  say_something_for(200);
  std::size_t again = 0;
  for (const auto& [change, count] : times) again += static_cast<std::size_t>(count - 1);
  EXPECT_GE(times.size(), 400u);
  EXPECT_LE(again, times.size() / 20);
  tap.on_leave = nullptr;
  // What is lost is sent again all the same.
  for (const auto i : {b, c}) cluster.disk(i).set_speed(200us, 2ms);
  ASSERT_TRUE(until([&] { return caught_up(*alice); }));
  std::map<std::size_t, int> lost;  // By owner: the first and what is sent in its place. It is not caught up with, either.
  const auto last = send(*alice);
  tap.on_leave = [&](const TapMessage& message) {
    if (message.method == Method::kFetch && message.to == a) return Fate::kHold;
    if (message.method != Method::kReplicate || !find(message, last) || lost[message.to] == 2) return Fate::kPass;
    ++lost[message.to];
    return Fate::kLose;
  };
  EXPECT_TRUE(acked(last, 4s));
  EXPECT_EQ(lost, (std::map<std::size_t, int>{{b, 2}, {c, 2}}));
  finish();
}

// A node hashes a few passwords at a time, and many users may come in one call.
TEST_P(Overload, ManyUsersWithPasswordsInOneCallAreAllCreated) {
  Json users = Json::array();
  for (int i = 0; i < 40; ++i) users.push_back({{"name", "@many-" + std::to_string(i)}, {"password", "secret"}});
  const auto answer = cluster.admin(a, "user.add", {{"users", users}}, 120s);
  ASSERT_TRUE(answer.ok()) << answer.error().text;
  for (const auto& result : answer->at("results")) EXPECT_TRUE(result.at("created").get<bool>()) << result;
  EXPECT_EQ(answer->at("results").size(), 40u);
  finish();
}

// Grade `memory` is acknowledged at once, and to oneself it implies no copy: of such sends only bytes are bounded.
class Flood : public ::testing::Test {
 protected:
  static constexpr int kSends = 1'100;  // Of 64 KiB each: more than a link's queue takes, or a batch.
  static void SetUpTestSuite() { ASSERT_TRUE(crypto_init()); }

  void SetUp() override {
    cluster.trace_logs(overlay::LogLevel::kInfo);
    const auto formed = cluster.form();
    ASSERT_TRUE(formed) << formed.error().text;
    ASSERT_TRUE(cluster.admin(0, "user.add", {{"users", {{{"name", "@alice"}, {"password", "secret"}}}}}));
    owners = cluster.owners_of("@alice");
    ASSERT_EQ(owners.size(), 3u);
    client = std::make_unique<RawClient>(world, cluster.network(), cluster.client_address(owners[0]));
    ASSERT_TRUE(client->log_in("@alice", "phone", "secret"));
    ASSERT_TRUE(client->say("@alice", ++seq, "first"));
  }
  // In a second and a little: no link that is held up meanwhile is taken for dead.
  void flood() {
    for (int i = 0; i < kSends; ++i) {
      node::protocol::Send send;
      send.request = 1'000'000 + ++seq;
      send.to = "@alice";
      send.seq = seq;
      send.acked = seq - 1;
      send.grade = static_cast<std::uint8_t>(node::protocol::Grade::kMemory);
      send.body.data = Bytes(storage::kBodySizeMax, 'x');
      client->send_body(pack(send));
      world.run_for(1ms);
    }
    world.run_for(50ms);
  }
  std::uint64_t queue(const std::string& name) {
    const auto answer = cluster.admin(owners[0], "queues", Json::object());
    if (!answer) return 0;
    for (const auto& each : answer->at("queues")) {
      if (each.at("name") == name) return each.at("size").get<std::uint64_t>();
    }
    return 0;
  }
  // Of the sends so far: taken, and refused for what they were.
  void expect_answers() {
    std::size_t taken = 0;
    for (const auto& body : client->bodies()) {
      const auto head = unpack<node::protocol::Head>(body);
      if (!head || head->request < 1'000'000) continue;
      if (static_cast<node::protocol::Type>(head->type) == node::protocol::Type::kAck) {
        ++taken;
        continue;
      }
      const auto error = unpack<node::protocol::ErrorMessage>(body);
      ASSERT_TRUE(error);
      EXPECT_EQ(static_cast<Errc>(error->code), Errc::kOverloaded) << error->text;
      ++refused;
    }
    EXPECT_GT(taken, 300u);
  }

  World world{7};
  SimCluster cluster{world, ClusterOptions{}};
  std::vector<std::size_t> owners;
  std::unique_ptr<RawClient> client;
  std::uint64_t seq = 0;
  std::size_t refused = 0;
};

TEST_F(Flood, OfSendsThatNobodyWaitsForFillsNoLinksQueue) {
  for (const auto i : {owners[1], owners[2]}) cluster.pause(i);
  flood();
  const std::uint64_t queued = queue("link_bytes");
  for (const auto i : {owners[1], owners[2]}) cluster.resume(i);
  EXPECT_LE(queued, node::kOwnerQueueBytesMax + (1 << 20));
  EXPECT_GT(queued, node::kOwnerQueueBytesMax / 2);
  world.run_for(5s);
  expect_answers();
  EXPECT_GT(refused, 100u);
  EXPECT_EQ(world.trace().text("reads too slowly", 5), "");
  EXPECT_TRUE(cluster.run_until_quiet(60s));
  const auto said = client->say("@alice", ++seq, "after");
  EXPECT_TRUE(said) << said.error().text;
}

TEST_F(Flood, OfSendsThatNobodyWaitsForFillsNoBatch) {
  cluster.disk(owners[0]).hold(true);
  flood();
  const std::uint64_t gathered = queue("unsynced_bytes");
  cluster.disk(owners[0]).hold(false);
  EXPECT_LE(gathered, storage::kGatheredBytesMax + (1 << 20));
  EXPECT_GT(gathered, storage::kGatheredBytesMax / 2);
  world.run_for(5s);
  expect_answers();
  EXPECT_GT(refused, 10u);
  EXPECT_TRUE(cluster.run_until_quiet(60s));
}

// One of three that does not keep up costs nobody anything: it fetches later what it was not sent.
TEST_F(Flood, AnOwnerWhoseLinkDoesNotKeepUpIsLeftOutAndCatchesUp) {
  cluster.pause(owners[2]);
  flood();
  const std::uint64_t queued = queue("link_bytes");
  cluster.resume(owners[2]);
  EXPECT_LE(queued, node::kOwnerQueueBytesMax + (1 << 20));
  world.run_for(5s);
  expect_answers();
  EXPECT_EQ(refused, 0u);
  EXPECT_EQ(world.trace().text("reads too slowly", 5), "");
  EXPECT_TRUE(cluster.run_until_quiet(60s));
}

}  // namespace
}  // namespace starling::sim
