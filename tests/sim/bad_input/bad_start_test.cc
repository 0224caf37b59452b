// What an operator or the world may get wrong: data folders, ports, disks, clocks, join tokens. The
// start says what to do, and a cluster goes on without the node that cannot.
#include <gtest/gtest.h>

#include <algorithm>

#include <nlohmann/json.hpp>
#include <rocksdb/db.h>

#include "crypto/access/invite.h"
#include "crypto/init.h"
#include "storage/layout.h"
#include "tests/sim/judge/store_export.h"
#include "tests/sim/world/cluster.h"
#include "tests/sim/world/raw_peer.h"

namespace starling::sim {
namespace {

using node::Node;

// A host beside a cluster, on which a node is started with a configuration of the test's.
class LoneHost {
 public:
  LoneHost(World& world, SimNetwork& network, std::string ip, SimDisk* disk = nullptr)
      : world_(world),
        network_(network),
        ip_(std::move(ip)),
        own_disk_(world, ip_, DiskOptions{}),
        disk_(disk != nullptr ? *disk : own_disk_) {
    config.data = "/lone";
    config.client = {ip_, 7400};
    config.link = {ip_, 7401};
    config.admin = {ip_, 7402};
    config.partitions = 16;
    config.password_cost = kCheapest;
  }
  ~LoneHost() { kill(); }

  // Opens and starts; ok once it serves, else why it gave up. kTimeout when it does neither.
  Status start(Duration limit = 30s) {
    kill();
    loop_ = std::make_unique<SimLoop>(world_, ip_);
    loop_->step_clock(clock_offset);
    transport_ = network_.attach(*loop_, ip_);
    random_ = std::make_unique<SeededRandom>(world_.fork());
    log_ = std::make_unique<overlay::Log>(overlay::LogLevel::kInfo,
                                          [](overlay::LogLevel, View) {});
    fatal_.reset();
    Status opened = ok_status();
    loop_->enter([&] {
      auto node = Node::open(config, node::Leaves{*loop_, *transport_, *random_, *log_, disk_.env(),
                                                  disk_.committer(*loop_),
                                                  [this] { return disk_.free_bytes(); }, false});
      if (!node) {
        opened = node.error();
        return;
      }
      node_ = std::move(*node);
      node_->start([this](const Error& error) { fatal_ = error; });
    });
    if (!opened) return opened;
    world_.run_until([&] { return fatal_ || node_->serving(); }, limit);
    if (fatal_) return *fatal_;
    if (!node_->serving()) return Error{Errc::kTimeout, "it neither serves nor gives up"};
    return ok_status();
  }
  void kill() {
    if (!loop_) return;
    loop_->kill();
    network_.drop_process(ip_, false);
    disk_.crash();
    node_.reset();
    transport_.reset();
    loop_.reset();
    disk_.after_crash(false);
  }

  node::Config config;
  std::chrono::milliseconds clock_offset{0};
  SimDisk& disk() { return disk_; }

 private:
  World& world_;
  SimNetwork& network_;
  const std::string ip_;
  SimDisk own_disk_;
  SimDisk& disk_;
  std::optional<Error> fatal_;
  std::unique_ptr<SimLoop> loop_;
  std::unique_ptr<overlay::Transport> transport_;
  std::unique_ptr<SeededRandom> random_;
  std::unique_ptr<overlay::Log> log_;
  std::unique_ptr<Node> node_;
};

class BadStart : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_TRUE(crypto_init()); }

  void form(SimCluster& cluster) {
    const auto formed = cluster.form();
    ASSERT_TRUE(formed) << formed.error().text;
    const Json alice{{"name", "@alice"}, {"password", "secret"}};
    ASSERT_TRUE(cluster.admin(0, "user.add", {{"users", Json::array({alice})}}));
  }
  std::string token(SimCluster& cluster, int seconds = 3600) {
    const auto made = cluster.admin(0, "invite", {{"expires_s", seconds}});
    return made ? made->at("token").get<std::string>() : "";
  }
  // A send of @alice to herself by way of node `at`.
  Result<node::protocol::Ack> say(SimCluster& cluster, std::size_t at) {
    RawClient alice(world, cluster.network(), cluster.client_address(at));
    TRY(alice.log_in("@alice", "d" + std::to_string(at), "secret"));
    const std::uint64_t next = next_seq[at];
    auto said = alice.say("@alice", next, "text");
    if (said) ++next_seq[at];
    return said;
  }
  std::string state(SimCluster& cluster, std::size_t i) {
    const auto status = cluster.admin(i, "status", Json::object());
    return status ? status->at("node").at("state").get<std::string>() : status.error().text;
  }

