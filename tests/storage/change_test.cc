#include "storage/change.h"

#include <deque>

#include <gtest/gtest.h>

#include "crypto/random.h"
#include "tests/storage/support.h"

namespace starling::storage {
namespace {

using testing::closing;
using testing::entry;
using testing::kAlice;
using testing::read_golden;
using testing::reg;

constexpr Dot kDot{WriterId{0x1122334455667788}, 42};

ChangeView golden_entry() {
  ChangeView change = entry(kAlice, 9, hlc_at(1'700'000'000'000) + 3, "hi there");
  change.prev = 41;
  change.entry.expires_ms = 1'800'000'000'000;
  change.entry.flags = kEntryImpliesCopy;
  change.entry.type = EntryType::kBinary;
  return change;
}
ChangeView golden_void() {
  ChangeView change = closing(kAlice, 10, hlc_at(1'700'000'000'001));
  change.prev = 42;
  return change;
}
ChangeView golden_register() {
  return reg(kAlice, "read/bob", "mark", hlc_at(1'700'000'000'002), MergeKind::kMax);
}

struct Golden {
  const char* name;
  ChangeView change;
};
std::vector<Golden> goldens() {
  return {{"change_entry", golden_entry()},
          {"change_void", golden_void()},
          {"change_register", golden_register()}};
}

TEST(Change, KeepsItsBytesForever) {
  for (const auto& golden : goldens()) {
    EXPECT_EQ(hex(encode(golden.change, kDot)), read_golden(golden.name)) << golden.name;
  }
}

TEST(Change, DecodesToWhatWasEncoded) {
  for (const auto& golden : goldens()) {
    const Bytes bytes = encode(golden.change, kDot);
    const auto decoded = decode(bytes, kDot);
    ASSERT_TRUE(decoded.ok()) << decoded.error().text;
    EXPECT_EQ(decoded->kind, golden.change.kind);
    EXPECT_EQ(decoded->mailbox, golden.change.mailbox);
    EXPECT_EQ(decoded->prev, golden.change.prev);
    EXPECT_EQ(decoded->entry.id, golden.change.entry.id);
    EXPECT_EQ(decoded->entry.key, golden.change.entry.key);
    EXPECT_EQ(decoded->entry.conversation, golden.change.entry.conversation);
    EXPECT_EQ(decoded->entry.expires_ms, golden.change.entry.expires_ms);
    EXPECT_EQ(decoded->entry.flags, golden.change.entry.flags);
    EXPECT_EQ(decoded->entry.type, golden.change.entry.type);
    EXPECT_EQ(decoded->entry.from, golden.change.entry.from);
    EXPECT_EQ(decoded->entry.to, golden.change.entry.to);
    EXPECT_EQ(decoded->entry.body, golden.change.entry.body);
    EXPECT_EQ(decoded->reg.merge, golden.change.reg.merge);
    EXPECT_EQ(decoded->reg.stamp, golden.change.reg.stamp);
    EXPECT_EQ(decoded->reg.key, golden.change.reg.key);
    EXPECT_EQ(decoded->reg.value, golden.change.reg.value);
    EXPECT_EQ(encode(*decoded, kDot), bytes);
  }
}

TEST(Change, RefusesEveryTruncationAndEveryFlippedBit) {
  for (const auto& golden : goldens()) {
    const Bytes bytes = encode(golden.change, kDot);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      EXPECT_FALSE(decode(View(bytes).substr(0, size), kDot).ok()) << golden.name << " " << size;
    }
    for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
      Bytes flipped = bytes;
      flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
      EXPECT_FALSE(decode(flipped, kDot).ok()) << golden.name << " bit " << bit;
    }
    EXPECT_FALSE(decode(bytes + '\0', kDot).ok());
  }
}

TEST(Change, IsBoundToItsDot) {
  const Bytes bytes = encode(golden_entry(), kDot);
  EXPECT_EQ(decode(bytes, {kDot.writer, kDot.n + 1}).code(), Errc::kCorrupt);
  EXPECT_EQ(decode(bytes, {WriterId{1}, kDot.n}).code(), Errc::kCorrupt);
}

TEST(Change, OfANewerFormatIsUnsupportedNotCorrupt) {
  Bytes bytes = encode(golden_entry(), kDot);
  bytes[0] = kChangeFormat + 1;
  EXPECT_EQ(decode(bytes, kDot).code(), Errc::kCorrupt);  // A flipped bit is no newer format.
  testing::seal(bytes, kDot);
  EXPECT_EQ(decode(bytes, kDot).code(), Errc::kUnsupported);
  bytes[0] = 0;
  testing::seal(bytes, kDot);
  EXPECT_EQ(decode(bytes, kDot).code(), Errc::kCorrupt);
}

