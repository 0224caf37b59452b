// Hazards F16 and F27: what a login reads, and of whom. hazards.h says how.
#include "tests/sim/hazards/hazards.h"

#include <nlohmann/json.hpp>

#include "node/mailbox/registers.h"
#include "tests/sim/world/raw_peer.h"

namespace starling::sim {
namespace {

// Four nodes: a, b and c own #g, d does not.
class Logins : public Hazards {
 protected:
  Logins() : Hazards(4) {}
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Hazards::SetUp());
    while (d == a || d == b || d == c) ++d;
  }
  // From now on owners learn nothing from each other.
  void keep_owners_apart() {
    tap.on_leave = [this](const TapMessage& m) {
      if (m.from == m.to) return Fate::kPass;
      switch (m.method) {
        case Method::kReplicate:
        case Method::kHint: return Fate::kLose;
        case Method::kCompare:
        case Method::kFetch:
        case Method::kHold: return Fate::kHold;
        default: return Fate::kPass;
      }
    };
  }
  bool has(std::size_t i, const Carried& x) { return synced(i, x.dot) >= x.dot.n; }

  std::size_t d = 0;
};

INSTANTIATE_TEST_SUITE_P(Seeds, Logins, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(10)));

// a and b acknowledged it, c is asked: it is shown all the same, before the device hears "synced".
TEST_P(Logins, F16_AnAcknowledgedMessageIsSeenAtLoginThroughAnOwnerThatLacksIt) {
  start(*alice, a);
  ASSERT_TRUE(acked(send(*alice)));
  SendIndex sent = kUnsent;
  std::optional<Carried> minted;
  tap.on_leave = [&](const TapMessage& m) {
    const auto x = find(m, sent);
    if (m.method == Method::kReplicate && x) minted = x;
    if (m.method == Method::kReplicate && m.to == c && x) return Fate::kLose;
    const bool asks = m.method == Method::kFetch || m.method == Method::kCompare || m.method == Method::kHold;
    return asks && (m.from == c || m.to == c) && m.from != m.to ? Fate::kHold : Fate::kPass;
  };
  sent = send(*alice);
  ASSERT_TRUE(acked(sent));
  ASSERT_TRUE(minted);
  start(*bob, c);
  EXPECT_EQ(shown(*bob, sent), 1u);
  ASSERT_FALSE(has(c, *minted));  // It still has not.
  finish();
  EXPECT_EQ(shown(*bob, sent, true), 0u);
}

// Both sides of a split took a message; neither covers the other when the device logs in.
TEST_P(Logins, F16_TwoOwnersThatDoNotCoverEachOtherAreMerged) {
  start(*alice, a);
  start(*alice2, c);
  ASSERT_TRUE(acked(send(*alice)));
  std::optional<Carried> left, right;
  SendIndex at_a = kUnsent, at_c = kUnsent;
  cluster.partition({{a, b}, {c, d}});
  world.run_for(15s);  // Until the sides take each other for dead.
  tap.on_leave = [&](const TapMessage& m) {
    if (auto x = find(m, at_a); x && m.method == Method::kReplicate) left = x;
    if (auto x = find(m, at_c); x && (m.method == Method::kReplicate || m.method == Method::kHint)) right = x;
    return Fate::kPass;
  };
  at_a = send(*alice);
  at_c = send(*alice2);
  ASSERT_TRUE(acked(at_a) && acked(at_c)) << world.trace().text("", 60);
  ASSERT_TRUE(left && right);
  keep_owners_apart();
  cluster.heal();
  for (int turn = 0; turn < 200; ++turn) {
    world.run_for(100ms);
    const auto where = cluster.admin(c, "where", {{"address", "#g"}});
    if (!where) continue;
    bool all = true;
    for (const auto& owner : where->at("owners")) all &= owner.at("state") == "alive";
    if (all) break;
  }
  ASSERT_TRUE(has(a, *left) && has(b, *left) && !has(c, *left));
  ASSERT_TRUE(has(c, *right) && !has(a, *right) && !has(b, *right));
  start(*bob, c);
  EXPECT_EQ(shown(*bob, at_a), 1u);
  EXPECT_EQ(shown(*bob, at_c), 1u);
  EXPECT_TRUE(!has(c, *left) && !has(a, *right));
  finish();
  EXPECT_EQ(shown(*bob, at_a, true) + shown(*bob, at_c, true), 0u);
}

