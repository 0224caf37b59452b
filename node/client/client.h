// Client: one device of one user, on one connection at a time, to any node of the cluster.
//
// It connects, logs in, catches up from its cursors, follows, sends, and does all of it again at
// the next endpoint when a connection fails, falls silent or is asked to go away, or when its node
// only says "try again". Sends keep their numbers over all of that, so nothing is lost or doubled;
// every message is given to the handler once per key.
// Invariants: (1) every accepted send is reported exactly once, unless the Client dies first; what
//                 an earlier run left open is reported to the handler;
//             (2) nothing waits on a silent connection longer than `request_timeout`;
//             (3) the cursor of a mailbox is raised in the step that hands out the message.
// Thread: the loop's. A handler or `done` may call the Client, but not destroy it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "node/client/lane.h"
#include "node/client/state.h"
#include "node/session/protocol.h"
#include "overlay/loop/loop.h"
#include "overlay/loop/transport.h"

namespace starling::node {

inline constexpr std::size_t kClientWindowDefault = 64;         // Numbers of one lane on the wire.
inline constexpr std::size_t kClientOpenSendsMax = 10'000;      // Accepted and not acknowledged.
inline constexpr std::size_t kClientQueuedBytesMax = 1 << 20;   // Unsent; above, lanes wait.
inline constexpr unsigned kRefusedRoundsMax = 5;                // Then another node is tried.
inline constexpr Duration kGoAwayGrace = 1s;  // To collect answers before leaving a draining node.
inline constexpr std::size_t kAdvisedMax = 2;      // Nodes of an advice that are tried before our own list,
inline constexpr Duration kAdvisedTimeout = 500ms;  // each for so long: we may have no way to them.

struct ClientOptions {
  std::vector<overlay::Endpoint> endpoints;  // Any nodes, or one balancer. Not empty.
  std::size_t first_endpoint = 0;            // Where to begin; modulo the number of endpoints.
  std::string password;                      // Used when there is no token, or it is refused.
  std::string software = "starling";
  bool follow = true;                        // Catch up and receive. False: only send and ask.
  std::size_t window = kClientWindowDefault;
  Duration connect_timeout = 2s;
  Duration login_timeout = 15s;              // A password costs the node a while.
  Duration request_timeout = 5s;
};

enum class ClientPhase : std::uint8_t {
  kIdle,
  kConnecting,
  kLoggingIn,
  kSyncing,
  kReady,
  kFailed,   // Refused for good: wrong password, unknown user. Nothing more happens.
  kStopped,
};
std::string_view name(ClientPhase phase);

// What a client tells its owner. Entries borrow nothing: they may be kept.
class ClientHandler {
 public:
  virtual ~ClientHandler() = default;
  // A message that this device did not have. `live`: it came after the login had caught up.
  virtual void on_entry(const protocol::EntryMessage& /*entry*/, bool /*live*/) {}
  // A message that this device has (the same key) stands at entry.id from now on, which is smaller
  // than before. Rare: two copies met after a failover.
  virtual void on_moved(const protocol::EntryMessage& /*entry*/) {}
  // A message that this device has was given up, or taken back, by its sender: drop it. It may be one of its own.
  virtual void on_void(const protocol::EntryMessage& /*entry*/) {}
  // A message that this device does not have, and of which no node has a copy any more.
  virtual void on_lost(const protocol::LostMessage& /*lost*/) {}
  // What became of a send to `to` that an earlier run left open.
  virtual void on_kept_sent(const std::string& /*to*/, const Result<Sent>& /*result*/) {}
  virtual void on_joined(const std::string& /*group*/) {}
  virtual void on_left(const std::string& /*group*/) {}
  // `why` is set when a connection or login failed.
  virtual void on_phase(ClientPhase /*phase*/, const Error* /*why*/) {}
};

struct SendOptions {
  protocol::Grade grade = protocol::Grade::kQuorum;
  storage::EntryType content = storage::EntryType::kText;
  std::uint32_t lifetime_s = 0;  // Burn after; 0: as long as the cluster keeps history.
};

struct ClientStats {
  std::uint64_t connects = 0;    // Logins that succeeded.
  std::uint64_t drops = 0;       // Connections lost, for any reason.
  std::uint64_t sends = 0;       // Frames written, retries included.
  std::uint64_t retries = 0;     // Frames written again.
  std::uint64_t received = 0;    // Entries handed out.
  std::uint64_t duplicates = 0;  // Entries with a key that was known: further copies.
  std::map<Errc, std::uint64_t> errors;  // Refusals of sends.
  std::optional<Error> last_refusal;     // Of a send, since the last one that was acknowledged.
};

class Client {
 public:
  // References outlive the client. REQUIRES: endpoints, state.user and state.device are not empty.
  Client(overlay::Loop& loop, overlay::Transport& transport, Random& random, ClientOptions options,
         ClientState state, ClientHandler& handler);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void start();
  // Closes the connection; open sends stay in state(). `start()` goes on.
  void stop();
  // Forgets the connection and comes back at once, at the next endpoint.
  void reconnect();

