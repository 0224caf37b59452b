#include "crypto/access/password.h"

#include <gtest/gtest.h>
#include <sodium.h>

#include "tests/crypto/support.h"

namespace starling {
namespace {

PasswordSalt salt_of(std::uint64_t seed) {
  SeededRandom random(seed);
  return password_salt(random);
}

std::string cheap_hash(View password) {
  return hash_password(password, salt_of(1), kCheapest).value();
}

TEST(Password, VerifiesItselfAndNothingElse) {
  const std::string hash = cheap_hash("correct horse");
  EXPECT_TRUE(verify_password("correct horse", hash).ok());
  for (View wrong : {"correct horsf", "correct hors", "correct horse ", "Correct horse", ""}) {
    EXPECT_EQ(verify_password(wrong, hash).code(), Errc::kUnauthenticated) << wrong;
  }
}

TEST(Password, HasTheStandardTextWithTheCostInIt) {
  EXPECT_TRUE(cheap_hash("x").starts_with("$argon2id$v=19$m=8,t=1,p=1$"));
  const auto usual = hash_password("x", salt_of(1), kPasswordCost);
  ASSERT_TRUE(usual.ok());
  EXPECT_TRUE(usual->starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
  EXPECT_TRUE(verify_password("x", *usual).ok());
}

TEST(Password, AcceptsHashesOfOtherPrograms) {
  // From the tests of the reference implementation (P-H-C/phc-winner-argon2, src/test.c).
  EXPECT_TRUE(verify_password("password",
                              "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$"
                              "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
                  .ok());
  char text[crypto_pwhash_STRBYTES];
  ASSERT_EQ(crypto_pwhash_str(text, "secret", 6, 1, 8192), 0);
  EXPECT_TRUE(verify_password("secret", text).ok());
}

TEST(Password, DependsOnTheSaltAlone) {
  EXPECT_EQ(hash_password("x", salt_of(1), kCheapest).value(), cheap_hash("x"));
  EXPECT_NE(hash_password("x", salt_of(2), kCheapest).value(), cheap_hash("x"));
}

TEST(Password, TakesOneTo256Bytes) {
  EXPECT_EQ(hash_password("", salt_of(1), kCheapest).code(), Errc::kInvalid);
  EXPECT_EQ(hash_password(Bytes(257, 'x'), salt_of(1), kCheapest).code(), Errc::kTooLarge);
  const Bytes longest(256, 'x');
  EXPECT_TRUE(verify_password(longest, cheap_hash(longest)).ok());
  EXPECT_FALSE(verify_password(longest.substr(1), cheap_hash(longest)).ok());
  EXPECT_EQ(verify_password(Bytes(257, 'x'), cheap_hash("x")).code(), Errc::kUnauthenticated);
  const Bytes with_zero("a\0b", 3);
  EXPECT_FALSE(verify_password("a", cheap_hash(with_zero)).ok());
}

TEST(Password, RefusesDamagedAndRuinouslyDearHashes) {
  const std::string hash = cheap_hash("x");
  for (const std::string& bad :
       {std::string(), std::string("plain"), std::string("$argon2i$v=19$m=8,t=1,p=1$c2FsdA$aGFzaA"),
        std::string("$argon2id$v=19$m=4194304,t=1,p=1$c2FsdHNhbHQ$aGFzaA"),
        std::string("$argon2id$v=19$m=8,t=1000000,p=1$c2FsdHNhbHQ$aGFzaA"),
        std::string("$argon2id$v=19$m=99999999999,t=1,p=1$c2FsdHNhbHQ$aGFzaA"),
        std::string("$argon2id$v=19$m=8,t=1,p=4$c2FsdHNhbHQ$aGFzaA"), hash + Bytes(128, 'A')}) {
    EXPECT_EQ(verify_password("x", bad).code(), Errc::kCorrupt) << bad;
  }
  for (std::size_t i = 0; i < hash.size(); ++i)
    EXPECT_FALSE(verify_password("x", hash.substr(0, i)).ok());
}

}  // namespace
}  // namespace starling
