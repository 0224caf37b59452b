// SimCluster: real nodes on simulated leaves, one process on each host.
//
// Host 0 founds the cluster; the others join by invitation, one after the other. A crash destroys
// the node at once: as a killed process (its writes are in the page cache, its streams are reset)
// or as a machine without power (unsynced bytes are gone, nobody is told). A node that reports a
// fatal error is killed and started again, as a supervisor would.
// Thread: the world's; call it from outside of all loops.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "node/node.h"
#include "tests/sim/judge/history.h"
#include "tests/sim/world/sim_disk.h"
#include "tests/sim/world/sim_loop.h"
#include "tests/sim/world/sim_network.h"
#include "tests/sim/world/tap.h"
#include "tests/sim/world/world.h"

namespace starling::storage {
class Engine;
}

namespace starling::sim {

using node::Json;

struct ClusterOptions {
  std::size_t nodes = 3;
  std::uint8_t copies = 3;
  std::uint8_t synced = 0;         // 0: majority.
  std::uint32_t partitions = 16;   // At first.
  std::vector<std::string> zones;  // Node i is in zones[i % size], and a site of the network; empty: none.
  overlay::SitePolicy sites;       // Of the cluster, from its founding.
  NetworkOptions network;
  DiskOptions disk;
  Duration supervisor_delay = 1s;  // From a fatal error to the next start.
  Duration form_limit = 120s;
  Tap* tap = nullptr;              // Outlives the cluster.
  std::uint64_t files_from = 32;   // Changes that a node which gains them stores by files.
  bool keep_writers = false;       // Broken: a crash is taken for a clean stop.
};

enum class Crash { kProcess, kPower };

class SimCluster {
 public:
  SimCluster(World& world, ClusterOptions options);
  ~SimCluster();
  SimCluster(const SimCluster&) = delete;
  SimCluster& operator=(const SimCluster&) = delete;

  // Starts all nodes and waits until each serves.
  Status form();
  // One more host, invited by a node that is up; waits until it serves. Its index.
  Result<std::size_t> add_node(Duration limit);
  // The same without waiting: invited by node `inviter`, it joins when it can.
  Result<std::size_t> begin_join(std::size_t inviter);
  Result<std::size_t> begin_join(const std::string& token, NodeId replaces = {});
  // Another host with the folder of node `of`, as it was copied: it runs as that node, beside it or in its place.
  Result<std::size_t> begin_twin(std::size_t of, const SimDisk::Folder& folder);
  // As begin_join, in the place of a dead node.
  Result<std::size_t> begin_replace(std::size_t inviter, std::size_t dead);