// An owner that answers nothing is replaced by the next; when only one is left, that one will do.
TEST_P(Logins, AnOwnerThatDoesNotAnswerIsReplaced) {
  start(*alice, a);
  const auto sent = send(*alice);
  ASSERT_TRUE(acked(sent));
  std::set<std::size_t> asked;
  std::set<std::size_t> silent{b};
  tap.on_leave = [&](const TapMessage& m) {
    if (m.method != Method::kHeads) return Fate::kPass;
    asked.insert(m.to);
    return silent.contains(m.to) ? Fate::kHold : Fate::kPass;
  };
  start(*bob, c);
  EXPECT_EQ(shown(*bob, sent), 1u);
  bob->close();
  silent = {a, b};
  asked.clear();
  const auto next = send(*alice);
  ASSERT_TRUE(acked(next));
  start(*bob, c);
  EXPECT_TRUE(asked.contains(a) && asked.contains(b) && asked.contains(c));
  EXPECT_TRUE(until([&] { return shown(*bob, next) == 1; }, 5s));
  finish();
}

// The owner that the gateway follows cannot read the mailbox: another is read, and followed.
TEST_P(Logins, AnOwnerWithDamageIsLeftForAnother) {
  start(*alice, a);
  const auto sent = send(*alice);
  ASSERT_TRUE(acked(sent));
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  std::size_t refused = 0;
  std::optional<std::size_t> followed;
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (m.method == Method::kFollow && m.from == b && answer) {
      const auto follow = unpack<node::FollowRequest>(m.body);
      if (follow && follow->partition == partition) followed = m.to;
    }
    if (m.to != b || (m.method != Method::kRead && m.method != Method::kHeads)) return Fate::kPass;
    ++refused;
    return Fate::kDamage;
  };
  start(*bob, b);
  EXPECT_EQ(shown(*bob, sent), 1u);
  EXPECT_GE(refused, 1u);
  EXPECT_TRUE(followed && followed != b);
  const auto live = send(*alice);
  EXPECT_TRUE(until([&] { return shown(*bob, live) == 1; }, 5s));
  finish();
}

// A page ends where the other side of a split took over; older pages go on from there at another owner.
TEST_P(Logins, HistoryPagesMeetAtTheirBordersWhicheverOwnerIsAsked) {
  start(*alice, a);
  std::vector<SendIndex> sends;
  for (int i = 0; i < 25; ++i) sends.push_back(send(*alice));
  ASSERT_TRUE(acked(sends.back()));
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  start(*bob, d);
  std::vector<std::string> ids;
  std::string before;
  std::size_t pages = 0;
  std::set<std::size_t> asked;
  for (bool more = true; more && pages < 20; ++pages) {
    // The first owner of every other page has damage there, as it were.
    std::optional<std::size_t> refused;
    tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
      if (m.method != Method::kHistory) return Fate::kPass;
      if (pages % 2 == 1 && !refused) {
        refused = m.to;
        return Fate::kDamage;
      }
      if (answer) asked.insert(m.to);
      return Fate::kPass;
    };
    const auto page = std::make_shared<std::optional<Result<node::protocol::HistoryPage>>>();
    bob->client().history("#g", before, 7, [page](auto answer) { page->emplace(std::move(answer)); });
    ASSERT_TRUE(until([&] { return page->has_value(); }));
    ASSERT_TRUE((*page)->ok()) << (*page)->error().text;
    for (const auto& entry : (**page)->entries) ids.push_back(entry.id);
    more = (**page)->more;
    if (!ids.empty()) before = ids.back();
  }
  EXPECT_GE(asked.size(), 2u);
  ASSERT_EQ(ids.size(), sends.size());
  for (std::size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(ids[i], record(sends[sends.size() - 1 - i]).id);
  finish();
}

// Two of three owners of bob's list are away, so it may lack something, and is read again, ever more rarely. When one
// comes back it is read at once, and then no more.
class ListsOfGroups : public Hazards {
 protected:
  ListsOfGroups() : Hazards(5) {}
};
INSTANTIATE_TEST_SUITE_P(Seeds, ListsOfGroups, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(8)));

