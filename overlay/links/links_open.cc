// Connections, from the dial or the accept until one is up.
#include <algorithm>

#include "overlay/links/links.h"
#include "overlay/links/links_state.h"

namespace starling::overlay {

// ---- Dialling

void Links::dial_peer(Peer& peer) {
  const auto endpoint = hooks_.resolve(peer.id);
  if (!endpoint) return give_up(peer, "its address is not known");
  Connection& connection = open(*endpoint, config_.connect_timeout + config_.handshake_timeout);
  connection.wanted = peer.id;
  peer.dialling = &connection;
}

void Links::dial(const Endpoint& to, Duration deadline, std::function<void(Result<NodeId>)> done) {
  loop_.assert_current();
  open(to, deadline).dial_done = std::move(done);
}

Links::Connection& Links::add_connection(bool dialled, Duration timeout) {
  auto connection = std::make_shared<Connection>();
  connection->links = this;
  connection->number = next_connection_++;
  connection->dialled = dialled;
  time_handshake(*connection, timeout);
  return *connections_.emplace(connection->number, connection).first->second;
}

// Held up ourselves (a paused process, a busy machine), timers run before what came in meanwhile is read: it gets a
// tick more.
void Links::time_handshake(Connection& connection, Duration timeout) {
  const Instant due = loop_.now() + timeout;
  connection.handshake_timer = loop_.after(timeout, [this, c = &connection, due] {
    if (loop_.now() - due > kLinkTick) return time_handshake(*c, kLinkTick);
    fail(*c, {Errc::kTimeout, "the handshake took too long"});
  });
}

Links::Connection& Links::open(const Endpoint& to, Duration timeout) {
  Connection& connection = add_connection(true, timeout);
  connection.connecting = transport_.connect(to, std::min(timeout, config_.connect_timeout),
                                             [this, c = &connection](auto stream) {
                                               auto connecting = std::move(c->connecting);
                                               if (!stream) return fail(*c, stream.error());
                                               begin(*c, std::move(*stream));
                                             });
  return connection;
}

Status Links::listen() {
  auto listener = transport_.listen(
      config_.listen, [this](std::unique_ptr<Stream> stream) { accept(std::move(stream)); });
  if (!listener) return listener.error();
  listener_ = std::move(*listener);
  return ok_status();
}

void Links::accept(std::unique_ptr<Stream> stream) {
  make_room_for(stream->peer().host);
  ++incoming_handshakes_;
  begin(add_connection(false, std::min(config_.first_message_timeout, config_.handshake_timeout)), std::move(stream));
}

// By age: connections are numbered in their order.
void Links::make_room_for(const std::string& host) {
  Connection* oldest = nullptr;
  Connection* oldest_there = nullptr;
  std::size_t there = 0;
  for (const auto& [number, connection] : connections_) {
    if (connection->dialled || connection->peer != nullptr || !connection->stream) continue;
    if (oldest == nullptr) oldest = connection.get();
    if (connection->stream->peer().host != host) continue;
    if (oldest_there == nullptr) oldest_there = connection.get();
    ++there;
  }
  const Error crowded{Errc::kOverloaded, "too many handshakes are under way"};
  if (there >= kHandshakesOfOneMax) return fail(*oldest_there, crowded);
  if (incoming_handshakes_ >= kHandshakesMax && oldest != nullptr) fail(*oldest, crowded);
}

// Of those who hold the secret and are no members: first those for whom no answer is under way.
void Links::bound_strangers() {
  std::size_t strangers = 0;
  std::shared_ptr<Connection> quietest;
  const auto order = [](const Connection& c) { return std::pair(c.requests_in > 0, c.last_use); };
  for (const auto& [number, connection] : connections_) {
    if (connection->dialled || connection->peer == nullptr) continue;
    if (standing(*connection) != Standing::kUnknown) continue;
    ++strangers;
    if (!quietest || order(*connection) < order(*quietest)) quietest = connection;
  }
  if (strangers > kStrangersMax) fail(*quietest, {Errc::kOverloaded, "too many links of nodes that are no members"});
}

// Made once for each key: it costs as much as a step of the handshake.
Result<DhPublic> Links::dh_form(const PublicKey& key) {
  const auto known = dh_forms_.find(key);
  if (known != dh_forms_.end()) return known->second;
  TRY_ASSIGN(const DhPublic form, dh_public(key));
  if (dh_forms_.size() >= kDhFormsMax) dh_forms_.clear();
  return dh_forms_.emplace(key, form).first->second;
}

void Links::begin(Connection& connection, std::unique_ptr<Stream> stream) {
  LinkConfig config{connection.dialled ? NoiseRole::kInitiator : NoiseRole::kResponder, identity_,
                    hooks_.hello()};
  connection.lineage = config.hello.lineage;
  if (connection.dialled) {
    // Who was away during a rotation does not know the newest secret, and says nothing to it: then an older one.
    const auto known = keyring_.ids();
    const auto peer = connection.wanted ? peers_.find(*connection.wanted) : peers_.end();
    connection.key = known[peer == peers_.end() ? 0 : peer->second->mute % known.size()];
    config.secret = LinkSecret{Bytes(connection.key->view()), *keyring_.link_psk(*connection.key)};
  }
  config.find_secret = [this, c = &connection](View name) -> std::optional<SecretKey> {
    KeyId id;
    if (!KeyId::from(name, id)) return std::nullopt;
    c->key = id;
    auto psk = keyring_.link_psk(id);
    if (!psk) return std::nullopt;
    return *psk;
  };
  config.admit = [this, c = &connection](const LinkPeer& peer) { return admit(*c, peer); };
  config.dh_form = [this](const PublicKey& key) { return dh_form(key); };
  connection.link.emplace(std::move(config), random_);
  connection.stream = std::move(stream);
  connection.last_in = loop_.now();
  Stream::Events events;
  events.on_data = [this, c = &connection](View bytes) { received(*c, bytes); };
  events.on_close = [this, c = &connection](const Error& error) { fail(*c, error); };
  events.on_drained = [this, c = &connection] {
    if (c->peer != nullptr) flush(*c->peer);
  };
  connection.stream->start(std::move(events));
  if (Bytes out = connection.link->output(); !out.empty()) connection.stream->write(std::move(out));
}

// ---- The handshake

// Runs inside the handshake, when the peer has proven its key.
Status Links::admit(Connection& connection, const LinkPeer& peer) {
  if (peer.id == identity_.node_id()) {
    return Error{Errc::kInvalid, "this address leads to the node itself"};
  }
  if (connection.wanted && *connection.wanted != peer.id) {
    return Error{Errc::kForeign, "node " + short_text(peer.id) +
                                     " answers at the address of node " +
                                     short_text(*connection.wanted)};
  }
  if (hooks_.accept) TRY(hooks_.accept(peer.id, peer.hello));
  // For as long as the link lasts the peer would take us for one of the other lineage.
  if (connection.lineage != hooks_.hello().lineage) {
    return Error{Errc::kStaleRing, "the ring began another lineage in the middle of the handshake; dial again"};
  }
  const auto it = peers_.find(peer.id);
  if (connection.dialled || it == peers_.end()) return ok_status();
  const Peer& known = *it->second;
  if (known.up && !replaces(*known.up, false, peer)) {
    // It may be gone without our knowledge: then the ping finds out.
    ping(*known.up);
    return Error{Errc::kExists, "there is a link already"};
  }
  if (known.dialling != nullptr && identity_.node_id() < peer.id) {
    return Error{Errc::kExists, "our own dial is under way"};
  }
  return ok_status();
}

// The same answer on both sides.
bool Links::replaces(const Connection& old, bool dialled, const LinkPeer& peer) const {
  if (old.link->peer().hello.writer != peer.hello.writer) return true;
  if (old.dialled == dialled) return true;
  return dialled == (identity_.node_id() < peer.id);
}

void Links::received(Connection& connection, View bytes) {
  const auto keep = connection.shared_from_this();
  metrics_.bytes_in += bytes.size();
  connection.last_in = loop_.now();
  connection.heard = true;
  connection.waiting_since.reset();
  const Status taken = connection.link->receive(bytes);
  if (connection.links == nullptr) return;
  if (Bytes out = connection.link->output(); !out.empty()) connection.stream->write(std::move(out));
  if (!taken) return fail(connection, taken.error());
  if (!connection.dialled && connection.key && !std::exchange(connection.greeted, true)) {
    time_handshake(connection, config_.handshake_timeout);
  }
  if (connection.link->up() && connection.peer == nullptr) came_up(connection);
  FrameView frame;
  while (connection.links != nullptr) {
    const auto more = connection.link->next_frame(frame);
    if (!more) return fail(connection, more.error());
    if (!*more) return;
    handle(connection, frame);
  }
}

void Links::came_up(Connection& connection) {
  const LinkPeer& who = connection.link->peer();
  Peer& peer = peer_of(who.id);
  connection.handshake_timer.cancel();
  if (peer.dialling == &connection) peer.dialling = nullptr;
  if (peer.up && !replaces(*peer.up, connection.dialled, who)) {
    finish_dial(connection, who.id);
    return close(connection, Close::kAfterFlush);
  }
  if (!connection.dialled) --incoming_handshakes_;
  connection.peer = &peer;
  connection.last_use = loop_.now();
  if (auto* dialling = std::exchange(peer.dialling, nullptr)) close(*dialling, Close::kNow);
  peer.redial.cancel();
  peer.redial_set = false;
  peer.breaker.close();
  peer.refusals = 0;
  peer.mute = 0;
  ++metrics_.links_opened;
  take_over(peer, connection);
  if (connection.links == nullptr) return;
  log_.info("link up", {{"peer", peer.id},
                        {"address", connection.stream->peer().text()},
                        {"dialled", connection.dialled},
                        {"version", who.version}});
  tell(peer.id, &who.hello);
  flush(peer);
  finish_dial(connection, peer.id);
  if (standing(connection) == Standing::kUnknown) bound_strangers();
}

// Makes `connection` the one that is up, and ends the one that was.
void Links::take_over(Peer& peer, Connection& connection) {
  const auto old = std::exchange(peer.up, connection.shared_from_this());
  if (!old) {
    ++metrics_.links_up;
    return;
  }
  peer.queue.drop_responses();
  fail_calls(peer, unavailable(peer.id, "its link was replaced by another"), &peer.queue);
  close(*old, Close::kAfterFlush);
  tell(peer.id, nullptr);
}

void Links::tell(const NodeId& peer, const Hello* hello) {
  for (const auto& watcher : watchers_) watcher(peer, hello);
}

void Links::finish_dial(Connection& connection, Result<NodeId> result) {
  auto done = std::exchange(connection.dial_done, nullptr);
  if (!done) return;
  later([done = std::move(done), result = std::move(result)] { done(result); });
}

}  // namespace starling::overlay
