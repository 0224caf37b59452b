// The Checker fails on every kind of fault it is there to find, and passes what is odd but legal.
#include <gtest/gtest.h>

#include <algorithm>

#include "node/check/checker.h"
#include "node/check/story.h"

namespace starling::node::check {
namespace {

// Alice and Bob with two devices each, Carol with one, a group of Alice and Bob. A test builds the
// list of events and changes it.
class CheckerTest : public ::testing::Test {
 protected:
  enum : std::uint32_t { kAlice1, kAlice2, kBob1, kBob2, kCarol };

  CheckerTest() {
    Event header;
    header.kind = EventKind::kHeader;
    header.cluster = "c1";
    events.push_back(header);
    for (const auto& [user, name] : std::vector<std::pair<std::string, std::string>>{
             {"@alice", "1"}, {"@alice", "2"}, {"@bob", "1"}, {"@bob", "2"}, {"@carol", "1"}}) {
      declare(user, name);
    }
    Event group;
    group.kind = EventKind::kGroup;
    group.to = "#ops";
    group.users = {"@alice", "@bob"};
    events.push_back(group);
  }

  void declare(const std::string& user, const std::string& name, bool must_show = true) {
    Event device;
    device.kind = EventKind::kDevice;
    device.device = static_cast<std::uint32_t>(devices.size());
    device.user = user;
    device.name = name;
    device.must_show = must_show;
    events.push_back(device);
    devices.push_back({user, device_of(mailbox_of(user), name)});
  }
  Event event(EventKind kind, std::uint32_t device, const std::string& to, std::uint64_t number) {
    Event e;
    e.kind = kind;
    e.t = ++time;
    e.device = device;
    e.to = to;
    e.number = number;
    return e;
  }
  static EntryId at(std::uint64_t position) { return {position << 16, WriterId{1}}; }

  Event& send(std::uint32_t device, const std::string& to, std::uint64_t number) {
    Event e = event(EventKind::kSend, device, to, number);
    e.hash = device * 1000 + number + body_hash(to);
    e.size = 10;
    events.push_back(e);
    return events.back();
  }
  Event& ack(std::uint32_t device, const std::string& to, std::uint64_t number,
             std::uint64_t position, const std::string& grade = "quorum") {
    Event e = event(EventKind::kAck, device, to, number);
    e.id = at(position);
    e.grade = grade;
    e.copies = 2;
    events.push_back(e);
    return events.back();
  }
  Event& shown(std::uint32_t on, std::uint32_t device, const std::string& to, std::uint64_t number,
               std::uint64_t position, EventKind kind = EventKind::kShown) {
    Event e = event(kind, on, to, number);
    e.by = devices[device].second;
    e.from = devices[device].first;
    e.hash = device * 1000 + number + body_hash(to);
    e.size = 10;
    e.id = at(position);
    events.push_back(e);
    return events.back();
  }
  void shown_to_all(std::uint32_t device, const std::string& to, std::uint64_t number,
                    std::uint64_t position) {
    for (const auto on : {kAlice1, kAlice2, kBob1, kBob2}) shown(on, device, to, number, position);
  }
  // Sent, acknowledged and shown to both users.
  void say(std::uint32_t device, const std::string& to, std::uint64_t number,
           std::uint64_t position) {
    send(device, to, number);
    ack(device, to, number, position);
    shown_to_all(device, to, number, position);
  }
  // `on` asks for the message of `device` to be taken back, or hears that it is.
  void recall(std::uint32_t on, std::uint32_t device, const std::string& to, std::uint64_t number, bool done = false) {
    Event e = event(done ? EventKind::kRecalled : EventKind::kRecall, on, to, number);
    e.by = devices[device].second;
    e.from = devices[device].first;
    events.push_back(e);
  }
  void end() { events.push_back(event(EventKind::kEnd, 0, "", 0)); }

