#include "storage/rocks/pending.h"

#include <string>

#include <gtest/gtest.h>

namespace starling::storage {
namespace {

TEST(Pending, FindsAValueFromItsPutUntilItIsOnDisk) {
  Pending<int, std::string> pending;  // No cache.
  pending.put(1, "a");
  pending.seal();
  ASSERT_NE(pending.find(1), nullptr);
  pending.settle();
  EXPECT_EQ(pending.find(1), nullptr);
}

TEST(Pending, KeepsTheNewerValueWhenTheOlderOneSettles) {
  Pending<int, std::string> pending;
  pending.put(1, "old");
  pending.seal();
  pending.put(1, "new");
  pending.settle();
  ASSERT_NE(pending.find(1), nullptr);
  EXPECT_EQ(*pending.find(1), "new");
  pending.seal();
  pending.settle();
  EXPECT_EQ(pending.find(1), nullptr);
}

TEST(Pending, ListsEachKeyOfABatchOnceInOrderOfFirstWrite) {
  Pending<int, int> pending;
  pending.put(3, 1);
  pending.put(1, 1);
  pending.put(3, 2);
  EXPECT_EQ(pending.gathered(), (std::vector<int>{3, 1}));
  EXPECT_EQ(*pending.find(3), 2);
}

TEST(Pending, CachesCommittedValuesButNotWithoutBound) {
  Pending<int, int> pending(8);
  for (int i = 0; i < 100; ++i) {
    pending.put(i, i);
    pending.seal();
    pending.settle();
  }
  int cached = 0;
  for (int i = 0; i < 100; ++i) cached += pending.find(i) != nullptr ? 1 : 0;
  EXPECT_GT(cached, 0);
  EXPECT_LE(cached, 8);
  EXPECT_TRUE(pending.evicted());
}

TEST(Pending, KeepsWhatIsUsed) {
  Pending<int, int> pending(8);
  pending.remember(1000, 1);
  for (int i = 0; i < 100; ++i) {
    pending.remember(i, i);
    ASSERT_NE(pending.find(1000), nullptr) << i;
  }
}

TEST(Pending, NeverShowsAnOlderCachedValue) {
  Pending<int, int> pending(4);
  pending.remember(1, 1);
  pending.remember(2, 2);
  pending.remember(3, 3);  // 1 and 2 are the old generation.
  pending.put(1, 10);
  pending.seal();
  pending.settle();
  EXPECT_EQ(*pending.find(1), 10);
  pending.remember(4, 4);
  pending.remember(5, 5);
  const int* later = pending.find(1);
  EXPECT_TRUE(later == nullptr || *later == 10);
}

// However they came: the cache is bounded in values, so a value has to be.
TEST(Pending, CachesNoLargeValueNorTheOneBeforeIt) {
  Pending<int, std::string> pending(8, [](const std::string& value) { return value.size() < 4; });
  EXPECT_EQ(pending.remember(1, "large"), nullptr);
  EXPECT_EQ(pending.find(1), nullptr);
  pending.remember(2, "abc");
  pending.put(2, "large");
  pending.seal();
  EXPECT_EQ(*pending.find(2), "large") << "until it is on disk";
  pending.settle();
  EXPECT_EQ(pending.find(2), nullptr) << "the disk decides";
}

}  // namespace
}  // namespace starling::storage
