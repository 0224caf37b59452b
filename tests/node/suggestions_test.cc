// Where sessions go that are asked to go away.
#include "node/gateway/suggestions.h"

#include <gtest/gtest.h>

#include "tests/overlay/ring_fixture.h"

namespace starling::node {
namespace {

using overlay::test_id;

std::vector<Suggestions::Node> nodes(std::vector<std::uint32_t> sessions) {
  std::vector<Suggestions::Node> out;
  for (std::uint32_t i = 0; i < sessions.size(); ++i) {
    out.push_back({test_id(i), "10.0.0." + std::to_string(i) + ":7400", sessions[i]});
  }
  return out;
}

std::map<std::string, int> spread(Suggestions& suggestions, const std::vector<Suggestions::Node>& to, int count) {
  SeededRandom random(7);
  std::map<std::string, int> out;
  for (int i = 0; i < count; ++i) ++out[suggestions.next(to, random).front()];
  return out;
}

TEST(Suggestions, SpreadEvenlyThoughNobodyHasToldYetOfThoseSentThere) {
  Suggestions suggestions;
  for (const auto& [node, count] : spread(suggestions, nodes({100, 100, 100, 100}), 400)) EXPECT_EQ(count, 100) << node;
}

TEST(Suggestions, ANodeWithFewSessionsFillsUpFirst) {
  Suggestions suggestions;
  const auto got = spread(suggestions, nodes({300, 0, 300}), 400);
  EXPECT_NEAR(got.at("10.0.0.1:7400"), 333, 1);
}

TEST(Suggestions, WhoHasArrivedIsNotCountedTwice) {
  Suggestions suggestions;
  SeededRandom random(7);
  spread(suggestions, nodes({0, 0}), 200);  // 100 each, on their way.
  // They have arrived at the first, at the second not yet: both are as full.
  const auto got = spread(suggestions, nodes({100, 0}), 100);
  EXPECT_NEAR(got.at("10.0.0.0:7400"), 50, 1);
}

TEST(Suggestions, NameOthersForWhenTheFirstFails) {
  Suggestions suggestions;
  SeededRandom random(7);
  EXPECT_EQ(suggestions.next(nodes(std::vector<std::uint32_t>(40)), random).size(), kSuggestedMax);
  EXPECT_TRUE(suggestions.next({}, random).empty());
}

}  // namespace
}  // namespace starling::node
