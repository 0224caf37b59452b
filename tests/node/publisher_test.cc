// What an owner answers who reads a mailbox: pages that pass what was written off, and what is gone.
#include "node/replication/follow/publisher.h"

#include "tests/node/parts.h"

namespace starling::node {
namespace {

using overlay::Method;
using storage::RangeStatement;
using storage::Trace;
using testing::kAlice;
using testing::kBob;

constexpr WriterId kOld{5}, kNew{6};

class Publishing : public Parts {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Parts::SetUp());
    in_turn([&] { publisher = std::make_unique<Publisher>(*view); });
  }
  template <class T>
  ReadReply ask(Method method, const T& request) {
    const auto body = answer(method, others[0], request);
    const auto reply = body ? unpack<ReadReply>(*body) : Result<ReadReply>(body.error());
    EXPECT_TRUE(reply.ok()) << reply.error().text;
    return reply ? *reply : ReadReply{};
  }
  ReadReply read(const storage::VersionVector& cursor, std::vector<Dot> pushed = {}) {
    return ask(Method::kRead, ReadRequest{{}, kAlice, cursor, false, std::move(pushed)});
  }
  FollowReply follow(bool resume) {
    FollowRequest request;
    request.partition = kPartition;
    request.stream = 1;
    request.items = {{kAlice, resume, {}}};
    request.partitions = view->partitions();
    const auto body = answer(Method::kFollow, others[0], request);
    const auto reply = body ? unpack<FollowReply>(*body) : Result<FollowReply>(body.error());
    EXPECT_TRUE(reply.ok()) << reply.error().text;
    return reply ? *reply : FollowReply{};
  }
  void put(const Dot& dot, const storage::ChangeView& change) {
    ASSERT_TRUE(box.store->apply(kPartition, dot, encoded(change, dot)).ok());
  }
  // The n-th of a writer was sent at this time.
  static EntryId position(const Dot& dot) { return {1000 + 2 * dot.n + (dot.writer == kNew ? 1 : 0), dot.writer}; }
  // A run of which those whose number is a multiple of `live` are here, and the others were written off.
  void lose_most(WriterId writer, std::uint64_t count, std::uint64_t live) {
    RangeStatement range{writer, 1, count, {}, {}, {}};
    for (std::uint64_t n = 1; n <= count; ++n) {
      const Dot dot{writer, n};
      auto change = testing::entry(kAlice, 10 * n + writer.value, position(dot).time);
      change.entry.id = position(dot);
      if (n % live == 0) {
        range.live.push_back({n, {encoded(change, dot)}});
      } else {
        range.lost.push_back(n);
        range.traces.push_back({kAlice, kBob, change.entry.key, position(dot), dot, false, 1, 0});
      }
    }
    ASSERT_TRUE(box.store->apply(kPartition, range).ok());
    box.sync();
  }
  std::unique_ptr<Publisher> publisher;
};

// Nobody passes a number that it was not told of, however many there are.
TEST_F(Publishing, ManyLossesAreToldPageByPageAndEachOnce) {
  lose_most(kOld, 1500, 10);
  lose_most(kNew, 30, 3);
  storage::VersionVector cursor;
  std::set<Dot> told, shown;
  std::size_t pages = 0;
  for (bool more = true; more; ++pages) {
    ASSERT_LT(pages, 20u);
    const auto page = read(cursor);
    EXPECT_LE(page.lost.size(), kReadChangesMax);
    for (const auto& trace : page.lost) {
      EXPECT_TRUE(page.cursor.covers(trace.dot) && !cursor.covers(trace.dot));
      EXPECT_TRUE(told.insert(trace.dot).second);
    }
    for (const auto& item : page.changes) {
      EXPECT_TRUE(page.cursor.covers(item.dot) && !cursor.covers(item.dot));
      EXPECT_TRUE(shown.insert(item.dot).second);
      const auto before = static_cast<std::size_t>(std::count_if(told.begin(), told.end(), [&](const Dot& dot) {
        return dot.writer == item.dot.writer && dot.n < item.dot.n;
      }));
      const std::uint64_t live = item.dot.writer == kOld ? 10 : 3;
      EXPECT_EQ(before, item.dot.n - item.dot.n / live) << "what lies below it is told with it";
    }
    ASSERT_NE(page.cursor, cursor);
    cursor = page.cursor;
    more = page.more;
  }
  EXPECT_EQ(told.size(), 1350u + 20u);
  EXPECT_EQ(shown.size(), 150u + 10u);
  EXPECT_EQ(cursor.get(kOld), 1500u);
  EXPECT_EQ(cursor.get(kNew), 30u);
  EXPECT_GE(pages, 3u);
  const auto again = read(cursor);
  EXPECT_TRUE(again.lost.empty() && again.changes.empty() && !again.more);
}

