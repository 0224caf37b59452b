// Bad input of clients: each is refused with a typed error, nothing is stored in part, and the node
// goes on serving others. Peers of the link and gossip ports are in bad_peer_test.cc, what an
// operator may get wrong in bad_start_test.cc.
#include <gtest/gtest.h>

#include "crypto/init.h"
#include "crypto/token.h"
#include "tests/sim/cluster.h"
#include "tests/sim/raw_peer.h"
#include "tests/sim/store_export.h"

namespace starling::sim {
namespace {

using namespace node::protocol;

template <class T>
::testing::AssertionResult refused(const Result<T>& result, Errc code) {
  if (result.ok()) return ::testing::AssertionFailure() << "was accepted";
  if (result.code() == code && !result.error().text.empty()) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure()
         << name(result.code()) << " (" << result.error().text << "), not " << name(code);
}

// One node; alice, bob and mallory, and #ops of the first two; one message from alice to bob.
class BadInput : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_TRUE(crypto_init()); }

  void SetUp() override {
    const auto formed = cluster.form();
    ASSERT_TRUE(formed) << formed.error().text;
    Json users = Json::array();
    for (const char* user : {"@alice", "@bob", "@mallory", "@gone"}) {
      users.push_back({{"name", user}, {"password", std::string("secret of ") + user}});
    }
    ASSERT_TRUE(cluster.admin(0, "user.add", {{"users", users}}));
    ASSERT_TRUE(cluster.admin(0, "group.create", {{"group", "#ops"}, {"owner", "@alice"}}));
    ASSERT_TRUE(cluster.admin(0, "group.add", {{"group", "#ops"}, {"members", {"@bob"}}}));
    gone_token = token("@gone", "phone");
    ASSERT_TRUE(cluster.admin(0, "user.disable", {{"name", "@gone"}, {"disabled", true}}));
    auto alice = client();
    ASSERT_TRUE(alice->log_in("@alice", "phone", "secret of @alice"));
    const auto said = alice->say("@bob", 1, "first");
    ASSERT_TRUE(said) << said.error().text;
    first_id = said->id;
    alice.reset();
    before = stored();
  }

  std::unique_ptr<RawClient> client() {
    return std::make_unique<RawClient>(world, cluster.network(), cluster.client_address(0));
  }
  std::unique_ptr<RawClient> alice() {
    auto out = client();
    EXPECT_TRUE(out->log_in("@alice", "phone", "secret of @alice"));
    return out;
  }
  std::string token(const std::string& user, const std::string& device, int seconds = 3600) {
    const auto issued = cluster.admin(
        0, "token", {{"user", user}, {"device", device}, {"expires_s", seconds}});
    return issued ? issued->at("token").get<std::string>() : "";
  }
  // Stops the node for a moment and reads its store.
  std::map<PartitionId, Bytes> stored() {
    std::map<PartitionId, Bytes> out;
    EXPECT_TRUE(cluster.stop(0));
    const auto exported = export_store(cluster.disk(0), "/n0", 16);
    EXPECT_TRUE(exported);
    for (const auto& [partition, content] : exported->partitions) {
      if (!content.canonical.empty()) out[partition] = content.canonical;
    }
    EXPECT_TRUE(cluster.restart(0));
    EXPECT_TRUE(world.run_until([&] { return cluster.node(0).serving(); }, 60s));
    return out;
  }
  // A good client is served: alice writes, bob has it.
  void expect_served() {
    auto sender = client();
    ASSERT_TRUE(sender->log_in("@alice", "laptop", "secret of @alice"));
    const auto said = sender->say("@bob", ++laptop_seq, "still there?");
    ASSERT_TRUE(said) << said.error().text;
    auto bob = client();
    ASSERT_TRUE(bob->log_in("@bob", "phone", "secret of @bob"));
    ASSERT_TRUE(bob->ask(Sync{}));
    EXPECT_EQ(bob->count(Type::kEntry), 1 + laptop_seq);
  }
  void expect_untouched_and_served() {
    EXPECT_EQ(cluster.fatal_errors(), 0u);
    EXPECT_TRUE(cluster.up(0));
    EXPECT_TRUE(stored() == before) << "something was stored";
    expect_served();
  }
  // A login that is refused also ends the connection.
  Result<LoggedIn> refused_login(const std::string& user, const std::string& device,
                                 const std::string& password, const std::string& shown = "") {
    auto out = client();
    auto result = out->log_in(user, device, password, shown);
    EXPECT_TRUE(out->stream().wait_closed(1s));
    return result;
  }

