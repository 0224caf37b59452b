// The command line: where a value comes from, and what a wrong one says.
#include "node/cli/options.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node/cli/commands.h"
#include "node/cli/node_options.h"
#include "node/cli/terminal/table.h"
#include "tests/overlay/golden.h"
#include "tests/temp_folder.h"

namespace starling::node::cli {
namespace {

using ::testing::HasSubstr;

class OptionsTest : public ::testing::Test {
 protected:
  OptionsTest() {
    command_.name = "go";
    command_.usage = "go NAME [REST...]";
    command_.options = [](po::options_description& options) {
      add_node_options(options);
      options.add_options()("name", po::value<std::string>())("rest",
                                                              po::value<std::vector<std::string>>());
    };
    command_.words = {"name", "[rest...]"};
    command_.starts_node = true;
  }

  Result<Arguments> parse(std::vector<std::string> words) {
    return parse_arguments(command_, words, [this](const std::string& name) -> const char* {
      auto it = environment_.find(name);
      return it == environment_.end() ? nullptr : it->second.c_str();
    });
  }
  std::string complaint(std::vector<std::string> words) {
    auto parsed = parse(std::move(words));
    return parsed ? "none" : parsed.error().text;
  }
  std::string config_complaint(std::vector<std::string> words) {
    words.insert(words.begin(), "x");
    auto parsed = parse(std::move(words));
    if (!parsed) return parsed.error().text;
    auto config = make_config(*parsed);
    return config ? "none" : config.error().text;
  }
  void file(const std::string& text) { std::ofstream(folder_ + "/starling.conf") << text; }

