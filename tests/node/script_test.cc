// Scripts for replays: read from a file or made up.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "crypto/text.h"
#include "node/cli/load/script.h"
#include "storage/ids.h"

namespace starling::node::cli {
namespace {

constexpr const char* kTalk =
    R"({"t":10,"room":"ops","from":"ann","text":"hello"}
{"t":12.5,"room":"ops","from":"bob","text":"ann: hi"}
{"t":13,"room":"ops","from":"bob","text":"cid: are you here?"}
{"t":14,"room":"ops","from":"bob","text":"bob: myself"}
{"t":15,"room":"dev","from":"cid","text":"ann, not in this room"}
)";

TEST(Script, ALineToSomebodyWhoHasSpokenInTheRoomIsAlsoDirect) {
  const auto script = parse_script(kTalk, {});
  ASSERT_TRUE(script.ok()) << script.error().text;
  EXPECT_EQ(script->rooms, (std::vector<std::string>{"#ops", "#dev"}));
  EXPECT_EQ(script->speakers, (std::vector<std::string>{"@ann", "@bob", "@cid"}));
  std::vector<std::uint32_t> direct;
  for (const auto& line : script->lines) direct.push_back(line.direct);
  const auto nobody = Line::kNobody;
  EXPECT_EQ(direct, (std::vector<std::uint32_t>{nobody, 0, nobody, nobody, nobody}));
  EXPECT_DOUBLE_EQ(script->lines[1].t, 2.5) << "time begins with the first line";
}

TEST(Script, LimitsKeepTheBusiestRoomsAndTheFirstLines) {
  const auto script = parse_script(kTalk, {2, 1});
  ASSERT_TRUE(script.ok());
  EXPECT_EQ(script->rooms, (std::vector<std::string>{"#ops"}));
  EXPECT_EQ(script->lines.size(), 2u);
}

TEST(Script, ABrokenLineIsNamed) {
  for (const char* text : {"oops", "[]", R"({"t":1,"room":"r","from":"f"})",
                           R"({"t":"1","room":"r","from":"f","text":"x"})",
                           R"({"t":1,"room":"","from":"f","text":"x"})", ""}) {
    const auto script = parse_script(text, {});
    ASSERT_FALSE(script.ok()) << text;
    EXPECT_EQ(script.code(), Errc::kInvalid);
  }
  EXPECT_NE(parse_script("{\"t\":1,\"room\":\"r\",\"from\":\"f\",\"text\":\"x\"}\nx", {})
                .error()
                .text.find("line 2"),
            std::string::npos);
}

TEST(Script, EveryNameBecomesAnAddressAndIsFoundBackAgain) {
  for (const std::string name :
       {"plain", "a b", "x~y", "slash/colon:", "tab\t", "[k]{}\\^`|-_.", "jörg", "~41", "\xff\xfe"}) {
    const std::string escaped = escape_name(name);
    EXPECT_TRUE(check_address("@" + escaped).ok()) << escaped;
    EXPECT_EQ(unescape_name(escaped), name);
  }
  EXPECT_EQ(escape_name("plain"), "plain");
  EXPECT_NE(escape_name("a b"), escape_name("a~20b"));
}

TEST(Script, RealTrafficIsReadWhole) {
  const char* shared = std::getenv("STARLING_SHARED");
  const std::string path = std::string(shared ? shared : "") + "/data/ubuntu-irc.jsonl";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path;
  const auto script = load_script(path, {});
  ASSERT_TRUE(script.ok()) << script.error().text;
  EXPECT_EQ(script->lines.size(), 37'515u);
  EXPECT_EQ(script->rooms.size(), 29u);
  EXPECT_EQ(script->speakers.size(), 3'179u);
  const auto direct = std::count_if(script->lines.begin(), script->lines.end(),
                                    [](const Line& l) { return l.direct != Line::kNobody; });
  EXPECT_GT(direct, 37'515 / 4);
  EXPECT_LT(direct, 37'515 / 2);
}

TEST(Generator, TheSameSeedMakesTheSameConversation) {
  const auto a = generate_script({7, 500, 8, 50, 100});
  const auto b = generate_script({7, 500, 8, 50, 100});
  const auto c = generate_script({8, 500, 8, 50, 100});
  ASSERT_EQ(a.lines.size(), 500u);
  std::size_t same = 0;
  for (std::size_t i = 0; i < 500; ++i) {
    ASSERT_EQ(a.lines[i].text, b.lines[i].text);
    ASSERT_EQ(a.lines[i].t, b.lines[i].t);
    same += a.lines[i].text == c.lines[i].text ? 1 : 0;
  }
  EXPECT_LT(same, 50u);
}

TEST(Generator, SizesRoomsAndWritingAreLikeThoseOfPeople) {
  const auto script = generate_script({1, 20'000, 12, 200, 600});
  std::vector<std::size_t> sizes;
  std::vector<std::size_t> rooms(12);
  std::size_t foreign = 0, direct = 0;
  double last = 0;
  for (const auto& line : script.lines) {
    ASSERT_TRUE(is_utf8(line.text));
    ASSERT_LE(line.text.size(), 4'200u);
    ASSERT_GE(line.t, last);
    last = line.t;
    sizes.push_back(line.text.size());
    ++rooms[line.room];
    foreign += std::any_of(line.text.begin(), line.text.end(), [](char c) { return c < 0; });
    direct += line.direct != Line::kNobody;
    ASSERT_NE(line.direct, line.from);
  }
  std::sort(sizes.begin(), sizes.end());
  EXPECT_NEAR(static_cast<double>(sizes[10'000]), 50, 8);
  EXPECT_NEAR(static_cast<double>(sizes[19'800]), 310, 60);
  EXPECT_GT(rooms[0], 3 * rooms[11]) << "few rooms hold most of it";
  EXPECT_GT(foreign, 1'000u);
  EXPECT_GT(direct, 3'000u);
}

}  // namespace
}  // namespace starling::node::cli
