// Registers read from several owners: merged by kind, found where one owner lacks them, cut like one page.
#include <gtest/gtest.h>

#include "node/mailbox/read_registers.h"
#include "storage/change.h"

namespace starling::node {
namespace {

using storage::MemberValue;
using storage::MergeKind;

RegisterItem item(std::string key, std::string value, Hlc time, MergeKind merge = MergeKind::kLww) {
  return {std::move(key), {std::move(value)}, {time, WriterId{7}}, static_cast<std::uint8_t>(merge)};
}
std::vector<std::string> keys(const ReadRegistersReply& reply) {
  std::vector<std::string> out;
  for (const auto& one : reply.items) out.push_back(one.key);
  return out;
}

TEST(MergedRegisters, WhatOneOwnerLacksIsFoundAtTheOther) {
  const auto merged = merge_registers({{{item("a", "1", 5)}}, {{item("b", "2", 5)}}, {}}, 10);
  EXPECT_EQ(keys(merged), (std::vector<std::string>{"a", "b"}));
}

TEST(MergedRegisters, EachKindHasItsOwnWinner) {
  const ReadRegistersReply old{{item("account", "old", 5)}};
  const ReadRegistersReply fresh{{item("account", "new", 6)}};
  for (const auto& order : {std::vector{old, fresh}, std::vector{fresh, old}}) {
    EXPECT_EQ(merge_registers(order, 10).items.at(0).value.data, "new");
  }
  // Removed beats a role of the same generation, whatever the clocks say (hazards F18).
  const auto member = [](bool removed, std::uint8_t role, Hlc time) {
    return ReadRegistersReply{{item("member/@bob", pack(MemberValue{1, removed, role, "#g"}), time,
                                    MergeKind::kMember)}};
  };
  const auto kicked = member(true, 0, 5);
  const auto promoted = member(false, 1, 6);
  for (const auto& order : {std::vector{kicked, promoted}, std::vector{promoted, kicked}}) {
    const auto merged = merge_registers(order, 10);
    EXPECT_TRUE(unpack<MemberValue>(merged.items.at(0).value.data)->removed);
  }
}

// Behind the end of a full page its owner may have more than the other shows.
TEST(MergedRegisters, APageEndsWhereTheFirstFullOneEnds) {
  const ReadRegistersReply full{{item("a", "1", 5), item("c", "1", 5)}};
  const ReadRegistersReply other{{item("b", "1", 5), item("z", "1", 5)}};
  EXPECT_EQ(keys(merge_registers({full, other}, 2)), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(keys(merge_registers({full, {{item("z", "1", 5)}}}, 2)), (std::vector<std::string>{"a", "c"}));
  EXPECT_TRUE(merge_registers({}, 2).items.empty());
}

// Together they are of a version only when each is of it.
TEST(MergedRegisters, AreOfAVersionOnlyWhenAllOwnersAgreeOnIt) {
  const auto of = [](std::uint64_t version) { return ReadRegistersReply{{}, version}; };
  EXPECT_EQ(merge_registers({of(5), of(5)}, 10).version, 5u);
  EXPECT_EQ(merge_registers({of(5)}, 10).version, 5u);
  EXPECT_EQ(merge_registers({of(5), of(6)}, 10).version, 0u);
  EXPECT_EQ(merge_registers({of(5), of(0)}, 10).version, 0u);
  EXPECT_EQ(merge_registers({}, 10).version, 0u);
}

}  // namespace
}  // namespace starling::node
