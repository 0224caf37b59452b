#include "storage/ids.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "crypto/random.h"

namespace starling {
namespace {

TEST(EntryId, TextHas26CharactersSortsLikeTheIdAndReadsBack) {
  SeededRandom random(1);
  std::vector<EntryId> ids = {{0, {0}}, {0, {1}}, {1, {0}}, {~0ull, {~0ull}}};
  for (int i = 0; i < 300; ++i) ids.push_back({random.u64() >> random.below(64), {random.u64()}});
  std::sort(ids.begin(), ids.end());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    EXPECT_EQ(to_text(ids[i]).size(), 26u);
    EXPECT_EQ(parse_entry_id(to_text(ids[i])).value(), ids[i]);
    if (i > 0 && ids[i - 1] != ids[i]) {
      EXPECT_LT(to_text(ids[i - 1]), to_text(ids[i]));
    }
  }
  EXPECT_EQ(to_text(EntryId{0, {32}}), std::string(24, '0') + "10");
}

TEST(EntryId, RefusesOtherTexts) {
  for (const std::string& bad : {std::string(), std::string(25, '0'), std::string(27, '0'),
                                 "8" + std::string(25, '0'), std::string(25, '0') + "*"}) {
    EXPECT_EQ(parse_entry_id(bad).code(), Errc::kInvalid) << bad;
  }
}

TEST(NodeId, HasAFullAndAShortText) {
  SeededRandom random(2);
  NodeId node;
  random.fill(node.raw);
  const std::string text = to_text(node);
  EXPECT_EQ(text.size(), 26u);
  EXPECT_EQ(parse_node_id(text).value(), node);
  const std::string brief = short_text(node);
  EXPECT_EQ(brief.size(), 8u);
  std::string lower = text.substr(0, 8);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  EXPECT_EQ(brief, lower);
  EXPECT_EQ(parse_node_id(text.substr(1)).code(), Errc::kInvalid);
}

TEST(Address, HasASigilThatTellsItsKind) {
  EXPECT_EQ(check_address("@alice").value(), AddressKind::kUser);
  EXPECT_EQ(check_address("#ops").value(), AddressKind::kGroup);
  for (View bad : {"", "alice", "@", "#", " @alice", "!x"}) {
    EXPECT_EQ(check_address(bad).code(), Errc::kInvalid) << bad;
  }
}

TEST(Address, TakesNicksChannelsAndOtherScripts) {
  for (View good : {"@[a]{b}\\|^`~_-.", "##linux", "#c++", "@\xc3\xa9lo\xc3\xafse",
                    "@\xe5\xb0\x8f\xe9\xb8\x9f", "@\xf0\x9f\x90\xa6"}) {
    EXPECT_TRUE(check_address(good).ok()) << good;
  }
}

TEST(Address, NameIs1To64Bytes) {
  EXPECT_TRUE(check_address("@" + std::string(kNameSizeMax, 'x')).ok());
  EXPECT_FALSE(check_address("@" + std::string(kNameSizeMax + 1, 'x')).ok());
}

TEST(Address, RefusesSpacesControlsAndTheInvisible) {
  for (View bad :
       {View("a b"), View("a\t"), View("a\n"), View("a\0b", 3), View("\x7f"), View("a\xc2\x80"),
        View("a\xc2\xa0"), View("a\xe2\x80\x80"), View("a\xe2\x80\x8b"), View("a\xe2\x80\x8f"),
        View("a\xe2\x80\xa8"), View("a\xe2\x80\xae"), View("a\xe2\x80\xaf"), View("a\xe2\x81\x9f"),
        View("a\xe2\x81\xa0"), View("a\xe2\x81\xa6"), View("a\xe3\x80\x80"), View("a\xef\xbb\xbf"),
        View("a\xe1\x9a\x80")}) {
    EXPECT_EQ(check_address("@" + std::string(bad)).code(), Errc::kInvalid) << hex(bad);
  }
  // Their neighbours are fine.
  for (View good :
       {"a\xc2\xa1", "a\xe2\x80\x90", "a\xe2\x80\xa7", "a\xe2\x80\xb0", "a\xe3\x80\x81"}) {
    EXPECT_TRUE(check_address("@" + std::string(good)).ok()) << hex(good);
  }
}

TEST(Address, RefusesWhatIsNotUtf8) {
  for (View bad : {"\xff", "\xc3", "\xc0\xaf", "\xed\xa0\x80"}) {
    EXPECT_EQ(check_address("@" + std::string(bad)).code(), Errc::kInvalid) << hex(bad);
  }
}

// Frozen: every key on disk begins with these bits, so the function may never change.
TEST(Mailbox, IsBlake2b128OfTheAddress) {
  const MailboxId alice = mailbox_of("@alice");
  EXPECT_EQ(hex(alice.view()), "5c8b1cb669b181e90ddb30a18f754fee");
  EXPECT_EQ(hex(device_of(alice, "phone").view()), "d8f2f9bb7e6dd2ba0a701eebd7959408");
  EXPECT_EQ(slot_of(alice), alice.raw[0] * 256 + alice.raw[1]);
  EXPECT_EQ(hex(alice.view()).substr(0, 16), [&] {
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(lane_to(alice)));
    return std::string(text);
  }());
}

TEST(Mailbox, DiffersByAddressAndDeviceByUser) {
  EXPECT_NE(mailbox_of("@alice"), mailbox_of("#alice"));
  EXPECT_NE(device_of(mailbox_of("@alice"), "phone"), device_of(mailbox_of("@bob"), "phone"));
  EXPECT_NE(device_of(mailbox_of("@alice"), "phone"), device_of(mailbox_of("@alice"), "tablet"));
}

TEST(Partition, IsARangeOfSlots) {
  for (std::uint32_t partitions : {1u, 2u, 64u, 1024u, 65536u}) {
    std::uint32_t last = 0;
    for (std::uint32_t slot = 0; slot < 65536; ++slot) {
      const PartitionId partition = partition_of(static_cast<Slot>(slot), partitions);
      ASSERT_LT(partition.value, partitions);
      const bool first = slot == first_slot(partition, partitions);
      ASSERT_EQ(partition.value, slot == 0 ? 0 : last + (first ? 1 : 0));
      last = partition.value;
    }
    EXPECT_EQ(last, partitions - 1);
  }
}

}  // namespace
}  // namespace starling
