// Node: one whole Starling node, wired from injected leaves.
//
// main() and the simulator build the same Node; only the leaves differ. The constructor order is the
// dependency order, so destruction is an orderly (not graceful) shutdown; destroying a Node at any
// moment is what a crash looks like to the others.
// Thread: one loop.
#pragma once

#include <functional>
#include <memory>

#include <nlohmann/json_fwd.hpp>
#include "crypto/random.h"
#include "node/config.h"
#include "overlay/links/rpc.h"
#include "overlay/loop/log.h"
#include "overlay/loop/loop.h"
#include "overlay/loop/transport.h"
#include "storage/engine/commit.h"

namespace rocksdb {
class Env;
}

namespace starling::node {

struct Leaves {
  overlay::Loop& loop;
  overlay::Transport& transport;
  Random& random;
  overlay::Log& log;
  rocksdb::Env* env = nullptr;                  // nullptr: the operating system's.
  storage::CommitterFactory committer;
  std::function<std::uint64_t()> free_space;    // Bytes left where the data is.
  bool background_work = true;                  // RocksDB threads; false in simulations.
  // What the services speak through, in place of the links that it is given; empty: the links themselves.
  std::function<std::unique_ptr<overlay::Rpc>(overlay::Rpc& links)> wrap_rpc = {};
  std::uint64_t files_from = 0;  // Changes that are worth files (replication/catch_up/catch_up.h); 0: as is best.
};

// What the admin door asks and answers: node/admin/api.h lists methods and fields.
using Json = nlohmann::json;
using AdminDone = std::function<void(Result<Json>)>;

class Node {
 public:
  virtual ~Node() = default;

  // Opens the store and binds the ports. A fresh folder becomes a cluster of one, or, with a join token,
  // a node that asks to join. kForeign, kUnsupported, kCorrupt, kAddressInUse, kFull, kClock, kIo;
  // kDenied: it has left its cluster; kNotFound: it would have to found one (Config::may_found).
  static Result<std::unique_ptr<Node>> open(Config config, Leaves leaves);

  // Begins to gossip, catch up and serve. `on_fatal`: a disk that can no longer be trusted, or another
  // process of the same identity (kExists); stop now.
  virtual void start(std::function<void(const Error&)> on_fatal) = 0;
  // Tells the others, closes the doors, syncs, marks the store clean; then calls `done`.
  virtual void stop(std::function<void()> done) = 0;

  [[nodiscard]] virtual NodeId id() const = 0;
  // Addresses actually bound.
  [[nodiscard]] virtual overlay::Endpoint client_address() const = 0;
  [[nodiscard]] virtual overlay::Endpoint link_address() const = 0;
  [[nodiscard]] virtual overlay::Endpoint admin_address() const = 0;

  [[nodiscard]] virtual bool founded() const = 0;  // This start made a new cluster.
  [[nodiscard]] virtual bool serving() const = 0;  // In the ring and caught up.
  [[nodiscard]] virtual bool departed() const = 0;  // Left, and nobody needs it any more: safe to power off.

  // One operator request ("status", "user.add", ...), from the admin door or a test.
  virtual void admin(const std::string& method, const Json& arguments, AdminDone done) = 0;
};

}  // namespace starling::node
