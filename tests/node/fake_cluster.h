// FakeCluster: what a client sees of a cluster, in one process and without any of its machinery.
//
// Doors at several endpoints share users, groups and mailboxes. A mailbox is one list of entries
// with positions; the lane rule, dedup by key and the floor are those of protocol.h. Faults are
// named and scripted: a test says what happens to which send, or breaks a door.
// Thread: one loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "node/session/protocol.h"
#include "overlay/loop/loop.h"
#include "overlay/loop/transport.h"

namespace starling::node {

class FakeCluster {
 public:
  // What happens to one send.
  enum class Fate {
    kServe,
    kRefuse,           // The error below; nothing is stored.
    kStoreAndRefuse,   // Stored all the same: the outcome was unknown to the coordinator.
    kIgnore,           // Not stored, never answered.
    kStoreAndForget,   // Stored, never answered.
    kHangUp,           // Not stored, the connection ends.
    kStoreAndHangUp,
  };
  struct Verdict {
    Fate fate = Fate::kServe;
    Errc code = Errc::kUnavailable;
    std::uint32_t retry_after_ms = 0;
  };
  struct Stored {
    protocol::EntryMessage entry;  // mailbox, writer and n filled.
  };

  explicit FakeCluster(overlay::Loop& loop) : loop_(loop) {}
  ~FakeCluster();

  // A node at `at`; port 0 takes a free one. The same transport may serve several.
  overlay::Endpoint open_door(overlay::Transport& transport, const overlay::Endpoint& at);
  void close_door(std::size_t door);   // Connections end, nobody listens.
  void drop_connections(std::size_t door);
  void go_away(std::size_t door, std::vector<std::string> nodes);

  void add_user(const std::string& user, const std::string& password);
  void add_group(const std::string& group, const std::vector<std::string>& members);
  void leave_group(const std::string& group, const std::string& user);

  // Faults.
  std::function<Verdict(const protocol::Send&, std::size_t door)> judge;
  bool mute = false;                 // Reads, never answers: a hung node.
  std::uint32_t heartbeat_s = 30;
  LineageId lineage{};
  std::set<std::string> revoked_tokens;
  // Adds `entry` to `mailbox` as it is, as another writer's: a second copy, or a void.
  void deliver(const std::string& mailbox, protocol::EntryMessage entry);

  [[nodiscard]] const std::vector<Stored>& mailbox(const std::string& address) const;
  [[nodiscard]] std::vector<std::string> bodies(const std::string& address) const;  // By position.
  [[nodiscard]] std::size_t logins() const { return logins_; }
  [[nodiscard]] std::size_t pings() const { return pings_; }
  [[nodiscard]] std::size_t sessions() const;
  [[nodiscard]] const std::vector<protocol::Send>& sends() const { return sends_; }

 private:
  struct Session;
  struct Door {
    overlay::Endpoint at;
    std::unique_ptr<overlay::Listener> listener;
    std::map<std::uint64_t, std::shared_ptr<Session>> sessions;
  };
  struct LaneState {
    std::uint64_t high = 0;
    std::map<std::uint64_t, std::pair<Bytes, std::string>> stored;  // seq -> body, id
  };

  void accept(std::size_t door, std::unique_ptr<overlay::Stream> stream);
  void hang_up(std::size_t door, std::uint64_t session);
  bool on_frame(const std::shared_ptr<Session>& session, View body);
  void on_login(Session& session, const protocol::Login& message);
  void on_sync(Session& session, const protocol::Sync& message);
  bool on_send(const std::shared_ptr<Session>& session, const protocol::Send& message);
  Result<protocol::Ack> store(Session& session, const protocol::Send& message);
  void append(const std::string& mailbox, protocol::EntryMessage entry);
  void push(const std::string& mailbox, const Stored& stored);
  void on_history(Session& session, const protocol::HistoryRequest& message);
  void on_group(Session& session, const protocol::GroupRequest& message);
  void refuse(Session& session, std::uint64_t request, Errc code, std::uint32_t retry_after_ms = 0);
  template <class T>
  void answer(Session& session, const T& message);
  [[nodiscard]] std::vector<std::string> follows(const std::string& user) const;
  std::string next_id(const std::string& floor);

  overlay::Loop& loop_;
  std::vector<Door> doors_;
  std::uint64_t next_session_ = 1;
  std::map<std::string, std::string> passwords_;
  std::map<std::string, std::set<std::string>> groups_;
  std::map<std::string, std::vector<Stored>> mailboxes_;
  std::map<std::pair<DeviceId, std::string>, LaneState> lanes_;
  std::vector<protocol::Send> sends_;
  Hlc clock_ = hlc_at(1'790'000'000'000);
  std::size_t logins_ = 0;
  std::size_t pings_ = 0;
};

}  // namespace starling::node
