#include "node/cli/load/swarm.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include "crypto/text.h"
#include "node/cli/admin_client.h"
#include "node/config.h"
#include "node/version.h"

namespace starling::node::cli {
namespace {

constexpr Duration kAdminTimeout = 60s;
constexpr Duration kLaunchStep = 1ms;

Result<overlay::Endpoint> client_address(const std::string& data) {
  std::ifstream file(data + "/addresses.json");
  const auto json = Json::parse(file, nullptr, false);
  if (!json.is_object()) {
    return Error{Errc::kNotFound, "no node runs in " + data + "; start it, or give --client HOST:PORT"};
  }
  return overlay::Endpoint::parse(text_of(json, "client"));
}

// The folders of a cluster's nodes, in order of their names.
std::vector<std::string> node_folders(const std::string& cluster) {
  std::set<std::string> folders;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(cluster, ignored)) {
    if (entry.is_directory() && entry.path().filename().string().starts_with("node")) {
      folders.insert(entry.path().string());
    }
  }
  return {folders.begin(), folders.end()};
}

// Those of the other loops of the same processes (node/cli/loops.h) behind them.
std::vector<std::string> with_loops(std::vector<std::string> folders) {
  for (std::size_t i = 0, first = folders.size(); i < first; ++i) {
    for (unsigned number = 2; number <= kLoopsMax; ++number) {
      std::string loop = loop_folder(folders[i], number);
      if (std::filesystem::exists(loop + "/admin.sock")) folders.push_back(std::move(loop));
    }
  }
  return folders;
}

}  // namespace

std::string run_tag() {
  SystemRandom random;
  std::array<std::uint8_t, 4> bytes;
  random.fill(bytes);
  return base32({reinterpret_cast<const char*>(bytes.data()), bytes.size()}).substr(0, 6);
}

void add_swarm_options(po::options_description& options) {
  add_client_options(options);
  options.add_options()("cluster", po::value<std::string>()->value_name("FOLDER"),
                        "folder that holds the data folders of all nodes (node1, node2, ...)")(
      "record", po::value<std::string>()->value_name("FILE"),
      "write what clients did and saw there, for starling check")(
      "seed", po::value<std::uint64_t>()->value_name("NUMBER")->default_value(1),
      "of everything that is drawn");
  add_json_option(options);
}

Result<Swarm> Swarm::open(const Arguments& arguments) {
  Swarm swarm;
  std::vector<std::string> folders{arguments.text("data")};
  if (arguments.given("cluster")) folders = node_folders(arguments.text("cluster"));
  if (folders.empty()) {
    return Error{Errc::kNotFound, "no node1, node2, ... in " + arguments.text("cluster")};
  }
  for (const auto& folder : with_loops(folders)) {
    if (!std::filesystem::exists(folder + "/admin.sock")) continue;
    NodeDoor door{"unix:" + folder + "/admin.sock", folder, 0};
    bool reached = false;
    const auto status = admin_call(door.socket, "status", Json::object(), kAdminTimeout, reached);
    if (!status) continue;  // A node that is down; the others serve.
    if (status->contains("cluster")) swarm.lineage_ = text_of((*status)["cluster"], "lineage");
    if (status->contains("node")) {
      door.pid = static_cast<int>(number_of((*status)["node"], "pid"));
      const bool counted = std::ranges::any_of(swarm.doors_, [&](const auto& other) { return other.pid == door.pid; });
      if (counted) door.pid = 0;
      door.name = text_of((*status)["node"], "short");
    }
    swarm.doors_.push_back(door);
    if (!arguments.given("client")) {
      TRY_ASSIGN(auto endpoint, client_address(folder));
      swarm.endpoints_.push_back(std::move(endpoint));
    }
  }
  if (swarm.doors_.empty()) {
    return Error{Errc::kNotFound, "no running node in " + folders.front() +
                                      ": give the folder of one with --data, or of all with --cluster"};
  }
  if (arguments.given("client")) {
    TRY_ASSIGN(swarm.endpoints_, client_endpoints(arguments));
  }
  return swarm;
}

