#include "crypto/init.h"

#include <gtest/gtest.h>

namespace starling {
namespace {

class CryptoEnvironment final : public ::testing::Environment {
 public:
  void SetUp() override { ASSERT_TRUE(crypto_init().ok()); }
};
[[maybe_unused]] auto* const environment =
    ::testing::AddGlobalTestEnvironment(new CryptoEnvironment);

TEST(CryptoInit, MayBeCalledAgain) { EXPECT_TRUE(crypto_init().ok()); }

}  // namespace
}  // namespace starling
