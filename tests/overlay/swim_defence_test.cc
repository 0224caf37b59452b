// What Swim refuses: forged records, replays, packets of former runs, strangers, outsiders.
#include <gtest/gtest.h>

#include "overlay/gossip/swim.h"
#include "tests/overlay/swim_net.h"

namespace starling::overlay {
namespace {

using Kind = MemberEvent::Kind;

class SwimDefence : public ::testing::Test {
 protected:
  SwimDefence() : net_(4) {
    net_.boot_all();
    net_.run_for(3s);
    EXPECT_TRUE(net_.converged());
    net_.set_tap([this](int from, const Swim::Send& send) {
      if (from == 1 && send.to == SwimNet::address(0, 7400)) recorded_.push_back(send.plain);
      return true;
    });
  }
  void deliver(const Bytes& plain) { net_.step(0, Swim::Packet{SwimNet::address(1, 7400), plain}); }
  // A packet of node 1 to node 0 that has not arrived.
  Bytes fresh(MessageKind kind, std::vector<Blob> updates = {}) {
    return proven(kind, net_.id(0), std::move(updates));
  }
  Bytes proven(MessageKind kind, const NodeId& about, std::vector<Blob> updates = {}) {
    return prove(datagram(kind, about, std::move(updates)), key_of(net_.identity(1)));
  }
  Datagram datagram(MessageKind kind, const NodeId& about, std::vector<Blob> updates = {}) {
    const MemberRecord& self = net_.swim(1).self();
    return {self.node, self.writer, counter_++, {}, static_cast<std::uint8_t>(kind), 1, about, std::move(updates),
            self.run, {}};
  }
  // Between that node and node 0.
  SecretKey key_of(const Identity& identity) {
    return proof_key(identity, net_.identity(0).public_key()).value();
  }
  MemberRecord record_of(const Identity& identity, std::uint64_t incarnation, std::uint32_t run = 0) {
    MemberRecord record;
    record.node = identity.node_id();
    record.key = identity.public_key();
    record.incarnation = incarnation;
    record.gossip = "10.9.9.9:1";
    record.run = run;
    return record;
  }
  const SwimStats& stats() { return net_.swim(0).stats(); }

