// What parts of a node make of what they noted by partition when the partitions are doubled (parts.h, decision 0025).
#include "node/layout.h"
#include "node/replication/append/forward.h"
#include "node/replication/append/obligations.h"
#include "node/replication/copies/replicator.h"
#include "node/replication/stand_ins/stand_in.h"
#include "node/repair/pruner.h"
#include "node/ring/tenure.h"
#include "tests/node/parts.h"
#include "tests/storage/split.h"

namespace starling::node {
namespace {

using overlay::Method;
using storage::Store;
using testing::kAlice;
using testing::kEve;

constexpr WriterId kDoubledWriter{77};
constexpr std::uint32_t kDoubled = 2 * testing::kTestPartitions;
// Of kAlice and of kEve, who are in one partition before.
constexpr PartitionId kLower{2}, kUpper{3};

class Doubled : public Parts {
 protected:
  explicit Doubled(std::optional<std::size_t> place = 0) : Parts(place) {}
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Parts::SetUp());
    in_turn([&] {
      replicator = std::make_unique<Replicator>(*view, [](const NodeId&, PartitionId, WriterId, std::uint64_t) {});
      box.store->on_synced([this](std::span<const storage::SyncedChange> changes) { replicator->on_synced(changes); });
    });
  }
  // In the turn of the caller.
  void split() {
    auto doubled = overlay::must(overlay::Ring::make(overlay::must(overlay::next_doubled(view->ring().version()))));
    ASSERT_TRUE(box.store->split().ok());
    view->set_ring(doubled);
  }
  void double_partitions() {
    in_turn([this] { split(); });
    box.sync();
    ASSERT_EQ(box.store->partition_of(kAlice), kLower);
    ASSERT_EQ(box.store->partition_of(kEve), kUpper);
  }
  template <class T>
  void hear(Method method, const T& message) {
    in_turn([&] { rpc.listeners.at(method)(owners[1], pack(message)); });
    run_for(100ms);
  }
  storage::Appended append(const MailboxId& mailbox, std::uint64_t seq) {
    storage::Appended appended;
    in_turn([&] {
      appended = box.store->append(testing::entry(mailbox, seq, hlc_at(1000 + seq)));
      replicator->send(appended);
    });
    return appended;
  }
  void wait_for(const MailboxId& mailbox, std::uint64_t n) {
    in_turn([&] {
      replicator->when_replicated(mailbox, n, false, [this, mailbox](const Result<std::uint8_t>& done) {
        if (done) replicated.insert(mailbox);
      });
    });
  }
  // The partitions that rows behind the prefix are of.
  std::vector<PartitionId> rows_of(Store::Family family, View prefix) {
    std::vector<PartitionId> out;
    for (const auto& [key, value] : box.store->scan(family, prefix, "", 100)) {
      out.push_back(PartitionId{BytesReader(View(key).substr(prefix.size())).u16be()});
    }
    return out;
  }

  std::unique_ptr<Replicator> replicator;
  std::set<MailboxId> replicated;
};

const std::vector<PartitionId> kChildren = {kLower, kUpper};

// --- The replicator. ---

TEST_F(Doubled, WhoWaitsForCopiesGoesWithTheMailbox) {
  const auto first = append(kAlice, 1);
  const auto second = append(kEve, 1);
  ASSERT_EQ(second.dot.n, first.dot.n + 1);
  wait_for(kAlice, first.dot.n);
  wait_for(kEve, second.dot.n);
  double_partitions();
  run_for(100ms);
  hear(Method::kReplicated, Replicated{{1}, first.dot.writer, {{kLower, second.dot.n}}, kDoubled});
  EXPECT_EQ(replicated, std::set{kAlice});
  hear(Method::kReplicated, Replicated{{1}, first.dot.writer, {{kUpper, second.dot.n}}, kDoubled});
  EXPECT_EQ(replicated, (std::set{kAlice, kEve}));
}

TEST_F(Doubled, WhoHasAParentHasBothChildren) {
  const auto appended = append(kEve, 1);
  run_for(100ms);
  hear(Method::kReplicated, Replicated{{1}, appended.dot.writer, {{kPartition, appended.dot.n}}, testing::kTestPartitions});
  double_partitions();
  wait_for(kEve, appended.dot.n);
  EXPECT_TRUE(replicated.contains(kEve));
}

