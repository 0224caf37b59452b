// Hazard F2: a name that was chosen stays chosen when its owners change. hazards.h says how a directed case
// works; here no device takes part: the operator's door of one node or another is asked to create users.
#include <algorithm>
#include <array>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "crypto/init.h"
#include "node/ring/messages.h"
#include "overlay/ring/paxos_wire.h"
#include "tests/sim/hazards/hazards.h"
#include "tests/sim/world/cluster.h"

namespace starling::sim {
namespace {

constexpr std::uint32_t kPartitions = 16;

// One name of each partition, claimed through node 0: two of its owners accept the claim, the third never
// hears of it, and nobody learns that it is chosen. The node says "unknown, try again".
class NamesMove : public ::testing::TestWithParam<std::uint64_t> {
 protected:
  struct Name {
    std::string address;
    std::set<std::size_t> accepted;  // Nodes.
    std::size_t third = 0;
    std::uint64_t nonce = 0;
  };

  explicit NamesMove(std::size_t nodes = 3) : options{.nodes = nodes, .partitions = kPartitions, .tap = &tap} {}
  static void SetUpTestSuite() { ASSERT_TRUE(crypto_init()); }

  void SetUp() override {
    world.trace().echo(std::getenv("STARLING_TRACE") != nullptr);
    ASSERT_TRUE(cluster.form());
    for (std::size_t i = 0; names.size() < kPartitions; ++i) {
      const std::string address = "@n" + std::to_string(i);
      const auto partition = partition_of(slot_of(mailbox_of(address)), kPartitions);
      if (!names.contains(partition)) names[partition] = {address, {}, 0, 1000 + i};
    }
  }

  Json create(std::size_t at, const Name& name, std::uint64_t nonce) {
    const Json user{{"name", name.address}, {"nonce", nonce}};
    const auto answer = cluster.admin(at, "user.add", {{"users", {user}}});
    return answer ? answer->at("results")[0] : Json{{"error", answer.error().text}};
  }
  static std::string error_of(const Json& result) {
    return result.contains("error") ? result.at("error").value("name", "?") : "";
  }
  std::optional<overlay::PaxosRequest> vote_on(const TapMessage& m, const Name& name) {
    if (m.method != Method::kPaxos) return std::nullopt;
    auto request = overlay::decode_paxos_request(m.body);
    if (!request || !request->instance.data.ends_with(name.address)) return std::nullopt;
    return *request;
  }

  // `third` is the owner that hears nothing, by its place.
  void claim_all(std::size_t third) {
    for (auto& [partition, name] : names) {
      auto owners = cluster.owners_of(name.address);
      std::sort(owners.begin(), owners.end());
      ASSERT_EQ(owners.size(), 3u);
      name.third = owners[third];
      std::set<std::size_t> accepted;
      tap.on_leave = [&](const TapMessage& m) {
        return vote_on(m, name) && m.to == name.third ? Fate::kHold : Fate::kPass;
      };
      tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
        const auto request = vote_on(m, name);
        if (!request || request->kind != overlay::PaxosKind::kAccept || !answer) return Fate::kPass;
        const auto response = overlay::decode_paxos_response(*answer);
        if (response && response->verdict == overlay::Verdict::kGranted) accepted.insert(m.to);
        return Fate::kHold;
      };
      EXPECT_EQ(error_of(create(0, name, name.nonce)), "unavailable");
      ASSERT_EQ(accepted.size(), 2u);  // A majority: it is chosen.
      name.accepted = accepted;
      tap.clear();
    }
  }

  std::size_t add_node() {
    const auto added = cluster.add_node(120s);
    EXPECT_TRUE(added);
    (void)cluster.index_of("nobody");  // The tap learns its id.
    return added ? *added : 0;
  }

  // Somebody else wants the names, and reaches none of those who accepted where the others suffice.
  void claim_again_at(std::size_t at) {
    std::size_t sharp = 0;
    for (const auto& [partition, name] : names) {
      std::size_t others = 0;
      for (const auto owner : cluster.owners_of(name.address)) {
        others += cluster.up(owner) && !name.accepted.contains(owner);
      }
      const bool alone = others >= 2;
      sharp += alone;
      tap.on_leave = [&](const TapMessage& m) {
        return alone && vote_on(m, name) && name.accepted.contains(m.to) ? Fate::kHold : Fate::kPass;
      };
      Json result;
      for (int attempt = 0; attempt < 5; ++attempt) {
        result = create(at, name, 7);
        if (error_of(result) != "unavailable" && error_of(result) != "timeout") break;
      }
      EXPECT_EQ(error_of(result), "exists") << name.address << ": " << result.dump();
      tap.clear();
      // The first creator asks again: it was its own creation that was chosen.
      result = create(at, name, name.nonce);
      EXPECT_EQ(error_of(result), "") << name.address << ": " << result.dump();
    }
    EXPECT_GE(sharp, 1u) << "no partition changed its owners enough";
    EXPECT_EQ(cluster.fatal_errors(), 0u);
  }

  World world{GetParam()};
  Tap tap;
  const ClusterOptions options;
  SimCluster cluster{world, options};
  std::map<PartitionId, Name> names;
};

INSTANTIATE_TEST_SUITE_P(Seeds, NamesMove, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(8)));

