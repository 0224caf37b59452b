// The canonical export: equal for replicas that hold the same changes, different otherwise.
#include <gtest/gtest.h>

#include "tests/sim/judge/store_export.h"
#include "tests/storage/support.h"

namespace starling::sim {
namespace {

using testing::entry;
using testing::kAlice;
using testing::kCarol;
using testing::reg;
using testing::StoreBox;

class Export : public ::testing::Test {
 protected:
  Export() {
    writer.open();
    replica.random = SeededRandom(8);  // A writer of its own.
    replica.open();
  }
  void add(storage::ChangeView change) { made.push_back(writer.store->append(std::move(change))); }
  void copy(const storage::Appended& change, StoreBox& to) {
    const auto applied = to.store->apply(change.partition, change.dot, *change.bytes);
    ASSERT_TRUE(applied) << applied.error().text;
    to.sync();
  }
  static NodeExport read(StoreBox& box) {
    box.sync();
    auto out = export_store(*box.store);
    EXPECT_TRUE(out) << out.error().text;
    return out ? std::move(*out) : NodeExport{};
  }
  // Of the partition of kAlice.
  Bytes canonical(StoreBox& box) {
    const auto partition = box.store->partition_of(kAlice);
    return read(box).partitions[partition].canonical;
  }

  StoreBox writer, replica;
  std::vector<storage::Appended> made;
};

TEST_F(Export, ListsEntriesByPartitionWithTheirVector) {
  add(entry(kAlice, 1, 100, "hello"));
  add(entry(kCarol, 1, 101, "carol"));
  const auto out = read(writer);
  ASSERT_EQ(out.partitions.size(), 2u);
  const auto& mine = out.partitions.at(writer.store->partition_of(kAlice));
  ASSERT_EQ(mine.entries.size(), 1u);
  EXPECT_EQ(mine.entries[0].hash, body_hash("hello"));
  EXPECT_EQ(mine.entries[0].mailbox, kAlice);
  EXPECT_EQ(mine.vector.get(writer.store->writer()), 1u);
}

TEST_F(Export, ReplicasWithTheSameChangesHaveEqualBytes) {
  add(entry(kAlice, 1, 100, "one"));
  add(reg(kAlice, "name", "old", 101));
  add(reg(kAlice, "name", "new", 102));
  writer.sync();
  for (const auto& change : made) copy(change, replica);
  EXPECT_EQ(canonical(writer), canonical(replica));
}

TEST_F(Export, AMissingChangeShows) {
  add(entry(kAlice, 1, 100, "one"));
  add(entry(kAlice, 2, 101, "two"));
  writer.sync();
  copy(made[0], replica);
  EXPECT_NE(canonical(writer), canonical(replica));
}

}  // namespace
}  // namespace starling::sim
