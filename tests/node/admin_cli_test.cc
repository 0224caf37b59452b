// The operator's commands against a node that answers from a script (admin_cli.h).
#include "node/cli/movement_step.h"
#include "tests/node/admin_cli.h"

namespace starling::node::cli {
namespace {

using ::testing::HasSubstr;

TEST_F(AdminCliTest, StatusIsATableForPeopleAndJsonForPrograms) {
  const Json status = Json::parse(R"({
    "cluster": {"lineage": "k3vd", "ring": 5, "copies": 3, "synced": 2, "partitions": 4096, "nodes": 3,
                "serving": 2, "change": "none"},
    "node": {"short": "aaaa", "version": "0.1.0", "uptime_s": 61, "state": "serving", "sessions": 1200,
             "data": "/d"},
    "members": [
      {"short": "aaaa", "self": true, "state": "alive", "zone": "z", "weight": 100, "share": 0.333,
       "sessions": 1200, "ring": 5, "version": "0.1.0", "client": "127.0.0.1:1", "link": "127.0.0.1:2"},
      {"short": "bbbb", "state": "dead", "zone": "z", "weight": 100, "share": 0.333}],
    "rates": {"appends_s": 1500.4, "send_errors": 7}})");
  answers_["status"] = {status};
  const Output table = run({"status"});
  EXPECT_EQ(table.code, kExitOk);
  EXPECT_THAT(table.out, HasSubstr("2 of 3 nodes serving"));
  EXPECT_THAT(table.out, HasSubstr("1,200 sessions, up 1 min 1 s"));
  EXPECT_THAT(table.out, HasSubstr("aaaa *  alive"));
  EXPECT_THAT(table.out, HasSubstr("bbbb    dead"));
  EXPECT_THAT(table.out, HasSubstr("appends/s 1,500, send errors 7"));
  EXPECT_EQ(table.out.find('\x1b'), std::string::npos) << "no colours in a pipe";
  EXPECT_EQ(Json::parse(run({"status", "--json"}).out), status);
}

TEST_F(AdminCliTest, StatusShowsADrainedNodeAndWhyOneCatchesUp) {
  answers_["status"] = {Json::parse(R"({
    "cluster": {"lineage": "k3vd", "nodes": 2, "serving": 2},
    "node": {"short": "aaaa", "state": "catching up", "waits_for": "node cccc is down"},
    "members": [{"short": "aaaa", "state": "alive", "catching_up": true},
                {"short": "bbbb", "state": "alive", "ring_state": "serving", "draining": true}]})")};
  const Output table = run({"status"});
  EXPECT_THAT(table.out, HasSubstr("It waits: node cccc is down"));
  EXPECT_THAT(table.out, HasSubstr("bbbb  drained"));
}

TEST_F(AdminCliTest, RevokeTellsWhatForceCosts) {
  answers_["revoke"] = {Json{{"node", "bbbb"}, {"ring", 9}, {"lineage", "0f0f"}, {"lost", "2 partitions"}}};
  const Output output = run({"revoke", "bbbb", "--force"});
  EXPECT_EQ(output.code, kExitOk) << output.err;
  EXPECT_THAT(output.out, HasSubstr("lineage 0f0f"));
  EXPECT_THAT(output.out, HasSubstr("lost: 2 partitions"));
  EXPECT_EQ(calls_[0], R"(revoke {"dry_run":false,"force":true,"node":"bbbb"})");
}

TEST_F(AdminCliTest, ARebalanceIsShownBeforeItIsDone) {
  answers_["rebalance"] = {Json{{"ring", 4}, {"change", "rebalance"}, {"dry_run", true}, {"moved", 30},
                                {"copies", 48}, {"nodes", Json::array()}}};
  const Output output = run({"rebalance", "--dry-run"});
  EXPECT_EQ(output.code, kExitOk) << output.err;
  EXPECT_THAT(output.out, HasSubstr("30 of 48 copies of partitions move"));
  EXPECT_THAT(output.out, HasSubstr("Nothing was changed"));
  EXPECT_EQ(calls_[0], R"(rebalance {"dry_run":true})");
}

TEST_F(AdminCliTest, ErrorsOfTheNodeDecideTheExitCode) {
  const std::pair<Errc, int> cases[] = {{Errc::kInvalid, kExitFailed},
                                        {Errc::kNotFound, kExitFailed},
                                        {Errc::kDenied, kExitDenied},
                                        {Errc::kUnauthenticated, kExitDenied},
                                        {Errc::kUnavailable, kExitUnavailable},
                                        {Errc::kTimeout, kExitUnavailable},
                                        {Errc::kIo, kExitFailed}};
  for (const auto& [code, exit] : cases) {
    answers_["where"] = {Error{code, "because"}};
    const Output output = run({"where", "alice"});
    EXPECT_EQ(output.code, exit) << name(code);
    EXPECT_EQ(output.err, "starling: because\n");
  }
  EXPECT_EQ(calls_[0], R"(where {"address":"@alice"})");
}

TEST_F(AdminCliTest, NoNodeIsAnExitCodeOfItsOwn) {
  const Output output = run({"status", "--data", folder_ + "/elsewhere"});
  EXPECT_EQ(output.code, kExitUnreachable);
  EXPECT_THAT(output.err, HasSubstr("starling run"));
}

TEST_F(AdminCliTest, ANodeThatHangsIsGivenUp) {
  answers_["status"] = {};
  const Output output = run({"status", "--timeout", "1"});
  EXPECT_EQ(output.code, kExitUnavailable);
  EXPECT_THAT(output.err, HasSubstr("did not answer in time"));
}

TEST_F(AdminCliTest, UsersAreCreatedInBatchesAndFailuresDoNotHideTheRest) {
  std::vector<std::string> words = {"user", "add", "--password", "secret"};
  for (int i = 0; i < 60; ++i) words.push_back("u" + std::to_string(i));
  answers_["user.add"] = {
      Json{{"results", {{{"name", "@u0"}, {"created", true}}}}},
      Json{{"results",
            {{{"name", "@u50"}, {"created", false}, {"error", {{"code", 3}, {"text", "it is taken"}}}},
             {{"name", "@u51"}, {"created", true}}}}}};
  const Output output = run(words);
  EXPECT_EQ(output.code, kExitFailed);
  EXPECT_EQ(output.out, "@u0 created\n@u51 created\n");
  EXPECT_EQ(output.err, "starling: @u50: it is taken\n");
  ASSERT_EQ(calls_.size(), 2U);
  EXPECT_THAT(calls_[0], HasSubstr(R"("password":"secret"},{"name":"@u49","nonce":)"));
  EXPECT_THAT(calls_[1], HasSubstr(R"([{"name":"@u50","nonce":)"));
}

// Whichever of the tries it was that created the user, it was ours: they carry one number.
TEST_F(AdminCliTest, WhatTimedOutIsAskedForAgainUnderTheSameNumber) {
  const Json timed_out{{"name", "@a"}, {"created", false}, {"error", {{"code", 10}, {"text", "no answer"}}}};
  answers_["user.add"] = {Json{{"results", {timed_out, {{"name", "@b"}, {"created", true}}}}},
                          Json{{"results", {{{"name", "@a"}, {"created", true}}}}}};
  const Output output = run({"user", "add", "a", "b", "--generate"});
  EXPECT_EQ(output.code, kExitOk);
  EXPECT_THAT(output.out, ::testing::StartsWith("@a created\n@b created\n@a password "));
  ASSERT_EQ(calls_.size(), 2U);
  const auto users = [&](std::size_t i) { return Json::parse(calls_[i].substr(calls_[i].find('{')))["users"]; };
  EXPECT_EQ(users(1), Json::array({users(0)[0]}));
  EXPECT_NE(users(0)[0]["nonce"], users(0)[1]["nonce"]);
  EXPECT_NE(users(0)[0]["nonce"], 0);
}

TEST_F(AdminCliTest, WhereAMessageIsIsATable) {
  const Json where = Json::parse(R"({
    "address": "#ops", "kind": "group", "partition": 7,
    "message": {"id": "01K5", "device": "00ff", "seq": 3, "from": "@alice", "to": "#ops", "void": false},
    "owners": [
      {"short": "aaaa", "state": "alive", "coordinator": true, "answered": true, "whole": true,
       "copies": [{"writer": "1122334455667788", "n": 9, "state": "synced"}]},
      {"short": "bbbb", "state": "alive", "answered": true, "whole": false,
       "copies": [{"writer": "1122334455667788", "n": 9, "state": "damaged"}]},
      {"short": "cccc", "state": "dead", "answered": false}],
    "stand_ins": [{"short": "dddd", "state": "alive",
                   "copies": [{"writer": "1122334455667788", "n": 9, "state": "held for the owners"}]}],
    "followers": [{"gateway": "eeee", "owner": "aaaa"}]})");
  answers_["where"] = {where};
  const Output table = run({"where", "#ops", "01K5"});
  EXPECT_EQ(table.code, kExitOk);
  EXPECT_EQ(calls_[0], R"(where {"address":"#ops","message":"01K5"})");
  EXPECT_THAT(table.out, HasSubstr("Message 01K5 from @alice to #ops\nkey 00ff/3, in the mailbox of #ops"));
  EXPECT_THAT(table.out, HasSubstr("aaaa  owner, coordinates  alive  synced as 11223344:9"));
  EXPECT_THAT(table.out, HasSubstr("damaged as 11223344:9 (the partition has damage here)"));
  EXPECT_THAT(table.out, HasSubstr("cccc  owner               dead   no answer"));
  EXPECT_THAT(table.out, HasSubstr("dddd  stand-in            alive  held for the owners as 11223344:9"));
  EXPECT_THAT(table.out, HasSubstr("Followed by eeee at aaaa\n"));
  EXPECT_EQ(Json::parse(run({"where", "#ops", "01K5", "--json"}).out), where);
}

TEST_F(AdminCliTest, GeneratedPasswordsArePrintedOnceEach) {
  answers_["user.add"] = {Json{{"results", {{{"name", "@a"}, {"created", true}},
                                            {{"name", "@b"}, {"created", true}}}}}};
  const Output output = run({"user", "add", "a", "@b", "--generate", "--json"});
  EXPECT_EQ(output.code, kExitOk);
  const Json results = Json::parse(output.out)["results"];
  const std::string first = results[0]["password"];
  EXPECT_EQ(first.size(), 20U);
  EXPECT_NE(first, results[1]["password"]);
  EXPECT_THAT(calls_[0], HasSubstr(first));
}

TEST_F(AdminCliTest, ListsArePagedToTheirEnd) {
  answers_["user.list"] = {Json{{"users", {{{"name", "@a"}}, {{"name", "@b"}}}}, {"more", true}},
                           Json{{"users", {{{"name", "@c"}, {"disabled", true}}}}, {"more", false}}};
  const Output output = run({"user", "list"});
  EXPECT_EQ(output.code, kExitOk);
  EXPECT_THAT(output.out, HasSubstr("@c    disabled"));
  ASSERT_EQ(calls_.size(), 2U);
  EXPECT_THAT(calls_[1], HasSubstr(R"("after":"@b")"));
}

TEST_F(AdminCliTest, AnInviteIsAloneOnStandardOutput) {
  answers_["invite"] = {Json{{"token", "starling1-xyz"}, {"expires_ms", 1'790'000'000'000}}};
  const Output output = run({"invite", "--expires", "5"});
  EXPECT_EQ(output.out, "starling1-xyz\n");
  EXPECT_THAT(output.err, HasSubstr("starling join TOKEN"));
  EXPECT_EQ(calls_[0], R"(invite {"expires_s":300})");
}

TEST_F(AdminCliTest, GroupsAreCalledByNameWithOrWithoutTheirSign) {
  answers_["group.create"] = {Json{{"created", true}}};
  EXPECT_EQ(run({"group", "create", "ops", "alice", "@bob", "--owner", "bob"}).out,
            "#ops created, owned by @bob\n");
  EXPECT_THAT(calls_[0], ::testing::StartsWith(R"(group.create {"group":"#ops","members":["@alice"],"nonce":)"));
  EXPECT_THAT(calls_[0], HasSubstr(R"("owner":"@bob"})"));
  run({"group", "create", "ops", "alice", "@bob"});
  EXPECT_THAT(calls_[1], HasSubstr(R"("owner":"@alice"})"));
  EXPECT_EQ(run({"group", "create", "ops"}).code, kExitUsage);
  EXPECT_EQ(run({"group", "add", "ops", "carol", "--role", "king"}).code, kExitUsage);
}

TEST_F(AdminCliTest, InitWritesSettingsIntoAnEmptyFolderOnly) {
  const std::string fresh = folder_ + "/fresh";
  EXPECT_EQ(run({"init", "--data", fresh, "--zone", "cellar"}).code, kExitOk);
  EXPECT_TRUE(std::filesystem::exists(fresh + "/starling.conf"));
  const Output again = run({"init", "--data", fresh});
  EXPECT_EQ(again.code, kExitFailed);
  EXPECT_THAT(again.err, HasSubstr("not empty"));
  EXPECT_EQ(run({"init", "--data", folder_ + "/other", "--copies", "0"}).code, kExitUsage);
}

TEST_F(AdminCliTest, JoinRefusesATokenThatIsNone) {
  const Output output = run({"join", "starling1-nonsense", "--data", folder_ + "/joiner"});
  EXPECT_EQ(output.code, kExitFailed);
  EXPECT_THAT(output.err, HasSubstr("starling invite"));
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/joiner"));
}

// What a movement answers on its way, one look after the other.
Json moving(const std::string& change, bool installed, const Json& nodes) {
  Json all = nodes;
  if (!change.empty()) {
    all.push_back({{"short", "bbbb"}, {"state", "serving"}, {"answered", true}, {"gains", 20},
                   {"installed", installed}, {"partitions_done", 5}, {"changes", 4000}, {"changes_done", 1000},
                   {"bytes", 3 << 20}, {"bytes_left", 9 << 20}, {"rate", 1 << 20}});
  }
  return {{"ring", change.empty() ? 8 : 7}, {"change", change}, {"outcome", change.empty() ? "done" : "open"},
          {"waits_for", ""}, {"nodes", all}};
}

TEST_F(AdminCliTest, LeaveShowsWhatMovesAndEndsWhenTheNodeMayBeSwitchedOff) {
  answers_["leave"] = {Json{{"ring", 7}, {"change", "leave"}, {"dry_run", false}, {"moved", 20}, {"copies", 48},
                            {"nodes", {{{"short", "bbbb"}, {"now", 12}, {"next", 32}, {"gains", 20}, {"loses", 0}}}}}};
  const Json left{{"short", "aaaa"}, {"state", "left"}, {"answered", true}, {"leaving", 3}, {"safe", false},
                  {"waits_for", "node cccc owns it and cannot be reached"}};
  Json safe = left;
  safe["safe"] = true;
  answers_["movement"] = {moving("leave", false, Json::array()), moving("leave", true, Json::array()),
                          moving("", true, Json::array({left})), moving("", true, Json::array({safe}))};
  const Output output = run({"leave", "aaaa"});
  EXPECT_EQ(output.code, kExitOk) << output.err;
  EXPECT_EQ(calls_[0], R"(leave {"dry_run":false,"force":false,"nodes":["aaaa"]})");
  EXPECT_EQ(calls_.size(), 5U);
  EXPECT_EQ(calls_[1], R"(movement {"of":7})");
  EXPECT_THAT(output.out, HasSubstr("20 of 48 copies of partitions move."));
  EXPECT_THAT(output.out, ::testing::EndsWith("safe to power off\n"));
  EXPECT_THAT(output.err, HasSubstr("waiting: node cccc"));
}

// It died before it had handed over: "safe to power off" is for it to say.
TEST_F(AdminCliTest, LeaveWaitsForALeaverThatDoesNotAnswerAlsoWhileTheNextChangeIsUnderWay) {
  answers_["leave"] = {Json{{"ring", 7}, {"change", "leave"}, {"dry_run", false}, {"moved", 12}, {"copies", 48},
                            {"nodes", {{{"short", "aaaa"}, {"now", 12}, {"next", 0}, {"loses", 12}}}}}};
  const Json dead{{"short", "aaaa"}, {"state", "left"}, {"answered", false}};
  const Json safe{{"short", "aaaa"}, {"state", "left"}, {"answered", true}, {"safe", true}};
  Json next = moving("join", false, Json::array({dead}));
  next["ring"] = 9;
  next["outcome"] = "done";
  Json then = moving("join", false, Json::array({safe}));
  then["ring"] = 9;
  then["outcome"] = "done";
  answers_["movement"] = {moving("", true, Json::array({dead})), next, then};
  const Output output = run({"leave", "aaaa"});
  EXPECT_EQ(output.code, kExitOk) << output.err;
  EXPECT_EQ(calls_.size(), 4U);
  EXPECT_THAT(output.err, HasSubstr("waiting: node aaaa left and does not answer"));
  EXPECT_THAT(output.out, ::testing::EndsWith("\naaaa: safe to power off\n"));
}

// Nothing is open any more, and nobody left: `starling abort` elsewhere, and maybe another change since.
TEST_F(AdminCliTest, AChangeThatSomebodyTookBackIsNoSuccess) {
  answers_["leave"] = {Json{{"ring", 7}, {"change", "leave"}, {"dry_run", false}, {"moved", 12}, {"copies", 48},
                            {"nodes", {{{"short", "aaaa"}, {"now", 12}, {"next", 0}, {"loses", 12}}}}}};
  Json rest = moving("", true, Json::array()), next = moving("join", false, Json::array()), lost = rest;
  rest["outcome"] = next["outcome"] = "taken back";
  next["ring"] = 9;
  lost["outcome"] = "unknown";
  for (const Json& now : {rest, next, lost}) {
    answers_["movement"] = {moving("leave", false, Json::array()), now};
    const Output output = run({"leave", "aaaa"});
    EXPECT_EQ(output.code, kExitFailed) << now;
    EXPECT_THAT(output.out, ::testing::Not(HasSubstr("safe to power off"))) << now;
    EXPECT_THAT(output.err, HasSubstr(now == lost ? "starling ring" : "was taken back")) << now;
  }
}

TEST_F(AdminCliTest, ANodeOfAnEarlierProgramDoesNotSayWhatCameOfAChange) {
  answers_["weight"] = {Json{{"ring", 7}, {"change", "weight"}, {"dry_run", false}}};
  Json rest = moving("", true, Json::array());
  rest.erase("outcome");
  answers_["movement"] = {rest};
  const Output output = run({"weight", "aaaa", "200"});
  EXPECT_EQ(output.code, kExitOk) << output.err;
  EXPECT_THAT(output.out, ::testing::EndsWith("done\n"));
}

TEST_F(AdminCliTest, ADryRunAndNoWaitFollowNothing) {
  answers_["remove"] = {Json{{"ring", 7}, {"dry_run", true}}};
  EXPECT_THAT(run({"remove", "aaaa", "--dry-run"}).out, HasSubstr("Nothing was changed"));
  answers_["weight"] = {Json{{"ring", 7}, {"dry_run", false}}};
  EXPECT_EQ(run({"weight", "aaaa", "200", "--no-wait"}).code, kExitOk);
  EXPECT_EQ(calls_[1], R"(weight {"dry_run":false,"nodes":["aaaa"],"weight":200})");
  EXPECT_EQ(calls_.size(), 2U);
  EXPECT_EQ(run({"remove"}).code, kExitUsage);
  EXPECT_EQ(run({"weight", "aaaa"}).code, kExitUsage);
}

TEST_F(AdminCliTest, AForcedRemovalSaysWhatIsLost) {
  answers_["remove"] = {Json{{"ring", 9}, {"lineage", "00ff"}, {"forced", true}, {"lost", "4 partitions"}}};
  const Output output = run({"remove", "aaaa", "bbbb", "--force"});
  EXPECT_EQ(calls_[0], R"(remove {"force":true,"nodes":["aaaa","bbbb"]})");
  EXPECT_THAT(output.out, HasSubstr("lineage 00ff, ring 9"));
  EXPECT_THAT(output.out, HasSubstr("is lost: 4 partitions"));
}

TEST_F(AdminCliTest, ADryRunOfAForcedRemovalSaysWhatWouldBeLost) {
  answers_["remove"] = {Json{{"dry_run", true}, {"ring", 8}, {"forced", true}, {"lost", "4 partitions"},
                             {"site", {{"taken_over", 2048}, {"newest_ms", 0}}}}};
  const Output output = run({"remove", "aaaa", "--force", "--dry-run"});
  EXPECT_EQ(calls_[0], R"(remove {"dry_run":true,"force":true,"nodes":["aaaa"]})");
  EXPECT_EQ(output.code, kExitOk) << output.err;
  EXPECT_THAT(output.out, HasSubstr("would be lost: 4 partitions"));
  EXPECT_THAT(output.out, HasSubstr("Of 2,048 partitions the home is lost"));
  EXPECT_THAT(output.out, ::testing::EndsWith("Nothing was changed.\n"));
}

TEST_F(AdminCliTest, TheLossOfASiteSaysWhatIsAtHomeNowAndHowFarItCame) {
  answers_["remove"] = {Json{{"ring", 9}, {"lineage", "00ff"}, {"forced", true}, {"lost", "4 partitions"},
                             {"site", {{"taken_over", 2048}, {"newest_ms", 1'700'000'000'000}}}}};
  const Output output = run({"remove", "--zone", "east", "--force"});
  EXPECT_EQ(calls_[0], R"(remove {"force":true,"zone":"east"})");
  EXPECT_THAT(output.out, HasSubstr("Of 2,048 partitions the home was lost"));
  EXPECT_THAT(output.out, HasSubstr("2023-11-14"));
  EXPECT_THAT(output.out, HasSubstr("is late, not lost"));
  EXPECT_EQ(run({"remove", "aaaa", "--zone", "east"}).code, kExitUsage);
}

TEST_F(AdminCliTest, APolicyOfSitesIsShownSetAndEnded) {
  answers_["sites"] = {Json{{"policy", {{"home", 2}, {"away", 1}, {"only", ""}}},
                            {"in_force", true},
                            {"home_copies", 2},
                            {"away_copies", 1},
                            {"zones", {{{"zone", "east"}, {"nodes", 3}, {"home_of", 2048}}}}},
                       Json{{"ring", 7}, {"dry_run", true}}, Json{{"ring", 7}, {"dry_run", true}}};
  EXPECT_THAT(run({"sites"}).out, HasSubstr("2 copies at home, 1 away"));
  EXPECT_THAT(run({"sites", "3+2", "--home-site", "east", "--dry-run"}).out, HasSubstr("Nothing was changed"));
  EXPECT_EQ(calls_[1], R"(sites {"away":2,"dry_run":true,"home":3,"only":"east"})");
  EXPECT_EQ(run({"sites", "off", "--dry-run"}).code, kExitOk);
  EXPECT_EQ(calls_[2], R"(sites {"dry_run":true,"off":true})");
  for (const char* wrong : {"2", "2+", "0+1", "1+0", "4+4", "2+1+1", "a+b"}) {
    EXPECT_EQ(run({"sites", wrong}).code, kExitUsage) << wrong;
  }
  EXPECT_EQ(calls_.size(), 3U);
}

TEST_F(AdminCliTest, WhatIsNotKnownOfASiteIsNotToldAsZero) {
  answers_["sites"] = {Json{{"policy", {{"home", 2}, {"away", 1}, {"only", ""}}},
                            {"in_force", true},
                            {"away_copies", 1},
                            {"zones",
                             {{{"zone", "east"}, {"nodes", 3}, {"behind", {{"changes", 0}, {"ms", 0}}}},
                              {{"zone", "west"}, {"nodes", 3}, {"behind", {{"changes", nullptr}, {"ms", nullptr}}}}}}}};
  const Output output = run({"sites"});
  EXPECT_EQ(output.code, kExitOk) << output.err;
  EXPECT_THAT(output.out, ::testing::ContainsRegex("east.*0 changes"));
  EXPECT_THAT(output.out, ::testing::ContainsRegex("west.*- +-"));
  EXPECT_THAT(output.out, HasSubstr("-: not known."));
}

TEST_F(AdminCliTest, DrainEndsWithTheLastSession) {
  const auto with = [](int sessions) { return Json{{"node", {{"sessions", sessions}}}}; };
  answers_["drain"] = {Json{{"sessions", 40}}};
  answers_["status"] = {with(40), with(3), with(0)};
  EXPECT_THAT(run({"drain"}).out, HasSubstr("No sessions are left here."));
  EXPECT_EQ(calls_.size(), 4U);
}

TEST(MoveStep, TellsPartitionsBytesRateAndTimeOfThoseWhoFetch) {
  Json movement = moving("join", false, Json::array());
  movement["nodes"].push_back({{"short", "cccc"}, {"state", "serving"}, {"answered", true}, {"gains", 10},
                               {"installed", true}, {"changes", 1000}, {"bytes", 1 << 20}});
  const MoveStep step = move_step(movement, Json::object());
  EXPECT_EQ(step.text, "fetching: 15 of 30 partitions, 4.0 MiB of about 13 MiB, 1.0 MiB/s");
  EXPECT_DOUBLE_EQ(step.share, 0.5 * 2000 / 5000);
  EXPECT_EQ(step.seconds_left, 9u);
  EXPECT_TRUE(step.open);
}

TEST(MoveStep, AnOlderNodeTellsOfPartitionsAlone) {
  const Json node{{"state", "serving"}, {"answered", true}, {"gains", 20}, {"installed", false}, {"missing", 7}};
  const MoveStep step = move_step({{"change", "join"}, {"nodes", {node}}}, Json::object());
  EXPECT_EQ(step.text, "fetching: 0 of 20 partitions");
  EXPECT_FALSE(step.seconds_left);
}

TEST_F(AdminCliTest, PauseResumeAndThrottleSayWhatHoldsAndWhoWasTold) {
  answers_["pause"] = {Json{{"paused", true}, {"change", true}, {"taken", {"aaaa", "bbbb"}}, {"away", {"cccc"}}}};
  const Output paused = run({"pause"});
  EXPECT_EQ(paused.code, kExitOk);
  EXPECT_THAT(paused.out, HasSubstr("The change of the ring under way copies nothing more."));
  EXPECT_THAT(paused.out, HasSubstr("Told 2 nodes. Away: cccc; told when back."));
  answers_["resume"] = {Json{{"paused", false}, {"change", false}, {"taken", {"aaaa"}}, {"away", Json::array()}}};
  EXPECT_THAT(run({"resume"}).out, HasSubstr("Told 1 node.\n"));
  answers_["throttle"] = {Json{{"rate_limit", 20 << 20}}};
  for (const auto& [rate, bytes] : std::map<std::string, std::string>{
           {"20M", "20971520"}, {"20MiB", "20971520"}, {"512k", "524288"}, {"1000000", "1000000"}, {"off", "0"}}) {
    EXPECT_THAT(run({"throttle", rate}).out, HasSubstr("at most 20 MiB/s"));
    EXPECT_EQ(calls_.back(), "throttle {\"rate\":" + bytes + "}");
  }
  run({"throttle"});
  EXPECT_EQ(calls_.back(), "throttle {}");
  for (const char* wrong : {"fast", "-1", "0", "5 apples", "99999999999999G"}) {
    EXPECT_EQ(run({"throttle", wrong}).code, kExitUsage) << wrong;
  }
}

TEST_F(AdminCliTest, AUserThatIsThereWithThePasswordAskedForIsWhatWasAskedFor) {
  answers_["user.add"] = {Json{{"results", {{{"name", "@a"}, {"created", false}, {"existed", true}}}}}};
  const Output output = run({"user", "add", "a", "--password", "secret"});
  EXPECT_EQ(output.code, kExitOk);
  EXPECT_EQ(output.out, "@a is there already, with this password\n");
}

TEST_F(AdminCliTest, OfAnUnclearAnswerTheGeneratedPasswordIsToldAllTheSame) {
  const Json unclear{{"name", "@a"}, {"created", false}, {"error", {{"code", 10}, {"text", "no answer"}}}};
  answers_["user.add"] = {Json{{"results", {unclear}}}};
  const Output output = run({"user", "add", "a", "--generate"});
  EXPECT_NE(output.code, kExitOk);
  EXPECT_THAT(output.out, ::testing::StartsWith("@a, if it was created all the same, has the password "));
}

TEST_F(AdminCliTest, StatusTellsOfAPauseAndOfWhatIsLeftOut) {
  answers_["status"] = {Json{{"cluster", {{"movement", {{"paused", true}}}}},
                             {"node", {{"short", "aaaa"}, {"state", "serving"}, {"left_out", "typing, presence"}}},
                             {"members", {{{"short", "bbbb"}, {"state", "alive"}, {"ring_state", "serving"},
                                           {"draining", true}, {"reachable", true}}}}}};
  const Output output = run({"status"});
  EXPECT_THAT(output.out, HasSubstr("Paused: changes of the ring copy no data until `starling resume`"));
  EXPECT_THAT(output.out, HasSubstr("Overloaded: it leaves out typing, presence"));
  EXPECT_THAT(output.out, HasSubstr("bbbb  drained"));
}

TEST_F(AdminCliTest, RingDiffTellsWhatAChangeWaitsFor) {
  Json open = moving("join", false, Json::array());
  open["waits_for"] = "node dddd, which joins, is away";
  answers_["movement"] = {open};
  const Output output = run({"ring", "--diff"});
  EXPECT_THAT(output.out, HasSubstr("Ring 7: a change is under way: join\nIt waits: node dddd"));
  EXPECT_THAT(output.out, HasSubstr("3.0 MiB  9.0 MiB  1.0 MiB/s"));
}

}  // namespace
}  // namespace starling::node::cli
