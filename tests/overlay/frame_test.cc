#include "overlay/links/frame.h"

#include <gtest/gtest.h>

#include "overlay/links/link.h"
#include "tests/overlay/golden.h"

namespace starling::overlay {
namespace {

constexpr Instant kSealedAt{1000s};

Frame frame(FrameType type, Method method, std::uint64_t request, Bytes body = "x") {
  return {type, 0, method, request, kNever, std::move(body)};
}

std::vector<std::uint64_t> order(View bytes) {
  std::vector<std::uint64_t> out;
  while (!bytes.empty()) {
    const auto parsed = parse_frame(bytes);
    if (!parsed.ok() || !*parsed) break;
    out.push_back((*parsed)->request);
    bytes.remove_prefix(kFrameHeaderSize + (*parsed)->body.size());
  }
  return out;
}

TEST(FrameFormat, StaysWhatVersionOneWrote) {
  const Bytes frozen = golden("frame.v1");
  const Frame ours = frame(FrameType::kRequest, Method::kAppend, 0x0102030405060708,
                     "\xa4"
                     "body");
  Bytes bytes;
  append_frame(bytes, ours);
  EXPECT_EQ(hex(bytes), hex(frozen));
  const auto parsed = parse_frame(frozen);
  ASSERT_TRUE(parsed.ok() && *parsed);
  EXPECT_EQ((*parsed)->type, FrameType::kRequest);
  EXPECT_EQ((*parsed)->method, Method::kAppend);
  EXPECT_EQ((*parsed)->request, 0x0102030405060708u);
  EXPECT_EQ((*parsed)->body,
            "\xa4"
            "body");
}

TEST(FrameFormat, KeepsTheIntroductionOfVersionOne) {
  const Bytes frozen = golden("introduction.v1");
  const auto read = unpack<Introduction>(frozen);
  ASSERT_TRUE(read.ok()) << read.error().text;
  EXPECT_EQ(read->hello.version_min, 1);
  EXPECT_EQ(read->hello.version_max, 3);
  EXPECT_EQ(read->hello.lineage.raw[15], 15);
  EXPECT_EQ(read->hello.ring.value, 7u);
  EXPECT_EQ(read->hello.writer.value, 0x1122334455667788u);
  EXPECT_EQ(read->hello.wall_ms, 1700000000123);
  EXPECT_EQ(read->key.raw[0], 100);
  EXPECT_EQ(read->hello.features, 0u) << "it knew of none";
  EXPECT_FALSE(read->hello.has(Feature::kKeyExchange));
}

// What the first nodes read of a Hello.
struct FirstHello {
  std::uint16_t version_min = 0, version_max = 0;
  LineageId lineage;
  RingNumber ring;
  WriterId writer;
  std::int64_t wall_ms = 0;
  FIELDS(version_min, version_max, lineage, ring, writer, wall_ms)
};
struct FirstIntroduction {
  FirstHello hello;
  PublicKey key;
  FIELDS(hello, key)
};

TEST(FrameFormat, TellsFeaturesInAWayThatTheFirstNodesCanRead) {
  auto ours = *unpack<Introduction>(golden("introduction.v1"));
  ours.hello.features = 5;  // One of them is of the future.
  EXPECT_EQ(hex(pack(ours)), hex(golden("introduction.v2")));
  const auto back = unpack<Introduction>(golden("introduction.v2"));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->hello.features, 5u);
  EXPECT_TRUE(back->hello.has(Feature::kKeyExchange));
  const auto first = unpack<FirstIntroduction>(golden("introduction.v2"));
  ASSERT_TRUE(first.ok()) << first.error().text;
  EXPECT_EQ(first->hello.wall_ms, 1700000000123);
  EXPECT_EQ(first->key.raw[0], 100);
}

// The body of a response with kFrameFlagError.
TEST(FrameFormat, KeepsTheBytesOfAnError) {
  EXPECT_EQ(hex(pack(WireError{6, "number 3 is missing"})), hex(golden("wire_error.v1")));
  const auto read = unpack<WireError>(golden("wire_error.v1"));
  ASSERT_TRUE(read.ok()) << read.error().text;
  EXPECT_EQ(read->code, 6);
  EXPECT_EQ(read->text, "number 3 is missing");
}

TEST(FrameFormat, WaitsForTheRestOfAFrame) {
  Bytes bytes;
  append_frame(bytes, frame(FrameType::kNotice, Method::kPush, 0, "body"));
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    const auto parsed = parse_frame(View(bytes).substr(0, n));
    ASSERT_TRUE(parsed.ok());
    EXPECT_FALSE(parsed->has_value());
  }
}

