#include "tests/sim/hazards/hazards.h"

#include <nlohmann/json.hpp>

namespace starling::sim {

void Hazards::SetUp() {
  world.trace().echo(std::getenv("STARLING_TRACE") != nullptr);
  const auto formed = cluster.form();
  ASSERT_TRUE(formed) << formed.error().text;
  ASSERT_TRUE(work.add_user("@alice"));
  ASSERT_TRUE(work.add_user("@bob"));
  ASSERT_TRUE(work.add_group("#g", {"@alice", "@bob"}));
  alice = &work.add_device("@alice", "d0");
  alice2 = &work.add_device("@alice", "d1");
  bob = &work.add_device("@bob", "d0");
  bob2 = &work.add_device("@bob", "d1");
  const auto owners = cluster.owners_of("#g");
  ASSERT_EQ(owners.size(), 3u);
  a = owners[0];
  b = owners[1];
  c = owners[2];
  const auto where = cluster.admin(a, "where", {{"address", "#g"}});
  ASSERT_TRUE(where);
  partition = PartitionId{where->at("partition").get<std::uint16_t>()};
  ASSERT_TRUE(cluster.run_until_quiet(30s));
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    for (int turn = 0; turn < 100 && !sees_all_owners(i); ++turn) world.run_for(50ms);
    ASSERT_TRUE(sees_all_owners(i));
  }
}

bool Hazards::sees_all_owners(std::size_t i) {
  const auto where = cluster.admin(i, "where", {{"address", "#g"}});
  if (!where) return false;
  for (const auto& owner : where->at("owners")) {
    if (owner.at("state") != "alive" || owner.at("catching_up") == true) return false;
  }
  return true;
}

void Hazards::start(SimDevice& device, std::size_t at) {
  device.start(at);
  ASSERT_TRUE(until([&] { return device.ready(); }, 30s)) << world.trace().text("", 40);
}

std::optional<Carried> Hazards::find(const std::vector<Carried>& changes, SendIndex i) {
  for (const auto& change : changes) {
    if (i != kUnsent && change.hash == record(i).hash) return change;
  }
  return std::nullopt;
}

bool Hazards::appends(const TapMessage& message, SendIndex i) {
  if (message.method != Method::kAppend || i == kUnsent) return false;
  const auto request = unpack<node::AppendRequest>(message.body);
  return request && body_hash(request->body.data) == record(i).hash;
}

std::vector<std::string> Hazards::history_of(SimDevice& device, SendIndex i) {
  const auto page = std::make_shared<std::optional<Result<node::protocol::HistoryPage>>>();
  device.client().history("#g", "", 200, [page](auto answer) { page->emplace(std::move(answer)); });
  if (!until([&] { return page->has_value(); }) || !(*page)->ok()) {
    ADD_FAILURE() << "no history";
    return {};
  }
  std::vector<std::string> ids;
  for (const auto& entry : (**page)->entries) {
    if (body_hash(entry.body.data) == record(i).hash) ids.push_back(entry.id);
  }
  return ids;
}

std::size_t Hazards::shown(const SimDevice& device, SendIndex i, bool again) {
  std::size_t times = 0;
  for (const auto& d : work.history().deliveries()) {
    times += d.device == device.index() && d.hash == record(i).hash && !d.is_void &&
             d.again == again;
  }
  return times;
}

std::size_t Hazards::still_shown_on(SendIndex i) {
  std::set<DeviceIndex> devices;
  std::set<std::pair<DeviceIndex, MessageKey>> closed;
  for (const auto& d : work.history().deliveries()) {
    if (d.is_void) closed.emplace(d.device, d.key);
  }
  for (const auto& d : work.history().deliveries()) {
    if (!d.is_void && d.hash == record(i).hash && !closed.contains({d.device, d.key})) {
      devices.insert(d.device);
    }
  }
  return devices.size();
}

void Hazards::isolate(std::size_t i) {
  std::vector<std::size_t> others;
  for (std::size_t n = 0; n < cluster.size(); ++n) {
    if (n != i) others.push_back(n);
  }
  cluster.partition({{i}, others});
}

void Hazards::leave_alone(std::size_t i) {
  isolate(i);
  const auto alone = [&] {
    const auto status = cluster.admin(i, "status", Json::object());
    if (!status) return false;
    for (const auto& member : status->at("members")) {
      if (member.at("self") == false && member.at("state") != "dead") return false;
    }
    return true;
  };
  for (int turn = 0; turn < 300 && !alone(); ++turn) world.run_for(100ms);
  ASSERT_TRUE(alone());
}

bool Hazards::manage(const std::function<void(std::function<void(Result<Done>)>)>& ask) {
  for (int attempt = 0; attempt < 40; ++attempt) {
    const auto answer = std::make_shared<std::optional<Result<Done>>>();
    ask([answer](Result<Done> r) { answer->emplace(std::move(r)); });
    if (until([&] { return answer->has_value(); }, 30s) && (*answer)->ok()) return true;
    if (*answer) world.note("test", "refused: " + (*answer)->error().text);
    world.run_for(100ms);
  }
  ADD_FAILURE() << world.trace().text("refused", 20);
  return false;
}

void Hazards::finish() {
  tap.clear();
  const auto ended = cluster.end_faults();
  ASSERT_TRUE(ended) << ended.error().text;
  work.wake_all();
  EXPECT_TRUE(until([&] { return cluster.all_serving() && work.settled(); }, 180s))
      << world.trace().text("", 60);
  EXPECT_TRUE(cluster.run_until_quiet(60s)) << "owners that stay unequal";
  EXPECT_TRUE(until([&] { return check_delivered(work.history()).empty(); }, 30s));
  world.run_for(2s);
  for (const auto& why : cluster.wrong_refusals()) ADD_FAILURE() << why;
  const auto stores = cluster.stop_and_export();
  ASSERT_TRUE(stores) << stores.error().text;
  const auto found = check_all(work.history(), &*stores);
  EXPECT_TRUE(found.empty()) << text(found)
                             << world.trace().text(found.empty() ? "" : found[0].needle, 100);
}

}  // namespace starling::sim
