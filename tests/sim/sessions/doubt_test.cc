// What nodes do while they are in doubt of each other: links that are dead under gossip that lives, cuts that nobody
// has declared yet, opinions that differ.
#include <nlohmann/json.hpp>

#include "overlay/links/links.h"
#include "tests/sim/hazards/hazards.h"
#include "tests/sim/world/metrics.h"

namespace starling::sim {
namespace {

// --- A cut-off coordinator says "no" as soon as it can know. ---

class CutOff : public Hazards {
 protected:
  // From when a node asks for an append to when it has its answer.
  struct Wait {
    Instant begin;
    Duration took{};
    std::optional<Errc> error;
  };
  void watch_appends_of(std::size_t node) {
    tap.on_leave = [this, node](const TapMessage& m) {
      if (m.method == Method::kAppend && m.from == node) asked[{m.to, Bytes(m.body)}].push_back(world.now());
      return Fate::kPass;
    };
    tap.on_answer = [this, node](const TapMessage& m, const Result<Bytes>& answer) {
      if (m.method != Method::kAppend || m.from != node) return Fate::kPass;
      auto& since = asked[{m.to, Bytes(m.body)}];
      if (since.empty()) return Fate::kPass;
      waits.push_back({since.front(), world.now() - since.front(), {}});
      if (!answer) waits.back().error = answer.code();
      since.erase(since.begin());
      return Fate::kPass;
    };
  }

