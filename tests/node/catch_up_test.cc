// What an owner asks of its peers, and when it leaves off: returns that wait, and changes of the ring that the operator
// holds back, which must not hold back what the node owns (parts.h).
#include "node/replication/catch_up/catch_up.h"

#include "tests/node/parts.h"
#include "tests/overlay/ring_steps.h"

namespace starling::node {
namespace {

using overlay::Method;
using overlay::Task;

constexpr WriterId kWriter{77};

// Peers that answer at once: what they hold, and whether they give it.
class Catching : public Parts {
 protected:
  struct Peer {
    bool silent = false;
    bool hangs = false;  // Nothing comes back.
    bool gaps = false;   // Of each run, the first number is gone.
    bool gives = true;
    bool holds = false;  // For others.
    std::map<PartitionId, std::uint64_t> has;  // Of kWriter.
  };

  explicit Catching(std::optional<std::size_t> place = 0) : Parts(place) {}
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Parts::SetUp());
    in_turn([&] {
      controls = std::make_unique<MoveControls>(*view);
      catch_up = std::make_unique<CatchUp>(*view, *controls);
      catch_up->held_for_others = [](PartitionId, WriterId, std::uint64_t) { return storage::RangeStatement{}; };
      catch_up->holds_for = [](PartitionId, const NodeId&) { return false; };
    });
  }
  void restart() {
    in_turn([&] {
      catch_up.reset();
      catch_up = std::make_unique<CatchUp>(*view, *controls);
      catch_up->held_for_others = [](PartitionId, WriterId, std::uint64_t) { return storage::RangeStatement{}; };
      catch_up->holds_for = [](PartitionId, const NodeId&) { return false; };
    });
  }
  void go(Duration duration) {
    for (Duration done{}; done < duration; done += 50ms) {
      run_for(50ms);
      while (!rpc.calls.empty()) {
        auto call = std::move(rpc.calls.front());
        rpc.calls.erase(rpc.calls.begin());
        if (on_call) on_call(call);
        if (peers[call.to].hangs) {
          hanging.push_back(std::move(call));
          continue;
        }
        auto answer = answer_to(call);
        in_turn([&] { call.done(std::move(answer)); });
      }
    }
  }
  Result<Bytes> answer_to(const NotedRpc::Call& call) {
    const Peer& peer = peers[call.to];
    if (peer.silent) return Error{Errc::kTimeout, "no answer"};
    if (call.method == Method::kMoveSettings) return pack(MoveSettings{});
    if (call.method == Method::kLanes) return pack(LanesReply{});
    if (call.method == Method::kCompare) return compared(peer, *unpack<CompareRequest>(call.body));
    if (call.method == Method::kFetch) return fetched(peer, *unpack<FetchRequest>(call.body));
    return Error{Errc::kUnavailable, "not here"};
  }
  Result<Bytes> compared(const Peer& peer, const CompareRequest& request) {
    CompareReply reply;
    reply.ring = request.ring;
    reply.by_span = request.by_span;
    reply.held = peer.holds;
    if (request.by_span && !peer.has.empty()) reply.spans = {0};
    for (const auto& item : request.items) {
      if (!peer.has.contains(item.partition)) continue;
      storage::VersionVector vector;
      vector.raise(kWriter, peer.has.at(item.partition));
      reply.items.push_back({item.partition, vector, true, {}});
    }
    return pack(reply);
  }
  Result<Bytes> fetched(const Peer& peer, const FetchRequest& request) {
    if (!peer.gives) return Error{Errc::kCorrupt, "damaged here"};
    const Bytes body(body_size, 'x');
    storage::RangeStatement range{request.writer, request.from, request.from - 1, {}, {}};
    const std::uint64_t last = peer.has.contains(request.partition) ? peer.has.at(request.partition) : 0;
    while (range.to < last && range.live.size() < page) {
      const Dot dot{request.writer, ++range.to};
      const auto change = testing::entry(mailbox_in(request.partition), dot.n, hlc_at(1000 + dot.n), body, dot.writer);
      if (!peer.gaps || dot.n > 1) range.live.push_back({dot.n, {encoded(change, dot)}});
    }
    return pack(range);
  }
  static MailboxId mailbox_in(PartitionId partition) {
    MailboxId id;
    id.raw = {static_cast<std::uint8_t>(partition.value << 4), 1};
    return id;
  }
  [[nodiscard]] std::uint64_t held(PartitionId partition) const { return box.store->held(partition, kWriter); }

