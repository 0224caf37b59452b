// Hazards of following: F25 (what a dead owner costs), F26 (gaps and overflow), F46 (large rosters). hazards.h says how.
#include "node/mailbox/registers.h"
#include "node/session/feeds.h"
#include "node/session/session.h"

#include <nlohmann/json.hpp>
#include "tests/sim/hazards/hazards.h"
#include "tests/sim/world/raw_peer.h"

namespace starling::sim {
namespace {

// Four nodes: a, b and c own #g, d does not. What d asks and is pushed is counted.
class Follows : public Hazards {
 protected:
  Follows() : Hazards(4) {}
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Hazards::SetUp());
    while (d == a || d == b || d == c) ++d;
  }
  void count_follows() {
    tap.on_answer = [this](const TapMessage& m, const Result<Bytes>& answer) {
      if (m.from != d) return Fate::kPass;
      if (m.method == Method::kRead) ++reads;
      if (m.method != Method::kFollow) return Fate::kPass;
      const auto follow = unpack<node::FollowRequest>(m.body);
      if (!follow) return Fate::kPass;
      (answer ? followed : refused)[m.to].push_back(follow->partition);
      if (answer) owner_of[follow->partition] = m.to;
      return Fate::kPass;
    };
  }
  static std::size_t count(const std::map<std::size_t, std::vector<PartitionId>>& requests) {
    std::size_t all = 0;
    for (const auto& [owner, partitions] : requests) all += partitions.size();
    return all;
  }
  void forget() {
    followed.clear();
    refused.clear();
    reads = 0;
  }
  [[nodiscard]] PartitionId partition_at(const std::string& address) const {
    return partition_of(slot_of(mailbox_of(address)), options.partitions);
  }
  std::size_t d = 0;
  std::map<std::size_t, std::vector<PartitionId>> followed, refused;  // By the owner asked.
  std::map<PartitionId, std::size_t> owner_of;
  std::size_t reads = 0;
};

INSTANTIATE_TEST_SUITE_P(Seeds, Follows, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

// 60 mailboxes in 16 partitions: a request a partition at the login, and one when its owner dies.
TEST_P(Follows, F25_ADeadOwnerCostsOneFollowAPartition) {
  constexpr std::size_t kGroups = 60;
  std::vector<std::string> groups{"#g"};
  for (std::size_t i = 1; i < kGroups; ++i) {
    groups.push_back("#g" + std::to_string(i));
    ASSERT_TRUE(work.add_group(groups.back(), {"@alice", "@bob"}));
  }
  std::set<PartitionId> partitions{partition_at("@bob")};
  for (const auto& group : groups) partitions.insert(partition_at(group));
  ASSERT_LT(partitions.size() * 3, kGroups);
  count_follows();
  start(*bob, d);
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  EXPECT_LE(count(followed), partitions.size());
  EXPECT_EQ(count(refused), 0u);
  EXPECT_GE(followed.size(), 2u) << "the gateway's partitions spread over their owners";

  // The one that most are followed at, other than d itself.
  std::map<std::size_t, std::size_t> load;
  for (const auto& [p, owner] : owner_of) load[owner] += owner != d ? 1 : 0;
  std::size_t dead = a;
  for (const auto& [owner, share] : load) {
    if (share > load[dead]) dead = owner;
  }
  std::set<PartitionId> affected;
  for (const auto& [p, owner] : owner_of) {
    if (owner == dead) affected.insert(p);
  }
  ASSERT_FALSE(affected.empty());
  start(*alice, d);
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  forget();
  cluster.crash(dead, Crash::kProcess);
  world.run_for(20s);
  std::multiset<PartitionId> again;
  for (const auto& [owner, asked] : followed) again.insert(asked.begin(), asked.end());
  for (const auto p : affected) EXPECT_EQ(again.count(p), 1u) << "partition " << p.value;
  EXPECT_EQ(again.size(), affected.size());
  EXPECT_LE(count(refused), 2 * affected.size()) << "the dead one is asked no more";
  EXPECT_EQ(reads, 0u) << "streams go on where they stood";
  for (std::size_t i = 0; i < groups.size(); i += 7) {
    const auto sent = send(*alice, groups[i]);
    EXPECT_TRUE(until([&] { return shown(*bob, sent) == 1; }, 20s)) << groups[i];
  }
  finish();
}

// A new ring makes every gateway follow anew in every partition: not all at one moment.
class ManyFollows : public Hazards {
 protected:
  ManyFollows() : Hazards(3, 1024) {}
};

INSTANTIATE_TEST_SUITE_P(Seeds, ManyFollows, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(3)));

