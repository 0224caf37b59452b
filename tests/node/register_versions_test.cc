// One number for many registers: the same for the same registers, another one for others (parts.h).
#include "node/replication/append/register_versions.h"

#include "tests/node/parts.h"

namespace starling::node {
namespace {

using testing::kAlice;
using testing::kBob;

constexpr View kPrefix = "member/";

class Versions : public Parts {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Parts::SetUp());
    in_turn([&] { versions = std::make_unique<RegisterVersions>(*view); });
    box.store->on_synced([this](std::span<const storage::SyncedChange> changes) { versions->on_synced(changes); });
  }
  void write(const MailboxId& mailbox, const std::string& key, const std::string& value) {
    box.store->append(testing::reg(mailbox, key, value, hlc_at(++time_ms)));
    box.sync();
  }
  void write_many(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      box.store->append(testing::reg(kAlice, "member/" + std::to_string(10'000 + i), "value", hlc_at(++time_ms)));
    }
    box.sync();
  }
  void ask(const MailboxId& mailbox = kAlice) {
    in_turn([&] { versions->ask(mailbox, Bytes(kPrefix), [this](std::uint64_t version) { told.push_back(version); }); });
  }
  // Of few registers: told at once.
  std::uint64_t version(const MailboxId& mailbox = kAlice) {
    told.clear();
    ask(mailbox);
    EXPECT_EQ(told.size(), 1u);
    return told.empty() ? 0 : told.front();
  }

  std::unique_ptr<RegisterVersions> versions;
  std::vector<std::uint64_t> told;
  std::uint64_t time_ms = 1000;
};

TEST_F(Versions, OfTheSameRegistersIsTheSameNumberInWhateverOrderTheyCame) {
  const auto none = version();
  EXPECT_NE(none, 0u);
  write(kAlice, "member/@a", "1");
  write(kAlice, "member/@b", "2");
  write(kBob, "member/@b", "2");
  write(kBob, "member/@a", "old");
  EXPECT_NE(version(kAlice), none);
  EXPECT_NE(version(kAlice), version(kBob));
  write(kBob, "member/@a", "1");
  EXPECT_EQ(version(kAlice), version(kBob));
}

TEST_F(Versions, ChangeWithARegisterThatTheyAreOfAndWithNothingElse) {
  write(kAlice, "member/@a", "1");
  const auto before = version();
  write(kAlice, "account", "other");
  write(kBob, "member/@z", "1");
  box.store->append(testing::entry(kAlice, 1, hlc_at(++time_ms)));
  box.sync();
  EXPECT_EQ(version(), before);
  write(kAlice, "member/@a", "2");
  const auto after = version();
  EXPECT_NE(after, before);
  // What only moves the border between key and value is another roster, too.
  write(kAlice, "member/@", "a1");
  EXPECT_NE(version(), after);
}

// A register that got back without being synced anew, and a partition that was given up.
TEST_F(Versions, WhatChangesBehindTheBackOfTheStoreIsHeard) {
  write(kAlice, "member/@a", "1");
  const auto before = version();
  ASSERT_TRUE(box.store->drop(kPartition).ok());
  box.sync();
  EXPECT_EQ(version(), before) << "nobody said so";
  in_turn([&] { view->set_ring(view->ring_ptr()); });
  EXPECT_NE(version(), before);
  const auto none = version();
  EXPECT_EQ(version(), none);
}

TEST_F(Versions, ManyAreReckonedInPiecesOnceForAllWhoAsk) {
  write_many(3 * kRegisterPieceMax + 10);
  for (int i = 0; i < 5; ++i) ask();
  EXPECT_TRUE(told.empty());
  run_for(50ms);
  ASSERT_EQ(told.size(), 5u);
  EXPECT_EQ(std::set<std::uint64_t>(told.begin(), told.end()).size(), 1u);
  const auto known = told.front();
  EXPECT_EQ(version(), known);
}

// One that changes while they are read is not told of.
TEST_F(Versions, WhatChangesMeanwhileIsReckonedAnewAndGivenUpWhenThatDoesNotEnd) {
  write_many(3 * kRegisterPieceMax);
  ask();
  world.run_for(1ms);
  write(kAlice, "member/10000", "another");
  run_for(50ms);
  ASSERT_EQ(told.size(), 1u);
  const auto known = told.front();
  EXPECT_NE(known, 0u);
  EXPECT_EQ(version(), known);

  write(kAlice, "member/10001", "another");
  told.clear();
  ask();
  for (int i = 0; i < 20 && told.empty(); ++i) {
    world.run_for(1ms);
    write(kAlice, "member/10001", std::to_string(i));
  }
  EXPECT_EQ(told, std::vector<std::uint64_t>{0});
  told.clear();
  ask();
  EXPECT_EQ(told, std::vector<std::uint64_t>{0}) << "not begun anew at once, for every page";
  run_for(kReckonRest);
  told.clear();
  ask();
  run_for(50ms);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_NE(told.front(), 0u) << "it is quiet again";
}

TEST_F(Versions, AreKeptOfABoundedNumberOfMailboxes) {
  MailboxId mailbox = kAlice;
  for (std::size_t i = 0; i < 3 * kRegisterVersionsMax; ++i) {
    mailbox.raw[8] = static_cast<std::uint8_t>(i);
    mailbox.raw[9] = static_cast<std::uint8_t>(i >> 8);
    EXPECT_NE(version(mailbox), 0u);
    EXPECT_LE(versions->kept(), kRegisterVersionsMax);
  }
}

}  // namespace
}  // namespace starling::node
