// ReplayProof must fail on every kind of fault it is there to find.
#include <gtest/gtest.h>

#include "node/cli/replay_proof.h"

namespace starling::node::cli {
namespace {

// Two users with two devices each, in one group; @a says three things and @b one.
class ProofTest : public testing::Test {
 protected:
  void SetUp() override {
    group_ = proof_.add_conversation("#g");
    for (const char* name : {"a1", "a2", "b1", "b2"}) {
      const DeviceId id = device_of(mailbox_of("@" + std::string(1, name[0])), name);
      devices_.push_back(proof_.add_device(name, id));
      proof_.follow(devices_.back(), group_);
      ids_.push_back(id);
    }
    for (const char* text : {"one", "two", "three"}) say(0, "@a", text);
    say(2, "@b", "four");
  }
  void say(std::size_t device, const std::string& from, const std::string& text) {
    const auto message = proof_.sent(group_, ids_[device], from, "#g", text);
    proof_.acked(message);
    protocol::EntryMessage entry;
    entry.mailbox = entry.to = "#g";
    entry.from = from;
    entry.device = ids_[device];
    entry.lane = lane_to(mailbox_of("#g"));
    entry.seq = ++numbers_[device];
    entry.id = id(entries_.size() + 1);
    entry.content = 1;
    entry.body.data = text;
    entries_.push_back(entry);
  }
  static std::string id(std::uint64_t n) { return to_text(EntryId{n << 16, WriterId{1}}); }
  void deliver_to(std::size_t device) {
    for (const auto& entry : entries_) proof_.received(devices_[device], entry);
  }
  void deliver_to_all_but_the_last() {
    for (std::size_t d = 0; d < 3; ++d) deliver_to(d);
  }