TEST_P(NamesMove, F02_TwoJoinsReplaceTheOwnersAndTheNameStaysWithTheFirst) {
  claim_all(2);
  add_node();
  claim_again_at(add_node());
}

// The disk of node 1 is gone; the machine comes back as another node.
TEST_P(NamesMove, F02_AWipedOwnerIsANewNodeAndTakesOverWhatTheOthersHold) {
  claim_all(2);
  cluster.crash(1, Crash::kPower);
  claim_again_at(add_node());
  // The old disk turns up after all, with the ring version of then.
  ASSERT_TRUE(cluster.restart(1));
  ASSERT_TRUE(cluster.run_until([&] { return cluster.all_serving(); }, 60s));
  for (const auto& [partition, name] : names) {
    EXPECT_EQ(error_of(create(1, name, 8)), "exists");
  }
}

// The owner that heard nothing was away for two changes; it takes over from each ring version on.
TEST_P(NamesMove, F02_AnOwnerThatWasAwayFollowsEveryChangeOfOwners) {
  claim_all(2);
  cluster.crash(2, Crash::kPower);
  add_node();
  add_node();
  ASSERT_TRUE(cluster.restart(2));
  ASSERT_TRUE(cluster.run_until([&] { return cluster.all_serving(); }, 60s));
  claim_again_at(2);
}

// Nobody hands anything over between the two joins, so the owners of the first could never vote.
TEST_P(NamesMove, F02_OwnersThatNeverVotedArePassedOver) {
  claim_all(2);
  tap.on_leave = [](const TapMessage& m) {
    return m.method == Method::kSeal && m.from != m.to ? Fate::kHold : Fate::kPass;
  };
  add_node();
  const auto at = add_node();
  tap.clear();
  claim_again_at(at);
}

// Two of three owners leave in one change: they go on answering for the names until others vote on them.
TEST_P(NamesMove, F02_AMajorityThatLeavesAtOnceTakesNoNameWithIt) {
  claim_all(2);
  add_node();
  const auto at = add_node();
  tap.on_leave = [](const TapMessage& m) {
    return m.method == Method::kHandOver && m.from != m.to ? Fate::kHold : Fate::kPass;
  };
  ASSERT_TRUE(cluster.admin(at, "leave", {{"nodes", {cluster.id(0), cluster.id(1)}}}));
  world.run_for(30s);
  EXPECT_FALSE(cluster.departed(0) && cluster.departed(1));
  tap.clear();
  ASSERT_TRUE(cluster.run_until([&] { return cluster.departed(0) && cluster.departed(1); }, 60s));
  cluster.retire(0);
  cluster.retire(1);
  world.run_for(10s);
  claim_again_at(at);
}

// Three join and the first three leave: nobody is left of those who voted, or of those who handed their votes over.
TEST_P(NamesMove, F02_WhenEveryOwnerIsNewTheNameStaysWithTheFirst) {
  claim_all(2);
  std::size_t at = 0;
  for (int i = 0; i < 3; ++i) at = add_node();
  for (const std::size_t i : {0, 1, 2}) {
    Result<Json> asked = Error{};
    for (int attempt = 0; attempt < 60 && !asked; ++attempt) {  // Another change may be under way.
      asked = cluster.admin(at, "leave", {{"nodes", {cluster.id(i)}}});
      if (!asked) world.run_for(1s);
    }
    ASSERT_TRUE(asked) << asked.error().text;
    ASSERT_TRUE(cluster.run_until([&] { return cluster.departed(i); }, 120s)) << i;
    cluster.retire(i);
  }
  for (const auto& [partition, name] : names) {
    for (const auto owner : cluster.owners_of(name.address)) ASSERT_GE(owner, 3u) << name.address;
  }
  world.run_for(10s);
  for (const auto& [partition, name] : names) {
    EXPECT_EQ(error_of(create(at, name, 7)), "exists") << name.address;
    EXPECT_EQ(error_of(create(at, name, name.nonce)), "") << name.address;
  }
}