  std::map<std::pair<std::size_t, Bytes>, std::vector<Instant>> asked;
  std::vector<Wait> waits;
};

INSTANTIATE_TEST_SUITE_P(Seeds, CutOff, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

// a coordinates #g and is cut off; its devices hear "not now" in the time that breakers take, and later at once. What
// may have been stored is sent again with its key: nothing doubles, nothing is lost.
TEST_P(CutOff, AnAppendThatNobodyCanAcknowledgeFailsWithTheBreakers) {
  start(*alice, a);
  start(*alice2, a);
  ASSERT_TRUE(acked(send(*alice)));
  watch_appends_of(a);
  isolate(a);
  const Instant cut = world.now();
  std::vector<SendIndex> sends;
  for (int i = 0; i < 60; ++i) {
    sends.push_back(send(i % 2 == 0 ? *alice : *alice2, i % 3 == 0 ? "@bob" : "#g"));
    world.run_for(100ms);
  }
  std::size_t early = 0, late = 0;
  Duration longest{};
  for (const auto& wait : waits) {
    if (!wait.error) continue;
    longest = std::max(longest, wait.took);
    EXPECT_TRUE(*wait.error == Errc::kUnavailable || *wait.error == Errc::kTimeout) << name(*wait.error);
    ++(wait.begin - cut < 2s ? early : late);
    EXPECT_LE(wait.took, wait.begin - cut < 3s ? Duration(2800ms) : Duration(20ms)) << to_ms(wait.begin - cut);
  }
  EXPECT_GT(early, 0u);
  EXPECT_GT(late, 0u);
  RecordProperty("longest_ms", static_cast<int>(to_ms(longest)));
  tap.clear();
  cluster.heal();
  for (const auto sent : sends) EXPECT_TRUE(acked(sent));
  finish();
}

// --- The operator sees it. ---

class SilentLinks : public Hazards {
 protected:
  struct Seen {
    std::string state;
    bool reachable = false;
    double breakers = 0;
  };
  Seen seen(std::size_t node, std::size_t by) {
    Seen out;
    const auto status = cluster.admin(by, "status", Json::object());
    if (!status) return out;
    for (const auto& member : status->at("members")) {
      if (member.at("short") != cluster.id(node)) continue;
      out.state = member.at("state").get<std::string>();
      out.reachable = member.at("reachable").get<bool>();
    }
    out.breakers = metrics_of(world, cluster, by)["starling_breakers_open"];
    return out;
  }
  bool comes_to(bool reachable) {
    for (int turn = 0; turn < 100 && seen(b, a).reachable != reachable; ++turn) world.run_for(200ms);
    return seen(b, a).reachable == reachable;
  }
};

INSTANTIATE_TEST_SUITE_P(Seeds, SilentLinks, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(3)));

TEST_P(SilentLinks, AreToldApartFromNodesThatAreDead) {
  ASSERT_TRUE(comes_to(true));
  EXPECT_EQ(seen(b, a).breakers, 0);
  cluster.network().silence(cluster.ip(b), SimNetwork::Kind::kStreams, true);
  ASSERT_TRUE(comes_to(false));
  EXPECT_EQ(seen(b, a).state, "alive") << "it gossips";
  EXPECT_EQ(seen(b, a).breakers, 1);
  cluster.network().silence(cluster.ip(b), SimNetwork::Kind::kStreams, false);
  ASSERT_TRUE(comes_to(true));
  EXPECT_EQ(seen(b, a).breakers, 0);
  finish();
}

// --- Whose links are dead does no chores, though it gossips. ---

class Chores : public Hazards {
 protected:
  Chores() : Hazards(5) {}
};

INSTANTIATE_TEST_SUITE_P(Seeds, Chores, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

// The coordinator of bob's mailbox is gone before alice's own copy is stored, and of the next one the links are dead:
// the third brings the copy to her mailbox.
TEST_P(Chores, AreDoneByTheFirstOwnerThatCanBeReached) {
  const auto owners = cluster.owners_of("@bob");
  std::size_t door = 0;
  while (door == owners[0] || door == owners[1]) ++door;
  start(*alice, door);
  std::set<std::size_t> stored;
  SendIndex sent = kUnsent;
  tap.on_leave = [&](const TapMessage& m) {
    if (m.method == Method::kReplicate && find(m, sent)) stored.insert(m.to);
    const auto append = m.method == Method::kAppend ? unpack<node::AppendRequest>(m.body)
                                                    : Result<node::AppendRequest>(Error{});
    return append && (append->flags & node::kAppendCopy) != 0 ? Fate::kHold : Fate::kPass;
  };
  sent = send(*alice, "@bob");
  ASSERT_TRUE(until([&] { return stored.contains(owners[1]) && stored.contains(owners[2]); }));
  world.run_for(100ms);
  ASSERT_FALSE(is_acked(sent)) << "her own copy is held back";
  alice->close();  // Or she would send it again, and that completes it.
  cluster.crash(owners[0], Crash::kPower);
  cluster.network().silence(cluster.ip(owners[1]), SimNetwork::Kind::kStreams, true);
  tap.clear();
  world.run_for(20s);
  start(*alice2, door);
  EXPECT_TRUE(until([&] { return shown(*alice2, sent) == 1; }, 60s)) << world.trace().text("", 30);
  cluster.network().silence(cluster.ip(owners[1]), SimNetwork::Kind::kStreams, false);
  finish();
}

// --- Lists of people, whatever owners think of each other. ---

class Lists : public Hazards {
 protected:
  // Every group once: asked for again and again while opinions change.
  void expect_all_for(Duration length, std::size_t at) {
    for (Duration waited{}; waited < length; waited += 50ms) {
      const auto answer = cluster.admin(at, "group.list", {{"limit", 1000}});
      if (answer) {
        std::vector<std::string> names;
        for (const auto& group : answer->at("groups")) names.push_back(group.at("name"));
        EXPECT_EQ(names, groups) << to_ms(waited);
        ++lists;
      }
      world.run_for(50ms);
    }
  }
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Hazards::SetUp());
    groups = {"#g"};
    for (int i = 0; i < 40; ++i) {
      groups.push_back("#h" + std::to_string(i));
      ASSERT_TRUE(work.add_group(groups.back(), {"@alice", "@bob"}));
    }
    std::sort(groups.begin(), groups.end());
    ASSERT_TRUE(cluster.run_until_quiet(30s));
  }

