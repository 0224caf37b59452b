// An invite shown to two nodes at once: the ring decides which of the joiners it admits.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "crypto/access/invite.h"
#include "crypto/init.h"
#include "node/ring/messages.h"
#include "overlay/ring/ring_version.h"
#include "tests/sim/world/cluster.h"
#include "tests/sim/world/raw_peer.h"

namespace starling::sim {
namespace {

using overlay::Method;

struct Joiner {
  Joiner(World& world, SimCluster& cluster, std::size_t host, std::uint64_t seed)
      : random(seed),
        identity(Identity::generate(random)),
        peer(world, cluster.network(), cluster.node(host).link_address(), identity) {}

  Status link(const Invite& invite, std::int64_t wall_ms) {
    RawIntroduction introduction;
    introduction.hello.lineage = invite.lineage;
    introduction.hello.writer = WriterId{random.u64()};
    introduction.hello.wall_ms = wall_ms;
    return peer.link(Keyring(invite.secret), introduction);
  }
  Bytes request(const std::string& token, std::int64_t wall_ms) {
    node::JoinRequest out;
    out.key = identity.public_key();
    out.invite = token;
    out.link = "10.0.0.77:7401";
    out.wall_ms = wall_ms;
    return pack(out);
  }

  SeededRandom random;
  Identity identity;
  RawNode peer;
};

// Who is cut off thinks the others dead; they are there when the token is used, and it may not be.
TEST(InviteInSim, OfANodeThatIsCutOffNamesTheOthersLast) {
  ASSERT_TRUE(crypto_init());
  World world{1};
  SimCluster cluster(world, ClusterOptions{.nodes = 3});
  ASSERT_TRUE(cluster.form());
  cluster.crash(2, Crash::kPower);
  world.run_for(20s);
  const auto made = cluster.admin(0, "invite", {{"expires_s", 3600}});
  ASSERT_TRUE(made);
  const auto seeds = made->at("seeds").get<std::vector<std::string>>();
  EXPECT_EQ(seeds, (std::vector<std::string>{cluster.ip(0) + ":7401", cluster.ip(1) + ":7401", cluster.ip(2) + ":7401"}));
}

TEST(InviteInSim, AdmitsOneNodeWhenTwoShowItToTwoMembersAtOnce) {
  ASSERT_TRUE(crypto_init());
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    World world{seed};
    SimCluster cluster(world, ClusterOptions{.nodes = 2});
    ASSERT_TRUE(cluster.form());
    const auto made = cluster.admin(0, "invite", {{"expires_s", 3600}});
    ASSERT_TRUE(made);
    const auto token = made->at("token").get<std::string>();
    const Invite invite = parse_invite(token).value();
    Joiner first(world, cluster, 0, 100 + seed);
    Joiner second(world, cluster, 1, 200 + seed);
    ASSERT_TRUE(first.link(invite, world.wall_ms()));
    ASSERT_TRUE(second.link(invite, world.wall_ms()));

    // The first does not wait for its answer, and asks again once the second has one.
    Bytes frame;
    overlay::append_frame(frame, {overlay::FrameType::kRequest, 0, Method::kJoin, 1000, kNever,
                                  first.request(token, world.wall_ms())});
    const auto ask = [&](Joiner& joiner) {
      return joiner.peer.call(method_number(Method::kJoin), joiner.request(token, world.wall_ms()));
    };
    first.peer.send_plain(frame);
    const auto to_second = ask(second);
    const auto to_first = ask(first);
    ASSERT_NE(to_first.ok(), to_second.ok())
        << (to_first ? "" : to_first.error().text) << " / " << (to_second ? "" : to_second.error().text);
    Joiner& in = to_first ? first : second;
    Joiner& out = to_first ? second : first;
    const auto again = ask(in);  // As if the answer had been lost.
    ASSERT_TRUE(again);
    const auto reply = unpack<node::JoinReply>(*again);
    ASSERT_TRUE(reply);
    const auto intent = overlay::decode_ring_version(reply->ring.data);
    ASSERT_TRUE(intent);
    EXPECT_EQ(intent->members.size(), 3u);
    ASSERT_TRUE(in.peer.call(method_number(Method::kRingProgress),
                             pack(node::RingProgress{intent->number})));
    auto refused = ask(out);
    // The member that is asked may hear of the completed change a moment later.
    for (int i = 0; i < 20 && !refused && refused.code() == Errc::kOverloaded; ++i) {
      world.run_for(100ms);
      refused = ask(out);
    }
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.code(), Errc::kDenied) << refused.error().text;
    EXPECT_NE(refused.error().text.find("starling invite"), std::string::npos);
    EXPECT_EQ(cluster.fatal_errors(), 0u);
  }
}

