#include "node/client/client.h"

#include <algorithm>
#include <cassert>

#include "node/client/backoff.h"

namespace starling::node {
std::string_view name(ClientPhase phase) {
  switch (phase) {
    case ClientPhase::kIdle: return "idle";
    case ClientPhase::kConnecting: return "connecting";
    case ClientPhase::kLoggingIn: return "logging in";
    case ClientPhase::kSyncing: return "catching up";
    case ClientPhase::kReady: return "ready";
    case ClientPhase::kFailed: return "refused";
    case ClientPhase::kStopped: return "stopped";
  }
  return "unknown";
}

Client::Client(overlay::Loop& loop, overlay::Transport& transport, Random& random,
               ClientOptions options, ClientState state, ClientHandler& handler)
    : loop_(loop),
      transport_(transport),
      random_(random),
      options_(std::move(options)),
      handler_(handler),
      state_(std::move(state)),
      next_endpoint_(options_.first_endpoint) {
  assert(!options_.endpoints.empty() && !state_.user.empty() && !state_.device.empty());
  for (auto& saved : state_.cursors) cursors_[saved.mailbox] = std::move(saved.cursor);
  for (auto& saved : state_.lanes) {
    const std::string to = saved.to;
    const auto lane = lanes_.emplace(to, Lane(std::move(saved))).first;
    open_sends_ += lane->second.unreported();
  }
  keys_ = KeyIndex::from(std::move(state_.seen));
  state_.cursors.clear();
  state_.lanes.clear();
  state_.seen.clear();
  device_ = device_of(mailbox_of(state_.user), state_.device);
}

Client::~Client() { *alive_ = false; }

ClientState Client::state() const {
  ClientState state = state_;
  for (const auto& [mailbox, cursor] : cursors_) state.cursors.push_back({mailbox, cursor});
  for (const auto& [to, lane] : lanes_) state.lanes.push_back(lane.save());
  state.seen = keys_.rows();
  return state;
}

void Client::set_phase(ClientPhase phase, const Error* why) {
  phase_ = phase;
  handler_.on_phase(phase, why);
}

void Client::start() {
  loop_.assert_current();
  if (phase_ != ClientPhase::kIdle && phase_ != ClientPhase::kStopped) return;
  failures_ = 0;
  retry_timer_.cancel();
  connect();
}

void Client::stop() {
  hang_up();
  retry_timer_.cancel();
  set_phase(ClientPhase::kStopped);
}

void Client::reconnect() {
  if (phase_ == ClientPhase::kFailed || phase_ == ClientPhase::kStopped) return;
  hang_up();
  come_back(Duration(0));
}

void Client::connect() {
  on_advice_ = !advised_.empty();
  if (on_advice_) {
    endpoint_ = advised_.front();
    advised_.erase(advised_.begin());
  } else {
    endpoint_ = options_.endpoints[next_endpoint_++ % options_.endpoints.size()];
  }
  const Duration timeout = on_advice_ ? std::min(kAdvisedTimeout, options_.connect_timeout) : options_.connect_timeout;
  set_phase(ClientPhase::kConnecting);
  if (phase_ != ClientPhase::kConnecting) return;
  connecting_ = transport_.connect(endpoint_, timeout,
                                   [this](auto stream) { connected(std::move(stream)); });
}

void Client::connected(Result<std::unique_ptr<overlay::Stream>> stream) {
  connecting_.reset();
  if (!stream && on_advice_) {
    advised_.clear();
    takes_advice_ = false;
  }
  if (!stream) return lost(stream.error());
  stream_ = std::move(*stream);
  reader_ = std::make_unique<protocol::FrameReader>(protocol::kFrameSizeToClientMax);
  last_read_ = last_write_ = loop_.now();
  stream_->start({[this](View bytes) { on_data(bytes); },
                  [this](const Error& why) { lost(why); },
                  [this] {
                    if (!congested_) return;
                    congested_ = false;
                    pump_all();
                  }});
  login();
}

// Ends the connection. Answers under way will not come: sends go back to their lanes, questions
// fail.
void Client::hang_up() {
  connecting_.reset();
  stream_.reset();
  tick_timer_.cancel();
  tick_at_ = kNever;
  out_.clear();
  leaving_ = false;
  leave_at_ = kNever;
  congested_ = false;
  refused_rounds_ = 0;
  waiting_.clear();
  auto requests = std::move(requests_);
  requests_.clear();
  phase_ = ClientPhase::kIdle;
  for (auto& [to, lane] : lanes_) lane.on_disconnect();
  for (auto& [id, request] : requests) {
    if (request.reply) {
      request.reply(Error{Errc::kUnavailable, "the connection ended before the answer; try again"});
    }
  }
}

void Client::lost(const Error& why) {
  const Error reason = why;  // It may live in what hang_up() destroys.
  ++stats_.drops;
  hang_up();
  if (phase_ != ClientPhase::kIdle) return;
  ++failures_;
  handler_.on_phase(ClientPhase::kIdle, &reason);
  if (phase_ == ClientPhase::kIdle) come_back(backoff(failures_, random_));
}

void Client::come_back(Duration delay) {
  retry_timer_ = loop_.after(delay, [this] { connect(); });
}

void Client::fail(const Error& why) {
  const Error reason = why;
  hang_up();
  phase_ = ClientPhase::kFailed;
  std::vector<SendDone> given_up;
  for (auto& [to, lane] : lanes_) {
    for (auto& done : lane.abandon()) given_up.push_back(std::move(done));
  }
  open_sends_ -= given_up.size();
  for (auto& done : given_up) {
    if (done) done(reason);
  }
  handler_.on_phase(ClientPhase::kFailed, &reason);
}

void Client::login() {
  set_phase(ClientPhase::kLoggingIn);
  if (phase_ != ClientPhase::kLoggingIn) return;
  protocol::Login message;
  message.request = request(Kind::kLogin, options_.login_timeout);
  message.client = options_.software;
  message.user = state_.user;
  message.device = state_.device;
  message.token = state_.token;
  if (state_.token.empty()) message.password = options_.password;
  write(message);
}

void Client::logged_in(View body) {
  auto answer = decode<protocol::LoggedIn>(body);
  if (!answer) return;
  ++stats_.connects;
  failures_ = 0;
  advised_.clear();
  node_ = answer->node;
  device_ = answer->device;
  if (!answer->token.empty()) state_.token = answer->token;
  heartbeat_ = std::chrono::seconds(answer->heartbeat_s);
  if (state_.lineage != answer->lineage) {
    // A restored cluster has another history: old cursors would skip what is new in it.
    cursors_.clear();
    state_.lineage = answer->lineage;
  }
  if (heartbeat_ > Duration(0)) arm(loop_.now() + heartbeat_ / 2);
  if (options_.follow) {
    sync();
  } else {
    set_phase(ClientPhase::kReady);
  }
  pump_all();
}

void Client::sync() {
  protocol::Sync message;
  message.request = request(Kind::kSync, options_.request_timeout);
  message.lineage = state_.lineage;
  for (const auto& [mailbox, cursor] : cursors_) message.mailboxes.push_back({mailbox, cursor});
  write(message);
  set_phase(ClientPhase::kSyncing);
}

void Client::on_go_away(View body) {
  auto message = decode<protocol::GoAway>(body);
  if (!message || leaving_) return;
  advised_.clear();
  for (const auto& text : message->nodes) {
    if (!takes_advice_ || advised_.size() == kAdvisedMax) break;
    auto endpoint = overlay::Endpoint::parse(text);
    if (endpoint && *endpoint != endpoint_) advised_.push_back(*endpoint);
  }
  leaving_ = true;
  leave_at_ = loop_.now() + kGoAwayGrace;
  arm(leave_at_);
  loop_.defer([this, alive = alive_] {
    if (*alive) leave_when_idle();
  });
}

void Client::leave_when_idle() {
  if (!leaving_ || (!requests_.empty() && loop_.now() < leave_at_)) return;
  const Error why{Errc::kUnavailable, "the node is draining; moving to another"};
  hang_up();
  handler_.on_phase(ClientPhase::kIdle, &why);
  // Soon, but not in one instant with everybody else who was asked to go.
  if (phase_ == ClientPhase::kIdle) come_back(backoff(1, random_));
}

void Client::arm(Instant at) {
  if (at >= tick_at_) return;
  tick_at_ = at;
  tick_timer_ = loop_.after(std::max(Duration(0), at - loop_.now()), [this] {
    tick_at_ = kNever;
    on_tick();
  });
}

// One timer serves deadlines, heartbeats and lanes that wait.
void Client::on_tick() {
  const Instant now = loop_.now();
  for (auto it = requests_.begin(); it != requests_.end(); ++it) {
    auto& request = it->second;
    // A long catch-up is alive as long as something comes.
    if (request.kind == Kind::kSync) {
      request.deadline = std::max(request.deadline, last_read_ + options_.request_timeout);
    }
    if (request.deadline <= now) {
      return lost({Errc::kTimeout, "no answer from " + endpoint_.text() + " for " +
                                       std::to_string(to_ms(options_.request_timeout)) + " ms"});
    }
    arm(request.deadline);
    // Later requests have later deadlines, but for the two kinds with their own.
    if (request.kind != Kind::kSync && request.kind != Kind::kLogin) break;
  }
  if (leaving_) {
    if (now >= leave_at_) return leave_when_idle();
    arm(leave_at_);
  }
  auto waiting = std::move(waiting_);
  waiting_.clear();
  for (Lane* lane : waiting) pump(*lane);
  if (!has_session() || heartbeat_ <= Duration(0)) return;
  if (now - last_write_ >= heartbeat_ / 2) {
    protocol::Head ping{static_cast<std::uint8_t>(protocol::Type::kPing),
                        request(Kind::kPing, options_.request_timeout)};
    write(ping);
  }
  arm(last_write_ + heartbeat_ / 2);
}

// Sends.

Lane& Client::lane(const std::string& to) {
  auto it = lanes_.find(to);
  if (it == lanes_.end()) it = lanes_.emplace(to, Lane(to, state_.lanes_known)).first;
  return it->second;
}

Status Client::send(const std::string& to, Bytes body, SendOptions options, SendDone done) {
  loop_.assert_current();
  if (auto kind = check_address(to); !kind) return kind.error();
  if (body.size() > storage::kBodySizeMax) {
    return Error{Errc::kTooLarge, "a message of " + std::to_string(body.size()) +
                                      " bytes; the limit is " +
                                      std::to_string(storage::kBodySizeMax)};
  }
  if (phase_ == ClientPhase::kFailed) {
    return Error{Errc::kUnauthenticated, "the login was refused; log in again first"};
  }
  if (open_sends_ >= kClientOpenSendsMax) {
    return Error{Errc::kOverloaded, "too many messages wait for their acknowledgement; slow down"};
  }
  ++open_sends_;
  Lane::Item item;
  item.body = std::move(body);
  item.content = static_cast<std::uint8_t>(options.content);
  item.grade = static_cast<std::uint8_t>(options.grade);
  item.lifetime_s = options.lifetime_s;
  item.done = std::move(done);
  item.queued_at = loop_.now();
  Lane& target = lane(to);
  target.push(std::move(item));
  pump(target);
  return ok_status();
}

void Client::pump_all() {
  for (auto& [to, lane] : lanes_) {
    if (!may_send()) return;
    pump(lane);
  }
}

namespace {

// protocol::Send that borrows its text.
struct SendView {
  std::uint8_t type = static_cast<std::uint8_t>(protocol::Type::kSend);
  std::uint64_t request = 0;
  View to;
  std::uint64_t seq = 0;
  std::uint64_t acked = 0;
  View floor;
  std::uint8_t flags = 0;
  std::uint8_t grade = 0;
  std::uint8_t content = 1;
  BlobView body;
  std::uint32_t lifetime_s = 0;
  FIELDS(type, request, to, seq, acked, floor, flags, grade, content, body, lifetime_s)
};

}  // namespace

void Client::pump(Lane& lane) {
  if (!may_send() || lane.open() == 0) return;
  if (!lane.known()) return ask_lane(lane);
  while (!congested_) {
    const auto next = lane.next(options_.window, loop_.now());
    if (!next) break;
    const std::uint64_t id = request(Kind::kSend, options_.request_timeout);
    auto& request = requests_.rbegin()->second;
    request.lane = &lane;
    request.seq = next->seq;
    write(SendView{static_cast<std::uint8_t>(protocol::Type::kSend), id, lane.to(), next->seq,
                   lane.acked(), lane.floor(), next->item->flags, next->item->grade,
                   next->item->content, BlobView{next->item->body}, next->item->lifetime_s});
    ++stats_.sends;
    if (next->item->attempts > 1) ++stats_.retries;
    congested_ = out_.size() + stream_->queued() > kClientQueuedBytesMax;
  }
  const Instant wake = lane.wake_at();
  if (wake == kNever) return;
  if (std::find(waiting_.begin(), waiting_.end(), &lane) == waiting_.end()) {
    waiting_.push_back(&lane);
  }
  arm(wake);
}

// This device lost its numbers: goes on after the highest one the cluster knows.
void Client::ask_lane(Lane& lane) {
  for (const auto& [id, request] : requests_) {
    if (request.kind == Kind::kLane && request.lane == &lane) return;
  }
  protocol::LaneRequest message;
  message.request = request(Kind::kLane, options_.request_timeout);
  requests_.rbegin()->second.lane = &lane;
  message.to = lane.to();
  write(message);
}

void Client::report(const Lane& lane, std::optional<Lane::Report> report) {
  if (!report) return;
  --open_sends_;
  protocol::EntryMessage closed;  // What is told if it was taken back meanwhile.
  bool stands = true;
  if (report->result) {
    const MailboxId mailbox = mailbox_of(lane.to());
    closed.mailbox = lane.to().starts_with('#') ? lane.to() : state_.user;
    closed.id = report->result->id;
    closed.device = device_;
    closed.lane = lane_to(mailbox);
    closed.seq = report->result->seq;
    closed.from = state_.user;
    closed.to = lane.to();
    stands = keys_.acknowledge({device_, closed.lane, closed.seq});
  }
  if (report->kept) {
    handler_.on_kept_sent(lane.to(), report->result);
  } else if (report->done) {
    report->done(std::move(report->result));
  }
  if (!stands) handler_.on_void(closed);
}

}  // namespace starling::node
