#include "tests/sim/world/cluster.h"

#include <cassert>
#include <cstring>
#include <utility>

#include <nlohmann/json.hpp>

#include "storage/engine/engine.h"
#include "overlay/ring/ring_change.h"
#include "storage/layout.h"
#include "tests/sim/judge/store_export.h"
#include "tests/sim/world/node_parts.h"

namespace starling::sim {

using node::Node;

namespace {

constexpr std::int64_t kInviteSeconds = 86'400;  // Longer than any clock jumps.

// The first number is given: that of the writer, which a run draws before anything else.
class Loaded final : public Random {
 public:
  Loaded(std::uint64_t seed, WriterId first) : random_(seed), first_(first.value) {}
  void fill(std::span<std::uint8_t> out) override {
    random_.fill(out);
    if (!first_ || out.size() != sizeof *first_) return;
    std::memcpy(out.data(), &*first_, out.size());
    first_.reset();
  }

 private:
  SeededRandom random_;
  std::optional<std::uint64_t> first_;
};

std::string text_of(const std::map<WriterId, std::uint64_t>& vector) {
  std::string out;
  for (const auto& [writer, n] : vector) {
    out += (out.empty() ? "" : " ") + std::to_string(writer.value) + ":" + std::to_string(n);
  }
  return out.empty() ? "nothing" : out;
}

}  // namespace

SimCluster::SimCluster(World& world, ClusterOptions options)
    : world_(world), options_(options), network_(world, options.network) {
  for (std::size_t i = 0; i < options_.nodes; ++i) add_host();
}

SimCluster::~SimCluster() {
  *alive_ = false;
  for (std::size_t i = 0; i < hosts_.size(); ++i) {
    if (up(i)) crash(i, Crash::kProcess);
  }
}

void SimCluster::set_retention(Duration retention) {
  retention_ms_ = static_cast<std::uint64_t>(to_ms(retention));
  for (auto& host : hosts_) host->config.retention_ms = retention_ms_;
}

void SimCluster::add_host() {
  auto host = std::make_unique<Host>();
  const std::size_t i = hosts_.size();
  host->name = "n" + std::to_string(i);
  host->ip = "10.0.0." + std::to_string(i + 1);
  host->config.data = "/" + host->name;
  host->config.client = {host->ip, 7400};
  host->config.link = {host->ip, 7401};
  host->config.admin = {host->ip, 7402};
  host->config.copies = options_.copies;
  host->config.synced = options_.synced;
  host->config.partitions = options_.partitions;
  host->config.sites = options_.sites;
  if (!options_.zones.empty()) {
    host->config.zone = next_zone_.empty() ? options_.zones[i % options_.zones.size()] : next_zone_;
    network_.set_site(host->ip, host->config.zone);
  }
  host->config.retention_ms = retention_ms_;
  host->config.password_cost = kCheapest;
  host->disk = std::make_unique<SimDisk>(world_, host->name, options_.disk);
  hosts_.push_back(std::move(host));
}

Status SimCluster::form() {
  for (std::size_t i = 0; i < hosts_.size(); ++i) {
    if (i > 0) {
      TRY_ASSIGN(const Json invite, admin(0, "invite", Json::object()));
      hosts_[i]->config.join_token = invite.at("token").get<std::string>();
    }
    TRY(start(i));
    if (!run_until([&] { return up(i) && node(i).serving(); }, options_.form_limit)) {
      return Error{Errc::kTimeout, hosts_[i]->name + " does not come to serve"};
    }
  }
  if (options_.tap != nullptr) (void)index_of("nobody");  // Learns all ids.
  return ok_status();
}

Result<std::size_t> SimCluster::begin_join(std::size_t inviter) {
  TRY_ASSIGN(const Json invite, admin(inviter, "invite", {{"expires_s", kInviteSeconds}}));
  return begin_join(invite.at("token").get<std::string>());
}

Result<std::size_t> SimCluster::begin_replace(std::size_t inviter, std::size_t dead) {
  TRY_ASSIGN(const Json invite, admin(inviter, "invite", {{"expires_s", kInviteSeconds}}));
  return begin_join(invite.at("token").get<std::string>(), hosts_[dead]->node_id);
}

Result<std::size_t> SimCluster::begin_join(const std::string& token, NodeId replaces) {
  add_host();
  const std::size_t i = hosts_.size() - 1;
  hosts_[i]->config.join_token = token;
  hosts_[i]->config.replaces = replaces;
  TRY(start(i));
  if (options_.tap != nullptr) (void)index_of("nobody");
  return i;
}

Result<std::size_t> SimCluster::add_node(Duration limit) {
  const auto inviter = any_up();
  if (!inviter) return Error{Errc::kUnavailable, "no node is up to invite"};
  TRY_ASSIGN(const std::size_t i, begin_join(*inviter));
  if (!run_until([&] { return up(i) && node(i).serving(); }, limit)) {
    return Error{Errc::kTimeout, hosts_[i]->name + " does not come to serve"};
  }
  return i;
}

Status SimCluster::start(std::size_t i) {
  Host& host = *hosts_[i];
  assert(!host.node);
  world_.note(host.name, "start");
  network_.set_power(host.ip, true);
  if (options_.keep_writers) TRY(keep_writer(host));
  host.loop = std::make_unique<SimLoop>(world_, host.name);
  host.loop->step_clock(host.clock_offset);
  host.loop->set_drift(host.drift_ppm);
  host.transport = network_.attach(*host.loop, host.ip);
  const auto seed = world_.fork();
  if (const auto writer = std::exchange(host.draw, std::nullopt)) {
    host.random = std::make_unique<Loaded>(seed, *writer);
  } else {
    host.random = std::make_unique<SeededRandom>(seed);
  }
  host.log = std::make_unique<overlay::Log>(
      log_level_, [this, name = host.name](overlay::LogLevel, View line) {
        world_.note(name, std::string(line));
      });
  Status status = ok_status();
  host.loop->enter([&] {
    auto opened = Node::open(
        host.config,
        node::Leaves{*host.loop, *host.transport, *host.random, *host.log, host.disk->env(),
                     host.disk->committer(*host.loop),
                     [disk = host.disk.get()] { return disk->free_bytes(); }, false, wrap(i), options_.files_from});
    if (!opened) {
      status = opened.error();
      return;
    }
    host.node = std::move(*opened);
    host.node->start([this, i](const Error& error) { on_fatal(i, error); });
  });
  if (!status) {
    clear(host);
    if (status.code() == Errc::kDenied) {  // It had gone for good when it fell.
      refused(i, /*joining=*/false, status.error());
      return ok_status();
    }
    return Error{status.code(), "starting " + host.name + ": " + status.error().text};
  }
  ask(i, "status", Json::object(), [&host](Result<Json> answer) {
    if (!answer) return;
    const auto hex = answer->at("node").at("writer").get<std::string>();
    host.writer = WriterId{std::stoull(hex, nullptr, 16)};
    if (host.id.empty()) host.id = answer->at("node").at("short").get<std::string>();
    if (const auto node = parse_node_id(answer->at("node").at("id").get<std::string>())) host.node_id = *node;
  });
  return ok_status();
}

// Writes the marker of a clean stop, whatever the end of the last run was.
Status SimCluster::keep_writer(Host& host) {
  if (host.writer.value == 0) return ok_status();
  storage::EngineOptions options;
  options.path = host.config.data + "/store";
  options.env = host.disk->env();
  options.background_work = false;
  TRY_ASSIGN(const auto engine, storage::Engine::open(options));
  rocksdb::WriteBatch batch;
  engine->put(batch, storage::ColumnFamily::kNode, storage::kNodeCleanWriter,
              storage::number_value(host.writer.value).view());
  return engine->write_synced(batch);
}

std::function<std::unique_ptr<overlay::Rpc>(overlay::Rpc&)> SimCluster::wrap(std::size_t i) {
  if (options_.tap == nullptr) return {};
  return [this, i](overlay::Rpc& links) {
    return options_.tap->wrap(i, *hosts_[i]->loop, network_, [this](std::size_t h) { return hosts_[h]->ip; },
                              links);
  };
}

// From inside a turn of the node: the process ends right after it.
void SimCluster::on_fatal(std::size_t i, const Error& error) {
  ++fatal_errors_;
  world_.note(hosts_[i]->name, "fatal: " + error.text);
  const auto* which = hosts_[i]->node.get();
  world_.after(Duration(0), [this, i, which, alive = alive_] {
    if (*alive && hosts_[i]->node.get() == which && up(i)) crash(i, Crash::kProcess);
  });
  // It may not join: its operator would empty the machine.
  if (error.code == Errc::kDenied) refused(i, /*joining=*/true, error);
  world_.after(options_.supervisor_delay, [this, i, alive = alive_] {
    if (*alive && !up(i) && !retired(i)) (void)start(i);
  });
}

void SimCluster::refused(std::size_t i, bool joining, const Error& error) {
  world_.note(hosts_[i]->name, "is refused: " + error.text);
  hosts_[i]->retired = true;
  refusals_.push_back({i, joining, hosts_[i]->id, error.text});
}

std::vector<std::string> SimCluster::wrong_refusals() {
  std::vector<std::string> out;
  const auto asked = any_up();
  const auto ring = asked ? admin(*asked, "ring", Json::object())
                          : Result<Json>(Error{Errc::kUnavailable, "no node is up"});
  for (const auto& refusal : refusals_) {
    if (!ring) {
      out.push_back(refusal.text + ", and nobody can tell why: " + ring.error().text);
      continue;
    }
    for (const auto& member : ring->at("members")) {
      const auto state = member.at("state").get<std::string>();
      const bool gone = state == "left" || state == "removed" || state == "removing";
      if (member.at("short") != refusal.id || gone) continue;
      out.push_back(hosts_[refusal.node]->name + ", which is " + state + ", was refused: " + refusal.text);
    }
  }
  return out;
}

void SimCluster::clear(Host& host) {
  // Once it serves, a process drops its token (node/cli/node_process.cc). Who leaves has served.
  if (host.node) {
    const auto* ring = node::NodeParts::ring(*host.node);
    const auto* self = ring != nullptr ? ring->member(node::NodeParts::id(*host.node)) : nullptr;
    const bool has_served = self != nullptr && self->state != overlay::RingMemberState::kJoining;
    if (has_served || host.node->serving() || host.node->departed()) host.config.join_token.clear();
  }
  host.node.reset();
  host.transport.reset();
  host.log.reset();
  host.random.reset();
  host.loop.reset();
}

void SimCluster::crash(std::size_t i, Crash kind) {
  Host& host = *hosts_[i];
  if (!host.node) return;
  const bool power = kind == Crash::kPower;
  world_.note(host.name, power ? "power lost" : "killed");
  host.loop->kill();
  network_.drop_process(host.ip, power);
  if (power) network_.set_power(host.ip, false);
  host.disk->crash();
  clear(host);
  host.disk->after_crash(power);
}

namespace {

// The partition, as the store counts, in whose rows of the log this slot comes first. While a split is settled that of
// a lower child may be its parent's.
Result<Part> part_of(storage::Engine& engine, Slot first_slot) {
  rocksdb::PinnableSlice count, split;
  TRY_ASSIGN(const bool counted, engine.get(storage::ColumnFamily::kNode, storage::kNodePartitions, count));
  TRY_ASSIGN(const bool splitting, engine.get(storage::ColumnFamily::kNode, storage::kNodeSplit, split));
  const auto known = storage::parse_number({count.data(), count.size()});
  if (!counted || !known) return Error{Errc::kCorrupt, "the store does not say how many partitions it has"};
  auto of = static_cast<std::uint32_t>(*known);
  if (splitting && starling::partition_of(first_slot, of).value % 2 == 0) of /= 2;
  return Part{starling::partition_of(first_slot, of), of};
}

}  // namespace

Status SimCluster::rot(std::size_t i, Random& random) {
  assert(!up(i));
  TRY_ASSIGN(auto engine, storage::Engine::open({folder(i) + "/store", disk(i).env(), false}));
  std::vector<std::pair<Bytes, Bytes>> log;
  {
    storage::Engine::Scan rows(*engine, storage::ColumnFamily::kLog, {});
    for (rows->SeekToFirst(); rows.valid(); rows->Next()) log.emplace_back(rows.key(), rows.value());
  }
  if (log.empty()) return Error{Errc::kNotFound, "no change is stored"};
  auto& [key, value] = log[random.below(log.size())];
  const Dot dot = *storage::parse_dot_key(key, sizeof(Slot));
  TRY_ASSIGN(const Part part, part_of(*engine, Slot{BytesReader(key).u16be()}));
  Destroyed destroyed{i, part, dot, {}, 0};
  const auto change = storage::decode(value, dot);
  if (change && change->kind != storage::ChangeKind::kRegister) {
    destroyed.mailbox = change->mailbox;
    destroyed.hash = body_hash(change->entry.body);
  }
  destroyed_.push_back(destroyed);
  value[random.below(value.size())] ^= static_cast<char>(1u << random.below(8));
  world_.note(hosts_[i]->name, "a bit flips in change " + to_text(dot));
  rocksdb::WriteBatch batch;
  engine->put(batch, storage::ColumnFamily::kLog, key, value);
  return engine->write_synced(batch);
}

Status SimCluster::restart(std::size_t i) { return up(i) || retired(i) ? ok_status() : start(i); }

void SimCluster::retire(std::size_t i) {
  world_.note(hosts_[i]->name, "is switched off for good");
  hosts_[i]->retired = true;
  crash(i, Crash::kProcess);  // The machine says that nothing listens there.
}

std::shared_ptr<bool> SimCluster::begin_stop(std::size_t i) {
  Host& host = *hosts_[i];
  if (host.loop->paused()) resume(i);
  auto done = std::make_shared<bool>(false);
  host.loop->enter([&] { host.node->stop([done] { *done = true; }); });
  return done;
}

Status SimCluster::end_stop(std::size_t i, const std::shared_ptr<bool>& done, Duration limit) {
  Host& host = *hosts_[i];
  const bool ended = run_until([&] { return *done || !up(i); }, limit);
  if (!up(i)) return Error{Errc::kIo, host.name + " crashed while it stopped"};
  world_.note(host.name, ended ? "stopped" : "did not stop in time");
  network_.drop_process(host.ip, false);
  host.loop->enter([&] { host.node.reset(); });
  host.loop->kill();
  clear(host);
  if (!ended) return Error{Errc::kTimeout, host.name + " did not stop in time"};
  return ok_status();
}

Status SimCluster::stop(std::size_t i, Duration limit) {
  if (!up(i)) return ok_status();
  return end_stop(i, begin_stop(i), limit);
}

// Each by itself: a node that sees another go takes up its duties, and writes what that one misses.
Status SimCluster::stop_all() {
  std::vector<std::vector<std::size_t>> sides;
  for (std::size_t i = 0; i < hosts_.size(); ++i) sides.push_back({i});
  partition(sides);
  std::vector<std::shared_ptr<bool>> done(hosts_.size());
  for (std::size_t i = 0; i < hosts_.size(); ++i) {
    if (up(i)) done[i] = begin_stop(i);
  }
  for (std::size_t i = 0; i < hosts_.size(); ++i) {
    if (done[i]) TRY(end_stop(i, done[i], 60s));
  }
  return ok_status();
}

void SimCluster::pause(std::size_t i) {
  if (!up(i)) return;
  world_.note(hosts_[i]->name, "paused");
  hosts_[i]->loop->pause();
}

void SimCluster::resume(std::size_t i) {
  if (!up(i)) return;
  world_.note(hosts_[i]->name, "resumed");
  hosts_[i]->loop->resume();
}

void SimCluster::clock_step(std::size_t i, std::chrono::milliseconds by) {
  world_.note(hosts_[i]->name, "clock stepped by " + std::to_string(by.count()) + " ms");
  hosts_[i]->clock_offset += by;
  if (up(i)) hosts_[i]->loop->step_clock(by);
}

void SimCluster::clock_drift(std::size_t i, double ppm) {
  world_.note(hosts_[i]->name, "clock drifts by " + std::to_string(ppm) + " ppm");
  hosts_[i]->drift_ppm = ppm;
  if (up(i)) hosts_[i]->loop->set_drift(ppm);
}

void SimCluster::partition(const std::vector<std::vector<std::size_t>>& sides) {
  std::vector<std::vector<std::string>> sets;
  std::string what = "partition";
  for (const auto& side : sides) {
    auto& set = sets.emplace_back();
    what += " {";
    for (const auto i : side) {
      set.push_back(ip(i));
      what += " " + hosts_[i]->name;
    }
    what += " }";
  }
  world_.note("network", what);
  network_.partition(sets);
}

void SimCluster::cut_zone(const std::string& zone) {
  std::vector<std::vector<std::size_t>> sides(2);
  for (std::size_t i = 0; i < hosts_.size(); ++i) sides[hosts_[i]->config.zone == zone ? 0 : 1].push_back(i);
  partition(sides);
}

void SimCluster::heal() {
  world_.note("network", "healed");
  network_.heal_all();
}

Status SimCluster::end_faults() {
  heal();
  network_.options().loss = 0;
  network_.options().duplicate = 0;
  network_.options().straggle = 0;
  for (std::size_t i = 0; i < hosts_.size(); ++i) {
    network_.set_extra_latency(ip(i), Duration(0));
    disk(i).hold(false);
    disk(i).set_speed(options_.disk.sync_min, options_.disk.sync_max);
    disk(i).set_free_bytes(options_.disk.free_bytes);
    if (hosts_[i]->drift_ppm != 0) clock_drift(i, 0);
    if (up(i) && hosts_[i]->loop->paused()) resume(i);
    TRY(restart(i));
  }
  return ok_status();
}

void SimCluster::ask(std::size_t i, const std::string& method, const Json& arguments,
                     std::function<void(Result<Json>)> done) {
  if (!up(i)) return;
  hosts_[i]->loop->enter([this, i, method, arguments, done = std::move(done)] {
    node(i).admin(method, arguments, done);
  });
}

Result<Json> SimCluster::admin(std::size_t i, const std::string& method, const Json& arguments,
                               Duration limit) {
  if (!up(i)) return Error{Errc::kUnavailable, hosts_[i]->name + " is down"};
  auto answer = std::make_shared<std::optional<Result<Json>>>();
  ask(i, method, arguments, [answer](Result<Json> r) { answer->emplace(std::move(r)); });
  if (!run_until([&] { return answer->has_value(); }, limit)) {
    return Error{Errc::kTimeout, hosts_[i]->name + " does not answer " + method};
  }
  return std::move(**answer);
}

bool SimCluster::all_serving() const {
  for (const auto& host : hosts_) {
    if (host->retired) continue;
    if (!host->node || (!host->node->serving() && !host->node->departed())) return false;
  }
  return true;
}

overlay::Endpoint SimCluster::client_address(std::size_t i) const {
  return hosts_[i]->config.client;
}

std::optional<std::size_t> SimCluster::any_up() const {
  std::optional<std::size_t> found;
  for (std::size_t i = 0; i < hosts_.size(); ++i) {
    if (!up(i) || hosts_[i]->loop->paused()) continue;
    if (hosts_[i]->node->serving()) return i;
    if (!found) found = i;
  }
  return found;
}

std::optional<std::size_t> SimCluster::index_of(const std::string& id) {
  for (std::size_t i = 0; i < hosts_.size(); ++i) {
    auto& known = hosts_[i]->id;
    const bool told = options_.tap == nullptr || hosts_[i]->tapped;
    if ((known.empty() || !told) && up(i)) {
      const auto status = admin(i, "status", Json::object());
      if (!status) continue;
      known = status->at("node").at("short").get<std::string>();
      const auto node = parse_node_id(status->at("node").at("id").get<std::string>());
      if (options_.tap != nullptr && node) options_.tap->know(*node, i);
      hosts_[i]->tapped = true;
    }
    if (!known.empty() && id.starts_with(known)) return i;
  }
  return std::nullopt;
}

std::vector<std::size_t> SimCluster::owners_of(const std::string& address) {
  std::vector<std::size_t> out;
  const auto asked = any_up();
  if (!asked) return out;
  const auto where = admin(*asked, "where", {{"address", address}});
  if (!where) return out;
  for (const auto& owner : where->at("owners")) {
    if (auto i = index_of(owner.at("short").get<std::string>())) out.push_back(*i);
  }
  return out;
}

std::map<PartitionId, std::vector<std::size_t>> SimCluster::owner_table(std::size_t asked) {
  std::map<PartitionId, std::vector<std::size_t>> out;
  const auto ring = admin(asked, "ring", {{"partitions", true}});
  if (!ring) return out;
  std::uint16_t number = 0;
  for (const auto& row : ring->at("table")) {
    auto& owners = out[PartitionId{number++}];
    for (const auto& id : row) {
      if (auto i = index_of(id.get<std::string>())) owners.push_back(*i);
    }
  }
  return out;
}

SimCluster::Vectors SimCluster::vectors(std::size_t i) {
  Vectors out;
  const auto ring = admin(i, "ring", {{"vectors", true}});
  if (!ring) return out;
  for (const auto& [partition, vector] : ring->at("vectors").items()) {
    auto& numbers = out[PartitionId{static_cast<std::uint16_t>(std::stoul(partition))}];
    for (const auto& [writer, n] : vector.items()) {
      numbers[WriterId{std::stoull(writer, nullptr, 16)}] = n.get<std::uint64_t>();
    }
  }
  return out;
}

std::vector<SimCluster::Unrest> SimCluster::unrest() {
  std::vector<Unrest> out;
  std::vector<Vectors> all;
  std::set<std::uint32_t> counts;
  for (std::size_t i = 0; i < hosts_.size(); ++i) {
    const std::string& name = hosts_[i]->name;
    if (retired(i)) {
      all.emplace_back();
      continue;
    }
    const auto status = admin(i, "status", Json::object());
    if (!status) {
      out.push_back({5, name + ": " + status.error().text});
      continue;
    }
    const auto& state = status->at("node").at("state");
    if (state == "left" || state == "removed") out.push_back({6, name + " is not safe to power off yet"});
    const auto& rates = status->at("rates");
    for (const char* duty : {"obligations", "hints_bytes"}) {
      if (rates.at(duty) == 0) continue;
      out.push_back({9, name + " has " + rates.at(duty).dump() + " " + duty});
    }
    if (!departed(i)) {  // Who is safe to power off needs not follow the ring.
      if (!settled(i)) out.push_back({9, name + " has not settled its split"});
      counts.insert(partitions(i));
    }
    all.push_back(vectors(i));
  }
  if (counts.size() > 1) out.push_back({11, "nodes have other partitions than each other"});
  if (all.size() < hosts_.size() || counts.size() > 1) return out;
  const auto asked = any_up();
  if (!asked) return out;
  for (const auto& [partition, owners] : owner_table(*asked)) {
    for (const auto i : owners) {
      if (all[i][partition] == all[owners.front()][partition]) continue;
      out.push_back({5, "partition " + std::to_string(partition.value) + ": " +
                            hosts_[owners.front()]->name + " has " +
                            text_of(all[owners.front()][partition]) + ", " + hosts_[i]->name +
                            " has " + text_of(all[i][partition])});
    }
  }
  return out;
}

storage::Store& SimCluster::store(std::size_t i) { return node::NodeParts::store(node(i)); }

std::uint32_t SimCluster::partitions(std::size_t i) { return store(i).partitions(); }

bool SimCluster::settled(std::size_t i) { return store(i).is_split_settled(); }

void SimCluster::propose_doubled(std::size_t i, std::function<void(Status)> done) {
  // Of the partitions that it has now: another one may be under way.
  auto build = [from = partitions(i)](const overlay::RingVersion& before) -> Result<overlay::RingVersion> {
    if (before.partitions == from) return overlay::next_doubled(before);
    return Error{Errc::kExists, "somebody doubled the partitions meanwhile"};
  };
  hosts_[i]->loop->enter([this, i, build = std::move(build), done = std::move(done)] {  // A paused node, later.
    node::NodeParts::propose(node(i), build, done);
  });
}

bool SimCluster::run_until_quiet(Duration limit) {
  for (const Instant end = world_.now() + limit; !quiet(); run_for(100ms)) {
    if (world_.now() >= end) return false;
  }
  return true;
}

Result<ClusterExport> SimCluster::stop_and_export() {
  ClusterExport out;
  const auto asked = any_up();
  if (!asked) return Error{Errc::kUnavailable, "no node is up"};
  out.owners = owner_table(*asked);
  out.partition_count = static_cast<std::uint32_t>(out.owners.size());
  if (out.owners.empty()) return Error{Errc::kUnavailable, "the ring is not known"};
  TRY(stop_all());
  for (auto& host : hosts_) {
    TRY_ASSIGN(auto exported, export_store(*host->disk, host->config.data, out.partition_count));
    exported.name = host->name;
    out.nodes.push_back(std::move(exported));
  }
  return out;
}

}  // namespace starling::sim
