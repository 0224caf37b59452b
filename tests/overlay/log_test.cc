#include "overlay/loop/log.h"

#include <cstdlib>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/temp_folder.h"

namespace starling::overlay {
namespace {

std::string read_log(bool json) {
  const TempFolder folder;
  const std::string path = folder.path() + "/node.log";
  {
    auto log = Log::open({LogLevel::kInfo, json, path});
    EXPECT_TRUE(log.ok());
    log->debug("hidden");
    log->warn("link \"down\"",
              {{"text", "two words\n"}, {"n", 7}, {"ok", true}, {"peer", NodeId{}}});
  }
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

TEST(Log, WritesTextThatGrepCanCut) {
  const std::string text = read_log(false);
  EXPECT_EQ(text.find("hidden"), std::string::npos);
  EXPECT_NE(text.find("Z warn link \"down\" text=\"two words\\u000a\" n=7 ok=true peer=" +
                      short_text(NodeId{})),
            std::string::npos)
      << text;
}

TEST(Log, WritesOneJsonObjectPerLine) {
  const auto object = nlohmann::json::parse(read_log(true));
  EXPECT_EQ(object["level"], "warn");
  EXPECT_EQ(object["message"], "link \"down\"");
  EXPECT_EQ(object["text"], "two words\n");
  EXPECT_EQ(object["n"], 7);
  EXPECT_EQ(object["ok"], true);
  EXPECT_TRUE(object["time"].is_string());
}

TEST(Log, DropsEverythingByDefaultAndCapturesForTests) {
  Log().error("nobody hears");
  std::string got;
  Log log(LogLevel::kInfo, [&](LogLevel, View line) { got = line; });
  log.debug("below");
  EXPECT_EQ(got, "");
  log.info("up", {{"ms", 12}});
  EXPECT_EQ(got, "up ms=12");
}

TEST(Log, SaysWhichFileCannotBeOpened) {
  const auto log = Log::open({LogLevel::kInfo, false, "/proc/nowhere/node.log"});
  ASSERT_FALSE(log.ok());
  EXPECT_EQ(log.code(), Errc::kIo);
  EXPECT_NE(log.error().text.find("/proc/nowhere/node.log"), std::string::npos);
}

TEST(Log, ParsesItsLevels) {
  EXPECT_EQ(*parse_log_level("warn"), LogLevel::kWarn);
  EXPECT_EQ(parse_log_level("loud").code(), Errc::kInvalid);
}

}  // namespace
}  // namespace starling::overlay
