// One session over the real parts of a gateway, whose owners the test plays (parts.h): how much it asks for at once,
// when it says that it is done, what it makes of lists that are cut, whom it ends.
#include "node/session/session.h"

#include "tests/node/parts.h"
#include "tests/overlay/ring_steps.h"

namespace starling::node {
namespace {

using overlay::Method;
using overlay::Task;
using protocol::Type;
using storage::MemberValue;
using storage::MergeKind;

constexpr WriterId kSessionWriter{7};
constexpr const char* kPassword = "secret";

struct NotedDoor final : Door {
  void write(Shared frame) override { frames.push_back(frame->substr(protocol::kFrameHeaderSize)); }
  void write(Bytes frame) override { frames.push_back(frame.substr(protocol::kFrameHeaderSize)); }
  [[nodiscard]] std::size_t queued() const override { return queued_bytes; }
  void close() override { closed = true; }
  void proven() override { is_proven = true; }
  [[nodiscard]] std::string address() const override { return "10.0.0.1"; }
  [[nodiscard]] std::size_t count(Type type) const {
    return static_cast<std::size_t>(std::count_if(frames.begin(), frames.end(), [&](const Bytes& body) {
      return unpack<protocol::Head>(body)->type == static_cast<std::uint8_t>(type);
    }));
  }
  [[nodiscard]] Bytes last(Type type) const {
    const auto at = std::find_if(frames.rbegin(), frames.rend(), [&](const Bytes& body) {
      return unpack<protocol::Head>(body)->type == static_cast<std::uint8_t>(type);
    });
    return at == frames.rend() ? Bytes() : *at;
  }
  std::vector<Bytes> frames;
  std::size_t queued_bytes = 0;
  bool closed = false;
  bool is_proven = false;
};

class Sessions : public Parts {
 protected:
  Sessions() : Parts(std::nullopt) {}
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Parts::SetUp());
    for (int i = 0; user.empty() || holds(view->self); ++i) user = "@alice" + std::to_string(i);
    set_account({*hash_password(kPassword, {}, kCheapest), 1, false});
    in_turn([&] {
      paxos = std::make_unique<PaxosService>(*view);
      tenures = std::make_unique<Tenures>(
          *view, [](RingNumber) -> Task<Result<overlay::RingVersion>> { co_return Error{Errc::kUnavailable, ""}; },
          [](RingNumber) { return std::nullopt; });
      forwarder = std::make_unique<Forwarder>(*view);
      names = std::make_unique<Names>(*view, *paxos, *tenures, *forwarder);
      accounts = std::make_unique<Accounts>(*view, *names, *forwarder, identity, kCheapest);
      groups = std::make_unique<Groups>(*view, *names, *forwarder);
      feeds = std::make_unique<Feeds>(*view);
      services = std::make_unique<SessionServices>(
          SessionServices{*view, *forwarder, *feeds, *accounts, *groups, ladder});
      session = std::make_unique<Session>(*services, door);
    });
  }
  void TearDown() override {
    in_turn([&] {
      session.reset();
      feeds.reset();
    });
  }

  // Does the node own the user's mailbox?
  [[nodiscard]] bool holds(const NodeId& node) const { return view->ring().is_owner(partition_of_user(), node); }
  [[nodiscard]] PartitionId partition_of_user() const { return box.store->partition_of(mailbox_of(user)); }

