// starling verify and repair: what they say, and with which exit code (admin_cli.h).
#include "tests/node/admin_cli.h"

namespace starling::node::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Json finding(std::uint64_t partition, const std::string& outcome, Json nodes, Json damaged = Json::array(),
             Json lost = Json::array()) {
  return {{"partition", partition}, {"outcome", outcome}, {"nodes", std::move(nodes)},
          {"damaged", std::move(damaged)}, {"lost", std::move(lost)}};
}

class RepairCliTest : public AdminCliTest {};

TEST_F(RepairCliTest, VerifyAsksPageByPageAndAddsUp) {
  answers_["verify"] = {
      Json{{"partitions", 128}, {"checked", 64}, {"same", 64}, {"rows", 1500}, {"findings", Json::array()}, {"next", 64}},
      Json{{"partitions", 128}, {"checked", 64}, {"same", 64}, {"rows", 500},
           {"findings", {finding(70, "same", Json::array(), Json::array(), {"w:7"})}}}};
  const Output output = run({"verify"});
  EXPECT_EQ(output.code, kExitOk) << "what is lost is lost everywhere: the copies are the same";
  EXPECT_THAT(output.out, HasSubstr("128 of 128 partitions are the same at all their owners (2,000 rows compared)\n"));
  EXPECT_THAT(output.out, HasSubstr("70  lost"));
  EXPECT_THAT(output.out, HasSubstr("no copy left of 1 change"));
  ASSERT_EQ(calls_.size(), 2u);
  EXPECT_THAT(calls_[1], HasSubstr("\"from\":64"));
}

TEST_F(RepairCliTest, VerifySaysOfWhomAndWhatToDo) {
  Json findings = Json::array();
  for (std::uint64_t p = 0; p < 40; ++p) findings.push_back(finding(p, "unreachable", {"bbbb"}));
  findings.push_back(finding(41, "damaged", {"cccc"}, {"w:1", "w:2"}));
  findings.push_back(finding(42, "differs", {"aaaa", "cccc"}));
  answers_["verify"] = {
      Json{{"partitions", 64}, {"checked", 64}, {"same", 22}, {"rows", 9}, {"findings", findings}}};
  const Output output = run({"verify"});
  EXPECT_EQ(output.code, kExitFailed);
  EXPECT_THAT(output.out, HasSubstr("22 of 64 partitions are the same"));
  EXPECT_THAT(output.out, HasSubstr("0-39  unreachable  bbbb       no answer from these owners"));
  EXPECT_THAT(output.out, HasSubstr("2 changes cannot be read; `starling repair` on that node"));
  EXPECT_THAT(output.out, HasSubstr("aaaa cccc  same changes, another state"));
  EXPECT_THAT(output.out, Not(HasSubstr("more; --json has all")));
  const Json json = Json::parse(run({"verify", "--json"}).out);
  EXPECT_EQ(json.at("findings").size(), 42u);
}

Json repaired(std::uint64_t damaged, Json hopeless = Json::array(), bool busy = false) {
  return {{"busy", busy}, {"share", 1.0}, {"rows", 184'220}, {"bytes", 43 << 20}, {"mended", 1}, {"found", 3},
          {"damaged", damaged}, {"hopeless", std::move(hopeless)}, {"lost", 0}, {"given_up", 0}};
}

TEST_F(RepairCliTest, RepairWaitsForItsEndAndSaysWhatWasMended) {
  answers_["repair"] = {repaired(2, Json::array(), true), repaired(0)};
  const Output output = run({"repair"});
  EXPECT_EQ(output.code, kExitOk);
  EXPECT_EQ(output.out, "Read 184,220 rows, 43 MiB. Found damaged: 3; index rows written again: 1; still damaged: 0; "
                        "lost for ever: 0\n");
  ASSERT_EQ(calls_.size(), 2u);
  EXPECT_EQ(calls_[0], R"(repair {"start":true})");
}

TEST_F(RepairCliTest, RepairFailsWhileDamageIsLeftAndSaysWhetherToWaitOrToGiveUp) {
  answers_["repair"] = {repaired(1)};
  const Output waits = run({"repair"});
  EXPECT_EQ(waits.code, kExitFailed);
  EXPECT_THAT(waits.out, HasSubstr("tried again every 10 s"));
  answers_["repair"] = {repaired(1, {{{"partition", 737}, {"dot", "w:7"}}})};
  const Output hopeless = run({"repair"});
  EXPECT_EQ(hopeless.code, kExitFailed);
  EXPECT_THAT(hopeless.out, HasSubstr("starling repair --give-up"));
  EXPECT_THAT(hopeless.out, HasSubstr("737  w:7"));
}

TEST_F(RepairCliTest, NothingIsGivenUpUnlessTheOperatorSaysSo) {
  Json done = repaired(0);
  done["lost"] = done["given_up"] = 1;
  answers_["repair"] = {repaired(1), done};
  const Output output = run({"repair", "--give-up"});
  EXPECT_EQ(output.code, kExitOk);
  EXPECT_THAT(output.out, HasSubstr("Written off as lost: 1\n"));
  ASSERT_EQ(calls_.size(), 2u);
  EXPECT_EQ(calls_[0], R"(repair {"start":true})") << "it reads everything first";
  EXPECT_EQ(calls_[1], R"(repair {"give_up":true})");
}

TEST_F(RepairCliTest, StatusSaysWhatTheNodeLacks) {
  Json node{{"short", "aaaa"}, {"state", "serving"}, {"damaged", 0}, {"damaged_partitions", 0}, {"lost", 0}, {"missing", 0}};
  const auto said = [&] {
    answers_["status"] = {Json{{"cluster", Json::object()}, {"node", node}, {"members", Json::array()}}};
    return run({"status"}).out;
  };
  const std::string whole = said();
  for (const char* word : {"Damaged", "Lost", "fetches"}) EXPECT_THAT(whole, Not(HasSubstr(word)));
  node["damaged"] = 3;
  node["damaged_partitions"] = 2;
  node["lost"] = 1;
  node["missing"] = 12'345;
  const std::string lacks = said();
  EXPECT_THAT(lacks, HasSubstr("Damaged: 3 changes in 2 partitions cannot be read here"));
  EXPECT_THAT(lacks, HasSubstr("Lost: 1 change had no copy left"));
  EXPECT_THAT(lacks, HasSubstr("It fetches: 12,345 changes"));
  node["missing_known"] = false;
  EXPECT_THAT(said(), HasSubstr("It fetches: at least 12,345 changes"));
  node["missing"] = 0;
  EXPECT_THAT(said(), HasSubstr("how much is missing is not known yet"));
}

}  // namespace
}  // namespace starling::node::cli
