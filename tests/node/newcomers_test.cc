// Who gives way when the places for connections that have proven nothing run out.
#include "node/gateway/newcomers.h"

#include <gtest/gtest.h>

namespace starling::node {
namespace {

TEST(Newcomers, TheOldestOfTheAddressThatHoldsMostGivesWay) {
  Newcomers all(32);
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
  Newcomers all(16);
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
  Newcomers all(32);
  for (std::uint64_t id = 1; id <= 3; ++id) all.add(id, "balancer");
  all.remove(1);
  all.add(4, "balancer");
  EXPECT_EQ(all.to_give_way(), 2u);
}

// A crowd of many addresses, and an address that honest users share.
TEST(Newcomers, WhoSharesAnAddressIsNotPushedOutByManyAddresses) {
  Newcomers all(64);
  all.add(1, "crowd1");
  all.add(2, "shared");
  for (std::uint64_t id = 3; id <= 5; ++id) all.add(id, "shared");
  for (std::uint64_t id = 6; id <= 64; ++id) all.add(id, "crowd" + std::to_string(id));
  EXPECT_EQ(all.to_give_way(), 1u) << "the oldest of all";
  all.add(65, "shared");
  EXPECT_EQ(all.to_give_way(), 2u) << "more than its share";
}

TEST(Newcomers, AreCountedByTheNetworkOfAnIpv6Address) {
  EXPECT_EQ(network_of("2001:db8:1:2:3:4:5:6"), network_of("2001:db8:1:2::9"));
  EXPECT_NE(network_of("2001:db8:1:2::9"), network_of("2001:db8:1:3::9"));
  EXPECT_EQ(network_of("fe80::1%eth0"), "fe80::/64");
  EXPECT_NE(network_of("::ffff:10.0.0.1"), network_of("::ffff:10.0.0.2"));
  EXPECT_EQ(network_of("10.0.0.1"), "10.0.0.1");
  EXPECT_EQ(network_of(""), "");
}

}  // namespace
}  // namespace starling::node
