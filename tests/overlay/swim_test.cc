#include "overlay/gossip/swim.h"

#include <cstdlib>
#include <limits>
#include <set>
#include <tuple>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/overlay/swim_net.h"

namespace starling::overlay {
namespace {

using Kind = MemberEvent::Kind;

// A net of n nodes that know each other.
struct Joined : SwimNet {
  explicit Joined(int n, std::uint64_t seed = 1) : SwimNet(n, seed) {
    boot_all();
    EXPECT_LT(run_until([&] { return converged(); }, 30s), 30s) << "seed " << seed;
    run_for(5s);
  }
};

TEST(Swim, TenNodesFindEachOtherThroughOneSeed) {
  SwimNet net(10);
  net.boot_all();
  EXPECT_LT(net.run_until([&] { return net.converged(); }, 30s), 3s);
  EXPECT_EQ(net.count_all(Kind::kJoined), 90);
  net.run_for(60s);
  EXPECT_TRUE(net.converged());
  EXPECT_EQ(net.count_all(Kind::kSuspected), 0);
  EXPECT_EQ(net.count_all(Kind::kJoined), 90) << "each member joins once";
}

TEST(Swim, TwoClustersFormedApartMergeThroughTheirSeeds) {
  SwimNet net(4);
  net.split({2, 3});  // Their seed, node 0, is out of reach; they are not told of each other.
  net.boot_all();
  net.run_for(10s);
  EXPECT_FALSE(net.converged());
  net.heal();
  EXPECT_LT(net.run_until([&] { return net.converged(); }, 30s), 10s);
}

struct CrashCase {
  int nodes;
  Duration limit;
};
class SwimCrash : public ::testing::TestWithParam<CrashCase> {};

TEST_P(SwimCrash, IsFoundByEverybodyInTime) {
  const auto [n, limit] = GetParam();
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    Joined net(n, seed);
    net.crash(n - 1);
    const Duration took =
        net.run_until([&] { return net.all_see(n - 1, MemberState::kDead); }, 60s);
    EXPECT_LT(took, limit) << "seed " << seed;
    EXPECT_GE(took, 2s) << "a suspect has two seconds to speak up";
    EXPECT_EQ(net.count_all(Kind::kDied), n - 1) << "and nobody else dies, seed " << seed;
  }
}
INSTANTIATE_TEST_SUITE_P(Sizes, SwimCrash,
                         ::testing::Values(CrashCase{3, 4s}, CrashCase{10, 5s}, CrashCase{50, 7s}),
                         [](const auto& info) { return std::to_string(info.param.nodes); });

TEST(Swim, NobodyIsDeclaredDeadAtFivePercentLoss) {
  Joined net(10);
  net.set_loss(0.05);
  net.run_for(10min);
  EXPECT_EQ(net.count_all(Kind::kDied), 0);
  EXPECT_EQ(net.count_all(Kind::kSelfDeclaredDead), 0);
  EXPECT_TRUE(net.run_until([&] { return net.converged(); }, 30s) < 30s);
}

TEST(Swim, SurvivesThirtyPercentLossWithoutLastingDeaths) {
  Joined net(10);
  net.set_loss(0.3);
  net.run_for(2min);
  net.set_loss(0);
  EXPECT_LT(net.run_until([&] { return net.converged(); }, 60s), 20s);
}

TEST(Swim, APausedObserverBlamesItselfAndRecovers) {
  Joined net(10);
  net.pause(4);
  net.run_for(10s);
  EXPECT_TRUE(net.all_see(4, MemberState::kDead));
  net.resume(4);
  EXPECT_EQ(net.swim(4).stats().overslept, 1u);
  EXPECT_GT(net.swim(4).health_score(), 0);
  EXPECT_LT(net.run_until([&] { return net.converged(); }, 60s), 10s);
  EXPECT_EQ(net.count(4, Kind::kSelfDeclaredDead, 4), 1);
  for (int i = 0; i < net.size(); ++i) EXPECT_EQ(net.count(4, Kind::kDied, i), 0) << i;
  net.run_for(60s);
  EXPECT_TRUE(net.converged());
  EXPECT_EQ(net.swim(4).health_score(), 0);
  EXPECT_EQ(net.count_all(Kind::kDied), 9) << "only the nine deaths of the paused node";
}

TEST(Swim, ASuspectGetsTheTimeBackThatItsAccuserSlept) {
  Joined net(5);
  PushPull lie = net.swim(1).push_pull(net.now(), net.wall_ms(1));
  for (MemberEntry& entry : lie.members) {
    if (read_record(entry.record.data)->node != net.id(2)) continue;
    entry.state = static_cast<std::uint8_t>(MemberState::kSuspect);
  }
  net.step(4, Swim::Merge{net.id(1), lie});
  ASSERT_EQ(net.state(4, 2), MemberState::kSuspect);
  net.pause(4);
  net.run_for(20s);
  net.resume(4);
  net.run_for(10s);
  EXPECT_EQ(net.count(4, Kind::kDied, 2), 0);
  EXPECT_TRUE(net.converged());
}

TEST(Swim, OneBrokenPathCondemnsNobody) {
  Joined net(5);
  net.set_tap([&](int from, const Swim::Send& send) {
    const bool between_0_and_1 = (from == 0 && send.to == SwimNet::address(1, 7400)) ||
                                 (from == 1 && send.to == SwimNet::address(0, 7400));
    return !between_0_and_1;
  });
  net.run_for(60s);
  EXPECT_GT(net.swim(0).stats().indirect_probes, 0u);
  EXPECT_EQ(net.count_all(Kind::kSuspected), 0);
}

TEST(Swim, ASilentMemberIsNoSignAgainstOurselvesWhenOthersMissItToo) {
  Joined net(10);
  net.crash(9);
  net.run_until([&] { return net.all_see(9, MemberState::kDead); }, 10s);
  std::uint64_t failed = 0;
  for (int i = 0; i < 9; ++i) {
    failed += net.swim(i).stats().probes_failed;
    EXPECT_EQ(net.swim(i).health_score(), 0) << i;
  }
  EXPECT_GT(failed, 0u);
}

TEST(Swim, ADeafNodeBlamesItselfAndCondemnsNobodyHealthy) {
  Joined net(10);
  SeededRandom random(11);
  net.set_tap([&](int, const Swim::Send& send) {
    return send.to != SwimNet::address(4, 7400) || random.unit() > 0.8;
  });
  int worst = 0;
  for (int i = 0; i < 60; ++i) {
    net.run_for(1s);
    worst = std::max(worst, net.swim(4).health_score());
  }
  EXPECT_GE(worst, 3);
  for (int i = 0; i < 10; ++i) {
    for (int j = 0; j < 10; ++j) {
      if (j == 4) continue;
      EXPECT_EQ(net.count(i, Kind::kDied, j), 0) << i << " buried " << j;
    }
  }
}

TEST(Swim, ASuspectRefutesByAHigherIncarnation) {
  Joined net(5);
  const std::uint64_t before = net.swim(2).self().incarnation;
  const Claim lie{net.id(2), before, static_cast<std::uint8_t>(MemberState::kSuspect), net.id(1)};
  PushPull body = net.swim(1).push_pull(net.now(), net.wall_ms(1));
  for (MemberEntry& entry : body.members) {
    if (read_record(entry.record.data)->node == net.id(2)) entry.state = lie.state;
  }
  net.step(0, Swim::Merge{net.id(1), body});
  EXPECT_EQ(net.state(0, 2), MemberState::kSuspect);
  EXPECT_TRUE(net.swim(0).table().find(net.id(2))->live());
  EXPECT_LT(net.run_until([&] { return net.converged(); }, 10s), 2s);
  EXPECT_EQ(net.swim(2).self().incarnation, before + 1);
  EXPECT_EQ(net.swim(2).stats().refutations, 1u);
  EXPECT_EQ(net.count(0, Kind::kAliveAgain, 2), 1);
  EXPECT_EQ(net.count_all(Kind::kDied), 0);
}

TEST(Swim, AGracefulLeaveIsNotADeath) {
  Joined net(10);
  net.step(3, Swim::Leave{});
  EXPECT_LT(net.run_until([&] { return net.all_see(3, MemberState::kLeft); }, 10s), 1s);
  net.run_for(30s);
  EXPECT_TRUE(net.all_see(3, MemberState::kLeft));
  EXPECT_EQ(net.count_all(Kind::kDied) + net.count_all(Kind::kSuspected), 0);
  EXPECT_EQ(net.count_all(Kind::kLeft), 10) << "the others, and the leaver when it is done";
  const std::uint64_t sent = net.swim(3).stats().packets_sent;
  net.run_for(10s);
  EXPECT_EQ(net.swim(3).stats().packets_sent, sent) << "who has left is silent";
}

TEST(Swim, ASplitOfAMinuteMergesByItself) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    Joined net(10, seed);
    net.split({5, 6, 7, 8, 9});
    net.run_for(60s);
    for (int i = 0; i < 10; ++i) {
      for (int j = 0; j < 10; ++j) {
        if (i == j) continue;
        EXPECT_EQ(net.state(i, j), (i < 5) == (j < 5) ? MemberState::kAlive : MemberState::kDead)
            << i << " sees " << j << ", seed " << seed;
      }
    }
    net.heal();
    EXPECT_LT(net.run_until([&] { return net.converged(); }, 60s), 20s) << "seed " << seed;
    EXPECT_GT(net.count_all(Kind::kSelfDeclaredDead), 0);
  }
}

