// Frames of a Client: reading, writing, and the questions with one answer each.
#include <cassert>

#include "node/client/client.h"
#include "node/session/frame_head.h"

namespace starling::node {
namespace {

using protocol::Type;

// Codes are numbers of the wire: one that is newer than this client counts as a refusal.
Error to_error(const protocol::ErrorMessage& message) {
  const bool known = message.code >= static_cast<std::uint8_t>(Errc::kInvalid) &&
                     message.code <= static_cast<std::uint8_t>(Errc::kAddressInUse);
  return {known ? static_cast<Errc>(message.code) : Errc::kUnsupported, message.text};
}

// A refusal of the login that no other node would decide otherwise.
bool is_final_for_login(Errc code) {
  switch (code) {
    case Errc::kInvalid:
    case Errc::kNotFound:
    case Errc::kDenied:
    case Errc::kUnauthenticated:
    case Errc::kUnsupported:
    case Errc::kForeign:
      return true;
    default:
      return false;
  }
}

}  // namespace

void Client::defer_flush() {
  flushing_ = true;
  loop_.defer(overlay::Loop::Stage::kSeal, [this, alive = alive_] {
    if (*alive) flush();
  });
}

void Client::flush() {
  flushing_ = false;
  if (stream_ && !out_.empty()) stream_->write(std::exchange(out_, {}));
}

std::uint64_t Client::request(Kind kind, Duration timeout, Reply reply) {
  const std::uint64_t id = next_request_++;
  const Instant deadline = loop_.now() + timeout;
  requests_.emplace_hint(requests_.end(), id, Request{kind, nullptr, 0, deadline, std::move(reply)});
  arm(deadline);
  return id;
}

void Client::on_data(View bytes) {
  last_read_ = loop_.now();
  const Status fed = reader_->feed(bytes, [this](View body) { return on_frame(body); });
  if (!fed && stream_) lost(fed.error());
}

// False when the connection ended meanwhile.
bool Client::on_frame(View body) {
  const auto head = protocol::peek_head(body);
  if (!head) {
    lost({Errc::kCorrupt, endpoint_.text() + " sent a frame that is not of this protocol"});
    return false;
  }
  switch (static_cast<Type>(head->type)) {
    case Type::kEntry: on_entry(body); break;
    case Type::kSynced:
      if (auto synced = decode<protocol::Synced>(body)) {
        cursors_[synced->mailbox] = std::move(synced->cursor);
      }
      break;
    case Type::kLost: on_lost(body); break;
    case Type::kJoined: on_membership(body, true); break;
    case Type::kLeft: on_membership(body, false); break;
    case Type::kGoAway: on_go_away(body); break;
    default: on_answer(head->type, head->request, body);
  }
  return stream_ != nullptr;
}

void Client::on_membership(View body, bool joined) {
  auto message = decode<protocol::JoinedOrLeft>(body);
  if (!message) return;
  if (joined) return handler_.on_joined(message->group);
  cursors_.erase(message->group);
  handler_.on_left(message->group);
}

void Client::on_entry(View body) {
  auto entry = decode<protocol::EntryMessage>(body);
  if (!entry) return;
  const auto id = parse_entry_id(entry->id);
  if (!id) return lost({Errc::kCorrupt, endpoint_.text() + " sent an entry without a valid id"});
  const bool to_group = !entry->to.empty() && entry->to.front() == '#';
  const std::string& peer = !to_group && entry->to == state_.user ? entry->from : entry->to;
  lane(peer).raise_floor(entry->id);
  auto cursor = cursors_.find(entry->mailbox);
  if (cursor == cursors_.end()) cursor = cursors_.try_emplace(entry->mailbox).first;
  cursor->second.raise(WriterId{entry->writer}, entry->n);
  const MessageKey key{entry->device, entry->lane, entry->seq};
  const bool is_void = entry->content == 0;
  const Heard heard = keys_.hear(key, *id, is_void);
  if (heard == Heard::kNew) {
    ++stats_.received;
    return handler_.on_entry(*entry, phase_ == ClientPhase::kReady);
  }
  if (!is_void) ++stats_.duplicates;
  if (heard == Heard::kMoved) handler_.on_moved(*entry);
  if (heard == Heard::kVoided) handler_.on_void(*entry);
}

// The cursor passes it, so that it is told once. Should a copy turn up, it comes as an entry like any other.
void Client::on_lost(View body) {
  const auto message = decode<protocol::LostMessage>(body);
  if (!message) return;
  cursors_[message->mailbox].raise(WriterId{message->writer}, message->n);
  const MessageKey key{message->device, message->lane, message->seq};
  if (!keys_.contains(key)) handler_.on_lost(*message);
}

// A token that was cut off stays cut off: only a password helps.
void Client::session_ended(const Error& why) {
  if (why.code != Errc::kUnauthenticated) return lost(why);
  if (options_.password.empty()) return fail(why);
  state_.token.clear();
  lost(why);
}

void Client::on_answer(std::uint8_t type, std::uint64_t id, View body) {
  const bool is_error = type == static_cast<std::uint8_t>(Type::kError);
  const auto it = requests_.find(id);
  if (it == requests_.end()) {
    // An error without a request ends the session; other frames may be news from a newer node.
    if (!is_error || id != 0) return;
    if (auto error = decode<protocol::ErrorMessage>(body)) session_ended(to_error(*error));
    return;
  }
  Request request = std::move(it->second);
  requests_.erase(it);
  if (request.kind == Kind::kSend) {
    on_send_answer(std::move(request), type, body);
  } else if (is_error) {
    if (auto error = decode<protocol::ErrorMessage>(body)) {
      on_session_error(std::move(request), *error);
    }
  } else {
    switch (request.kind) {
      case Kind::kLogin: logged_in(body); break;
      case Kind::kSync: set_phase(ClientPhase::kReady); break;
      case Kind::kLane:
        if (auto state = decode<protocol::LaneState>(body)) {
          if (!request.lane->known()) request.lane->start_after(state->high);
          pump(*request.lane);
        }
        break;
      default:
        if (request.reply) request.reply(body);
    }
  }
  if (leaving_) leave_when_idle();
}

void Client::on_send_answer(Request request, std::uint8_t type, View body) {
  Lane& lane = *request.lane;
  if (type == static_cast<std::uint8_t>(Type::kAck)) {
    auto ack = decode<protocol::Ack>(body);
    if (!ack) return;
    refused_rounds_ = 0;
    stats_.last_refusal.reset();
    report(lane, lane.on_ack(request.seq, ack->id, ack->copies, loop_.now()));
  } else {
    auto message = decode<protocol::ErrorMessage>(body);
    if (!message) return;
    refused(lane, request.seq, *message);
  }
  pump(lane);
}

void Client::refused(Lane& lane, std::uint64_t seq, const protocol::ErrorMessage& message) {
  const Error error = to_error(message);
  ++stats_.errors[error.code];
  stats_.last_refusal = error;
  const Duration advice = std::chrono::milliseconds(message.retry_after_ms);
  const unsigned rounds = lane.failures();
  report(lane, lane.on_error(seq, error, advice, loop_.now(), random_));
  if (!stream_ || !is_retryable(error.code)) return;
  // The session ended under us: only a new login helps.
  if (error.code == Errc::kUnauthenticated) return lost(error);
  // A node that serves nobody may be cut off from the others: one of those may serve us. The waits
  // between rounds grow, so a cluster that is down is not stormed.
  if (lane.failures() > rounds) ++refused_rounds_;
  if (options_.endpoints.size() > 1 && lane.failures() >= kRefusedRoundsMax &&
      refused_rounds_ >= kRefusedRoundsMax) {
    lost(error);
  }
}

void Client::on_session_error(Request request, const protocol::ErrorMessage& message) {
  const Error error = to_error(message);
  switch (request.kind) {
    case Kind::kLogin:
      if (error.code == Errc::kUnauthenticated && !state_.token.empty() &&
          !options_.password.empty()) {
        state_.token.clear();
        return lost(error);
      }
      return is_final_for_login(error.code) ? fail(error) : lost(error);
    case Kind::kSync:
      // Nodes may have been forced out since the login: the next one tells the lineage.
      if (error.code == Errc::kReset) cursors_.clear();
      return lost(error);
    case Kind::kLane:
      if (is_retryable(error.code)) return lost(error);
      // There is no such lane, so nothing was ever sent on it.
      if (!request.lane->known()) request.lane->start_after(0);
      return pump(*request.lane);
    default:
      if (request.reply) request.reply(error);
  }
}

// Questions.

template <class Answer, class Map, class D>
Client::Reply Client::answer_as(Type type, Map map, D done) {
  return [type, map = std::move(map), done = std::move(done)](Result<View> body) {
    if (!body) return done(body.error());
    const auto head = protocol::peek_head(*body);
    if (!head || head->type != static_cast<std::uint8_t>(type)) {
      return done(Error{Errc::kCorrupt, "the node answered something else than what was asked"});
    }
    auto answer = unpack<Answer>(*body);
    if (!answer) return done(answer.error());
    done(map(std::move(*answer)));
  };
}

template <class T>
void Client::call(T message, Reply reply) {
  loop_.assert_current();
  if (!may_send()) {
    return reply(Error{Errc::kUnavailable, "not connected: " + std::string(name(phase_)) +
                                               "; try again in a moment"});
  }
  message.request = request(Kind::kCall, options_.request_timeout, std::move(reply));
  write(message);
}

namespace {

constexpr auto kSame = [](auto answer) { return answer; };
constexpr auto kDone = [](protocol::Head) { return starling::Done{}; };

protocol::GroupRequest group_request(Type type, std::string group, std::string user) {
  protocol::GroupRequest message;
  message.type = static_cast<std::uint8_t>(type);
  message.group = std::move(group);
  message.user = std::move(user);
  return message;
}

}  // namespace

void Client::recall(std::string to, const DeviceId& device, std::uint64_t seq, Done<std::string> done) {
  protocol::Recall message;
  message.to = std::move(to);
  message.device = device;
  message.seq = seq;
  call(std::move(message), answer_as<protocol::Ack>(
                               Type::kAck, [](protocol::Ack answer) { return std::move(answer.id); },
                               std::move(done)));
}

void Client::history(std::string with, std::string before, std::uint32_t limit,
                     Done<protocol::HistoryPage> done) {
  protocol::HistoryRequest message;
  message.with = std::move(with);
  message.before = std::move(before);
  message.limit = limit;
  call(std::move(message),
       answer_as<protocol::HistoryPage>(Type::kHistoryPage, kSame, std::move(done)));
}

void Client::groups(Done<std::vector<std::string>> done) {
  call(protocol::Head{static_cast<std::uint8_t>(Type::kGroups), 0},
       answer_as<protocol::GroupList>(
           Type::kGroupList, [](protocol::GroupList answer) { return std::move(answer.groups); },
           std::move(done)));
}

void Client::members(std::string group, std::string after, Done<protocol::Members> done, std::uint64_t known) {
  auto message = group_request(Type::kGroupMembers, std::move(group), std::move(after));
  message.known = known;
  call(std::move(message), answer_as<protocol::Members>(Type::kMembers, kSame, std::move(done)));
}

void Client::group_call(Type type, std::string group, std::string user, std::uint8_t role,
                        Done<starling::Done> done) {
  auto message = group_request(type, std::move(group), std::move(user));
  message.role = role;
  call(std::move(message), answer_as<protocol::Head>(Type::kOk, kDone, std::move(done)));
}

void Client::create_group(std::string group, Done<starling::Done> done) {
  // One number for all tries until one is answered for good: whichever of them was the one, it is ours.
  auto& nonce = creating_[group];
  if (nonce == 0) nonce = random_.u64() | 1;
  auto message = group_request(Type::kGroupCreate, group, "");
  message.nonce = nonce;
  call(std::move(message),
       answer_as<protocol::Head>(Type::kOk, kDone,
                                 [this, alive = std::weak_ptr<bool>(alive_), group = std::move(group),
                                  done = std::move(done)](Result<starling::Done> answer) {
    if (!alive.expired() && (answer || !is_retryable(answer.code()))) creating_.erase(group);
    done(std::move(answer));
  }));
}

void Client::add_member(std::string group, std::string user, std::uint8_t role,
                        Done<starling::Done> done) {
  group_call(Type::kGroupAdd, std::move(group), std::move(user), role, std::move(done));
}

void Client::remove_member(std::string group, std::string user, Done<starling::Done> done) {
  group_call(Type::kGroupRemove, std::move(group), std::move(user), 0, std::move(done));
}

void Client::change_password(std::string old_password, std::string new_password,
                             Done<starling::Done> done) {
  protocol::PasswordChange message;
  message.old_password = std::move(old_password);
  message.new_password = std::move(new_password);
  call(std::move(message), answer_as<protocol::Head>(Type::kOk, kDone, std::move(done)));
}

void Client::lane_high(std::string to, Done<std::uint64_t> done) {
  protocol::LaneRequest message;
  message.to = std::move(to);
  call(std::move(message), answer_as<protocol::LaneState>(
                               Type::kLaneState,
                               [](const protocol::LaneState& answer) { return answer.high; },
                               std::move(done)));
}

}  // namespace starling::node