  void set_account(const AccountValue& account) {
    registers[user][std::string(kAccountKey)] = {std::string(kAccountKey), {pack(account)}, {1, kSessionWriter}, 1};
  }
  // A membership of this time.
  void put_in(const std::string& group, Hlc time, bool removed = false) {
    const std::string key = std::string(kGroupPrefix) + group;
    registers[user][key] = {key, {pack(MemberValue{1, removed, 0, group})}, {time, kSessionWriter},
                                static_cast<std::uint8_t>(MergeKind::kMember)};
  }
  template <class T>
  void ask(T message) {
    const Bytes body = pack(message);
    in_turn([&] { session->receive(body); });
    settle();
  }
  void log_in() {
    protocol::Login login;
    login.request = 1;
    login.user = user;
    login.device = "phone";
    login.password = kPassword;
    ask(login);
    ASSERT_TRUE(session->logged_in());
  }
  void sync(std::uint64_t number = 2) {
    protocol::Sync request;
    request.request = number;
    ask(request);
  }
  // With cursors: address -> n of the one writer there is.
  void sync_from(const std::map<std::string, std::uint64_t>& cursors) {
    protocol::Sync request;
    request.request = 2;
    request.lineage = view->ring().lineage();
    for (const auto& [address, n] : cursors) {
      request.mailboxes.push_back({address, {}});
      request.mailboxes.back().cursor.raise(kSessionWriter, n);
    }
    ask(request);
  }
  // The cursor that the device was told last of this mailbox; how often.
  [[nodiscard]] std::uint64_t told_cursor(const std::string& address) const { return told_cursors(address).back(); }
  [[nodiscard]] std::vector<std::uint64_t> told_cursors(const std::string& address) const {
    std::vector<std::uint64_t> out;
    for (const auto& body : door.frames) {
      const auto synced = unpack<protocol::Synced>(body);
      if (!synced || synced->type != static_cast<std::uint8_t>(Type::kSynced) || synced->mailbox != address) continue;
      out.push_back(synced->cursor.get(kSessionWriter));
    }
    return out;
  }
  // Of three owners of the user's list one is left.
  void leave_one_owner() {
    const auto holders = view->ring().owners(partition_of_user()).to_vector();
    dead = {holders[1], holders[2]};
    settle(1s);  // Until another is followed in the place of one of them.
  }
  void owners_come_back() {
    const auto back = std::exchange(dead, {});
    for (const auto& node : back) {
      in_turn([&] { groups->came_back(node); });
    }
  }

  // Lets time pass and answers what is asked, except reads of mailboxes: those wait in `reads`. As often as the gateway ever
  // could, the session is told to let go of what it does not need.
  void settle(Duration span = 400ms) {
    for (Duration at{}; at < span; at += 50ms) {
      run_for(50ms);
      while (!rpc.calls.empty()) {
        auto call = std::move(rpc.calls.front());
        rpc.calls.erase(rpc.calls.begin());
        if (call.method == Method::kRead) {
          reads.push_back(std::move(call));
          continue;
        }
        auto answer = answer_to(call);
        in_turn([&] { call.done(std::move(answer)); });
        in_turn([&] { session->recheck_account(); });
      }
      in_turn([&] { session->recheck_account(); });
    }
  }
  Result<Bytes> answer_to(const NotedRpc::Call& call) {
    if (silent.contains(call.to)) return Error{Errc::kTimeout, "silent"};
    if (call.method == Method::kReadRegisters) return read_registers_of(*unpack<ReadRegistersRequest>(call.body));
    if (call.method == Method::kFollow) {
      const auto request = *unpack<FollowRequest>(call.body);
      FollowReply reply;
      reply.vector.raise(kSessionWriter, 100);
      for (const auto& item : request.items) {
        if (item.resume && holes) reply.behind.push_back(item.mailbox);
        streams[item.mailbox] = {call.to, {request.partition, request.stream}};
      }
      return pack(reply);
    }
    if (call.method == Method::kHeads) {
      const auto request = *unpack<HeadsRequest>(call.body);
      HeadsReply reply;
      for (const auto& item : request.items) {
        if (news.contains(item.mailbox)) reply.changed.push_back(item.mailbox);
      }
      return pack(reply);
    }
    return Error{Errc::kTimeout, "not played"};
  }
  Bytes read_registers_of(const ReadRegistersRequest& request) {
    ReadRegistersReply reply;
    for (const auto& [user, all] : registers) {
      if (mailbox_of(user) != request.mailbox) continue;
      for (const auto& [key, item] : all) {
        if (!key.starts_with(request.prefix) || key <= request.after) continue;
        if (reply.items.size() < request.limit) reply.items.push_back(item);
      }
    }
    return pack(reply);
  }
  // The oldest read that waits, answered with a page.
  MailboxId answer_read(bool more = false) {
    auto call = std::move(reads.front());
    reads.erase(reads.begin());
    const auto request = *unpack<ReadRequest>(call.body);
    ReadReply reply;
    reply.cursor = request.cursor;
    reply.cursor.raise(kSessionWriter, 5);
    reply.more = more;
    in_turn([&] { call.done(pack(reply)); });
    settle(50ms);
    return request.mailbox;
  }
  // The owner that is followed for the mailbox pushes a membership register.
  void push_membership(const std::string& group, std::uint64_t n, bool removed = false) {
    const Bytes value = pack(MemberValue{1, removed, 0, group});
    const std::string key = std::string(kGroupPrefix) + group;
    storage::ChangeView change;
    change.kind = storage::ChangeKind::kRegister;
    change.mailbox = mailbox_of(user);
    change.prev = 0;
    change.reg = {MergeKind::kMember, {n, kSessionWriter}, key, value};
    const Dot dot{kSessionWriter, n};
    const Bytes bytes = encoded(change, dot);
    const auto& [owner, stream] = streams.at(change.mailbox);
    Push push;
    push.streams.push_back({stream.first, stream.second, {{dot, {bytes}}}, {}});
    const Bytes body = pack(push);
    in_turn([&] { rpc.listeners.at(Method::kPush)(owner, body); });
  }