  std::unique_ptr<MoveControls> controls;
  std::unique_ptr<CatchUp> catch_up;
  std::map<NodeId, Peer> peers;
  std::function<void(const NotedRpc::Call&)> on_call;
  std::vector<NotedRpc::Call> hanging;
  std::size_t body_size = 10;  // Of a change,
  std::size_t page = 1000;     // of which a fetch brings so many.
};

// --- Asked for one partition. ---

// A stand-in may hold what no owner that answers has heard of: every member that is there is asked, and one that is away may
// be the one, unless it is a home owner, which the asker waits for anyway.
TEST_F(Catching, WhatAStandInHoldsIsNotOverlooked) {
  const auto may_be_held = [this] {
    std::optional<bool> answer;
    overlay::Scope scope(loop);
    const auto ask = [&]() -> Task<Done> {
      auto asking = catch_up->may_be_held(kPartition, 500ms);
      answer = co_await asking;
      co_return Done{};
    };
    in_turn([&] { scope.spawn(ask()); });
    go(200ms);
    return answer.value();
  };
  std::set<NodeId> asked;
  on_call = [&](const NotedRpc::Call& call) { asked.insert(call.to); };
  EXPECT_FALSE(may_be_held());
  EXPECT_EQ(asked, (std::set<NodeId>{owners[1], owners[2], others[0], others[1]}));
  dead.insert(owners[2]);
  EXPECT_FALSE(may_be_held());
  peers[owners[1]].holds = true;  // It was a stand-in before it was an owner.
  EXPECT_TRUE(may_be_held());
  peers[owners[1]].holds = false;
  peers[others[1]].holds = true;
  EXPECT_TRUE(may_be_held());
  peers[others[1]].holds = false;
  peers[others[0]].silent = true;
  EXPECT_TRUE(may_be_held());
  peers[others[0]].silent = false;
  catch_up->holds_for = [this](PartitionId partition, const NodeId& owner) {
    return partition == kPartition && owner == view->self;
  };
  EXPECT_TRUE(may_be_held());
  catch_up->holds_for = [](PartitionId, const NodeId&) { return false; };
  EXPECT_FALSE(may_be_held());
  dead.insert(others[1]);
  EXPECT_TRUE(may_be_held());
}

// --- A return. ---

// What one peer cannot give is waited for from when that is all that is missing, not from the return: until then
// another one may bring it.
TEST_F(Catching, PatienceWithARunThatDoesNotComeBeginsWhenNothingElseIsInTheWay) {
  peers[owners[1]] = {.gives = false, .has = {{kPartition, 3}}};
  peers[owners[2]].silent = true;
  in_turn([&] { catch_up->start(); });
  go(50s);
  ASSERT_TRUE(view->catching_up) << "one that seems alive has not answered";
  peers[owners[2]].silent = false;
  go(40s);
  EXPECT_TRUE(view->catching_up) << "it gave up what the peer may give in a moment";
  go(30s);
  EXPECT_FALSE(view->catching_up) << "damage for good holds nobody up for ever";
}

TEST_F(Catching, EachReturnHasItsOwnPatience) {
  peers[owners[1]] = {.gives = false, .has = {{kPartition, 3}}};
  in_turn([&] { catch_up->start(); });
  go(70s);
  ASSERT_FALSE(view->catching_up);
  in_turn([&] { catch_up->fall_behind(); });
  go(30s);
  EXPECT_TRUE(view->catching_up) << "it was out of patience with the peer from the last time";
  peers[owners[1]].gives = true;
  go(2s);
  EXPECT_FALSE(view->catching_up);
  EXPECT_EQ(held(kPartition), 3u);
}

