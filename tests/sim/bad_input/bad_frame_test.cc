// Bad input of clients: frames that are no message. bad_input.h says what each case promises.
#include "tests/sim/bad_input/bad_input.h"

namespace starling::sim {
namespace {

using namespace node::protocol;

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
  EXPECT_EQ(frames_refused("malformed"), 2 * malformed().size() + 1);
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
  for (const int type : {0, 15, 64, 65, 68, 79, 127, 128, 255}) {
    one->send_body(pack(Head{static_cast<std::uint8_t>(type), 1000}));
    const auto answer = one->answer(1000);
    EXPECT_TRUE(refused(answer, Errc::kUnsupported)) << type;
  }
  EXPECT_EQ(frames_refused("unknown"), 9);
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
  EXPECT_EQ(frames_refused("too_large"), 7);
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