  World world{33};
  std::map<std::size_t, std::uint64_t> next_seq{{0, 1}, {1, 1}, {2, 1}, {3, 1}};
};

TEST_F(BadStart, ADataFolderOfAnotherClusterIsForeignAndUntouched) {
  SimCluster a(world, ClusterOptions{.nodes = 1});
  SimCluster b(world, ClusterOptions{.nodes = 1});
  form(a);
  form(b);
  ASSERT_TRUE(a.stop(0));
  const auto before = export_store(a.disk(0), "/n0", 16);
  ASSERT_TRUE(before);
  {
    LoneHost host(world, a.network(), a.ip(0), &a.disk(0));
    host.config.data = "/n0";
    host.config.join_token = token(b);
    EXPECT_TRUE(refused(host.start(), Errc::kForeign, "/n0"));
  }
  const auto after = export_store(a.disk(0), "/n0", 16);
  ASSERT_TRUE(after);
  for (const auto& [partition, content] : before->partitions) {
    EXPECT_EQ(content.canonical, after->partitions.at(partition).canonical);
  }
  ASSERT_TRUE(a.restart(0));  // Without the token it is what it was.
  EXPECT_TRUE(world.run_until([&] { return a.node(0).serving(); }, 30s));
  EXPECT_TRUE(say(a, 0));
}

TEST_F(BadStart, ANewerDiskFormatIsUnsupportedAndNamed) {
  SimCluster a(world, ClusterOptions{.nodes = 1});
  form(a);
  ASSERT_TRUE(a.stop(0));
  {
    rocksdb::Options options;
    options.env = a.disk(0).env();
    std::vector<rocksdb::ColumnFamilyDescriptor> families{{"default", {}}};
    for (const char* family : storage::kColumnFamilyNames) families.push_back({family, {}});
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    rocksdb::DB* db = nullptr;
    const auto opened = rocksdb::DB::Open(options, "/n0/store", families, &handles, &db);
    ASSERT_TRUE(opened.ok()) << opened.ToString();
    Bytes value;
    BytesWriter(value).u64le(storage::kFormat + 7);
    const auto node = std::find_if(handles.begin(), handles.end(),
                                   [](const auto* handle) { return handle->GetName() == "node"; });
    ASSERT_NE(node, handles.end());
    ASSERT_TRUE(db->Put({}, *node, rocksdb::Slice(storage::kNodeFormat.data(),
                                                           storage::kNodeFormat.size()),
                        value).ok());
    for (auto* handle : handles) (void)db->DestroyColumnFamilyHandle(handle);
    delete db;
  }
  const auto started = a.restart(0);
  EXPECT_TRUE(refused(started, Errc::kUnsupported,
                      "format " + std::to_string(storage::kFormat + 7)));
  EXPECT_TRUE(refused(started, Errc::kUnsupported, "up to " + std::to_string(storage::kFormat)));
}

TEST_F(BadStart, ATakenPortIsNamedAndFoundsNothing) {
  SimCluster network_of(world, ClusterOptions{.nodes = 1});
  SimLoop loop(world, "other");
  const auto transport = network_of.network().attach(loop, "10.0.7.1");
  for (const std::uint16_t port : {7400, 7401, 7402}) {
    LoneHost host(world, network_of.network(), "10.0.7.1");
    {
      std::unique_ptr<overlay::Listener> taken;
      loop.enter([&] { taken = std::move(*transport->listen({"10.0.7.1", port}, [](auto) {})); });
      EXPECT_TRUE(refused(host.start(), Errc::kAddressInUse, "10.0.7.1:" + std::to_string(port)));
      loop.enter([&] { taken.reset(); });
    }
    EXPECT_TRUE(host.start()) << port;
  }
  LoneHost host(world, network_of.network(), "10.0.7.1");
  std::unique_ptr<overlay::Datagrams> taken;  // The port of gossip alone.
  loop.enter([&] { taken = std::move(*transport->bind({"10.0.7.1", 7401}, [](auto&, View) {})); });
  EXPECT_TRUE(refused(host.start(), Errc::kAddressInUse, "10.0.7.1:7401"));
  loop.enter([&] { taken.reset(); });
}

