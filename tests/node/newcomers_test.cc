// Who gives way when the places for connections that have proven nothing run out.
#include "node/gateway/newcomers.h"

#include <gtest/gtest.h>

namespace starling::node {
namespace {

TEST(Newcomers, TheOldestOfTheAddressThatHoldsMostGivesWay) {
  Newcomers all;
  EXPECT_FALSE(all.to_give_way());
  all.add(1, "honest");
  for (std::uint64_t id = 2; id < 6; ++id) all.add(id, "crowd");
  EXPECT_EQ(all.to_give_way(), 2u);
  all.remove(2);
  EXPECT_EQ(all.to_give_way(), 3u);
  all.remove(3);
  all.remove(3);
  all.remove(4);
  all.remove(99);
  EXPECT_EQ(all.size(), 2u);
  all.remove(5);
  EXPECT_EQ(all.to_give_way(), 1u);
  all.remove(1);
  EXPECT_FALSE(all.to_give_way());
}

TEST(Newcomers, OfAddressesThatHoldAsManyTheOldestGivesWay) {
  Newcomers all;
  all.add(1, "m");
  all.add(2, "a");
  all.add(3, "z");
  EXPECT_EQ(all.to_give_way(), 1u);
  all.add(4, "m");
  all.add(5, "z");
  EXPECT_EQ(all.to_give_way(), 1u);
  all.remove(1);
  all.add(6, "m");
  EXPECT_EQ(all.to_give_way(), 3u);
}

TEST(Newcomers, BehindOneAddressTheOldestOfAllGivesWay) {
  Newcomers all;
  for (std::uint64_t id = 1; id <= 3; ++id) all.add(id, "balancer");
  all.remove(1);
  all.add(4, "balancer");
  EXPECT_EQ(all.to_give_way(), 2u);
}

}  // namespace
}  // namespace starling::node