  std::string user;  // Whose mailbox others own.
  NotedDoor door;
  Ladder ladder;
  SeededRandom chance{9};
  const Identity identity = Identity::generate(chance);
  std::map<std::string, std::map<std::string, RegisterItem>> registers;  // By user, by key.
  std::set<MailboxId> news;    // Have more than any cursor.
  std::set<NodeId> silent;
  bool holes = false;          // Whoever resumes is too far behind.
  std::map<MailboxId, std::pair<NodeId, std::pair<PartitionId, std::uint64_t>>> streams;
  std::vector<NotedRpc::Call> reads;
  std::unique_ptr<PaxosService> paxos;
  std::unique_ptr<Tenures> tenures;
  std::unique_ptr<Forwarder> forwarder;
  std::unique_ptr<Names> names;
  std::unique_ptr<Accounts> accounts;
  std::unique_ptr<Groups> groups;
  std::unique_ptr<Feeds> feeds;
  std::unique_ptr<SessionServices> services;
  std::unique_ptr<Session> session;
};

TEST_F(Sessions, ReadAFewMailboxesAtOnceAndAllInTheEnd) {
  constexpr std::size_t kGroups = 50;
  news.insert(mailbox_of(user));
  for (std::size_t i = 0; i < kGroups; ++i) {
    const std::string group = "#g" + std::to_string(i);
    put_in(group, i + 1);
    news.insert(mailbox_of(group));
  }
  log_in();
  EXPECT_TRUE(door.is_proven);
  sync();
  EXPECT_EQ(reads.size(), kReadsPerSessionMax);
  std::set<MailboxId> read;
  for (std::size_t n = 0; !reads.empty() && n < 10 * kGroups; ++n) {  // At two owners each.
    ASSERT_LE(reads.size(), kReadsPerSessionMax);
    EXPECT_EQ(door.count(Type::kSyncDone), 0u);
    read.insert(answer_read());
  }
  EXPECT_EQ(read.size(), kGroups + 1);
  EXPECT_EQ(door.count(Type::kSynced), kGroups + 1);
  EXPECT_EQ(door.count(Type::kSyncDone), 1u);
}

