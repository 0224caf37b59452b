// When a change is sent to a peer again.
#include "node/replication/copies/retransmission.h"

#include <gtest/gtest.h>

namespace starling::node {
namespace {

using namespace std::chrono_literals;

constexpr Instant kSendStart = Instant{} + 100s;
constexpr PartitionId kHere{7};
constexpr PartitionId kThere{8};

// `count` changes one after the other, each acknowledged after `took`.
Instant trips(Retransmission& peer, Duration took, int count, Instant now) {
  for (int n = 1; n <= count; ++n) {
    peer.sent(kHere, static_cast<std::uint64_t>(n), now);
    now += took;
    peer.acknowledged(kHere, static_cast<std::uint64_t>(n), now);
  }
  return now;
}

TEST(Retransmission, FollowsTheRoundTripsOfThePeer) {
  Retransmission peer;
  EXPECT_EQ(peer.timeout(), kRetransmitMin);
  Instant now = trips(peer, 2ms, 20, kSendStart);
  EXPECT_EQ(peer.timeout(), kRetransmitMin) << "a quick peer";
  now = trips(peer, 600ms, 60, now);
  EXPECT_GE(peer.timeout(), 690ms);
  EXPECT_LE(peer.timeout(), 900ms);
  now = trips(peer, 3s, 30, now);
  EXPECT_EQ(peer.timeout(), kRetransmitMax);
  trips(peer, 2ms, 60, now);
  EXPECT_EQ(peer.timeout(), kRetransmitMin);
}

TEST(Retransmission, WhoWasAwayIsNotTakenForSlow) {
  Retransmission peer;
  Instant now = trips(peer, 2ms, 20, kSendStart);
  peer.sent(kHere, 21, now);
  now += 1h;
  peer.acknowledged(kHere, 21, now);
  EXPECT_EQ(peer.timeout(), kRetransmitMin);
}

TEST(Retransmission, DoublesWithEachExpiryUntilTheNextRoundTrip) {
  Retransmission peer;
  Instant now = trips(peer, 150ms, 30, kSendStart);
  const Duration calm = peer.timeout();
  now += calm;
  peer.expired(kHere, now);
  EXPECT_EQ(peer.timeout(), 2 * calm);
  peer.expired(kThere, now + 1ms);
  EXPECT_EQ(peer.timeout(), 2 * calm) << "all that was on the way is one loss";
  now += 2 * calm;
  peer.expired(kHere, now);
  EXPECT_EQ(peer.timeout(), std::min(kRetransmitMax, 4 * calm));
  for (int i = 0; i < 100; ++i) peer.expired(kHere, now += kRetransmitMax);
  EXPECT_EQ(peer.timeout(), kRetransmitMax);
  trips(peer, 150ms, 1, now);
  EXPECT_LT(peer.timeout(), 2 * calm);
}

TEST(Retransmission, TimesNothingThatWasSentTwice) {
  Retransmission peer;
  Instant now = trips(peer, 150ms, 30, kSendStart);
  const Duration calm = peer.timeout();
  peer.sent(kHere, 31, now);
  peer.expired(kHere, now + calm);
  // The answer to the first, or to the second a moment ago? It says nothing.
  peer.acknowledged(kHere, 31, now + calm + 1ms);
  EXPECT_EQ(peer.timeout(), 2 * calm);
}

TEST(Retransmission, TimesTheNextOneWhereAnAnswerNeverComes) {
  Retransmission peer;
  peer.sent(kThere, 1, kSendStart);
  Instant now = kSendStart + kRetransmitMax + 1ms;
  trips(peer, 800ms, 30, now);
  EXPECT_GE(peer.timeout(), 800ms);
}

}  // namespace
}  // namespace starling::node