TEST_P(ManyFollows, F25_FollowingAnewIsSpreadInTime) {
  std::set<PartitionId> partitions;
  for (int i = 0; i < 250; ++i) {
    const std::string group = "#g" + std::to_string(i);
    ASSERT_TRUE(work.add_group(group, {"@bob"}));
    partitions.insert(partition_of(slot_of(mailbox_of(group)), options.partitions));
  }
  ASSERT_GT(partitions.size(), 2 * node::kFollowsAtOnceMax);
  start(*bob, a);
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  std::map<Instant, std::size_t> at_once;
  std::set<PartitionId> followed;
  tap.on_leave = [&](const TapMessage& m) {
    if (m.method != Method::kFollow || m.from != a) return Fate::kPass;
    ++at_once[world.now()];
    if (const auto follow = unpack<node::FollowRequest>(m.body)) followed.insert(follow->partition);
    return Fate::kPass;
  };
  ASSERT_TRUE(cluster.add_node(120s));
  world.run_for(10s);
  for (const auto& [instant, follows] : at_once) EXPECT_LE(follows, node::kFollowsAtOnceMax);
  for (const auto p : partitions) EXPECT_TRUE(followed.contains(p)) << p.value;
  start(*alice, b);
  const auto sent = send(*alice, "@bob");
  EXPECT_TRUE(until([&] { return shown(*bob, sent) == 1; }, 20s));
}

// Dots number the partition: what others got in between is no gap, what this mailbox missed is one.
TEST_P(Follows, F26_AGapInAMailboxIsSeenByPrevAndRead) {
  std::string neighbour;  // Of another mailbox in the same partition, that bob is not in.
  for (int i = 0; neighbour.empty(); ++i) {
    const std::string name = "#n" + std::to_string(i);
    if (partition_at(name) == partition) neighbour = name;
  }
  ASSERT_TRUE(work.add_group(neighbour, {"@alice"}));
  start(*alice, a);
  start(*bob, d);
  ASSERT_TRUE(acked(send(*alice)));
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  world.run_for(1s);
  count_follows();
  SendIndex missed = kUnsent;
  std::set<Dot> pushed;
  bool left_out = false;
  tap.alter = [&](const TapMessage& m, Bytes& body) {
    if (m.method != Method::kPush || m.to != d) return;
    auto push = unpack<node::Push>(m.body);
    if (!push) return;
    for (auto& stream : push->streams) {
      std::erase_if(stream.changes, [&](const node::PushedChange& item) {
        pushed.insert(item.dot);
        const auto change = storage::decode(item.change.data, item.dot);
        const bool out = change && change->kind == storage::ChangeKind::kEntry && missed != kUnsent &&
                         body_hash(change->entry.body) == record(missed).hash;
        left_out |= out;
        return out;
      });
    }
    body = pack(*push);
  };
  const auto before = send(*alice);
  ASSERT_TRUE(until([&] { return shown(*bob, before) == 1; }));
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(acked(send(*alice, neighbour)));
  const auto behind_others = send(*alice);
  EXPECT_TRUE(until([&] { return shown(*bob, behind_others) == 1; }));
  EXPECT_EQ(reads, 0u);
  missed = send(*alice);
  ASSERT_TRUE(until([&] { return left_out; }));
  world.run_for(1s);
  ASSERT_EQ(shown(*bob, missed), 0u);
  const auto next = send(*alice);
  EXPECT_TRUE(until([&] { return shown(*bob, next) == 1 && shown(*bob, missed) == 1; }));
  EXPECT_GE(reads, 1u);
  finish();
}