// What was asked for while there was room comes when there is none: it is read again, later.
TEST_F(Sessions, DropAPageThatComesToAFullDoor) {
  news.insert(mailbox_of(user));
  log_in();
  sync();
  ASSERT_EQ(reads.size(), 1u);
  door.queued_bytes = kSessionQueueBytesMax + 1;
  answer_read();
  settle();
  EXPECT_TRUE(reads.empty());
  EXPECT_EQ(door.count(Type::kSynced), 0u);
  door.queued_bytes = 0;
  in_turn([&] { session->on_drained(); });
  settle();
  ASSERT_EQ(reads.size(), 1u);
  EXPECT_TRUE(unpack<ReadRequest>(reads.front().body)->cursor.empty()) << "nothing of the page counts as sent";
  while (!reads.empty()) answer_read();
  EXPECT_EQ(door.count(Type::kSyncDone), 1u);
}

// One mailbox is announced, loses its place in the stream, and comes back by the way of a first login.
TEST_F(Sessions, SyncDoneWaitsForEveryMailboxHoweverOftenAnotherCatchesUp) {
  const auto own = mailbox_of(user), group = mailbox_of("#g");
  put_in("#g", 1);
  news.insert(group);
  log_in();
  sync();
  ASSERT_EQ(reads.size(), 1u) << "that of the group, and it waits";
  ASSERT_EQ(door.count(Type::kSynced), 1u);
  holes = true;
  const NodeId first = streams.at(own).first;
  doubted = {first};
  settle(1s);
  ASSERT_NE(streams.at(own).first, first);
  const auto own_reads = [&] {
    return std::count_if(reads.begin(), reads.end(), [&](const auto& call) {
      return unpack<ReadRequest>(call.body)->mailbox == own;
    });
  };
  ASSERT_EQ(own_reads(), 1) << "it lost its place";
  doubted = {streams.at(own).first};
  settle(1s);  // Followed elsewhere while it reads.
  while (unpack<ReadRequest>(reads.front().body)->mailbox != own) {
    std::rotate(reads.begin(), reads.begin() + 1, reads.end());
  }
  answer_read();
  settle(1s);
  EXPECT_EQ(door.count(Type::kSynced), 1u);
  EXPECT_EQ(door.count(Type::kSyncDone), 0u) << "the group has not caught up";
}

// Others add the user to groups whose names come first.
TEST_F(Sessions, AListThatIsCutSendsNobodyOutOfAGroup) {
  put_in("#oldest", 1);
  put_in("#newest", 1'000'000);
  log_in();
  sync();
  ASSERT_EQ(door.count(Type::kSyncDone), 1u);
  for (std::size_t i = 0; i < kGroupsPerUserMax + 50; ++i) put_in("#a" + std::to_string(i), 100 + i);
  push_membership("#a1", 101);
  settle(3s);
  EXPECT_EQ(door.count(Type::kLeft), 0u);
  EXPECT_EQ(door.count(Type::kJoined), kSyncMailboxesMax - 3);
  for (const auto& body : door.frames) {
    const auto event = unpack<protocol::JoinedOrLeft>(body);
    if (!event || event->type != static_cast<std::uint8_t>(Type::kJoined)) continue;
    EXPECT_LT(std::stoul(event->group.substr(2)), kGroupsPerUserMax) << "the oldest memberships count";
  }
  put_in("#newest", 1'000'000, /*removed=*/true);
  push_membership("#newest", 102, /*removed=*/true);
  settle(3s);
  EXPECT_EQ(door.count(Type::kLeft), 1u) << "out is out, however long the list is";
  EXPECT_EQ(unpack<protocol::JoinedOrLeft>(door.last(Type::kLeft))->group, "#newest");
}

