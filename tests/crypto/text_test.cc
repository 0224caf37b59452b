#include "crypto/text.h"

#include <algorithm>
#include <vector>

#include <gtest/gtest.h>

#include "crypto/hash.h"
#include "crypto/random.h"
#include "crypto/secret.h"

namespace starling {
namespace {

Bytes random_bytes(Random& random, std::size_t size) {
  Bytes out(size, '\0');
  random.fill({reinterpret_cast<std::uint8_t*>(out.data()), out.size()});
  return out;
}

TEST(Hex, ReadsBackWhatItWrites) {
  EXPECT_EQ(hex(View("\x00\x7f\xff", 3)), "007fff");
  EXPECT_EQ(parse_hex("007fFF").value(), Bytes("\x00\x7f\xff", 3));
  EXPECT_EQ(parse_hex("").value(), "");
}

TEST(Hex, RefusesOddLengthsAndOtherLetters) {
  for (View bad : {"0", "0g", "g0", " 0", "0x"})
    EXPECT_EQ(parse_hex(bad).code(), Errc::kInvalid) << bad;
}

TEST(Base32, WritesOneNumberWithLeadingZeros) {
  EXPECT_EQ(base32(Bytes(16, '\0')), std::string(26, '0'));
  EXPECT_EQ(base32(Bytes(16, '\xff')), "7" + std::string(25, 'Z'));
  EXPECT_EQ(base32(Bytes(15, '\0') + "\x20"), std::string(24, '0') + "10");
  EXPECT_EQ(base32(Bytes(5, '\xff')), "ZZZZZZZZ");
  EXPECT_EQ(base32(""), "");
}

TEST(Base32, SortsLikeTheBytesAndReadsBack) {
  SeededRandom random(1);
  std::vector<Bytes> values;
  for (int i = 0; i < 500; ++i) values.push_back(random_bytes(random, 16));
  std::sort(values.begin(), values.end());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::string text = base32(values[i]);
    EXPECT_EQ(text.size(), 26u);
    EXPECT_EQ(parse_base32(text, 16).value(), values[i]);
    if (i > 0) {
      EXPECT_LT(base32(values[i - 1]), text);
    }
  }
}

TEST(Base32, ReadsBackEveryLength) {
  SeededRandom random(2);
  for (std::size_t size = 0; size <= 40; ++size) {
    const Bytes bytes = random_bytes(random, size);
    EXPECT_EQ(parse_base32(base32(bytes), size).value(), bytes) << size;
  }
}

TEST(Base32, ForgivesWhatPeopleConfuse) {
  EXPECT_EQ(parse_base32("0oO1iIlL", 5).value(), parse_base32("00011111", 5).value());
  EXPECT_EQ(parse_base32("abcdefgh", 5).value(), parse_base32("ABCDEFGH", 5).value());
}

TEST(Base32, RefusesLengthsLettersAndNumbersThatAreTooLarge) {
  EXPECT_EQ(parse_base32("0000000", 5).code(), Errc::kInvalid);
  EXPECT_EQ(parse_base32("000000000", 5).code(), Errc::kInvalid);
  EXPECT_EQ(parse_base32("0000000U", 5).code(), Errc::kInvalid);
  EXPECT_EQ(parse_base32("0000-000", 5).code(), Errc::kInvalid);
  EXPECT_EQ(parse_base32("8" + std::string(25, '0'), 16).code(), Errc::kInvalid);
}

TEST(Base64, MatchesRfc4648WithoutPadding) {
  EXPECT_EQ(base64url("foobar"), "Zm9vYmFy");
  EXPECT_EQ(base64url("fooba"), "Zm9vYmE");
  EXPECT_EQ(base64url("foob"), "Zm9vYg");
  EXPECT_EQ(base64url("\xfb\xff"), "-_8");
  EXPECT_EQ(base64("\xfb\xff"), "+/8");
  EXPECT_EQ(base64url(""), "");
  for (View text : {"", "Zm9vYg", "Zm9vYmE", "Zm9vYmFy", "-_8"}) {
    EXPECT_EQ(base64url(parse_base64url(text).value()), text);
  }
}

TEST(Base64, RefusesEverySecondSpelling) {
  // Padding, the other alphabet, spaces, left-over bits, an impossible length.
  for (View bad : {"Zm9vYg==", "+/8", "Zm9v YmFy", "Zm9vYh", "Zm9vY", "Zm9v\n"}) {
    EXPECT_EQ(parse_base64url(bad).code(), Errc::kInvalid) << bad;
  }
}

TEST(Utf8, DecodesEachLength) {
  View text = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\xa6";
  EXPECT_EQ(next_code_point(text), U'a');
  EXPECT_EQ(next_code_point(text), U'\u00e9');
  EXPECT_EQ(next_code_point(text), U'\u20ac');
  EXPECT_EQ(next_code_point(text), U'\U0001f426');
  EXPECT_EQ(next_code_point(text), std::nullopt);
}

TEST(Utf8, RefusesWhatIsNotTheOneSpelling) {
  for (View bad : {"\x80", "\xc0\x80", "\xc1\xbf", "\xc3", "\xc3\x28", "\xe0\x80\x80",
                   "\xe0\x9f\xbf", "\xed\xa0\x80", "\xed\xbf\xbf", "\xe2\x82", "\xf0\x80\x80\x80",
                   "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff"}) {
    EXPECT_FALSE(is_utf8(bad)) << hex(bad);
    View rest = bad;
    EXPECT_FALSE(next_code_point(rest).has_value());
    EXPECT_EQ(rest, bad);
  }
  EXPECT_TRUE(is_utf8("\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf"));
}

TEST(Blake2b, MatchesRfc7693) {
  struct DigestTag;
  const auto digest = blake2b_id<Fixed<DigestTag, 64>>({"a", "", "bc"});
  EXPECT_EQ(hex(digest.view()),
            "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1"
            "7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923");
  EXPECT_NE((blake2b_id<Fixed<DigestTag, 64>>({"abc"}, "0123456789abcdef")), digest);
}

TEST(Secret, ComparesAllBytesAndTakesOnlyItsLength) {
  SeededRandom random(3);
  const SecretKey a = SecretKey::random(random);
  for (std::size_t i = 0; i < SecretKey::kSize; ++i) {
    SecretKey b = a;
    EXPECT_EQ(a, b);
    b.raw[i] ^= 1;
    EXPECT_FALSE(a == b);
  }
  SecretKey c = a;
  EXPECT_FALSE(SecretKey::from(Bytes(31, 'x'), c));
  EXPECT_EQ(a, c);
  EXPECT_FALSE(equal_in_constant_time("ab", "abc"));
  EXPECT_TRUE(equal_in_constant_time("", ""));
}

TEST(Secret, IsWipedWhenItDies) {
  alignas(SecretKey) unsigned char place[sizeof(SecretKey)];
  auto* secret = new (place) SecretKey;
  secret->raw.fill(0xAA);
  secret->~SecretKey();
  EXPECT_EQ(View(reinterpret_cast<char*>(place), sizeof place), Bytes(sizeof place, '\0'));
}

}  // namespace
}  // namespace starling