  const TempFolder temp_;
  const std::string& folder_ = temp_.path();
  Command command_;
  std::map<std::string, std::string> environment_;
};

TEST_F(OptionsTest, FlagsWinOverTheEnvironmentAndThatOverTheFile) {
  file("# comment\nzone = file\nweight = 7\ncopies = 2\n");
  environment_ = {{"STARLING_DATA", folder_}, {"STARLING_ZONE", "env"}, {"STARLING_WEIGHT", "8"}};
  auto parsed = parse({"x", "--zone", "flag"});
  ASSERT_TRUE(parsed.ok()) << parsed.error().text;
  EXPECT_EQ(parsed->text("zone"), "flag");
  EXPECT_EQ(parsed->number("weight"), 8U);
  EXPECT_EQ(parsed->number("copies"), 2U);
  EXPECT_EQ(parsed->number("partitions"), 4096U);
  EXPECT_TRUE(parsed->given("copies"));
  EXPECT_FALSE(parsed->given("partitions"));
}

TEST_F(OptionsTest, LoopsHaveFoldersAndPortsOfTheirOwn) {
  auto parsed = parse({"x", "--data", folder_, "--loops", "3", "--client", "127.0.0.1:7400", "--admin", "127.0.0.1:0",
                       "--advertise", "192.0.2.7", "--client-advertise", "192.0.2.7:7400"});
  ASSERT_TRUE(parsed.ok()) << parsed.error().text;
  const auto first = make_config(*parsed);
  ASSERT_TRUE(first.ok()) << first.error().text;
  EXPECT_NE(first->zone, Config().zone) << "the host's name, so that other machines are other zones";
  const Config third = config_of_loop(*first, 3);
  EXPECT_EQ(third.data, folder_ + "/loops/3");
  EXPECT_EQ(third.client.port, 7420);
  EXPECT_EQ(third.link.port, first->link.port + 20);
  EXPECT_EQ(third.admin.port, 0);
  EXPECT_EQ(third.client_advertise, "192.0.2.7:7420");
  EXPECT_EQ(third.zone, first->zone);
  EXPECT_FALSE(third.may_found);
  Config balanced = *first;
  balanced.client_advertise = "192.0.2.1:7400";
  EXPECT_EQ(config_of_loop(balanced, 3).client_advertise, "192.0.2.1:7400");
  parsed = parse({"x", "--loops", "2", "--zone", "cellar"});
  EXPECT_EQ(make_config(*parsed)->zone, "cellar");
}

TEST_F(OptionsTest, LoopsNeedPortsThatDoNotMeet) {
  EXPECT_THAT(config_complaint({"--loops", "65"}), HasSubstr("1 to 64"));
  EXPECT_THAT(config_complaint({"--loops", "3", "--client", "127.0.0.1:7421"}), HasSubstr("7421 would be used twice"));
  EXPECT_EQ(config_complaint({"--loops", "2", "--client", "127.0.0.1:7421"}), "none");
  EXPECT_THAT(config_complaint({"--loops", "2", "--client", "127.0.0.1:65530"}), HasSubstr("65540"));
  EXPECT_THAT(config_complaint({"--loops", "2", "--link", "127.0.0.1:0"}), HasSubstr("a --link with a port"));
  EXPECT_THAT(config_complaint({"--loops", "2", "--sites", "2+1", "--zone", "east"}), HasSubstr("zones are sites"));
}

TEST_F(OptionsTest, ANodeDoesNotListenWhereClientsConnect) {
  environment_ = {{"STARLING_CLIENT", "127.0.0.1:1"}, {"STARLING_LISTEN_CLIENT", "127.0.0.1:2"}};
  EXPECT_EQ(parse({"x"})->text("client"), "127.0.0.1:2");
  command_.starts_node = false;
  EXPECT_EQ(parse({"x"})->text("client"), "127.0.0.1:1");
}

TEST_F(OptionsTest, BareWordsFillTheirOptions) {
  auto parsed = parse({"alice", "--zone=z", "one", "--", "--two"});
  ASSERT_TRUE(parsed.ok()) << parsed.error().text;
  EXPECT_EQ(parsed->text("name"), "alice");
  EXPECT_EQ(parsed->list("rest"), (std::vector<std::string>{"one", "--two"}));
  EXPECT_THAT(complaint({}), HasSubstr("NAME is missing"));
  command_.words = {"name"};
  EXPECT_THAT(complaint({"a", "b"}), HasSubstr("too many words"));
}

TEST_F(OptionsTest, ComplaintsNameTheNextStep) {
  EXPECT_THAT(complaint({"x", "--wieght", "3"}), HasSubstr("did you mean --weight?"));
  EXPECT_THAT(complaint({"x", "--weight", "-3"}), HasSubstr("0 or more"));
  EXPECT_THAT(complaint({"x", "--weight", "many"}), HasSubstr("weight"));
  EXPECT_THAT(complaint({"x", "--xyzzyx"}), Not(HasSubstr("did you mean")));
  EXPECT_THAT(complaint({"x", "--xyzzyx"}), HasSubstr("starling go --help"));
  file("zoen = a\n");
  EXPECT_THAT(complaint({"x", "--data", folder_}), HasSubstr("did you mean zone?"));
}

TEST_F(OptionsTest, NodeChoicesAreValidated) {
  EXPECT_EQ(config_complaint({}), "none");
  EXPECT_THAT(config_complaint({"--partitions", "1000"}), HasSubstr("power of two"));
  EXPECT_THAT(config_complaint({"--copies", "9"}), HasSubstr("from 1 to 7"));
  EXPECT_THAT(config_complaint({"--copies", "2", "--synced", "3"}), HasSubstr("--synced takes"));
  EXPECT_THAT(config_complaint({"--sites", "2"}), HasSubstr("HOME+AWAY"));
  EXPECT_THAT(config_complaint({"--home-site", "east"}), HasSubstr("HOME+AWAY"));
  EXPECT_THAT(config_complaint({"--sites", "2+1", "--synced", "3"}), HasSubstr("copies at home"));
  EXPECT_THAT(config_complaint({"--zone", std::string(40, 'z')}), HasSubstr("32 bytes"));
  // starling.conf would say another one.
  for (const char* text : {"a#b", "#", "a\nweight = 7", " a", "a "}) {
    EXPECT_THAT(config_complaint({"--zone", text}), HasSubstr("--zone takes a text without")) << text;
    EXPECT_THAT(config_complaint({"--log-file", text}), HasSubstr("--log-file takes a text without")) << text;
  }
  EXPECT_THAT(config_complaint({"--client", "7400"}), HasSubstr("port is missing"));
  EXPECT_THAT(config_complaint({"--link", "0.0.0.0:7401"}), HasSubstr("--advertise"));
  EXPECT_EQ(config_complaint({"--link", "0.0.0.0:7401", "--advertise", "192.0.2.1"}), "none");
  EXPECT_THAT(config_complaint({"--client-advertise", "192.0.2.1:0"}), HasSubstr("with its port"));
  EXPECT_THAT(config_complaint({"--log-level", "loud"}), HasSubstr("loud"));
  EXPECT_THAT(config_complaint({"--data", std::string(120, 'd')}), HasSubstr("107"));
}

TEST_F(OptionsTest, AWrittenConfigReadsBackAsItself) {
  auto config = make_config(*parse({"x", "--data", folder_, "--client", "127.0.0.1:0", "--zone", "cellar",
                                    "--weight", "50", "--copies", "2", "--synced", "1", "--partitions", "64",
                                    "--sites", "2+1", "--home-site", "cellar", "--log-json", "--free-space-min", "10", "--advertise", "192.0.2.1",
                                    "--client-advertise", "192.0.2.9:80", "--log-file", "/var/log/starling"}));
  ASSERT_TRUE(config.ok()) << config.error().text;
  EXPECT_EQ(config_text(*config), overlay::golden_text("file_starling_conf.v1.txt") + "\n");
  file(config_text(*config));
  auto again = make_config(*parse({"x", "--data", folder_}));
  ASSERT_TRUE(again.ok()) << again.error().text;
  EXPECT_EQ(config_text(*again), config_text(*config));
  EXPECT_EQ(again->free_space_min, 10ULL << 20);
  EXPECT_TRUE(again->log_json);
  EXPECT_EQ(again->sites, (overlay::SitePolicy{2, 1, "cellar"}));
  EXPECT_EQ(again->advertise, "192.0.2.1");
  EXPECT_EQ(again->client_advertise, "192.0.2.9:80");
}

TEST_F(OptionsTest, AJoinTokenIsKeptForItsOwnerUntilItIsDropped) {
  auto config = make_config(*parse({"x", "--data", folder_}));
  ASSERT_TRUE(config.ok());
  config->join_token = "starling1-abc";
  ASSERT_TRUE(keep_join_token(*config).ok());
  const auto mode = std::filesystem::status(folder_ + "/join-token").permissions();
  EXPECT_EQ(mode, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  EXPECT_EQ(make_config(*parse({"x", "--data", folder_}))->join_token, "starling1-abc");
  EXPECT_TRUE(make_config(*parse({"x", "--data", folder_}))->replaces.is_zero());
  // Whoever was to replace a dead node, and was stopped before it did, replaces it still.
  config->replaces.raw.fill(7);
  ASSERT_TRUE(keep_join_token(*config).ok());
  auto again = make_config(*parse({"x", "--data", folder_}));
  EXPECT_EQ(again->join_token, "starling1-abc");
  EXPECT_EQ(again->replaces, config->replaces);
  drop_join_token(*config);
  again = make_config(*parse({"x", "--data", folder_}));
  EXPECT_EQ(again->join_token, "");
  EXPECT_TRUE(again->replaces.is_zero());
}

TEST_F(OptionsTest, AClientFindsTheNodeByItsFolder) {
  command_.options = add_client_options;
  command_.words = {};
  command_.starts_node = false;
  auto none = client_endpoints(*parse({"--data", folder_}));
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.code(), Errc::kNotFound);
  EXPECT_THAT(none.error().text, HasSubstr("starling run"));
  std::ofstream(folder_ + "/addresses.json") << R"({"client": "127.0.0.1:4711"})";
  EXPECT_EQ(client_endpoints(*parse({"--data", folder_}))->at(0).port, 4711);
  auto listed = client_endpoints(*parse({"--client", "127.0.0.1:1,localhost:2", "--client", "[::1]:3"}));
  ASSERT_TRUE(listed.ok()) << listed.error().text;
  ASSERT_EQ(listed->size(), 3U);
  EXPECT_EQ(listed->at(1).text(), "127.0.0.1:2");
  EXPECT_EQ(listed->at(2).text(), "[::1]:3");
}

TEST(Commands, EachHasHelpWithItsUsageOptionsAndExitCodes) {
  const auto commands = all_commands();
  for (const auto& command : commands) {
    std::ostringstream out;
    print_help(out, command);
    EXPECT_THAT(out.str(), HasSubstr("Usage: starling " + command.name)) << command.name;
    EXPECT_THAT(out.str(), HasSubstr("--help")) << command.name;
    EXPECT_THAT(out.str(), HasSubstr("Exit codes")) << command.name;
    EXPECT_GT(command.about.size(), 30U) << command.name;
    EXPECT_FALSE(command.summary.empty() || command.summary.ends_with('.')) << command.name;
  }
}

TEST(Commands, AWrongOneSuggestsARightOne) {
  const auto run = [](std::vector<std::string> words) {
    ::testing::internal::CaptureStderr();
    ::testing::internal::CaptureStdout();
    const int code = run_command_line(all_commands(), words, [](auto&) { return nullptr; });
    const std::string out = ::testing::internal::GetCapturedStdout();
    return std::to_string(code) + " " + out + ::testing::internal::GetCapturedStderr();
  };
  EXPECT_THAT(run({"stauts"}), AllOf(HasSubstr("2 "), HasSubstr("did you mean status?")));
  EXPECT_THAT(run({"user"}), AllOf(HasSubstr("2 "), HasSubstr("user passwd NAME")));
  EXPECT_THAT(run({"user", "ad"}), AllOf(HasSubstr("2 "), HasSubstr("user add NAME")));
  EXPECT_THAT(run({"help", "user", "add"}), AllOf(HasSubstr("0 "), HasSubstr("--generate")));
  EXPECT_THAT(run({"--version"}), HasSubstr("0 starling "));
  EXPECT_THAT(run({}), HasSubstr("2 "));
}

TEST(Table, LinesUpColumnsByCharactersNotBytes) {
  Table table({"Name", ">Count", "End"});
  table.row({"zo\xc3\xab", "1", "x"});
  table.row({"al", "1,000", ""});
  std::ostringstream out;
  table.print(out, false);
  EXPECT_EQ(out.str(), "Name  Count  End\nzo\xc3\xab       1  x\nal    1,000\n");
  std::ostringstream coloured;
  Table good({"State"});
  good.row({Cell("ok", Tone::kGood)});
  good.print(coloured, true);
  EXPECT_THAT(coloured.str(), HasSubstr("\x1b[32mok\x1b[0m"));
}

TEST(Table, WordsForNumbers) {
  EXPECT_EQ(thousands(0), "0");
  EXPECT_EQ(thousands(999), "999");
  EXPECT_EQ(thousands(1234567), "1,234,567");
  EXPECT_EQ(duration_text(59), "59 s");
  EXPECT_EQ(duration_text(60), "1 min");
  EXPECT_EQ(duration_text(3661), "1 h 1 min");
  EXPECT_EQ(duration_text(90000), "1 d 1 h");
}

// A node that stopped itself starts itself again: by then the token is spent, and the folder is a node's.
TEST(WordsToGoOn, WhatBeganByJoiningGoesOnByRunning) {
  using Words = std::vector<std::string>;
  const Words run{"starling", "run", "--data", "/d", "--log-json"};
  EXPECT_EQ(words_to_go_on(run), run);
  EXPECT_EQ(words_to_go_on({"starling", "join", "starling1-abc", "--data", "/d", "--log-json"}), run);
  EXPECT_EQ(words_to_go_on({"starling", "join", "--data", "/d", "-", "--log-json"}), run);
  EXPECT_EQ(words_to_go_on({"starling", "replace", "--data", "/d", "N3K7QA", "--log-json", "starling1-abc"}), run);
  EXPECT_EQ(words_to_go_on({"starling", "join", "--token", "starling1-abc", "--data", "/d", "--log-json"}), run);
  EXPECT_EQ(words_to_go_on({"starling", "join", "--token=-", "--data=/d"}), (Words{"starling", "run", "--data=/d"}));
}

}  // namespace
}  // namespace starling::node::cli