// While its owners are away the list may lack what the user is in: the device is neither sent away nor told anew of it.
TEST_F(Sessions, AListThatIsNotSureTakesNoCursorAway) {
  put_in("#g", 1);
  news = {mailbox_of("#g"), mailbox_of("#late")};
  log_in();
  leave_one_owner();
  sync_from({{"#g", 2}, {"#late", 3}});
  const auto answer_reads = [&](const std::string& group, std::uint64_t from) {
    std::size_t count = 0;
    for (; !reads.empty(); ++count) {
      EXPECT_EQ(unpack<ReadRequest>(reads.front().body)->cursor.get(kSessionWriter), count == 0 ? from : 5) << group;
      EXPECT_EQ(answer_read(), mailbox_of(group));
    }
    return count;
  };
  ASSERT_GE(answer_reads("#g", 2), 1u);
  ASSERT_EQ(door.count(Type::kSyncDone), 1u);
  settle(40s);  // It is read again rarely by now.
  EXPECT_EQ(door.count(Type::kJoined), 0u);
  put_in("#late", 2);
  owners_come_back();
  settle(700ms);
  EXPECT_EQ(door.count(Type::kJoined), 1u) << "at once";
  EXPECT_GE(answer_reads("#late", 3), 1u);
}

// Also one that answers what was true once, and what was not acknowledged.
TEST_F(Sessions, OneStaleOwnerSendsNobodyOutOfAGroup) {
  put_in("#g", 1);
  log_in();
  sync();
  ASSERT_EQ(door.count(Type::kSyncDone), 1u);
  leave_one_owner();
  put_in("#g", 2, /*removed=*/true);
  push_membership("#other", 101);
  settle(30s);
  EXPECT_EQ(door.count(Type::kLeft), 0u);
  put_in("#g", 3);
  owners_come_back();
  settle(2s);
  EXPECT_EQ(door.count(Type::kLeft), 0u);
  EXPECT_EQ(door.count(Type::kJoined), 0u) << "it was followed all the time";
  put_in("#g", 4, /*removed=*/true);
  push_membership("#g", 102, /*removed=*/true);
  settle(2s);
  EXPECT_EQ(door.count(Type::kLeft), 1u);
}

TEST_F(Sessions, F29_AnEmptySyncReturnsAFreshCursor) {
  put_in("#quiet", 1);
  news = {mailbox_of(user)};  // Nothing that a device is sent: registers, what expired.
  log_in();
  sync_from({{user, 2}, {"#quiet", 4}});
  while (!reads.empty()) answer_read();
  ASSERT_EQ(door.count(Type::kSyncDone), 1u);
  ASSERT_EQ(door.count(Type::kEntry), 0u);
  EXPECT_EQ(told_cursor(user), 5u);
  EXPECT_EQ(told_cursor("#quiet"), 4u);
}

TEST_F(Sessions, F29_ALiveSessionIsToldDailyWhatItPassed) {
  put_in("#quiet", 1);
  log_in();
  sync();
  ASSERT_EQ(told_cursors(user), (std::vector<std::uint64_t>{0}));
  push_membership("#other", 101, /*removed=*/true);
  settle(3s);
  const auto pass_hours = [&](int count) {
    for (int hour = 0; hour < count; ++hour) {
      world.run_for(1h);
      in_turn([&] { session->recheck_account(); });
      settle();
    }
  };
  pass_hours(25);
  EXPECT_EQ(told_cursors(user), (std::vector<std::uint64_t>{0, 101}));
  push_membership("#third", 102, /*removed=*/true);
  push_membership("#fourth", 103, /*removed=*/true);
  pass_hours(25);
  EXPECT_EQ(told_cursors(user), (std::vector<std::uint64_t>{0, 101, 103})) << "once, however much it is";
  pass_hours(50);
  EXPECT_EQ(told_cursors(user).size(), 3u) << "and not where nothing was passed";
  EXPECT_EQ(told_cursors("#quiet").size(), 1u);
}

