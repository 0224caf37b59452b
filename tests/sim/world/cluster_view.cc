// What a SimCluster is asked: by the doors of its nodes, and by what a judge may know.
#include <nlohmann/json.hpp>

#include "overlay/ring/ring_change.h"
#include "tests/sim/judge/store_export.h"
#include "tests/sim/world/cluster.h"
#include "tests/sim/world/node_parts.h"

namespace starling::sim {

namespace {

std::string highest_text(const std::map<WriterId, std::uint64_t>& vector) {
  std::string out;
  for (const auto& [writer, n] : vector) {
    out += (out.empty() ? "" : " ") + std::to_string(writer.value) + ":" + std::to_string(n);
  }
  return out.empty() ? "nothing" : out;
}

}  // namespace

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
    if (!store(i).to_refill().empty()) out.push_back({5, name + " has a file that cannot be read"});
    const auto& rates = status->at("rates");
    for (const char* duty : {"obligations", "hints_bytes", "lists_awaited"}) {
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
                            highest_text(all[owners.front()][partition]) + ", " + hosts_[i]->name +
                            " has " + highest_text(all[i][partition])});
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

bool SimCluster::awaits_refill() {
  for (std::size_t i = 0; i < hosts_.size(); ++i) {
    if (up(i) && !retired(i) && !store(i).to_refill().empty()) return true;
  }
  return false;
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
