// `starling ring double` against a node that answers from a script (admin_cli.h).
#include "node/cli/movement_step.h"
#include "tests/node/admin_cli.h"

namespace starling::node::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Json plan(bool dry_run) {
  return {{"ring", 5}, {"partitions", 4096}, {"to", 8192}, {"units", 4096}, {"already", false}, {"dry_run", dry_run},
          {"nodes", {{{"short", "aaaa"}, {"now", 2731}, {"next", 5462}, {"bytes", 3 << 20}, {"room", 9u << 30}},
                     {{"short", "bbbb"}, {"now", 1365}, {"next", 2730}, {"bytes", 2 << 20}, {"room", 8u << 30}}}}};
}

Json settling(const Json& nodes) {
  return {{"ring", 6}, {"change", ""},
          {"doubling", {{"partitions", 8192}, {"units", 4096}, {"nodes", 3}, {"settling", nodes}}}};
}

TEST_F(AdminCliTest, ADoublingTellsWhatItCostsAndIsNotBegunByALook) {
  answers_["double"] = {plan(true)};
  const Output output = run({"ring", "double", "--dry-run"});
  EXPECT_EQ(output.code, kExitOk) << output.err;
  EXPECT_THAT(output.out, HasSubstr("4,096 partitions become 8,192"));
  EXPECT_THAT(output.out, HasSubstr("nothing moves between nodes"));
  EXPECT_THAT(output.out, HasSubstr("up to 5.0 MiB together"));
  EXPECT_THAT(output.out, HasSubstr("It cannot be undone"));
  EXPECT_THAT(output.out, HasSubstr("Nothing was changed. To do it: starling ring double --to 8192\n"));
  EXPECT_EQ(calls_, std::vector<std::string>{R"(double {"dry_run":true})"});
  EXPECT_EQ(Json::parse(run({"ring", "double", "--dry-run", "--json"}).out), plan(true));
}

TEST_F(AdminCliTest, ADoublingWithoutItsNumberIsALookAndAnError) {
  answers_["double"] = {plan(true)};
  const Output output = run({"ring", "double"});
  EXPECT_EQ(output.code, kExitUsage);
  EXPECT_THAT(output.out, HasSubstr("It cannot be undone"));
  EXPECT_THAT(output.err, HasSubstr("nothing was changed. To do it, say the number: starling ring double --to 8192"));
  EXPECT_EQ(run({"ring", "double", "--json"}).code, kExitUsage);
  for (const auto& call : calls_) EXPECT_EQ(call, R"(double {"dry_run":true})");
}

TEST_F(AdminCliTest, ADoublingIsFollowedUntilTheLastNodeHasSettled) {
  answers_["double"] = {plan(false)};
  const Json a{{"short", "aaaa"}, {"answered", true}, {"partitions", 8192}, {"share", 0.34}, {"waits_for", ""}};
  const Json b{{"short", "bbbb"}, {"answered", false}};
  answers_["movement"] = {settling({a, b}), settling({a, b}), settling(Json::array({a})), settling(Json::array())};
  const Output output = run({"ring", "double", "--to", "8192"});
  EXPECT_EQ(output.code, kExitOk) << output.err;
  EXPECT_EQ(output.out, "Agreed: 8,192 partitions since ring version 5. Each node settles what it has, and serves "
                        "meanwhile.\nAll nodes have settled.\n");
  EXPECT_EQ(output.err, "waiting: node bbbb does not answer; it goes on by itself when it is back\n");
  EXPECT_EQ(calls_[0], R"(double {"to":8192})");
  EXPECT_EQ(calls_.size(), 5u);
}

TEST_F(AdminCliTest, ADoublingThatIsNotWaitedForSaysWhereToLook) {
  answers_["double"] = {plan(false)};
  const Output output = run({"ring", "double", "--to", "8192", "--no-wait"});
  EXPECT_EQ(output.code, kExitOk) << output.err;
  EXPECT_THAT(output.out, HasSubstr("It goes on by itself; see: starling ring --diff"));
  EXPECT_EQ(calls_.size(), 1u);
}