// Too many registers to read: of a group behind those that were read it is not known whether the user is in it.
TEST_F(Sessions, WhatWasNotReadIsNotLeft) {
  constexpr std::size_t kRead = 100'000;
  for (std::size_t i = 0; i < kRead; ++i) put_in("#b" + std::to_string(i), 100, /*removed=*/true);
  put_in("#a", 1);
  put_in("#z", 1);
  Groups::Listing listing;
  overlay::Scope scope(loop);
  in_turn([&] {
    scope.spawn([](Groups& all, std::string of, Groups::Listing& into) -> Task<Done> {
      auto asking = all.of_user(std::move(of));
      auto listed = co_await asking;
      if (listed) into = std::move(*listed);
      co_return Done{};
    }(*groups, user, listing));
  });
  settle(15s);
  EXPECT_EQ(listing.groups, std::vector<std::string>{"#a"});
  EXPECT_FALSE(listing.read_all);
  EXPECT_FALSE(listing.is_out_of("#a"));
  EXPECT_FALSE(listing.is_out_of("#z"));
  EXPECT_TRUE(listing.is_out_of("#b7"));
}

// The number is the client's choice.
TEST_F(Sessions, ASecondSyncIsRefusedWhateverTheNumber) {
  put_in("#g", 1);
  log_in();
  protocol::Sync request;
  const Bytes body = pack(request);
  ASSERT_EQ(request.request, 0u);
  in_turn([&] {
    session->receive(body);
    session->receive(body);
  });
  settle();
  EXPECT_EQ(door.count(Type::kError), 1u);
  EXPECT_EQ(door.count(Type::kSynced), 2u);
  EXPECT_EQ(door.count(Type::kSyncDone), 1u);
}

// A mailbox of many pages goes to the end of the line after each.
TEST_F(Sessions, AMailboxOfManyPagesHoldsUpNoOthers) {
  constexpr std::size_t kGroups = 8;
  for (std::size_t i = 0; i < kGroups; ++i) {
    put_in("#g" + std::to_string(i), i + 1);
    news.insert(mailbox_of("#g" + std::to_string(i)));
  }
  log_in();
  sync();
  ASSERT_EQ(reads.size(), kReadsPerSessionMax);
  std::set<MailboxId> read;
  for (std::size_t i = 0; i < kGroups; ++i) read.insert(answer_read(/*more=*/true));
  EXPECT_EQ(read.size(), kGroups);
}

// Of an owner that does not answer one mailbox, no other waits for the same.
TEST_F(Sessions, AnOwnerThatTimedOutIsPassedOverForAllMailboxes) {
  news.insert(mailbox_of(user));
  for (std::size_t i = 0; i < 40; ++i) {
    put_in("#g" + std::to_string(i), i + 1);
    news.insert(mailbox_of("#g" + std::to_string(i)));
  }
  log_in();
  sync();
  const NodeId slow = reads.front().to;
  ASSERT_NE(slow, streams.at(unpack<ReadRequest>(reads.front().body)->mailbox).first);
  std::size_t timeouts = 0;
  for (std::size_t n = 0; !reads.empty() && n < 400; ++n) {
    const auto& followed = streams.at(unpack<ReadRequest>(reads.front().body)->mailbox).first;
    if (reads.front().to != slow || followed == slow) {
      answer_read();
      continue;
    }
    ++timeouts;
    auto call = std::move(reads.front());
    reads.erase(reads.begin());
    in_turn([&] { call.done(Error{Errc::kTimeout, "silent"}); });
    settle(50ms);
    if (timeouts > 60) break;
  }
  EXPECT_LE(timeouts, kReadsPerSessionMax) << "those under way";
}

