// The bytes on disk: those of every row are frozen in tests/golden, and read back as written.
#include "storage/layout.h"

#include <gtest/gtest.h>

#include "storage/rows.h"
#include "tests/storage/support.h"

namespace starling::storage {
namespace {

using testing::entry;
using testing::kAlice;
using testing::kBob;

constexpr Dot kRowDot{WriterId{0x1122334455667788}, 0x99AABBCC};
const EntryId kId{hlc_at(1'700'000'000'000) + 3, WriterId{0x0102030405060708}};
const MessageKey kKey{testing::device(9), 0xA1A2A3A4A5A6A7A8, 7};
constexpr Slot kSlot = 0x1234;

KeyRow key() { return {kRowDot, kId, kBob, true, 0xC0C1C2C3C4C5C6C7, 1'700'000'001}; }
RegisterRow written() { return {MergeKind::kMember, kId, kRowDot, "value"}; }

JournalRow journal() {
  return {kId.time, {kSlot}, {{kSlot, kRowDot.writer}}, {{kSlot, kRowDot.writer, kRowDot.n}},
          {{{kAlice, kKey.device, kKey.lane}, 7}, {{kBob, kKey.device, kKey.lane}, 8}}};
}

JournalRow split_journal() {
  JournalRow row;
  row.split_from = 4096;
  return row;
}
SplitRow split() { return {SplitRow::Stage::kLog, Bytes(log_key(kSlot, kRowDot).view())}; }

struct Row {
  const char* family;
  Bytes key;
  Bytes value;
};
std::vector<Row> rows() {
  return {
      {"log", Bytes(log_key(kSlot, kRowDot).view()), {}},  // The value: change_*.v1.hex.
      {"entries", Bytes(entry_key(kAlice, kBob, kId).view()),
       Bytes(entry_value({kRowDot, 1'700'000'001}).view())},
      {"mailbox_dots", Bytes(mailbox_dot_key(kAlice, kRowDot).view()),
       Bytes(mailbox_dot_value({ChangeKind::kVoid, kId, 1'700'000'001}).view())},
      {"registers", register_key(kAlice, "read/bob"), register_value(written())},
      {"keys", Bytes(message_key(kAlice, kKey).view()), Bytes(key_value(key()).view())},
      {"lanes", Bytes(lane_key({kAlice, kKey.device, kKey.lane}).view()),
       Bytes(number_value(7).view())},
      {"partitions", Bytes(partition_key(kSlot, kRowDot.writer).view()),
       Bytes(number_value(kRowDot.n).view())},
      {"damage", Bytes(log_key(kSlot, kRowDot).view()),
       Bytes(damage_value(DamageState::kLost).view())},
      {"damaged", Bytes(log_key(kSlot, kRowDot).view()), Bytes(damage_value(DamageState::kDamaged).view())},
      {"hints", Bytes(log_key(kSlot, kRowDot).view()), {}},  // The value: as of the log; empty: of the sibling, since a split.
      {"format", Bytes(kNodeFormat), Bytes(number_value(kFormatSplit).view())},
      {"clean_writer", Bytes(kNodeCleanWriter), Bytes(number_value(kRowDot.writer.value).view())},
      {"hlc", Bytes(kNodeHighestTime), Bytes(number_value(kId.time).view())},
      {"count", Bytes(kNodePartitions), Bytes(number_value(4096).view())},
      {"expiry", Bytes(kNodeExpiryTime), Bytes(number_value(1'700'000'000'123).view())},
      {"refill_permit", Bytes(kNodeRefillPermit), Bytes(number_value(1).view())},
      {"issued", issued_key(kSlot), Bytes(number_value(kRowDot.n).view())},
      {"installing", installing_key(kSlot), Bytes(number_value(1).view())},
      {"journal", Bytes(journal_key(0xB1B2B3).view()), journal_value(journal())},
      {"journal_split", Bytes(journal_key(0xB1B2B3).view()), journal_value(split_journal())},
      {"split", Bytes(kNodeSplit), split_value(split())},
      {"lost", lost_key(kAlice, kRowDot), Bytes(lost_value(trace_of(kAlice, kKey, key())).view())},
      {"refill", Bytes(refill_key(kSlot, 12).view()),
       Bytes(damage_value(DamageState::kRefill).view())},
  };
}

TEST(Layout, KeepsItsBytesForever) {
  for (const auto& row : rows()) {
    EXPECT_EQ(hex(row.key) + "=" + hex(row.value),
              testing::read_golden(std::string("row_") + row.family))
        << row.family;
  }
}

TEST(Layout, ReadsBackWhatItWrote) {
  EXPECT_EQ(parse_dot_key(log_key(kSlot, kRowDot).view(), 2), kRowDot);
  EXPECT_EQ(parse_dot_key(mailbox_dot_key(kAlice, kRowDot).view(), 16), kRowDot);
  EXPECT_EQ(parse_partition_key(partition_key(kSlot, kRowDot.writer).view())->writer, kRowDot.writer);
  EXPECT_EQ(parse_number(number_value(7).view()), 7u);
  EXPECT_EQ(parse_entry_row(entry_value({kRowDot, 5}).view()), (EntryRow{kRowDot, 5}));
  EXPECT_EQ(parse_mailbox_dot(mailbox_dot_value({ChangeKind::kVoid, kId, 5}).view()),
            (MailboxDotRow{ChangeKind::kVoid, kId, 5}));
  EXPECT_EQ(parse_key_row(key_value(key()).view()), key());
  EXPECT_EQ(parse_journal_row(journal_value(journal())), journal());
  EXPECT_EQ(parse_journal_row(journal_value(split_journal())), split_journal());
  EXPECT_EQ(parse_split_row(split_value(split())), split());
  const Trace trace = trace_of(kAlice, kKey, key());
  EXPECT_EQ(parse_lost(lost_key(kAlice, kRowDot), lost_value(trace).view()), trace);
  EXPECT_EQ(parse_lost(lost_key(kAlice, {kRowDot.writer, kRowDot.n + 1}), lost_value(trace).view()), std::nullopt);
  const auto lane = parse_lane_key(lane_key({kAlice, kKey.device, kKey.lane}).view());
  EXPECT_EQ(lane->device, kKey.device);
  EXPECT_EQ(lane->lane, kKey.lane);
  const auto back = parse_register_row(register_value(written()));
  EXPECT_EQ(back->dot, kRowDot);
  EXPECT_EQ(back->stamp, kId);
  EXPECT_EQ(back->value, "value");
}

TEST(Layout, RefusesValuesOfAnotherLength) {
  const auto refused = [](View value, auto parse) {
    for (std::size_t size = 0; size < value.size(); ++size) {
      EXPECT_FALSE(parse(value.substr(0, size))) << size;
    }
    EXPECT_FALSE(parse(Bytes(value) + "x"));
  };
  refused(number_value(7).view(), parse_number);
  refused(entry_value({kRowDot, 5}).view(), parse_entry_row);
  refused(mailbox_dot_value({ChangeKind::kVoid, kId, 5}).view(), parse_mailbox_dot);
  refused(key_value(key()).view(), parse_key_row);
  refused(journal_value(journal()), parse_journal_row);
  refused(lost_value(trace_of(kAlice, kKey, key())).view(), [](View value) { return parse_lost(lost_key(kAlice, kRowDot), value); });
  EXPECT_FALSE(parse_journal_row(journal_value(split_journal()) + "x"));
  EXPECT_FALSE(parse_split_row(""));
  EXPECT_FALSE(parse_split_row("\3"));
  refused(lane_key({kAlice, kKey.device, kKey.lane}).view(), parse_lane_key);
  refused(partition_key(kSlot, kRowDot.writer).view(), parse_partition_key);
  EXPECT_FALSE(parse_register_row(View(register_value(written())).substr(0, 32)));
}

// Compaction reads the expiry of every family by the same rule.
TEST(Layout, TheRowsOfAnEntryCarryOneExpiry) {
  ChangeView change = entry(kAlice, 1, 1);
  change.entry.expires_ms = 1'700'000'000'001;
  EXPECT_EQ(mailbox_dot_row(change).expiry, 1'700'000'001u);
  EXPECT_EQ(key_row(kRowDot, change).expiry, 1'700'000'001u);
}

}  // namespace
}  // namespace starling::storage
