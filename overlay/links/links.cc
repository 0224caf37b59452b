#include "overlay/links/links.h"

#include <algorithm>
#include <cassert>
#include <tuple>

#include "overlay/links/links_state.h"

namespace starling::overlay {
namespace {

constexpr std::size_t kMethodsMax = 256;  // Of the table of handlers; the numbers are ours.

Error read_error(View body) {
  const auto error = unpack<WireError>(body);
  if (!error) return {Errc::kUnavailable, "the peer failed with an unreadable error"};
  const auto code = static_cast<Errc>(error->code);
  if (name(code) == "unknown") return {Errc::kUnavailable, error->text};
  return {code, error->text};
}

Error unknown_method(Method method) {
  return {Errc::kUnsupported, "this node does not serve method " +
                                  std::to_string(static_cast<unsigned>(method)) +
                                  ": upgrade the older node"};
}

constexpr auto kLaterDeadline = [](const auto& a, const auto& b) {
  return std::tie(a.at, a.request) > std::tie(b.at, b.request);
};

}  // namespace

// Answers over the connection that asked, if it is still there.
class Links::RemoteReply final : public Reply::Sink {
 public:
  RemoteReply(std::shared_ptr<Connection> to, std::uint64_t request, Method method)
      : to_(std::move(to)), request_(request), method_(method) {}
  void reply(Result<Bytes> body) override {
    if (to_->links == nullptr) return;
    --to_->requests_in;
    to_->links->respond(*to_, request_, method_, std::move(body));
  }

 private:
  std::shared_ptr<Connection> to_;
  std::uint64_t request_;
  Method method_;
};

class Links::SelfReply final : public Reply::Sink {
 public:
  SelfReply(Links& links, std::uint64_t request)
      : links_(links), alive_(links.alive_), request_(request) {}
  void reply(Result<Bytes> body) override {
    if (!*alive_) return;
    links_.soon([&links = links_, request = request_, body = std::move(body)]() mutable {
      links.end_call(links.peer_of(links.identity_.node_id()), request, std::move(body));
    });
  }

