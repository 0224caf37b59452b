#include "overlay/gossip/swim_wire.h"

#include <gtest/gtest.h>

#include "crypto/init.h"
#include "tests/overlay/golden.h"

namespace starling::overlay {
namespace {

template <class T>
T filled(std::uint8_t first) {
  T out;
  for (auto& byte : out.raw) byte = first++;
  return out;
}

class SwimWire : public ::testing::Test {
 protected:
  SwimWire() : identity_(Identity::from_seed(Bytes(32, '\x07')).value()) {
    EXPECT_TRUE(crypto_init().ok());
    record_.node = identity_.node_id();
    record_.key = identity_.public_key();
    record_.incarnation = 1'700'000'000'000;
    record_.gossip = "10.0.0.1:7400";
    record_.link = "10.0.0.1:7401";
    record_.client = "[::1]:7402";
    record_.admin = "unix:/run/starling.sock";
    record_.zone = "rack-1";
    record_.weight = 3;
    record_.writer = WriterId{0xA1B2C3D4E5F60718};
    record_.ring = RingNumber{12};
    record_.draining = true;
    record_.wall_ms = 1'700'000'000'123;
    record_.sessions = 4711;
    record_.version = "0.1.0";
  }
  Bytes signed_record() { return sign_record(record_, identity_); }
  Claim claim() {
    return {filled<NodeId>(0x10), 77, static_cast<std::uint8_t>(MemberState::kSuspect),
            filled<NodeId>(0x30)};
  }
  Datagram datagram() {
    return {filled<NodeId>(0x50),
            WriterId{9},
            1234,
            {1'700'000'000'000, RingNumber{3}, true, 5},
            static_cast<std::uint8_t>(MessageKind::kPingReq),
            42,
            filled<NodeId>(0x70),
            {{*encode_claim(claim())}, {*encode_record(signed_record())}},
            record_.run,
            {}};
  }
  PushPull push_pull() {
    return {{{Blob{signed_record()},
              static_cast<std::uint8_t>(MemberState::kDead),
              5,
              {1, RingNumber{2}, false, 3},
              250}}};
  }

