// Bad input of those who are believed to be nodes: well-formed bodies of every method, with numbers that there are not.
// A member sends them, and one that left and still has the right to hand over.
#include <algorithm>
#include <limits>

#include "node/replication/append/append_messages.h"
#include "node/replication/follow/follow_messages.h"
#include "node/replication/messages.h"
#include "node/ring/messages.h"
#include "overlay/ring/paxos_wire.h"
#include "storage/store.h"
#include "tests/sim/bad_input/bad_member.h"

namespace starling::sim {
namespace {

using overlay::Method;

constexpr std::uint64_t kHighest = std::numeric_limits<std::uint64_t>::max();

struct Message {
  Method method;
  Bytes body;
};

// Node 3 left, or not.
class BadNumbers : public BadMember {
 protected:
  std::vector<Message> messages(PartitionId partition, std::uint64_t n) const {
    using namespace node;
    const WriterId writer{n};
    const RingNumber ring{std::min<std::uint64_t>(n, 1)};
    MailboxId mailbox;
    mailbox.raw.fill(0xFF);
    const EntryId id{n, writer};
    const Dot dot{writer, n};
    const Bytes change = "no change";
    std::vector<Message> out;
    const auto add = [&out](Method method, const auto& body) { out.push_back({method, pack(body)}); };
    add(Method::kReplicate, Replicate{ring, writer, {{partition, n, n, {{change}, {change}}, n}}});
    add(Method::kHint, Replicate{ring, writer, {{partition, n, n, {{change}, {change}}, n}}});
    add(Method::kReplicated, Replicated{ring, own_writer, {{partition, n}}});
    for (const WriterId of : {writer, own_writer}) add(Method::kHinted, Hinted{ring, of, {{partition, n, n}, {partition, 1, n}}});
    for (const bool all : {false, true}) add(Method::kCompare, CompareRequest{ring, {{partition, n}}, all, false, {}});
    add(Method::kCompare, CompareRequest{ring, {}, false, true, {{0xFFFF, n}, {partition.value, n}}});
    add(Method::kFetch, FetchRequest{partition, writer, n, n});
    add(Method::kFetch, FetchRequest{partition, own_writer, n, 1});
    add(Method::kLanes, LanesRequest{partition, {}});
    for (const std::uint8_t fill : {0x00, 0x7F, 0xFF}) {
      storage::LaneRow after{mailbox, {}, n, n};
      after.mailbox.raw.fill(fill);
      add(Method::kLanes, LanesRequest{partition, {after}});
    }
    add(Method::kHold, HoldRequest{partition, writer, n});
    add(Method::kVerify, VerifyRequest{partition, n});
    add(Method::kMoveSettings, MoveSettings{true, {kHighest, writer}, n, {kHighest, writer}});
    add(Method::kFindKey, FindKeyRequest{mailbox, {{}, n, n}});
    add(Method::kFindCopy, FindCopyRequest{partition, mailbox, id, {}, {dot}});
    add(Method::kFindCopy, FindCopyRequest{{kPartitions - 1}, mailbox, id, {{}, n, n}, {dot}});
    add(Method::kNodeInfo, DirectoryRequest{0xFF, mailbox, 0xFFFFFFFF, {}});
    add(Method::kFollow, FollowRequest{ring, partition, n, {{mailbox, true, {}}}});
    add(Method::kUnfollow, Unfollow{partition, n, {mailbox}});
    add(Method::kPush, Push{{{partition, n, {{dot, {change}}}, {{dot, {change}}}}}});
    add(Method::kRead, ReadRequest{ring, mailbox, {}, false});
    add(Method::kHistory, node::HistoryRequest{mailbox, mailbox, id, 0xFFFFFFFF});
    add(Method::kHeads, HeadsRequest{ring, {{mailbox, n}}});
    add(Method::kReadRegisters, ReadRegistersRequest{mailbox, "", Bytes(70'000, '\xFF'), 0xFFFFFFFF, true});
    add(Method::kLane, LaneQuery{mailbox, {}, n});
    add(Method::kAppend, AppendRequest{ring, "@alice", "@alice", {}, n, n, id, 0xFF, 0xFF, 0xFF, {change}, id, n, n});
    add(Method::kAppend, AppendRequest{ring, "@alice", "@alice", {}, n, n, id, 0, 0, 1, {change}, id, n, n});
    add(Method::kAppend, AppendRequest{ring, "@alice", "@alice", {}, n, n, {}, kAppendCopy, 0, 1, {change}, id, n, n});
    for (const std::uint8_t type : {0, 1, 0xFF}) {
      constexpr std::uint8_t kRecall = kAppendVoid | kAppendRecall;
      add(Method::kAppend, AppendRequest{ring, "@alice", "@bob", {}, n, n, id, kRecall, 0, type, {change}, id, n, n});
      add(Method::kAppend, AppendRequest{ring, "@alice", "@alice", {}, n, n, id, kAppendRecall, 0, type, {change}, id, n, n});
    }
    add(Method::kWriteRegister, WriteRegisterRequest{ring, mailbox, 0xFF, id, "x", {change}, 0xFF, true, id});
    add(Method::kWriteRegister, WriteRegisterRequest{ring, mailbox, 1, id, "x", {change}, 0, false, {}});
    add(Method::kSeal, SealRequest{ring, {{partition, {n}}, {partition, {}}}, false, {}});
    add(Method::kSeal, SealRequest{ring, {}, true, {}});
    add(Method::kHandOver, HandOverRequest{ring, partition, {n == kHighest ? std::uint64_t{1} : n}, {Bytes(40, '\xFF')}});
    add(Method::kHandOver, HandOverRequest{ring, partition, {n}, {}});
    add(Method::kRingGet, RingGetRequest{{n}});
    add(Method::kRingProgress, RingProgress{{n}});
    add(Method::kInstalled, RingProgress{{n}});
    add(Method::kRingDecided, RingAnswer{{Bytes("no ring version")}});
    for (const char* instance : {"ring", "name/", "name/x", "?"}) {
      overlay::PaxosRequest request;
      request.instance.data = instance;
      request.ring = RingNumber{n};
      request.kind = overlay::PaxosKind::kQuery;
      add(Method::kPaxos, request);
      request.kind = overlay::PaxosKind::kDecided;
      request.value = Blob{"no decision"};
      add(Method::kPaxos, request);
    }
    add(Method::kKeys, KeysExchange{{Bytes(3, '\x91')}});
    return out;
  }

  void send_all(const Identity& identity) {
    own_writer = cluster.writer(0);
    for (const std::uint16_t partition : {std::uint16_t{0}, std::uint16_t{kPartitions}, std::uint16_t{4096}, std::uint16_t{0xFFFF}}) {
      for (const std::uint64_t n : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 56, kHighest - 1, kHighest}) {
        auto peer = link_as(identity);
        for (const auto& message : messages({partition}, n)) {
          ASSERT_TRUE(cluster.up(0)) << static_cast<int>(message.method) << " ended the node";
          // A notice of one that is gone is not heard, and a call as a notice is none.
          if (peer->stream().closed()) peer = link_as(identity);
          peer->notify(static_cast<std::uint16_t>(message.method), message.body);
          (void)peer->call(static_cast<std::uint16_t>(message.method), message.body, 100ms);
        }
      }
    }
    cluster.run_for(10s);
    for (const std::size_t i : {0, 1}) {
      ASSERT_TRUE(cluster.up(i)) << i;
      EXPECT_TRUE(cluster.node(i).serving()) << i;
    }
    EXPECT_EQ(cluster.fatal_errors(), 0u);
    RawClient alice(world, cluster.network(), cluster.client_address(0));
    ASSERT_TRUE(alice.log_in("@alice", "phone", "secret"));
    const auto said = alice.say("@alice", 1, "still there?");
    EXPECT_TRUE(said) << said.error().text;
    // What one member dated after the end of time pauses nothing for good.
    const auto paused = cluster.admin(0, "pause", Json::object());
    ASSERT_TRUE(paused) << paused.error().text;
    ASSERT_TRUE(cluster.admin(0, "resume", Json::object()));
    for (const std::size_t i : {0, 1}) {
      const auto status = cluster.admin(i, "status", Json::object());
      ASSERT_TRUE(status);
      EXPECT_EQ(status->dump().find("\"paused\":true"), std::string::npos) << i;
    }
  }

  WriterId own_writer;
};

TEST_F(BadNumbers, OfAMemberHarmNobody) {
  ASSERT_TRUE(cluster.stop(3));
  const auto identity = identity_of(3);
  ASSERT_TRUE(identity) << identity.error().text;
  send_all(*identity);
}

TEST_F(BadNumbers, OfANodeThatLeftHarmNobody) {
  const auto leaving = cluster.admin(0, "leave", {{"nodes", {cluster.id(3)}}});
  ASSERT_TRUE(leaving) << leaving.error().text;
  ASSERT_TRUE(cluster.run_until([&] { return cluster.departed(3); }, 120s));
  ASSERT_TRUE(cluster.stop(3));
  const auto identity = identity_of(3);
  ASSERT_TRUE(identity) << identity.error().text;
  send_all(*identity);
}

}  // namespace
}  // namespace starling::sim
