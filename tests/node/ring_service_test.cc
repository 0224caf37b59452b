// How a node follows the ring when versions come out of order (parts.h).
#include "node/ring/ring_service.h"

#include "tests/node/parts.h"
#include "tests/overlay/ring_steps.h"

namespace starling::node {
namespace {

using overlay::Method;
using overlay::RingVersion;

class Following : public Parts {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Parts::SetUp());
    identity = Identity::generate(random);
    in_turn([&] {
      paxos = std::make_unique<PaxosService>(*view);
      service = std::make_unique<RingService>(*view, *paxos, *identity, keyring);
      service->install = []() -> overlay::Task<Status> { co_return ok_status(); };
      service->covered = [] { return ok_status(); };
      service->names_settled = [] { return ok_status(); };
    });
    const auto now = view->ring().version();
    intent = overlay::must(overlay::next_intent_leave(now, std::vector{others[0]}, true));
    complete = overlay::must(overlay::next_complete(intent));
  }
  void hear(const RingVersion& version) {
    const Bytes body = pack(RingAnswer{{overlay::encode(version)}});
    in_turn([&] { rpc.listeners.at(Method::kRingDecided)(owners[1], body); });
  }
  // What others are asked for they know.
  void tell(const std::vector<RingVersion>& versions) {
    for (int turn = 0; turn < 20; ++turn) {
      run_for(50ms);
      for (auto& call : std::exchange(rpc.calls, {})) {
        const auto asked = call.method == Method::kRingGet ? unpack<RingGetRequest>(call.body)
                                                           : Result<RingGetRequest>(Error{});
        Result<Bytes> answer = Error{Errc::kNotFound, "not known here"};
        for (const auto& version : versions) {
          if (asked && asked->number == version.number) answer = pack(RingAnswer{{overlay::encode(version)}});
        }
        in_turn([&] { call.done(std::move(answer)); });
      }
    }
  }
  void settle() {
    for (int i = 0; i < 100 && !box.store->is_split_settled(); ++i) {
      in_turn([&] { (void)box.store->settle_split(1 << 20); });
      box.sync();
    }
    ASSERT_TRUE(box.store->is_split_settled());
  }
  // All that was asked of others about the ring, whoever is asked next included.
  void nobody_knows() {
    for (int turn = 0; turn < 20; ++turn) {
      run_for(50ms);
      for (auto& call : std::exchange(rpc.calls, {})) {
        in_turn([&] { call.done(Error{Errc::kTimeout, "no answer"}); });
      }
    }
  }

  std::optional<Identity> identity;
  Keyring keyring{SecretKey{}};
  std::unique_ptr<PaxosService> paxos;
  std::unique_ptr<RingService> service;
  RingVersion intent, complete;
};

TEST_F(Following, WhatCannotBeFollowedIsSaid) {
  hear(complete);
  nobody_knows();
  EXPECT_NE(service->stuck().find("ring version " + std::to_string(intent.number.value)), std::string::npos)
      << service->stuck();
}

// --- Doublings (decision 0025). ---

TEST_F(Following, OneThatWasAwaySettlesTheFirstDoublingBeforeItFollowsTheSecond) {
  const auto first = overlay::must(overlay::next_doubled(view->ring().version()));
  const auto second = overlay::must(overlay::next_doubled(first));
  hear(second);
  tell({first, second});
  EXPECT_EQ(view->ring().number(), first.number);
  EXPECT_EQ(view->partitions(), first.partitions);
  EXPECT_NE(service->stuck(), "");
  settle();
  hear(second);  // As it hears again and again.
  EXPECT_EQ(view->ring().number(), second.number);
  EXPECT_EQ(view->partitions(), second.partitions);
  EXPECT_EQ(service->stuck(), "");
}

TEST_F(Following, OneThatWasRemovedSplitsItsStoreAndHandsHomeByTheNewCount) {
  const auto removal = overlay::must(overlay::next_intent_remove(view->ring().version(), std::vector{view->self}));
  const auto removed = overlay::must(overlay::next_complete(removal));
  const auto doubled = overlay::must(overlay::next_doubled(removed));
  hear(doubled);
  tell({removal, removed, doubled});
  EXPECT_TRUE(view->is_holder());
  EXPECT_EQ(view->ring().number(), doubled.number);
  EXPECT_EQ(view->partitions(), doubled.partitions);
  EXPECT_EQ(service->stuck(), "");
}

// Those who forced it out had not heard of the doubling.
TEST_F(Following, OneThatDoubledAndWasForcedOutBeforeSaysThatItCannotComeHome) {
  const auto before = view->ring().version();
  hear(overlay::must(overlay::next_doubled(before)));
  ASSERT_EQ(view->partitions(), 2 * before.partitions);
  const auto forced = overlay::must(overlay::forced_remove(before, std::vector{view->self}, overlay::test_lineage(9)));
  const auto later = overlay::must(overlay::next_intent_leave(forced, std::vector{others[0]}, true));
  hear(forced);
  EXPECT_EQ(service->stuck(), "") << "it may have come late";
  hear(later);
  tell({before, forced, later});
  EXPECT_NE(service->stuck().find("until they are doubled there, too"), std::string::npos) << service->stuck();
  EXPECT_EQ(view->partitions(), 2 * before.partitions);
  EXPECT_EQ(view->ring().lineage(), before.lineage);
}

// The new lineage began where ours ended: it is one step among the others.
TEST_F(Following, OneThatWasForcedOutBeforeADoublingFollowsIt) {
  const auto forced = overlay::must(overlay::forced_remove(view->ring().version(), std::vector{view->self},
                                                           overlay::test_lineage(9)));
  const auto doubled = overlay::must(overlay::next_doubled(forced));
  hear(doubled);
  tell({forced, doubled});
  EXPECT_TRUE(view->is_holder());
  EXPECT_EQ(view->partitions(), doubled.partitions);
  EXPECT_EQ(service->stuck(), "");
}

// While members are asked for the version between, it comes by itself, and the next.
TEST_F(Following, WhatCameAnotherWayMeanwhileIsNotSaidToBeMissing) {
  hear(complete);
  hear(intent);
  hear(complete);
  ASSERT_EQ(view->ring().number(), complete.number);
  nobody_knows();
  EXPECT_EQ(service->stuck(), "");
}

}  // namespace
}  // namespace starling::node