  ReplayProof proof_;
  ReplayProof::Conversation group_ = 0;
  std::vector<ReplayProof::Device> devices_;
  std::vector<DeviceId> ids_;
  std::map<std::size_t, std::uint64_t> numbers_;
  std::vector<protocol::EntryMessage> entries_;
};

TEST_F(ProofTest, PassesWhenEveryDeviceHasAllOfIt) {
  deliver_to_all_but_the_last();
  EXPECT_LT(proof_.delivered(), proof_.expected());
  deliver_to(3);
  EXPECT_EQ(proof_.delivered(), proof_.expected());
  const auto report = proof_.check();
  EXPECT_TRUE(report.pass) << (report.first.empty() ? "" : report.first[0]);
  EXPECT_EQ(report.expected, 16u);
  EXPECT_EQ(report.delivered, 16u);
  EXPECT_EQ(report.late_inserts, 0u);
}

TEST_F(ProofTest, FailsOnALoss) {
  deliver_to_all_but_the_last();
  entries_.erase(entries_.begin() + 1);
  deliver_to(3);
  const auto report = proof_.check();
  EXPECT_FALSE(report.pass);
  EXPECT_EQ(report.missing, 1u);
  ASSERT_EQ(report.first.size(), 1u);
  EXPECT_NE(report.first[0].find("b2 lacks message 2 of @a"), std::string::npos) << report.first[0];
}

TEST_F(ProofTest, FailsOnADuplicate) {
  deliver_to_all_but_the_last();
  entries_.push_back(entries_[0]);
  deliver_to(3);
  EXPECT_FALSE(proof_.check().pass);
  EXPECT_EQ(proof_.check().duplicate, 1u);
}

TEST_F(ProofTest, FailsOnAlteredBytesOrNames) {
  deliver_to_all_but_the_last();
  entries_[1].body.data[0] ^= 1;
  entries_[2].from = "@mallory";
  deliver_to(3);
  EXPECT_FALSE(proof_.check().pass);
  EXPECT_EQ(proof_.check().altered, 2u);
}

TEST_F(ProofTest, FailsWhenOneSendersMessagesChangePlaces) {
  std::swap(entries_[0].id, entries_[1].id);
  for (std::size_t d = 0; d < 4; ++d) deliver_to(d);
  const auto report = proof_.check();
  EXPECT_FALSE(report.pass);
  EXPECT_EQ(report.sender_order, 4u) << "on every device";
  EXPECT_EQ(report.total_order, 0u) << "they agree with each other";
}

TEST_F(ProofTest, FailsWhenDevicesDisagreeOnTheOrderOfDifferentSenders) {
  deliver_to_all_but_the_last();
  entries_[3].id = id(0);  // On b2, @b's message stands first.
  deliver_to(3);
  const auto report = proof_.check();
  EXPECT_FALSE(report.pass);
  EXPECT_GT(report.total_order, 0u);
  EXPECT_EQ(report.sender_order, 0u);
}

TEST_F(ProofTest, ALaterCopyWithASmallerPositionSetsItRight) {
  const std::string late = entries_[3].id;
  entries_[3].id = id(9);
  deliver_to_all_but_the_last();
  entries_[3].id = late;
  deliver_to(3);
  EXPECT_TRUE(proof_.check().pass) << "number 4 is last at both positions";
  EXPECT_EQ(proof_.check().repositioned, 1u);
  for (std::size_t d = 0; d < 3; ++d) proof_.repositioned(devices_[d], entries_[3]);
  EXPECT_EQ(proof_.check().repositioned, 0u);
}

TEST_F(ProofTest, AnInsertThatComesLateIsCountedButNoFault) {
  deliver_to_all_but_the_last();
  std::rotate(entries_.begin(), entries_.begin() + 3, entries_.end());
  deliver_to(3);
  EXPECT_TRUE(proof_.check().pass);
  EXPECT_EQ(proof_.check().late_inserts, 3u);
}

TEST_F(ProofTest, FailsOnWhatWasNeverSent) {
  for (std::size_t d = 0; d < 4; ++d) deliver_to(d);
  auto invented = entries_[0];
  invented.seq = 99;
  proof_.received(devices_[0], invented);
  EXPECT_FALSE(proof_.check().pass);
  EXPECT_EQ(proof_.check().invented, 1u);
}

TEST_F(ProofTest, LeavesMessagesOfOtherRunsAlone) {
  for (std::size_t d = 0; d < 4; ++d) deliver_to(d);
  auto foreign = entries_[0];
  foreign.device = device_of(mailbox_of("@c"), "elsewhere");
  EXPECT_FALSE(proof_.received(devices_[0], foreign));
  EXPECT_TRUE(proof_.check().pass);
  EXPECT_EQ(proof_.check().foreign, 1u);
}

TEST_F(ProofTest, FailsWhenAMessageReachesAStranger) {
  for (std::size_t d = 0; d < 4; ++d) deliver_to(d);
  const auto stranger = proof_.add_device("c1", {});
  proof_.received(stranger, entries_[0]);
  EXPECT_FALSE(proof_.check().pass);
  EXPECT_EQ(proof_.check().misplaced, 1u);
}

TEST_F(ProofTest, FailsOnAMessageWithoutAnAnswerAndForgivesARefusedOne) {
  for (std::size_t d = 0; d < 4; ++d) deliver_to(d);
  const auto message = proof_.sent(group_, ids_[0], "@a", "#g", "five");
  EXPECT_FALSE(proof_.check().pass);
  EXPECT_EQ(proof_.check().unacknowledged, 1u);
  proof_.refused(message);
  EXPECT_TRUE(proof_.check().pass);
  EXPECT_EQ(proof_.check().refused, 1u);
}

TEST_F(ProofTest, AFreshDeviceOwesEverythingThatWasSaid) {
  for (std::size_t d = 0; d < 4; ++d) deliver_to(d);
  const auto fresh = proof_.add_device("fresh", {});
  proof_.follow(fresh, group_);
  EXPECT_EQ(proof_.expected() - proof_.delivered(), 4u);
  EXPECT_EQ(proof_.check().missing, 4u);
  for (const auto& entry : entries_) EXPECT_TRUE(proof_.received(fresh, entry));
  EXPECT_TRUE(proof_.check().pass);
}

TEST(ReplayProof, ProvesNothingWithoutASingleMessage) {
  EXPECT_FALSE(ReplayProof().check().pass);
}

}  // namespace
}  // namespace starling::node::cli