TEST(InviteInSim, WhoAskedInTimeAndWasPutOffIsNotTooLate) {
  ASSERT_TRUE(crypto_init());
  World world{1};
  SimCluster cluster(world, ClusterOptions{.nodes = 4});
  ASSERT_TRUE(cluster.form());
  const auto make = [&]() -> std::string {
    const auto made = cluster.admin(0, "invite", {{"expires_s", 60}});
    return made ? made->at("token").get<std::string>() : "";
  };
  const std::string token = make(), other_token = make();
  const Invite invite = parse_invite(token).value();
  Joiner first(world, cluster, 0, 101), late(world, cluster, 0, 102), thief(world, cluster, 0, 103);
  for (Joiner* joiner : {&first, &late, &thief}) ASSERT_TRUE(joiner->link(invite, world.wall_ms()));
  const auto ask = [&](Joiner& joiner, const std::string& with) {
    return joiner.peer.call(method_number(Method::kJoin), joiner.request(with, world.wall_ms()));
  };
  ASSERT_TRUE(cluster.admin(0, "pause", Json::object()));
  ASSERT_TRUE(cluster.admin(0, "leave", {{"nodes", {cluster.id(3)}}}));
  for (int i = 0; i < 10; ++i, world.run_for(10s)) {
    const auto put_off = ask(first, token);
    ASSERT_FALSE(put_off);
    EXPECT_EQ(put_off.code(), Errc::kOverloaded) << put_off.error().text;
  }
  ASSERT_TRUE(cluster.admin(0, "resume", Json::object()));
  ASSERT_TRUE(world.run_until([&] { return cluster.departed(3); }, 120s));
  cluster.retire(3);
  for (Joiner* joiner : {&late, &thief}) {  // The one asks too late, the other with a token that is somebody else's.
    const auto refused = ask(*joiner, joiner == &late ? other_token : token);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.code(), Errc::kUnauthenticated) << refused.error().text;
  }
  const auto admitted = ask(first, token);
  ASSERT_TRUE(admitted) << admitted.error().text;
  EXPECT_EQ(cluster.fatal_errors(), 0u);
}

// A new machine with the address of a dead one, which the token still names first.
TEST(InviteInSim, OnesOwnAddressAmongTheSeedsRefusesNobodyWhoHasOthersToAsk) {
  ASSERT_TRUE(crypto_init());
  for (const bool silent : {false, true}) {
    World world{7};
    SimCluster cluster(world, ClusterOptions{.nodes = 4});
    ASSERT_TRUE(cluster.form());
    const auto made = cluster.admin(0, "invite", {{"expires_s", 3600}});
    ASSERT_TRUE(made);
    Invite invite = parse_invite(made->at("token").get<std::string>()).value();
    const std::string own = "10.0.0." + std::to_string(cluster.size() + 1) + ":7401";
    invite.seeds = {own, cluster.ip(0) + ":7401"};
    // Who could admit says later, or nothing.
    ASSERT_TRUE(cluster.admin(1, "pause", Json::object()));
    ASSERT_TRUE(cluster.admin(1, "leave", {{"nodes", {cluster.id(3)}}}));
    if (silent) cluster.crash(0, Crash::kProcess);
    const auto joiner = cluster.begin_join(format_invite(invite).value());
    ASSERT_TRUE(joiner) << joiner.error().text;
    ASSERT_EQ(cluster.ip(*joiner) + ":7401", own);
    world.run_for(20s);
    EXPECT_EQ(cluster.fatal_errors(), 0u) << "it gave up";
    if (silent) {
      ASSERT_TRUE(cluster.restart(0));
    }
    ASSERT_TRUE(cluster.admin(1, "resume", Json::object()));
    EXPECT_TRUE(world.run_until([&] { return cluster.up(*joiner) && cluster.node(*joiner).serving(); }, 180s));
    // Nobody else to ask: it says so, and ends.
    invite.seeds = {"10.0.0." + std::to_string(cluster.size() + 1) + ":7401"};
    const auto alone = cluster.begin_join(format_invite(invite).value());
    ASSERT_TRUE(alone);
    EXPECT_TRUE(world.run_until([&] { return cluster.fatal_errors() > 0; }, 20s));
  }
}

}  // namespace
}  // namespace starling::sim
