// The node wire: frozen bytes of every message of replication and of the ring, and how each refuses
// bytes that are not it.
#include "node/replication/messages.h"

#include <limits>

#include <gtest/gtest.h>

#include "crypto/access/keyring.h"
#include "node/replication/append/append_messages.h"
#include "node/replication/follow/follow_messages.h"
#include "node/ring/messages.h"
#include "overlay/ring/ring_version.h"
#include "tests/overlay/golden.h"

namespace starling::node {
namespace {

using overlay::golden;
using overlay::golden_id;

constexpr RingNumber kRing{300};
constexpr WriterId kGoldenWriter{0x1122334455667788};
constexpr PartitionId kPartition{4095};
constexpr std::uint32_t kPartitions = 8192;
const MailboxId kMailbox = golden_id<MailboxId>(1);
const MailboxId kOther = golden_id<MailboxId>(50);
const DeviceId kDevice = golden_id<DeviceId>(100);
const EntryId kEntry{hlc_at(1'700'000'000'123) + 5, kGoldenWriter};

storage::Trace trace() { return {kMailbox, kOther, {kDevice, 99, 3}, kEntry, {kGoldenWriter, 5}, true, 77, 1'700'086'400}; }

storage::VersionVector vector() {
  storage::VersionVector out;
  out.raise(kGoldenWriter, 70'000);
  out.raise(WriterId{9}, 1);
  return out;
}

// A message that was never changed is of its first version.
Bytes frozen_bytes(const std::string& name) {
  return golden("node_" + name + (name.find('.') == std::string::npos ? ".v1" : ""));
}

// Calls `with(name, message)` for every message; no field has its default.
template <class With>
void for_each_message(With with) {
  with("replicate.v3", Replicate{kRing, kGoldenWriter, {{kPartition, 17, 16, {{"one"}, {"two"}}, 15}}, kPartitions});
  with("replicated.v2", Replicated{kRing, kGoldenWriter, {{kPartition, 18}}, kPartitions});
  with("hinted.v2", Hinted{kRing, kGoldenWriter, {{kPartition, 17, 18}}, kPartitions});
  with("compare_request.v2", CompareRequest{kRing, {{kPartition, 0xFEDCBA9876543210}}, true, true,
                                            {{3, 0x1122334455667788}}, kPartitions});
  with("compare_reply.v3", CompareReply{kRing, {{kPartition, vector(), false, {{kGoldenWriter, 3}}}}, true, true, {3},
                                        kPartitions, true});
  with("fetch_request.v2", FetchRequest{kPartition, kGoldenWriter, 18, 20, kPartitions});
  with("range_statement.v2",
       storage::RangeStatement{kGoldenWriter, 3, 9, {{4, {"four"}}, {9, {"nine"}}}, {5, 6}, {trace()}});
  with("lanes_request.v2", LanesRequest{kPartition, {{kMailbox, kDevice, 99, 12}}, kPartitions});
  with("lanes_reply.v2", LanesReply{{{kMailbox, kDevice, 99, 12}}, true, {golden_id<NodeId>(7)}});
  with("verify_request.v2", VerifyRequest{kPartition, 1'700'000'000'123, kPartitions});
  with("verify_reply", VerifyReply{0xFEDCBA9876543210, {"digest"}, 40, {{kGoldenWriter, 17}}, {{kGoldenWriter, 3}}, true});
  with("hold_request.v2", HoldRequest{kPartition, kGoldenWriter, 18, kPartitions});
  with("hold_reply", HoldReply{18});
  with("find_key_request", FindKeyRequest{kMailbox, {kDevice, 99, 3}});
  with("find_key_reply", FindKeyReply{true, {kGoldenWriter, 17}});
  with("append_request",
       AppendRequest{kRing, "@bob", "@alice", kDevice, 3, 2, kEntry, kAppendRetry | kAppendCopy, 2,
                     4, {"hello"}, {kEntry.time + 1, WriterId{9}}, 86'400'000, 1'700'086'400'123});
  with("append_reply", AppendReply{kRing, kEntry, 3});
  with("write_register_request",
       WriteRegisterRequest{kRing, kMailbox, 3, kEntry, "role/@bob", {"value"}, kAppendForce, true,
                            {kEntry.time - 1, WriterId{9}}});
  with("read_registers_request.v2", ReadRegistersRequest{kMailbox, "role/", "role/@bob", 50, true});
  with("read_registers_reply.v2", ReadRegistersReply{{{"role/@bob", {"value"}, kEntry, 2}}, 0xFEDCBA9876543210});
  with("follow_request.v2", FollowRequest{kRing, kPartition, 7, {{kMailbox, true, vector()}}, kPartitions});
  with("follow_reply", FollowReply{vector(), {kMailbox, kOther}});
  with("unfollow.v2", Unfollow{kPartition, 7, {kMailbox}, kPartitions});
  with("push.v3", Push{{{kPartition, 7, {{{kGoldenWriter, 17}, {"change"}}}, {{{kGoldenWriter, 3}, {"again"}}}}}, kPartitions});
  with("read_request.v2", ReadRequest{kRing, kMailbox, vector(), true, {{kGoldenWriter, 71'000}}});
  with("read_reply.v2", ReadReply{{{{kGoldenWriter, 17}, {"change"}}}, vector(), true, {trace()}, {{kGoldenWriter, 71'000}}});
  with("lane_query", LaneQuery{kMailbox, kDevice, 99});
  with("lane_answer", LaneAnswer{12});
  with("directory_request.v2", DirectoryRequest{'#', kMailbox, 20, {golden_id<NodeId>(7)}});
  with("directory_reply", DirectoryReply{{{"#ops", 1'700'000'000'123, true, 40}}, kMailbox, true});
  with("history_request", HistoryRequest{kMailbox, kOther, kEntry, 20});
  with("join_request", JoinRequest{golden_id<PublicKey>(3), "starling1-xyz", "rack-1", 250,
                                   "10.0.0.7:7401", 1'700'000'000'123, golden_id<NodeId>(7)});
  with("join_reply.v2", JoinReply{{"ring"}, {"10.0.0.1:7401", "10.0.0.2:7401"}, {"keyring"}});
  with("ring_answer", RingAnswer{{"ring"}});
  with("ring_progress", RingProgress{kRing});
  with("standing_reply", StandingReply{kRing, true});
  with("movement_reply.v6", MovementReply{kRing, false, 12'345, 17, 3, true, "a node that is away", 40, 30, 50'000, 37'655,
                                       9'000'000, 3'000'000, 1'000'000, {golden_id<NodeId>(7)}, {{golden_id<NodeId>(7), 77'000}}, 4,
                                       {{"west", 12, 3'400}}, 8192, 34, 5, 9'000'000'000, 7'000'000'000});
  with("move_settings", MoveSettings{true, kEntry, 20'000'000, {kEntry.time + 1, WriterId{9}}});
  with("ring_get_request", RingGetRequest{kRing});
  with("keys_exchange", KeysExchange{{"keyring"}});
  with("seal_request.v3", SealRequest{kRing, {{kPartition, {299}}}, true, golden_id<LineageId>(5), kPartitions});
  with("seal_reply.v3", SealReply{kRing, {{kPartition, {200}, {298}, true}}, {{golden_id<NodeId>(7), {298}}}, kPartitions});
  with("hand_over_request.v2", HandOverRequest{kRing, kPartition, {299}, {"name/"}, kPartitions});
  with("hand_over_reply", HandOverReply{{{{"name/@bob"}, {"state"}}}, true});
  with("heads_request.v2",
       HeadsRequest{kRing, {{kMailbox, 0xFEDCBA9876543210}}, {{kOther, {kGoldenWriter, 71'000}}}});
  with("heads_reply.v2", HeadsReply{{kMailbox}, {{kOther, 6}}, true, {{kOther, {kGoldenWriter, 71'000}}}});
  with("find_copy_request.v2",
       FindCopyRequest{kPartition, kMailbox, kEntry, {kDevice, 99, 3}, {{kGoldenWriter, 17}}, kPartitions});
  with("find_copy_reply.v2", FindCopyReply{true, {kDevice, 99, 3}, kEntry, "@alice", "@bob", true, false,
                                           {{{kGoldenWriter, 17}, 2}}, {golden_id<NodeId>(80)}, true, true, 1'700'086'400, true,
                                           {golden_id<NodeId>(7)}, true});
}

// A neighbour that has not grown with us.
TEST(NodeMessages, OlderBytesAreReadAndWhatTheyLackHasItsDefault) {
  const auto read = unpack<MovementReply>(golden("node_movement_reply.v1"));
  ASSERT_TRUE(read.ok()) << read.error().text;
  EXPECT_EQ(read->missing, 12'345u);
  EXPECT_EQ(read->waits_for, "a node that is away");
  EXPECT_EQ(read->partitions, 0u);
  const auto movement = unpack<MovementReply>(golden("node_movement_reply.v2"));
  ASSERT_TRUE(movement.ok()) << movement.error().text;
  EXPECT_EQ(movement->rate, 1'000'000u);
  EXPECT_TRUE(movement->needs.empty());
  const auto of_before_sites = unpack<MovementReply>(golden("node_movement_reply.v3"));
  ASSERT_TRUE(of_before_sites.ok()) << of_before_sites.error().text;
  EXPECT_EQ(of_before_sites->needs.size(), 1u);
  EXPECT_EQ(of_before_sites->ring_format, 3u) << "it cannot read a policy of sites";
  const auto of_before_lags = unpack<MovementReply>(golden("node_movement_reply.v4"));
  ASSERT_TRUE(of_before_lags.ok()) << of_before_lags.error().text;
  EXPECT_EQ(of_before_lags->ring_format, 4u);
  EXPECT_TRUE(of_before_lags->lags.empty());
  const auto of_before_doubling = unpack<MovementReply>(golden("node_movement_reply.v5"));
  ASSERT_TRUE(of_before_doubling.ok()) << of_before_doubling.error().text;
  EXPECT_EQ(of_before_doubling->lags.size(), 1u);
  EXPECT_EQ(of_before_doubling->partitions_of, 0u);
  const auto run = unpack<Replicate>(golden("node_replicate.v1"));
  ASSERT_TRUE(run.ok()) << run.error().text;
  EXPECT_EQ(run->runs.at(0).changes.size(), 2u);
  EXPECT_EQ(run->runs.at(0).covered, 0u) << "nothing is known to be on W owners";
  const auto seal = unpack<SealRequest>(golden("node_seal_request.v1"));
  ASSERT_TRUE(seal.ok()) << seal.error().text;
  EXPECT_FALSE(seal->safe);
  const auto sealed = unpack<SealReply>(golden("node_seal_reply.v1"));
  ASSERT_TRUE(sealed.ok()) << sealed.error().text;
  EXPECT_TRUE(sealed->safe.empty());
  const auto push = unpack<Push>(golden("node_push.v1"));
  ASSERT_TRUE(push.ok()) << push.error().text;
  ASSERT_EQ(push->streams.size(), 1u);
  EXPECT_EQ(push->streams[0].changes.size(), 1u);
  EXPECT_TRUE(push->streams[0].regained.empty());
  const auto listing = unpack<DirectoryRequest>(golden("node_directory_request.v1"));
  ASSERT_TRUE(listing.ok()) << listing.error().text;
  EXPECT_EQ(listing->limit, 20u);
  EXPECT_TRUE(listing->asked.empty());
  const auto registers = unpack<ReadRegistersRequest>(golden("node_read_registers_request.v1"));
  ASSERT_TRUE(registers.ok()) << registers.error().text;
  EXPECT_EQ(registers->limit, 50u);
  EXPECT_FALSE(registers->versioned);
  const auto found = unpack<ReadRegistersReply>(golden("node_read_registers_reply.v1"));
  ASSERT_TRUE(found.ok()) << found.error().text;
  EXPECT_EQ(found->items.size(), 1u);
  EXPECT_EQ(found->version, 0u);
}

// Of before losses were shown to readers, and cursors asked about.
TEST(NodeMessages, OlderBytesSayNothingOfWhatWasLostOrNeverGivenOut) {
  const auto range = unpack<storage::RangeStatement>(golden("node_range_statement.v1"));
  ASSERT_TRUE(range.ok()) << range.error().text;
  EXPECT_EQ(range->lost.size(), 2u);
  EXPECT_TRUE(range->traces.empty());
  const auto page = unpack<ReadReply>(golden("node_read_reply.v1"));
  ASSERT_TRUE(page.ok()) << page.error().text;
  EXPECT_EQ(page->changes.size(), 1u);
  EXPECT_TRUE(page->lost.empty() && page->ahead.empty());
  const auto read = unpack<ReadRequest>(golden("node_read_request.v1"));
  ASSERT_TRUE(read.ok()) << read.error().text;
  EXPECT_TRUE(read->pushed.empty());
  const auto request = unpack<HeadsRequest>(golden("node_heads_request.v1"));
  ASSERT_TRUE(request.ok()) << request.error().text;
  EXPECT_TRUE(request->claims.empty());
  const auto reply = unpack<HeadsReply>(golden("node_heads_reply.v1"));
  ASSERT_TRUE(reply.ok()) << reply.error().text;
  EXPECT_TRUE(reply->unissued.empty());
  const auto compared = unpack<CompareReply>(golden("node_compare_reply.v2"));
  ASSERT_TRUE(compared.ok()) << compared.error().text;
  EXPECT_FALSE(compared->held);
  const auto copy = unpack<FindCopyReply>(golden("node_find_copy_reply.v1"));
  ASSERT_TRUE(copy.ok()) << copy.error().text;
  EXPECT_EQ(copy->followers.size(), 1u);
  EXPECT_FALSE(copy->written_off || copy->is_expired || copy->is_past || copy->is_cut);
}

// Of before partitions could be doubled: everything else is as it was.
TEST(NodeMessages, OlderBytesDoNotSayHowManyPartitionsThereAre) {
  const auto check = []<class T>(const std::string& name, T newest) {
    const auto older = unpack<T>(golden("node_" + name));
    ASSERT_TRUE(older.ok()) << name << ": " << older.error().text;
    EXPECT_EQ(older->partitions, 0u) << name;
    newest.partitions = 0;
    EXPECT_EQ(hex(pack(*older)), hex(pack(newest))) << name;
  };
  std::size_t checked = 0;
  for_each_message([&]<class T>(const std::string& name, const T& message) {
    if constexpr (requires { message.partitions == kPartitions; } && !std::is_same_v<T, MovementReply>) {
      if constexpr (std::is_same_v<T, CompareReply>) {
        T of_then = message;
        of_then.held = false;
        check("compare_reply.v1", of_then);
        ++checked;
        return;
      }
      const char version = name.back();
      check(name.substr(0, name.size() - 1) + static_cast<char>(version - 1), message);
      ++checked;
    }
  });
  EXPECT_EQ(checked, 16u);
}

TEST(NodeMessages, FrozenBytesStayTheSame) {
  for_each_message([]<class T>(const std::string& name, const T& message) {
    const Bytes frozen = frozen_bytes(name);
    EXPECT_EQ(hex(pack(message)), hex(frozen)) << name;
    const auto read = unpack<T>(frozen);
    ASSERT_TRUE(read.ok()) << name << ": " << read.error().text;
    EXPECT_EQ(hex(pack(*read)), hex(frozen)) << name;
  });
}

TEST(NodeMessages, RefuseEveryCutAndWhatFollowsThem) {
  for_each_message([]<class T>(const std::string& name, const T& message) {
    const Bytes bytes = pack(message);
    for (std::size_t n = 0; n < bytes.size(); ++n) {
      const auto read = unpack<T>(View(bytes).substr(0, n));
      ASSERT_FALSE(read.ok()) << name << " cut at " << n;
      EXPECT_EQ(read.code(), Errc::kCorrupt) << name;
    }
    EXPECT_FALSE(unpack<T>(bytes + '\0').ok()) << name;
  });
}

// The message with its field `at` replaced by the msgpack value `value`.
Bytes with_field(View bytes, std::size_t at, View value) {
  const auto handle = msgpack::unpack(bytes.data(), bytes.size());
  const auto& fields = handle.get().via.array;
  Bytes out;
  msgpack_detail::Sink sink{out};
  msgpack::packer<msgpack_detail::Sink> packer(sink);
  packer.pack_array(fields.size);
  for (std::size_t i = 0; i < fields.size; ++i) {
    if (i == at) {
      out.append(value);
    } else {
      packer.pack(fields.ptr[i]);
    }
  }
  return out;
}

TEST(NodeMessages, RefuseAFieldOfAnotherType) {
  for_each_message([]<class T>(const std::string& name, const T& message) {
    const Bytes bytes = pack(message);
    const auto fields = msgpack::unpack(bytes.data(), bytes.size()).get().via.array.size;
    for (std::size_t i = 0; i < fields; ++i) {
      for (const View wrong : {View("\xc0"), View("\x81\x01\x01"), View("\xd4\x01\x01"),
                               View("\xcb\x40\0\0\0\0\0\0\0", 9)}) {
        const auto read = unpack<T>(with_field(bytes, i, wrong));
        EXPECT_FALSE(read.ok()) << name << " field " << i << " as " << hex(wrong);
      }
    }
    for (const View wrong : {View("\xc0"), View("\x07"), View("\xa1x"), View("\xc4\x01x"),
                             View("\x80", 1), View("\xdd\xff\xff\xff\xff")}) {
      EXPECT_EQ(unpack<T>(wrong).code(), Errc::kCorrupt) << name << " as " << hex(wrong);
    }
  });
}

TEST(NodeMessages, SurviveEveryFlippedBit) {
  for_each_message([]<class T>(const std::string& name, const T& message) {
    const Bytes bytes = pack(message);
    for (std::size_t at = 0; at < bytes.size(); ++at) {
      for (int bit = 0; bit < 8; ++bit) {
        Bytes flipped = bytes;
        flipped[at] = static_cast<char>(flipped[at] ^ (1 << bit));
        const auto read = unpack<T>(flipped);
        // What is read is a message: it can be written and read again.
        if (read) {
          EXPECT_TRUE(unpack<T>(pack(*read)).ok()) << name;
        }
      }
    }
  });
}

TEST(NodeMessages, RefuseNumbersAndIdsThatDoNotFitTheirFields) {
  const Bytes fetch = pack(FetchRequest{kPartition, kGoldenWriter, 18, 20});
  EXPECT_TRUE(unpack<FetchRequest>(with_field(fetch, 0, pack(65'535))).ok());
  EXPECT_FALSE(unpack<FetchRequest>(with_field(fetch, 0, pack(65'536))).ok());
  EXPECT_FALSE(unpack<FetchRequest>(with_field(fetch, 2, pack(-1))).ok());
  const Bytes append = pack(AppendReply{kRing, kEntry, 3});
  EXPECT_TRUE(unpack<AppendReply>(with_field(append, 2, pack(255))).ok());
  EXPECT_FALSE(unpack<AppendReply>(with_field(append, 2, pack(256))).ok());
  const Bytes lane = pack(LaneQuery{kMailbox, kDevice, 99});
  for (const std::size_t size : {0, 15, 17, 32}) {
    EXPECT_FALSE(unpack<LaneQuery>(with_field(lane, 0, pack(Blob{Bytes(size, 'x')}))).ok()) << size;
  }
  EXPECT_TRUE(unpack<LaneQuery>(with_field(lane, 0, pack(Blob{Bytes(16, 'x')}))).ok());
}

// A field that is not there has its default; one that is not known is skipped.
TEST(NodeMessages, MayBeOfANeighbouringVersion) {
  const auto older = unpack<ReadRegistersRequest>("\x90");
  ASSERT_TRUE(older.ok());
  EXPECT_EQ(older->limit, 1000u);
  Bytes newer = pack(HoldReply{18});
  newer[0] = '\x92';
  newer += pack(std::string("from the future"));
  EXPECT_EQ(unpack<HoldReply>(newer)->synced, 18u);
  const auto lanes = unpack<LanesReply>(golden("node_lanes_reply.v1"));
  ASSERT_TRUE(lanes.ok());
  EXPECT_EQ(lanes->lanes.size(), 1u);
  EXPECT_TRUE(lanes->owed.empty());
  // A member of before keyrings came with the answer.
  const auto joined = unpack<JoinReply>(golden("node_join_reply.v1"));
  ASSERT_TRUE(joined.ok());
  EXPECT_EQ(joined->seeds.size(), 2u);
  EXPECT_TRUE(joined->keyring.data.empty());
}

TEST(NodeMessages, FitAFrameAtTheirLimits) {
  constexpr auto kMost = std::numeric_limits<std::uint64_t>::max();
  CompareRequest compare{RingNumber{kMost}, {}};
  for (std::size_t i = 0; i < kComparePartitionsMax; ++i) {
    compare.items.push_back({PartitionId{65'535}, kMost});
  }
  EXPECT_LE(pack(compare).size(), overlay::kFrameBodySizeMax);
  const JoinReply joined{
      {Bytes(overlay::kRingMembersMax * overlay::kRingMemberSizeMax, 'r')},
      std::vector<std::string>(overlay::kRingMembersMax, std::string(259, 's')),
      {Bytes(kKeyringKeysMax * 64 + kKeyringRetiredMax * 8, 'k')}};
  EXPECT_LE(pack(joined).size(), overlay::kFrameBodySizeMax);
}

}  // namespace
}  // namespace starling::node
