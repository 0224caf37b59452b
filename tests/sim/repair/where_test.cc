// `starling where ADDRESS MESSAGE`: what every node has of one message.
#include "tests/sim/hazards/hazards.h"
#include "tests/sim/repair/where.h"

namespace starling::sim {
namespace {

// Five nodes: a, b and c own #g.
class Where : public Hazards {
 protected:
  Where() : Hazards(5) {}
  Result<Json> ask(std::size_t at, const std::string& address, const std::string& message) {
    return cluster.admin(at, "where", {{"address", address}, {"message", message}});
  }
};

INSTANTIATE_TEST_SUITE_P(Seeds, Where, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(3)));

TEST_P(Where, EveryNodeTellsTheSame) {
  start(*alice, a);
  start(*bob, b);
  const auto sent = send(*alice);
  const auto direct = send(*alice, "@bob");
  ASSERT_TRUE(acked(sent) && acked(direct));
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    const auto where = ask(i, "#g", record(sent).id);
    ASSERT_TRUE(where) << where.error().text;
    EXPECT_EQ(states(*where), (std::map<std::string, int>{{"synced", 3}}));
    EXPECT_EQ(where->at("message").at("from"), "@alice");
    EXPECT_EQ(where->at("stand_ins").size(), 0u);
    EXPECT_GE(where->at("followers").size(), 2u);  // The gateways of alice and bob.
    // The same by its key.
    const auto& message = where->at("message");
    const auto again = ask(i, "#g", message.at("device").get<std::string>() + "/" + message.at("seq").dump());
    ASSERT_TRUE(again);
    EXPECT_EQ(again->at("message"), message);
    EXPECT_EQ(again->at("owners"), where->at("owners"));
  }
  // A direct message is in both mailboxes, whoever else they belong to.
  for (const auto* address : {"@alice", "@bob"}) {
    const auto where = ask(c, address, record(direct).id);
    ASSERT_TRUE(where) << where.error().text;
    EXPECT_EQ(states(*where), (std::map<std::string, int>{{"synced", 3}}));
    EXPECT_EQ(where->at("message").at("to"), "@bob");
  }
  finish();
}

TEST_P(Where, WhoLacksItAndWhoStandsInIsTold) {
  start(*alice, a);
  ASSERT_TRUE(acked(send(*alice)));
  std::vector<std::size_t> side{a};
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    if (i != a && i != b && i != c) side.push_back(i);
  }
  cluster.partition({side, {b, c}});
  world.run_for(15s);  // Until they are taken for dead.
  const auto alone = send(*alice);
  ASSERT_TRUE(acked(alone));
  const auto where = ask(a, "#g", record(alone).id);
  ASSERT_TRUE(where) << where.error().text;
  EXPECT_EQ(states(*where), (std::map<std::string, int>{{"synced", 1}, {"no answer", 2}}));
  ASSERT_EQ(where->at("stand_ins").size(), 1u);
  EXPECT_EQ(where->at("stand_ins")[0].at("copies")[0].at("state"), "held for the owners");
  // The other side has not heard of it, and says who answered.
  const auto other = ask(b, "#g", record(alone).id);
  ASSERT_FALSE(other);
  EXPECT_EQ(other.code(), Errc::kNotFound);
  EXPECT_NE(other.error().text.find("2 of its 3 owners answered"), std::string::npos) << other.error().text;
  finish();
}

// Every owner is down or cut off: what the stand-ins hold is found by what they hold, and for whom.
TEST_P(Where, WhatOnlyAStandInHasIsFound) {
  start(*alice, a);
  ASSERT_TRUE(acked(send(*alice)));
  std::vector<std::size_t> side{a}, others;
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    if (i != a && i != b && i != c) others.push_back(i);
  }
  side.insert(side.end(), others.begin(), others.end());
  cluster.partition({side, {b, c}});
  world.run_for(15s);  // Until they are taken for dead.
  const auto alone = send(*alice);
  ASSERT_TRUE(acked(alone));
  const auto before = ask(a, "#g", record(alone).id);
  ASSERT_TRUE(before) << before.error().text;
  const auto& message = before->at("message");
  const std::string key = message.at("device").get<std::string>() + "/" + message.at("seq").dump();
  cluster.crash(a, Crash::kPower);
  world.run_for(15s);
  for (const auto at : others) {
    for (const auto& text : {std::string(record(alone).id), key}) {
      const auto where = ask(at, "#g", text);
      ASSERT_TRUE(where) << where.error().text;
      EXPECT_EQ(states(*where), (std::map<std::string, int>{{"no answer", 3}}));
      EXPECT_EQ(where->at("message").at("id"), record(alone).id);
      EXPECT_EQ(where->at("message").at("from"), "@alice");
      ASSERT_EQ(where->at("stand_ins").size(), 1u);
      const auto& stand_in = where->at("stand_ins")[0];
      EXPECT_EQ(stand_in.at("copies")[0].at("state"), "held for the owners");
      // a may have said that it has it; b and c cannot have.
      const auto held_for = stand_in.at("for").get<std::set<std::string>>();
      EXPECT_TRUE(held_for.contains(cluster.id(b)) && held_for.contains(cluster.id(c))) << stand_in;
    }
  }
  cluster.heal();
  ASSERT_TRUE(cluster.restart(a));
  finish();
}

class WhereExpired : public Where {
 protected:
  WhereExpired() { cluster.set_retention(60s); }
};
INSTANTIATE_TEST_SUITE_P(Seeds, WhereExpired, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(2)));

TEST_P(WhereExpired, WhatExpiredWasThere) {
  start(*alice, a);
  const auto sent = send(*alice);
  ASSERT_TRUE(acked(sent));
  const auto before = ask(b, "#g", record(sent).id);
  ASSERT_TRUE(before) << before.error().text;
  EXPECT_EQ(before->at("message").at("expired"), false);
  const auto& message = before->at("message");
  const std::string key = message.at("device").get<std::string>() + "/" + message.at("seq").dump();
  world.run_for(180s);
  const auto after = ask(b, "#g", key);
  if (after) {
    EXPECT_EQ(after->at("message").at("expired"), true);
    EXPECT_EQ(states(*after), (std::map<std::string, int>{{"gone", 3}}));
  } else {  // Its rows are erased, too: its lane knows.
    EXPECT_EQ(after.code(), Errc::kNotFound);
    EXPECT_NE(after.error().text.find("It was there"), std::string::npos) << after.error().text;
  }
}

TEST_P(Where, AWrongIdSaysWhatIsOne) {
  EXPECT_EQ(ask(a, "#g", "nonsense!").code(), Errc::kInvalid);
  EXPECT_EQ(ask(a, "#g", "zz/1").code(), Errc::kInvalid);
  EXPECT_EQ(ask(a, "#g", "00112233445566778899aabbccddeeff/").code(), Errc::kInvalid);
  EXPECT_EQ(ask(a, "#g", "00112233445566778899aabbccddeeff/7").code(), Errc::kNotFound);
  EXPECT_EQ(ask(a, "#g", to_text(EntryId{hlc_at(1'700'000'000'000), WriterId{5}})).code(), Errc::kNotFound);
}

}  // namespace
}  // namespace starling::sim
