// Names over a doubling (hazards F2): the term of a partition goes on in both of its children, so a name that was chosen
// stays with the first, and two who want one do not both get it.
#include "tests/sim/doubling/doubling.h"
#include "tests/sim/names.h"
#include "tests/sim/people/name_races.h"

namespace starling::sim {
namespace {

class DoublingNames : public Doubling {
 protected:
  static constexpr std::size_t kNames = 8;

  struct Name {
    std::string address;
    std::uint64_t nonce = 0;
  };
  std::string create(std::size_t at, const Name& name, std::uint64_t nonce) {
    for (int attempt = 0; attempt < 10; ++attempt) {
      const Json said = create_name(cluster, at, {{"name", name.address}, {"nonce", nonce}});
      const std::string error = said.contains("error") ? said.at("error").value("name", "?") : "";
      if (error != "unavailable" && error != "timeout" && error != "overloaded" && error != "stale_ring") return error;
      world.run_for(200ms);
    }
    return "no answer";
  }
  static std::optional<overlay::PaxosRequest> vote_on(const TapMessage& m, const Name& name) {
    if (m.method != Method::kPaxos) return std::nullopt;
    auto request = overlay::decode_paxos_request(m.body);
    if (!request || !request->instance.data.ends_with(name.address)) return std::nullopt;
    return *request;
  }
  // Two owners accept the claim, c never hears of it, and nobody learns that it is chosen.
  void claim(const Name& name) {
    std::set<std::size_t> accepted;
    tap.on_leave = [&](const TapMessage& m) { return vote_on(m, name) && m.to == c ? Fate::kHold : Fate::kPass; };
    tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
      const auto request = vote_on(m, name);
      if (!request || request->kind != overlay::PaxosKind::kAccept || !answer) return Fate::kPass;
      const auto response = overlay::decode_paxos_response(*answer);
      if (response && response->verdict == overlay::Verdict::kGranted) accepted.insert(m.to);
      return Fate::kHold;
    };
    const Json said = create_name(cluster, a, {{"name", name.address}, {"nonce", name.nonce}});
    EXPECT_FALSE(said.value("created", false));
    ASSERT_EQ(accepted.size(), 2u);
    tap.clear();
  }
  void claim_all() {
    for (std::size_t i = 0; i < kNames; ++i) {
      names.push_back({"@n" + std::to_string(i), 1000 + i});
      ASSERT_NO_FATAL_FAILURE(claim(names.back()));
    }
  }

  std::vector<Name> names;
};

INSTANTIATE_TEST_SUITE_P(Seeds, DoublingNames, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

TEST_P(DoublingNames, ANameThatWasChosenStaysWithTheFirst) {
  ASSERT_NO_FATAL_FAILURE(claim_all());
  ASSERT_NO_FATAL_FAILURE(double_all(c));
  for (const auto& name : names) {
    EXPECT_EQ(create(c, name, 7), "exists") << name.address;
    EXPECT_EQ(create(c, name, name.nonce), "") << name.address << ": its first creator asks again";
  }
  finish();
}

// One that accepted is away, and comes back with the old count: its rows are of the parent.
TEST_P(DoublingNames, ANameThatWasChosenStaysWithTheFirstWhenAnOwnerReturns) {
  ASSERT_NO_FATAL_FAILURE(claim_all());
  bob->close();
  alice->close();
  cluster.crash(b, Crash::kPower);
  believes_dead(c, b);
  ASSERT_TRUE(agree(c));
  ASSERT_TRUE(until([&] { return have({a, c}, 2 * before()); }, 30s));
  cluster.crash(a, Crash::kPower);
  ASSERT_TRUE(cluster.restart(b));
  ASSERT_TRUE(until([&] { return have({b, c}, 2 * before()); }, 60s)) << world.trace().text("", 60);
  ASSERT_TRUE(until([&] { return cluster.node(b).serving() && cluster.node(c).serving(); }, 60s));
  believes_dead(c, a);
  for (const auto& name : names) {
    EXPECT_EQ(create(c, name, 7), "exists") << name.address;
    EXPECT_EQ(create(c, name, name.nonce), "") << name.address;
  }
  finish();
}

// Votes of a node with the old count and of others with the new one do not choose two.
TEST_P(DoublingNames, TwoWhoWantOneNameDuringItDoNotBothGetIt) {
  NameRaces races(world, cluster);
  races.start(150ms);
  world.run_for(1s);
  deafen(a);
  ASSERT_TRUE(agree(c));
  ASSERT_TRUE(until([&] { return have({b, c}, 2 * before()); }, 30s));
  world.run_for(2s);
  hear();
  ASSERT_TRUE(until([&] { return all_have(2 * before()); }, 30s));
  world.run_for(2s);
  races.stop();
  ASSERT_TRUE(cluster.run_until_quiet(60s));
  EXPECT_GT(races.races().size(), 10u);
  const auto found = check_names(races.races());
  EXPECT_TRUE(found.empty()) << text(found);
  for (const auto& why : races.try_passwords()) ADD_FAILURE() << why.text;
  finish();
}

}  // namespace
}  // namespace starling::sim
