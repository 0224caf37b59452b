// Lane and KeyIndex: the rules that keep a device's messages in order and single.
#include <gtest/gtest.h>

#include "node/client/key_index.h"
#include "node/client/lane.h"
#include "node/session/protocol.h"

namespace starling::node {
namespace {

constexpr Instant kLaneStart{};

struct Reports {
  std::vector<std::string> lines;
  void take(std::optional<Lane::Report> report) {
    if (report) report->done(std::move(report->result));
  }
  SendDone done(std::string what) {
    return [this, what](Result<Sent> result) {
      lines.push_back(what + (result ? " acked" : " " + std::string(name(result.code()))));
    };
  }
};

class LaneTest : public ::testing::Test {
 protected:
  void push(const std::string& body) {
    Lane::Item item;
    item.body = body;
    item.done = reports_.done(body);
    lane_.push(std::move(item));
  }
  // What leaves now: "1:a 2:b!" where ! marks a retry and ? a void.
  std::string written(Instant now = kLaneStart, std::size_t window = 64) {
    std::string out;
    while (auto write = lane_.next(window, now)) {
      if (!out.empty()) out += ' ';
      out += std::to_string(write->seq) + ":" + write->item->body;
      if (write->item->flags & protocol::kSendVoid) out += '?';
      if (write->item->flags & protocol::kSendRetry) out += '!';
    }
    return out;
  }
  void ack(std::uint64_t seq) { reports_.take(lane_.on_ack(seq, id(seq), 2, kLaneStart)); }
  void error(std::uint64_t seq, Errc code, Duration advice = {}) {
    reports_.take(lane_.on_error(seq, {code, ""}, advice, kLaneStart, random_));
  }
  static std::string id(std::uint64_t n) { return to_text(EntryId{n, WriterId{1}}); }

