// What waits for a peer and leaves; the end of a connection; looking after those that are open.
#include <algorithm>

#include "overlay/links/links.h"
#include "overlay/links/links_state.h"

namespace starling::overlay {
namespace {

constexpr std::size_t kSealBudget = 128 << 10;  // Frames sealed at once.
constexpr Duration kForgetPeer = 60s;           // Since somebody last asked for it.

}  // namespace

Error unavailable(const NodeId& node, const std::string& why) {
  return {Errc::kUnavailable, "node " + short_text(node) + " is not reachable: " + why};
}

// ---- Sending

// What to tell a caller before anything is queued.
Status Links::ready_to_send(Peer& peer, std::size_t size) {
  if (!peer.up && !peer.breaker.closed()) {
    peer.wanted = loop_.now();
    // Without a time: the same words as long as the cause is the same.
    return unavailable(peer.id, peer.breaker.cause().text + "; the next attempt comes by itself");
  }
  if (queued(peer) + size > kLinkQueueBytesMax) {
    return Error{Errc::kOverloaded,
                 "too much is waiting for node " + short_text(peer.id) + ": back off"};
  }
  return ok_status();
}

void Links::send(Peer& peer, Frame frame) {
  ++metrics_.frames_out;
  if (peer.up && frame.method != Method::kPing) peer.up->last_use = loop_.now();
  peer.queue.push(std::move(frame));
  if (!peer.up) {
    if (peer.dialling == nullptr && !peer.redial_set) dial_peer(peer);
    return;
  }
  if (std::exchange(peer.dirty, true)) return;
  if (dirty_.empty()) {
    loop_.defer(Loop::Stage::kSeal, [this, alive = alive_] {
      if (*alive) flush_dirty();
    });
  }
  dirty_.push_back(&peer);
}

void Links::flush_dirty() {
  for (Peer* peer : std::exchange(dirty_, {})) {
    peer->dirty = false;
    flush(*peer);
  }
}

void Links::flush(Peer& peer) {
  if (!peer.up) return;
  Connection& up = *peer.up;
  while (!peer.queue.empty() && up.stream->queued() < kLinkAheadMax) {
    Bytes sealed = up.link->seal(peer.queue, kSealBudget, loop_.now());
    up.written += sealed.size();
    metrics_.bytes_out += sealed.size();
    if (!sealed.empty()) up.stream->write(std::move(sealed));
  }
}

// A call was told; a notice or an answer that cannot wait ends the link instead of being dropped.
void Links::overflowed(Peer& peer) {
  const Error error{Errc::kFellBehind, "it reads too slowly, and the queue for it is full"};
  if (!peer.up) return give_up(peer, error.text);
  loop_.defer([this, alive = alive_, up = peer.up, error] {
    if (*alive) fail(*up, error);
  });
}

// ---- The end

void Links::fail(Connection& connection, const Error& error) {
  if (connection.links == nullptr) return;
  const auto keep = connection.shared_from_this();
  if (Peer* peer = connection.peer) {
    peer->up = nullptr;
    close(connection, Close::kNow);
    --metrics_.links_up;
    ++metrics_.links_ended[error.code];
    return went_down(*peer, error);
  }
  ++metrics_.handshakes_failed[error.code];
  if (!connection.dialled) log_failed(error);
  // What is left to send may be the reason of a refusal.
  close(connection, Close::kAfterFlush);
  finish_dial(connection, error);
  if (!connection.wanted) return;
  Peer& peer = peer_of(*connection.wanted);
  if (peer.dialling != &connection) return;
  peer.dialling = nullptr;
  if (connection.link && !connection.heard) ++peer.mute;
  dial_failed(peer, error);
}

// Each line is written out at once: whoever can connect could keep the loop busy with them.
void Links::log_failed(const Error& error) {
  const Instant now = loop_.now();
  if (failure_logged_ != Instant{} && now - failure_logged_ < kFailureLogEvery) {
    ++failures_unlogged_;
    return;
  }
  failure_logged_ = now;
  log_.warn("an incoming link failed",
            {{"reason", error}, {"more_before", std::exchange(failures_unlogged_, 0)}});
}

void Links::close(Connection& connection, Close how) {
  const auto keep = connection.shared_from_this();
  if (connection.peer == nullptr && !connection.dialled) --incoming_handshakes_;
  connection.links = nullptr;
  connection.handshake_timer.cancel();
  connection.connecting.reset();
  if (connection.stream && how == Close::kAfterFlush) connection.stream->close_after_flush();
  connection.stream.reset();
  connections_.erase(connection.number);
}

void Links::went_down(Peer& peer, const Error& error) {
  log_.info("link down", {{"peer", peer.id}, {"reason", error}});
  peer.queue.clear();
  fail_calls(peer, unavailable(peer.id, "the link went down, " + error.text));
  tell(peer.id, nullptr);
}

void Links::dial_failed(Peer& peer, const Error& error) {
  if (error.code == Errc::kExists && peer.refusals < kRefusalsMax) {
    ++peer.refusals;
    if (peer.up || peer.queue.empty()) return;
    peer.redial_set = true;
    peer.redial = loop_.after(kRedialMin, [this, &peer] {
      peer.redial_set = false;
      if (!peer.up && peer.dialling == nullptr && !peer.queue.empty()) dial_peer(peer);
    });
    return;
  }
  trip(peer, error);
  give_up(peer, error.text);
}

void Links::trip(Peer& peer, const Error& error) {
  if (peer.breaker.closed()) {
    ++metrics_.breakers_opened;
    peer.wanted = loop_.now();
    log_.warn("a node is not reachable", {{"peer", peer.id}, {"reason", error}});
  }
  peer.breaker.trip(loop_.now(), random_.unit(), error, is_wanted(peer) ? kRedialMax : kRedialUnwantedMax);
}

bool Links::is_wanted(const Peer& peer) const { return loop_.now() < peer.wanted + kForgetPeer; }

bool Links::is_member(const Peer& peer) const { return hooks_.is_member && hooks_.is_member(peer.id); }

void Links::try_now(const NodeId& node) {
  const auto it = peers_.find(node);
  if (it == peers_.end()) return;
  Peer& peer = *it->second;
  if (!peer.up && peer.dialling == nullptr && !peer.redial_set && !peer.breaker.closed()) dial_peer(peer);
}

// Half-open: nobody waits for the attempt.
void Links::try_again() {
  const Instant now = loop_.now();
  std::vector<Peer*> due;
  for (const auto& [id, peer] : peers_) {
    const bool idle = !peer->up && peer->dialling == nullptr && !peer->redial_set;
    if (idle && peer->breaker.may_try(now) && (is_wanted(*peer) || is_member(*peer))) due.push_back(peer.get());
  }
  for (Peer* peer : due) dial_peer(*peer);
}

void Links::give_up(Peer& peer, const std::string& why) {
  peer.queue.clear();
  fail_calls(peer, unavailable(peer.id, why));
}

void Links::drop(const NodeId& node) {
  loop_.assert_current();
  const auto it = peers_.find(node);
  if (it == peers_.end()) return;
  Peer& peer = *it->second;
  peer.redial.cancel();
  peer.redial_set = false;
  const auto up = peer.up;
  if (up) return fail(*up, {Errc::kDenied, "the node was cut off"});
  if (auto* dialling = std::exchange(peer.dialling, nullptr)) close(*dialling, Close::kNow);
  give_up(peer, "the node was cut off");
}

// ---- Looking after what is open

void Links::tick() {
  const Instant now = loop_.now();
  // Held up ourselves (a paused process, a busy machine): what nobody sent us meanwhile proves nothing.
  const Duration late = now - std::exchange(next_tick_, now + kLinkTick);
  tick_timer_ = loop_.after(kLinkTick, [this] { tick(); });
  std::vector<std::shared_ptr<Connection>> up;
  for (const auto& [number, connection] : connections_) {
    if (connection->peer != nullptr) up.push_back(connection);
  }
  for (const auto& connection : up) {
    if (connection->waiting_since && late > kLinkTick) *connection->waiting_since += late;
    if (connection->links != nullptr) keep_alive(*connection);
  }
  end_outsiders();
  try_again();
  forget_idle_peers();
}

// Whoever is no member and came by a secret that is retired by now. Members have proven who they are.
void Links::end_outsiders() {
  std::vector<std::shared_ptr<Connection>> ended;
  for (const auto& [number, connection] : connections_) {
    const bool up = connection->peer != nullptr && connection->key.has_value();
    if (!up || keyring_.holds(*connection->key)) continue;
    if (standing(*connection) == Standing::kUnknown) ended.push_back(connection);
  }
  for (const auto& connection : ended) {
    if (connection->links == nullptr) continue;
    fail(*connection, {Errc::kDenied, "its secret is retired, and it is no member"});
  }
}

void Links::keep_alive(Connection& connection) {
  const Peer& peer = *connection.peer;
  const Instant now = loop_.now();
  const std::size_t queued = connection.stream->queued();
  const std::uint64_t taken = connection.written - queued;
  // A backlog that shrinks is a sign of life: a ping may be waiting behind it.
  if (connection.backlog > 0 && taken > connection.taken) connection.waiting_since.reset();
  connection.taken = taken;
  connection.backlog = queued;
  if (peer.calls.empty() && peer.queue.empty() && queued == 0) {
    connection.waiting_since.reset();
    if (connection.requests_in == 0 && now - connection.last_use >= config_.idle_timeout) {
      fail(connection, {Errc::kIo, "nobody used it"});
    }
    return;
  }
  if (connection.waiting_since && now - *connection.waiting_since >= kPingTimeout) {
    const Error silent{Errc::kTimeout, "the peer does not answer pings"};
    trip(*connection.peer, silent);
    return fail(connection, silent);
  }
  if (now - connection.last_in >= kPingAfter && now - connection.last_ping >= kPingAfter) {
    ping(connection);
  }
}

void Links::ping(Connection& connection) {
  connection.last_ping = loop_.now();
  if (!connection.waiting_since) connection.waiting_since = loop_.now();
  send(*connection.peer, {FrameType::kRequest, 0, Method::kPing, 0, kNever, {}});
}

void Links::forget_idle_peers() {
  std::erase_if(peers_, [this](const auto& entry) {
    const Peer& peer = *entry.second;
    const bool used = peer.up || peer.dialling != nullptr || peer.redial_set || peer.dirty ||
                      !peer.calls.empty() || !peer.queue.empty();
    // Forgotten is closed: whoever chooses among the members would turn to it, and wait.
    return !used && (peer.breaker.closed() || (!is_wanted(peer) && !is_member(peer)));
  });
}

}  // namespace starling::overlay
