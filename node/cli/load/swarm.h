// Swarm: what `replay` and `bench` share to bring up thousands of users on a cluster: its nodes,
// its operator's door (users, groups and tokens in bulk, so that no password is ever hashed).
//
// Thread: the main thread; calls to the admin door block.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "node/cli/options.h"
#include "node/client/client.h"

namespace starling::node::cli {

inline constexpr std::size_t kAdminBatch = 500;     // Users or members per admin call.
inline constexpr std::size_t kLoginsAtOnceMax = 64;  // While a swarm comes up.

// The nodes of a cluster as far as we can reach their doors.
class Swarm {
 public:
  struct NodeDoor {
    std::string socket;  // "unix:/.../admin.sock"
    std::string name;
    int pid = 0;         // 0: not on this machine, the node does not tell, or its process has an earlier door.
  };

  // From --cluster (all node*/ inside it) or --data, and --client.
  static Result<Swarm> open(const Arguments& arguments);

  [[nodiscard]] const std::vector<overlay::Endpoint>& endpoints() const { return endpoints_; }
  [[nodiscard]] const std::vector<NodeDoor>& doors() const { return doors_; }
  [[nodiscard]] const std::string& lineage() const { return lineage_; }

  // What exists already is fine.
  using Step = std::function<void(std::size_t done, std::size_t all)>;
  Status add_users(const std::vector<std::string>& users, const Step& step);
  Status add_group(const std::string& group, const std::vector<std::string>& members);
  Result<std::string> token(const std::string& user, const std::string& device);

  // A state for a device that was never used before, with its token.
  Result<ClientState> new_device(const std::string& user, const std::string& device);
  [[nodiscard]] ClientOptions client_options(std::size_t number) const;

 private:
  Result<nlohmann::json> call(const std::string& method, const nlohmann::json& arguments);

  std::vector<overlay::Endpoint> endpoints_;
  std::vector<NodeDoor> doors_;
  std::string lineage_;
  std::size_t next_door_ = 0;
};

// --client, --data, --cluster, --json, --seed, --record.
void add_swarm_options(po::options_description& options);

// Six characters that set the devices of this run apart from those of others.
std::string run_tag();

// Starts clients a few at a time, so that logins do not time out behind each other.
class Launcher {
 public:
  Launcher(overlay::Loop& loop, std::vector<Client*> clients)
      : loop_(loop), clients_(std::move(clients)) {}
  // Calls `on_step` as it goes on; `done` when all are ready. One that is refused counts as
  // settled.
  void start(std::function<void(std::size_t ready, std::size_t all)> on_step,
             std::function<void()> done);

 private:
  void step();
  overlay::Loop& loop_;
  std::vector<Client*> clients_;
  std::size_t started_ = 0;
  std::size_t settled_ = 0;  // The first of those that started, all settled.
  std::function<void(std::size_t, std::size_t)> on_step_;
  std::function<void()> done_;
  overlay::Timer timer_;
};

}  // namespace starling::node::cli
