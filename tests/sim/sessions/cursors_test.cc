// Cursors that are ahead of the owner that is asked (docs/decisions/0067): honest ones are served, however it came;
// one that names a number that was never given out is told `reset`.
#include "crypto/text.h"
#include "tests/sim/doubling/doubling.h"
#include "tests/sim/world/metrics.h"
#include "tests/sim/world/raw_peer.h"

namespace starling::sim {
namespace {

using namespace node::protocol;

// Of nodes a, b and c that own #g, and others.
template <class Base>
class CursorCases : public Base {
 protected:
  using Base::Base;

  std::unique_ptr<RawClient> log_in(std::size_t at) {
    auto out = std::make_unique<RawClient>(this->world, this->cluster.network(), this->cluster.client_address(at));
    EXPECT_TRUE(out->log_in("@bob", "tablet", "secret of @bob"));
    return out;
  }
  Sync sync_of(const storage::VersionVector& cursor, const std::string& mailbox = "#g") {
    Sync sync;
    EXPECT_TRUE(LineageId::from(
        *parse_hex(this->cluster.admin(this->a, "status", Json::object())->at("cluster").at("lineage").template get<std::string>()),
        sync.lineage));
    sync.mailboxes.push_back({mailbox, cursor});
    return sync;
  }
  // The cursor that the node gave for #g.
  static storage::VersionVector cursor_of(const RawClient& client, const std::string& mailbox = "#g") {
    storage::VersionVector out;
    for (const auto& body : client.bodies()) {
      const auto synced = unpack<Synced>(body);
      if (synced && synced->type == static_cast<int>(Type::kSynced) && synced->mailbox == mailbox) out.merge(synced->cursor);
      const auto entry = unpack<EntryMessage>(body);
      if (entry && entry->type == static_cast<int>(Type::kEntry) && entry->mailbox == mailbox) {
        out.raise(WriterId{entry->writer}, entry->n);
      }
    }
    return out;
  }
  double refused_at(std::size_t i, const std::string& reason) {
    return metrics_of(this->world, this->cluster, i)["starling_cursors_refused_total{reason=\"" + reason + "\"}"];
  }
  // Questions about numbers of its writer that `to` was asked.
  void count_claims() {
    this->tap.on_arrive = [this](const TapMessage& m) {
      if (m.method != Method::kHeads || m.kind != TapMessage::Kind::kRequest) return;
      const auto request = unpack<node::HeadsRequest>(m.body);
      if (request && !request->claims.empty()) ++claims[m.to];
    };
  }
  std::map<std::size_t, int> claims;
};

class Cursors : public CursorCases<Hazards> {
 protected:
  Cursors() : CursorCases<Hazards>(5) {}
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Hazards::SetUp());
    for (std::size_t i = 0; i < cluster.size(); ++i) {
      if (i != a && i != b && i != c) d = i;
    }
    start(*alice, a);
    ASSERT_TRUE(acked(send(*alice)));
    ASSERT_TRUE(cluster.run_until_quiet(30s));
    count_claims();
  }
  std::size_t d = 0;  // Owns nothing of #g.
};
INSTANTIATE_TEST_SUITE_P(Seeds, Cursors, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(4)));

