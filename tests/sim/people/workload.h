// Workload: people with devices on the real client library, writing to each other while things
// break.
//
// Every device is a process on a host of its own. It sends to users and groups at random times,
// reconnects at random through other nodes, and now and then is closed and started again from what
// it had saved. Everything it does and sees goes into a History.
// Thread: the world's; call it from outside of all loops.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "node/client/client.h"
#include "tests/sim/judge/history.h"
#include "tests/sim/world/cluster.h"

namespace starling::sim {

struct WorkloadOptions {
  std::size_t users = 4;
  std::size_t devices_max = 3;      // Per user: 1 .. devices_max.
  std::size_t groups = 2;
  double direct = 0.5;              // Share of sends that go to a user.
  Duration pause_min = 20ms;        // Between two sends of a device.
  Duration pause_max = 800ms;
  double reconnect = 0.03;          // Per send: come back through another node.
  double restart = 0.01;            // Per send: close the device, start it again a little later.
  std::size_t body_max = 600;
  bool grades = false;              // One send in four at another grade than quorum.
  bool burn = false;                // One send in three with a lifetime of 1 to 20 s.
  bool recalls = false;             // One send in six is followed by a recall of something sent before.
  bool slow = false;                // Devices stand still for 10 to 25 s, and messages are large.
  bool forgetful = false;           // Broken: a restarted device has its old cursors and no keys.
};

// One device: a client, its loop, and what it remembers over a restart.
class SimDevice final : public node::ClientHandler {
 public:
  struct Identity {
    std::string user;
    std::string name;
    std::string password;
    std::string ip;
  };
  SimDevice(World& world, SimNetwork& network, History& history, Identity identity,
            std::function<std::vector<overlay::Endpoint>()> endpoints, bool forgetful = false);
  ~SimDevice() override;

  void start(std::size_t first_endpoint);
  // Its process does nothing for so long.
  void stand_still(Duration length);
  [[nodiscard]] bool stands_still() const { return loop_ && loop_->paused(); }
  // The device is closed in order; what the client remembers is kept.
  void close();
  void reconnect();
  SendIndex send(const std::string& to, Bytes body);
  // The same with a grade.
  SendIndex send(const std::string& to, Bytes body, node::SendOptions options);

  // Asks once to take it back; REQUIRES: it was accepted.
  History::RecallIndex recall(SendIndex send);

  [[nodiscard]] bool running() const { return client_ != nullptr; }
  [[nodiscard]] bool ready() const;
  // When it was started: more nodes may have come since, and those that it knows may be gone.
  [[nodiscard]] std::size_t endpoints_known() const { return endpoints_known_; }
  [[nodiscard]] std::size_t open_sends() const { return client_ ? client_->open_sends() : 0; }
  [[nodiscard]] node::Client& client() { return *client_; }
  [[nodiscard]] DeviceIndex index() const { return index_; }
  [[nodiscard]] const Identity& identity() const { return identity_; }
  // Its password was refused. It may be closed, and started with another.
  [[nodiscard]] bool shut_out() const { return client_ && client_->phase() == node::ClientPhase::kFailed; }
  void set_password(std::string password) { identity_.password = std::move(password); }
  // One request of the client, in a turn of its loop; its answer never comes when the device is closed before.
  void call(const std::function<void(node::Client&)>& request) {
    loop_->enter([&] { request(*client_); });
  }
  // Messages shown so far.
  [[nodiscard]] std::size_t shown() const { return shown_; }
  // Messages that it was told of as written off.
  [[nodiscard]] const std::vector<node::protocol::LostMessage>& lost() const { return lost_; }

 private:
  void on_entry(const node::protocol::EntryMessage& entry, bool live) override;
  void on_moved(const node::protocol::EntryMessage& entry) override;
  void on_void(const node::protocol::EntryMessage& entry) override;
  void on_lost(const node::protocol::LostMessage& lost) override { lost_.push_back(lost); }
  void on_joined(const std::string& group) override { world_.note(history_.text(index_), "is in " + group); }
  void on_left(const std::string& group) override { world_.note(history_.text(index_), "is out of " + group); }
  void on_phase(node::ClientPhase phase, const Error* why) override;
  void record(const node::protocol::EntryMessage& entry, bool is_void, bool again = false);

  World& world_;
  SimNetwork& network_;
  History& history_;
  Identity identity_;
  const std::function<std::vector<overlay::Endpoint>()> endpoints_;  // At each start.
  std::size_t endpoints_known_ = 0;
  DeviceIndex index_;
  SeededRandom random_;
  std::size_t shown_ = 0;
  std::vector<node::protocol::LostMessage> lost_;
  node::ClientState state_;
  const bool forgetful_;
  // Of the running client; destroyed from the bottom up.
  std::shared_ptr<SimLoop> loop_;  // Ours alone; whoever resumes it looks whether it is still there.
  std::unique_ptr<overlay::Transport> transport_;
  std::unique_ptr<node::Client> client_;
};

class Workload {
 public:
  Workload(World& world, SimCluster& cluster, WorkloadOptions options);
  ~Workload();
  Workload(const Workload&) = delete;
  Workload& operator=(const Workload&) = delete;

  // Accounts, groups, devices; waits until every device has caught up.
  Status set_up(Duration limit = 60s);
  // An account or a group by the operator's door; retried while names need it.
  Status add_user(const std::string& user);
  Status add_group(const std::string& group, const std::set<std::string>& members);
  SimDevice& add_device(const std::string& user, const std::string& name);

  // Sends go on until stop().
  void start();
  void stop();
  // Every device runs, is ready and has no open send.
  [[nodiscard]] bool settled() const;
  // Starts devices that are closed.
  void wake_all();

  // With recalls: of each user one more device, which has seen nothing. Waits until all have caught up, then says what
  // was shown there that had been taken back.
  std::vector<SendIndex> shown_late();

  // Grade and lifetime of the next send, by the options' chances.
  node::SendOptions how();
  // "m17 of @u0/d1 ...": unique, `size` bytes at least.
  Bytes body(const SimDevice& device, std::size_t size = 0);
  [[nodiscard]] History& history() { return history_; }
  [[nodiscard]] const std::vector<std::string>& users() const { return users_; }
  [[nodiscard]] std::vector<std::string> addresses() const;  // Of all users and groups.
  [[nodiscard]] SimDevice& device(std::size_t i) { return *devices_[i]; }
  [[nodiscard]] std::size_t size() const { return devices_.size(); }

 private:
  Status ask(const std::string& method, const Json& arguments, const char* list);
  void schedule(std::size_t i);
  void act(std::size_t i);
  void take_back(SimDevice& device);
  [[nodiscard]] bool lost(const SimDevice& device) const;

  World& world_;
  SimCluster& cluster_;
  const WorkloadOptions options_;
  SeededRandom random_;
  SeededRandom how_random_;  // Of its own, so that other runs stay what they were.
  History history_;
  std::vector<std::string> users_;
  std::vector<std::pair<std::string, std::set<std::string>>> groups_;
  std::vector<std::unique_ptr<SimDevice>> devices_;
  std::uint64_t next_body_ = 1;
  bool running_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace starling::sim