TEST_F(BadStart, NoDiskSpaceAtTheStartIsFull) {
  SimCluster network_of(world, ClusterOptions{.nodes = 1});
  LoneHost host(world, network_of.network(), "10.0.7.2");
  host.disk().set_free_bytes(1 << 20);
  EXPECT_TRUE(refused(host.start(), Errc::kFull, "/lone"));
  host.disk().set_free_bytes(1ull << 40);
  EXPECT_TRUE(host.start());
}

TEST_F(BadStart, ALoneNodeWithoutSpaceRefusesSendsAndRecovers) {
  SimCluster a(world, ClusterOptions{.nodes = 1});
  form(a);
  ASSERT_TRUE(say(a, 0));
  a.disk(0).set_free_bytes(1 << 20);
  world.run_for(2s);
  EXPECT_EQ(state(a, 0), "read-only");
  const auto commits = a.disk(0).commits();
  EXPECT_TRUE(refused(say(a, 0), Errc::kFull));
  const Json bob{{"name", "@bob"}, {"password", "secret"}};
  const auto added = a.admin(0, "user.add", {{"users", Json::array({bob})}});
  EXPECT_TRUE(!added || !added->at("results").at(0).at("created").get<bool>());
  EXPECT_LE(a.disk(0).commits(), commits + 2) << "a node without space writes";
  a.disk(0).set_free_bytes(1ull << 40);
  world.run_for(5s);
  EXPECT_NE(state(a, 0), "read-only");
  const auto said = say(a, 0);
  EXPECT_TRUE(said) << said.error().text;
  EXPECT_EQ(a.fatal_errors(), 0u);
}

TEST_F(BadStart, OtherOwnersTakeTheSendsOfANodeWithoutSpace) {
  SimCluster a(world, ClusterOptions{});
  form(a);
  const auto owners = a.owners_of("@alice");
  ASSERT_EQ(owners.size(), 3u);
  a.disk(owners[0]).set_free_bytes(1 << 20);
  world.run_for(3s);
  for (std::size_t i = 0; i < 3; ++i) {
    const auto said = say(a, i);
    EXPECT_TRUE(said) << i << ": " << said.error().text;
  }
  a.disk(owners[0]).set_free_bytes(1ull << 40);
  EXPECT_TRUE(world.run_until([&] { return a.all_serving(); }, 60s));
  world.run_for(20s);
  const auto stores = a.stop_and_export();
  ASSERT_TRUE(stores);
  for (const auto& [partition, content] : stores->nodes[owners[1]].partitions) {
    EXPECT_EQ(content.canonical, stores->nodes[owners[0]].partitions.at(partition).canonical);
  }
}

TEST_F(BadStart, AJoinerWithAClockFarOffIsRefused) {
  SimCluster a(world, ClusterOptions{.nodes = 1});
  form(a);
  for (const int seconds : {60, -60}) {
    LoneHost host(world, a.network(), "10.0.7.3");
    host.clock_offset = std::chrono::seconds(seconds);
    host.config.join_token = token(a);
    const auto refusal = host.start();
    EXPECT_TRUE(refused(refusal, Errc::kClock, seconds > 0 ? "60 s ahead" : "60 s behind")) << seconds;
    EXPECT_TRUE(refused(refusal, Errc::kClock, "NTP")) << "what to do";
    host.clock_offset = std::chrono::seconds(0);  // Set right, the same token is good.
    if (seconds < 0) {
      EXPECT_TRUE(host.start());
    }
  }
}

// It takes a good token for one that is over, or one that is over for a good one.
TEST_F(BadStart, AJoinerWithAClockFarOffIsToldThatTheTokensTimeMayNotBeToBlame) {
  SimCluster a(world, ClusterOptions{.nodes = 1});
  form(a);
  LoneHost ahead(world, a.network(), "10.0.7.3");
  ahead.config.join_token = token(a, 3600);
  ahead.clock_offset = std::chrono::hours(5);
  const auto early = ahead.start();
  EXPECT_TRUE(refused(early, Errc::kUnauthenticated, "expired 4 h ago by the clock here"));
  EXPECT_TRUE(refused(early, Errc::kUnauthenticated, "NTP"));
  ahead.clock_offset = std::chrono::hours(0);
  EXPECT_TRUE(ahead.start());

  LoneHost behind(world, a.network(), "10.0.7.4");
  behind.config.join_token = token(a, 60);
  world.run_for(120s);
  behind.clock_offset = std::chrono::hours(-5);
  const auto late = behind.start();
  EXPECT_TRUE(refused(late, Errc::kUnauthenticated, "starling invite")) << "the member knows better";

  LoneHost ancient(world, a.network(), "10.0.7.5");
  ancient.config.join_token = token(a, 3600);
  ancient.clock_offset = -std::chrono::hours(40 * 24);
  EXPECT_TRUE(refused(ancient.start(), Errc::kClock, "NTP")) << "no token is good for so long";
}

