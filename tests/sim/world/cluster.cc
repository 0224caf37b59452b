#include "tests/sim/world/cluster.h"

#include <cassert>
#include <cstring>
#include <utility>

#include <nlohmann/json.hpp>

#include "storage/engine/engine.h"
#include "storage/layout.h"
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

Result<std::size_t> SimCluster::begin_twin(std::size_t of, const SimDisk::Folder& folder) {
  add_host();
  const std::size_t i = hosts_.size() - 1;
  hosts_[i]->config.data = hosts_[of]->config.data;  // On a disk of its own.
  hosts_[i]->tapped = true;                          // Its id stands for the other one.
  hosts_[i]->disk->put_back(hosts_[i]->config.data, folder);
  TRY(start(i));
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
  host.sound.reset();
  ask(i, "status", Json::object(), [&host](Result<Json> answer) {
    if (!answer) return;
    const auto hex = answer->at("node").at("writer").get<std::string>();
    host.writer = WriterId{std::stoull(hex, nullptr, 16)};
    host.writers.insert(host.writer);
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
  // It may not join, or was invited under a lineage that force ended: its operator would empty the machine.
  if (error.code == Errc::kDenied || error.code == Errc::kForeign) refused(i, /*joining=*/true, error);
  const bool unusable = error.text.find("set the store aside") != std::string::npos;
  world_.after(options_.supervisor_delay, [this, i, unusable, alive = alive_] {
    if (!*alive || up(i) || retired(i)) return;
    if (unusable) (void)undecay(i);
    (void)start(i);
  });
}

void SimCluster::refused(std::size_t i, bool joining, const Error& error) {
  world_.note(hosts_[i]->name, "is refused: " + error.text);
  hosts_[i]->retired = true;
  refusals_.push_back({i, joining, hosts_[i]->id, error.code, error.text});
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

Status SimCluster::restart(std::size_t i) { return up(i) || retired(i) ? ok_status() : start(i); }

void SimCluster::retire(std::size_t i) {
  world_.note(hosts_[i]->name, "is switched off for good");
  hosts_[i]->retired = true;
  crash(i, Crash::kProcess);  // The machine says that nothing listens there.
}

void SimCluster::abandon(std::size_t i) {
  hosts_[i]->abandoned = true;
  retire(i);
}

std::set<WriterId> SimCluster::abandoned_writers() const {
  std::set<WriterId> out;
  for (const auto& host : hosts_) {
    if (host->abandoned) out.insert(host->writers.begin(), host->writers.end());
  }
  return out;
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

}  // namespace starling::sim