  // Queues a message; `done` comes once, later. kInvalid, kTooLarge and kOverloaded come at once,
  // and then no number was used and `done` does not come.
  Status send(const std::string& to, Bytes body, SendOptions options, SendDone done);

  // Takes a message of this user back, whichever of his devices sent it: `device` and `seq` as in its Entry, or as
  // reported to its sender. Asked once: after an error that is_retryable it may be asked again. The message's id.
  template <class T>
  using Done = std::function<void(Result<T>)>;
  void recall(std::string to, const DeviceId& device, std::uint64_t seq, Done<std::string> done);

  // Questions; answered with kUnavailable when there is no session or it ends.
  void history(std::string with, std::string before, std::uint32_t limit,
               Done<protocol::HistoryPage> done);
  void groups(Done<std::vector<std::string>> done);
  // `known`: the version of the roster that is known whole; none comes when it is still that.
  void members(std::string group, std::string after, Done<protocol::Members> done, std::uint64_t known = 0);
  void create_group(std::string group, Done<starling::Done> done);
  void add_member(std::string group, std::string user, std::uint8_t role, Done<starling::Done> done);
  void remove_member(std::string group, std::string user, Done<starling::Done> done);
  void change_password(std::string old_password, std::string new_password,
                       Done<starling::Done> done);
  // Highest number that the cluster knows of this device's lane to `to`.
  void lane_high(std::string to, Done<std::uint64_t> done);

  [[nodiscard]] ClientPhase phase() const { return phase_; }
  // A snapshot to persist.
  [[nodiscard]] ClientState state() const;
  [[nodiscard]] const std::string& user() const { return state_.user; }
  [[nodiscard]] const DeviceId& device() const { return device_; }
  [[nodiscard]] const overlay::Endpoint& endpoint() const { return endpoint_; }
  [[nodiscard]] const std::string& node() const { return node_; }  // That serves us; short id.
  [[nodiscard]] std::size_t open_sends() const { return open_sends_; }
  [[nodiscard]] const ClientStats& stats() const { return stats_; }

 private:
  enum class Kind : std::uint8_t { kLogin, kSync, kSend, kLane, kPing, kCall };
  using Reply = std::function<void(Result<View>)>;  // The body of the answer.
  struct Request {
    Kind kind = Kind::kCall;
    Lane* lane = nullptr;
    std::uint64_t seq = 0;
    Instant deadline{};
    Reply reply;
  };

  // The connection.
  void set_phase(ClientPhase phase, const Error* why = nullptr);
  void connect();
  void connected(Result<std::unique_ptr<overlay::Stream>> stream);
  void lost(const Error& why);
  void fail(const Error& why);
  void come_back(Duration delay);
  void hang_up();
  void login();
  void logged_in(View body);
  void sync();
  void on_go_away(View body);
  void leave_when_idle();
  void on_tick();
  void arm(Instant at);