// The sibling has thousands of numbers before it, and the owners are away: a stand-in is told of them, some at a time.
TEST_F(Doubled, AStandInIsToldOfALongGapUntilItIsPassed) {
  in_turn([&] {
    for (std::uint64_t seq = 1; seq <= 5000; ++seq) (void)box.store->append(testing::entry(kEve, seq, hlc_at(1000 + seq)));
  });
  box.sync();
  double_partitions();
  doubted = {owners[1], owners[2]};
  const auto last = append(kAlice, 1);
  wait_for(kAlice, last.dot.n);
  std::map<NodeId, std::uint64_t> reached;  // By each that stands in: 1..n without a hole.
  for (int i = 0; i < 100 && !replicated.contains(kAlice); ++i) {
    run_for(200ms);
    for (const auto& notice : std::exchange(rpc.notices, {})) {
      if (notice.method != Method::kHint) continue;
      const auto message = unpack<Replicate>(notice.body);
      auto& n = reached[notice.to];
      for (const auto& run : message->runs) {
        if (run.partition == kLower && run.first <= n + 1) n = std::max(n, run.first + run.changes.size() - 1);
      }
      const Hinted held{{1}, last.dot.writer, {{kLower, 1, n}}, kDoubled};
      if (n > 0) in_turn([&] { rpc.listeners.at(Method::kHinted)(notice.to, pack(held)); });
    }
  }
  EXPECT_TRUE(replicated.contains(kAlice));
}

TEST_F(Doubled, WhatTheTurnGatheredLeavesUnderTheNewNumbers) {
  in_turn([&] {
    replicator->send(box.store->append(testing::entry(kEve, 1, hlc_at(1001))));
    split();
  });
  run_for(100ms);
  ASSERT_GT(rpc.said(Method::kReplicate), 0u);
  for (const auto& notice : rpc.notices) {
    if (notice.method != Method::kReplicate) continue;
    const auto message = unpack<Replicate>(notice.body);
    ASSERT_TRUE(message);
    EXPECT_EQ(message->partitions, kDoubled);
    EXPECT_EQ(message->runs.at(0).partition, kUpper);
  }
}

// --- Obligations. ---

class DoubledDuties : public Doubled {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Doubled::SetUp());
    in_turn([&] {
      forwarder = std::make_unique<Forwarder>(*view);
      obligations = std::make_unique<Obligations>(*view, *forwarder, *replicator, [](WriterId) { return true; });
    });
  }
  std::unique_ptr<Forwarder> forwarder;
  std::unique_ptr<Obligations> obligations;
};

TEST_F(DoubledDuties, WhatWasMetOfAParentIsMetOfBothChildrenAndOfNobodyElse) {
  in_turn([&] { replicator->on_settled(kPartition, kDoubledWriter, 5); });
  run_for(1500ms);
  ASSERT_EQ(rows_of(Store::Family::kNode, "settled/"), std::vector{kPartition});
  double_partitions();
  EXPECT_EQ(rows_of(Store::Family::kNode, "settled/"), kChildren);
}

// The answer that is on its way finds it where it is by then.
TEST_F(DoubledDuties, ADutyGoesWithItsMailbox) {
  std::optional<Status> met;
  in_turn([&] {
    auto change = testing::entry(kEve, 1, hlc_at(1001));
    change.entry.flags |= storage::kEntryImpliesCopy;
    const auto appended = box.store->append(change);
    obligations->drive(appended.partition, appended.dot, appended.bytes, [&](Status done) { met = std::move(done); });
  });
  ASSERT_EQ(obligations->outstanding(), 1u);
  ASSERT_FALSE(rpc.calls.empty());
  double_partitions();
  EXPECT_TRUE(obligations->open(kUpper));
  EXPECT_FALSE(obligations->open(kLower));
  auto call = std::move(rpc.calls.back());
  rpc.calls.pop_back();
  in_turn([&] { call.done(pack(AppendReply{{1}, {hlc_at(2000), kDoubledWriter}, 2})); });
  ASSERT_TRUE(met);
  EXPECT_TRUE(met->ok());
  EXPECT_EQ(obligations->outstanding(), 0u);
}

// --- Rows of others. ---

class DoubledRows : public Doubled {
 protected:
  void prepare() override {
    box.store->put(Store::Family::kNode, row_key(kSpentPrefix, kPartition), pack(SpentRows{{{kDoubledWriter, 9, 1, true}}}));
    box.store->put(Store::Family::kPaxos, row_key(kTenurePrefix, kPartition), pack(TenureRow{{1}, {1}, {}}));
    box.store->put(Store::Family::kPaxos, row_key(kTenurePrefix, PartitionId{4}), "?");  // Unreadable.
    box.sync();
  }
};

TEST_F(DoubledRows, WhatWasForgottenOfAParentIsOfBothChildrenAndOfNobodyElse) {
  std::optional<Pruner> pruner;
  std::optional<Forwarder> forwarder;
  std::optional<Obligations> obligations;
  in_turn([&] {
    forwarder.emplace(*view);
    obligations.emplace(*view, *forwarder, *replicator, [](WriterId) { return true; });
    pruner.emplace(*view, *obligations, [] { return std::optional<std::set<WriterId>>(); });
  });
  ASSERT_TRUE(pruner->is_forgotten(kPartition, {kDoubledWriter, 9}));
  double_partitions();
  EXPECT_TRUE(pruner->is_forgotten(kLower, {kDoubledWriter, 9}));
  EXPECT_TRUE(pruner->is_forgotten(kUpper, {kDoubledWriter, 9}));
  EXPECT_FALSE(pruner->is_forgotten(kPartition, {kDoubledWriter, 9}));
  EXPECT_EQ(rows_of(Store::Family::kNode, "spent/"), kChildren);
}

