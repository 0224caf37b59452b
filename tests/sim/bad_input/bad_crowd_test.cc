// Bad input of clients: good requests, far too many of them. bad_input.h says what each case promises.
#include "node/gateway/tcp_gateway.h"
#include "node/replication/append/coordinator.h"
#include "tests/sim/bad_input/bad_input.h"

namespace starling::sim {
namespace {

using namespace node::protocol;

class BadCrowd : public BadInput {
 protected:
  std::uint64_t delivered() {
    const auto status = cluster.admin(0, "status", Json::object());
    return status->at("rates").at("deliveries").get<std::uint64_t>();
  }
  static std::size_t errors(const RawClient& one, Errc code) {
    std::size_t n = 0;
    for (const auto& body : one.bodies()) {
      const auto error = unpack<ErrorMessage>(body);
      if (error && error->type == static_cast<int>(Type::kError) && error->code == static_cast<int>(code)) ++n;
    }
    return n;
  }
};

// The first pages of all mailboxes come together, while the door is empty.
TEST_F(BadCrowd, WhoCatchesUpOnManyMailboxesAndStopsReadingIsOwedLittle) {
  constexpr std::size_t kGroups = 12;
  constexpr std::size_t kMessages = 7;  // About a page.
  constexpr std::size_t kSize = 60 << 10;
  auto one = alice();
  for (std::size_t g = 0; g < kGroups; ++g) {
    const std::string group = "#g" + std::to_string(g);
    ASSERT_TRUE(cluster.admin(0, "group.create",
                              {{"group", group}, {"owner", "@alice"}, {"members", {"@mallory"}}}));
    for (std::size_t i = 1; i <= kMessages; ++i) ASSERT_TRUE(one->say(group, i, std::string(kSize, 'x')));
  }
  auto mallory = client();
  ASSERT_TRUE(mallory->log_in("@mallory", "phone", "secret of @mallory"));
  const auto at_first = delivered();
  mallory->stream().pause();
  Sync sync;
  sync.request = 77;
  mallory->stream().send(frame(sync));
  world.run_for(5s);
  const std::size_t owed = (delivered() - at_first) * kSize;
  EXPECT_LE(owed, SimNetwork::kWindow + node::kSessionQueueBytesMax + node::kReadBytesMax);
  EXPECT_GE(owed, node::kSessionQueueBytesMax);
  mallory->stream().resume();
  EXPECT_TRUE(mallory->answer(77));
  EXPECT_EQ(mallory->count(Type::kEntry), kGroups * kMessages);
  EXPECT_EQ(mallory->count(Type::kSynced), kGroups + 1);
}

TEST_F(BadCrowd, LongAnswersAreAFewAtATime) {
  auto one = alice();
  for (const auto type : {Type::kGroups, Type::kGroupMembers, Type::kHistory}) {
    Bytes all;
    for (std::uint64_t i = 0; i < 10; ++i) {
      GroupRequest request;
      request.type = static_cast<std::uint8_t>(type);
      request.request = 1000 + i;
      request.group = "#ops";
      HistoryRequest history;
      history.request = 1000 + i;
      history.with = "@bob";
      all += type == Type::kHistory ? frame(history) : frame(request);
    }
    const auto before = errors(*one, Errc::kOverloaded);
    one->stream().send(all);
    world.run_for(2s);
    EXPECT_EQ(errors(*one, Errc::kOverloaded) - before, 10 - node::kPagesInFlightMax) << static_cast<int>(type);
  }
  EXPECT_EQ(one->count(Type::kGroupList), node::kPagesInFlightMax);
  EXPECT_EQ(one->count(Type::kMembers), node::kPagesInFlightMax);
  expect_untouched_and_served();
}

// A million of nothing takes 80 times its bytes once it is decoded.
TEST_F(BadCrowd, AFrameOfElementsIsRefusedBeforeItIsDecoded) {
  const auto array_of = [](std::uint32_t n) {
    Bytes out("\xdd");
    BytesWriter(out).u32be(n);
    return out + Bytes(n, '\x90');
  };
  const Bytes head = Bytes("\x94\x02\x09\xc4\x10") + Bytes(16, '\0');
  auto one = alice();
  one->send_body(head + array_of(node::kSyncMailboxesMax + 1));
  EXPECT_TRUE(refused(one->answer(9), Errc::kTooLarge));
  Sync sync;
  sync.mailboxes.push_back({"@alice", {}});
  for (std::uint64_t writer = 1; writer <= node::kCursorWritersMax + 1; ++writer) {
    sync.mailboxes.back().cursor.raise(WriterId{writer}, 1);
  }
  EXPECT_TRUE(refused(one->ask(sync), Errc::kReset));
  EXPECT_TRUE(one->ask(Sync{})) << "the session goes on";
  for (const Bytes& body : {head + array_of(1'000'000), Bytes("\x93\x07\x09") + array_of(1'000'000)}) {
    auto other = alice();
    other->send_body(body);
    EXPECT_TRUE(refused(other->answer(0), Errc::kCorrupt, "elements"));
    EXPECT_TRUE(other->stream().wait_closed(1s));
  }
  expect_untouched_and_served();
}

// Who is removed may close what was on the wire, and cannot fill the group with voids.
TEST_F(BadCrowd, WhoWasRemovedClosesWhatWasOpenAndNoMore) {
  auto bob = client();
  ASSERT_TRUE(bob->log_in("@bob", "phone", "secret of @bob"));
  ASSERT_TRUE(bob->say("#ops", 1, "as a member"));
  GroupRequest remove;
  remove.type = static_cast<std::uint8_t>(Type::kGroupRemove);
  remove.group = "#ops";
  remove.user = "@bob";
  ASSERT_TRUE(alice()->ask(remove));
  const auto close_number = [&](std::uint64_t seq) {
    Send send;
    send.to = "#ops";
    send.seq = seq;
    send.acked = seq - 1;
    send.flags = kSendVoid;
    return bob->ask(send);
  };
  EXPECT_TRUE(refused(bob->say("#ops", 2, "no more"), Errc::kDenied));
  EXPECT_TRUE(refused(close_number(1000), Errc::kDenied)) << "nobody had that on the wire";
  for (std::uint64_t seq = 2; seq <= 1 + node::kVoidsOpenMax; ++seq) ASSERT_TRUE(close_number(seq)) << seq;
  EXPECT_TRUE(refused(close_number(2 + node::kVoidsOpenMax), Errc::kDenied));
  EXPECT_TRUE(refused(close_number(3 + node::kVoidsOpenMax), Errc::kDenied));
  EXPECT_TRUE(refused(close_number(3 + 3 * node::kVoidsOpenMax), Errc::kDenied));
  ASSERT_TRUE(cluster.admin(0, "group.add", {{"group", "#ops"}, {"members", {"@bob"}}}));
  Send again;
  again.to = "#ops";
  again.seq = 3 + node::kVoidsOpenMax;  // The one before was closed by the device alone.
  again.acked = again.seq - 1;
  again.body.data = "a member again";
  EXPECT_TRUE(bob->ask(again));
}

// Each from an address of its own, so it is the user that is guarded.
TEST_F(BadCrowd, WhoGuessesIsSlowedAndTokensAreNot) {
  const std::string good = token("@alice", "phone");
  std::size_t guesses = 0;
  for (; guesses < 200; ++guesses) {
    const auto answer = client()->log_in("@alice", "phone", "wrong");
    ASSERT_FALSE(answer);
    if (answer.code() == Errc::kOverloaded) break;
    ASSERT_EQ(answer.code(), Errc::kUnauthenticated);
  }
  EXPECT_LT(guesses, 200u);
  EXPECT_GE(guesses, static_cast<std::size_t>(node::kGuessesOfUser.at_once));
  EXPECT_TRUE(client()->log_in("@alice", "phone", "", good));
  EXPECT_TRUE(client()->log_in("@bob", "phone", "secret of @bob")) << "others are not slowed";
  world.run_for(60s);
  EXPECT_TRUE(client()->log_in("@alice", "phone", "secret of @alice"));
  expect_untouched_and_served();
}

TEST_F(BadCrowd, WhoSaysNothingDoesNotShutTheDoor) {
  constexpr std::size_t kAll = node::kConnectionsNotLoggedInMax;
  RawStream honest(world, cluster.network(), cluster.client_address(0));  // Older, and of an address with one.
  SimLoop loop(world, "silent");
  const auto transport = cluster.network().attach(loop, "10.9.9.9");
  std::vector<std::unique_ptr<overlay::Transport::Connecting>> connecting(kAll - 1);
  std::vector<std::unique_ptr<overlay::Stream>> streams;
  std::size_t closed = 0;
  loop.enter([&] {
    for (auto& attempt : connecting) {
      attempt = transport->connect(cluster.client_address(0), 5s, [&](auto stream) {
        ASSERT_TRUE(stream);
        streams.push_back(std::move(*stream));
        streams.back()->start({[](View) {}, [&](const Error&) { ++closed; }, nullptr});
      });
    }
  });
  ASSERT_TRUE(world.run_until([&] { return streams.size() == connecting.size(); }, 3s));
  ASSERT_EQ(closed, 0u);
  auto one = client();
  EXPECT_TRUE(one->log_in("@alice", "phone", "secret of @alice"));
  EXPECT_EQ(closed, 1u) << "one of the crowd gives way";
  EXPECT_FALSE(honest.closed());
  loop.enter([&] {
    connecting.clear();
    streams.clear();
  });
  loop.kill();
}

}  // namespace
}  // namespace starling::sim
