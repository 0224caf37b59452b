#include "crypto/access/paseto.h"

#include <gtest/gtest.h>

#include "tests/crypto/support.h"

namespace starling {
namespace {

using nlohmann::json;

std::string text(const json& test, const char* field) { return test.at(field).get<std::string>(); }

void expect_content(const Result<PasetoContent>& got, const json& test) {
  ASSERT_TRUE(got.ok()) << got.error().text;
  EXPECT_EQ(got->payload, text(test, "payload"));
  EXPECT_EQ(got->footer, text(test, "footer"));
}

void run_public(const json& test) {
  PublicKey key;
  ASSERT_TRUE(PublicKey::from(from_hex(text(test, "public-key")), key));
  const std::string implicit = text(test, "implicit-assertion");
  const auto got = paseto_verify(key, text(test, "token"), implicit);
  if (test.at("expect-fail").get<bool>()) {
    EXPECT_EQ(got.code(), Errc::kUnauthenticated);
    return;
  }
  expect_content(got, test);
  const auto identity = Identity::from_seed(from_hex(text(test, "secret-key-seed")));
  ASSERT_TRUE(identity.ok());
  EXPECT_EQ(paseto_sign(*identity, text(test, "payload"), text(test, "footer"), implicit),
            text(test, "token"));
}

TEST(Paseto, MatchesThePublishedVectors) {
  const auto vectors = load_vectors("paseto_v4.json");
  if (!vectors) GTEST_SKIP() << kNoVectors;
  int signed_count = 0;
  for (const json& test : vectors->at("tests")) {
    SCOPED_TRACE(text(test, "name"));
    if (!test.contains("public-key")) continue;  // Of the sealed form.
    run_public(test);
    ++signed_count;
  }
  EXPECT_EQ(signed_count, 4);
}

struct Tokens {
  SeededRandom random{1};
  Identity identity = Identity::generate(random);
  std::string signed_token = paseto_sign(identity, "payload", "foot", "implicit");
};

TEST(Paseto, BindsKeyFooterAndImplicitAssertion) {
  Tokens t;
  EXPECT_TRUE(paseto_verify(t.identity.public_key(), t.signed_token, "implicit").ok());
  EXPECT_FALSE(paseto_verify(t.identity.public_key(), t.signed_token, "").ok());
  EXPECT_FALSE(
      paseto_verify(Identity::generate(t.random).public_key(), t.signed_token, "implicit").ok());
  const auto without = [](const std::string& token) { return token.substr(0, token.rfind('.')); };
  EXPECT_FALSE(paseto_verify(t.identity.public_key(), without(t.signed_token), "implicit").ok());
}

TEST(Paseto, RefusesEveryChangedCharacterAndEveryCut) {
  Tokens t;
  const std::string& token = t.signed_token;
  const auto opens = [&](View text) { return paseto_verify(t.identity.public_key(), text, "implicit").ok(); };
  EXPECT_TRUE(opens(token));
  for (std::size_t i = 0; i < token.size(); ++i) {
    std::string changed = token;
    changed[i] = changed[i] == 'A' ? 'B' : 'A';
    EXPECT_FALSE(opens(changed)) << i;
    EXPECT_FALSE(opens(View(token).substr(0, i))) << i;
  }
  EXPECT_FALSE(opens(token + ".x"));
  EXPECT_FALSE(opens(token + "="));
}

TEST(Paseto, RefusesAnEmptyFooterAndOversize) {
  Tokens t;
  const std::string bare = paseto_sign(t.identity, "payload", "", "");
  EXPECT_EQ(bare.find('.', 10), std::string::npos);
  EXPECT_TRUE(paseto_verify(t.identity.public_key(), bare, "").ok());
  EXPECT_FALSE(paseto_verify(t.identity.public_key(), bare + ".", "").ok());
  const std::string large = paseto_sign(t.identity, Bytes(kPasetoSizeMax, 'x'), "", "");
  EXPECT_EQ(paseto_verify(t.identity.public_key(), large, "").code(), Errc::kUnauthenticated);
}

TEST(Paseto, TellsTheClaimedFooterOfSignedTokensOnly) {
  Tokens t;
  EXPECT_EQ(paseto_claimed_footer(t.signed_token).value(), "foot");
  EXPECT_FALSE(paseto_claimed_footer("v4.local" + t.signed_token.substr(9)).ok());
}

}  // namespace
}  // namespace starling