  Report judge(CheckerOptions options = {}) {
    Checker checker(options);
    if (events.back().kind != EventKind::kEnd) end();
    // By way of its line, so that the format is walked too.
    for (const auto& e : events) {
      const auto fed = checker.feed_line(encode(e));
      EXPECT_TRUE(fed) << fed.error().text;
    }
    const Report report = checker.report();
    EXPECT_EQ(checker.expected(), report.expected);
    EXPECT_EQ(checker.delivered(), report.delivered);
    return report;
  }
  void expect_only(Fault fault, std::uint64_t times = 1, CheckerOptions options = {}) {
    const Report report = judge(options);
    EXPECT_FALSE(report.passed());
    for (std::size_t i = 0; i < kFaults; ++i) {
      const auto kind = static_cast<Fault>(i);
      EXPECT_EQ(report.faults[i], kind == fault ? times : 0) << name(kind) << "\n" << said(report);
    }
  }
  void expect_pass(CheckerOptions options = {}) {
    const Report report = judge(options);
    EXPECT_TRUE(report.passed()) << said(report);
    EXPECT_EQ(report.delivered, report.expected);
  }
  static std::string said(const Report& report) {
    std::string out;
    for (const auto& v : report.violations) out += v.text + "\n";
    return out;
  }

  std::vector<Event> events;
  std::vector<std::pair<std::string, DeviceId>> devices;
  std::int64_t time = 0;
};

// Asked by another device of the user, and acknowledged: whoever showed it drops it; who had not, need not.
TEST_F(CheckerTest, PassesAMessageThatItsUserTookBack) {
  send(kAlice1, "#ops", 1);
  ack(kAlice1, "#ops", 1, 10);
  shown(kBob1, kAlice1, "#ops", 1, 10);
  recall(kAlice2, kAlice1, "#ops", 1);
  shown(kBob1, kAlice1, "#ops", 1, 10, EventKind::kVoid);
  recall(kAlice2, kAlice1, "#ops", 1, true);
  shown(kAlice1, kAlice1, "#ops", 1, 10, EventKind::kVoid);
  say(kAlice1, "#ops", 2, 20);
  expect_pass();
}

TEST_F(CheckerTest, FindsARecalledMessageThatIsStillShown) {
  say(kAlice1, "#ops", 1, 10);
  recall(kAlice2, kAlice1, "#ops", 1);
  recall(kAlice2, kAlice1, "#ops", 1, true);
  for (const auto on : {kAlice1, kAlice2, kBob1}) shown(on, kAlice1, "#ops", 1, 10, EventKind::kVoid);
  expect_only(Fault::kRecalledShown);
}

TEST_F(CheckerTest, TheSendersOwnDeviceIsToldToo) {
  say(kAlice1, "#ops", 1, 10);
  recall(kAlice2, kAlice1, "#ops", 1);
  recall(kAlice2, kAlice1, "#ops", 1, true);
  for (const auto on : {kAlice2, kBob1, kBob2}) shown(on, kAlice1, "#ops", 1, 10, EventKind::kVoid);
  expect_only(Fault::kRecalledShown);
}

// Asked without an answer: by all or by none.
TEST_F(CheckerTest, ARecallWithoutAnAnswerHappensEverywhereOrNowhere) {
  say(kAlice1, "#ops", 1, 10);
  recall(kAlice1, kAlice1, "#ops", 1);
  expect_pass();
  for (const auto on : {kAlice1, kAlice2, kBob1}) shown(on, kAlice1, "#ops", 1, 10, EventKind::kVoid);
  events.erase(std::find_if(events.begin(), events.end(), [](const Event& e) { return e.kind == EventKind::kEnd; }));
  expect_only(Fault::kPartlyShown, 2);
}

TEST_F(CheckerTest, FindsAMessageThatVanishesThoughNobodyTookItBack) {
  say(kAlice1, "#ops", 1, 10);
  recall(kBob1, kAlice1, "#ops", 1);  // It is not his.
  shown(kBob2, kAlice1, "#ops", 1, 10, EventKind::kVoid);
  expect_only(Fault::kLost);
}

TEST_F(CheckerTest, FindsARecallThatAStrangerWasGranted) {
  say(kAlice1, "#ops", 1, 10);
  recall(kBob1, kAlice1, "#ops", 1);
  recall(kBob1, kAlice1, "#ops", 1, true);
  expect_only(Fault::kAltered);
}

TEST_F(CheckerTest, PassesAGoodHistory) {
  say(kAlice1, "@bob", 1, 1);
  say(kAlice1, "@bob", 2, 2);
  say(kBob1, "@alice", 1, 3);
  say(kAlice2, "#ops", 1, 4);
  const Report report = judge({.closed = true});
  EXPECT_TRUE(report.passed()) << said(report);
  EXPECT_EQ(report.acked, 4u);
  EXPECT_EQ(report.expected, 16u);
  EXPECT_EQ(report.delivered, 16u);
}

// Loss.

TEST_F(CheckerTest, FindsAnAckedMessageThatADeviceLacks) {
  send(kAlice1, "@bob", 1);
  ack(kAlice1, "@bob", 1, 1);
  for (const auto on : {kAlice2, kBob1}) shown(on, kAlice1, "@bob", 1, 1);
  expect_only(Fault::kLost);
  EXPECT_NE(said(judge()).find("@bob/2 lacks message 1 of @alice/1 to @bob"), std::string::npos);
}

TEST_F(CheckerTest, FindsAnAckedMessageThatNobodyShows) {
  send(kAlice1, "#ops", 1);
  ack(kAlice1, "#ops", 1, 1, "all");
  expect_only(Fault::kLost, 3);
}

TEST_F(CheckerTest, FindsAVoidThatEatsAnAckedMessage) {
  say(kAlice1, "#ops", 1, 1);
  shown(kBob1, kAlice1, "#ops", 1, 1, EventKind::kVoid);
  expect_only(Fault::kLost);
}

TEST_F(CheckerTest, FindsAMessageThatOnlySomeDevicesShow) {
  auto unknown = [&] {
    send(kAlice1, "@bob", 1);
    events.push_back(event(EventKind::kUnknown, kAlice1, "@bob", 1));
    events.back().why = "timeout";
  };
  unknown();
  shown(kBob1, kAlice1, "@bob", 1, 1);
  expect_only(Fault::kPartlyShown, 2);  // The other of Alice, the other of Bob.
}

TEST_F(CheckerTest, OwesAFreshDeviceEverythingThatWasSaid) {
  say(kAlice1, "#ops", 1, 1);
  say(kBob1, "#ops", 1, 2);
  declare("@bob", "fresh");
  const auto fresh = static_cast<std::uint32_t>(devices.size() - 1);
  shown(fresh, kAlice1, "#ops", 1, 1);
  expect_only(Fault::kLost);
}

TEST_F(CheckerTest, OwesNothingToADeviceThatDoesNotFollow) {
  declare("@bob", "mute", false);
  say(kAlice1, "#ops", 1, 1);
  expect_pass();
}

// Carol was in the group for a while: she shows one of the two messages, and the history says so before or after them.
TEST_F(CheckerTest, WhoLeftMayShowAndOwesNothing) {
  Event left;
  left.kind = EventKind::kLeft;
  left.to = "#ops";
  left.users = {"@carol", "@bob"};
  for (const bool first : {true, false}) {
    events.resize(7);  // Header, five devices, the group.
    if (first) events.push_back(left);
    say(kAlice1, "#ops", 1, 10);
    shown(kCarol, kAlice1, "#ops", 1, 10);
    send(kAlice1, "#ops", 2);
    ack(kAlice1, "#ops", 2, 20);
    shown(kAlice2, kAlice1, "#ops", 2, 20);  // Bob, a member until then, lacks it, too.
    if (!first) events.push_back(left);
    expect_pass();
  }
  events.pop_back();  // The end,
  events.pop_back();  // and who left.
  EXPECT_FALSE(judge().passed());
}

// It was pushed before it was refused, and who is out of the group hears of no void.
TEST_F(CheckerTest, WhoLeftMayShowWhatWasRefused) {
  Event left;
  left.kind = EventKind::kLeft;
  left.to = "#ops";
  left.users = {"@carol"};
  send(kAlice1, "#ops", 1);
  Event refused;
  refused.kind = EventKind::kRefused;
  refused.device = kAlice1;
  refused.to = "#ops";
  refused.number = 1;
  events.push_back(refused);
  shown(kCarol, kAlice1, "#ops", 1, 10);
  events.push_back(left);
  expect_pass();
  events.pop_back();  // The end,
  events.pop_back();  // and who left.
  EXPECT_FALSE(judge().passed());
}

TEST_F(CheckerTest, AWeakGradeMayLose) {
  send(kAlice1, "@bob", 1);
  ack(kAlice1, "@bob", 1, 1, "local");
  shown(kBob1, kAlice1, "@bob", 1, 1);
  expect_pass();
  EXPECT_EQ(judge().weak, 1u);
}

// The node that acknowledged 2 lost it with its power: a forward of it that was under way is stored anew.
TEST_F(CheckerTest, AWeakGradePromisesNoPosition) {
  send(kAlice1, "#ops", 1);
  send(kAlice1, "#ops", 2);
  const std::size_t weak = events.size();
  ack(kAlice1, "#ops", 2, 1, "memory");
  say(kBob1, "#ops", 1, 3);
  ack(kAlice1, "#ops", 1, 5);
  shown_to_all(kAlice1, "#ops", 1, 5);
  shown_to_all(kAlice1, "#ops", 2, 8);
  expect_pass();
  events[weak].grade = "quorum";
  EXPECT_GT(judge().faults[static_cast<std::size_t>(Fault::kSenderOrder)], 0u);
}

// Doubles.

TEST_F(CheckerTest, FindsAMessageTwiceOnADevice) {
  say(kAlice1, "#ops", 1, 1);
  shown(kBob1, kAlice1, "#ops", 1, 1);
  expect_only(Fault::kTwice);
}

TEST_F(CheckerTest, FindsASecondAnswer) {
  say(kAlice1, "#ops", 1, 1);
  events.push_back(event(EventKind::kRefused, kAlice1, "#ops", 1));
  events.back().why = "denied";
  expect_only(Fault::kAnsweredTwice);
}

TEST_F(CheckerTest, ARestartedDeviceRemembersUnlessItSaysThatItForgot) {
  say(kAlice1, "#ops", 1, 1);
  events.push_back(event(EventKind::kRestart, kBob1, "", 0));
  const auto restart = events.size() - 1;
  shown(kBob1, kAlice1, "#ops", 1, 1);
  expect_only(Fault::kTwice);
  events[restart].forgot = true;
  expect_pass();
  EXPECT_EQ(judge().restarts, 1u);
}

// Order.

TEST_F(CheckerTest, FindsASenderOutOfOrder) {
  say(kAlice1, "#ops", 1, 5);
  say(kAlice1, "#ops", 2, 4);
  expect_only(Fault::kSenderOrder);
}

// Two numbers were stored a second time, below: of the one that was taken back by then no device hears that.
TEST_F(CheckerTest, WhatWasTakenBackStandsBehindNothing) {
  say(kAlice1, "#ops", 1, 5);
  say(kAlice1, "#ops", 2, 6);
  recall(kAlice2, kAlice1, "#ops", 1);  // Without an answer.
  for (const auto on : {kAlice1, kAlice2, kBob1, kBob2}) shown(on, kAlice1, "#ops", 1, 5, EventKind::kVoid);
  for (const auto on : {kAlice1, kAlice2, kBob1, kBob2}) shown(on, kAlice1, "#ops", 2, 3, EventKind::kMoved);
  expect_pass();
}

TEST_F(CheckerTest, WhatWasOnlyAskedToBeTakenBackKeepsItsPlace) {
  say(kAlice1, "#ops", 1, 5);
  recall(kAlice2, kAlice1, "#ops", 1);
  say(kAlice1, "#ops", 2, 3);
  expect_only(Fault::kSenderOrder);
}

// Nor is it forgotten where it stood: what is shown before it is before it.
TEST_F(CheckerTest, FindsASenderOutOfOrderBehindWhatWasTakenBack) {
  say(kAlice1, "#ops", 1, 5);
  say(kAlice1, "#ops", 2, 3);
  recall(kAlice1, kAlice1, "#ops", 2);
  recall(kAlice1, kAlice1, "#ops", 2, true);
  for (const auto on : {kAlice1, kAlice2, kBob1, kBob2}) shown(on, kAlice1, "#ops", 2, 3, EventKind::kVoid);
  expect_only(Fault::kSenderOrder);
}

TEST_F(CheckerTest, FindsDevicesThatDisagreeOnTheOrder) {
  say(kAlice1, "#ops", 1, 1);
  send(kBob1, "#ops", 1);
  ack(kBob1, "#ops", 1, 2);
  for (const auto on : {kAlice1, kAlice2, kBob1}) shown(on, kBob1, "#ops", 1, 2);
  shown(kBob2, kBob1, "#ops", 1, 0);
  // The three that heard the larger position show another order than the fourth.
  expect_only(Fault::kTotalOrder, 3);
}

TEST_F(CheckerTest, FindsTwoMessagesAtOnePosition) {
  say(kAlice1, "#ops", 1, 1);
  say(kBob1, "#ops", 1, 1);
  expect_only(Fault::kTotalOrder);
}

TEST_F(CheckerTest, PassesWhenEveryDeviceHearsOfTheSecondPosition) {
  say(kAlice1, "#ops", 1, 3);
  say(kBob1, "#ops", 1, 2);
  const auto moved = [&](std::uint32_t on) {
    shown(on, kAlice1, "#ops", 1, 1, EventKind::kMoved);
  };
  for (const auto on : {kAlice1, kAlice2, kBob1}) moved(on);
  expect_only(Fault::kTotalOrder);
  events.pop_back();
  moved(kBob2);
  expect_pass();
  EXPECT_EQ(judge().moved, 0u);
}

TEST_F(CheckerTest, ASecondPositionAloneShowsNothing) {
  send(kAlice1, "#ops", 1);
  ack(kAlice1, "#ops", 1, 2);
  for (const auto on : {kAlice2, kBob1}) shown(on, kAlice1, "#ops", 1, 2);
  shown(kBob2, kAlice1, "#ops", 1, 1, EventKind::kMoved);
  expect_only(Fault::kLost);
}

TEST_F(CheckerTest, ALateInsertIsCountedAndNoFault) {
  say(kAlice1, "#ops", 1, 1);
  send(kBob1, "#ops", 1);
  ack(kBob1, "#ops", 1, 2);
  say(kAlice1, "#ops", 2, 3);
  shown_to_all(kBob1, "#ops", 1, 2);
  expect_pass();
  EXPECT_EQ(judge().late_inserts, 4u);
}

// Nothing invented or altered.

TEST_F(CheckerTest, FindsWhatNobodySent) {
  say(kAlice1, "#ops", 1, 1);
  shown(kBob1, kAlice1, "#ops", 2, 2);
  expect_only(Fault::kInvented);
}

TEST_F(CheckerTest, FindsAnAnswerToWhatNobodySent) {
  say(kAlice1, "#ops", 1, 1);
  ack(kAlice1, "#ops", 2, 2);
  Checker checker;
  end();
  for (const auto& e : events) ASSERT_TRUE(checker.feed(e));
  EXPECT_EQ(checker.report().faults[static_cast<std::size_t>(Fault::kInvented)], 1u);
}

TEST_F(CheckerTest, FindsOtherContentSizeSenderOrLane) {
  say(kAlice1, "#ops", 1, 1);
  for (int what = 0; what < 4; ++what) {
    const auto good = events.back();
    if (what == 0) events.back().hash ^= 1;
    if (what == 1) events.back().size += 1;
    if (what == 2) events.back().from = "@carol";
    if (what == 3) events.back().strange_lane = true;
    end();
    expect_only(Fault::kAltered);
    events.pop_back();
    events.back() = good;
  }
}

TEST_F(CheckerTest, FindsAnAckUnderAnotherNumber) {
  say(kAlice1, "#ops", 1, 1);
  for (auto& e : events) {
    if (e.kind == EventKind::kAck) e.acked_as = 7;
  }
  expect_only(Fault::kAltered);
}

TEST_F(CheckerTest, FindsAMessageOnADeviceThatMayNotReadIt) {
  say(kAlice1, "#ops", 1, 1);
  shown(kCarol, kAlice1, "#ops", 1, 1);
  expect_only(Fault::kMisplaced);
}

TEST_F(CheckerTest, ARefusedMessageMayOnlyBeShownUntilItsVoidComes) {
  send(kAlice1, "#ops", 1);
  events.push_back(event(EventKind::kRefused, kAlice1, "#ops", 1));
  events.back().why = "denied";
  shown_to_all(kAlice1, "#ops", 1, 1);
  expect_only(Fault::kRefusedShown, 4);
  events.pop_back();
  for (const auto on : {kAlice1, kAlice2, kBob1, kBob2}) {
    shown(on, kAlice1, "#ops", 1, 1, EventKind::kVoid);
  }
  expect_pass();
}

TEST_F(CheckerTest, FindsADotThatIsTwoChanges) {
  say(kAlice1, "#ops", 1, 1);
  say(kAlice1, "#ops", 2, 2);
  for (auto& e : events) {
    if (e.kind == EventKind::kShown) e.dot = {WriterId{7}, e.number};
  }
  expect_pass();
  events[events.size() - 2].dot.n = 1;
  expect_only(Fault::kDotReused);
}

// Legal oddities.

TEST_F(CheckerTest, AMessageWithoutAnAnswerMayAppearOrNot) {
  send(kAlice1, "#ops", 1);
  send(kAlice2, "#ops", 1);
  shown_to_all(kAlice2, "#ops", 1, 1);
  expect_pass();
  EXPECT_EQ(judge().open, 2u);
}

TEST_F(CheckerTest, ASendGivenUpMayBeAcknowledgedLater) {
  send(kAlice1, "#ops", 1);
  events.push_back(event(EventKind::kUnknown, kAlice1, "#ops", 1));
  events.back().why = "timeout";
  ack(kAlice1, "#ops", 1, 1);
  shown_to_all(kAlice1, "#ops", 1, 1);
  expect_pass();
}

TEST_F(CheckerTest, MessagesOfOtherRunsAreLeftAloneUnlessTheWorldIsClosed) {
  say(kAlice1, "#ops", 1, 1);
  auto& foreign = shown(kBob1, kAlice1, "#ops", 1, 0);
  foreign.by = device_of(mailbox_of("@alice"), "elsewhere");
  expect_pass();
  EXPECT_EQ(judge().foreign, 1u);
  expect_only(Fault::kInvented, 1, {.closed = true});
}

// Files.

TEST_F(CheckerTest, MergesFilesInAnyOrder) {
  say(kAlice1, "#ops", 1, 1);
  say(kBob1, "#ops", 1, 2);
  end();
  events.back().t += 1000 * kHandOverMs;
  // What Bob's devices did and saw goes to a file of its own, that is read first.
  std::vector<Event> alice, bob;
  for (const auto& e : events) {
    const bool both = e.kind == EventKind::kHeader || e.kind == EventKind::kGroup ||
                      e.kind == EventKind::kEnd;
    const bool of_bob = e.device == kBob1 || e.device == kBob2;
    if (both || of_bob) bob.push_back(e);
    if (both || !of_bob) alice.push_back(e);
  }
  for (const bool bob_first : {true, false}) {
    events = bob_first ? bob : alice;
    events.insert(events.end(), (bob_first ? alice : bob).begin(), (bob_first ? alice : bob).end());
    const Report report = judge({.closed = true});
    EXPECT_TRUE(report.passed()) << said(report);
    EXPECT_EQ(report.files, 2u);
    EXPECT_EQ(report.delivered, 8u);
  }
}

TEST_F(CheckerTest, OwesNothingThatOthersSaidWhenADeviceWasAboutToLeave) {
  std::vector<Event> bob(events.begin() + 3, events.begin() + 5);  // His devices.
  bob.insert(bob.begin(), events[0]);
  bob.push_back(events[6]);
  bob.push_back(event(EventKind::kEnd, 0, "", 0));
  events.erase(events.begin() + 3, events.begin() + 5);
  send(kAlice1, "#ops", 1);
  ack(kAlice1, "#ops", 1, 1);
  shown(kAlice2, kAlice1, "#ops", 1, 1);
  end();
  events.insert(events.end(), bob.begin(), bob.end());
  const auto judged = [&](std::int64_t bob_stays_ms) {
    events.back().t = time + bob_stays_ms * 1000;
    Checker checker;
    for (const auto& e : events) EXPECT_TRUE(checker.feed(e));
    return checker.report().broken(1);
  };
  EXPECT_EQ(judged(kHandOverMs - 1), 0u);
  EXPECT_EQ(judged(kHandOverMs), 2u);
}

TEST_F(CheckerTest, ACutFileIsAFaultUnlessAskedFor) {
  say(kAlice1, "#ops", 1, 1);
  events.pop_back();  // Bob's second device.
  Checker strict, partial({.partial = true});
  for (const auto& e : events) {
    ASSERT_TRUE(strict.feed(e));
    ASSERT_TRUE(partial.feed(e));
  }
  EXPECT_FALSE(strict.report().passed());
  EXPECT_EQ(strict.report().cut_files, 1u);
  EXPECT_TRUE(partial.report().passed()) << said(partial.report());
}

TEST_F(CheckerTest, RefusesFilesOfTwoClusters) {
  Checker checker;
  ASSERT_TRUE(checker.feed(events[0]));
  events[0].cluster = "c2";
  const auto fed = checker.feed(events[0]);
  ASSERT_FALSE(fed);
  EXPECT_EQ(fed.code(), Errc::kForeign);
}

TEST_F(CheckerTest, SaysWhichLineIsWrong) {
  const auto broken = [this](const std::string& line, Errc code, const std::string& part) {
    Checker checker;
    ASSERT_TRUE(checker.feed_line(encode(events[0])));
    ASSERT_TRUE(checker.feed_line(encode(events[1])));
    const auto fed = checker.feed_line(line);
    ASSERT_FALSE(fed) << line;
    EXPECT_EQ(fed.code(), code) << line;
    EXPECT_NE(fed.error().text.find("line 3: "), std::string::npos) << fed.error().text;
    EXPECT_NE(fed.error().text.find(part), std::string::npos) << fed.error().text;
  };
  broken("", Errc::kCorrupt, "JSON");
  broken("{\"e\":\"send\",", Errc::kCorrupt, "JSON");
  broken("{\"e\":\"sent\"}", Errc::kCorrupt, "no such event");
  broken("{\"e\":\"send\",\"t\":1,\"d\":9,\"to\":\"@bob\",\"n\":1,\"hash\":\"0000000000000001\",\"size\":1}",
         Errc::kCorrupt, "not declared");
  broken("{\"e\":\"send\",\"t\":1,\"d\":0,\"to\":\"bob\",\"n\":1,\"hash\":\"0000000000000001\",\"size\":1}",
         Errc::kCorrupt, "'to'");
  broken("{\"e\":\"send\",\"t\":1,\"d\":0,\"to\":\"@bob\",\"n\":0,\"hash\":\"0000000000000001\",\"size\":1}",
         Errc::kCorrupt, "'n'");
  broken("{\"e\":\"send\",\"t\":1,\"d\":0,\"to\":\"@bob\",\"n\":1,\"hash\":\"1\",\"size\":1}",
         Errc::kCorrupt, "'hash'");
  broken("{\"e\":\"ack\",\"t\":1,\"d\":0,\"to\":\"@bob\",\"n\":1,\"id\":\"x\",\"grade\":\"all\",\"copies\":2}",
         Errc::kCorrupt, "'id'");
  broken("{\"starling_history\":2}", Errc::kUnsupported, "version 2");
  broken(std::string(kHistoryLineMax + 1, ' '), Errc::kCorrupt, "over");
  Checker headless;
  const auto fed = headless.feed_line(encode(events[1]));
  ASSERT_FALSE(fed);
  EXPECT_NE(fed.error().text.find("line 1: "), std::string::npos);
}

// Histories outlive the build that wrote them.
TEST(HistoryFormat, OfVersionOneIsReadAndWrittenTheSameForEver) {
  const std::string id = "06H2F6ZD3GG008000000000001";
  const std::string hash = R"("hash":"00000000000000ff")";
  const std::string seen = R"({"by":"000102030405060708090a0b0c0d0e0f","d":1,"dot":"18446744073709551615:3",)";
  for (const std::string& line : std::vector<std::string>{
           std::string(R"({"by":"replay","cluster":"aa","starling_history":1,"started_ms":5})"),
           std::string(R"({"d":0,"e":"device","name":"phone","user":"@alice"})"),
           std::string(R"({"d":0,"e":"device","must_show":false,"name":"phone","user":"@alice"})"),
           std::string(R"({"e":"group","to":"#ops","users":["@alice","@bob"]})"),
           R"({"d":0,"e":"send",)" + hash + R"(,"n":7,"size":9,"t":1,"to":"#ops"})",
           R"({"copies":2,"d":0,"e":"ack","grade":"quorum","id":")" + id +
               R"(","n":7,"t":2,"to":"#ops"})",
           R"({"as":8,"copies":2,"d":0,"e":"ack","grade":"all","id":")" + id +
               R"(","n":7,"t":2,"to":"#ops"})",
           std::string(R"({"d":0,"e":"refused","n":7,"t":2,"to":"@bob","why":"denied"})"),
           std::string(R"({"d":0,"e":"unknown","n":7,"t":2,"to":"@bob","why":"timeout"})"),
           seen + R"("e":"shown","from":"@alice",)" + hash + R"(,"id":")" + id +
               R"(","n":7,"size":9,"t":3,"to":"#ops"})",
           seen + R"("e":"moved","from":"@alice",)" + hash + R"(,"id":")" + id +
               R"(","n":7,"size":9,"strange":true,"t":3,"to":"#ops"})",
           seen + R"("e":"void","from":"@alice",)" + hash + R"(,"id":")" + id +
               R"(","n":7,"size":9,"t":3,"to":"#ops"})",
           std::string(R"({"d":1,"e":"restart","forgot":true,"t":4})"),
           std::string(R"({"e":"end","t":5})"),
       }) {
    const auto event = decode(line);
    ASSERT_TRUE(event) << line << ": " << event.error().text;
    EXPECT_EQ(encode(*event), line);
  }
}