  SwimNet net_;
  std::vector<Bytes> recorded_;
  std::uint64_t counter_ = 500;  // Ahead of its real ones, and inside the window.
  SeededRandom random_{77};
};

TEST_F(SwimDefence, ReplaysAreDropped) {
  net_.run_for(5s);
  const std::vector<Bytes> old = recorded_;
  ASSERT_FALSE(old.empty());
  net_.run_for(50ms);  // The last of them may still be on its way.
  const std::uint64_t sent = stats().packets_sent;
  for (const Bytes& packet : old) deliver(packet);
  EXPECT_EQ(stats().replayed, old.size());
  EXPECT_EQ(stats().packets_sent, sent) << "no ping of old is answered";
}

TEST_F(SwimDefence, AnOldHeartbeatIsNotTakenForNewsAfterOurRestart) {
  net_.run_for(5s);
  const std::vector<Bytes> old = recorded_;
  ASSERT_FALSE(old.empty());
  net_.crash(0);
  net_.run_for(20s);
  net_.boot(0);
  ASSERT_LT(net_.run_until([&] { return net_.converged(); }, 30s), 30s);
  net_.run_for(3s);
  const auto heard = [&] { return std::as_const(net_.swim(0)).table().find(net_.id(1))->heartbeat.wall_ms; };
  const auto newest = heard();
  for (const Bytes& packet : old) deliver(packet);
  EXPECT_EQ(heard(), newest);
}

TEST_F(SwimDefence, PacketsOfAFormerRunAreDropped) {
  net_.run_for(5s);
  const std::vector<Bytes> old = recorded_;
  net_.crash(1);
  net_.run_for(1s);
  net_.boot(1);
  net_.run_for(3s);
  for (const Bytes& packet : old) deliver(packet);
  EXPECT_GE(stats().stale_run, old.size());
  EXPECT_EQ(net_.state(0, 1), MemberState::kAlive);
}

// It counts its datagrams from 1 again, and its earlier run counted far.
TEST_F(SwimDefence, ARunUnderTheWriterOfTheOneBeforeIsHeard) {
  net_.keep_writer(1);
  for (const bool said : {true, false}) {  // With a farewell, or back before anybody noticed.
    net_.run_for(10min);
    const std::vector<Bytes> old = recorded_;
    const WriterId writer = net_.swim(1).self().writer;
    ASSERT_GT(net_.swim(1).stats().packets_sent, 2'000u);
    if (said) {
      net_.step(1, Swim::Leave{});
      net_.run_for(5s);
      ASSERT_EQ(net_.state(0, 1), MemberState::kLeft);
    }
    net_.crash(1);
    net_.run_for(100ms);
    net_.boot(1);
    ASSERT_EQ(net_.swim(1).self().writer, writer);
    const auto replayed = stats().replayed;
    net_.run_for(20s);
    EXPECT_EQ(stats().replayed, replayed);
    EXPECT_TRUE(net_.converged());
    EXPECT_EQ(net_.swim(1).stats().deaths, 0u);
    EXPECT_EQ(net_.swim(1).stats().probes_failed, 0u);
    // Nor can the packets of the earlier run, sent again, make the new one look old.
    const auto stale = stats().stale_run;
    for (const Bytes& packet : old) deliver(packet);
    EXPECT_GE(stats().stale_run, stale + old.size());
    net_.run_for(5s);
    EXPECT_EQ(stats().replayed, replayed);
  }
}

// A program that names no run: who left and comes back counts from 1 as well.
TEST_F(SwimDefence, AnOlderProgramIsHeardAgainAfterItLeft) {
  const Identity older = Identity::generate(random_);
  const auto say = [&](MessageKind kind, std::uint64_t counter, std::vector<Blob> updates) {
    deliver(pack(Datagram{older.node_id(), WriterId{}, counter, {}, static_cast<std::uint8_t>(kind), 1, net_.id(0),
                          std::move(updates), {}, {}}));
  };
  say(MessageKind::kPing, 5'000, {{*encode_record(sign_record(record_of(older, 1), older))}});
  const Claim left{older.node_id(), 1, static_cast<std::uint8_t>(MemberState::kLeft), older.node_id()};
  say(MessageKind::kGossip, 5'001, {{*encode_claim(left)}});
  const auto replayed = stats().replayed;
  say(MessageKind::kPing, 1, {{*encode_record(sign_record(record_of(older, 2), older))}});
  EXPECT_EQ(stats().replayed, replayed);
}

TEST_F(SwimDefence, ARecordSignedByAnotherKeyIsRefused) {
  MemberRecord forged = net_.swim(2).self();
  forged.incarnation += 10;
  forged.link = "10.6.6.6:666";
  const Bytes signed_by_1 = sign_record(forged, net_.identity(1));
  deliver(fresh(MessageKind::kGossip, {{*encode_record(signed_by_1)}}));
  EXPECT_EQ(stats().forged, 1u);
  EXPECT_NE(net_.swim(0).table().find(net_.id(2))->record.link, "10.6.6.6:666");
}

TEST_F(SwimDefence, ARecordWhoseIdIsNotItsKeysFingerprintIsRefused) {
  const Identity other = Identity::generate(random_);
  MemberRecord forged = record_of(other, 1);
  forged.node = net_.id(2);
  forged.incarnation = net_.swim(2).self().incarnation + 10;
  deliver(fresh(MessageKind::kGossip, {{*encode_record(sign_record(forged, other))}}));
  EXPECT_EQ(stats().forged, 1u);
  EXPECT_EQ(net_.swim(0).table().find(net_.id(2))->record.key, net_.identity(2).public_key());
}

TEST_F(SwimDefence, AForgedRecordOfOurselvesDoesNotMoveOurIncarnation) {
  const std::uint64_t before = net_.swim(0).self().incarnation;
  MemberRecord forged = net_.swim(0).self();
  forged.incarnation += 1'000;
  deliver(fresh(MessageKind::kGossip, {{*encode_record(sign_record(forged, net_.identity(1)))}}));
  EXPECT_EQ(stats().forged, 1u);
  EXPECT_EQ(net_.swim(0).self().incarnation, before);
}

TEST_F(SwimDefence, AStrangerIsNotAnsweredUntilItShowsItsRecord) {
  const Identity stranger = Identity::generate(random_);
  Datagram ping{
      stranger.node_id(), WriterId{}, 1, {}, static_cast<std::uint8_t>(MessageKind::kPing), 1,
      net_.id(0),         {},           {}, {}};
  const std::uint64_t sent = stats().packets_sent;
  deliver(pack(ping));
  EXPECT_EQ(stats().stranger, 1u);
  EXPECT_EQ(stats().packets_sent, sent);
  ping.updates.push_back({*encode_record(sign_record(record_of(stranger, 1), stranger))});
  deliver(pack(ping));
  EXPECT_EQ(stats().stranger, 1u);
  EXPECT_GT(stats().packets_sent, sent);
  EXPECT_NE(net_.swim(0).table().find(stranger.node_id()), nullptr);
}

TEST_F(SwimDefence, NobodyCanSayThatAnotherLeft) {
  const Claim lie{net_.id(2), net_.swim(2).self().incarnation,
                  static_cast<std::uint8_t>(MemberState::kLeft), net_.id(1)};
  deliver(fresh(MessageKind::kGossip, {{*encode_claim(lie)}}));
  EXPECT_EQ(stats().malformed, 1u);
  EXPECT_EQ(net_.state(0, 2), MemberState::kAlive);
}

TEST_F(SwimDefence, AnAccusationAtTheHighestIncarnationCannotSilenceANode) {
  const Claim lie{net_.id(0), kIncarnationMax, static_cast<std::uint8_t>(MemberState::kDead),
                  net_.id(1)};
  deliver(fresh(MessageKind::kGossip, {{*encode_claim(lie)}}));
  EXPECT_EQ(stats().malformed, 1u);
  net_.run_for(5s);
  EXPECT_TRUE(net_.converged());
}

TEST_F(SwimDefence, WhoIsNoMemberIsForgottenAndNotHeard) {
  net_.swim(0).set_members({net_.id(0), net_.id(2), net_.id(3)});
  EXPECT_EQ(net_.state(0, 1), std::nullopt);
  net_.run_for(20s);
  EXPECT_EQ(net_.state(0, 1), std::nullopt);
  EXPECT_GT(stats().outsider, 0u);
  EXPECT_EQ(net_.state(0, 2), MemberState::kAlive);

  net_.swim(0).set_members({net_.id(0), net_.id(1), net_.id(2), net_.id(3)});
  net_.run_for(30s);
  EXPECT_EQ(net_.state(0, 1), MemberState::kAlive) << "a member is found again";
}

TEST_F(SwimDefence, WhoIsNoMemberLearnsNothing) {
  for (int i = 0; i < 4; ++i) {
    net_.swim(i).set_members({net_.id(0), net_.id(1), net_.id(2), net_.id(3)});
  }
  // It holds the secret, and shows a record that it signed itself.
  const Identity outsider = Identity::generate(random_);
  const auto update = encode_record(sign_record(record_of(outsider, 1), outsider));
  std::size_t answers = 0;
  net_.set_tap([&](int, const Swim::Send& send) {
    answers += send.to == Endpoint{"10.9.9.9", 1} ? 1 : 0;
    return true;
  });
  for (const auto kind : {MessageKind::kPing, MessageKind::kPingReq, MessageKind::kGossip}) {
    const Datagram datagram{outsider.node_id(), WriterId{}, 1, {}, static_cast<std::uint8_t>(kind), 1,
                            net_.id(0), {{*update}}, {}, {}};
    net_.step(0, Swim::Packet{{"10.9.9.9", 1}, pack(datagram)});
  }
  net_.run_for(20s);
  EXPECT_EQ(answers, 0u);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(std::as_const(net_.swim(i)).table().find(outsider.node_id()), nullptr) << i;
  }
}

TEST_F(SwimDefence, APingMeantForAnotherIsNotAnswered) {
  const std::uint64_t sent = stats().packets_sent;
  deliver(proven(MessageKind::kPing, net_.id(3)));
  EXPECT_EQ(stats().misdirected, 1u);
  EXPECT_EQ(stats().packets_sent, sent);
}

TEST_F(SwimDefence, OurOwnPacketReflectedIsDropped) {
  const MemberRecord& self = net_.swim(0).self();
  deliver(pack(Datagram{self.node,
                        self.writer,
                        1,
                        {},
                        static_cast<std::uint8_t>(MessageKind::kPing),
                        1,
                        net_.id(0),
                        {},
                        {},
                        {}}));
  EXPECT_EQ(stats().own, 1u);
}

TEST_F(SwimDefence, RandomAndMutatedPacketsDoNoHarm) {
  net_.run_for(3s);
  ASSERT_FALSE(recorded_.empty());
  for (int i = 0; i < 20'000; ++i) {
    Bytes packet = recorded_[random_.below(recorded_.size())];
    const std::size_t changes = 1 + random_.below(4);
    for (std::size_t c = 0; c < changes; ++c) {
      packet[random_.below(packet.size())] = static_cast<char>(random_.below(256));
    }
    if (random_.below(4) == 0) packet.resize(random_.below(packet.size()));
    deliver(packet);
  }
  EXPECT_GT(stats().malformed, 0u);
  EXPECT_LT(net_.run_until([&] { return net_.converged(); }, 60s), 60s);
}

// Whoever holds the secret, or once did, can seal a packet; only a member can say that it is of that member.
TEST_F(SwimDefence, APacketInTheNameOfAMemberTakesItsProof) {
  const Identity former = Identity::generate(random_);
  Datagram forged = datagram(MessageKind::kGossip, net_.id(0));
  forged.counter = 1u << 20;
  forged.heartbeat = {net_.wall_ms(1) + 3'600'000, RingNumber{99}, true, 7};
  const Claim lie{net_.id(2), net_.swim(2).self().incarnation, static_cast<std::uint8_t>(MemberState::kDead), net_.id(1)};
  forged.updates.push_back({*encode_claim(lie)});
  deliver(pack(forged));                        // Without,
  deliver(prove(forged, key_of(former)));       // with another's,
  Bytes changed = prove(forged, key_of(net_.identity(1)));
  changed[changed.size() - 1] ^= 1;             // and with a wrong one.
  deliver(changed);
  // For another of the members.
  deliver(prove(forged, proof_key(net_.identity(1), net_.identity(3).public_key()).value()));
  EXPECT_EQ(stats().unproven, 4u);
  const Member& known = *std::as_const(net_.swim(0)).table().find(net_.id(1));
  EXPECT_NEAR(static_cast<double>(known.heartbeat.wall_ms), static_cast<double>(net_.wall_ms(1)), 5'000);
  EXPECT_FALSE(known.heartbeat.catching_up);
  EXPECT_EQ(net_.state(0, 2), MemberState::kAlive);
  const auto replayed = stats().replayed;
  net_.run_for(5s);
  EXPECT_EQ(stats().replayed, replayed) << "its own packets are heard as before";
  EXPECT_TRUE(net_.converged());
}

// A member of a program of before there were proofs: its record, which it signed, does not promise any.
TEST_F(SwimDefence, AMemberWhoseRecordPromisesNoProofIsHeardWithoutOne) {
  const Identity older = Identity::generate(random_);
  Datagram ping{older.node_id(), WriterId{}, 1, {}, static_cast<std::uint8_t>(MessageKind::kPing), 1, net_.id(0),
                {{*encode_record(sign_record(record_of(older, 1), older))}}, {}, {}};
  const std::uint64_t sent = stats().packets_sent;
  deliver(pack(ping));
  EXPECT_EQ(stats().unproven, 0u);
  EXPECT_GT(stats().packets_sent, sent);
}

// What could not be refuted is not believed of a third node either, nor spread.
TEST_F(SwimDefence, AClaimAboutAnIncarnationThatANodeNeverHadIsDropped) {
  const std::uint64_t real = net_.swim(2).self().incarnation;
  for (const std::uint64_t incarnation : {kIncarnationMax, kIncarnationMax - 1, real + 1}) {
    for (const auto& [state, from] : {std::pair(MemberState::kDead, net_.id(1)), std::pair(MemberState::kSuspect, net_.id(1)),
                                     std::pair(MemberState::kLeft, net_.id(2))}) {
      const Claim lie{net_.id(2), incarnation, static_cast<std::uint8_t>(state), from};
      deliver(fresh(MessageKind::kGossip, {{*encode_claim(lie)}}));
      EXPECT_EQ(net_.state(0, 2), MemberState::kAlive) << incarnation;
    }
  }
  net_.run_for(10s);
  EXPECT_TRUE(net_.converged());
  EXPECT_EQ(net_.swim(2).self().incarnation, real) << "nobody told it of them";
  // Told of itself it does not climb: at the top it could refute nothing, and say nothing new.
  const Claim lie{net_.id(0), kIncarnationMax - 1, static_cast<std::uint8_t>(MemberState::kDead), net_.id(1)};
  const std::uint64_t ours = net_.swim(0).self().incarnation;
  deliver(fresh(MessageKind::kGossip, {{*encode_claim(lie)}}));
  EXPECT_EQ(net_.swim(0).self().incarnation, ours);
}

// Its earlier run may have come there by a clock that was far ahead. A drain or a stop says something new all the same.
TEST_F(SwimDefence, ANodeAtTheHighestIncarnationStopsAsAnyOther) {
  Swim top(SwimConfig::lan(), net_.identity(3), random_, record_of(net_.identity(3), kIncarnationMax));
  top.step(Swim::Start{}, net_.now(), 0);
  top.step(Swim::UpdateSelf{top.self()}, net_.now(), 0);
  EXPECT_EQ(top.self().incarnation, kIncarnationMax);
  top.step(Swim::Leave{}, net_.now(), 0);
}

// Of a data folder that was copied both are started: the newcomer gives way, and the other goes on.
// What it is told by then it needs before it mints under a writer that it kept (hazards F3): not when chance comes to it.
TEST_F(SwimDefence, WhoMeetsOthersByGossipFirstAsksOneOfThemAtOnce) {
  net_.crash(1);
  net_.crash(0);
  net_.boot(0);  // Its seed is node 1.
  const MemberRecord other = net_.swim(2).self();
  deliver(prove({other.node, other.writer, counter_++, {}, static_cast<std::uint8_t>(MessageKind::kGossip), 1, net_.id(0),
                 {{*encode_record(sign_record(other, net_.identity(2)))}}, other.run, {}},
                key_of(net_.identity(2))));
  ASSERT_EQ(net_.state(0, 2), MemberState::kAlive);
  ASSERT_FALSE(net_.swim(0).was_told());
  EXPECT_LE(net_.run_until([&] { return net_.swim(0).was_told(); }, 60s), 1100ms);
}

TEST_F(SwimDefence, AnotherProcessOfOurIdentityIsFound) {
  net_.run_for(2 * kNewcomerFor);
  Swim copy(SwimConfig::lan(), net_.identity(0), random_, record_of(net_.identity(0), 1, 77));
  int newcomer_told = 0, other_told = 0;
  copy.step(Swim::Start{}, net_.now(), net_.wall_ms(0));
  for (int round = 1; round <= 2 * kRivalBids; ++round) {
    for (const auto& out : copy.step(Swim::Merge{net_.id(1), net_.swim(0).push_pull(net_.now(), net_.wall_ms(0))},
                                     net_.now(), net_.wall_ms(0)).events) {
      if (out.kind == Kind::kRival && newcomer_told == 0) newcomer_told = round;
    }
    net_.step(0, Swim::Merge{net_.id(1), copy.push_pull(net_.now(), net_.wall_ms(0))});
    if (other_told == 0 && net_.count(0, Kind::kRival, 0) > 0) other_told = round;
  }
  EXPECT_GT(newcomer_told, 0);
  EXPECT_EQ(other_told, 0);
}

// What a former run said of itself may come late, in any order.
TEST_F(SwimDefence, RecordsOfAFormerRunAreNoRival) {
  for (const std::uint64_t incarnation : {5u, 9u, 7u, 30u, 31u, 32u, 33u}) {
    PushPull late = net_.swim(1).push_pull(net_.now(), net_.wall_ms(1));
    Swim former(SwimConfig::lan(), net_.identity(0), random_, record_of(net_.identity(0), incarnation, 77));
    former.step(Swim::Start{}, net_.now(), net_.wall_ms(0));
    late.members.push_back(former.push_pull(net_.now(), net_.wall_ms(0)).members.front());
    net_.step(0, Swim::Merge{net_.id(1), late});
    EXPECT_GT(net_.swim(0).self().incarnation, incarnation);
  }
  EXPECT_EQ(net_.count(0, Kind::kRival, 0), 0);
}

// Its datagrams may have come before its list did: then they know the run of now already.
TEST_F(SwimDefence, WhoComesBackIsToldOfItsEarlierRuns) {
  std::vector<Bytes> records;
  for (const std::uint32_t run : {77u, 78u, 77u, 79u}) {  // 77 is met twice: two processes of one identity, say.
    auto record = record_of(net_.identity(0), net_.swim(0).self().incarnation + 100 + records.size(), run);
    record.writer = WriterId{run == 79 ? 2u : 1u};
    records.push_back(sign_record(record, net_.identity(0)));
    PushPull said;
    said.members.push_back({{records.back()}, static_cast<std::uint8_t>(MemberState::kAlive), record.incarnation, {}, 0});
    net_.step(1, Swim::Merge{net_.id(0), said});
    const auto* held = std::as_const(net_.swim(1)).table().find(net_.id(0));
    ASSERT_EQ(held->record.run, run);
  }
  const auto says = [&](const NodeId& to, const Bytes& record) {
    const auto list = net_.swim(1).push_pull(net_.now(), net_.wall_ms(1), to);
    return std::count_if(list.members.begin(), list.members.end(), [&](const auto& m) { return m.record.data == record; });
  };
  EXPECT_EQ(says(net_.id(0), records[0]), 0) << "the later record of that run stands for it";
  EXPECT_EQ(says(net_.id(0), records[1]), 1);
  EXPECT_EQ(says(net_.id(0), records[2]), 1);
  EXPECT_EQ(says(net_.id(2), records[1]), 0) << "nobody else needs to know";
}

// One that lies about all the others is one all the same.
TEST_F(SwimDefence, WhatAMemberSaysOfTheClocksOfOthersMovesNothingOnceTheyToldThem) {
  PushPull lie = net_.swim(1).push_pull(net_.now(), net_.wall_ms(1));
  for (MemberEntry& entry : lie.members) {
    entry.age_ms = 0;
    entry.heartbeat.wall_ms += 3'600'000;
  }
  net_.step(0, Swim::Merge{net_.id(1), lie});
  const auto standing = net_.swim(0).clock_standing(net_.now(), net_.wall_ms(0));
  ASSERT_TRUE(standing.has_value());
  EXPECT_TRUE(standing->agrees);
  EXPECT_NEAR(static_cast<double>(standing->median_ms), 0, 50);
}

// Node 1 is out of our reach, not out of that of the others: its word counts for a time, then theirs of it does.
TEST_F(SwimDefence, AClockThatOnlyOthersHearGoesOn) {
  const auto clock_of_1 = [&] { return std::as_const(net_.swim(0)).table().find(net_.id(1))->heartbeat.wall_ms; };
  const auto last = clock_of_1();
  const auto tell_after = [&](Duration since) {
    PushPull rumour = net_.swim(2).push_pull(net_.now(), net_.wall_ms(2));
    std::erase_if(rumour.members, [&](const MemberEntry& entry) {
      return read_record(entry.record.data)->node != net_.id(1);
    });
    rumour.members.at(0).age_ms = 10;
    rumour.members.at(0).heartbeat.wall_ms += to_ms(since);
    net_.swim(0).step(Swim::Merge{net_.id(2), rumour}, net_.now() + since, net_.wall_ms(0) + to_ms(since));
  };
  tell_after(Swim::kClockHeardMax - 10s);
  EXPECT_EQ(clock_of_1(), last);
  tell_after(Swim::kClockHeardMax + 10s);
  EXPECT_GT(clock_of_1(), last + to_ms(Swim::kClockHeardMax));
}

// The one that comes later may be the one that was heard earlier.
TEST_F(SwimDefence, OfTwoRumoursTheYoungerOneCounts) {
  net_.run_for(2s);
  const auto tell = [&](int from, std::uint64_t age_ms, std::uint32_t sessions) {
    PushPull rumour = net_.swim(from).push_pull(net_.now(), net_.wall_ms(from));
    std::erase_if(rumour.members, [&](const MemberEntry& entry) {
      return read_record(entry.record.data)->node != net_.id(1);
    });
    ASSERT_EQ(rumour.members.size(), 1u);
    rumour.members[0].age_ms = age_ms;
    rumour.members[0].heartbeat.sessions = sessions;
    net_.step(0, Swim::Merge{net_.id(from), rumour});
  };
  net_.set_tap([](int from, const Swim::Send&) { return from != 1; });
  net_.run_for(500ms);
  tell(2, 10, 7);
  tell(3, 100, 8);
  EXPECT_EQ(std::as_const(net_.swim(0)).table().find(net_.id(1))->heartbeat.sessions, 7u);
}

TEST_F(SwimDefence, ACounterThatJumpsDeafensNobody) {
  Datagram jump = datagram(MessageKind::kGossip, net_.id(0));
  jump.counter = ~std::uint64_t{0};
  const auto replayed = stats().replayed;
  deliver(prove(jump, key_of(net_.identity(1))));
  EXPECT_EQ(stats().replayed, replayed + 1);
  net_.run_for(5s);
  EXPECT_EQ(stats().replayed, replayed + 1);
}

}  // namespace
}  // namespace starling::overlay
