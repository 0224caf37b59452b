// Links: Rpc over encrypted connections, one per pair of nodes, opened when first needed.
//
// What waits for a peer waits in the peer's queue, whichever connection carries it in the end. At
// the end of a turn all frames for a peer leave in one sealed batch and one write. No more than
// kLinkAheadMax is given to the socket ahead of time, so a frame of a higher class can overtake
// what waits here. A connection serves both directions.
//
// Two connections to one peer: that of another run of the peer's process wins; else, when the same
// side dialled both, the newer; else the one that the smaller node id dialled. Frames that had not
// left move over, calls in flight fail, watchers hear down and up. A responder decides this before
// it says welcome, so two nodes that dial at once lose nothing.
//
// Invariants: (1) notices of one class to one node arrive in order or watchers hear that the link
//                 went down in between (only kRingDecided is not of the class of data);
//             (2) a call ends once: by its answer, its deadline or the end of its link;
//             (3) calls to a node that could not be reached, or whose link fell silent, fail at once until
//                 a link to it is up again (breaker.h); we go on trying for as long as somebody asks, and
//                 a member, less often, for as long as it is one.
// Thread: the loop's. Not destroyed from inside a callback of its own.
// On the wire: wire.h, link.h.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "crypto/access/keyring.h"
#include "overlay/links/breaker.h"
#include "overlay/links/link.h"
#include "overlay/links/rpc.h"
#include "overlay/loop/log.h"

namespace starling::overlay {

// Incoming handshakes at once; and of one address, which may be that of a whole test cluster. Whoever is in one has
// proven nothing: where there are more, the oldest gives way.
inline constexpr std::size_t kHandshakesMax = 256;
inline constexpr std::size_t kHandshakesOfOneMax = 64;
// Links of nodes that are no members: who joins needs one for some seconds. The one that said nothing for the longest
// time gives way, and before those whom an answer is due.
inline constexpr std::size_t kStrangersMax = 64;
inline constexpr std::size_t kDhFormsMax = 4096;         // As many as there may be members.
inline constexpr Duration kFailureLogEvery = 1s;         // Incoming links that failed, in the log.
inline constexpr std::size_t kLinkAheadMax = 256 << 10;  // Sealed and not yet sent.
inline constexpr int kRefusalsMax =
    20;  // Times that a peer may say that its own dial is under way.
inline constexpr Duration kPingAfter = 500ms;     // Silence while something is outstanding.
inline constexpr Duration kPingTimeout = 1500ms;  // Then the peer counts as hung.
inline constexpr Duration kLinkTick = 250ms;
static_assert(kLinkTick < kPingAfter && kPingAfter < kPingTimeout);

struct LinksConfig {
  Endpoint listen;
  Duration connect_timeout = 3s;
  Duration first_message_timeout = 3s;  // Of who connected: it has had time to think.
  Duration handshake_timeout = 10s;
  Duration idle_timeout = 5min;
};

// What the ring version known here says of a node that proved the secret and its key.
enum class Standing { kMember, kUnknown, kGone };

struct LinksHooks {
  std::function<std::optional<Endpoint>(const NodeId&)> resolve;
  std::function<Hello()> hello;
  std::function<Standing(const NodeId&, const PublicKey&)> standing;
  // One of unknown standing asked for what members may: ours may be the older ring version.
  std::function<void(const NodeId&)> stranger;  // May be empty.
  // Lineage, clock, revocation. An error refuses the link and is told to the peer. May be empty.
  std::function<Status(const NodeId&, const Hello&)> accept;
  // Members are asked again and again, by whoever finds them reachable: their breakers are kept. May be empty.
  std::function<bool(const NodeId&)> is_member = {};
};

struct LinksMetrics {
  std::uint64_t links_up = 0;  // Now; the rest only grows.
  std::uint64_t links_opened = 0;
  std::uint64_t bytes_in = 0;
  std::uint64_t bytes_out = 0;
  std::uint64_t frames_out = 0;
  std::uint64_t calls = 0;
  std::uint64_t timeouts = 0;
  std::uint64_t breakers_opened = 0;
  std::uint64_t notices_gone = 0;     // Dropped: of nodes that left or were removed,
  std::uint64_t notices_strange = 0;  // of nodes that are no members, with the link,
  std::uint64_t notices_unknown = 0;  // and of a kind that is not known here.
  std::map<Errc, std::uint64_t> handshakes_failed;
  std::map<Errc, std::uint64_t> links_ended;  // That were up.
};

class Links final : public Rpc {
 public:
  // Everything by reference outlives the Links.
  Links(Loop& loop, Transport& transport, const Identity& identity, const Keyring& keyring,
        Random& random, const Log& log, LinksConfig config, LinksHooks hooks);
  ~Links() override;
  Links(const Links&) = delete;
  Links& operator=(const Links&) = delete;

  // Begins to accept. kAddressInUse, kIo.
  Status listen();
  // Where we listen. REQUIRES: listen() was ok.
  [[nodiscard]] Endpoint local() const { return listener_->local(); }

  void serve(Method method, Access access, Handler handler) override;
  void on_notice(Method method, NoticeHandler handler) override;
  void call(const NodeId& to, Method method, Bytes body, Duration deadline, Done done) override;
  void notify(const NodeId& to, Method method, Bytes body) override;
  void dial(const Endpoint& to, Duration deadline,
            std::function<void(Result<NodeId>)> done) override;
  [[nodiscard]] bool linked(const NodeId& peer) const override;
  // Whether a call would be tried: false while the breaker of the peer is open.
  [[nodiscard]] bool reachable(const NodeId& peer) const;
  [[nodiscard]] std::size_t breakers_open() const;
  // There is news that it is alive: a breaker that is open tries at once.
  void try_now(const NodeId& peer);
  void on_link(std::function<void(const NodeId& peer, const Hello* hello)> watcher) override;

