#include "crypto/msgpack.h"

#include <gtest/gtest.h>

#include "crypto/random.h"

namespace starling {
namespace {

struct IdTag;
struct NumberTag;

struct Old {
  std::uint32_t a = 0;
  std::string b;
  FIELDS(a, b)
};
struct New {
  std::uint32_t a = 0;
  std::string b;
  Fixed<IdTag, 4> c;
  Id<NumberTag, std::uint64_t> d;
  Blob e;
  std::vector<std::uint32_t> f;
  FIELDS(a, b, c, d, e, f)
};

New new_sample() { return {1, "text", {{1, 2, 3, 4}}, {5}, {Bytes("\0\xff", 2)}, {1, 2, 3}}; }

TEST(Msgpack, ReadsBackWhatItWrites) {
  const auto got = unpack<New>(pack(new_sample()));
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(got->b, "text");
  EXPECT_EQ(got->c, new_sample().c);
  EXPECT_EQ(got->d, new_sample().d);
  EXPECT_EQ(got->e, new_sample().e);
  EXPECT_EQ(got->f, new_sample().f);
}

TEST(Msgpack, OldReadersIgnoreNewFieldsAndNewReadersDefaultThem) {
  EXPECT_EQ(unpack<Old>(pack(new_sample())).value().b, "text");
  EXPECT_TRUE(unpack<New>(pack(Old{1, "x"})).value().c.is_zero());
}

TEST(Msgpack, RefusesEveryCutAndTrailingBytes) {
  const Bytes whole = pack(new_sample());
  for (std::size_t i = 0; i < whole.size(); ++i) {
    EXPECT_EQ(unpack<New>(View(whole).substr(0, i)).code(), Errc::kCorrupt) << i;
  }
  EXPECT_EQ(unpack<New>(whole + '\0').code(), Errc::kCorrupt);
}

TEST(Msgpack, RefusesTheWrongTypesAndLengths) {
  EXPECT_EQ(unpack<Old>(pack(std::string("x"))).code(), Errc::kCorrupt);
  EXPECT_EQ((unpack<Fixed<IdTag, 4>>(pack(Blob{"12345"})).code()), Errc::kCorrupt);
  EXPECT_EQ((unpack<Fixed<IdTag, 4>>(pack(std::string("1234"))).code()), Errc::kCorrupt);
  EXPECT_EQ(unpack<Blob>(pack(std::string("1234"))).code(), Errc::kCorrupt);
  EXPECT_EQ(unpack<std::uint8_t>(pack(256)).code(), Errc::kCorrupt);
}

TEST(Msgpack, RefusesBombsBeforeAllocating) {
  const Bytes huge_array("\xdd\xff\xff\xff\xff", 5);
  const Bytes huge_map("\xdf\xff\xff\xff\xff", 5);
  EXPECT_EQ(unpack<std::vector<int>>(huge_array).code(), Errc::kCorrupt);
  EXPECT_EQ(unpack<std::vector<int>>(huge_map).code(), Errc::kCorrupt);
  EXPECT_FALSE(msgpack_detail::check(Bytes(kMsgpackDepthMax + 1, '\x91') + "\xc0").ok());
  EXPECT_TRUE(msgpack_detail::check(Bytes(kMsgpackDepthMax, '\x91') + "\xc0").ok());
  EXPECT_FALSE(msgpack_detail::check(Bytes("\xc7\x01\x01x", 4)).ok());  // An ext value.
}

TEST(Msgpack, SurvivesRandomBytes) {
  SeededRandom random(1);
  for (int i = 0; i < 20000; ++i) {
    Bytes bytes(random.below(40), '\0');
    random.fill({reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size()});
    const auto got = unpack<New>(bytes);
    if (!got) {
      EXPECT_EQ(got.code(), Errc::kCorrupt);
    }
  }
}

}  // namespace
}  // namespace starling
