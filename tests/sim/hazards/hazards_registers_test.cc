// Hazard F24: what a change implies elsewhere is driven until it is acknowledged, and adds nothing twice. Hazard F18:
// registers merge by their kind, and whoever raises a generation knows the one that stands.
#include "tests/sim/hazards/hazards.h"

#include <nlohmann/json.hpp>

namespace starling::sim {
namespace {

class Registers : public Hazards {
 protected:
  // Numbers given out by all writers, as owner i has them.
  std::uint64_t changes(std::size_t i, PartitionId of) {
    std::uint64_t sum = 0;
    auto vectors = cluster.vectors(i);
    for (const auto& [writer, n] : vectors[of]) sum += n;
    return sum;
  }
};

INSTANTIATE_TEST_SUITE_P(Seeds, Registers, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

// The answers to the register that a new member implies are lost, many times over.
TEST_P(Registers, F24_AnObligationDrivenAgainAddsNoChange) {
  ASSERT_TRUE(work.add_user("@carol"));
  const auto list = mailbox_of("@carol");
  const PartitionId of = partition_of(slot_of(list), options.partitions);
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  const std::uint64_t before = changes(a, of);
  std::size_t tries = 0;
  bool lose = true;
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (m.method != Method::kWriteRegister || !answer) return Fate::kPass;
    const auto request = unpack<node::WriteRegisterRequest>(m.body);
    if (!request || request->mailbox != list || request->key != "group/#g") return Fate::kPass;
    ++tries;
    return lose ? Fate::kHold : Fate::kPass;
  };
  const auto added = cluster.admin(b, "group.add", {{"group", "#g"}, {"members", {"@carol"}}});
  EXPECT_TRUE(until([&] { return tries >= 5; }, 120s)) << tries;
  lose = false;
  tap.release();
  const auto settled = [&] {
    const auto status = cluster.admin(a, "status", Json::object());
    return status && status->at("rates").at("obligations") == 0;
  };
  for (int turn = 0; turn < 100 && !settled(); ++turn) world.run_for(100ms);
  ASSERT_TRUE(cluster.run_until_quiet(60s));
  // The group itself may share the partition: its member register is one more.
  const std::uint64_t own = of == partition ? 1 : 0;
  EXPECT_EQ(changes(a, of), before + 1 + own);
  finish();
}

// b and c store a removal of which a hears nothing; then a is to add the member again, and would find nothing to change.
TEST_P(Registers, F18_AnAdditionUnderARemovalThatTheCoordinatorMissedIsNotLost) {
  const auto at = [&](std::size_t i) {
    const auto held = cluster.store(i).find_register(mailbox_of("#g"), "member/@bob");
    return held ? unpack<storage::MemberValue>(held->value) : Result<storage::MemberValue>(Error{Errc::kNotFound, ""});
  };
  start(*alice, b);
  start(*alice2, a);
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  bool deaf = true;   // a.
  bool stale = false;
  tap.on_leave = [&](const TapMessage& m) {
    if (!deaf || m.from == m.to) return Fate::kPass;
    const bool tells = m.method == Method::kWriteRegister || m.method == Method::kReplicate;
    if (m.to == a && tells) return Fate::kLose;
    const bool asks = m.method == Method::kCompare || m.method == Method::kFetch;
    return m.from == a && asks ? Fate::kHold : Fate::kPass;
  };
  tap.on_arrive = [&](const TapMessage& m) {
    if (m.method != Method::kWriteRegister || m.from != a || m.to != a || !deaf) return;
    const auto held = at(a);
    stale = held && !held->removed;
    deaf = false;
  };
  ASSERT_TRUE(manage([&](auto done) { alice->client().remove_member("#g", "@bob", done); }));
  ASSERT_TRUE(deaf);
  ASSERT_TRUE(manage([&](auto done) { alice2->client().add_member("#g", "@bob", 0, done); }));
  ASSERT_TRUE(stale) << "a was to coordinate, and to know nothing";
  tap.clear();
  ASSERT_TRUE(cluster.run_until_quiet(60s));
  for (const auto i : {a, b, c}) {
    const auto held = at(i);
    ASSERT_TRUE(held.ok());
    EXPECT_FALSE(held->removed) << "owner " << i;
    EXPECT_EQ(held->generation, 2u) << "owner " << i;
  }
  start(*bob, b);
  EXPECT_TRUE(acked(send(*bob)));
  finish();
}

// A coordinator stands still with the removal, which goes through another; what it does when it goes on is of before.
TEST_P(Registers, F18_ARemovalThatComesLateTakesNobodyOutWhoWasAddedAgain) {
  start(*alice, b);
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  bool sent = false, came = false;
  tap.on_leave = [&](const TapMessage& m) {
    const auto request = m.method == Method::kWriteRegister ? unpack<node::WriteRegisterRequest>(m.body)
                                                            : Result<node::WriteRegisterRequest>(Error{});
    if (!request || request->key != "member/@bob" || m.to != a || std::exchange(sent, true)) return Fate::kPass;
    world.after(Duration(0), [this] { cluster.pause(a); });
    return Fate::kPass;
  };
  tap.on_arrive = [&](const TapMessage& m) { came |= sent && m.method == Method::kWriteRegister && m.to == a; };
  ASSERT_TRUE(manage([&](auto done) { alice->client().remove_member("#g", "@bob", done); }));
  ASSERT_TRUE(manage([&](auto done) { alice->client().add_member("#g", "@bob", 0, done); }));
  ASSERT_TRUE(sent && !came);
  cluster.resume(a);
  ASSERT_TRUE(until([&] { return came; }));
  tap.clear();
  ASSERT_TRUE(cluster.run_until_quiet(60s));
  for (const auto i : {a, b, c}) {
    const auto stands = cluster.store(i).find_register(mailbox_of("#g"), "member/@bob");
    ASSERT_TRUE(stands);
    EXPECT_FALSE(unpack<storage::MemberValue>(stands->value)->removed) << "owner " << i;
  }
  start(*bob, b);
  EXPECT_TRUE(acked(send(*bob)));
  finish();
}

// A gateway of an earlier program leaves what follows from what stands to the coordinator.
TEST_P(Registers, F18_AnAdditionAskedForByAnEarlierProgramTakesTheNextGeneration) {
  start(*alice, b);
  ASSERT_TRUE(manage([&](auto done) { alice->client().remove_member("#g", "@bob", done); }));
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  bool asked = false;
  tap.alter = [&](const TapMessage& m, Bytes& body) {
    auto request = m.method == Method::kWriteRegister ? unpack<node::WriteRegisterRequest>(m.body)
                                                      : Result<node::WriteRegisterRequest>(Error{});
    if (!request || request->key != "member/@bob" || std::exchange(asked, true)) return;
    request->derive = true;
    request->stamp = {};
    request->value.data = pack(storage::MemberValue{1, false, 0, "#g"});
    body = pack(*request);
  };
  ASSERT_TRUE(manage([&](auto done) { alice->client().add_member("#g", "@bob", 0, done); }));
  ASSERT_TRUE(asked);
  ASSERT_TRUE(cluster.run_until_quiet(60s));
  for (const auto i : {a, b, c}) {
    const auto stands = unpack<storage::MemberValue>(cluster.store(i).find_register(mailbox_of("#g"), "member/@bob")->value);
    EXPECT_FALSE(stands->removed) << "owner " << i;
    EXPECT_EQ(stands->generation, 2u) << "owner " << i;
  }
  start(*bob, b);
  EXPECT_TRUE(acked(send(*bob)));
  finish();
}

// The same of a password: the first change is written once more, behind the second.
TEST_P(Registers, F18_APasswordThatComesLateUndoesNoLaterOne) {
  ASSERT_TRUE(work.add_user("@carol"));
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  std::optional<std::size_t> gateway, stands_still;
  bool came = false;
  tap.on_leave = [&](const TapMessage& m) {
    const auto request = m.method == Method::kWriteRegister ? unpack<node::WriteRegisterRequest>(m.body)
                                                            : Result<node::WriteRegisterRequest>(Error{});
    if (!request || request->key != "account" || m.to == m.from || stands_still) return Fate::kPass;
    gateway = m.from;
    stands_still = m.to;
    world.after(Duration(0), [this, to = m.to] { cluster.pause(to); });
    return Fate::kPass;
  };
  tap.on_arrive = [&](const TapMessage& m) { came |= m.method == Method::kWriteRegister && m.to == stands_still; };
  const auto set = [&](std::size_t at, const std::string& password) {
    return cluster.admin(at, "user.passwd", {{"name", "@carol"}, {"password", password}}, 60s);
  };
  for (const auto i : {a, b, c}) {
    if (stands_still) break;
    came = false;
    ASSERT_TRUE(set(i, "the first password"));
  }
  ASSERT_TRUE(stands_still && !came);
  ASSERT_TRUE(set(*gateway, "the second password"));
  const auto account = [&](std::size_t i) { return cluster.store(i).find_register(mailbox_of("@carol"), "account")->value; };
  const auto second = account(*gateway);
  cluster.resume(*stands_still);
  ASSERT_TRUE(until([&] { return came; }));
  tap.clear();
  ASSERT_TRUE(cluster.run_until_quiet(60s));
  for (const auto i : {a, b, c}) EXPECT_EQ(account(i), second) << "owner " << i;
  finish();
}

// The group has the member at its other owners, and who coordinated it is gone for good before the member's own list
// heard of it. Nobody asks again.
TEST_P(Registers, F24_WhoCoordinatesNextDrivesTheDutyOfADeadNode) {
  std::string carol;
  for (int i = 0; carol.empty() && i < 40; ++i) {
    const std::string user = "@v" + std::to_string(i);
    ASSERT_TRUE(work.add_user(user));
    if (partition_of(slot_of(mailbox_of(user)), options.partitions) != partition) carol = user;
  }
  SimDevice& phone = work.add_device(carol, "phone");
  start(phone, c);
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  std::optional<Dot> member;
  bool owed = false;
  tap.on_leave = [&](const TapMessage& m) {
    for (const auto& change : carried(m)) {
      const bool of_group = m.method == Method::kReplicate && m.from == a && change.mailbox == mailbox_of("#g");
      if (of_group && change.kind == storage::ChangeKind::kRegister) member = change.dot;
    }
    if (m.method != Method::kWriteRegister || m.from != a) return Fate::kPass;
    const auto request = unpack<node::WriteRegisterRequest>(m.body);
    if (!request || request->mailbox != mailbox_of(carol)) return Fate::kPass;
    owed = true;
    return Fate::kHold;
  };
  cluster.ask(a, "group.add", {{"group", "#g"}, {"members", {carol}}}, [](Result<Json>) {});
  ASSERT_TRUE(until([&] { return owed && member && synced(b, *member) >= member->n && synced(c, *member) >= member->n; }));
  const auto listed = [&](std::size_t i) {
    return cluster.store(i).find_register(mailbox_of(carol), "group/#g").has_value();
  };
  ASSERT_FALSE(listed(b) || listed(c));
  work.history().add_group("#g", {"@alice", "@bob", carol});
  cluster.crash(a, Crash::kPower);
  tap.clear();
  EXPECT_TRUE(until([&] { return listed(b) && listed(c); }, 60s)) << world.trace().text("", 40);
  start(*alice, b);
  const auto said = send(*alice);
  ASSERT_TRUE(acked(said));
  EXPECT_TRUE(until([&] { return shown(phone, said) == 1; }, 30s)) << "who is in the group gets its messages";
  finish();
}

}  // namespace
}  // namespace starling::sim