// A sender with a valid checksum and wrong content: the writer lies, the reader must not follow.
TEST(Change, RefusesWrongContentUnderARightChecksum) {
  auto refused = [](ChangeView change) {
    const auto decoded = decode(encode(change, kDot), kDot);
    return !decoded.ok() && decoded.code() == Errc::kCorrupt;
  };
  ChangeView change = golden_entry();
  change.entry.type = static_cast<EntryType>(9);
  EXPECT_TRUE(refused(change));
  change = golden_entry();
  change.kind = static_cast<ChangeKind>(4);
  EXPECT_TRUE(refused(change));
  change = golden_register();
  change.reg.merge = static_cast<MergeKind>(0);
  EXPECT_TRUE(refused(change));
}

TEST(Change, HoldsTheLargestContentThatTheLimitsAllow) {
  const Bytes body(kBodySizeMax, 'x');
  const Bytes address = "@" + Bytes(kNameSizeMax, 'n');
  ChangeView change = entry(kAlice, 1, 1, body);
  change.entry.from = change.entry.to = address;
  EXPECT_TRUE(decode(encode(change, kDot), kDot).ok());
  const Bytes key(kRegisterKeySizeMax, 'k');
  const Bytes value(kRegisterValueSizeMax, 'v');
  EXPECT_TRUE(decode(encode(reg(kAlice, key, value, 1), kDot), kDot).ok());
}

TEST(ContentHash, TellsContentApartAndIgnoresWhereItStands) {
  const auto base = entry(kAlice, 1, 1, "one").entry;
  auto other = base;
  other.id.time = 99;
  other.conversation = kAlice;
  EXPECT_EQ(content_hash(base, ChangeKind::kEntry), content_hash(other, ChangeKind::kEntry));
  other.body = "two";
  EXPECT_NE(content_hash(base, ChangeKind::kEntry), content_hash(other, ChangeKind::kEntry));
  other = base;
  other.to = "#ops";
  EXPECT_NE(content_hash(base, ChangeKind::kEntry), content_hash(other, ChangeKind::kEntry));
  other = base;
  other.type = EntryType::kBinary;
  EXPECT_NE(content_hash(base, ChangeKind::kEntry), content_hash(other, ChangeKind::kEntry));
  EXPECT_NE(content_hash(base, ChangeKind::kEntry), content_hash(base, ChangeKind::kVoid));
}

// --- Registers. ---

Bytes member(std::uint64_t generation, bool removed, std::uint8_t role) {
  return pack(MemberValue{generation, removed, role, "@x"});
}

TEST(RegisterMerge, FollowsTheRuleOfItsKind) {
  struct Case {
    const char* says;
    MergeKind merge;
    Bytes winner;
    Hlc winner_time;
    Bytes loser;
    Hlc loser_time;
  };
  const std::vector<Case> cases = {
      {"lww: the later", MergeKind::kLww, "a", 2, "z", 1},
      {"max: the larger, whatever the clock", MergeKind::kMax, "\x09", 99, "\x05", 100},
      {"max: unsigned", MergeKind::kMax, Bytes("\x80"), 1, Bytes("\x7f"), 2},
      {"max: as numbers", MergeKind::kMax, Bytes("\x01\x00", 2), 1, Bytes("\xff"), 2},
      {"member: a kick beats a later promotion", MergeKind::kMember, member(1, true, 0), 10,
       member(1, false, 2), 11},
      {"member: a re-add beats the kick", MergeKind::kMember, member(2, false, 0), 5,
       member(1, true, 0), 9},
      {"member: the later role", MergeKind::kMember, member(1, false, 0), 12,
       member(1, false, 2), 11},
      {"member: anything beats nonsense", MergeKind::kMember, member(1, false, 0), 1, "?", 99},
  };
  for (const auto& c : cases) {
    const RegisterView winner{c.merge, {c.winner_time, WriterId{1}}, "k", c.winner};
    const RegisterView loser{c.merge, {c.loser_time, WriterId{2}}, "k", c.loser};
    EXPECT_TRUE(wins(winner, loser)) << c.says;
    EXPECT_FALSE(wins(loser, winner)) << c.says;
  }
}

// Commutative, associative, idempotent: exactly what a strict total order gives.
TEST(RegisterMerge, IsAStrictTotalOrder) {
  SeededRandom random(11);
  std::vector<RegisterView> writes;
  std::deque<Bytes> values;
  for (int i = 0; i < 60; ++i) {
    const auto merge = static_cast<MergeKind>(1 + random.below(3));
    if (merge == MergeKind::kMember && random.below(8) != 0) {
      values.push_back(member(random.below(3), random.below(2) == 1,
                              static_cast<std::uint8_t>(random.below(3))));
    } else {
      values.push_back(Bytes(1 + random.below(2), static_cast<char>(random.below(3))));
    }
    writes.push_back({merge, {random.below(3), WriterId{random.below(3)}}, "k", values.back()});
  }
  for (const auto& a : writes) {
    EXPECT_FALSE(wins(a, a));
    for (const auto& b : writes) {
      const bool same = a.merge == b.merge && a.stamp == b.stamp && a.value == b.value;
      EXPECT_EQ(wins(a, b) + wins(b, a), same ? 0 : 1);
      for (const auto& c : writes) {
        EXPECT_TRUE(!wins(a, b) || !wins(b, c) || wins(a, c));
      }
    }
  }
}

}  // namespace
}  // namespace starling::storage