// A device that does not read falls behind alone, is told nothing twice, and loses nothing.
TEST_P(Follows, F26_ASlowDeviceFallsBehindAndReadsOnWhereItStopped) {
  start(*alice, a);
  start(*bob, d);
  RawClient slow(world, cluster.network(), cluster.client_address(d));
  ASSERT_TRUE(slow.log_in("@bob", "slow", "secret of @bob"));
  ASSERT_TRUE(slow.ask(node::protocol::Sync{}));
  ASSERT_TRUE(acked(send(*alice)));
  ASSERT_TRUE(until([&] { return slow.count(node::protocol::Type::kEntry) == 1; }));
  slow.stream().pause();
  constexpr std::size_t kBody = 50'000;
  constexpr std::size_t kMessages = 3 * node::kSessionQueueBytesMax / kBody;
  count_follows();
  std::vector<SendIndex> sends;
  for (std::size_t i = 0; i < kMessages; ++i) {
    sends.push_back(alice->send("#g", work.body(*alice, kBody)));
    if (i % 8 == 7) {
      ASSERT_TRUE(acked(sends.back()));
    }
  }
  ASSERT_TRUE(acked(sends.back()));
  EXPECT_TRUE(until([&] { return bob->shown() == 1 + kMessages; }, 20s)) << "the others wait for nobody";
  EXPECT_LT(slow.count(node::protocol::Type::kEntry), 1 + kMessages);
  EXPECT_EQ(reads, 0u);
  slow.stream().resume();
  EXPECT_TRUE(until([&] { return slow.count(node::protocol::Type::kEntry) >= 1 + kMessages; }, 30s));
  EXPECT_GE(reads, 1u) << "it reads on by itself";
  std::vector<std::string> ids;
  for (const auto& frame : slow.bodies()) {
    const auto entry = unpack<node::protocol::EntryMessage>(frame);
    if (entry && entry->type == static_cast<std::uint8_t>(node::protocol::Type::kEntry)) ids.push_back(entry->id);
  }
  EXPECT_TRUE(std::is_sorted(ids.begin(), ids.end()));
  EXPECT_EQ(std::set<std::string>(ids.begin(), ids.end()).size(), 1 + kMessages);
  EXPECT_EQ(ids.size(), 1 + kMessages);
  finish();
}

class LongRosters : public Follows {
 protected:
  static constexpr std::size_t kMembers = 700;  // Beside alice and bob.
  static std::string name_of(std::size_t i) { return "@member-number-" + std::to_string(1000 + i); }
  void fill() {
    Json users = Json::array(), names = Json::array();
    for (std::size_t i = 0; i < kMembers; ++i) {
      users.push_back({{"name", name_of(i)}, {"password", ""}});
      names.push_back(name_of(i));
    }
    ASSERT_TRUE(cluster.admin(a, "user.add", {{"users", users}}, 120s));
    ASSERT_TRUE(cluster.admin(a, "group.add", {{"group", "#g"}, {"members", names}}, 300s));
  }
  node::protocol::Members page(SimDevice& device, const std::string& after, std::uint64_t known = 0) {
    const auto page = std::make_shared<std::optional<Result<node::protocol::Members>>>();
    device.client().members("#g", after, [page](auto answer) { page->emplace(std::move(answer)); }, known);
    EXPECT_TRUE(until([&] { return page->has_value(); }));
    if (!page->has_value() || !(*page)->ok()) {
      ADD_FAILURE() << (page->has_value() ? (*page)->error().text : "no answer");
      return {};
    }
    return std::move(**page).value();
  }
  struct Roster {
    std::set<std::string> names;
    std::set<std::uint64_t> versions;
    std::size_t pages = 0;
  };
  Roster read(SimDevice& device) {
    Roster roster;
    bool more = true;
    for (std::string after; more && roster.pages < 10; ++roster.pages) {
      const auto found = page(device, after);
      for (const auto& member : found.members) roster.names.insert(member.user);
      roster.versions.insert(found.version);
      EXPECT_LE(found.members.size(), node::kPageSizeMax);
      more = found.more && !found.members.empty();
      if (more) after = found.members.back().user;
    }
    return roster;
  }
};
INSTANTIATE_TEST_SUITE_P(Seeds, LongRosters, ::testing::Values(1, 2));