TEST_F(AdminCliTest, TheSameDoublingAgainOnlyFollows) {
  Json again = plan(false);
  again["already"] = true;
  again["partitions"] = 8192;
  answers_["double"] = {again};
  answers_["movement"] = {settling(Json::array())};
  const Output output = run({"ring", "double", "--to", "8192"});
  EXPECT_EQ(output.code, kExitOk) << output.err;
  EXPECT_EQ(output.out, "There are 8,192 partitions already.\nAll nodes have settled.\n");
  const Json json = Json::parse(run({"ring", "double", "--to", "8192", "--json"}).out);
  EXPECT_TRUE(json["already"]);
  EXPECT_EQ(json["finished"]["partitions"], 8192);
}

TEST_F(AdminCliTest, ARefusedDoublingSaysWhyAndChangesNothing) {
  answers_["double"] = {Error{Errc::kUnavailable, "node cccc is down: start it"}};
  for (const auto& words : std::vector<std::vector<std::string>>{{"ring", "double", "--dry-run"}, {"ring", "double"},
                                                                {"ring", "double", "--to", "8192"}}) {
    const Output output = run(words);
    EXPECT_EQ(output.code, kExitUnavailable);
    EXPECT_EQ(output.err, "starling: node cccc is down: start it\n");
    EXPECT_EQ(output.out, "");
  }
}

TEST_F(AdminCliTest, StatusAndRingTellOfADoublingAndOfWhoHasNotSettled) {
  answers_["status"] = {Json{{"cluster", {{"partitions", 8192}, {"units", 4096}}},
                             {"node", {{"short", "aaaa"}, {"movement", {{"split", {{"share", 0.349}}}}}}}}};
  const Output status = run({"status"});
  EXPECT_THAT(status.out, HasSubstr("8,192 partitions, placed as 4,096\n"));
  EXPECT_THAT(status.out, HasSubstr("Settling: 34 % of what"));

  answers_["ring"] = {Json{{"number", 6}, {"partitions", 8192}, {"units", 4096}, {"members", Json::array()}}};
  const Json behind{{"short", "bbbb"}, {"answered", true}, {"partitions", 4096}, {"share", 0}, {"waits_for", "an install"}};
  answers_["movement"] = {settling(Json::array({behind}))};
  for (const Output& output : {run({"ring"}), run({"ring", "--diff"})}) {
    EXPECT_THAT(output.out, HasSubstr("these nodes have not settled yet:\n"));
    EXPECT_THAT(output.out, HasSubstr("bbbb  0 %           4,096  an install\n"));
  }
  answers_["movement"] = {settling(Json::array())};
  EXPECT_THAT(run({"ring"}).out, Not(HasSubstr("settled")));
}

TEST_F(AdminCliTest, AClusterThatWasNeverDoubledIsNotAskedAboutIt) {
  answers_["status"] = {Json{{"cluster", {{"partitions", 4096}, {"units", 4096}}},
                             {"node", {{"short", "aaaa"}, {"movement", {{"split", {{"share", 1.0}}}}}}}}};
  EXPECT_THAT(run({"status"}).out, HasSubstr("4,096 partitions\n"));
  EXPECT_THAT(run({"status"}).out, Not(HasSubstr("Settling")));
  answers_["ring"] = {Json{{"number", 6}, {"partitions", 4096}, {"units", 4096}, {"members", Json::array()}}};
  EXPECT_EQ(run({"ring"}).code, kExitOk);
  EXPECT_EQ(calls_.back(), R"(ring {"partitions":false})");
}

TEST(SettleStep, AddsUpTheNodesAndSaysWhatTheFirstOneWaitsFor) {
  const Json nodes = {{{"short", "aaaa"}, {"answered", true}, {"partitions", 8192}, {"share", 0.5}, {"waits_for", ""}},
                      {{"short", "bbbb"}, {"answered", true}, {"partitions", 4096}, {"share", 0.0}, {"waits_for", "x"}}};
  const MoveStep step = settle_step(settling(nodes)["doubling"]);
  EXPECT_TRUE(step.open);
  EXPECT_DOUBLE_EQ(step.share, 0.5);
  EXPECT_EQ(step.text, "settling: 1 of 3 nodes done");
  EXPECT_EQ(step.waits_for, "node bbbb has not followed yet: x");
  EXPECT_FALSE(settle_step(Json::object()).open) << "of a node that knows nothing of it";
}

}  // namespace
}  // namespace starling::node::cli