TEST_F(Sessions, WhoIsInTooManyGroupsIsAddedToNoMore) {
  registers[user]["created"] = {"created", {"x"}, {1, kSessionWriter}, 1};
  registers["#new"]["created"] = {"created", {"x"}, {1, kSessionWriter}, 1};
  for (std::size_t i = 0; i < kGroupsPerUserMax; ++i) put_in("#a" + std::to_string(i), 100 + i);
  overlay::Scope scope(loop);
  const auto outcome = [&](Task<Status> task) {
    auto told = std::make_shared<std::optional<Status>>();
    in_turn([&] {
      scope.spawn([](Task<Status> asked, std::shared_ptr<std::optional<Status>> into) -> Task<Done> {
        *into = co_await asked;
        co_return Done{};
      }(std::move(task), told));
    });
    settle(8s);
    return told->value_or(Error{Errc::kIo, "no answer"}).code();
  };
  EXPECT_EQ(outcome(groups->set_member("#new", user, 0, false)), Errc::kTooLarge);
  EXPECT_EQ(outcome(groups->create("#mine", user, 5)), Errc::kTooLarge);
  EXPECT_NE(outcome(groups->set_member("#new", user, 0, true)), Errc::kTooLarge) << "leaving is always possible";
  registers["#a7"]["created"] = {"created", {"x"}, {1, kSessionWriter}, 1};
  EXPECT_NE(outcome(groups->set_member("#a7", user, 1, false)), Errc::kTooLarge) << "a role is no membership";
  // Others add and remove: it ends what others do, not what the user does.
  for (std::size_t i = 0; i < kGroupsEverMax; ++i) put_in("#a" + std::to_string(i), 100 + i, /*removed=*/true);
  EXPECT_EQ(outcome(groups->set_member("#new", user, 0, false)), Errc::kTooLarge);
  EXPECT_NE(outcome(groups->set_member("#a7", user, 0, false)), Errc::kTooLarge) << "it was in that one";
  EXPECT_NE(outcome(groups->create("#mine", user, 5)), Errc::kTooLarge);
  for (std::size_t i = 0; i < kGroupsOwnAndEverMax; ++i) put_in("#a" + std::to_string(i), 100 + i, /*removed=*/true);
  EXPECT_EQ(outcome(groups->create("#mine", user, 5)), Errc::kTooLarge);
}

// An epoch that the account never had is of a forged token, or the latest one is a stand-in's still.
TEST_F(Sessions, AnEpochAboveTheAccountsEndsWhenAllOwnersSaySo) {
  overlay::Scope scope(loop);
  const auto ended = [&](std::uint64_t epoch) {
    auto told = std::make_shared<std::optional<Result<bool>>>();
    in_turn([&] {
      scope.spawn([](Accounts& all, std::string name, std::uint64_t of,
                     std::shared_ptr<std::optional<Result<bool>>> into) -> Task<Done> {
        auto asking = all.has_ended(std::move(name), of);
        *into = co_await asking;
        co_return Done{};
      }(*accounts, user, epoch, told));
    });
    settle(2s);
    return told->has_value() && (*told)->ok() && ***told;
  };
  set_account({"", 3, false});
  EXPECT_TRUE(ended(2));
  EXPECT_FALSE(ended(3));
  EXPECT_TRUE(ended(4));
  EXPECT_TRUE(ended(~std::uint64_t{0}));
  const auto holders = view->ring().owners(partition_of_user()).to_vector();
  late = {holders[2]};
  EXPECT_TRUE(ended(2));
  EXPECT_FALSE(ended(4)) << "one is behind";
  late.clear();
  silent = {holders[0]};
  EXPECT_FALSE(ended(4)) << "a third one may have been told of it, beside a stand-in";
  silent = {holders[0], holders[1]};
  EXPECT_TRUE(ended(2));
  EXPECT_FALSE(ended(4));
  dead = {holders[0], holders[1]};
  EXPECT_FALSE(ended(4)) << "of the dead nobody knows";
  dead.clear();
  registers.clear();
  EXPECT_FALSE(ended(0)) << "too few know that there is no such user";
  silent.clear();
  EXPECT_TRUE(ended(0));
  EXPECT_TRUE(ended(3));
}