// A machine that was taken out for good is dead for ever. It may come back on its own.
TEST(Swim, NobodyLooksForADeadNodeThatIsGoneFromTheRing) {
  Joined net(4, 1);
  net.crash(3);
  net.run_until([&] { return net.all_see(3, MemberState::kDead); }, 60s);
  std::set<NodeId> members;
  for (int i = 0; i < 4; ++i) members.insert(net.id(i));
  net.run_for(5min);
  EXPECT_GT(net.tries(0, 3) + net.tries(1, 3) + net.tries(2, 3), 0) << "a member is looked for";
  for (int i = 0; i < 3; ++i) net.swim(i).set_members(members, {net.id(3)});
  const auto before = std::tuple(net.tries(0, 3), net.tries(1, 3), net.tries(2, 3));
  net.run_for(5min);
  EXPECT_EQ(std::tuple(net.tries(0, 3), net.tries(1, 3), net.tries(2, 3)), before);
  net.boot(3);
  net.run_for(10s);
  EXPECT_TRUE(net.all_see(3, MemberState::kAlive));
}

TEST(Swim, ARestartedNodeIsBackAtOnceUnderItsNewRun) {
  Joined net(5);
  const WriterId old_writer = net.swim(2).self().writer;
  net.crash(2);
  net.run_for(300ms);
  net.boot(2);
  EXPECT_LT(net.run_until([&] { return net.converged(); }, 10s), 3s);
  net.run_for(10s);
  for (int i : {0, 1, 3, 4}) {
    EXPECT_NE(net.swim(i).table().find(net.id(2))->record.writer, old_writer);
    EXPECT_EQ(net.count(i, Kind::kDied, 2), 0);
  }
}