TEST_F(Catching, WhatFailedInOneRoundMayComeInTheNext) {
  peers[owners[1]] = {.gives = false, .has = {{kPartition, 3}}};
  peers[owners[2]].silent = true;
  in_turn([&] { catch_up->start(); });
  go(50s);
  peers[owners[2]].silent = false;
  go(40s);
  peers[owners[1]].gives = true;
  go(2s);
  EXPECT_FALSE(view->catching_up);
  EXPECT_EQ(held(kPartition), 3u);
}

// All but the last of those who are asked hang.
TEST_F(Catching, WhoDoesNotAnswerHoldsUpNoOther) {
  NodeId last{};
  for (const auto& member : view->ring().version().members) {
    if (member.id != view->self) last = member.id;
  }
  for (const auto& member : view->ring().version().members) peers[member.id].hangs = member.id != last;
  peers[last].has[kPartition] = 3;
  in_turn([&] { catch_up->start(); });
  go(3s);
  ASSERT_FALSE(hanging.empty());
  EXPECT_EQ(held(kPartition), 3u);
  EXPECT_FALSE(catch_up->is_missing_known()) << "those that hang may have more";
  for (auto& [id, peer] : peers) peer.hangs = false;
  for (auto& call : hanging) in_turn([&] { call.done(Error{Errc::kTimeout, "no answer"}); });
  go(1s);
  EXPECT_FALSE(view->catching_up);
  EXPECT_TRUE(catch_up->is_missing_known());
}

// What is missing is told when it is known, not when a part of it is.
TEST_F(Catching, HowMuchIsMissingIsAtLeastThatUntilAllWereComparedWith) {
  peers[owners[1]].has[kPartition] = 3;
  peers[owners[2]].hangs = true;
  std::uint64_t missing = 0;
  bool known = true;
  on_call = [&](const NotedRpc::Call& call) {
    if (call.method != Method::kFetch) return;
    missing = catch_up->missing();
    known = catch_up->is_missing_known();
  };
  in_turn([&] { catch_up->start(); });
  EXPECT_FALSE(catch_up->is_missing_known());
  go(3s);
  ASSERT_EQ(held(kPartition), 3u);
  EXPECT_EQ(missing, 3u);
  EXPECT_FALSE(known);
  EXPECT_EQ(catch_up->missing(), 0u);
}

// --- A gap of live traffic. ---

// What comes early while the run before it is fetched was passed over, and nothing else may follow for long.
TEST_F(Catching, WhatComesEarlyWhileAGapIsFetchedIsFetchedWithIt) {
  view->catching_up = false;
  peers[owners[1]].has[kPartition] = 3;
  int fetches = 0;
  on_call = [&](const NotedRpc::Call& call) {
    if (call.method != Method::kFetch) return;
    ++fetches;
    if (fetches == 1) in_turn([&] { catch_up->fetch_gap(owners[1], kPartition, kWriter, 5); });
    if (fetches == 3) peers[owners[1]].has[kPartition] = 5;  // It had not synced it the time before.
  };
  in_turn([&] { catch_up->fetch_gap(owners[1], kPartition, kWriter, 3); });
  go(400ms);
  EXPECT_EQ(held(kPartition), 5u);
  EXPECT_EQ(fetches, 3);
}

TEST_F(Catching, AGapThatNobodyCanFillIsGivenUp) {
  view->catching_up = false;
  int fetches = 0;
  on_call = [&](const NotedRpc::Call& call) { fetches += call.method == Method::kFetch ? 1 : 0; };
  in_turn([&] { catch_up->fetch_gap(owners[1], kPartition, kWriter, 5); });
  go(5s);
  EXPECT_LE(fetches, 3);
  EXPECT_EQ(catch_up->fetching(), 0u);
}

// --- Lanes of what is gone. ---

