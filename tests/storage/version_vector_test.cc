#include "storage/version_vector.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "crypto/random.h"

namespace starling::storage {
namespace {

VersionVector random_vector(SeededRandom& random) {
  VersionVector out;
  const auto size = random.below(6);
  for (std::uint64_t i = 0; i < size; ++i) out.raise(WriterId{random.below(8)}, random.below(5));
  return out;
}
VersionVector merged(VersionVector a, const VersionVector& b) {
  a.merge(b);
  return a;
}

TEST(VersionVector, MergeIsCommutativeAssociativeAndIdempotent) {
  SeededRandom random(3);
  for (int i = 0; i < 500; ++i) {
    const auto a = random_vector(random);
    const auto b = random_vector(random);
    const auto c = random_vector(random);
    EXPECT_EQ(merged(a, b), merged(b, a));
    EXPECT_EQ(merged(merged(a, b), c), merged(a, merged(b, c)));
    EXPECT_EQ(merged(a, a), a);
    EXPECT_TRUE(merged(a, b).covers(a));
    EXPECT_TRUE(merged(a, b).covers(b));
    EXPECT_EQ(a.covers(b), merged(a, b) == a);
    EXPECT_EQ(merged(a, b).digest(), merged(b, a).digest());
  }
}

TEST(VersionVector, NeverLowersAndNeverListsZero) {
  VersionVector vector;
  vector.raise(WriterId{4}, 0);
  EXPECT_TRUE(vector.empty());
  vector.raise(WriterId{4}, 7);
  vector.raise(WriterId{4}, 3);
  vector.raise(WriterId{1}, 2);
  EXPECT_EQ(vector.get(WriterId{4}), 7u);
  EXPECT_EQ(vector.get(WriterId{9}), 0u);
  EXPECT_TRUE(vector.covers(Dot{WriterId{4}, 7}));
  EXPECT_FALSE(vector.covers(Dot{WriterId{4}, 8}));
  EXPECT_TRUE(std::is_sorted(vector.dots().begin(), vector.dots().end()));
}

TEST(VersionVector, HasOneDigestAndOneEncodingPerContent) {
  VersionVector a, b;
  a.raise(WriterId{1}, 5);
  a.raise(WriterId{2}, 6);
  b.raise(WriterId{2}, 6);
  b.raise(WriterId{1}, 5);
  EXPECT_EQ(a.digest(), b.digest());
  EXPECT_EQ(pack(a), pack(b));
  b.raise(WriterId{1}, 6);
  EXPECT_NE(a.digest(), b.digest());
}

TEST(VersionVector, SortsAndMergesWhatAPeerSends) {
  const std::vector<Dot> sent = {{WriterId{9}, 1}, {WriterId{2}, 4}, {WriterId{9}, 3},
                                 {WriterId{2}, 2}, {WriterId{5}, 0}};
  const auto got = unpack<VersionVector>(pack(sent));
  ASSERT_TRUE(got.ok()) << got.error().text;
  EXPECT_EQ(got->dots(), (std::vector<Dot>{{WriterId{2}, 4}, {WriterId{9}, 3}}));
  EXPECT_EQ(*unpack<VersionVector>(pack(*got)), *got);
  EXPECT_EQ(unpack<VersionVector>(pack(std::string("no"))).code(), Errc::kCorrupt);
}

}  // namespace
}  // namespace starling::storage