// Through an owner, and through a node that is none.
TEST_P(Cursors, ANumberThatWasNeverGivenOutIsReset) {
  for (const auto at : {a, c, d}) {
    auto forged = log_in(at);
    storage::VersionVector cursor;
    cursor.raise(cluster.writer(a), 1'000);
    const double before = refused_at(at, "future");
    EXPECT_TRUE(refused(forged->ask(sync_of(cursor)), Errc::kReset, "never given out")) << at;
    EXPECT_TRUE(forged->stream().wait_closed(5s));
    EXPECT_EQ(refused_at(at, "future"), before + 1);
    EXPECT_GE(claims[a], 1) << at;
    // It starts cleanly.
    auto again = log_in(at);
    ASSERT_TRUE(again->ask(Sync{}));
    EXPECT_EQ(again->count(Type::kEntry), 1u);
  }
  finish();
}

TEST_P(Cursors, WhatIsToldWithoutAskingAnybody) {
  auto client = log_in(d);
  storage::VersionVector cursor;
  cursor.raise(WriterId{7}, std::uint64_t{1} << 57);
  EXPECT_TRUE(refused(client->ask(sync_of(cursor)), Errc::kReset));
  storage::VersionVector of_nowhere;
  of_nowhere.raise(cluster.writer(a), 1);
  Sync sync = sync_of(of_nowhere);
  sync.lineage = {};
  EXPECT_TRUE(refused(client->ask(sync), Errc::kReset, "lineage"));
  EXPECT_EQ(refused_at(d, "future"), 1);
  EXPECT_EQ(refused_at(d, "lineage"), 1);
  EXPECT_TRUE(claims.empty());
  // A run that nobody has any more, or never had, cannot be told from one whose tail was lost: it hides nothing that is
  // yet to come.
  storage::VersionVector closed;
  closed.raise(WriterId{7}, 1'000);
  ASSERT_TRUE(client->ask(sync_of(closed)));
  EXPECT_EQ(client->count(Type::kEntry), 1u);
  finish();
}

// c lags behind what the device was shown.
TEST_P(Cursors, AnOwnerThatLagsResetsNobody) {
  tap.on_leave = [&](const TapMessage& m) {
    if (m.method == Method::kReplicate && m.to == c) return Fate::kLose;
    const bool repairs = m.method == Method::kCompare || m.method == Method::kFetch;
    return m.from == c && m.to != c && repairs ? Fate::kHold : Fate::kPass;
  };
  const auto sent = send(*alice);
  ASSERT_TRUE(acked(sent));
  auto device = log_in(b);
  ASSERT_TRUE(device->ask(Sync{}));
  const auto cursor = cursor_of(*device);
  ASSERT_LT(synced(c, {cluster.writer(a), 1}), cursor.get(cluster.writer(a)));
  auto again = log_in(c);
  ASSERT_TRUE(again->ask(sync_of(cursor)));
  EXPECT_GE(claims[a], 1) << "it was ahead, and a was asked";
  EXPECT_EQ(refused_at(c, "future"), 0);
  tap.on_leave = nullptr;
  tap.release();
  finish();
}

// a, which alone could tell, is on the other side: the device is served, and told when the sides see each other again.
TEST_P(Cursors, BehindASplitADeviceIsServedAndTheForgedOneIsFoundOutAfterIt) {
  tap.on_leave = [&](const TapMessage& m) {
    if (m.method == Method::kReplicate && m.to == c) return Fate::kLose;
    const bool repairs = m.method == Method::kCompare || m.method == Method::kFetch;
    return m.from == c && m.to != c && repairs ? Fate::kHold : Fate::kPass;
  };
  ASSERT_TRUE(acked(send(*alice)));
  auto device = log_in(b);
  ASSERT_TRUE(device->ask(Sync{}));
  const auto honest_cursor = cursor_of(*device);
  ASSERT_LT(synced(c, {cluster.writer(a), 1}), honest_cursor.get(cluster.writer(a)));
  std::vector<std::size_t> others;
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    if (i != a && i != b) others.push_back(i);
  }
  cluster.partition({{a, b}, others});
  world.run_for(15s);
  auto honest = log_in(c);
  ASSERT_TRUE(honest->ask(sync_of(honest_cursor)));
  auto forged = log_in(c);
  auto cursor = honest_cursor;
  cursor.raise(cluster.writer(a), 1'000);
  ASSERT_TRUE(forged->ask(sync_of(cursor))) << "nobody there can tell";
  EXPECT_EQ(refused_at(c, "future"), 0);
  tap.on_leave = nullptr;
  tap.release();
  cluster.heal();
  Bytes ping = frame(Head{static_cast<std::uint8_t>(Type::kPing), 9});
  for (int turn = 0; turn < 6 && !forged->stream().closed(); ++turn) {
    world.run_for(30s);
    honest->stream().send(ping);
    if (!forged->stream().closed()) forged->stream().send(ping);
  }
  EXPECT_TRUE(forged->stream().closed());
  EXPECT_FALSE(honest->stream().closed());
  EXPECT_EQ(refused_at(c, "future"), 1);
  auto back = log_in(c);
  EXPECT_TRUE(refused(back->ask(sync_of(cursor)), Errc::kReset));
  finish();
}

// The device was shown by b what only a and b had. a lost it before its sync and runs under another writer; b is gone.
TEST_P(Cursors, WhatDidNotOutliveACrashResetsNobody) {
  bool kept = true;
  tap.on_leave = [&](const TapMessage& m) {
    if (m.method == Method::kReplicate && m.from == a && m.to != b && m.to != a) return Fate::kLose;
    const bool repairs = m.method == Method::kCompare || m.method == Method::kFetch;
    return kept && (m.to == b || m.to == a) && m.from != m.to && repairs ? Fate::kHold : Fate::kPass;
  };
  const WriterId lost = cluster.writer(a);
  auto device = log_in(b);
  ASSERT_TRUE(device->ask(Sync{}));
  const auto seen = cursor_of(*device).get(lost);
  (void)send(*alice);
  ASSERT_TRUE(until([&] { return cursor_of(*device).get(lost) > seen; }));
  const auto cursor = cursor_of(*device);
  cluster.crash(b, Crash::kPower);
  cluster.crash(a, Crash::kPower);
  alice->close();
  ASSERT_TRUE(cluster.restart(a));
  ASSERT_TRUE(until([&] { return cluster.up(a) && cluster.node(a).serving(); }, 120s));
  ASSERT_NE(cluster.writer(a), lost);
  world.run_for(5s);
  auto again = log_in(c);
  ASSERT_TRUE(again->ask(sync_of(cursor)));
  EXPECT_EQ(refused_at(c, "future"), 0);
  kept = false;
  tap.on_leave = nullptr;
  tap.release();
  ASSERT_TRUE(cluster.restart(b));
  finish();
}

class CursorsDoubled : public CursorCases<Doubling> {};
INSTANTIATE_TEST_SUITE_P(Seeds, CursorsDoubled, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(3)));

// Each child of the partition counts on from its parent's number.
TEST_P(CursorsDoubled, AnHonestCursorOutlivesTheDoublingAndAForgedOneDoesNot) {
  auto device = log_in(c);
  ASSERT_TRUE(device->ask(Sync{}));
  const auto cursor = cursor_of(*device);
  ASSERT_FALSE(cursor.empty());
  ASSERT_NO_FATAL_FAILURE(double_all(a));
  for (const auto at : {a, b, c}) {
    auto again = log_in(at);
    EXPECT_TRUE(again->ask(sync_of(cursor))) << at;
    EXPECT_EQ(refused_at(at, "future"), 0);
  }
  ASSERT_NO_FATAL_FAILURE(settle_all());
  auto forged = log_in(c);
  storage::VersionVector bent = cursor;
  for (const auto at : {a, b, c}) bent.raise(cluster.writer(at), 100'000);
  EXPECT_TRUE(refused(forged->ask(sync_of(bent)), Errc::kReset));
  finish();
}

}  // namespace
}  // namespace starling::sim