// The next page begins before the oldest of either kind.
TEST_F(Publishing, PagesOfAHistoryFullOfLossesMeetAtTheirBorders) {
  lose_most(kOld, 1500, 10);
  lose_most(kNew, 30, 3);
  std::vector<EntryId> seen;
  EntryId before;
  std::size_t pages = 0;
  for (bool more = true; more; ++pages) {
    ASSERT_LT(pages, 20u);
    const auto page = ask(Method::kHistory, HistoryRequest{kAlice, kBob, before, 200});
    std::vector<EntryId> ids;
    for (const auto& trace : page.lost) ids.push_back(trace.id);
    for (const auto& item : page.changes) ids.push_back(storage::decode(item.change.data, item.dot)->entry.id);
    ASSERT_FALSE(ids.empty());
    EXPECT_LE(page.lost.size(), kReadChangesMax);
    std::sort(ids.rbegin(), ids.rend());
    seen.insert(seen.end(), ids.begin(), ids.end());
    before = ids.back();
    more = page.more;
  }
  EXPECT_EQ(seen.size(), 1530u);
  EXPECT_TRUE(std::is_sorted(seen.rbegin(), seen.rend()));
  EXPECT_EQ(std::adjacent_find(seen.begin(), seen.end()), seen.end());
}

// Other copies of what was written off stand, far below: there the page goes on, and is not empty.
TEST_F(Publishing, LossesThatNobodyMissesDoNotEndAHistoryEarly) {
  constexpr std::uint64_t kMany = kReadChangesMax + 100;
  RangeStatement lost{kOld, 1, kMany, {}, {}, {}}, live{kNew, 1, kMany, {}, {}, {}};
  for (std::uint64_t n = 1; n <= kMany; ++n) {
    auto change = testing::entry(kAlice, n, 1000 + n);
    live.live.push_back({n, {encoded(change, {kNew, n})}});
    lost.lost.push_back(n);
    lost.traces.push_back({kAlice, kBob, change.entry.key, {10'000 + n, kOld}, {kOld, n}, false, 1, 0});
  }
  ASSERT_TRUE(box.store->apply(kPartition, lost).ok());
  ASSERT_TRUE(box.store->apply(kPartition, live).ok());
  box.sync();
  std::vector<EntryId> seen;
  EntryId before;
  std::size_t pages = 0;
  for (bool more = true; more; ++pages) {
    ASSERT_LT(pages, 20u);
    const auto page = ask(Method::kHistory, HistoryRequest{kAlice, kBob, before, 200});
    EXPECT_TRUE(page.lost.empty());
    ASSERT_FALSE(page.more && page.changes.empty()) << "nothing to go on from";
    for (const auto& item : page.changes) {
      seen.push_back(storage::decode(item.change.data, item.dot)->entry.id);
      before = seen.back();
    }
    more = page.more;
  }
  EXPECT_EQ(seen.size(), kMany);
  EXPECT_TRUE(std::is_sorted(seen.rbegin(), seen.rend()));
}

// What is passed because it was taken back was read all the same.
TEST_F(Publishing, ManyBodiesThatWereTakenBackAreReadPageByPage) {
  constexpr std::uint64_t kMany = 140;
  const std::string body(storage::kBodySizeMax, 'x');
  for (std::uint64_t n = 1; n <= kMany; ++n) {
    put({kOld, n}, testing::entry(kAlice, n, 1000 + n, body));
    put({kNew, n}, testing::closing(kAlice, n, 9000 + n));
    box.sync();
  }
  EXPECT_EQ(follow(true).behind, std::vector{kAlice});
  EXPECT_EQ(rpc.said(Method::kPush), 0u);
  storage::VersionVector cursor;
  std::size_t pages = 0, voids = 0;
  for (bool more = true; more; ++pages) {
    ASSERT_LT(pages, 50u);
    const auto page = read(cursor);
    EXPECT_LE(page.cursor.get(kOld) - cursor.get(kOld), kReadBytesMax / body.size() + 1);
    ASSERT_NE(page.cursor, cursor);
    voids += page.changes.size();
    cursor = page.cursor;
    more = page.more;
  }
  EXPECT_GE(pages, kBacklogPagesMax);
  EXPECT_EQ(voids, kMany);
  EXPECT_EQ(cursor.get(kOld), kMany);
}

// The recall came first, from another owner.
TEST_F(Publishing, WhatIsClosedHereIsNotPushed) {
  box.store->on_synced([this](std::span<const storage::SyncedChange> changes) { publisher->on_synced(changes); });
  EXPECT_TRUE(follow(false).behind.empty());
  const auto sync = [&] { in_turn([&] { box.sync(); }); };
  put({kNew, 1}, testing::closing(kAlice, 1, 1000));
  sync();
  put({kOld, 1}, testing::entry(kAlice, 1, 1000));
  put({kOld, 2}, testing::entry(kAlice, 2, 1001));
  sync();
  // Both in one batch.
  put({kOld, 3}, testing::entry(kAlice, 3, 1002));
  put({kNew, 2}, testing::closing(kAlice, 3, 1002));
  sync();
  for (const std::uint64_t n : {1u, 2u}) {
    const auto bytes = std::make_shared<const Bytes>(encoded(testing::entry(kAlice, n, 999 + n), {kOld, n}));
    in_turn([&] { publisher->regained({kOld, n}, bytes); });
  }
  run_for(100ms);
  std::vector<Dot> pushed, again;
  for (const auto& notice : rpc.notices) {
    if (notice.method != Method::kPush) continue;
    const auto push = unpack<Push>(notice.body);
    ASSERT_TRUE(push.ok());
    for (const auto& stream : push->streams) {
      for (const auto& item : stream.changes) pushed.push_back(item.dot);
      for (const auto& item : stream.regained) again.push_back(item.dot);
    }
  }
  EXPECT_EQ(pushed, (std::vector<Dot>{{kNew, 1}, {kOld, 2}, {kNew, 2}}));
  EXPECT_EQ(again, (std::vector<Dot>{{kOld, 2}}));
  // Who saw the gap reads past it.
  storage::VersionVector cursor;
  cursor.raise(kNew, 1);
  const auto page = read(cursor);
  EXPECT_EQ(page.cursor.get(kOld), 3u);
  EXPECT_EQ(page.changes.size(), 2u);
}

// Whoever knows that more was pushed waits for it: the last page says that it is gone, or that it is still to come.
TEST_F(Publishing, WhatWasPushedAndIsGoneIsPassedByTheLastPage) {
  RangeStatement range{kOld, 1, 3, {}, {}, {}};
  range.live.push_back({1, {encoded(testing::entry(kAlice, 1, 1000), {kOld, 1})}});
  ASSERT_TRUE(box.store->apply(kPartition, range).ok());
  box.sync();
  EXPECT_EQ(read({}).cursor.get(kOld), 1u);
  EXPECT_EQ(read({}, {{kOld, 3}}).cursor.get(kOld), 3u);
  EXPECT_EQ(read({}, {{kOld, 4}}).cursor.get(kOld), 1u) << "not synced here yet";
}

}  // namespace
}  // namespace starling::node
