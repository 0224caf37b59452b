// TcpGateway: clients over TCP, msgpack frames (session/protocol.h). One Session per connection.
//
// The gateway owns connections, cuts bytes into frames, and ends what is silent, too slow to log in or
// over a limit. An idle connection holds no buffers. When the places are taken, one that has not logged in gives way
// to the next (newcomers.h).
// Thread: one loop.
#pragma once

#include <memory>
#include <unordered_map>

#include "node/gateway/newcomers.h"
#include "node/gateway/suggestions.h"
#include "node/session/session.h"
#include "overlay/loop/transport.h"

namespace starling::node {

inline constexpr std::size_t kConnectionsMax = 100'000;
inline constexpr std::size_t kConnectionsNotLoggedInMax = 10'000;
inline constexpr Duration kShedOver = 10s;
inline constexpr Duration kDrainOver = 1s;

class TcpGateway {
 public:
  TcpGateway(SessionServices services, overlay::Transport& transport);
  ~TcpGateway();

  // kAddressInUse, kIo.
  Status listen(const overlay::Endpoint& at);
  [[nodiscard]] const overlay::Endpoint& local() const { return local_; }
  // Nodes that take sessions.
  using Others = std::function<std::vector<Suggestions::Node>()>;
  // Accepts no more, and asks every session to go, a few at a time when they are many: within kDrainOver.
  // Then all connections are closed, and `done` is called.
  void drain(const std::string& text, Others nodes, std::function<void()> done);
  // Asks sessions to go elsewhere, a few at a time, the oldest first, also those that come meanwhile; nobody
  // while `nodes` names nobody. They go within about kShedOver.
  void shed(const std::string& text, Others nodes);
  void stop_shedding();
  [[nodiscard]] bool shedding() const { return others_ != nullptr; }
  [[nodiscard]] std::size_t connections() const { return connections_.size(); }
  [[nodiscard]] std::size_t not_logged_in() const { return newcomers_.size(); }

 private:
  class Connection;
  void accept(std::unique_ptr<overlay::Stream> stream);
  void retire(std::uint64_t id);  // Destroyed at the end of the turn.
  void sweep();
  void shed_some();
  void drain_some();
  void send_away(std::vector<std::uint64_t> ids, const std::vector<Suggestions::Node>& nodes);

  SessionServices services_;
  overlay::Transport& transport_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Connection>> connections_;
  Newcomers newcomers_{kConnectionsNotLoggedInMax};
  std::vector<std::uint64_t> retired_;
  std::uint64_t next_id_ = 1;
  std::unique_ptr<overlay::Listener> listener_;
  overlay::Endpoint local_;
  overlay::Timer sweep_;
  std::string shed_text_;
  Others others_;         // Set while we shed.
  Instant shed_until_{};  // By then those of the beginning are gone.
  overlay::Timer shed_;
  Suggestions suggestions_;
  std::function<void()> drained_;  // Set while we drain.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace starling::node
