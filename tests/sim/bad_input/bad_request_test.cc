// Bad input of clients: requests that may not be, and what a node owes who does not read.
// bad_input.h says what each case promises.
#include "tests/sim/bad_input/bad_input.h"

#include <nlohmann/json.hpp>

namespace starling::sim {
namespace {

using namespace node::protocol;

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
  sync.mailboxes.push_back({"@alice", {}});
  sync.mailboxes.back().cursor.raise(WriterId{7}, 1);
  EXPECT_TRUE(refused(one->ask(sync), Errc::kReset, "lineage"));
  sync.mailboxes.clear();
  EXPECT_TRUE(one->ask(sync)) << "who has no cursors has dropped them";
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
  Recall recall;
  recall.to = "bob";
  recall.seq = 1;
  EXPECT_TRUE(refused(one->ask(recall), Errc::kInvalid));
  recall.to = "@bob";
  EXPECT_TRUE(refused(one->ask(recall), Errc::kNotFound));
  recall.seq = ~0ull;
  EXPECT_TRUE(refused(one->ask(recall), Errc::kNotFound));
  recall.seq = 0;
  EXPECT_TRUE(refused(one->ask(recall), Errc::kInvalid));

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

// Of runs that nobody knows a cursor may say anything: nothing is left to be missed.
TEST_F(BadInput, CursorsOfUnknownWritersHarmNobody) {
  auto one = client();
  ASSERT_TRUE(one->log_in("@bob", "tablet", "secret of @bob"));
  Sync sync;
  for (const char* address : {"@bob", "@alice", "", "#ops", "nonsense"}) {
    Sync::Mailbox mailbox{address, {}};
    for (std::uint64_t writer = 1; writer < 500; ++writer) {
      mailbox.cursor.raise(WriterId{writer * 0x9e3779b97f4a7c15}, storage::kRunLengthMax - writer);
    }
    sync.mailboxes.push_back(std::move(mailbox));
  }
  EXPECT_TRUE(refused(one->ask(sync), Errc::kReset, "lineage"));
  sync.lineage = lineage();
  EXPECT_TRUE(one->ask(sync));
  EXPECT_EQ(one->count(Type::kEntry), 1u);
  expect_untouched_and_served();
}

// Of a run that there is, beyond its end: what the gateway follows for both devices stays as it is.
TEST_F(BadInput, ACursorFromTheFutureIsResetAndNothingElseChanges) {
  for (const std::uint64_t n : {std::uint64_t{1000}, storage::kRunLengthMax, ~std::uint64_t{0} - 1}) {
    auto forged = client();
    ASSERT_TRUE(forged->log_in("@bob", "tablet", "secret of @bob"));
    Sync sync;
    sync.lineage = lineage();
    for (const char* address : {"@bob", "#ops"}) {
      Sync::Mailbox mailbox{address, {}};
      mailbox.cursor.raise(cluster.writer(0), n);
      sync.mailboxes.push_back(std::move(mailbox));
    }
    EXPECT_TRUE(refused(forged->ask(sync), Errc::kReset)) << n;
  }
  auto forged = client();
  ASSERT_TRUE(forged->log_in("@bob", "tablet", "secret of @bob"));
  ASSERT_TRUE(forged->ask(Sync{}));
  EXPECT_EQ(metrics_of(world, cluster, 0)["starling_cursors_refused_total{reason=\"future\"}"], 3);
  auto honest = client();
  ASSERT_TRUE(honest->log_in("@bob", "phone", "secret of @bob"));
  ASSERT_TRUE(honest->ask(Sync{}));
  ASSERT_EQ(honest->count(Type::kEntry), 1u);
  auto sender = client();
  ASSERT_TRUE(sender->log_in("@alice", "tablet", "secret of @alice"));
  for (const char* to : {"@bob", "#ops"}) ASSERT_TRUE(sender->say(to, 1, "for both"));
  world.run_for(200ms);
  EXPECT_EQ(honest->count(Type::kEntry), 3u);
  EXPECT_EQ(forged->count(Type::kEntry), 3u);
  auto late = client();
  ASSERT_TRUE(late->log_in("@bob", "laptop", "secret of @bob"));
  ASSERT_TRUE(late->ask(Sync{}));
  EXPECT_EQ(late->count(Type::kEntry), 3u);
  EXPECT_EQ(cluster.fatal_errors(), 0u);
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

}  // namespace
}  // namespace starling::sim
