// Bad input of clients: logins, tokens, versions. bad_input.h says what each case promises.
#include "tests/sim/bad_input/bad_input.h"

#include <nlohmann/json.hpp>

namespace starling::sim {
namespace {

using namespace node::protocol;

TEST_F(BadInput, LoginsAreRefusedWithTheirReason) {
  const std::string good = token("@alice", "phone");
  const std::string soon = token("@alice", "phone", 1);
  SeededRandom random(7);
  const Identity stranger = Identity::generate(random);
  TokenClaims claims{"@alice", "phone", 1, world.wall_ms(), world.wall_ms() + 1'000'000};
  const auto forged = issue_token(stranger, claims);
  ASSERT_TRUE(forged);
  std::string bent = good;
  bent[bent.size() / 2] = bent[bent.size() / 2] == 'a' ? 'b' : 'a';
  world.run_for(2s);

  EXPECT_TRUE(refused(refused_login("@alice", "phone", "wrong"), Errc::kUnauthenticated));
  EXPECT_TRUE(refused(refused_login("@alice", "phone", ""), Errc::kUnauthenticated));
  EXPECT_TRUE(refused(refused_login("@alice", "phone", "", "garbage"), Errc::kUnauthenticated));
  EXPECT_TRUE(refused(refused_login("@alice", "phone", "", bent), Errc::kUnauthenticated));
  EXPECT_TRUE(refused(refused_login("@alice", "phone", "", std::string(7000, 'v')),
                      Errc::kUnauthenticated));
  EXPECT_TRUE(refused(refused_login("@alice", "phone", "", soon), Errc::kUnauthenticated));
  EXPECT_TRUE(refused(refused_login("@bob", "phone", "", good), Errc::kUnauthenticated));
  EXPECT_TRUE(refused(refused_login("@alice", "tablet", "", good), Errc::kUnauthenticated));
  EXPECT_TRUE(refused(refused_login("@alice", "phone", "", *forged), Errc::kUnauthenticated));
  // A wrong token is not made good by a right password.
  EXPECT_TRUE(refused(refused_login("@alice", "phone", "secret of @alice", "garbage"),
                      Errc::kUnauthenticated));
  EXPECT_TRUE(refused(refused_login("@gone", "phone", "secret of @gone"), Errc::kDenied));
  EXPECT_TRUE(refused(refused_login("@gone", "phone", "wrong"), Errc::kUnauthenticated));
  for (const char* user : {"", "alice", "#ops", "@", "@a b", "@\xff", "@\x1b[2J"}) {
    EXPECT_TRUE(refused(refused_login(user, "phone", "x"), Errc::kInvalid)) << user;
  }
  EXPECT_TRUE(refused(refused_login("@" + std::string(65, 'a'), "phone", "x"), Errc::kInvalid));
  EXPECT_TRUE(refused(refused_login("@alice", "", "secret of @alice"), Errc::kInvalid));
  EXPECT_TRUE(refused(refused_login("@alice", std::string(65, 'd'), "secret of @alice"),
                      Errc::kInvalid));
  EXPECT_TRUE(refused(refused_login("@alice", "\xc3\x28", "secret of @alice"), Errc::kInvalid));
  EXPECT_TRUE(refused(refused_login("@alice", "phone", std::string(7000, 'p')),
                      Errc::kUnauthenticated));
  expect_untouched_and_served();
}

TEST_F(BadInput, UnknownUserAndWrongPasswordGetTheSameAnswer) {
  auto one = client();
  auto other = client();
  EXPECT_FALSE(one->log_in("@alice", "phone", "wrong"));
  EXPECT_FALSE(other->log_in("@nobody", "phone", "wrong"));
  ASSERT_EQ(one->bodies().size(), 1u);
  EXPECT_EQ(one->bodies(), other->bodies());
}

TEST_F(BadInput, ATokenOfADisabledAccountIsCutOff) {
  auto gone = client();
  const auto in = gone->log_in("@gone", "phone", "", gone_token);
  if (in) {
    EXPECT_TRUE(refused(gone->answer(0), Errc::kUnauthenticated));
  } else {
    EXPECT_TRUE(refused(in, Errc::kUnauthenticated));
  }
  EXPECT_TRUE(gone->stream().wait_closed(5s));
  expect_untouched_and_served();
}

TEST_F(BadInput, ASessionEndsWhenItsAccountIsDisabled) {
  auto mallory = client();
  ASSERT_TRUE(mallory->log_in("@mallory", "phone", "secret of @mallory"));
  ASSERT_TRUE(mallory->ask(Sync{}));
  ASSERT_TRUE(cluster.admin(0, "user.disable", {{"name", "@mallory"}, {"disabled", true}}));
  EXPECT_TRUE(refused(mallory->answer(0), Errc::kUnauthenticated));
  EXPECT_TRUE(mallory->stream().wait_closed(5s));
  expect_served();
}

TEST_F(BadInput, VersionsThatNobodySpeaksAreNamed) {
  for (const auto& [low, high] : std::vector<std::pair<int, int>>{{7, 9}, {0, 0}}) {
    auto one = client();
    Login login;
    login.version_min = static_cast<std::uint16_t>(low);
    login.version_max = static_cast<std::uint16_t>(high);
    login.user = "@alice";
    login.device = "phone";
    login.password = "secret of @alice";
    const auto answer = one->ask(login);
    EXPECT_TRUE(refused(answer, Errc::kUnsupported));
    EXPECT_NE(answer.error().text.find('1'), std::string::npos) << answer.error().text;
    EXPECT_TRUE(one->stream().wait_closed(1s));
  }
}

TEST_F(BadInput, NothingIsAnsweredBeforeALogin) {
  for (int type = 2; type <= 255; ++type) {
    if (type == static_cast<int>(Type::kPing)) continue;
    auto one = client();
    one->send_body(pack(Head{static_cast<std::uint8_t>(type), 5}));
    EXPECT_TRUE(refused(one->answer(5), Errc::kUnauthenticated)) << type;
    EXPECT_TRUE(one->stream().wait_closed(1s));
    EXPECT_EQ(one->bodies().size(), 1u);
  }
  expect_untouched_and_served();
}

TEST_F(BadInput, ASecondLoginEndsTheConnection) {
  auto one = alice();
  EXPECT_TRUE(refused(one->log_in("@bob", "phone", "secret of @bob"), Errc::kInvalid));
  EXPECT_TRUE(one->stream().wait_closed(1s));
  auto hasty = client();  // Two in one breath.
  Login login;
  login.request = 1;
  login.user = "@alice";
  login.device = "phone";
  login.password = "secret of @alice";
  Bytes two = frame(login);
  login.request = 2;
  two += frame(login);
  hasty->stream().send(two);
  EXPECT_TRUE(refused(hasty->answer(2), Errc::kInvalid));
  EXPECT_TRUE(hasty->stream().wait_closed(1s));
  EXPECT_EQ(hasty->count(Type::kLoggedIn), 0u);
  expect_untouched_and_served();
}

}  // namespace
}  // namespace starling::sim
