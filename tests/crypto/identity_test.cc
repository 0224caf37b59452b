#include "crypto/access/identity.h"

#include <gtest/gtest.h>

#include "tests/crypto/support.h"

namespace starling {
namespace {

// RFC 8032, section 7.1, test 1.
constexpr View kSeed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
constexpr View kPublic = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
constexpr View kSignature =
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b4"
    "6b"
    "d25bf5f0595bbe24655141438e7a100b";

TEST(Identity, SignsAsRfc8032Says) {
  const auto identity = Identity::from_seed(from_hex(kSeed));
  ASSERT_TRUE(identity.ok());
  EXPECT_EQ(hex(identity->public_key().view()), kPublic);
  EXPECT_EQ(hex(identity->sign("").view()), kSignature);
}

TEST(Identity, IsRebuiltFromItsSeed) {
  SeededRandom random(1);
  const Identity first = Identity::generate(random);
  const auto again = Identity::from_seed(first.seed().view());
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->public_key(), first.public_key());
  EXPECT_EQ(again->sign("x"), first.sign("x"));
  EXPECT_EQ(again->dh_keys().secret, first.dh_keys().secret);
  EXPECT_EQ(Identity::from_seed(Bytes(31, 'x')).code(), Errc::kInvalid);
  EXPECT_NE(Identity::generate(random).public_key(), first.public_key());
}

TEST(Identity, VerifiesOnlyItsMessageItsKeyAndItsSignature) {
  SeededRandom random(2);
  const Identity mine = Identity::generate(random);
  const Identity other = Identity::generate(random);
  const Signature signature = mine.sign("hello");
  EXPECT_TRUE(verify(mine.public_key(), "hello", signature));
  EXPECT_FALSE(verify(mine.public_key(), "hellO", signature));
  EXPECT_FALSE(verify(other.public_key(), "hello", signature));
  for (std::size_t i = 0; i < Signature::kSize; ++i) {
    Signature changed = signature;
    changed.raw[i] ^= 1;
    EXPECT_FALSE(verify(mine.public_key(), "hello", changed)) << i;
  }
}

TEST(Identity, HasTheFingerprintOfItsKeyAsNodeId) {
  SeededRandom random(3);
  const Identity mine = Identity::generate(random);
  EXPECT_EQ(mine.node_id(), fingerprint(mine.public_key()));
  PublicKey changed = mine.public_key();
  changed.raw[0] ^= 1;
  EXPECT_NE(fingerprint(changed), mine.node_id());
}

TEST(Identity, ShowsOnItsLinksTheKeyThatFollowsFromItsPublicKey) {
  SeededRandom random(4);
  for (int i = 0; i < 20; ++i) {
    const Identity mine = Identity::generate(random);
    EXPECT_EQ(dh_public(mine.public_key()).value(), mine.dh_keys().public_key);
  }
  EXPECT_EQ(dh_public(PublicKey{}).code(), Errc::kInvalid);
}

}  // namespace
}  // namespace starling