  void crash(std::size_t i, Crash kind);
  // Flips a bit of a stored change, chosen by chance. REQUIRES: node i is down.
  Status rot(std::size_t i, Random& random);
  // Flips a bit anywhere in the files of its store: log of RocksDB, tables, manifest. What that may be: which kind of
  // file. REQUIRES: node i is down.
  Result<std::string> decay(std::size_t i, Random& random);
  // Takes the last decay() back, of a node that does not run with it: an operator would give it an empty disk. False:
  // there was none, or its file is gone.
  bool undecay(std::size_t i);
  // All that did.
  [[nodiscard]] const std::vector<Destroyed>& destroyed() const { return destroyed_; }
  Status restart(std::size_t i);
  // The next run of node i draws this writer, as if by chance. REQUIRES: it was not stopped in order.
  void draw(std::size_t i, WriterId writer) { hosts_[i]->draw = writer; }
  // In order: tells the others, marks the store clean. Kills after `limit`.
  Status stop(std::size_t i, Duration limit = 60s);
  void pause(std::size_t i);
  void resume(std::size_t i);
  void clock_step(std::size_t i, std::chrono::milliseconds by);
  void clock_drift(std::size_t i, double ppm);
  // Between nodes, by index; the hosts of clients are cut from none.
  void partition(const std::vector<std::vector<std::size_t>>& sides);
  void heal();
  // Nodes of one zone from all others.
  void cut_zone(const std::string& zone);
  [[nodiscard]] const std::string& zone(std::size_t i) const { return hosts_[i]->config.zone; }
  // A node that may go for good: stopped, and no part of the cluster any more.
  void retire(std::size_t i);
  [[nodiscard]] bool retired(std::size_t i) const { return hosts_[i]->retired; }
  // By force: what only its disk has is given up.
  void abandon(std::size_t i);
  [[nodiscard]] std::set<WriterId> abandoned_writers() const;
  // Nodes that were told kDenied, at their start or when they joined, or kForeign, and were switched off for it.
  struct Refusal {
    std::size_t node = 0;
    bool joining = false;
    std::string id;  // Short; empty when it never said it.
    Errc code{};
    std::string text;
  };
  [[nodiscard]] const std::vector<Refusal>& refusals() const { return refusals_; }
  // Those that the ring does not explain: it has them as members.
  std::vector<std::string> wrong_refusals();
  // It left or was removed, and everybody has what it held.
  [[nodiscard]] bool departed(std::size_t i) const { return up(i) && hosts_[i]->node->departed(); }
  // Its short id, once it is up; empty before.
  [[nodiscard]] const std::string& id(std::size_t i) const { return hosts_[i]->id; }
  // Ends every fault: cuts, pauses, slow and full disks, loss; starts what is down.
  Status end_faults();

  void run_for(Duration duration) { world_.run_for(duration); }
  // How long entries are kept; of nodes started from now on.
  void set_retention(Duration retention);
  bool run_until(const std::function<bool()>& done, Duration limit) {
    return world_.run_until(done, limit);
  }
  // One operator request; `done` comes in a turn of the node, or never if that ends first.
  void ask(std::size_t i, const std::string& method, const Json& arguments,
           std::function<void(Result<Json>)> done);
  // The same, run to its answer.
  Result<Json> admin(std::size_t i, const std::string& method, const Json& arguments,
                     Duration limit = 30s);

  [[nodiscard]] std::size_t size() const { return hosts_.size(); }
  [[nodiscard]] bool up(std::size_t i) const { return hosts_[i]->node != nullptr; }
  // Those that left do not serve: they count once they departed.
  [[nodiscard]] bool all_serving() const;
  [[nodiscard]] node::Node& node(std::size_t i) { return *hosts_[i]->node; }
  [[nodiscard]] SimDisk& disk(std::size_t i) { return *hosts_[i]->disk; }
  [[nodiscard]] const std::string& folder(std::size_t i) const { return hosts_[i]->config.data; }
  [[nodiscard]] const std::string& ip(std::size_t i) const { return hosts_[i]->ip; }
  [[nodiscard]] overlay::Endpoint client_address(std::size_t i) const;
  // Of its run, or of the last one.
  [[nodiscard]] WriterId writer(std::size_t i) const { return hosts_[i]->writer; }
  [[nodiscard]] const NodeId& node_id(std::size_t i) const { return hosts_[i]->node_id; }
  // Index of the node with this id, short or long. nullopt for a stranger.
  std::optional<std::size_t> index_of(const std::string& id);
  // Owners of the partition of `address`, in preference order, asked from the first node that is
  // up.
  std::vector<std::size_t> owners_of(const std::string& address);
  // Of every partition, as node `asked` knows it. Empty when it does not answer.
  std::map<PartitionId, std::vector<std::size_t>> owner_table(std::size_t asked);
  // Of nodes that are added from now on, in place of the options'.
  void set_zone(const std::string& zone) { next_zone_ = zone; }
  // What node i has synced: partition -> writer -> n. Empty while it is down.
  using Vectors = std::map<PartitionId, std::map<WriterId, std::uint64_t>>;
  Vectors vectors(std::size_t i);
  // What no operator is shown of it. REQUIRES, as the next three: node i is up.
  storage::Store& store(std::size_t i);
  // Of its store.
  std::uint32_t partitions(std::size_t i);
  // Nothing lies any more where it lay before the last split.
  bool settled(std::size_t i);
  // Node i proposes twice the partitions, at once and whatever the operator's command would say to it. `done` comes in
  // a turn of the node, or never if that ends first.
  void propose_doubled(std::size_t i, std::function<void(Status)> done);
  // Why the cluster is not quiet, in sentences: a node that is down, owners with different vectors,
  // a change that owes another, something held for others.
  struct Unrest {
    int invariant = 0;  // Broken, if it lasts: 5, equal owners, or 9, nothing left over.
    std::string text;
  };
  std::vector<Unrest> unrest();
  bool quiet() { return unrest().empty(); }
  // A node has a file that cannot be read, and will start anew over it.
  bool awaits_refill();
  // Runs until quiet(); false when `limit` passed first.
  bool run_until_quiet(Duration limit);

