// What Swim refuses: forged records, replays, packets of former runs, strangers, outsiders.
#include <gtest/gtest.h>

#include "overlay/gossip/swim.h"
#include "tests/overlay/swim_net.h"

namespace starling::overlay {
namespace {

using Kind = MemberEvent::Kind;

class SwimDefence : public testing::Test {
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
    const MemberRecord& self = net_.swim(1).self();
    return pack(Datagram{self.node,
                         self.writer,
                         counter_++,
                         {},
                         static_cast<std::uint8_t>(kind),
                         1,
                         net_.id(0),
                         std::move(updates)});
  }
  MemberRecord record_of(const Identity& identity, std::uint64_t incarnation) {
    MemberRecord record;
    record.node = identity.node_id();
    record.key = identity.public_key();
    record.incarnation = incarnation;
    record.gossip = "10.9.9.9:1";
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
      net_.id(0),         {}};
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
                            net_.id(0), {{*update}}};
    net_.step(0, Swim::Packet{{"10.9.9.9", 1}, pack(datagram)});
  }
  net_.run_for(20s);
  EXPECT_EQ(answers, 0u);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(std::as_const(net_.swim(i)).table().find(outsider.node_id()), nullptr) << i;
  }
}

TEST_F(SwimDefence, APingMeantForAnotherIsNotAnswered) {
  const MemberRecord& self = net_.swim(1).self();
  const std::uint64_t sent = stats().packets_sent;
  deliver(pack(Datagram{self.node,
                        self.writer,
                        counter_++,
                        {},
                        static_cast<std::uint8_t>(MessageKind::kPing),
                        1,
                        net_.id(3),
                        {}}));
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

}  // namespace
}  // namespace starling::overlay