TEST_F(DoubledRows, BothChildrenGoOnWithTheTermsOfTheirParent) {
  std::optional<Tenures> tenures;
  in_turn([&] {
    const auto recall = [](RingNumber) -> overlay::Task<Result<overlay::RingVersion>> {
      co_return Error{Errc::kUnavailable, "nobody knows it"};
    };
    tenures.emplace(*view, recall, [](RingNumber) { return std::optional<RingNumber>(); });
  });
  ASSERT_EQ(tenures->voted(), (std::vector{PartitionId{4}, kPartition}));
  double_partitions();
  EXPECT_EQ(tenures->voted(), (std::vector{PartitionId{8}, PartitionId{9}, kLower, kUpper}));
  EXPECT_EQ(rows_of(Store::Family::kPaxos, "tenure/"), (std::vector{kLower, kUpper, PartitionId{8}, PartitionId{9}}));
  in_turn([&] { tenures.reset(); });
}

// --- What is held for others. ---

class DoubledHints : public Doubled {
 protected:
  DoubledHints() : Doubled(std::nullopt) {}
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Doubled::SetUp());
    in_turn([&] { stand_in = std::make_unique<StandIn>(*view); });
  }
  void settle() {
    while (!box.store->is_split_settled()) {
      in_turn([&] { ASSERT_TRUE(box.store->settle_split(1 << 20).ok()); });
      box.sync();
    }
    run_for(600ms);
  }
  // Nothing: it is gone.
  void hint(PartitionId partition, std::uint64_t first, const std::vector<std::optional<MailboxId>>& mailboxes) {
    std::vector<Bytes> changes;
    for (const auto& mailbox : mailboxes) {
      const std::uint64_t n = first + changes.size();
      changes.push_back(mailbox ? encoded(testing::entry(*mailbox, n, hlc_at(1000 + n)), {kDoubledWriter, n}) : Bytes());
    }
    Replicate::Run run;
    run.partition = partition;
    run.first = first;
    run.covered = first - 1;
    for (const auto& change : changes) run.changes.push_back({change});
    hear(Method::kHint, Replicate{{1}, kDoubledWriter, {run}, view->partitions()});
  }
  std::unique_ptr<StandIn> stand_in;
};

TEST_F(DoubledHints, ASegmentGoesOnInBothChildrenOnceTheStoreShowsIt) {
  hint(kPartition, 1, {kAlice, kEve, kAlice});
  ASSERT_EQ(stand_in->segments(), 1u);
  double_partitions();
  EXPECT_FALSE(stand_in->is_known());
  EXPECT_EQ(stand_in->segments(), 0u);
  // Nothing is taken meanwhile, so nothing is acknowledged.
  const auto answered = rpc.said(Method::kHinted);
  hint(kLower, 4, {kAlice});
  EXPECT_EQ(rpc.said(Method::kHinted), answered);
  settle();
  EXPECT_TRUE(stand_in->is_known());
  const auto lower = stand_in->read(kLower, kDoubledWriter, 1);
  EXPECT_EQ(lower.to, 3u);
  ASSERT_EQ(lower.live.size(), 2u);
  EXPECT_EQ(lower.live[1].n, 3u);
  const auto upper = stand_in->read(kUpper, kDoubledWriter, 1);
  EXPECT_EQ(upper.to, 3u);
  ASSERT_EQ(upper.live.size(), 1u);
  EXPECT_EQ(upper.live[0].n, 2u);
  // And so in theirs.
  in_turn([this] { split(); });
  box.sync();
  settle();
  std::size_t live = 0;
  for (std::uint16_t p = 4; p < 8; ++p) {
    const auto held = stand_in->read(PartitionId{p}, kDoubledWriter, 1);
    EXPECT_EQ(held.to, 3u) << p;
    live += held.live.size();
  }
  EXPECT_EQ(live, 3u);
}

TEST_F(DoubledHints, ASegmentGoesOnOverWhatIsSaidToBeGone) {
  double_partitions();  // From then on it is said.
  settle();
  hint(kLower, 1, {kAlice, std::nullopt, kAlice});
  EXPECT_EQ(rpc.said(Method::kHinted), 1u);
  const auto held = stand_in->read(kLower, kDoubledWriter, 1);
  EXPECT_EQ(held.to, 3u);
  ASSERT_EQ(held.live.size(), 2u);
  EXPECT_EQ(held.live[1].n, 3u);
}

}  // namespace
}  // namespace starling::node