// A new device gets the messages; who else is in the group it asks for, page by page.
TEST_P(LongRosters, F46_ALargeRosterIsNotReadByEachNewDevice) {
  ASSERT_NO_FATAL_FAILURE(fill());
  start(*alice, a);
  std::vector<SendIndex> sends;
  for (int i = 0; i < 5; ++i) sends.push_back(send(*alice));
  ASSERT_TRUE(acked(sends.back()));
  ASSERT_TRUE(cluster.run_until_quiet(120s));
  std::size_t bytes = 0, registers = 0;
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    const auto read = unpack<node::ReadRequest>(m.body);
    if (m.method != Method::kRead || m.from != d || !answer || !read || read->mailbox != mailbox_of("#g")) {
      return Fate::kPass;
    }
    bytes += answer->size();
    for (const auto& change : carried(m, answer)) registers += change.kind == storage::ChangeKind::kRegister;
    return Fate::kPass;
  };
  start(*bob2, d);
  for (const auto sent : sends) EXPECT_EQ(shown(*bob2, sent), 1u);
  EXPECT_GT(bytes, 0u);
  EXPECT_EQ(registers, 0u);
  EXPECT_LT(bytes, kMembers * 10) << "five messages and a cursor, no roster";
  const auto roster = read(*bob2);
  EXPECT_EQ(roster.names.size(), kMembers + 2);
  EXPECT_GE(roster.pages, 2u);
  // The live tail is in step all the same.
  const auto live = send(*alice);
  EXPECT_TRUE(until([&] { return shown(*bob2, live) == 1; }, 5s));
  finish();
}

// Who has a roster whole asks whether it is still that one, at whatever node.
TEST_P(LongRosters, F46_ARosterThatDidNotChangeIsNotPagedAgain) {
  ASSERT_NO_FATAL_FAILURE(fill());
  start(*alice, a);
  start(*bob, d);
  ASSERT_TRUE(cluster.run_until_quiet(120s));
  const auto whole = read(*bob);
  ASSERT_EQ(whole.names.size(), kMembers + 2);
  ASSERT_EQ(whole.versions.size(), 1u) << "all pages are of one version";
  const std::uint64_t version = *whole.versions.begin();
  ASSERT_NE(version, 0u);
  std::size_t bytes = 0;
  tap.on_answer = [&](const TapMessage& m, const Result<Bytes>& answer) {
    const auto request = unpack<node::ReadRegistersRequest>(m.body);
    const bool roster = m.method == Method::kReadRegisters && request && request->prefix == node::kMemberPrefix;
    if (roster && answer) bytes += answer->size();
    return Fate::kPass;
  };
  const auto expect_unchanged = [&](SimDevice& device) {
    const auto same = page(device, "", version);
    EXPECT_TRUE(same.members.empty());
    EXPECT_FALSE(same.more);
    EXPECT_EQ(same.version, version);
  };
  expect_unchanged(*bob);
  ASSERT_TRUE(acked(send(*alice)));  // Messages are no change of it.
  expect_unchanged(*alice);
  EXPECT_LT(bytes, 200u);
  // Nor is a restart of all who reckoned it.
  for (const auto i : {b, c, a}) {
    cluster.crash(i, Crash::kPower);
    ASSERT_TRUE(cluster.restart(i));
    ASSERT_TRUE(until([&] { return cluster.all_serving(); }, 120s));
  }
  ASSERT_TRUE(cluster.run_until_quiet(60s));
  ASSERT_TRUE(caught_up(*bob));
  expect_unchanged(*bob);

  ASSERT_TRUE(caught_up(*alice));
  ASSERT_TRUE(manage([&](auto done) { alice->client().remove_member("#g", name_of(7), done); }));
  ASSERT_TRUE(cluster.run_until_quiet(60s));
  const auto changed = page(*bob, "", version);
  EXPECT_EQ(changed.members.size(), node::kPageSizeMax);
  EXPECT_NE(changed.version, version);
  const auto again = read(*bob);
  EXPECT_EQ(again.names.size(), kMembers + 1);
  EXPECT_EQ(again.versions, std::set<std::uint64_t>{changed.version});
  finish();
}

}  // namespace
}  // namespace starling::sim