  Identity identity_;
  MemberRecord record_;
};

// Version 2: a record says whether its node proves its datagrams, and they do; both name the run.
TEST_F(SwimWire, GoldenBytesOfVersion2) {
  record_.proves = true;
  record_.run = 0x11223344;
  EXPECT_EQ(hex(*encode_claim(claim())), hex(golden("swim_claim.v1")));
  EXPECT_EQ(hex(*encode_record(signed_record())), hex(golden("swim_record.v2")));
  EXPECT_EQ(hex(pack(push_pull())), hex(golden("swim_push_pull.v2")));
  const Identity other = Identity::from_seed(Bytes(32, '\x08')).value();
  const SecretKey key = proof_key(identity_, other.public_key()).value();
  EXPECT_EQ(hex(prove(datagram(), key)), hex(golden("swim_datagram.v2")));
  EXPECT_TRUE(is_proven(golden("swim_datagram.v2"), proof_key(other, identity_.public_key()).value()));
}

TEST_F(SwimWire, Version1IsReadAsWithoutProof) {
  const auto old_record = read_record(View(golden("swim_record.v1")).substr(1));
  ASSERT_TRUE(old_record.ok());
  EXPECT_EQ(*old_record, record_);
  EXPECT_TRUE(verify_record(*old_record, View(golden("swim_record.v1")).substr(1)));
  const auto old_datagram = decode_datagram(golden("swim_datagram.v1"));
  ASSERT_TRUE(old_datagram.ok());
  EXPECT_EQ(old_datagram->seq, datagram().seq);
  EXPECT_EQ(old_datagram->updates.size(), 2u);
  EXPECT_EQ(old_datagram->proof, Proof{});
  EXPECT_EQ(old_datagram->run, 0u);
  EXPECT_TRUE(decode_push_pull(golden("swim_push_pull.v1")).ok());
}

TEST_F(SwimWire, MessagesComeBackAsTheyWere) {
  const auto back = decode_datagram(pack(datagram()));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(pack(back.value()), pack(datagram()));
  EXPECT_EQ(back.value().as(), MessageKind::kPingReq);
  const auto list = decode_push_pull(pack(push_pull()));
  ASSERT_TRUE(list.ok());
  EXPECT_EQ(pack(list.value()), pack(push_pull()));
  const auto said = decode_claim(View(*encode_claim(claim())).substr(1));
  ASSERT_TRUE(said.ok());
  EXPECT_EQ(said.value(), claim());
  const auto record = read_record(signed_record());
  ASSERT_TRUE(record.ok());
  EXPECT_EQ(record.value(), record_);
  EXPECT_TRUE(verify_record(record.value(), signed_record()).ok());
}

TEST_F(SwimWire, TheLargestRecordAndHeaderFitTheirLimits) {
  const std::string endpoint(kEndpointTextMax, 'x');
  record_.gossip = record_.link = record_.client = record_.admin = endpoint;
  record_.zone = std::string(kZoneSizeMax, 'z');
  record_.version = std::string(kVersionTextMax, 'v');
  record_.incarnation = kIncarnationMax;
  record_.weight = ~0u;
  record_.writer = WriterId{~std::uint64_t{0}};
  record_.run = ~std::uint32_t{0};
  record_.wire_min = record_.wire_max = 0xFFFF;
  record_.ring = RingNumber{~std::uint64_t{0}};
  record_.wall_ms = INT64_MIN;
  record_.sessions = ~0u;
  ASSERT_TRUE(check_record(record_).ok());
  EXPECT_LE(signed_record().size(), kRecordSizeMax);

  const Heartbeat beat{INT64_MIN, RingNumber{~std::uint64_t{0}}, true, ~0u};
  Datagram header{filled<NodeId>(1),
                  record_.writer,
                  ~std::uint64_t{0},
                  beat,
                  0xFF,
                  ~std::uint64_t{0},
                  filled<NodeId>(2),
                  {},
                  ~std::uint32_t{0},
                  {}};
  // The array header grows to 3 bytes when there are more than 15 updates.
  EXPECT_LE(pack(header).size() + 2, kDatagramHeaderMax);
  const MemberEntry entry{{}, 0xFF, ~std::uint64_t{0}, beat, ~std::uint64_t{0}};
  EXPECT_LE(pack(entry).size() + 2, kMemberEntryExtraMax);
  EXPECT_GE(encode_claim({})->size(), kUpdateSizeMin);
}

TEST_F(SwimWire, TextsOverTheirLimitsAreRefused) {
  for (std::string MemberRecord::*text :
       {&MemberRecord::gossip, &MemberRecord::link, &MemberRecord::client, &MemberRecord::admin,
        &MemberRecord::zone, &MemberRecord::version}) {
    MemberRecord record = record_;
    record.*text = std::string(kEndpointTextMax + 1, 'x');
    EXPECT_EQ(check_record(record).code(), Errc::kTooLarge);
    EXPECT_EQ(read_record(pack(SignedRecord{{pack(record)}, {}})).code(), Errc::kTooLarge);
  }
  record_.incarnation = kIncarnationMax + 1;
  EXPECT_EQ(check_record(record_).code(), Errc::kInvalid);
}

TEST_F(SwimWire, AChangedRecordDoesNotVerify) {
  const Bytes bytes = signed_record();
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    Bytes changed = bytes;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    const auto record = read_record(changed);
    const bool believed = record.ok() && verify_record(record.value(), changed).ok();
    EXPECT_FALSE(believed) << "byte " << i;
  }
}

TEST_F(SwimWire, ANewerNodesExtraFieldsSurvive) {
  Bytes body = pack(record_);
  ASSERT_EQ(static_cast<std::uint8_t>(body[0]), 0xDC);  // array16
  body[2] = static_cast<char>(body[2] + 1);
  body += pack(std::string("a field of tomorrow"));
  SignedRecord outer{{body}, {}};
  const auto record = read_record(pack(outer));
  ASSERT_TRUE(record.ok());
  EXPECT_EQ(record.value(), record_);
}

TEST_F(SwimWire, ClaimsThatNobodyMayMakeAreCorrupt) {
  const auto refused = [](Claim c) { return !decode_claim(pack(c)).ok(); };
  Claim c = claim();
  EXPECT_FALSE(refused(c));
  for (int state : {0, 1, 5, 255}) {
    c.state = static_cast<std::uint8_t>(state);
    EXPECT_TRUE(refused(c)) << state;
  }
  c = claim();
  c.incarnation = kIncarnationMax + 1;
  EXPECT_TRUE(refused(c));
  c = claim();
  c.state = static_cast<std::uint8_t>(MemberState::kLeft);
  EXPECT_TRUE(refused(c)) << "said by another";
  c.from = c.node;
  EXPECT_FALSE(refused(c));
}

TEST_F(SwimWire, CutOversizedAndOverfullMessagesAreRefused) {
  const Bytes whole = pack(datagram());
  for (std::size_t n = 0; n < whole.size(); ++n) {
    EXPECT_FALSE(decode_datagram(View(whole).substr(0, n)).ok()) << n;
  }
  EXPECT_EQ(decode_datagram(Bytes(kPacketSizeMax + 1, '\0')).code(), Errc::kTooLarge);
  Datagram many = datagram();
  many.updates.assign(kUpdatesMax + 1, Blob{});
  EXPECT_EQ(decode_datagram(pack(many)).code(), Errc::kCorrupt);
  PushPull list;
  list.members.assign(kMembersMax + 1, {{}, 1, 0, {}, 0});
  EXPECT_EQ(decode_push_pull(pack(list)).code(), Errc::kTooLarge);
  list.members.assign(1, {{}, 9, 0, {}, 0});
  EXPECT_EQ(decode_push_pull(pack(list)).code(), Errc::kCorrupt);
  EXPECT_EQ(read_record(Bytes(kRecordSizeMax + 1, '\0')).code(), Errc::kCorrupt);
}

}  // namespace
}  // namespace starling::overlay