// A stand-in gave the run; the owners, which alone know the lanes that it raised, are away, and we are started again before
// they are back. Vectors are equal then, so nothing else would ask them.
TEST_F(Catching, LanesThatOwnersOweAreFetchedAfterARestart) {
  view->catching_up = false;
  const NodeId stand_in = others[0];
  peers[stand_in] = {.gaps = true, .has = {{kPartition, 3}}};
  dead = {owners[1], owners[2]};
  doubted = dead;
  std::map<NodeId, int> lanes;
  on_call = [&](const NotedRpc::Call& call) { lanes[call.to] += call.method == Method::kLanes ? 1 : 0; };
  in_turn([&] { catch_up->fetch_gap(stand_in, kPartition, kWriter, 3); });
  go(1s);
  ASSERT_EQ(held(kPartition), 3u);
  ASSERT_EQ(lanes[stand_in], 1);
  ASSERT_EQ(lanes[owners[1]] + lanes[owners[2]], 0);
  restart();
  dead.clear();
  doubted.clear();
  peers.clear();
  in_turn([&] { catch_up->start(); });
  go(5s);
  EXPECT_EQ(lanes[owners[1]], 1);
  EXPECT_EQ(lanes[owners[2]], 1);
  restart();
  in_turn([&] { catch_up->start(); });
  go(5s);
  EXPECT_EQ(lanes[owners[1]], 1) << "that was paid";
}

// --- A change of the ring, while the node follows what it will own. ---

// Two of five leave: the three others own everything then, we kPartition as well.
class Gaining : public Catching {
 protected:
  Gaining() : Catching(std::nullopt) {}
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Catching::SetUp());
    in_turn([&] { catch_up->start(); });
    go(3s);
    ASSERT_FALSE(view->catching_up);
    const std::vector<NodeId> leavers{owners[0], others[1]};
    const auto intent = overlay::must(overlay::next_intent_leave(view->ring().version(), leavers, true));
    in_turn([&] { view->set_ring(overlay::must(overlay::Ring::make(intent))); });
    while (!view->is_owner(owned)) ++owned.value;
    ASSERT_TRUE(view->ring().is_owner_to_be(kPartition, view->self));
    ASSERT_FALSE(view->is_owner(kPartition));
    in_turn([&] { scope.spawn(install()); });
    go(2s);
    ASSERT_TRUE(installed);
  }
  Task<Done> install() {
    auto installing = catch_up->install();
    installed = (co_await installing).ok();
    co_return Done{};
  }
  Task<Done> pause() {
    auto pausing = controls->pause(true);
    co_await pausing;
    co_return Done{};
  }
  Task<Done> throttle() {
    auto setting = controls->set_rate(kMoveRateMin);
    co_await setting;
    co_return Done{};
  }
  // A peer has so much of what we gain; `then` comes when it is about to tell.
  void grows(std::uint64_t n, const std::function<void()>& then) {
    peers[owners[1]].has[kPartition] = n;
    bool told = false;
    on_call = [&](const NotedRpc::Call& call) {
      if (told || call.method != Method::kCompare || call.to != owners[1]) return;
      const auto request = unpack<CompareRequest>(call.body);
      const auto asks = [](const auto& item) { return item.partition == kPartition; };
      if (!std::any_of(request->items.begin(), request->items.end(), asks)) return;
      told = true;
      in_turn(then);
    };
    go(20s);
    on_call = nullptr;
    ASSERT_TRUE(told) << "it does not follow";
  }
  // And of what we own, all have something that did not come by itself.
  void expect_it_mends(Duration within) {
    for (const auto& member : view->ring().members()) peers[member.id].has[owned] = 1;
    go(within);
    EXPECT_EQ(held(owned), 1u) << "the loop that mends what we own stands still";
  }

  overlay::Scope scope{loop};
  bool installed = false;
  PartitionId owned{0};
};

TEST_F(Gaining, AfterAPauseTheLoopThatMendsGoesOn) {
  grows(3, [this] { scope.spawn(pause()); });
  EXPECT_EQ(held(kPartition), 0u) << "paused";
  expect_it_mends(10s);
}

TEST_F(Gaining, ASlowThrottleDoesNotSlowDownTheLoopThatMends) {
  in_turn([this] { scope.spawn(throttle()); });
  body_size = 50'000;  // Each fetch takes a second and a half.
  page = 2;
  grows(200, [] {});
  expect_it_mends(10s);
}

