// Erasure: of a message one copy is kept, of a recalled one no body, and of a register one value; in whatever
// order they come, once the owner of the store says that all others have what replaced them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/storage/support.h"

namespace starling::storage {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::closing;
using testing::entry;
using testing::kAlice;
using testing::kPeer;
using testing::StoreBox;

constexpr View kSecret = "the body that was recalled";

class StoreErasure : public ::testing::Test {
 protected:
  void SetUp() override { box.open(); }
  Store& store() { return *box.store; }
  PartitionId part() { return store().partition_of(kAlice); }
  void apply(std::uint64_t n, const ChangeView& change) {
    const Dot dot{kPeer, n};
    ASSERT_TRUE(store().apply(part(), dot, encode(change, dot)).ok());
  }
  std::vector<std::uint64_t> read() {
    std::vector<std::uint64_t> out;
    const auto page = store().read_mailbox(kAlice, {}, 99, 1 << 20);
    EXPECT_TRUE(page.ok()) << page.error().text;
    if (page) {
      for (const auto& change : page->changes) out.push_back(change.dot.n);
    }
    return out;
  }
  [[nodiscard]] bool on_disk(View text) {
    for (const auto& rows : box.rows({ColumnFamily::kLog, ColumnFamily::kEntries})) {
      for (const auto& [key, value] : rows) {
        if (value.find(text) != Bytes::npos) return true;
      }
    }
    return false;
  }
  // Every owner has everything.
  void erase() {
    box.sync();
    const auto gone = store().superseded(part());
    EXPECT_FALSE(gone.empty());
    ASSERT_TRUE(store().erase_superseded(part(), gone).ok());
    EXPECT_THAT(store().superseded(part()), IsEmpty());
    EXPECT_THAT(store().with_superseded(), IsEmpty());
    box.sync();
  }
  void expect_sound() {
    EXPECT_EQ(box.scrub().damaged, 0u);
    EXPECT_TRUE(store().is_whole(part()));
  }
  StoreBox box;
};

TEST_F(StoreErasure, ARecallErasesTheBodyThatIsThere) {
  apply(1, entry(kAlice, 1, 1, kSecret));
  box.sync();
  apply(2, closing(kAlice, 1, 2));
  box.sync();
  EXPECT_THAT(read(), ElementsAre(2));  // It is there, for other owners; nobody is shown it.
  EXPECT_EQ(store().read_writer(part(), kPeer, 1, 1 << 20)->live.size(), 2u);
  EXPECT_THAT(store().superseded(part()), ElementsAre(Superseded{{kPeer, 1}, {kPeer, 2}}));
  erase();
  EXPECT_THAT(read(), ElementsAre(2));
  const auto range = store().read_writer(part(), kPeer, 1, 1 << 20);
  ASSERT_TRUE(range.ok());
  EXPECT_EQ(range->to, 2u);  // The first is gone, and counts as seen.
  ASSERT_EQ(range->live.size(), 1u);
  EXPECT_EQ(range->live[0].n, 2u);
  expect_sound();
  box.close_cleanly();
  EXPECT_FALSE(on_disk(kSecret));
}

TEST_F(StoreErasure, ARecallThatCameFirstLeavesNoBodyOfWhatComesLater) {
  apply(1, closing(kAlice, 1, 2));
  apply(2, entry(kAlice, 1, 1, kSecret));
  apply(3, entry(kAlice, 2, 3, "stays"));
  erase();
  EXPECT_THAT(read(), ElementsAre(1, 3));
  expect_sound();
  box.close_cleanly();
  EXPECT_FALSE(on_disk(kSecret));
  EXPECT_TRUE(on_disk("stays"));
}

// As of a recall: the void stands at the position of what it took back, and so does another recall of it.
TEST_F(StoreErasure, AVoidAtThePositionOfItsMessageTakesItsPlace) {
  apply(1, entry(kAlice, 1, 1, kSecret));
  apply(2, closing(kAlice, 1, 1));
  apply(3, closing(kAlice, 1, 1));
  box.sync();
  const auto state = store().find_key(kAlice, {testing::device(1), 5, 1});
  ASSERT_TRUE(state && state->is_void);
  EXPECT_EQ(state->dot.n, 2u);
  EXPECT_THAT(read(), ElementsAre(2, 3));
  erase();
  EXPECT_THAT(read(), ElementsAre(2));
  expect_sound();
  box.close_cleanly();
  EXPECT_FALSE(on_disk(kSecret));
}

TEST_F(StoreErasure, TheBodyIsInNoFileOnceTheyAreCompacted) {
  apply(1, entry(kAlice, 1, 1, kSecret));
  box.close_cleanly();
  box.compact();  // It is in a file of its own.
  box.open();
  apply(2, closing(kAlice, 1, 2));
  erase();
  box.close_cleanly();
  box.compact();
  std::vector<std::string> names;
  ASSERT_TRUE(box.disk.env()->GetChildren("/store", &names).ok());
  for (const auto& name : names) {
    std::string bytes;
    if (!name.ends_with(".sst") ||
        !rocksdb::ReadFileToString(box.disk.env(), "/store/" + name, &bytes).ok()) {
      continue;
    }
    EXPECT_EQ(bytes.find(kSecret), std::string::npos) << name;
  }
}

TEST_F(StoreErasure, OfTwoCopiesTheOneAtThePositionIsKept) {
  apply(1, entry(kAlice, 1, 20, "same"));
  apply(2, entry(kAlice, 1, 10, "same"));
  apply(3, entry(kAlice, 1, 30, "same"));
  erase();
  EXPECT_THAT(read(), ElementsAre(2));
  EXPECT_EQ(store().find_key(kAlice, {testing::device(1), 5, 1})->dot.n, 2u);
  expect_sound();
  // A recall finds the one that is left.
  apply(4, closing(kAlice, 1, 40));
  erase();
  EXPECT_THAT(read(), ElementsAre(4));
  expect_sound();
}

TEST_F(StoreErasure, AnOldValueOfARegisterGoesAndTheNewOneStays) {
  apply(1, testing::reg(kAlice, "mark", "old", 1));
  apply(2, testing::reg(kAlice, "mark", "new", 2));
  apply(3, testing::reg(kAlice, "mark", "late", 1));
  erase();
  EXPECT_THAT(read(), ElementsAre(2));
  EXPECT_EQ(store().find_register(kAlice, "mark")->value, "new");
  expect_sound();
}

// The list is memory: the scrub finds what a restart forgot.
TEST_F(StoreErasure, WhatARestartForgotTheScrubFindsAgain) {
  apply(1, entry(kAlice, 1, 1, kSecret));
  apply(2, closing(kAlice, 1, 2));
  apply(3, testing::reg(kAlice, "mark", "old", 1));
  apply(4, testing::reg(kAlice, "mark", "new", 2));
  box.close_cleanly();
  box.open();
  EXPECT_THAT(store().with_superseded(), IsEmpty());
  expect_sound();
  erase();
  EXPECT_THAT(read(), ElementsAre(2, 4));
  expect_sound();
}

TEST_F(StoreErasure, NothingThatStandsIsErasedWhateverIsAsked) {
  apply(1, entry(kAlice, 1, 1, "stays"));
  apply(2, entry(kAlice, 2, 2, kSecret));
  apply(3, closing(kAlice, 2, 3));
  box.sync();
  const Superseded wrong[] = {{{kPeer, 1}, {kPeer, 3}}, {{kPeer, 3}, {kPeer, 2}}, {{kPeer, 9}, {kPeer, 1}}};
  ASSERT_TRUE(store().erase_superseded(part(), wrong).ok());
  box.sync();
  EXPECT_THAT(read(), ElementsAre(1, 3));
  EXPECT_EQ(store().read_writer(part(), kPeer, 1, 1 << 20)->live.size(), 3u);
}

}  // namespace
}  // namespace starling::storage
