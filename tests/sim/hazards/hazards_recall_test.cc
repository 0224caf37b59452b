// Hazard F42: what closes a message comes to an owner before the message, and erases its body wherever that comes or lay.
// Closed is what its sender gave up: a void; what was acknowledged and is taken back: hazards_take_back_test.cc. hazards.h
// says how; in a store alone: tests/storage/erasure_test.cc.
#include "tests/sim/hazards/hazards.h"

namespace starling::sim {
namespace {

class Recalls : public Hazards {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Hazards::SetUp());
    start(*alice, b);
    start(*bob, a);
    ASSERT_TRUE(acked(send(*bob)));
    ASSERT_TRUE(cluster.run_until_quiet(30s));
  }
  // The node's log holds the body, whatever shows of it.
  bool has_body(std::size_t i, const Carried& of) {
    const auto stored = cluster.store(i).read_change(partition, of.dot);
    if (!stored) return false;
    const auto change = storage::decode(*stored->bytes, of.dot);
    return change && change->kind == storage::ChangeKind::kEntry && !change->entry.body.empty();
  }
  // Refused elsewhere, the sender closes the number, and goes on.
  void give_up() {
    ASSERT_TRUE(manage([&](auto done) { alice->client().remove_member("#g", "@bob", std::move(done)); }));
    bob->start(b);
    ASSERT_TRUE(until([&] { return closed.has_value() && bob->ready(); }, 60s));
    ASSERT_TRUE(manage([&](auto done) { alice->client().add_member("#g", "@bob", 0, std::move(done)); }));
    ASSERT_TRUE(acked(send(*bob)));
  }
  void note_void(const TapMessage& m) {
    for (const auto& change : carried(m)) {
      if (content && change.kind == storage::ChangeKind::kVoid && change.key == content->key) closed = change;
    }
  }
  void expect_erased() {
    const auto erased = [&] { return !has_body(a, *content) && !has_body(b, *content) && !has_body(c, *content); };
    EXPECT_TRUE(until(erased, 120s)) << has_body(a, *content) << has_body(b, *content) << has_body(c, *content);
    start(*alice2, c);
    EXPECT_TRUE(history_of(*alice2, given_up).empty());
    finish();
    EXPECT_EQ(still_shown_on(given_up), 0u);
  }

  SendIndex given_up = kUnsent;
  std::optional<Carried> content, closed;
};

INSTANTIATE_TEST_SUITE_P(Seeds, Recalls, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(6)));

// a alone has the content when the void is made; b and c have the void when a comes back with it.
TEST_P(Recalls, F42_AVoidThatCameBeforeItsContentErasesItWhenItComes) {
  bool came = false;
  tap.on_leave = [&](const TapMessage& m) {
    const auto x = find(m, given_up);
    if (m.method != Method::kReplicate || m.from != a || !x || closed) return Fate::kPass;
    content = x;
    return Fate::kLose;
  };
  tap.on_arrive = [&](const TapMessage& m) { note_void(m); };
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    came = came || (closed && m.to == a && find(carried(m, answer), given_up));
    return Fate::kPass;
  };
  given_up = send(*bob);
  ASSERT_TRUE(until([&] { return content.has_value(); }));
  isolate(a);
  ASSERT_TRUE(until([&] { return synced(a, content->dot) == content->dot.n; }));
  ASSERT_TRUE(has_body(a, *content));
  bob->close();
  cluster.crash(a, Crash::kProcess);
  cluster.heal();
  give_up();
  ASSERT_TRUE(cluster.restart(a));
  ASSERT_TRUE(until([&] { return came; }, 60s)) << "nobody fetched it";
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  expect_erased();
}

// The other way round: the content lies at two, the void comes to the third first, and to who has it on a cold disk last.
TEST_P(Recalls, F42_ABodyThatLayForLongGoesOnceEveryOwnerHasTheVoid) {
  tap.on_leave = [&](const TapMessage& m) {
    const auto x = find(m, given_up);
    if (m.method != Method::kReplicate || m.from != a || !x || closed) return Fate::kPass;
    content = x;
    return Fate::kLose;
  };
  tap.on_arrive = [&](const TapMessage& m) { note_void(m); };
  given_up = send(*bob);
  ASSERT_TRUE(until([&] { return content.has_value(); }));
  isolate(a);
  ASSERT_TRUE(until([&] { return synced(a, content->dot) == content->dot.n; }));
  bob->close();
  // Out of the log of RocksDB and into a file, twice over, before anybody knows of a void.
  ASSERT_TRUE(cluster.stop(a));
  ASSERT_TRUE(cluster.restart(a));
  world.run_for(1s);
  ASSERT_TRUE(cluster.stop(a));
  cluster.heal();
  ASSERT_FALSE(closed);
  give_up();
  for (const auto i : {b, c}) ASSERT_FALSE(has_body(i, *content)) << i;
  // While an owner lacks the void the body is not erased: it could be the only copy.
  tap.on_leave = [&](const TapMessage& m) {
    const bool fetches = m.method == Method::kFetch && m.from == a && m.to != a;
    return fetches ? Fate::kHold : Fate::kPass;
  };
  ASSERT_TRUE(cluster.restart(a));
  world.run_for(15s);
  ASSERT_TRUE(has_body(a, *content)) << "it has not heard of the void";
  tap.clear();
  ASSERT_TRUE(cluster.run_until_quiet(60s));
  expect_erased();
}

}  // namespace
}  // namespace starling::sim