// It had a little to wait before each fetch of what it gains.
TEST_F(Gaining, AReturnWaitsForNothingThatOnlyAChangeBrings) {
  in_turn([this] { scope.spawn(throttle()); });
  body_size = 50'000;  // Each fetch takes less than a second.
  page = 1;
  Instant fell, back{};
  catch_up->on_catching_up = [&](bool behind) { (behind ? fell : back) = world.now(); };
  grows(200, [this] { catch_up->fall_behind(); });
  ASSERT_NE(back, Instant{});
  EXPECT_LT(back - fell, 3s);
  EXPECT_LT(held(kPartition), 200u) << "there was nothing to wait for";
}

// --- What operators say. ---

class Saying : public Catching {
 protected:
  class Noted final : public overlay::Reply::Sink {
   public:
    explicit Noted(MoveSettings& to) : to_(to) {}
    void reply(Result<Bytes> body) override {
      if (body) to_ = *unpack<MoveSettings>(*body);
    }

   private:
    MoveSettings& to_;
  };
  // A member tells, and asks.
  MoveSettings told(const MoveSettings& theirs) {
    MoveSettings ours;
    overlay::Reply reply(std::make_unique<Noted>(ours));
    in_turn([&] { rpc.handlers.at(Method::kMoveSettings)(owners[1], pack(theirs), std::move(reply)); });
    return ours;
  }
  Task<Done> set_paused(bool paused) {
    auto pausing = controls->pause(paused);
    co_await pausing;
    co_return Done{};
  }
  void pause(bool paused) {
    in_turn([&] { scope.spawn(set_paused(paused)); });
    go(1s);
  }
  overlay::Scope scope{loop};
};

// The node coordinates nothing under it; what an operator says there must not carry it into later ids either.
TEST_F(Saying, PauseUnderAWrongClockLeavesTheClockOfIdsAlone) {
  const Hlc before = hlc.last();
  loop.step_clock(1h);
  pause(true);
  EXPECT_TRUE(controls->paused());
  EXPECT_EQ(hlc.last(), before);
}

TEST_F(Saying, TheLaterWordWinsWhateverTheClocks) {
  const auto ahead = static_cast<std::uint64_t>(loop.wall_ms()) + 3'600'000;
  (void)told({true, {hlc_at(ahead), WriterId{1}}, 0, {}});
  ASSERT_TRUE(controls->paused());
  pause(false);
  EXPECT_FALSE(controls->paused());
  EXPECT_FALSE(told({true, {hlc_at(ahead), WriterId{1}}, 0, {}}).paused) << "the others hear of it";
}

// Nothing could be said after it: one member would stop the copying for good.
TEST_F(Saying, AWordFromTheEndOfTimeIsNotTaken) {
  constexpr std::uint64_t kLast = std::numeric_limits<std::uint64_t>::max();
  (void)told({true, {std::numeric_limits<Hlc>::max(), WriterId{kLast}}, 0, {}});
  EXPECT_FALSE(controls->paused());
  (void)told({true, {hlc_at(kWallMsMax), WriterId{kLast}}, 0, {}});
  EXPECT_FALSE(controls->paused());
  (void)told({false, {}, 5'000'000, {std::numeric_limits<Hlc>::max(), WriterId{kLast}}});
  EXPECT_EQ(controls->rate(), kMoveRateDefault);
  pause(true);
  EXPECT_TRUE(controls->paused());
  pause(false);
  EXPECT_FALSE(controls->paused());
}

TEST_F(Saying, AClockBeforeTheBeginningOfTimeSaysNothingForEver) {
  const auto now = static_cast<std::uint64_t>(loop.wall_ms());
  loop.step_clock(std::chrono::milliseconds(-loop.wall_ms() - 1'000'000));
  pause(true);
  ASSERT_TRUE(controls->paused());
  EXPECT_FALSE(told({false, {hlc_at(now), WriterId{1}}, 0, {}}).paused);
}

}  // namespace
}  // namespace starling::node
