// Files that cannot be read: their partitions are emptied by the next open and filled from others.
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rocksdb/file_system.h>

#include "tests/storage/support.h"

namespace starling::storage {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::entry;
using testing::kAlice;
using testing::kCarol;
using testing::kPeer;
using testing::reg;
using testing::StoreBox;

class StoreRefill : public ::testing::Test {
 protected:
  void fill(StoreBox& to) {
    for (std::uint64_t n = 1; n <= 30; ++n) {
      for (const MailboxId& mailbox : {kAlice, kCarol}) {
        const Dot dot{kPeer, n};
        const auto change = n % 5 == 0 ? reg(mailbox, "k", "v", n) : entry(mailbox, n, n);
        const auto partition = to.store->partition_of(mailbox);
        ASSERT_TRUE(to.store->apply(partition, dot, encode(change, dot)).ok());
      }
    }
    to.store->put(Store::Family::kNode, "identity", "me");
    to.store->put(Store::Family::kPaxos, "name/bob", "promised");
    to.sync();
  }
  // A store whose file of `family` cannot be read; `old`: in its last level, else young.
  void rot(ColumnFamily family, bool old) {
    box.open();
    fill(box);
    box.close_cleanly();
    if (old) {
      box.compact();
    } else {
      auto engine = Engine::open({"/store", box.disk.env(), false});
      ASSERT_TRUE((*engine)->db().Flush(rocksdb::FlushOptions(), (*engine)->handle(family)).ok());
    }
    box.rot(family);
    box.open();
  }
  PartitionId alice() { return box.store->partition_of(kAlice); }
  PartitionId carol() { return box.store->partition_of(kCarol); }
  // Catches up from a store that has everything.
  void catch_up(StoreBox& from) {
    for (const auto partition : {alice(), carol()}) {
      for (std::uint64_t at = box.store->held(partition, kPeer) + 1; at <= 30;) {
        const auto range = from.store->read_writer(partition, kPeer, at, 1000);
        ASSERT_TRUE(range.ok());
        ASSERT_TRUE(box.store->apply(partition, *range).ok());
        at = range->to + 1;
      }
    }
    box.sync();
  }
  StoreBox box;
};

TEST_F(StoreRefill, AnUnreadableFileOfAnyFamilyEmptiesItsPartitionsAndNoIdentity) {
  for (const bool old : {true, false}) {
    for (const auto family : kReplicatedFamilies) {
      SCOPED_TRACE(kColumnFamilyNames[static_cast<std::size_t>(family)]);
      box.store.reset();
      box.~StoreBox();
      new (&box) StoreBox();
      if (family == ColumnFamily::kPartitions) continue;  // Read at the open: see below.
      rot(family, old);
      const auto writer = box.store->writer();
      std::vector<PartitionId> heard;
      box.store->on_damage([&](const Damage& damage) {
        if (damage.dot) return;  // A row of the log that is looked up.
        EXPECT_THAT(damage.text, HasSubstr("once the other owners have all of it"));
        heard.push_back(damage.partition);
      });
      box.scrub();
      EXPECT_THAT(heard, Contains(alice()));
      EXPECT_THAT(box.store->to_refill(), Contains(carol()));
      EXPECT_FALSE(box.store->is_whole(alice()));
      EXPECT_EQ(box.store->read_mailbox(kAlice, {}, 9, 1 << 20).code(), Errc::kCorrupt);
      const auto run = box.store->read_writer(alice(), kPeer, 1, 1 << 20);
      EXPECT_EQ(run.ok(), family != ColumnFamily::kLog);  // Others may have what can be read.
      EXPECT_EQ(run.ok() ? run->to : 30, 30u);
      EXPECT_EQ(box.store->close_cleanly().code(), Errc::kCorrupt);
      box.lose_power();
      box.open();
      EXPECT_THAT(box.store->refilled(), IsEmpty());  // It may be the only copy.
      EXPECT_THAT(box.store->to_refill(), Contains(alice()));
      EXPECT_FALSE(box.store->is_whole(alice()));
      ASSERT_TRUE(box.store->permit_refill().ok());
      box.lose_power();
      box.open();
      EXPECT_NE(box.store->writer(), writer);
      EXPECT_FALSE(box.store->kept_writer());
      EXPECT_THAT(box.store->refilled(), Contains(alice()));
      EXPECT_THAT(box.store->to_refill(), IsEmpty());
      EXPECT_TRUE(box.store->vector(alice()).empty());
      EXPECT_EQ(box.store->get(Store::Family::kNode, "identity"), "me");
      EXPECT_EQ(box.store->get(Store::Family::kPaxos, "name/bob"), "promised");
      StoreBox other;
      other.open();
      fill(other);
      catch_up(other);
      EXPECT_EQ(box.scrub().damaged, 0u);
      box.close_cleanly();
      other.close_cleanly();
      const auto families = {ColumnFamily::kLog,       ColumnFamily::kEntries,
                             ColumnFamily::kMailboxDots, ColumnFamily::kRegisters,
                             ColumnFamily::kKeys,      ColumnFamily::kLanes,
                             ColumnFamily::kPartitions, ColumnFamily::kDamage};
      EXPECT_EQ(box.rows(families), other.rows(families));
      box.compact();  // Nothing unreadable is left behind.
      box.open();
      EXPECT_THAT(box.store->refilled(), IsEmpty());  // Once.
    }
  }
}

// Of a log with one damaged block other owners get what lies before and behind it, the first time they ask anew.
TEST_F(StoreRefill, WhatCanBeReadOfAFileThatCannotIsHandedOn) {
  constexpr std::uint64_t kMany = 400;
  box.open();
  std::mt19937 random(1);
  for (std::uint64_t n = 1; n <= kMany; ++n) {
    Bytes body(400, '\0');
    for (char& byte : body) byte = static_cast<char>(random());  // Nothing to compress.
    const auto change = entry(kAlice, n, n, body);
    const Dot dot{kPeer, n};
    ASSERT_TRUE(box.store->apply(alice(), dot, encode(change, dot)).ok());
  }
  box.sync();
  box.close_cleanly();
  box.compact();
  box.rot(ColumnFamily::kLog, 40'000);
  box.open();
  std::uint64_t from = 1, read = 0, damaged = 0;
  const auto is_damaged = [&](std::uint64_t n) {
    const auto dots = box.store->damaged(alice());
    return std::find(dots.begin(), dots.end(), Dot{kPeer, n}) != dots.end();
  };
  for (int tries = 0; from <= kMany && tries < 12; ++tries) {
    const auto range = box.store->read_writer(alice(), kPeer, from, 1 << 20);
    if (!range) {  // The first time it was a scan that failed.
      ASSERT_EQ(range.code(), Errc::kCorrupt);
      for (; is_damaged(from); ++from) ++damaged;
      continue;
    }
    ASSERT_GE(range->to, from);
    EXPECT_EQ(range->live.size(), range->to - from + 1);
    read += range->live.size();
    from = range->to + 1;
  }
  EXPECT_GT(from, kMany);
  EXPECT_EQ(read + damaged, kMany);
  EXPECT_EQ(box.store->damaged(alice()).size(), damaged);
  EXPECT_GT(damaged, 1u);
  EXPECT_GT(read, kMany / 2);
  EXPECT_THAT(box.store->to_refill(), Contains(alice()));
}

TEST_F(StoreRefill, VectorsThatCannotBeReadAreRefilledByTheOpenAfterTheNext) {
  box.open();
  fill(box);
  box.close_cleanly();
  box.compact();
  box.rot(ColumnFamily::kPartitions);
  const auto opened = Store::open(box.options());
  ASSERT_EQ(opened.code(), Errc::kCorrupt);
  box.open();
  EXPECT_THAT(box.store->refilled(), Contains(alice()));
  EXPECT_FALSE(box.store->kept_writer());
}

// A look-up cannot say "absent" of what it could not read: the run ends, the next one refills.
TEST_F(StoreRefill, ALookUpThatCannotReadIsFatalAndTheNextOpenRefills) {
  rot(ColumnFamily::kKeys, true);
  bool fatal = false;
  box.store->on_fatal([&](const Error& error) {
    EXPECT_EQ(error.code, Errc::kCorrupt);
    fatal = true;
  });
  EXPECT_FALSE(box.store->find_key(kAlice, {testing::device(1), 5, 7}));
  EXPECT_TRUE(fatal);
  ASSERT_TRUE(box.store->permit_refill().ok());
  box.store.reset();
  box.open();
  EXPECT_THAT(box.store->refilled(), Contains(alice()));
}

TEST_F(StoreRefill, TheFileOfIdentityAndPromisesEndsTheStore) {
  box.open();
  fill(box);
  box.close_cleanly();
  box.compact();
  box.rot(ColumnFamily::kPaxos);
  box.open();
  std::string said;
  box.store->on_fatal([&](const Error& error) { said = error.text; });
  EXPECT_FALSE(box.store->get(Store::Family::kPaxos, "name/bob"));
  EXPECT_THAT(said, HasSubstr("set the store aside"));
  EXPECT_THAT(box.store->to_refill(), IsEmpty());
}

// Nothing of ours lies in it: nothing is emptied, nobody stops, and what can be read of it goes home.
TEST_F(StoreRefill, AFileOfHintsThatCannotBeReadHidesOnlyWhatLiesInIt) {
  constexpr std::uint64_t kMany = 400;
  box.open();
  std::mt19937 random(1);
  for (std::uint64_t n = 1; n <= kMany; ++n) {
    for (const MailboxId& mailbox : {kAlice, kCarol}) {
      Bytes body(400, '\0');
      for (char& byte : body) byte = static_cast<char>(random());
      const Dot dot{kPeer, n};
      ASSERT_TRUE(box.store->hold(box.store->partition_of(mailbox), dot, encode(entry(mailbox, n, n, body), dot)));
    }
  }
  box.sync();
  ASSERT_EQ(box.store->hints().size(), 2 * kMany);
  box.close_cleanly();
  box.compact();
  box.rot(ColumnFamily::kHints);  // Its first block.
  box.open();
  const auto left = box.store->hints().size();
  EXPECT_GE(left, kMany);
  EXPECT_LT(left, 2 * kMany);
  EXPECT_FALSE(box.store->hints_readable());
  EXPECT_THAT(box.store->to_refill(), IsEmpty());
  std::string told;
  box.store->on_damage([&](const Damage& damage) { told = damage.text; });
  EXPECT_THAT(told, HasSubstr("what this node holds for others cannot be read"));
  const auto first = std::min(alice(), carol()), second = std::max(alice(), carol());
  EXPECT_THAT(box.store->read_held(first, {kPeer, 1}, 1 << 20), IsEmpty());
  EXPECT_EQ(box.store->read_held(second, {kPeer, 1}, 1 << 30).size(), kMany);
  box.sync();
  EXPECT_TRUE(box.store->apply(alice(), {kPeer, 1}, encode(entry(kAlice, 1, 1), {kPeer, 1})).ok());
  box.sync();  // It goes on.
}

// --- A disk that cannot read. ---

// Reads of table files fail with `text` while it is not empty.
class BadSectors final : public rocksdb::FileSystemWrapper {
 public:
  explicit BadSectors(const std::shared_ptr<rocksdb::FileSystem>& base) : FileSystemWrapper(base) {}
  static const char* kClassName() { return "BadSectors"; }
  const char* Name() const override { return kClassName(); }
  rocksdb::IOStatus NewRandomAccessFile(const std::string& name,
                                        const rocksdb::FileOptions& options,
                                        std::unique_ptr<rocksdb::FSRandomAccessFile>* out,
                                        rocksdb::IODebugContext* debug) override {
    auto status = target()->NewRandomAccessFile(name, options, out, debug);
    if (status.ok()) *out = std::make_unique<File>(std::move(*out), name, *this);
    return status;
  }
  std::string text;

 private:
  class File final : public rocksdb::FSRandomAccessFileOwnerWrapper {
   public:
    File(std::unique_ptr<rocksdb::FSRandomAccessFile> file, std::string name, BadSectors& disk)
        : FSRandomAccessFileOwnerWrapper(std::move(file)), name_(std::move(name)), disk_(disk) {}
    rocksdb::IOStatus Read(std::uint64_t at, std::size_t size, const rocksdb::IOOptions& options,
                           rocksdb::Slice* out, char* scratch,
                           rocksdb::IODebugContext* debug) const override {
      if (disk_.text.empty()) return target()->Read(at, size, options, out, scratch, debug);
      return rocksdb::IOStatus::IOError("While pread: " + name_, disk_.text);
    }

   private:
    const std::string name_;
    BadSectors& disk_;
  };
};

TEST_F(StoreRefill, AnIoErrorIsDamageButRunningOutOfFilesIsNot) {
  box.open();
  fill(box);
  box.close_cleanly();
  box.compact();
  const auto disk = std::make_shared<BadSectors>(box.disk.env()->GetFileSystem());
  const auto env = rocksdb::NewCompositeEnv(disk);
  auto options = box.options();
  options.env = env.get();
  box.store = *Store::open(options);
  disk->text = "Too many open files";
  EXPECT_EQ(box.store->read_mailbox(kAlice, {}, 9, 1 << 20).code(), Errc::kIo);
  EXPECT_THAT(box.store->to_refill(), IsEmpty());
  disk->text = "Input/output error";
  EXPECT_EQ(box.store->read_mailbox(kAlice, {}, 9, 1 << 20).code(), Errc::kCorrupt);
  EXPECT_THAT(box.store->to_refill(), Contains(alice()));
  box.store.reset();
}

}  // namespace
}  // namespace starling::storage