  SimNetwork& network() { return network_; }
  World& world() { return world_; }
  [[nodiscard]] std::size_t fatal_errors() const { return fatal_errors_; }
  // Log lines of the nodes go into the trace.
  void trace_logs(overlay::LogLevel level) { log_level_ = level; }

  // Stops all nodes in order and reads their stores. Nothing can be started afterwards.
  Result<ClusterExport> stop_and_export();

 private:
  struct FlippedBit {
    std::string file;
    std::size_t at = 0;
    char bit = 0;
  };
  struct Host {
    std::string name;
    std::string ip;
    node::Config config;
    std::string id;  // Short id, once known.
    WriterId writer;  // Of the last run.
    std::set<WriterId> writers;
    bool abandoned = false;  // With what only it had.
    std::optional<WriterId> draw;
    NodeId node_id;   // Once known.
    bool retired = false;
    bool tapped = false;  // The tap knows its id.
    double drift_ppm = 0;
    std::chrono::milliseconds clock_offset{0};
    std::unique_ptr<SimDisk> disk;
    std::optional<FlippedBit> flipped;     // By its last decay,
    std::optional<SimDisk::Folder> sound;  // and before it, until it starts with it.
    // Of the running process; destroyed from the bottom up.
    std::unique_ptr<SimLoop> loop;
    std::unique_ptr<overlay::Transport> transport;
    std::unique_ptr<Random> random;
    std::unique_ptr<overlay::Log> log;
    std::unique_ptr<node::Node> node;
  };

  void note_unreadable(std::size_t i, const SimDisk::Folder& sound, const SimDisk::Folder& flipped);
  void note_lost_rows(std::size_t i, storage::Engine& was, storage::Engine& is);
  void note_destroyed(std::size_t i, const Part& part, View key, View value);
  void add_host();
  Status start(std::size_t i);
  Status keep_writer(Host& host);
  std::function<std::unique_ptr<overlay::Rpc>(overlay::Rpc&)> wrap(std::size_t i);
  std::shared_ptr<bool> begin_stop(std::size_t i);
  Status end_stop(std::size_t i, const std::shared_ptr<bool>& done, Duration limit);
  Status stop_all();
  void clear(Host& host);
  void on_fatal(std::size_t i, const Error& error);
  void refused(std::size_t i, bool joining, const Error& error);
  std::optional<std::size_t> any_up() const;  // One that serves, if there is one.

  World& world_;
  const ClusterOptions options_;
  SimNetwork network_;
  std::vector<std::unique_ptr<Host>> hosts_;
  std::uint64_t retention_ms_ = node::kRetentionDefaultMs;
  std::size_t fatal_errors_ = 0;
  std::vector<Refusal> refusals_;
  std::vector<Destroyed> destroyed_;
  std::string next_zone_;
  overlay::LogLevel log_level_ = overlay::LogLevel::kInfo;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace starling::sim