// The node that made the token had a clock far ahead, and has no more.
TEST_F(BadStart, ATokenOfTheFutureIsRefused) {
  SimCluster a(world, ClusterOptions{.nodes = 1});
  form(a);
  a.clock_step(0, std::chrono::hours(100 * 24));
  const auto made = token(a);
  a.clock_step(0, -std::chrono::hours(100 * 24));
  LoneHost host(world, a.network(), "10.0.7.3");
  host.config.join_token = made;
  const auto refusal = host.start();
  EXPECT_TRUE(refused(refusal, Errc::kClock, "100 days"));
  EXPECT_TRUE(refused(refusal, Errc::kClock, "starling invite"));
}

TEST_F(BadStart, ANodeWhoseClockStepsStopsCoordinatingAndOthersServe) {
  for (const int seconds : {60, -60}) {
    SimCluster a(world, ClusterOptions{});
    form(a);
    next_seq = {{0, 1}, {1, 1}, {2, 1}};
    const auto owners = a.owners_of("@alice");
    ASSERT_EQ(owners.size(), 3u);
    a.clock_step(owners[0], std::chrono::seconds(seconds));
    world.run_for(5s);
    for (std::size_t i = 0; i < 3; ++i) {
      const auto said = say(a, i);
      ASSERT_TRUE(said) << seconds << " s, node " << i << ": " << said.error().text;
      const auto id = parse_entry_id(said->id);
      ASSERT_TRUE(id);
      EXPECT_LT(std::abs(static_cast<std::int64_t>(hlc_ms(id->time)) - world.wall_ms()), 6'000);
    }
    a.clock_step(owners[0], std::chrono::seconds(-seconds));
    world.run_for(10s);
    for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(say(a, i)) << i;
    EXPECT_EQ(a.fatal_errors(), 0u);
  }
}

TEST_F(BadStart, JoinTokensThatAreNoGoodAreRefusedWithTheirReason) {
  SimCluster a(world, ClusterOptions{.nodes = 1});
  SimCluster b(world, ClusterOptions{.nodes = 1});
  form(a);
  form(b);
  const auto join = [&](const std::string& text, const std::string& ip) {
    LoneHost host(world, a.network(), ip);
    host.config.join_token = text;
    return host.start(20s);
  };
  const std::string good = token(a);
  const std::string soon = token(a, 1);
  world.run_for(2s);
  EXPECT_TRUE(refused(join(soon, "10.0.7.4"), Errc::kUnauthenticated, "starling invite"));
  for (const std::size_t at : {std::size_t{2}, std::size_t{12}, good.size() / 2, good.size() - 1}) {
    std::string typo = good;
    typo[at] = typo[at] == 'a' ? 'b' : 'a';
    EXPECT_TRUE(refused(join(typo, "10.0.7.4"), Errc::kInvalid)) << at;
  }
  EXPECT_TRUE(refused(join(good.substr(0, good.size() - 4), "10.0.7.4"), Errc::kInvalid));
  EXPECT_TRUE(refused(join(std::string(100'000, 'A'), "10.0.7.4"), Errc::kInvalid));

  // Of the other cluster, and yet with our address: the secret, then the lineage does not fit.
  Invite bent = parse_invite(token(b)).value();
  bent.seeds = parse_invite(good)->seeds;
  EXPECT_FALSE(join(format_invite(bent).value(), "10.0.7.4"));
  bent = parse_invite(good).value();
  bent.lineage = parse_invite(token(b))->lineage;
  EXPECT_TRUE(refused(join(format_invite(bent).value(), "10.0.7.4"), Errc::kForeign, "starling invite"));

  EXPECT_TRUE(join(good, "10.0.7.5"));
  EXPECT_TRUE(refused(join(good, "10.0.7.6"), Errc::kDenied, "used"));
}

}  // namespace
}  // namespace starling::sim