  World world{31};
  SimCluster cluster{world, ClusterOptions{.nodes = 1}};
  std::map<PartitionId, Bytes> before;
  std::string first_id;
  std::string gone_token;
  std::uint64_t laptop_seq = 0;
};

// Bodies that are no message, whatever the state of the connection.
std::vector<std::pair<std::string, Bytes>> malformed() {
  const Bytes login = pack(Login{});
  return {
      {"empty", ""},
      {"no array", "\x07"},
      {"nil", "\xc0"},
      {"never used byte", "\xc1"},
      {"cut short", login.substr(0, login.size() - 1)},
      {"trailing byte", login + "\x01"},
      {"nested 10,000 deep", Bytes(10'000, '\x91').substr(0, 8000)},
      {"array of 2^32-1", Bytes("\xdd\xff\xff\xff\xff", 5)},
      {"map of 2^32-1", Bytes("\xdf\xff\xff\xff\xff", 5)},
      {"bin of 2^32-1", Bytes("\x93\x03\x01\xc6\xff\xff\xff\xff", 8)},
      {"str of 2^32-1", Bytes("\x93\x03\x01\xdb\xff\xff\xff\xff", 8)},
      {"ext", Bytes("\x93\x03\x01\xd4\x01\x00", 6)},
      {"ext of 2^32-1", Bytes("\x93\x03\x01\xc9\xff\xff\xff\xff\x01", 9)},
      {"a timestamp", Bytes("\x93\x03\x01\xd6\xff\x00\x00\x00\x00", 9)},
      {"type as text", "\x92\xa1s\x01"},
      {"type over a byte", Bytes("\x92\xcd\x01\x2c\x01", 5)},
      {"negative type", "\x92\xff\x01"},
      {"request as text", "\x92\x03\xa1s"},
      {"negative request", "\x92\x03\xff"},
      {"request as float", Bytes("\x92\x03\xca\x3f\x80\x00\x00", 7)},
      {"a map for the array", "\x82\x00\x03\x01\x01"},
  };
}

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

TEST_F(BadInput, MalformedBodiesAreCorruptBeforeAndAfterALogin) {
  for (const auto& [what, body] : malformed()) {
    for (const bool in : {false, true}) {
      auto one = in ? alice() : client();
      one->send_body(body);
      EXPECT_TRUE(refused(one->answer(0), Errc::kCorrupt)) << what << (in ? " after" : " before");
      EXPECT_TRUE(one->stream().wait_closed(1s)) << what;
    }
  }
  auto deep = alice();
  deep->send_body(Bytes(10'000, '\x91'));
  EXPECT_TRUE(refused(deep->answer(0), Errc::kCorrupt));
  EXPECT_TRUE(deep->stream().wait_closed(1s));
  expect_untouched_and_served();
}

// Each field of each request in turn as an array of arrays, which no field is.
TEST_F(BadInput, FieldsOfAWrongTypeAreCorrupt) {
  const std::vector<std::pair<Type, int>> requests = {
      {Type::kLogin, 9},       {Type::kSync, 4},         {Type::kSend, 10},
      {Type::kHistory, 5},     {Type::kLane, 3},         {Type::kGroupCreate, 6},
      {Type::kGroupAdd, 6},    {Type::kGroupRemove, 6},  {Type::kGroupMembers, 6},
      {Type::kGroups, 6},      {Type::kPassword, 4}};
  for (const auto& [type, fields] : requests) {
    auto one = type == Type::kLogin ? client() : alice();
    Bytes body;
    body += static_cast<char>(0x90 | fields);
    body += static_cast<char>(type);
    body += '\x09';
    for (int i = 2; i < fields; ++i) body += "\x91\x91\xc0";
    one->send_body(body);
    EXPECT_TRUE(one->stream().wait_closed(1s)) << static_cast<int>(type);
    // It may name the request or, as the body was not read, none.
    const auto error = unpack<ErrorMessage>(one->bodies().back());
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code, static_cast<int>(Errc::kCorrupt)) << static_cast<int>(type);
  }
  expect_untouched_and_served();
}

// Absent fields count as empty, so these are requests, only for nothing.
TEST_F(BadInput, MessagesWithoutFieldsAreRefused) {
  for (const char* body : {"\x90", "\x91\x01", "\x91\x03", "\x91\x04", "\x91\x05", "\x91\x06",
                           "\x91\x07", "\x91\x0c"}) {
    auto one = alice();
    one->send_body(body);
    EXPECT_FALSE(one->answer(0));
    EXPECT_EQ(one->count(Type::kError), 1u) << hex(body);
  }
  expect_untouched_and_served();
}

TEST_F(BadInput, AnUnknownMessageTypeIsUnsupportedAndNoMore) {
  auto one = alice();
  for (const int type : {0, 14, 64, 65, 68, 79, 127, 128, 255}) {
    one->send_body(pack(Head{static_cast<std::uint8_t>(type), 1000}));
    const auto answer = one->answer(1000);
    EXPECT_TRUE(refused(answer, Errc::kUnsupported)) << type;
  }
  EXPECT_TRUE(one->ask(Sync{}));
  expect_untouched_and_served();
}

TEST_F(BadInput, AFrameOverTheLimitIsRefusedAtItsHeader) {
  const auto header = [](std::uint32_t size) {
    Bytes out;
    BytesWriter(out).u32le(size);
    return out;
  };
  for (const std::uint32_t size : {std::uint32_t{kLoginFrameSizeMax} + 1, 1u << 20, 1u << 31,
                                   0xffffffffu}) {
    auto one = client();
    one->stream().send(header(size));
    EXPECT_TRUE(refused(one->answer(0), Errc::kTooLarge)) << size;
    EXPECT_TRUE(one->stream().wait_closed(1s));
  }
  for (const std::uint32_t size : {std::uint32_t{kFrameSizeMax} + 1, 1u << 31, 0xffffffffu}) {
    auto one = alice();
    one->stream().send(header(size));
    EXPECT_TRUE(refused(one->answer(0), Errc::kTooLarge)) << size;
    EXPECT_TRUE(one->stream().wait_closed(1s));
  }
  // The limit itself is allowed, and a header that never gets its body ends with the deadline.
  auto one = client();
  Login login;
  login.client = std::string(kLoginFrameSizeMax - 200, 'c');
  login.user = "@alice";
  login.device = "phone";
  login.password = "secret of @alice";
  EXPECT_TRUE(one->ask(login));
  auto slow = client();
  slow->stream().send(header(100) + "abc");
  EXPECT_TRUE(slow->stream().wait_closed(20s));
  expect_untouched_and_served();
}

TEST_F(BadInput, SendsAreRefusedAndStoreNothing) {
  auto one = alice();
  const auto ask = [&](const std::string& to, std::uint64_t seq, auto change) {
    Send send;
    send.to = to;
    send.seq = seq;
    send.body.data = "text";
    change(send);
    return one->ask(send);
  };
  const auto plain = [](Send&) {};
  EXPECT_TRUE(refused(ask("@nobody", 1, plain), Errc::kNotFound));
  EXPECT_TRUE(refused(ask("#nothing", 1, plain), Errc::kNotFound));
  EXPECT_TRUE(refused(ask("@gone", 1, plain), Errc::kDenied));
  for (const char* to : {"", "bob", "@", "#", "@a b", "@\xff", "@\xe2\x80\xae" "evil"}) {
    EXPECT_TRUE(refused(ask(to, 1, plain), Errc::kInvalid)) << to;
  }
  EXPECT_TRUE(refused(ask("@" + std::string(65, 'b'), 1, plain), Errc::kInvalid));
  EXPECT_TRUE(refused(
      ask("@bob", 2, [](Send& s) { s.body.data.assign(storage::kBodySizeMax + 1, 'x'); }),
      Errc::kTooLarge));
  EXPECT_TRUE(refused(ask("@bob", 0, plain), Errc::kInvalid));
  EXPECT_TRUE(refused(ask("@bob", 2, [](Send& s) { s.grade = 4; }), Errc::kInvalid));
  for (const int content : {0, 3, 255}) {
    const auto set = [content](Send& s) { s.content = static_cast<std::uint8_t>(content); };
    EXPECT_TRUE(refused(ask("@bob", 2, set), Errc::kInvalid)) << content;
  }
  for (const char* floor : {"x", "!!!!!!!!!!!!!!!!!!!!!!!!!!", "ZZZZZZZZZZZZZZZZZZZZZZZZZZ",
                            "00000000000000000000000000000"}) {
    const auto with_floor = [&](Send& s) { s.floor = floor; };
    EXPECT_TRUE(refused(ask("@bob", 2, with_floor), Errc::kInvalid)) << floor;
  }
  const auto minutes_ahead = [&](Send& s) {
    s.floor = to_text(EntryId{hlc_at(static_cast<std::uint64_t>(world.wall_ms()) + 60'000),
                              WriterId{1}});
  };
  EXPECT_TRUE(refused(ask("@bob", 2, minutes_ahead), Errc::kClock));
  EXPECT_TRUE(refused(
      ask("@bob", 2, [](Send& s) { s.floor = to_text(EntryId{~Hlc{0}, WriterId{~0ull}}); }),
      Errc::kClock));
  EXPECT_TRUE(refused(ask("@bob", 9, plain), Errc::kLaneGap));
  EXPECT_TRUE(refused(ask("@bob", ~0ull, plain), Errc::kLaneGap));
  EXPECT_TRUE(refused(ask("@bob", 1, plain), Errc::kSequenceReused));
  EXPECT_TRUE(refused(ask("@bob", 1, [](Send& s) { s.flags = kSendRetry; }),
                      Errc::kSequenceReused));
  // The same once more is no new message.
  const auto again = one->say("@bob", 1, "first");
  ASSERT_TRUE(again) << again.error().text;
  EXPECT_EQ(again->id, first_id);

  one = client();
  ASSERT_TRUE(one->log_in("@mallory", "phone", "secret of @mallory"));
  EXPECT_TRUE(refused(ask("#ops", 1, plain), Errc::kDenied));
  expect_untouched_and_served();
}

// Whatever a client says it has acknowledged, a number that skips others may not fill the lane.
TEST_F(BadInput, AcknowledgementsThatCannotBeTrueOpenNoGap) {
  auto one = alice();
  Send send;
  send.to = "@bob";
  send.seq = ~0ull;
  send.acked = ~0ull;
  send.body.data = "text";
  EXPECT_TRUE(refused(one->ask(send), Errc::kInvalid));
  send.acked = 0;
  EXPECT_TRUE(refused(one->ask(send), Errc::kLaneGap));
  expect_untouched_and_served();
}

TEST_F(BadInput, ReadsAndGroupsAreRefusedWithTheirReason) {
  auto one = alice();
  Sync sync;
  sync.lineage.raw[3] = 0xee;
  EXPECT_TRUE(refused(one->ask(sync), Errc::kReset));
  EXPECT_TRUE(one->ask(Sync{}));
  EXPECT_TRUE(refused(one->ask(Sync{}), Errc::kInvalid));
  const auto history = [&](const std::string& with, const std::string& from) {
    HistoryRequest request;
    request.with = with;
    request.before = from;
    request.limit = ~0u;
    return one->ask(request);
  };
  EXPECT_TRUE(history("@bob", ""));
  EXPECT_TRUE(refused(history("bob", ""), Errc::kInvalid));
  EXPECT_TRUE(refused(history("@bob", "x"), Errc::kInvalid));
  EXPECT_TRUE(refused(history("#nothing", ""), Errc::kDenied));
  LaneRequest lane;
  lane.to = "bob";
  EXPECT_TRUE(refused(one->ask(lane), Errc::kInvalid));

  const auto group = [&](Type type, const std::string& name, const std::string& user = "",
                         std::uint8_t role = 0) {
    GroupRequest request;
    request.type = static_cast<std::uint8_t>(type);
    request.group = name;
    request.user = user;
    request.role = role;
    return one->ask(request);
  };
  const std::string long_name = "#" + std::string(65, 'g');
  EXPECT_TRUE(refused(group(Type::kGroupCreate, "#ops"), Errc::kExists));
  EXPECT_TRUE(refused(group(Type::kGroupCreate, "@alice2"), Errc::kInvalid));
  EXPECT_TRUE(refused(group(Type::kGroupCreate, long_name), Errc::kInvalid));
  EXPECT_TRUE(refused(group(Type::kGroupCreate, ""), Errc::kInvalid));
  EXPECT_TRUE(refused(group(Type::kGroupAdd, "#ops", "@mallory", 3), Errc::kInvalid));
  EXPECT_TRUE(refused(group(Type::kGroupAdd, "#ops", "@mallory", 255), Errc::kInvalid));
  EXPECT_TRUE(refused(group(Type::kGroupAdd, "#ops", "@nobody"), Errc::kNotFound));
  EXPECT_TRUE(refused(group(Type::kGroupAdd, "#ops", "#ops"), Errc::kInvalid));
  EXPECT_TRUE(refused(group(Type::kGroupAdd, "#nothing", "@bob"), Errc::kNotFound));
  EXPECT_TRUE(refused(group(Type::kGroupRemove, long_name, "@bob"), Errc::kInvalid));
  EXPECT_TRUE(refused(group(Type::kGroupMembers, "#nothing"), Errc::kNotFound));
  PasswordChange password;
  password.old_password = "wrong";
  password.new_password = "a new secret";
  EXPECT_TRUE(refused(one->ask(password), Errc::kUnauthenticated));
  password.old_password = "secret of @alice";
  password.new_password = "";
  EXPECT_TRUE(refused(one->ask(password), Errc::kInvalid));
  password.new_password = std::string(100'000, 'p');
  EXPECT_FALSE(one->ask(password));

  one = client();
  ASSERT_TRUE(one->log_in("@mallory", "phone", "secret of @mallory"));
  ASSERT_TRUE(one->ask(Sync{}));
  EXPECT_TRUE(refused(history("#ops", ""), Errc::kDenied));
  EXPECT_TRUE(refused(group(Type::kGroupMembers, "#ops"), Errc::kDenied));
  EXPECT_TRUE(refused(group(Type::kGroupAdd, "#ops", "@mallory"), Errc::kDenied));
  EXPECT_TRUE(refused(group(Type::kGroupRemove, "#ops", "@bob"), Errc::kDenied));
  EXPECT_TRUE(refused(group(Type::kGroupRemove, "#ops", "@mallory"), Errc::kDenied));
  expect_untouched_and_served();
}

// A cursor may say anything: it is the device that then misses messages, nobody else.
TEST_F(BadInput, CursorsOfUnknownWritersHarmNobody) {
  auto one = client();
  ASSERT_TRUE(one->log_in("@bob", "tablet", "secret of @bob"));
  Sync sync;
  for (const char* address : {"@bob", "@alice", "", "#ops", "nonsense"}) {
    Sync::Mailbox mailbox{address, {}};
    for (std::uint64_t writer = 1; writer < 500; ++writer) {
      mailbox.cursor.raise(WriterId{writer * 0x9e3779b97f4a7c15}, ~0ull - writer);
    }
    sync.mailboxes.push_back(std::move(mailbox));
  }
  EXPECT_TRUE(one->ask(sync));
  EXPECT_EQ(one->count(Type::kEntry), 1u);
  expect_untouched_and_served();
}

TEST_F(BadInput, RequestsOverTheLimitAreOverloadedAndTheOthersAcknowledged) {
  constexpr std::size_t kInFlight = 1024;  // kRequestsPerSessionMax
  constexpr std::size_t kSends = kInFlight + 76;
  auto one = alice();
  cluster.disk(0).hold(true);
  Bytes all;
  for (std::size_t i = 0; i < kSends; ++i) {
    Send send;
    send.request = 10'000 + i;
    send.to = "@bob";
    send.seq = 2 + i;
    send.acked = 1;
    send.body.data = "text";
    all += frame(send);
  }
  one->stream().send(all);
  std::size_t overloaded = 0;
  const auto refusals = [&] {
    overloaded = one->count(Type::kError);
    return overloaded >= kSends - kInFlight;
  };
  EXPECT_TRUE(world.run_until(refusals, 2s)) << overloaded;
  for (const auto& body : one->bodies()) {
    const auto error = unpack<ErrorMessage>(body);
    if (!error || static_cast<Type>(error->type) != Type::kError) continue;
    EXPECT_EQ(error->code, static_cast<int>(Errc::kOverloaded)) << error->text;
    EXPECT_GE(error->request, 10'000 + kInFlight);
    EXPECT_GT(error->retry_after_ms, 0u);
  }
  cluster.disk(0).hold(false);
  world.run_for(5s);
  EXPECT_EQ(one->count(Type::kAck), kInFlight);
  EXPECT_EQ(one->count(Type::kError), kSends - kInFlight);
  const auto next = one->say("@bob", 2 + kInFlight, "the first that was refused");
  EXPECT_TRUE(next) << next.error().text;
}

TEST_F(BadInput, AReaderThatStopsIsOwedLittle) {
  constexpr std::size_t kMessages = 150;
  constexpr std::size_t kSize = 60 << 10;
  auto bob = client();
  ASSERT_TRUE(bob->log_in("@bob", "phone", "secret of @bob"));
  ASSERT_TRUE(bob->ask(Sync{}));
  bob->stream().pause();
  auto one = alice();
  const auto delivered = [&] {
    const auto status = cluster.admin(0, "status", Json::object());
    return status->at("rates").at("deliveries").get<std::uint64_t>();
  };
  const auto at_first = delivered();
  for (std::size_t i = 0; i < kMessages; ++i) {
    ASSERT_TRUE(one->say("@bob", 2 + i, std::string(kSize, static_cast<char>('a' + i % 26))));
  }
  world.run_for(5s);
  const std::size_t owed = (delivered() - at_first) * kSize;
  // The window of the stream, the door's limit, and one read that was under way when it filled.
  EXPECT_LE(owed, SimNetwork::kWindow + (std::size_t{1} << 20) + (std::size_t{1} << 20));
  EXPECT_GE(owed, std::size_t{1} << 20);
  EXPECT_TRUE(one->say("@mallory", 1, "others are served meanwhile"));
  bob->stream().resume();
  world.run_for(10s);
  EXPECT_EQ(bob->count(Type::kEntry), 1 + kMessages);
}

// Who asks and does not read is not read any more.
TEST_F(BadInput, AnAskerThatDoesNotReadIsNotReadEither) {
  for (const bool in : {false, true}) {
    auto one = in ? alice() : client();
    one->stream().pause();
    Bytes pings;
    for (std::uint64_t i = 0; i < 20'000; ++i) {
      pings += frame(Head{static_cast<std::uint8_t>(Type::kPing), (1ull << 40) + i});
    }
    for (int i = 0; i < 10; ++i) one->stream().send(pings);  // 3 MB
    world.run_for(5s);
    EXPECT_GT(one->stream().queued(), std::size_t{1} << 20);
    if (!in) continue;
    one->stream().resume();
    EXPECT_TRUE(world.run_until([&] { return one->bodies().size() >= 200'000; }, 5s));
  }
  expect_untouched_and_served();
}

// Good frames with a few bytes changed: whatever they say then, the node answers and goes on.
TEST_F(BadInput, DamagedFramesNeverHarmTheNode) {
  SeededRandom random(99);
  Login login;
  login.request = 1;
  login.user = "@alice";
  login.device = "phone";
  login.token = token("@alice", "phone");
  Send send;
  send.request = 2;
  send.to = "@bob";
  send.seq = 2;
  send.floor = first_id;
  send.body.data = "text";
  Sync sync;
  sync.request = 3;
  sync.mailboxes.push_back({"@alice", {}});
  HistoryRequest history;
  history.request = 4;
  history.with = "@bob";
  GroupRequest members;
  members.type = static_cast<std::uint8_t>(Type::kGroupMembers);
  members.request = 5;
  members.group = "#ops";
  const std::vector<Bytes> good = {frame(send), frame(sync), frame(history), frame(members)};
  for (int round = 0; round < 300; ++round) {
    auto one = client();
    if (round % 4 == 0) {
      one->stream().send(mutated(frame(login), random));
    } else {
      one->stream().send(frame(login));
      ASSERT_TRUE(one->answer(1));
      one->stream().send(mutated(good[random.below(good.size())], random));
    }
    world.run_for(20ms);
  }
  for (int round = 0; round < 100; ++round) {
    auto one = client();
    one->stream().send(random_bytes(1 + random.below(20'000), random));
    world.run_for(5ms);
  }
  world.run_for(30s);
  EXPECT_EQ(cluster.fatal_errors(), 0u);
  auto bob = client();
  ASSERT_TRUE(bob->log_in("@bob", "phone", "secret of @bob"));
  EXPECT_TRUE(bob->ask(Sync{}));
}

}  // namespace
}  // namespace starling::sim