TEST_F(CheckerTest, CountsMoreFaultsThanItKeeps) {
  for (std::uint64_t n = 1; n <= 100; ++n) {
    send(kAlice1, "@carol", n);
    ack(kAlice1, "@carol", n, n);
    shown(kAlice2, kAlice1, "@carol", n, n);
  }
  const Report report = judge();
  EXPECT_EQ(report.faults[static_cast<std::size_t>(Fault::kLost)], 100u);
  EXPECT_EQ(report.violations.size(), kViolationsKept);
}

TEST_F(CheckerTest, AStoryTellsAllThatHappenedToAMessageInTheOrderOfTime) {
  say(kAlice1, "#ops", 1, 1);
  say(kAlice1, "#ops", 2, 2);
  Story story({{devices[kAlice1].second, "#ops", 2}});
  for (auto e = events.begin(); e != events.end(); ++e) story.feed(*e);
  const auto lines = story.of({devices[kAlice1].second, "#ops", 2});
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_NE(lines[0].find("@alice/1 sends it"), std::string::npos) << lines[0];
  EXPECT_NE(lines[1].find("acknowledged to @alice/1 as quorum"), std::string::npos) << lines[1];
  EXPECT_NE(lines[5].find("@bob/2 shows it"), std::string::npos) << lines[5];
}

}  // namespace
}  // namespace starling::node::check