Result<Json> Swarm::call(const std::string& method, const Json& arguments) {
  Result<Json> answer = Error{Errc::kUnavailable, "no node answers"};
  for (std::size_t tried = 0; tried < doors_.size() + 1; ++tried) {
    bool reached = false;
    const auto& door = doors_[next_door_++ % doors_.size()];
    answer = admin_call(door.socket, method, arguments, kAdminTimeout, reached);
    if (answer || (reached && !is_retryable(answer.code()))) break;
  }
  return answer;
}

Status Swarm::add_users(const std::vector<std::string>& users, const Step& step) {
  for (std::size_t at = 0; at < users.size(); at += kAdminBatch) {
    Json list = Json::array();
    const std::size_t end = std::min(users.size(), at + kAdminBatch);
    for (std::size_t i = at; i < end; ++i) list.push_back({{"name", users[i]}});
    TRY_ASSIGN(const auto answer, call("user.add", {{"users", std::move(list)}}));
    for (const auto& result : list_of(answer, "results")) {
      if (result.contains("error") && !result["error"].is_null()) {
        // Left from an earlier run on this cluster: as good as new.
        if (text_of(result["error"], "name") == name(Errc::kExists)) continue;
        return Error{Errc::kUnavailable, "creating " + text_of(result, "name") + ": " +
                                             result["error"].dump()};
      }
    }
    if (step) step(end, users.size());
  }
  return ok_status();
}

Status Swarm::add_group(const std::string& group, const std::vector<std::string>& members) {
  auto created = call("group.create", {{"group", group}, {"owner", members.front()}});
  if (!created && created.code() != Errc::kExists) return created.error();
  // The owner is a member already.
  for (std::size_t at = created ? 1 : 0; at < members.size(); at += kAdminBatch) {
    const std::size_t end = std::min(members.size(), at + kAdminBatch);
    const std::vector<std::string> batch(members.begin() + static_cast<std::ptrdiff_t>(at),
                                         members.begin() + static_cast<std::ptrdiff_t>(end));
    TRY_ASSIGN(const auto answer, call("group.add", {{"group", group}, {"members", batch}}));
    for (const auto& result : list_of(answer, "results")) {
      if (result.contains("error") && !result["error"].is_null()) {
        return Error{Errc::kUnavailable, "adding " + text_of(result, "name") + " to " + group + ": " +
                                             result["error"].dump()};
      }
    }
  }
  return ok_status();
}

Result<std::string> Swarm::token(const std::string& user, const std::string& device) {
  TRY_ASSIGN(const auto answer, call("token", {{"user", user}, {"device", device}}));
  return text_of(answer, "token");
}

Result<ClientState> Swarm::new_device(const std::string& user, const std::string& device) {
  ClientState state;
  state.user = user;
  state.device = device;
  TRY_ASSIGN(state.token, token(user, device));
  return state;
}

ClientOptions Swarm::client_options(std::size_t number) const {
  ClientOptions options;
  options.endpoints = endpoints_;
  options.first_endpoint = number;
  options.software = std::string("starling/") + kVersion;
  return options;
}

void Launcher::start(std::function<void(std::size_t, std::size_t)> on_step,
                     std::function<void()> done) {
  on_step_ = std::move(on_step);
  done_ = std::move(done);
  step();
}

void Launcher::step() {
  const auto is_settled = [](const Client* client) {
    return client->phase() == ClientPhase::kReady || client->phase() == ClientPhase::kFailed;
  };
  while (settled_ < started_ && is_settled(clients_[settled_])) ++settled_;
  auto settled = settled_;
  for (std::size_t i = settled_; i < started_; ++i) settled += is_settled(clients_[i]) ? 1 : 0;
  while (started_ < clients_.size() && started_ - settled < kLoginsAtOnceMax) {
    clients_[started_++]->start();
  }
  if (on_step_) on_step_(settled, clients_.size());
  if (settled == clients_.size()) return done_();
  timer_ = loop_.after(kLaunchStep, [this] { step(); });
}

}  // namespace starling::node::cli
