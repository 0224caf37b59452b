// The checkers of names, rows and stored dots find what they are meant to find.
#include <gtest/gtest.h>

#include "tests/sim/judge/owners_equal.h"
#include "tests/sim/people/name_races.h"

namespace starling::sim {
namespace {

using Told = NameRace::Told;

std::size_t wrong_names(Told one, Told other) {
  auto race = std::make_shared<NameRace>();
  race->name = "@race";
  race->claims = {{0, "a", one}, {1, "b", other}};
  const auto found = check_names({race});
  for (const auto& violation : found) EXPECT_EQ(violation.invariant, 10);
  return found.size();
}

TEST(CheckNames, OneIsToldYes) {
  EXPECT_EQ(wrong_names(Told::kYes, Told::kTaken), 0u);
  EXPECT_EQ(wrong_names(Told::kYes, Told::kYes), 1u);
  EXPECT_EQ(wrong_names(Told::kTaken, Told::kTaken), 1u);
}

TEST(CheckNames, WithoutAnAnswerNothingIsKnown) {
  EXPECT_EQ(wrong_names(Told::kNothing, Told::kTaken), 0u);
  EXPECT_EQ(wrong_names(Told::kYes, Told::kNothing), 0u);
  EXPECT_EQ(wrong_names(Told::kNothing, Told::kNothing), 0u);
}

const MailboxId kAliceMailbox = mailbox_of("@alice");

Bytes message_row(std::uint64_t seq, std::uint64_t time, std::uint64_t content) {
  Bytes row;
  BytesWriter out(row);
  out.u8(1);
  out.raw(kAliceMailbox.view());
  out.raw(device_of(kAliceMailbox, "phone").view());
  out.u64be(7);
  out.u64be(seq);
  out.u64be(time);
  out.u64be(9);
  out.u8(0);
  out.u64be(content);
  return row;
}
Bytes register_row(View key, View value) {
  Bytes row;
  BytesWriter out(row);
  out.u8(2);
  out.raw(kAliceMailbox.view());
  out.sized(key);
  out.u8(1);
  out.u64be(50);
  out.u64be(9);
  out.sized(value);
  return row;
}

class CheckRows : public ::testing::Test {
 protected:
  CheckRows() {
    stores.partition_count = 1;
    stores.nodes = {{"n0", {}}, {"n1", {}}};
    stores.owners[PartitionId{0}] = {0, 1};
    for (std::size_t n : {0, 1}) {
      at(n).vector.raise(WriterId{9}, 3);
      add(n, message_row(1, 10, 100));
      add(n, register_row("account", "x"));
    }
  }
  PartitionExport& at(std::size_t n) { return stores.nodes[n].partitions[PartitionId{0}]; }
  void add(std::size_t n, const Bytes& row) { BytesWriter(at(n).canonical).sized(row); }
  std::string found() {
    const auto violations = check_rows(stores, mailbox_names({"@alice"}));
    return violations.empty() ? "" : violations.front().text;
  }
  ClusterExport stores;
};

TEST_F(CheckRows, EqualOwnersAreWell) { EXPECT_EQ(found(), ""); }

TEST_F(CheckRows, NamesTheRowThatOneOwnerLacks) {
  add(1, message_row(2, 20, 200));
  EXPECT_NE(found().find("#2 of @alice: a message at "), std::string::npos) << found();
  EXPECT_NE(found().find("only at n1"), std::string::npos) << found();
  EXPECT_NE(found().find("1 rows differ"), std::string::npos) << found();
}

TEST_F(CheckRows, NamesTheRegisterWithTwoValues) {
  add(0, register_row("role", Bytes(80, 'a') + "1"));
  add(1, register_row("role", Bytes(80, 'a') + "2"));
  EXPECT_NE(found().find("register 'role' of @alice"), std::string::npos) << found();
}

TEST_F(CheckRows, SaysWhichVectorsDiffer) {
  at(1).vector.raise(WriterId{9}, 4);
  EXPECT_NE(found().find("have covered 9:3 and 9:4"), std::string::npos) << found();
}

TEST_F(CheckRows, FindsADotThatIsTwoChanges) {
  const Dot dot{WriterId{9}, 3};
  const MessageKey key{device_of(kAliceMailbox, "phone"), 7, 1};
  at(0).entries = {{kAliceMailbox, key, {10, WriterId{9}}, false, 100, dot}};
  at(1).entries = at(0).entries;
  EXPECT_TRUE(check_stored_dots(stores).empty());
  at(1).entries[0].hash = 101;
  ASSERT_EQ(check_stored_dots(stores).size(), 1u);
  EXPECT_EQ(check_stored_dots(stores)[0].invariant, 8);
}

// n1 has twice the partitions: a dot above the split is one change in each of two, and of n0's one it is either.
TEST_F(CheckRows, FindsADotThatIsTwoChangesOfOneChild) {
  const Dot dot{WriterId{9}, 3};
  const auto mailbox = [](std::uint8_t first) {
    MailboxId id;
    id.raw[0] = first;
    return id;
  };
  const auto entry = [&](std::uint8_t first, std::uint64_t hash) {
    return StoredEntry{mailbox(first), {device_of(kAliceMailbox, "phone"), 7, hash}, {10, WriterId{9}}, false, hash, dot};
  };
  stores.nodes[1].partition_count = 2;
  at(1).entries = {entry(0x01, 100)};
  stores.nodes[1].partitions[PartitionId{1}].entries = {entry(0x81, 101)};
  EXPECT_TRUE(check_stored_dots(stores).empty());
  at(0).entries = {entry(0x81, 101)};
  EXPECT_TRUE(check_stored_dots(stores).empty());
  at(0).entries = {entry(0x82, 102)};
  ASSERT_EQ(check_stored_dots(stores).size(), 1u);
  EXPECT_EQ(check_stored_dots(stores)[0].invariant, 8);
}

}  // namespace
}  // namespace starling::sim