 private:
  Links& links_;
  std::shared_ptr<bool> alive_;
  std::uint64_t request_;
};

Links::Links(Loop& loop, Transport& transport, const Identity& identity, const Keyring& keyring,
             Random& random, const Log& log, LinksConfig config, LinksHooks hooks)
    : loop_(loop),
      transport_(transport),
      identity_(identity),
      keyring_(keyring),
      random_(random),
      log_(log),
      config_(std::move(config)),
      hooks_(std::move(hooks)) {
  next_tick_ = loop_.now() + kLinkTick;
  tick_timer_ = loop_.after(kLinkTick, [this] { tick(); });
}

Links::~Links() {
  loop_.assert_current();
  *alive_ = false;
  // Replies that are still held elsewhere must find nobody.
  for (auto& [number, connection] : connections_) {
    connection->links = nullptr;
    connection->stream.reset();
    connection->connecting.reset();
    connection->handshake_timer.cancel();
  }
}

Links::Served& Links::served(Method method) {
  const auto number = static_cast<std::size_t>(method);
  assert(number < kMethodsMax);
  if (served_.size() <= number) served_.resize(number + 1);
  return served_[number];
}

void Links::serve(Method method, Access access, Handler handler) {
  served(method).handler = std::move(handler);
  served(method).access = access;
}

void Links::on_notice(Method method, NoticeHandler handler) {
  served(method).notice = std::move(handler);
}

void Links::on_link(std::function<void(const NodeId&, const Hello*)> watcher) {
  watchers_.push_back(std::move(watcher));
}

bool Links::linked(const NodeId& peer) const {
  const auto it = peers_.find(peer);
  return it != peers_.end() && it->second->up != nullptr;
}

bool Links::reachable(const NodeId& peer) const {
  const auto it = peers_.find(peer);
  return it == peers_.end() || it->second->up != nullptr || it->second->breaker.closed();
}

std::size_t Links::breakers_open() const {
  const auto open = [](const auto& entry) { return !entry.second->up && !entry.second->breaker.closed(); };
  return static_cast<std::size_t>(std::count_if(peers_.begin(), peers_.end(), open));
}

Links::Load Links::busiest() const {
  Load load;
  for (const auto& [id, peer] : peers_) {
    load.calls = std::max(load.calls, peer->calls.size());
    load.queued_bytes = std::max(load.queued_bytes, queued(*peer));
  }
  return load;
}

std::size_t Links::queued(const NodeId& node) const {
  const auto it = peers_.find(node);
  return it == peers_.end() ? 0 : queued(*it->second);
}

std::size_t Links::queued(const Peer& peer) {
  return peer.queue.bytes() + (peer.up ? peer.up->stream->queued() : 0);
}

Links::Peer& Links::peer_of(const NodeId& id) {
  auto& peer = peers_[id];
  if (!peer) peer = std::make_unique<Peer>(id);
  return *peer;
}

// In a later turn, in order.
void Links::later(std::function<void()> fn) {
  later_.push_back(std::move(fn));
  if (later_.size() > 1) return;
  later_timer_ = loop_.after(Duration::zero(), [this] {
    for (auto& each : std::exchange(later_, {})) each();
  });
}

// In this turn, so that the changes of one message reach the disk together.
void Links::soon(std::function<void()> fn) {
  loop_.defer([alive = alive_, fn = std::move(fn)] {
    if (*alive) fn();
  });
}

void Links::call(const NodeId& to, Method method, Bytes body, Duration deadline, Done done) {
  loop_.assert_current();
  ++metrics_.calls;
  Peer& peer = peer_of(to);
  const bool to_self = to == identity_.node_id();
  Status ready = ok_status();
  if (body.size() > kFrameBodySizeMax) {
    ready = Error{Errc::kTooLarge, "a request of " + std::to_string(body.size()) +
                                       " bytes does not fit a frame: split it"};
  } else if (peer.calls.size() >= kRequestsInFlightMax) {
    ready = Error{Errc::kOverloaded, "too many requests in flight to one node: back off"};
  } else if (!to_self) {
    ready = ready_to_send(peer, body.size());
  }
  if (!ready) {
    later([done = std::move(done), error = ready.error()] { done(error); });
    return;
  }
  const std::uint64_t request = next_request_++;
  const Instant end = loop_.now() + deadline;
  add_call(peer, request, end, std::move(done));
  if (to_self) return call_self(request, method, std::move(body));
  send(peer, {FrameType::kRequest, 0, method, request, end, std::move(body)});
}

void Links::notify(const NodeId& to, Method method, Bytes body) {
  loop_.assert_current();
  assert(body.size() <= kFrameBodySizeMax);
  if (to == identity_.node_id()) return notify_self(method, std::move(body));
  Peer& peer = peer_of(to);
  const Status ready = ready_to_send(peer, body.size());
  if (ready) return send(peer, {FrameType::kNotice, 0, method, 0, kNever, std::move(body)});
  if (ready.code() == Errc::kOverloaded) overflowed(peer);
}

// What we tell ourselves: a send, which may lead to that of its copy and of some before it, and pushes in this turn.
// All else in a later one: it might lead to more and more, and hold the loop.
void Links::to_self(Method method, std::function<void()> fn) {
  if (method == Method::kAppend || method == Method::kPush) return soon(std::move(fn));
  later(std::move(fn));
}

void Links::call_self(std::uint64_t request, Method method, Bytes body) {
  to_self(method, [this, request, method, body = std::move(body)] {
    Reply reply(std::make_unique<SelfReply>(*this, request));
    const Served& entry = served(method);
    if (!entry.handler) return reply(unknown_method(method));
    entry.handler(identity_.node_id(), body, std::move(reply));
  });
}

void Links::notify_self(Method method, Bytes body) {
  to_self(method, [this, method, body = std::move(body)] {
    const Served& entry = served(method);
    if (entry.notice) entry.notice(identity_.node_id(), body);
  });
}

void Links::add_call(Peer& peer, std::uint64_t request, Instant deadline, Done done) {
  peer.calls.emplace(request, std::move(done));
  ++calls_;
  if (deadlines_.size() > 64 + 2 * calls_) {
    std::erase_if(deadlines_, [this](const Deadline& d) {
      const auto it = peers_.find(d.peer);
      return it == peers_.end() || !it->second->calls.contains(d.request);
    });
    std::make_heap(deadlines_.begin(), deadlines_.end(), kLaterDeadline);
  }
  deadlines_.push_back({deadline, request, peer.id});
  std::push_heap(deadlines_.begin(), deadlines_.end(), kLaterDeadline);
  watch_deadlines();
}

void Links::watch_deadlines() {
  const Instant next = deadlines_.empty() ? kNever : deadlines_.front().at;
  if (next >= deadline_armed_) return;
  deadline_armed_ = next;
  deadline_timer_ = loop_.after(next - loop_.now(), [this] { run_deadlines(); });
}

void Links::run_deadlines() {
  deadline_armed_ = kNever;
  const Instant now = loop_.now();
  while (!deadlines_.empty() && deadlines_.front().at <= now) {
    const Deadline due = deadlines_.front();
    std::pop_heap(deadlines_.begin(), deadlines_.end(), kLaterDeadline);
    deadlines_.pop_back();
    const auto it = peers_.find(due.peer);
    if (it == peers_.end() || !it->second->calls.contains(due.request)) continue;
    ++metrics_.timeouts;
    end_call(*it->second, due.request,
             Error{Errc::kTimeout, "no answer from node " + short_text(due.peer) + " in time"});
  }
  watch_deadlines();
}

// A request that is unknown has ended already.
void Links::end_call(Peer& peer, std::uint64_t request, Result<Bytes> result) {
  auto node = peer.calls.extract(request);
  if (node.empty()) return;
  --calls_;
  node.mapped()(std::move(result));
}

void Links::fail_calls(Peer& peer, const Error& error, const FrameQueue* but_queued) {
  const auto queued = but_queued != nullptr ? but_queued->requests() : std::set<std::uint64_t>();
  std::vector<std::uint64_t> failed;
  for (const auto& [request, done] : peer.calls) {
    if (!queued.contains(request)) failed.push_back(request);
  }
  std::sort(failed.begin(), failed.end());
  for (const std::uint64_t request : failed) {
    auto node = peer.calls.extract(request);
    --calls_;
    later([done = std::move(node.mapped()), error] { done(error); });
  }
}

void Links::handle(Connection& from, const FrameView& frame) {
  if (frame.method != Method::kPing) from.last_use = loop_.now();
  switch (frame.type) {
    case FrameType::kRequest: return handle_request(from, frame);
    case FrameType::kResponse: return handle_response(from, frame);
    case FrameType::kNotice: return handle_notice(from, frame);
  }
}

// Asked for each frame: a ring version that came in between counts at once.
Standing Links::standing(const Connection& connection) const {
  const LinkPeer& peer = connection.link->peer();
  return hooks_.standing(peer.id, peer.key);
}

// Nobody learns more than its own standing. A node that the newest ring version admits retries
// until we know that version too; for one that only holds the secret this is as final as a no. One that is
// gone may not have heard of it: what it asked for its clients must not look refused to them.
void Links::refuse(Connection& from, Standing standing, Reply reply) {
  const NodeId node = from.peer->id;
  if (standing == Standing::kGone) {
    return reply(Error{Errc::kStaleRing, "node " + short_text(node) +
                                          " has left or was removed: join as a new one"});
  }
  reply(Error{Errc::kStaleRing, "node " + short_text(node) +
                                    " is no member in the ring version known here: join or retry"});
  if (hooks_.stranger) hooks_.stranger(node);
}

void Links::handle_request(Connection& from, const FrameView& frame) {
  ++from.requests_in;
  Reply reply(std::make_unique<RemoteReply>(from.shared_from_this(), frame.request, frame.method));
  if (frame.method == Method::kPing) return reply(Bytes());
  const auto number = static_cast<std::size_t>(frame.method);
  if (number >= served_.size() || !served_[number].handler) return reply(unknown_method(frame.method));
  const Served& entry = served_[number];
  if (entry.access != Access::kJoiners) {
    const Standing found = standing(from);
    const bool holder = found == Standing::kGone && entry.access == Access::kHolders;
    if (found != Standing::kMember && !holder) return refuse(from, found, std::move(reply));
  }
  if (from.requests_in > kRequestsInFlightMax) {
    return reply(Error{Errc::kOverloaded, "too many requests in flight on one link: back off"});
  }
  entry.handler(from.peer->id, frame.body, std::move(reply));
}

void Links::handle_response(Connection& from, const FrameView& frame) {
  const bool is_error = (frame.flags & kFrameFlagError) != 0;
  end_call(*from.peer, frame.request,
           is_error ? Result<Bytes>(read_error(frame.body)) : Result<Bytes>(Bytes(frame.body)));
}

void Links::handle_notice(Connection& from, const FrameView& frame) {
  const auto number = static_cast<std::size_t>(frame.method);
  const Standing found = standing(from);
  if (found == Standing::kGone) {  // It may not have heard of that yet; what it holds, we ask for.
    ++metrics_.notices_gone;
    return;
  }
  if (found != Standing::kMember) {
    ++metrics_.notices_strange;
    return fail(from, {Errc::kDenied, "a notice from a node that is not a member"});
  }
  if (number >= served_.size() || !served_[number].notice) {
    ++metrics_.notices_unknown;
    return;
  }
  served_[number].notice(from.peer->id, frame.body);
}

void Links::respond(Connection& to, std::uint64_t request, Method method, Result<Bytes> result) {
  if (result.ok() && result->size() > kFrameBodySizeMax) {
    result = Error{Errc::kTooLarge, "the answer does not fit a frame: ask for less"};
  }
  Peer& peer = *to.peer;
  Frame frame{FrameType::kResponse, 0, method, request, kNever, {}};
  if (result.ok()) {
    frame.body = std::move(*result);
  } else {
    frame.flags = kFrameFlagError;
    frame.body = pack(WireError{static_cast<std::uint8_t>(result.code()), result.error().text});
  }
  // A peer that asks and does not read the answers is cut off.
  if (!ready_to_send(peer, frame.body.size())) return overflowed(peer);
  send(peer, std::move(frame));
}

}  // namespace starling::overlay