TEST(Swim, ARestartWithAClockThatWentBackGoesAboveItsFormerRun) {
  Joined net(5);
  net.crash(2);
  net.run_for(10s);
  net.set_wall_offset(2, -3'600'000);
  net.boot(2);
  EXPECT_LT(net.run_until([&] { return net.converged(); }, 30s), 10s);
  EXPECT_EQ(net.swim(0).table().find(net.id(2))->record.writer, net.swim(2).self().writer);
}

TEST(Swim, AnUpdateOfTheOwnRecordReachesEverybody) {
  Joined net(10);
  MemberRecord record = net.swim(7).self();
  record.draining = true;
  record.node = net.id(1);  // Not ours to change.
  net.step(7, Swim::UpdateSelf{record});
  EXPECT_EQ(net.swim(7).self().node, net.id(7));
  const auto known = [&] {
    for (int i = 0; i < 10; ++i) {
      if (i != 7 && !net.swim(i).table().find(net.id(7))->record.draining) return false;
    }
    return true;
  };
  EXPECT_LT(net.run_until(known, 10s), 1s);
  EXPECT_EQ(net.count(0, Kind::kChanged, 7), 1);
}

TEST(Swim, HeartbeatsTellOfANewerRingWithoutANewIncarnation) {
  Joined net(3);
  const std::uint64_t before = net.swim(1).self().incarnation;
  net.swim(1).set_heartbeat({0, RingNumber{9}, true, 44});
  net.run_for(3s);
  EXPECT_EQ(net.swim(1).self().incarnation, before);
  EXPECT_EQ(net.swim(0).table().find(net.id(1))->heartbeat.sessions, 44u);
  EXPECT_TRUE(net.swim(0).table().find(net.id(1))->heartbeat.catching_up);
  EXPECT_GE(net.count(0, Kind::kNewerRing, 1), 1);
  EXPECT_LE(net.count(0, Kind::kNewerRing, 1), 4) << "a reminder a second, not one per packet";
  net.swim(0).set_heartbeat({0, RingNumber{9}, false, 0});
  net.events(0).clear();
  net.run_for(3s);
  EXPECT_EQ(net.count(0, Kind::kNewerRing, 1), 0);
}

