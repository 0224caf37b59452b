// How long a peer that answers nothing is waited for.
#include "node/replication/copies/silence.h"

#include <gtest/gtest.h>

namespace starling::node {
namespace {

using namespace std::chrono_literals;

constexpr Instant kSilenceStart = Instant{} + 100s;
const Error kWhy{Errc::kTimeout, "no answer in time"};

NodeId node(std::uint8_t n) {
  NodeId id;
  id.raw.fill(n);
  return id;
}

TEST(Silence, HoldsUpForAWhile) {
  Silence silence;
  EXPECT_EQ(silence.text(), "");
  EXPECT_TRUE(silence.is_silent(node(1), kSilenceStart, kWhy));
  EXPECT_TRUE(silence.is_silent(node(1), kSilenceStart + kSilencePatience, kWhy));
  EXPECT_FALSE(silence.is_silent(node(1), kSilenceStart + kSilencePatience + 1ms, kWhy));
  EXPECT_NE(silence.text().find("no answer in time"), std::string::npos);
  silence.answers(node(1));
  EXPECT_EQ(silence.text(), "");
  EXPECT_TRUE(silence.is_silent(node(1), kSilenceStart + 2 * kSilencePatience, kWhy));
}

// Who died is not said to be alive, and when it comes back it is waited for like any other.
TEST(Silence, IsForgottenOfWhoIsNotThereAnyMore) {
  Silence silence;
  EXPECT_TRUE(silence.is_silent(node(1), kSilenceStart, kWhy));
  EXPECT_TRUE(silence.is_silent(node(2), kSilenceStart, kWhy));
  silence.keep_only({node(2)});
  EXPECT_NE(silence.text().find(short_text(node(2))), std::string::npos);
  EXPECT_TRUE(silence.is_silent(node(1), kSilenceStart + 2 * kSilencePatience, kWhy));
  EXPECT_FALSE(silence.is_silent(node(2), kSilenceStart + 2 * kSilencePatience, kWhy));
  silence.keep_only({});
  EXPECT_EQ(silence.text(), "");
}

}  // namespace
}  // namespace starling::node