  // Frames.
  void on_data(View bytes);
  bool on_frame(View body);
  void session_ended(const Error& why);
  void on_answer(std::uint8_t type, std::uint64_t id, View body);
  void on_send_answer(Request request, std::uint8_t type, View body);
  void on_session_error(Request request, const protocol::ErrorMessage& error);
  void on_entry(View body);
  void on_lost(View body);
  void on_membership(View body, bool joined);
  template <class T>
  std::optional<T> decode(View body);
  template <class T>
  void write(const T& message);
  std::uint64_t request(Kind kind, Duration timeout, Reply reply = {});
  template <class T>
  void call(T message, Reply reply);
  template <class Answer, class Map, class D>
  Reply answer_as(protocol::Type type, Map map, D done);
  void group_call(protocol::Type type, std::string group, std::string user, std::uint8_t role,
                  Done<starling::Done> done);
  void defer_flush();
  void flush();

  // Sends.
  Lane& lane(const std::string& to);
  void pump(Lane& lane);
  void pump_all();
  void ask_lane(Lane& lane);
  void report(const Lane& lane, std::optional<Lane::Report> report);
  void refused(Lane& lane, std::uint64_t seq, const protocol::ErrorMessage& message);
  [[nodiscard]] bool may_send() const { return has_session() && !leaving_; }
  [[nodiscard]] bool has_session() const {
    return phase_ == ClientPhase::kSyncing || phase_ == ClientPhase::kReady;
  }

  // Set at construction.
  overlay::Loop& loop_;
  overlay::Transport& transport_;
  Random& random_;
  const ClientOptions options_;
  ClientHandler& handler_;

  // What the device remembers; cursors, lanes and keys live in the members below.
  ClientState state_;
  std::map<std::string, storage::VersionVector, std::less<>> cursors_;
  std::map<std::string, Lane, std::less<>> lanes_;
  KeyIndex keys_;

  // The connection.
  ClientPhase phase_ = ClientPhase::kIdle;
  std::size_t next_endpoint_;
  std::vector<overlay::Endpoint> advised_;  // By a node that asked us to go away; tried first.
  bool on_advice_ = false;      // endpoint_ is such a one.
  bool takes_advice_ = true;    // Until one could not be reached: there is a balancer or a tunnel between us.
  overlay::Endpoint endpoint_;
  std::unique_ptr<overlay::Transport::Connecting> connecting_;
  std::unique_ptr<overlay::Stream> stream_;
  std::unique_ptr<protocol::FrameReader> reader_;
  std::string node_;
  DeviceId device_;
  Duration heartbeat_{};
  unsigned failures_ = 0;
  unsigned refused_rounds_ = 0;  // Of all lanes, since the last ack on this connection.
  bool leaving_ = false;
  Instant leave_at_ = kNever;
  Instant last_read_{};
  Instant last_write_{};
  std::map<std::uint64_t, Request> requests_;  // Ids rise with time, so the first is the oldest.
  std::uint64_t next_request_ = 1;
  Bytes out_;                                  // Frames of this turn.
  bool flushing_ = false;

  std::map<std::string, std::uint64_t> creating_;  // Groups asked for without an answer, by nonce.

  // Sends.
  std::size_t open_sends_ = 0;
  std::vector<Lane*> waiting_;  // Lanes that go back at wake_at().
  bool congested_ = false;      // Too many bytes unsent; on_drained goes on.

  ClientStats stats_;
  overlay::Timer retry_timer_;
  overlay::Timer tick_timer_;
  Instant tick_at_ = kNever;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// A frame that does not decode ends the connection.
template <class T>
std::optional<T> Client::decode(View body) {
  auto message = unpack<T>(body);
  if (message) return std::move(*message);
  lost(message.error());
  return std::nullopt;
}

template <class T>
void Client::write(const T& message) {
  const std::size_t at = out_.size();
  out_.append(protocol::kFrameHeaderSize, '\0');
  pack_into(out_, message);
  const auto size = static_cast<std::uint32_t>(out_.size() - at - protocol::kFrameHeaderSize);
  for (std::size_t i = 0; i < protocol::kFrameHeaderSize; ++i) {
    out_[at + i] = static_cast<char>(size >> (8 * i));
  }
  last_write_ = loop_.now();
  if (!flushing_) defer_flush();
}

}  // namespace starling::node
