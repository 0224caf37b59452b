#include "overlay/gossip/gossip_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace starling::overlay {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

NodeId node(std::uint32_t n) {
  NodeId id;
  for (int i = 0; i < 4; ++i) id.raw[i] = static_cast<std::uint8_t>(n >> (8 * i));
  return id;
}

class GossipQueueTest : public ::testing::Test {
 protected:
  void claim(std::uint32_t n, std::uint64_t incarnation, const std::string& text) {
    queue_.add(UpdateKind::kClaim, node(n), incarnation, std::make_shared<const Bytes>(pad(text)));
  }
  void record(std::uint32_t n, std::uint64_t incarnation, const std::string& text) {
    queue_.add(UpdateKind::kRecord, node(n), incarnation, std::make_shared<const Bytes>(pad(text)));
  }
  std::vector<std::string> take(std::size_t updates, std::size_t n = 9) {
    std::vector<Shared> out;
    const std::size_t budget = updates * (40 + kUpdateOverhead);
    EXPECT_LE(queue_.take(budget, n, out), budget);
    std::vector<std::string> texts;
    for (const Shared& update : out) texts.push_back(update->substr(0, update->find('.')));
    return texts;
  }
  static std::string pad(std::string text) {
    text.resize(40, '.');
    return text;
  }
  GossipQueue queue_{1};
};

TEST(GossipQueue, SendsEachUpdateByTheLogarithmOfTheCluster) {
  const struct {
    std::size_t n;
    int expected;
  } kRows[] = {{1, 4}, {2, 4}, {9, 4}, {10, 8}, {99, 8}, {100, 12}, {999, 12}, {4096, 16}};
  for (const auto& row : kRows) EXPECT_EQ(retransmit_limit(4, row.n), row.expected) << row.n;
}

TEST_F(GossipQueueTest, AnUpdateIsSentItsNumberOfTimesAndThenForgotten) {
  claim(1, 1, "a");
  EXPECT_THAT(take(5, 10), ElementsAre("a"));
  EXPECT_THAT(take(5, 10), ElementsAre("a"));
  EXPECT_THAT(take(5, 10), IsEmpty());
  EXPECT_TRUE(queue_.empty());
}

TEST_F(GossipQueueTest, TheNewestAndLeastSentGoFirst) {
  claim(1, 1, "a");
  claim(2, 1, "b");
  claim(3, 1, "c");
  EXPECT_THAT(take(2, 10), ElementsAre("c", "b"));
  claim(4, 1, "d");
  EXPECT_THAT(take(2, 10), ElementsAre("d", "a"));
}

TEST_F(GossipQueueTest, NewerNewsOfANodeReplacesOlder) {
  claim(1, 1, "suspect");
  claim(1, 1, "dead");
  claim(2, 7, "other");
  EXPECT_THAT(take(5), ElementsAre("other", "dead"));
  claim(1, 1, "dead");
  record(1, 2, "refuted");
  EXPECT_THAT(take(5), ElementsAre("refuted"));
}

TEST_F(GossipQueueTest, AClaimLeavesTheRecordThatItNeeds) {
  record(1, 5, "record");
  claim(1, 5, "suspect");
  EXPECT_THAT(take(5), ElementsAre("suspect", "record"));
}

TEST_F(GossipQueueTest, StaysInItsBudgetAndFillsItWithSmallerOnes) {
  claim(1, 1, "small");
  queue_.add(UpdateKind::kRecord, node(2), 1, std::make_shared<const Bytes>(Bytes(500, 'x')));
  EXPECT_THAT(take(1), ElementsAre("small"));
  EXPECT_EQ(queue_.size(), 1u);
}

TEST_F(GossipQueueTest, IsBoundedAndDropsWhatWasSentMost) {
  claim(0, 1, "sent");
  EXPECT_THAT(take(1, 10), ElementsAre("sent"));
  for (std::uint32_t i = 1; i <= kGossipQueueMax; ++i) claim(i, 1, "fresh");
  EXPECT_EQ(queue_.size(), kGossipQueueMax);
  for (const std::string& text : take(kGossipQueueMax + 1, 10)) EXPECT_EQ(text, "fresh");
}

}  // namespace
}  // namespace starling::overlay