TEST(Swim, TheMedianClockShowsWhoseIsWrong) {
  Joined net(5);
  net.set_wall_offset(3, 90'000);
  net.run_for(20s);
  const auto offset = [&](int i) {
    return net.swim(i).clock_standing(net.now(), net.wall_ms(i)).value().median_ms;
  };
  EXPECT_NEAR(static_cast<double>(offset(3)), -90'000, 50);
  EXPECT_NEAR(static_cast<double>(offset(0)), 0, 50);
  SwimNet lone(2);
  lone.boot(0);
  EXPECT_FALSE(lone.swim(0).clock_standing(lone.now(), lone.wall_ms(0)).has_value());
}

// Of nodes whose clocks are off by so much: those whose standing is as asked.
std::set<int> standing_so(bool ClockStanding::*so, const std::vector<std::int64_t>& offsets) {
  Joined net(static_cast<int>(offsets.size()));
  for (std::size_t i = 0; i < offsets.size(); ++i) net.set_wall_offset(static_cast<int>(i), offsets[i]);
  net.run_for(20s);
  std::set<int> out;
  for (int i = 0; i < static_cast<int>(offsets.size()); ++i) {
    if (net.swim(i).clock_standing(net.now(), net.wall_ms(i)).value().*so) out.insert(i);
  }
  return out;
}

TEST(Swim, AClockAgreesWithAMajorityOrNot) {
  const auto agreeing = [](const std::vector<std::int64_t>& offsets) { return standing_so(&ClockStanding::agrees, offsets); };
  EXPECT_EQ(agreeing({0, 900, -900}), (std::set{0, 1, 2}));
  EXPECT_EQ(agreeing({0, 900, 90'000}), (std::set{0, 1}));
  EXPECT_EQ(agreeing({0, 90'000}), std::set<int>{});
  // The median clock is wrong, as the one above it.
  EXPECT_EQ(agreeing({0, 1'620'000, 3'480'000}), std::set<int>{});
  EXPECT_EQ(agreeing({0, 0, 90'000, 90'000}), std::set<int>{});
  EXPECT_EQ(agreeing({0, 0, 0, 90'000, 180'000}), (std::set{0, 1, 2}));
}

TEST(Swim, AClockThatIsOffIsNearAMajorityOrNot) {
  const auto near = [](const std::vector<std::int64_t>& offsets) { return standing_so(&ClockStanding::near, offsets); };
  EXPECT_EQ(near({0, 10'000, -20'000}), (std::set{0, 1, 2}));
  EXPECT_EQ(near({0, 10'000, 90'000}), (std::set{0, 1}));
  // One of them is the median, and far from both others.
  EXPECT_EQ(near({0, -1'500'000, -2'400'000}), std::set<int>{});
}

TEST(Swim, AClockThatCannotBeIsAsFarOffAsOneCanBe) {
  for (const auto clock : {std::numeric_limits<std::int64_t>::min(), std::int64_t{-1},
                           std::numeric_limits<std::int64_t>::max()}) {
    Joined net(2);
    PushPull told = net.swim(1).push_pull(net.now(), net.wall_ms(1));
    told.members.at(0).heartbeat.wall_ms = clock;
    net.step(0, Swim::Merge{net.id(1), told});
    const auto standing = net.swim(0).clock_standing(net.now(), net.wall_ms(0));
    ASSERT_TRUE(standing.has_value());
    EXPECT_FALSE(standing->agrees);
    EXPECT_EQ(standing->median_ms < 0, clock < 0) << clock;
    EXPECT_GT(std::abs(standing->median_ms), 1'000'000'000) << clock;
  }
}

TEST(Swim, PacketsStayUnderTheirLimitWhenAHundredJoinAtOnce) {
  SwimNet net(100);
  std::size_t largest = 0;
  net.set_tap([&](int, const Swim::Send& send) {
    largest = std::max(largest, send.plain.size());
    return true;
  });
  net.boot_all();
  EXPECT_LT(net.run_until([&] { return net.converged(); }, 60s), 30s);
  EXPECT_LE(largest, kPacketSizeMax);
  EXPECT_GT(largest, kPacketSizeMax / 2) << "packets are filled";
}

TEST(Swim, OneSeedGivesOneHistory) {
  const auto history = [](std::uint64_t seed) {
    SwimNet net(8, seed);
    Bytes out;
    net.set_tap([&](int from, const Swim::Send& send) {
      out += std::to_string(from) + send.to.text() + send.plain;
      return true;
    });
    net.set_loss(0.2);
    net.boot_all();
    net.run_for(20s);
    return out;
  };
  EXPECT_EQ(history(5), history(5));
  EXPECT_NE(history(5), history(6));
}

}  // namespace
}  // namespace starling::overlay