  Lane lane_{"@b", true};
  Reports reports_;
  SeededRandom random_{1};
};

TEST_F(LaneTest, WritesNumbersInOrderUpToTheWindow) {
  for (const char* body : {"a", "b", "c"}) push(body);
  EXPECT_EQ(written(kLaneStart, 2), "1:a 2:b");
  ack(1);
  EXPECT_EQ(written(kLaneStart, 2), "3:c");
}

TEST_F(LaneTest, AnAckAheadOfAnOpenNumberDoesNotCountAsAcked) {
  for (const char* body : {"a", "b", "c"}) push(body);
  written();
  ack(2);
  EXPECT_EQ(lane_.acked(), 0u);
  ack(1);
  EXPECT_EQ(lane_.acked(), 2u);
  EXPECT_EQ(lane_.floor(), id(2));
  EXPECT_EQ(reports_.lines, (std::vector<std::string>{"b acked", "a acked"}));
}

TEST_F(LaneTest, AfterAGapItGoesBackToTheFirstOpenNumberOnceAllAnswersAreIn) {
  for (const char* body : {"a", "b", "c"}) push(body);
  written();
  error(1, Errc::kUnavailable, 20ms);
  error(2, Errc::kLaneGap);
  EXPECT_EQ(written(kLaneStart + 10s), "") << "number 3 is still under way";
  EXPECT_EQ(lane_.wake_at(), kNever);
  error(3, Errc::kLaneGap);
  EXPECT_EQ(written(), "") << "the refusal asks for a pause";
  EXPECT_GE(lane_.wake_at(), kLaneStart + 20ms);
  EXPECT_EQ(written(lane_.wake_at()), "1:a! 2:b! 3:c!");
  EXPECT_TRUE(reports_.lines.empty());
}

TEST_F(LaneTest, WhatWasAcknowledgedAheadIsNotSentAgain) {
  for (const char* body : {"a", "b", "c"}) push(body);
  written();
  error(1, Errc::kTimeout);
  ack(2);
  error(3, Errc::kLaneGap);
  EXPECT_EQ(written(kLaneStart + 10s), "1:a! 3:c!");
}

TEST_F(LaneTest, AFinalRefusalIsReportedOnceAndItsNumberClosedByAVoid) {
  for (const char* body : {"a", "b"}) push(body);
  written();
  error(1, Errc::kDenied);
  error(2, Errc::kLaneGap);
  EXPECT_EQ(written(), "1:?! 2:b!");
  ack(1);
  ack(2);
  EXPECT_EQ(lane_.acked(), 2u);
  EXPECT_EQ(lane_.open(), 0u);
  EXPECT_EQ(reports_.lines, (std::vector<std::string>{"a denied", "b acked"}));
}

TEST_F(LaneTest, ARefusedVoidClosesItsNumber) {
  push("a");
  written();
  error(1, Errc::kNotFound);
  EXPECT_EQ(written(), "1:?!");
  error(1, Errc::kNotFound);
  EXPECT_EQ(lane_.open(), 0u);
  EXPECT_EQ(lane_.acked(), 1u);
  EXPECT_EQ(reports_.lines, (std::vector<std::string>{"a not_found"}));
}

TEST_F(LaneTest, ARefusalIsToldWhenTheNumberIsClosedIfAnEarlierAttemptMayArriveStill) {
  for (const char* body : {"a", "b"}) push(body);
  EXPECT_EQ(written(), "1:a 2:b");
  lane_.on_disconnect();
  EXPECT_EQ(written(), "1:a! 2:b!");
  error(1, Errc::kDenied);
  error(2, Errc::kLaneGap);
  EXPECT_TRUE(reports_.lines.empty()) << "the first attempt may lie in a socket";
  EXPECT_EQ(written(kLaneStart + 1min), "1:?! 2:b!");
  ack(1);
  EXPECT_EQ(reports_.lines, (std::vector<std::string>{"a denied"}));
  error(2, Errc::kDenied);
  EXPECT_EQ(written(kLaneStart + 2min), "2:?!");
  error(2, Errc::kDenied);
  EXPECT_EQ(reports_.lines, (std::vector<std::string>{"a denied", "b timeout"})) << "nothing keeps it out";
  EXPECT_EQ(lane_.open(), 0u);
}

TEST_F(LaneTest, ARefusalThatIsStillToBeToldOutlivesARestart) {
  push("a");
  written();
  lane_.on_disconnect();
  EXPECT_EQ(written(), "1:a!");
  error(1, Errc::kDenied);
  EXPECT_TRUE(reports_.lines.empty());
  lane_.on_disconnect();
  Lane again(unpack<SavedLane>(pack(lane_.save())).value());
  EXPECT_EQ(again.unreported(), 1u);
  ASSERT_TRUE(again.next(64, kLaneStart).has_value());
  const auto report = again.on_ack(1, id(1), 2, kLaneStart);
  ASSERT_TRUE(report.has_value());
  EXPECT_TRUE(report->kept);
  EXPECT_EQ(report->result.code(), Errc::kDenied);
}

TEST_F(LaneTest, SaysWhichAttemptsHadNoAnswer) {
  push("a");
  const auto flags = [&](Instant now) {
    const auto write = lane_.next(64, now);
    return write ? int{write->item->flags} : -1;
  };
  EXPECT_EQ(flags(kLaneStart), 0);
  error(1, Errc::kOverloaded);
  EXPECT_EQ(flags(kLaneStart + 1min), protocol::kSendRetry);
  error(1, Errc::kUnavailable);
  EXPECT_EQ(flags(kLaneStart + 2min), protocol::kSendRetry | protocol::kSendUnanswered);
}

TEST_F(LaneTest, ARefusalAfterAnswersThatStoredNothingIsTheLastWord) {
  for (const char* body : {"a", "b"}) push(body);
  written();
  error(1, Errc::kOverloaded);
  error(2, Errc::kLaneGap);
  written(kLaneStart + 1min);
  error(1, Errc::kDenied);
  EXPECT_EQ(reports_.lines, (std::vector<std::string>{"a denied"}));
  error(2, Errc::kLaneGap);
  written(kLaneStart + 2min);
  error(1, Errc::kDenied);
  error(2, Errc::kDenied);
  EXPECT_EQ(reports_.lines, (std::vector<std::string>{"a denied", "b denied"}));
}

TEST_F(LaneTest, ANumberThatBelongsToAnotherMessageIsNeverVoided) {
  push("a");
  push("b");
  written();
  error(1, Errc::kSequenceReused);
  ack(2);
  EXPECT_EQ(written(kLaneStart + 10s), "");
  EXPECT_EQ(lane_.acked(), 2u);
  EXPECT_EQ(reports_.lines, (std::vector<std::string>{"a sequence_reused", "b acked"}));
}

TEST_F(LaneTest, ALostConnectionMarksEverythingUnderWayAsRetry) {
  for (const char* body : {"a", "b", "c"}) push(body);
  EXPECT_EQ(written(kLaneStart, 2), "1:a 2:b");
  lane_.on_disconnect();
  EXPECT_EQ(written(), "1:a! 2:b! 3:c") << "number 3 was never sent";
}

TEST_F(LaneTest, RefusalsInARowAreSpacedFurtherAndFurtherApart) {
  push("a");
  Instant now = kLaneStart;
  Duration last{};
  for (int i = 0; i < 6; ++i) {
    ASSERT_NE(written(now), "");
    reports_.take(lane_.on_error(1, {Errc::kOverloaded, ""}, {}, now, random_));
    const Duration wait = lane_.wake_at() - now;
    if (i == 5) {
      EXPECT_GT(wait, 800ms);
    }
    EXPECT_LE(wait, 2s);
    last = wait;
    now = lane_.wake_at();
  }
  EXPECT_GT(last, 0ns);
}

TEST_F(LaneTest, IsTheSameAfterASaveAndALoad) {
  for (const char* body : {"a", "b", "c"}) push(body);
  written(kLaneStart, 2);
  ack(1);
  Lane restored(*unpack<SavedLane>(pack(lane_.save())));
  lane_ = std::move(restored);
  EXPECT_EQ(lane_.acked(), 1u);
  EXPECT_EQ(lane_.floor(), id(1));
  EXPECT_EQ(written(), "2:b! 3:c!");
}

TEST(LaneOfALostState, WaitsForTheNumberToGoOnFrom) {
  Lane lane("@b", false);
  Lane::Item item;
  item.body = "a";
  lane.push(std::move(item));
  EXPECT_FALSE(lane.next(64, kLaneStart));
  lane.start_after(41);
  EXPECT_EQ(lane.next(64, kLaneStart)->seq, 42u);
}

// A device that gives up.
TEST(LaneThatIsAbandoned, TakesBackWhatNoNodeSawAndVoidsTheRest) {
  Lane lane("@b", true);
  for (const char* body : {"sent", "next", "unsent"}) {
    Lane::Item item;
    item.body = body;
    lane.push(std::move(item));
  }
  ASSERT_TRUE(lane.next(2, kLaneStart) && lane.next(2, kLaneStart));
  lane.on_disconnect();
  EXPECT_EQ(lane.abandon().size(), 3u);
  ASSERT_EQ(lane.open(), 2u) << "a number that was sent is not given away";
  EXPECT_EQ(lane.unreported(), 0u);
  for (const auto& send : lane.save().sends) {
    EXPECT_TRUE(send.flags & protocol::kSendVoid);
    EXPECT_TRUE(send.body.data.empty());
  }
}

TEST(LaneThatIsAbandoned, KeepsWhatAnEarlierRunLeft) {
  Lane lane(SavedLane{"@b", 4, true, "", {{Blob{"old"}, 1, 0, 0}}});
  Lane::Item item;
  item.body = "new";
  lane.push(std::move(item));
  EXPECT_EQ(lane.abandon().size(), 1u);
  ASSERT_EQ(lane.open(), 1u);
  const auto next = lane.next(64, kLaneStart);
  ASSERT_TRUE(next);
  EXPECT_EQ(next->item->body, "old");
  EXPECT_EQ(next->seq, 5u);
}

const DeviceId kPhone = device_of(mailbox_of("@a"), "phone");

EntryId id_at(std::uint64_t time) { return {time, WriterId{1}}; }

TEST(KeyIndex, KnowsEveryKeyOnceInAnyOrderOfArrival) {
  KeyIndex index;
  SeededRandom random(3);
  std::vector<std::uint64_t> numbers;
  for (std::uint64_t n = 1; n <= 200; ++n) numbers.push_back(n);
  for (std::size_t i = numbers.size(); i > 1; --i) std::swap(numbers[i - 1], numbers[random.below(i)]);
  for (const auto n : numbers) {
    EXPECT_FALSE(index.contains({kPhone, 1, n}));
    EXPECT_EQ(index.hear({kPhone, 1, n}, id_at(n), false), Heard::kNew);
    EXPECT_TRUE(index.contains({kPhone, 1, n}));
    EXPECT_EQ(index.hear({kPhone, 1, n}, id_at(n), false), Heard::kKnown);
  }
  EXPECT_EQ(index.intervals(), 1u) << "neighbours join";
  EXPECT_FALSE(index.contains({kPhone, 2, 5})) << "another lane";
  EXPECT_FALSE(index.contains({kPhone, 1, 201}));
}

TEST(KeyIndex, TheSmallestIdIsThePosition) {
  KeyIndex index;
  EXPECT_EQ(index.hear({kPhone, 1, 1}, id_at(5), false), Heard::kNew);
  EXPECT_EQ(index.hear({kPhone, 1, 1}, id_at(6), false), Heard::kKnown);
  EXPECT_EQ(index.hear({kPhone, 1, 1}, id_at(3), false), Heard::kMoved);
  EXPECT_EQ(index.hear({kPhone, 1, 1}, id_at(3), false), Heard::kKnown);
  EXPECT_EQ(index.hear({kPhone, 1, 1}, id_at(4), false), Heard::kKnown);
}

TEST(KeyIndex, AVoidBeatsAContentWhicheverComesFirst) {
  KeyIndex index;
  EXPECT_EQ(index.hear({kPhone, 1, 1}, id_at(1), false), Heard::kNew);
  EXPECT_EQ(index.hear({kPhone, 1, 1}, id_at(2), true), Heard::kVoided);
  EXPECT_EQ(index.hear({kPhone, 1, 1}, id_at(3), true), Heard::kKnown);
  EXPECT_EQ(index.hear({kPhone, 1, 1}, id_at(0), false), Heard::kKnown) << "it moves no more";
  EXPECT_EQ(index.hear({kPhone, 1, 2}, id_at(4), true), Heard::kKnown) << "it was never shown";
  EXPECT_EQ(index.hear({kPhone, 1, 2}, id_at(5), false), Heard::kKnown) << "and is not now";
}

// Its own message is shown by the ack, so its void is news, whether the message came back or not.
TEST(KeyIndex, WhatWasAcknowledgedToThisDeviceIsShownByIt) {
  KeyIndex index;
  EXPECT_TRUE(index.acknowledge({kPhone, 1, 1}));
  auto copy = KeyIndex::from(*unpack<std::vector<KeyIndex::Row>>(pack(index.rows())));
  EXPECT_EQ(copy.hear({kPhone, 1, 1}, id_at(1), true), Heard::kVoided);
  EXPECT_EQ(copy.hear({kPhone, 1, 1}, id_at(1), true), Heard::kKnown) << "told once";
  EXPECT_TRUE(index.acknowledge({kPhone, 1, 2}));
  EXPECT_EQ(index.hear({kPhone, 1, 2}, id_at(2), false), Heard::kNew) << "and it comes like any other";
  EXPECT_EQ(index.hear({kPhone, 1, 3}, id_at(3), true), Heard::kKnown);
  EXPECT_FALSE(index.acknowledge({kPhone, 1, 3})) << "taken back before its ack came";
}

TEST(KeyIndex, RemembersThePositionsOfTheNewestNumbersOnly) {
  KeyIndex index;
  for (std::uint64_t n = 1; n <= kLanePositionsMax + 1; ++n) {
    index.hear({kPhone, 1, n}, id_at(2 * n), false);
  }
  EXPECT_EQ(index.rows().at(0).positions.size(), kLanePositionsMax);
  EXPECT_EQ(index.hear({kPhone, 1, 1}, id_at(1), false), Heard::kKnown) << "it stays where it is";
  EXPECT_EQ(index.hear({kPhone, 1, 2}, id_at(3), false), Heard::kMoved);
}

TEST(KeyIndex, IsTheSameAfterASaveAndALoad) {
  KeyIndex index;
  for (const std::uint64_t n : {1, 2, 5, 6, 9}) index.hear({kPhone, 1, n}, id_at(10 * n), n == 2);
  auto copy = KeyIndex::from(*unpack<std::vector<KeyIndex::Row>>(pack(index.rows())));
  EXPECT_EQ(copy.intervals(), 3u);
  EXPECT_EQ(copy.hear({kPhone, 1, 2}, id_at(1), false), Heard::kKnown);
  EXPECT_EQ(copy.hear({kPhone, 1, 5}, id_at(51), false), Heard::kKnown);
  EXPECT_EQ(copy.hear({kPhone, 1, 5}, id_at(49), false), Heard::kMoved);
  EXPECT_EQ(copy.hear({kPhone, 1, 7}, id_at(70), false), Heard::kNew);
}

// Acknowledged ahead of an open one, then the device was restarted: its body is gone.
TEST_F(LaneTest, WhatWasAcknowledgedAheadIsNotSentAgainAfterARestart) {
  for (const char* body : {"a", "b", "c"}) push(body);
  EXPECT_EQ(written(), "1:a 2:b 3:c");
  ack(2);
  Lane restored(*unpack<SavedLane>(pack(lane_.save())));
  std::string out;
  while (auto write = restored.next(64, kLaneStart)) out += write->item->body;
  EXPECT_EQ(out, "ac");
}

}  // namespace
}  // namespace starling::node