// Anybody may ask: what it costs begins after the place in the line.
TEST_F(Sessions, APasswordCostsNothingBeforeThereIsRoomToHashIt) {
  overlay::Scope scope(loop);
  std::size_t refused = 0;
  const auto knock = [&](const std::string& from) {
    in_turn([&] {
      scope.spawn([](Accounts& all, std::string address, std::size_t& count) -> Task<Done> {
        auto trying = all.log_in("@nobody", "phone", "guess", std::move(address));
        const auto login = co_await trying;
        if (!login && login.code() == Errc::kOverloaded) ++count;
        co_return Done{};
      }(*accounts, from, refused));
    });
  };
  const std::size_t places = kHashesAtOnceMax + kHashesWaitingMax - kHashPlacesOfOperator;
  for (std::size_t i = 0; i < places; ++i) knock("10.0.0." + std::to_string(i));
  EXPECT_EQ(refused, 0u);
  const std::size_t asked = rpc.calls.size();
  EXPECT_GE(asked, places);
  knock("10.0.1.1");
  run_for(50ms);
  EXPECT_EQ(refused, 1u);
  EXPECT_EQ(rpc.calls.size(), asked) << "no owner is asked for its sake";
}

// The device goes before it is told: that was no wrong password.
TEST_F(Sessions, WhoGoesBeforeTheAnswerHasTriedNothing) {
  for (int i = 0; i < 3 * static_cast<int>(kGuessesOfOneByOne.at_once); ++i) {
    overlay::Scope scope(loop);
    in_turn([&] {
      scope.spawn([](Accounts& all, std::string name) -> Task<Done> {
        auto trying = all.log_in(std::move(name), "phone", kPassword, "10.0.0.1");
        co_await trying;
        co_return Done{};
      }(*accounts, user));
    });
    run_for(50ms);
  }
  settle(1s);
  log_in();
}

class IssuingNodes : public Parts {};

// What was seen by a clock that is behind is long ago when that is set right.
TEST_F(IssuingNodes, NoTokenEndsByAClockThatIsNotTrusted) {
  view->clock_compared = false;
  const NodeId gone = overlay::test_id(1);
  const auto version = overlay::must(overlay::next_complete(overlay::leaving(view->ring().version(), {1})));
  Issuers issuers(*view);
  in_turn([&] { view->set_ring(overlay::must(overlay::Ring::make(version))); });
  world.run_for(std::chrono::milliseconds(kTokenLifeMaxMs) + 1min);
  EXPECT_TRUE(issuers.key_of(gone));
  view->clock_compared = true;
  world.run_for(2min);
  EXPECT_TRUE(issuers.key_of(gone)) << "its time begins now";
  world.run_for(std::chrono::milliseconds(kTokenLifeMaxMs) + 1min);
  EXPECT_FALSE(issuers.key_of(gone));
}

TEST_F(IssuingNodes, TokensOfANodeThatLeftHoldForTheirLifeAndThoseOfARevokedOneNot) {
  auto version = view->ring().version();
  const NodeId gone = overlay::test_id(1);
  Issuers before(*view);
  EXPECT_TRUE(before.key_of(gone));
  version = overlay::must(overlay::next_complete(overlay::leaving(version, {1})));
  ASSERT_TRUE(version.find(gone)->gone());
  in_turn([&] { view->set_ring(overlay::must(overlay::Ring::make(version))); });
  run_for(50ms);
  EXPECT_TRUE(before.key_of(gone));
  world.run_for(std::chrono::milliseconds(kTokenLifeMaxMs) + 1min);
  EXPECT_FALSE(before.key_of(gone));
  EXPECT_TRUE(before.key_of(overlay::test_id(2)));
  EXPECT_FALSE(before.key_of(overlay::test_id(77)));
  Issuers after_a_restart(*view);
  EXPECT_FALSE(after_a_restart.key_of(gone)) << "it remembers when that was";
}

}  // namespace
}  // namespace starling::node