// An owner and two stand-ins are enough to accept messages. Not to give a name away: no vote is asked of a stand-in.
class NamesApart : public NamesMove {
 protected:
  NamesApart() : NamesMove(5) {}
};
INSTANTIATE_TEST_SUITE_P(Seeds, NamesApart, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

TEST_P(NamesApart, F02_AStandInDoesNotVote) {
  const Name name = names.begin()->second;
  const auto owners = cluster.owners_of(name.address);
  ASSERT_EQ(owners.size(), 3u);
  std::vector<std::size_t> side{owners[0]}, others{owners[1], owners[2]};
  for (std::size_t i = 0; i < 5; ++i) {
    if (std::find(owners.begin(), owners.end(), i) == owners.end()) side.push_back(i);
  }
  cluster.partition({side, others});
  world.run_for(15s);
  std::set<std::size_t> asked;
  tap.on_leave = [&](const TapMessage& m) {
    if (vote_on(m, name)) asked.insert(m.to);
    return Fate::kPass;
  };
  EXPECT_EQ(error_of(create(side[1], name, name.nonce)), "unavailable");
  ASSERT_TRUE(asked.contains(owners[0]));
  EXPECT_FALSE(asked.contains(side[1]) || asked.contains(side[2]));
  tap.clear();
  EXPECT_EQ(error_of(create(others[0], name, 7)), "") << "there are most of the owners";
  cluster.heal();
  ASSERT_TRUE(cluster.run_until([&] { return cluster.all_serving(); }, 60s));
  world.run_for(5s);
  EXPECT_EQ(error_of(create(side[1], name, name.nonce)), "exists");
}

// While claims are handed over nobody votes, and who asks for a new name waits.
TEST_P(NamesMove, NewNamesWaitForTheHandOver) {
  bool held = false;
  tap.on_leave = [&](const TapMessage& m) {
    if (m.method != Method::kSeal || m.from == m.to) return Fate::kPass;
    held = true;
    return Fate::kHold;
  };
  const auto at = add_node();
  ASSERT_TRUE(held);
  std::size_t waiting = 0;
  for (const auto& [partition, name] : names) {
    const auto owners = cluster.owners_of(name.address);
    if (std::find(owners.begin(), owners.end(), at) == owners.end()) continue;
    ++waiting;
    EXPECT_EQ(error_of(create(0, name, name.nonce)), "unavailable");
    break;
  }
  ASSERT_EQ(waiting, 1u);
  tap.clear();
  world.run_for(3s);
  for (const auto& [partition, name] : names) EXPECT_EQ(error_of(create(at, name, name.nonce)), "");
}

class Creations : public Hazards {};
INSTANTIATE_TEST_SUITE_P(Seeds, Creations, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

// The group was created, and nobody told the device. It asks again, and so does somebody else.
TEST_P(Creations, ARetryAfterATimeoutIsNotToldThatTheGroupExists) {
  start(*alice, a);
  start(*bob, b);
  bool lose = true;
  std::size_t granted = 0;
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (m.method != Method::kPaxos || !lose || !answer) return Fate::kPass;
    const auto request = overlay::decode_paxos_request(m.body);
    if (!request || request->kind != overlay::PaxosKind::kAccept) return Fate::kPass;
    ++granted;
    return Fate::kHold;
  };
  const auto create = [this](SimDevice& device) {
    EXPECT_TRUE(until([&] { return device.ready(); }, 30s));  // It may have given its node up.
    const auto answer = std::make_shared<std::optional<Result<Done>>>();
    device.client().create_group("#new", [answer](Result<Done> r) { answer->emplace(std::move(r)); });
    EXPECT_TRUE(until([&] { return answer->has_value(); }, 30s));
    return *answer && !(*answer)->ok() ? std::string(name((*answer)->code())) : std::string();
  };
  EXPECT_NE(create(*alice), "");
  ASSERT_GE(granted, 2u);
  lose = false;
  tap.release();
  EXPECT_EQ(create(*bob), "exists");  // It was alice's that was chosen.
  EXPECT_EQ(create(*alice), "");
  EXPECT_EQ(create(*alice), "exists");  // A new wish is a new number.
  finish();
}

// --- F24: what follows from a name is written by whoever finds it decided. ---

class NamesFollow : public Hazards {};

INSTANTIATE_TEST_SUITE_P(Seeds, NamesFollow, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

// The name of a group is decided, and its first device is gone before it is written that there is such a group. Asked for
// by another device of the owner the name is taken, and the group is there, with its owner.
TEST_P(NamesFollow, F24_AGroupWhoseFounderFellHasItsOwner) {
  start(*alice, a);
  start(*alice2, b);
  bool fallen = false;
  tap.on_leave = [&](const TapMessage& m) {
    if (m.method != Method::kWriteRegister || fallen) return Fate::kPass;
    const auto request = unpack<node::WriteRegisterRequest>(m.body);
    return request && request->mailbox == mailbox_of("#new") && request->key == "created" ? Fate::kLose : Fate::kPass;
  };
  std::optional<Result<Done>> founded;
  alice->call([&](node::Client& client) {
    client.create_group("#new", [&](Result<Done> answer) { founded = std::move(answer); });
  });
  ASSERT_TRUE(until([&] { return founded.has_value(); }, 30s));
  ASSERT_FALSE(founded->ok());
  alice->close();
  fallen = true;
  const auto has = [&](View key) {
    return std::ranges::any_of(std::array{a, b, c}, [&](std::size_t i) {
      return cluster.store(i).find_register(mailbox_of("#new"), key).has_value();
    });
  };
  ASSERT_TRUE(has("member/@alice") && !has("created"));
  Errc said{};
  (void)manage([&](auto done) {
    alice2->client().create_group("#new", [&said, done](Result<Done> answer) {
      if (!answer) said = answer.code();
      done(said == Errc::kExists ? Result<Done>(Done{}) : std::move(answer));
    });
  });
  EXPECT_EQ(said, Errc::kExists);
  EXPECT_TRUE(manage([&](auto done) { alice2->client().add_member("#new", "@bob", 0, done); }));
  finish();
}

}  // namespace
}  // namespace starling::sim