  std::vector<std::string> groups;
  std::size_t lists = 0;
};

INSTANTIATE_TEST_SUITE_P(Seeds, Lists, ::testing::Range<std::uint64_t>(1, 1 + case_seeds(5)));

TEST_P(Lists, NameEveryMailboxOnceWhileOwnersDoubtEachOther) {
  cluster.partition({{a}, {b}});  // c sees both, and both hear of each other from c.
  expect_all_for(6s, c);
  EXPECT_GT(lists, 10u);
  finish();
}

TEST_P(Lists, NameEveryMailboxWhileAnOwnerFallsBehindAndTheOthersHaveNotHeard) {
  cluster.disk(a).set_free_bytes(0);
  expect_all_for(3s, c);
  EXPECT_GT(lists, 10u);
  finish();
}

// --- Breakers of members that nobody asks for. ---

class Breakers : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_TRUE(crypto_init()); }
  struct End {
    End(World& world, SimNetwork& network, Breakers& test, int number)
        : ip("10.1.0." + std::to_string(number)),
          loop(world, ip),
          transport(network.attach(loop, ip)),
          random(static_cast<std::uint64_t>(number)),
          identity(Identity::generate(random)),
          keyring(SecretKey{}),
          links(loop, *transport, identity, keyring, random, log, {.listen = {"0.0.0.0", 7401}}, test.hooks()) {
      loop.enter([this] { EXPECT_TRUE(links.listen()); });
      test.addresses[identity.node_id()] = {ip, 7401};
    }
    const std::string ip;
    SimLoop loop;
    std::unique_ptr<overlay::Transport> transport;
    SeededRandom random;
    Identity identity;
    Keyring keyring;
    overlay::Log log;
    overlay::Links links;
  };
  overlay::LinksHooks hooks() {
    overlay::LinksHooks hooks;
    hooks.resolve = [this](const NodeId& node) -> std::optional<overlay::Endpoint> { return addresses.at(node); };
    hooks.hello = [] { return overlay::Hello{}; };
    hooks.standing = [](const NodeId&, const PublicKey&) { return overlay::Standing::kMember; };
    hooks.is_member = [this](const NodeId&) { return members; };
    return hooks;
  }
  // Of the near end to the far one.
  Result<Bytes> ping() {
    std::optional<Result<Bytes>> result;
    near.loop.enter([&] {
      near.links.call(far.identity.node_id(), Method::kPing, {}, 5s, [&](Result<Bytes> r) { result = std::move(r); });
    });
    EXPECT_TRUE(world.run_until([&] { return result.has_value(); }, 10s));
    return *result;
  }
  bool reachable() { return near.links.reachable(far.identity.node_id()); }

  World world{1};
  SimNetwork network{world, NetworkOptions{}};
  std::map<NodeId, overlay::Endpoint> addresses;
  bool members = true;
  End near{world, network, *this, 1}, far{world, network, *this, 2};
};

// In a large cluster nobody may ask for a node for minutes. Who then chooses among the members must not wait for it.
TEST_F(Breakers, OfMembersStayOpenThoughNobodyAsksAndCloseByThemselves) {
  ASSERT_TRUE(ping());
  network.partition({{near.ip}, {far.ip}});
  ASSERT_FALSE(ping());
  for (int minute = 0; minute < 10; ++minute) {
    world.run_for(60s);
    ASSERT_FALSE(reachable()) << minute;
  }
  network.heal_all();
  EXPECT_TRUE(world.run_until([&] { return reachable(); }, overlay::kRedialUnwantedMax + 10s));
  EXPECT_TRUE(near.links.linked(far.identity.node_id()));
}

TEST_F(Breakers, OfStrangersAreForgotten) {
  ASSERT_TRUE(ping());
  network.partition({{near.ip}, {far.ip}});
  ASSERT_FALSE(ping());
  members = false;
  world.run_for(90s);
  EXPECT_EQ(near.links.breakers_open(), 0u);
}

}  // namespace
}  // namespace starling::sim