  // Closes the link to a node that was revoked, and fails what waits for it.
  void drop(const NodeId& node);
  [[nodiscard]] const LinksMetrics& metrics() const { return metrics_; }
  // Of the peer that has the most.
  struct Load {
    std::size_t calls = 0;         // Asked, not answered yet.
    std::size_t queued_bytes = 0;  // For a socket that does not keep up.
  };
  [[nodiscard]] Load busiest() const;
  // What waits for that node, with what its socket has not taken yet.
  [[nodiscard]] std::size_t queued(const NodeId& node) const;

 private:
  struct Connection;
  struct Peer;
  class RemoteReply;
  class SelfReply;
  struct Served {
    Handler handler;
    NoticeHandler notice;
    Access access = Access::kMembers;
  };
  struct Deadline {
    Instant at;
    std::uint64_t request;
    NodeId peer;
  };

  // links.cc: calls, notices, their deadlines, and what arrives for them.
  Peer& peer_of(const NodeId& id);
  Served& served(Method method);
  void later(std::function<void()> fn);
  void soon(std::function<void()> fn);
  void to_self(Method method, std::function<void()> fn);
  void add_call(Peer& peer, std::uint64_t request, Instant deadline, Done done);
  void end_call(Peer& peer, std::uint64_t request, Result<Bytes> result);
  void fail_calls(Peer& peer, const Error& error, const FrameQueue* but_queued = nullptr);
  void watch_deadlines();
  void run_deadlines();
  void call_self(std::uint64_t request, Method method, Bytes body);
  void notify_self(Method method, Bytes body);
  void handle(Connection& from, const FrameView& frame);
  void handle_request(Connection& from, const FrameView& frame);
  void handle_response(Connection& from, const FrameView& frame);
  void handle_notice(Connection& from, const FrameView& frame);
  void respond(Connection& to, std::uint64_t request, Method method, Result<Bytes> result);
  [[nodiscard]] Standing standing(const Connection& connection) const;
  void refuse(Connection& from, Standing standing, Reply reply);

  // links_open.cc: connections, from the dial or the accept until one is up.
  void dial_peer(Peer& peer);
  Connection& add_connection(bool dialled, Duration timeout);
  Connection& open(const Endpoint& to, Duration timeout);
  void accept(std::unique_ptr<Stream> stream);
  void make_room_for(const std::string& host);
  void time_handshake(Connection& connection, Duration timeout);
  void bound_strangers();
  void begin(Connection& connection, std::unique_ptr<Stream> stream);
  Result<DhPublic> dh_form(const PublicKey& key);
  Status admit(Connection& connection, const LinkPeer& peer);
  [[nodiscard]] bool replaces(const Connection& old, bool dialled, const LinkPeer& peer) const;
  void received(Connection& connection, View bytes);
  void came_up(Connection& connection);
  void take_over(Peer& peer, Connection& connection);
  void tell(const NodeId& peer, const Hello* hello);
  void finish_dial(Connection& connection, Result<NodeId> result);

  // links_peers.cc: what waits and leaves, the end, looking after what is open.
  [[nodiscard]] Status ready_to_send(Peer& peer, std::size_t size);
  [[nodiscard]] static std::size_t queued(const Peer& peer);
  void send(Peer& peer, Frame frame);
  void flush(Peer& peer);
  void flush_dirty();
  void fail(Connection& connection, const Error& error);
  void log_failed(const Error& error);
  enum class Close { kNow, kAfterFlush };
  void close(Connection& connection, Close how);
  void went_down(Peer& peer, const Error& error);
  void dial_failed(Peer& peer, const Error& error);
  void give_up(Peer& peer, const std::string& why);
  void overflowed(Peer& peer);
  void tick();
  void end_outsiders();
  void keep_alive(Connection& connection);
  void trip(Peer& peer, const Error& error);
  void try_again();
  void ping(Connection& connection);
  void forget_idle_peers();
  [[nodiscard]] bool is_wanted(const Peer& peer) const;
  [[nodiscard]] bool is_member(const Peer& peer) const;

  // Set at construction.
  Loop& loop_;
  Transport& transport_;
  const Identity& identity_;
  const Keyring& keyring_;
  Random& random_;
  const Log& log_;
  const LinksConfig config_;
  const LinksHooks hooks_;

  // Loop state.
  std::deque<Served> served_;  // By method number.
  std::vector<std::function<void(const NodeId&, const Hello*)>> watchers_;
  std::map<NodeId, std::unique_ptr<Peer>> peers_;
  std::map<std::uint64_t, std::shared_ptr<Connection>> connections_;  // Up or on the way.
  std::map<PublicKey, DhPublic> dh_forms_;  // Of those who held the secret.
  std::size_t incoming_handshakes_ = 0;
  Instant failure_logged_{};
  std::size_t failures_unlogged_ = 0;
  std::uint64_t next_request_ = 1;
  std::uint64_t next_connection_ = 1;
  std::vector<Peer*> dirty_;
  std::vector<Deadline> deadlines_;  // A heap; ended calls leave theirs until it is compacted.
  std::size_t calls_ = 0;
  Instant deadline_armed_ = kNever;
  Timer deadline_timer_;
  std::vector<std::function<void()>> later_;
  Timer later_timer_;
  Timer tick_timer_;
  Instant next_tick_{};
  LinksMetrics metrics_;
  std::unique_ptr<Listener> listener_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace starling::overlay