TEST_P(ListsOfGroups, OneThatIsNotSureIsReadAgainWhenAnOwnerComesBack) {
  const auto owners = cluster.owners_of("@bob");
  std::size_t gateway = 0;
  while (std::find(owners.begin(), owners.end(), gateway) != owners.end()) ++gateway;
  for (const auto i : {owners[1], owners[2]}) cluster.crash(i, Crash::kPower);
  world.run_for(15s);
  start(*bob, gateway);
  std::size_t read = 0;
  tap.on_leave = [&](const TapMessage& m) {
    const bool asks = m.method == Method::kReadRegisters && m.from == gateway && m.kind == TapMessage::Kind::kRequest;
    const auto request = asks ? unpack<node::ReadRegistersRequest>(m.body)
                              : Result<node::ReadRegistersRequest>(Error{});
    read += request && request->prefix == node::kGroupPrefix ? 1 : 0;
    return Fate::kPass;
  };
  world.run_for(120s);
  ASSERT_GE(read, 7u) << "at most 16 s apart";
  ASSERT_LE(read, 20u) << "at least 8 s apart, in the end";
  ASSERT_TRUE(cluster.restart(owners[1]));
  const auto is_back = [&] {
    const auto where = cluster.admin(gateway, "where", {{"address", "@bob"}});
    return where && where->at("owners")[1].at("state") == "alive" && where->at("owners")[1].at("catching_up") == false;
  };
  ASSERT_TRUE(until([&] { return cluster.up(owners[1]) && cluster.node(owners[1]).serving(); }, 60s));
  read = 0;
  for (int turn = 0; turn < 100 && !is_back(); ++turn) world.run_for(50ms);
  ASSERT_TRUE(is_back());
  EXPECT_TRUE(until([&] { return read > 0; }, 1s));
  world.run_for(2s);
  read = 0;
  world.run_for(60s);
  EXPECT_EQ(read, 0u) << "it is sure";
  tap.clear();
  ASSERT_TRUE(cluster.restart(owners[2]));
  finish();
}

// A login with many groups asks each owner node once, and reads what changed.
class ManyGroups : public Hazards {};
INSTANTIATE_TEST_SUITE_P(Seeds, ManyGroups, ::testing::Values(1));

TEST_P(ManyGroups, F27_OneRequestAnOwnerNodeCarriesTheWholeLogin) {
  constexpr std::size_t kGroups = 500;
  for (std::size_t i = 1; i < kGroups; ++i) {
    ASSERT_TRUE(cluster.admin(0, "group.create", {{"group", "#g" + std::to_string(i)},
                                                  {"owner", "@bob"},
                                                  {"members", {"@alice"}}}));
  }
  start(*bob, b);
  bob->close();
  start(*alice, a);
  ASSERT_TRUE(acked(send(*alice, "#g17")));
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  std::map<Method, std::size_t> requests;
  std::map<Method, std::size_t> bytes;
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    if (m.from == b) {
      ++requests[m.method];
      bytes[m.method] += m.body.size() + (answer ? answer->size() : 0);
    }
    return Fate::kPass;
  };
  start(*bob, b);
  EXPECT_EQ(bob->shown(), 1u);
  // Two of three owners, itself one of them; mailboxes that become ready late share a second round.
  EXPECT_LE(requests[Method::kHeads], 6u);
  EXPECT_LE(requests[Method::kRead], 4u);
  const std::size_t spent = bytes[Method::kHeads] + bytes[Method::kRead];
  EXPECT_LT(spent, kGroups * 2 * 32) << "two questions of 27 bytes a group, and what changed";
  world.note("test", std::to_string(requests[Method::kHeads]) + " heads, " +
                         std::to_string(requests[Method::kRead]) + " reads, " + std::to_string(spent) + " bytes");
  RecordProperty("heads", static_cast<int>(requests[Method::kHeads]));
  RecordProperty("bytes", static_cast<int>(spent));
}

// It was down when the account was made, and is alone when it is back: that it knows of none says nothing.
TEST_P(Logins, AnOwnerThatMissedAnAccountDoesNotSayThatThereIsNone) {
  const auto owners = cluster.owners_of("@late");
  ASSERT_EQ(owners.size(), 3u);
  const std::size_t behind = owners[GetParam() % 3], at = owners[(GetParam() + 1) % 3];
  cluster.crash(behind, Crash::kProcess);
  world.run_for(10s);
  const Json user = {{"users", {{{"name", "@late"}, {"password", "secret"}}}}};
  ASSERT_TRUE(until([&] { return cluster.admin(at, "user.add", user).ok(); }, 30s));
  isolate(behind);
  ASSERT_TRUE(cluster.restart(behind));
  world.run_for(10s);
  const auto log_in = [&](std::size_t i) {
    RawClient device(world, cluster.network(), cluster.client_address(i));
    return device.log_in("@late", "phone", "secret");
  };
  EXPECT_TRUE(refused(log_in(behind), Errc::kUnavailable));
  EXPECT_TRUE(log_in(at));
  cluster.heal();
  ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 60s));
  EXPECT_TRUE(log_in(behind));
  finish();
}

}  // namespace
}  // namespace starling::sim