TEST(FrameFormat, RefusesTooLargeAFrameAtItsHeader) {
  Bytes bytes;
  BytesWriter writer(bytes);
  writer.u32le(kFrameBodySizeMax + 1);
  writer.u8(1);
  writer.raw(Bytes(kFrameHeaderSize - 5, '\0'));
  EXPECT_EQ(parse_frame(bytes).code(), Errc::kCorrupt);
}

TEST(FrameFormat, RefusesAnUnknownType) {
  for (const char type : {'\0', '\4', '\xff'}) {
    Bytes bytes(kFrameHeaderSize, '\0');
    bytes[4] = type;
    EXPECT_EQ(parse_frame(bytes).code(), Errc::kCorrupt);
  }
}

TEST(FrameQueue, LetsAgreementOvertakeDataAndDataOvertakeTransfer) {
  FrameQueue queue;
  queue.push(frame(FrameType::kResponse, Method::kFetch, 1));
  queue.push(frame(FrameType::kRequest, Method::kFetch, 2));
  queue.push(frame(FrameType::kNotice, Method::kReplicate, 3));
  queue.push(frame(FrameType::kRequest, Method::kPaxos, 4));
  queue.push(frame(FrameType::kResponse, Method::kAppend, 5));
  queue.push(frame(FrameType::kNotice, Method::kRingDecided, 6));
  Bytes out;
  queue.pop_into(out, 1 << 20, kSealedAt);
  EXPECT_EQ(order(out), (std::vector<std::uint64_t>{4, 6, 2, 3, 5, 1}));
  EXPECT_TRUE(queue.empty());
}

TEST(FrameQueue, StopsAtTheBudgetAndCountsWhatIsLeft) {
  FrameQueue queue;
  for (int i = 0; i < 10; ++i)
    queue.push(frame(FrameType::kNotice, Method::kPush, i, Bytes(100 - kFrameHeaderSize, 'x')));
  EXPECT_EQ(queue.bytes(), 1000u);
  Bytes out;
  queue.pop_into(out, 250, kSealedAt);
  EXPECT_EQ(out.size(), 300u);
  EXPECT_EQ(queue.bytes(), 700u);
}

TEST(FrameQueue, LeavesOutRequestsThatNobodyAwaitsAnyMore) {
  FrameQueue queue;
  Frame late = frame(FrameType::kRequest, Method::kAppend, 1);
  late.deadline = kSealedAt;
  queue.push(late);
  queue.push(frame(FrameType::kRequest, Method::kAppend, 2));
  Bytes out;
  queue.pop_into(out, 1 << 20, kSealedAt);
  EXPECT_EQ(order(out), (std::vector<std::uint64_t>{2}));
  EXPECT_EQ(queue.bytes(), 0u);
}

TEST(FrameQueue, DropsResponsesAndKeepsTheRestWhenTheLinkIsReplaced) {
  FrameQueue queue;
  queue.push(frame(FrameType::kResponse, Method::kAppend, 1));
  queue.push(frame(FrameType::kRequest, Method::kAppend, 2));
  queue.push(frame(FrameType::kNotice, Method::kPush, 0));
  queue.drop_responses();
  EXPECT_EQ(queue.requests(), (std::set<std::uint64_t>{2}));
  EXPECT_EQ(queue.bytes(), 2 * (kFrameHeaderSize + 1));
}

}  // namespace
}  // namespace starling::overlay
