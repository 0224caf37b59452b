#include "crypto/access/token.h"

#include <gtest/gtest.h>

#include "crypto/access/paseto.h"
#include "tests/crypto/support.h"

namespace starling {
namespace {

constexpr std::int64_t kNow = 1'700'000'000'000;

struct Cluster {
  SeededRandom random{1};
  Identity node = Identity::generate(random);
  Identity stranger = Identity::generate(random);
  TokenClaims claims{"@alice", "phone", 3, kNow, kNow + 1000};
  KeyLookup lookup = [this](const NodeId& id) -> std::optional<PublicKey> {
    if (id == node.node_id()) return node.public_key();
    return std::nullopt;
  };
  Errc refusal(View token, std::int64_t now = kNow) {
    return verify_token(token, lookup, now).code();
  }
};

TEST(Token, IsCheckedByTheKeyOfItsIssuerAlone) {
  Cluster c;
  const auto token = issue_token(c.node, c.claims);
  ASSERT_TRUE(token.ok());
  EXPECT_TRUE(token->starts_with("v4.public."));
  EXPECT_EQ(verify_token(*token, c.lookup, kNow).value(), c.claims);
}

TEST(Token, EndsAtItsTime) {
  Cluster c;
  const std::string token = issue_token(c.node, c.claims).value();
  EXPECT_TRUE(verify_token(token, c.lookup, c.claims.expires_ms - 1).ok());
  EXPECT_EQ(c.refusal(token, c.claims.expires_ms), Errc::kUnauthenticated);
}

// By whoever has the key of a node that is trusted no more: nothing is stored up for later.
TEST(Token, IsRefusedOverTheLongestLifeAndFromTheFuture) {
  Cluster c;
  const auto signed_by_hand = [&](std::int64_t issued, std::int64_t expires) {
    c.claims.issued_ms = issued;
    c.claims.expires_ms = expires;
    return paseto_sign(c.node, claims_to_json(c.claims), base32(c.node.node_id().view()), "starling session token 1");
  };
  EXPECT_TRUE(verify_token(signed_by_hand(kNow, kNow + kTokenLifeMaxMs), c.lookup, kNow).ok());
  EXPECT_EQ(c.refusal(signed_by_hand(kNow, kNow + kTokenLifeMaxMs + 1)), Errc::kUnauthenticated);
  EXPECT_EQ(c.refusal(signed_by_hand(0, INT64_MAX)), Errc::kUnauthenticated);
  EXPECT_EQ(c.refusal(signed_by_hand(INT64_MAX - 1, INT64_MAX)), Errc::kUnauthenticated);
  const std::int64_t ahead = kNow + kTokenAheadMaxMs;
  EXPECT_TRUE(verify_token(signed_by_hand(ahead, ahead + 1), c.lookup, kNow).ok()) << "clocks differ";
  EXPECT_EQ(c.refusal(signed_by_hand(ahead + 1, ahead + 2)), Errc::kUnauthenticated);
  c.claims.issued_ms = kNow;
  c.claims.expires_ms = kNow + kTokenLifeMaxMs + 1;
  EXPECT_EQ(issue_token(c.node, c.claims).code(), Errc::kInvalid);
}

TEST(Token, IsRefusedFromAStrangerAndUnderAFalseName) {
  Cluster c;
  EXPECT_EQ(c.refusal(issue_token(c.stranger, c.claims).value()), Errc::kUnauthenticated);
  const std::string forged =
      paseto_sign(c.stranger, claims_to_json(c.claims), base32(c.node.node_id().view()),
                  "starling session token 1");
  EXPECT_EQ(c.refusal(forged), Errc::kUnauthenticated);
}

TEST(Token, IsRefusedWhenTheNodeSignedItForAnotherPurpose) {
  Cluster c;
  const std::string other =
      paseto_sign(c.node, claims_to_json(c.claims), base32(c.node.node_id().view()), "");
  EXPECT_EQ(c.refusal(other), Errc::kUnauthenticated);
}

TEST(Token, IsRefusedWithAnyCharacterChanged) {
  Cluster c;
  const std::string token = issue_token(c.node, c.claims).value();
  for (std::size_t i = 0; i < token.size(); ++i) {
    std::string changed = token;
    changed[i] = changed[i] == 'A' ? 'B' : 'A';
    EXPECT_EQ(c.refusal(changed), Errc::kUnauthenticated) << i;
  }
  for (View bad : {"", "v4.public.", "v4.public.AAAA.AAAA", "x"}) {
    EXPECT_EQ(c.refusal(bad), Errc::kUnauthenticated) << bad;
  }
  EXPECT_EQ(c.refusal(Bytes(kTokenSizeMax + 1, 'x')), Errc::kUnauthenticated);
}

TEST(Token, IsRefusedWhenSignedRightButNotClaims) {
  Cluster c;
  for (View payload : {"", "{}", "[]", "null", "{\"sub\":\"@alice\"}"}) {
    const std::string token =
        paseto_sign(c.node, payload, base32(c.node.node_id().view()), "starling session token 1");
    EXPECT_EQ(c.refusal(token), Errc::kUnauthenticated) << payload;
  }
}

TEST(Token, FitsItsLimitWithTheWorstNames) {
  Cluster c;
  c.claims = {Bytes(kTokenUserSizeMax, '\x01'), Bytes(kTokenDeviceSizeMax, '\x1f'),
              ~std::uint64_t{0}, INT64_MAX - 1, INT64_MAX};
  const auto token = issue_token(c.node, c.claims);
  ASSERT_TRUE(token.ok());
  EXPECT_LE(token->size(), kTokenSizeMax);
  EXPECT_EQ(verify_token(*token, c.lookup, INT64_MAX - 1).value(), c.claims);
}

TEST(Token, IsNotIssuedForNamesThatCannotBeWritten) {
  Cluster c;
  const auto code = [&](auto change) {
    TokenClaims claims = c.claims;
    change(claims);
    return issue_token(c.node, claims).code();
  };
  EXPECT_EQ(code([](auto& x) { x.user = ""; }), Errc::kInvalid);
  EXPECT_EQ(code([](auto& x) { x.user = Bytes(kTokenUserSizeMax + 1, 'x'); }), Errc::kInvalid);
  EXPECT_EQ(code([](auto& x) { x.device = ""; }), Errc::kInvalid);
  EXPECT_EQ(code([](auto& x) { x.device = "\xff"; }), Errc::kInvalid);
  EXPECT_EQ(code([](auto& x) { x.device = Bytes(kTokenDeviceSizeMax + 1, 'x'); }), Errc::kInvalid);
  EXPECT_EQ(code([](auto& x) { x.issued_ms = -1; }), Errc::kInvalid);
  EXPECT_EQ(code([](auto& x) { x.expires_ms = -1; }), Errc::kInvalid);
}

TEST(TokenClaims, AreJsonThatOthersRead) {
  const TokenClaims claims{"@al\"i\\ce\n\x01", "\xc3\xa9t\xc3\xa9", 7, 1, 2};
  const auto json = nlohmann::json::parse(claims_to_json(claims));
  EXPECT_EQ(json.at("sub").get<std::string>(), claims.user);
  EXPECT_EQ(json.at("dev").get<std::string>(), claims.device);
  EXPECT_EQ(json.at("epoch").get<std::uint64_t>(), 7u);
  EXPECT_EQ(json.at("issued_ms").get<int>(), 1);
  EXPECT_EQ(json.at("expires_ms").get<int>(), 2);
  EXPECT_EQ(json.size(), 5u);
  EXPECT_EQ(claims_from_json(claims_to_json(claims)).value(), claims);
}

TEST(TokenClaims, MayComeInAnyOrderWithNewOnesBetween) {
  const auto claims = claims_from_json(
      R"({"expires_ms":2,"new":"x","issued_ms":1,"epoch":18446744073709551615,"n":0,"dev":"d","sub":"@a"})");
  ASSERT_TRUE(claims.ok());
  EXPECT_EQ(*claims, (TokenClaims{"@a", "d", ~std::uint64_t{0}, 1, 2}));
}

TEST(TokenClaims, RefuseEveryOtherShape) {
  const std::string good = R"({"sub":"@a","dev":"d","epoch":1,"issued_ms":1,"expires_ms":2})";
  ASSERT_TRUE(claims_from_json(good).ok());
  for (std::size_t i = 0; i < good.size(); ++i) {
    EXPECT_EQ(claims_from_json(View(good).substr(0, i)).code(), Errc::kCorrupt) << i;
  }
  for (View bad : {
           R"( {"sub":"@a","dev":"d","epoch":1,"issued_ms":1,"expires_ms":2})",
           R"({"sub":"@a","dev":"d","epoch":1,"issued_ms":1,"expires_ms":2} )",
           R"({"sub":"@a","sub":"@b","dev":"d","epoch":1,"issued_ms":1,"expires_ms":2})",
           R"({"sub":1,"dev":"d","epoch":1,"issued_ms":1,"expires_ms":2})",
           R"({"sub":"@a","dev":"d","epoch":"1","issued_ms":1,"expires_ms":2})",
           R"({"sub":"@a","dev":"d","epoch":01,"issued_ms":1,"expires_ms":2})",
           R"({"sub":"@a","dev":"d","epoch":-1,"issued_ms":1,"expires_ms":2})",
           R"({"sub":"@a","dev":"d","epoch":1.5,"issued_ms":1,"expires_ms":2})",
           R"({"sub":"@a","dev":"d","epoch":18446744073709551616,"issued_ms":1,"expires_ms":2})",
           R"({"sub":"@a","dev":"d","epoch":1,"issued_ms":9223372036854775808,"expires_ms":2})",
           R"({"sub":"@a","dev":"d","epoch":1,"issued_ms":1,"expires_ms":2,})",
           R"({"sub":"@a","dev":{},"epoch":1,"issued_ms":1,"expires_ms":2})",
           R"({"sub":"@a\q","dev":"d","epoch":1,"issued_ms":1,"expires_ms":2})",
           R"({"sub":"@a\u0041","dev":"d","epoch":1,"issued_ms":1,"expires_ms":2})",
           "{\"sub\":\"@a\n\",\"dev\":\"d\",\"epoch\":1,\"issued_ms\":1,\"expires_ms\":2}",
           "{\"sub\":\"@\xff\",\"dev\":\"d\",\"epoch\":1,\"issued_ms\":1,\"expires_ms\":2}",
       }) {
    EXPECT_EQ(claims_from_json(bad).code(), Errc::kCorrupt) << bad;
  }
}

}  // namespace
}  // namespace starling
