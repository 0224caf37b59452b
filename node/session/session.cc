#include "node/session/session.h"

#include <algorithm>

#include "node/session/frame_head.h"

namespace starling::node {

using overlay::Method;
using overlay::Task;
using protocol::Type;

namespace {

// Advice beside a refusal, in milliseconds; 0: none.
std::uint32_t retry_after(Errc code) {
  switch (code) {
    case Errc::kOverloaded: return 500;
    case Errc::kUnavailable: return 1000;
    case Errc::kTimeout: return 100;
    case Errc::kFull: return 5000;
    default: return 0;
  }
}

}  // namespace

Session::Session(const SessionServices& services, Door& door)
    : services_(services),
      door_(door),
      opened_(services.view.loop.now()),
      heard_(opened_) {}

Session::~Session() {
  if (alive_) *alive_ = false;
  for (const auto& [mailbox, tail] : tails_) services_.feeds.unsubscribe(mailbox, *this);
  if (logged_in()) --services_.view.counters.sessions;
}

std::shared_ptr<bool> Session::alive() {
  if (!alive_) alive_ = std::make_shared<bool>(true);
  return alive_;
}

Session::InHand& Session::in_hand() {
  if (!in_hand_) in_hand_ = std::make_unique<InHand>(services_.view.loop);
  return *in_hand_;
}

// A claim that is known to be right is forgotten, too: whoever comes upon it again asks again.
bool Session::InHand::is_empty() const {
  const bool open = std::any_of(claims.begin(), claims.end(), [](const auto& claim) { return !claim.second.known; });
  return to_check.empty() && in_line.empty() && !refreshing && brought.empty() && doubted.empty() &&
         expected_groups.empty() && !open && !gathering_claims && scope.running() == 0;
}

void Session::let_go() {
  if (in_hand_ && in_hand_->is_empty()) in_hand_.reset();
  if (alive_ && alive_.use_count() == 1) alive_.reset();
}

void Session::receive(View body) {
  if (closed_) return;
  heard_ = services_.view.loop.now();
  const auto head = protocol::read_head(body);
  if (!head) return refuse_frame(0, head.error());
  const auto type = static_cast<Type>(head->type);
  if (type == Type::kLogin) return log_in(head->request, body);
  if (type == Type::kPing) {
    return answer(protocol::Head{static_cast<std::uint8_t>(Type::kPong), head->request});
  }
  if (!logged_in()) {
    return refuse_frame(head->request, {Errc::kUnauthenticated, "log in first"}, "unauthenticated");
  }
  switch (type) {
    case Type::kSync: return sync(head->request, body);
    case Type::kSend: return send(head->request, body);
    case Type::kRecall: return recall(head->request, body);
    case Type::kHistory: return history(head->request, body);
    case Type::kLane: return lane(head->request, body);
    case Type::kGroupCreate:
    case Type::kGroupAdd:
    case Type::kGroupRemove:
    case Type::kGroupMembers:
    case Type::kGroups: return group(type, head->request, body);
    case Type::kPassword: return password(head->request, body);
    case Type::kLogout:
      closed_ = true;
      return door_.close();
    default:
      ++services_.view.counters.frames_refused["unknown"];
      return refuse(head->request, {Errc::kUnsupported, "this node does not know message type " +
                                                            std::to_string(head->type)});
  }
}

bool Session::begin_request(std::uint64_t request) {
  if (in_flight_ >= kRequestsPerSessionMax) {
    refuse(request, {Errc::kOverloaded, "too many requests in flight on this connection"});
    return false;
  }
  ++in_flight_;
  return true;
}

// One whose answer is long: no more of those than a device reads.
bool Session::begin_page(std::uint64_t request) {
  if (services_.ladder.refuses(Rung::kHistory)) {
    refuse(request, {Errc::kOverloaded, "this node has too much to do for long answers; try again"});
    return false;
  }
  if (pages_ >= kPagesInFlightMax || door_full()) {
    refuse(request, {Errc::kOverloaded, "read the pages asked for before asking for more"});
    return false;
  }
  if (!begin_request(request)) return false;
  ++pages_;
  return true;
}

void Session::finish_request(std::uint64_t request, const Status& status) {
  --in_flight_;
  if (!status) return refuse(request, status.error());
  answer(protocol::Head{static_cast<std::uint8_t>(Type::kOk), request});
}

void Session::refuse(std::uint64_t request, const Error& error) {
  protocol::ErrorMessage message;
  message.request = request;
  message.code = static_cast<std::uint8_t>(error.code);
  message.name = std::string(name(error.code));
  message.text = error.text;
  message.retry_after_ms = retry_after(error.code);
  answer(message);
}

void Session::refuse_and_close(std::uint64_t request, const Error& error) {
  refuse(request, error);
  closed_ = true;
  door_.close();
}

// Not of the protocol: whoever sends it is no client, or a broken one.
void Session::refuse_frame(std::uint64_t request, const Error& error, std::string_view reason) {
  ++services_.view.counters.frames_refused[reason];
  refuse_and_close(request, error);
}

void Session::go_away(std::string text, std::vector<std::string> nodes) {
  if (closed_) return;
  protocol::GoAway message;
  message.text = std::move(text);
  message.nodes = std::move(nodes);
  answer(message);
  closed_ = true;
  door_.close();
}

void Session::send(std::uint64_t number, View body) {
  auto request = unpack<protocol::Send>(body);
  if (!request) return refuse_frame(number, request.error());
  if (auto address = check_address(request->to); !address) return refuse(number, address.error());
  if (request->body.data.size() > storage::kBodySizeMax) {
    return refuse(number, {Errc::kTooLarge, "a message has at most " +
                                                std::to_string(storage::kBodySizeMax) + " bytes"});
  }
  const bool is_void = (request->flags & protocol::kSendVoid) != 0;
  if (request->seq == 0 || request->acked >= request->seq || request->grade > 3 ||
      (!is_void && (request->content < 1 || request->content > 2))) {
    return refuse(number, {Errc::kInvalid, "seq begins at 1, acked is below it, grade is 0..3, content is 1 or 2"});
  }
  AppendRequest append;
  if (!request->floor.empty()) {
    auto floor = parse_entry_id(request->floor);
    if (!floor) return refuse(number, floor.error());
    append.floor = *floor;
  }
  if (in_flight_ >= kRequestsPerSessionMax) {
    return refuse(number, {Errc::kOverloaded, "too many requests in flight on this connection"});
  }
  if (services_.ladder.refuses(Rung::kSends)) {
    return refuse(number, {Errc::kOverloaded, "this node has too much to do to take sends; try again"});
  }
  ++in_flight_;
  ++services_.view.counters.sends;
  append.to = std::move(request->to);
  append.from = user_;
  append.device = device_;
  append.seq = request->seq;
  append.acked = request->acked;
  append.lifetime_ms = std::uint64_t{request->lifetime_s} * 1000;
  append.grade = request->grade;
  append.type = is_void ? 1 : request->content;
  if ((request->flags & protocol::kSendRetry) != 0) append.flags |= kAppendRetry;
  if ((request->flags & protocol::kSendUnanswered) != 0) append.flags |= kAppendUnanswered;
  if (is_void) append.flags |= kAppendVoid;
  services_.forwarder.append(
      std::move(append), is_void ? Bytes() : std::move(request->body.data), kForwardDeadline,
      [this, alive = alive(), number, seq = request->seq](Result<AppendReply> reply) {
        if (!*alive) return;
        --in_flight_;
        if (closed_) return;
        if (!reply) {
          ++services_.view.counters.send_errors;
          return refuse(number, reply.error());
        }
        protocol::Ack ack;
        ack.request = number;
        ack.seq = seq;
        ack.id = to_text(reply->id);
        ack.copies = reply->copies;
        answer(ack);
      });
}

void Session::recall(std::uint64_t number, View body) {
  auto request = unpack<protocol::Recall>(body);
  if (!request) return refuse_frame(number, request.error());
  if (auto address = check_address(request->to); !address) return refuse(number, address.error());
  if (request->seq == 0) return refuse(number, {Errc::kInvalid, "numbers of a lane begin at 1"});
  if (services_.ladder.refuses(Rung::kSends)) {
    return refuse(number, {Errc::kOverloaded, "this node has too much to do to take messages back; try again"});
  }
  if (!begin_request(number)) return;
  ++services_.view.counters.recalls;
  AppendRequest recall;
  recall.to = std::move(request->to);
  recall.from = user_;
  recall.device = request->device;
  recall.seq = request->seq;
  recall.flags = kAppendVoid | kAppendRecall;
  recall.type = 0;
  services_.forwarder.append(std::move(recall), Bytes(), kForwardDeadline,
                             [this, alive = alive(), number, seq = request->seq](Result<AppendReply> reply) {
                               if (!*alive) return;
                               --in_flight_;
                               if (closed_) return;
                               if (!reply) {
                                 ++services_.view.counters.recall_errors;
                                 return refuse(number, reply.error());
                               }
                               answer(protocol::Ack{static_cast<std::uint8_t>(Type::kAck), number, seq,
                                                    to_text(reply->id), reply->copies});
                             });
}

void Session::history(std::uint64_t number, View body) {
  auto request = unpack<protocol::HistoryRequest>(body);
  if (!request) return refuse_frame(number, request.error());
  auto kind = check_address(request->with);
  if (!kind) return refuse(number, kind.error());
  HistoryRequest wanted;
  if (!request->before.empty()) {
    auto before = parse_entry_id(request->before);
    if (!before) return refuse(number, before.error());
    wanted.before = *before;
  }
  const bool is_group = *kind == AddressKind::kGroup;
  wanted.conversation = mailbox_of(request->with);
  wanted.mailbox = is_group ? wanted.conversation : mailbox_;
  wanted.limit = std::clamp<std::uint32_t>(request->limit, 1, kPageSizeMax);
  // What a device follows is what its user may read.
  if (is_group && !tails_.contains(wanted.mailbox)) {
    return refuse(number, {Errc::kDenied, "you are not in " + request->with + ", or not synced yet"});
  }
  if (!begin_page(number)) return;
  const std::string address = is_group ? request->with : user_;
  services_.forwarder.read(
      services_.view.store.partition_of(wanted.mailbox), Method::kHistory, pack(wanted),
      kReadDeadline, [this, alive = alive(), number, address](Result<Bytes> reply) {
        if (!*alive) return;
        --in_flight_;
        --pages_;
        if (closed_) return;
        if (!reply) return refuse(number, reply.error());
        auto page = unpack<ReadReply>(*reply);
        if (!page) return refuse(number, page.error());
        protocol::HistoryPage message;
        message.request = number;
        message.more = page->more;
        for (const auto& item : page->changes) {
          if (auto change = storage::decode(item.change.data, item.dot)) {
            message.entries.push_back(entry_message(address, item.dot, *change));
          }
        }
        for (const auto& trace : page->lost) message.lost.push_back(lost_message(address, trace));
        answer(message);
      });
}

// A device that lost its state asks where its lane ends. An owner that is behind may answer too low; the
// send that follows is then taken for a retry and asked around (hazards F10).
void Session::lane(std::uint64_t number, View body) {
  auto request = unpack<protocol::LaneRequest>(body);
  if (!request) return refuse_frame(number, request.error());
  if (auto address = check_address(request->to); !address) return refuse(number, address.error());
  if (begin_request(number)) in_hand().scope.spawn(find_lane(number, std::move(request->to)));
}

// A user who does not exist is told apart from one that nothing was sent to.
Task<Done> Session::find_lane(std::uint64_t number, std::string to) {
  if (to.front() == '@') {
    auto finding = services_.accounts.find(to);
    if (const auto account = co_await finding; !account) {
      finish_request(number, account.error());
      co_return Done{};
    }
  }
  const MailboxId mailbox = mailbox_of(to);
  services_.forwarder.read(
      services_.view.store.partition_of(mailbox), Method::kLane,
      pack(LaneQuery{mailbox, device_, lane_to(mailbox)}), kReadDeadline,
      [this, alive = alive(), number](Result<Bytes> reply) {
        if (!*alive) return;
        --in_flight_;
        if (closed_) return;
        if (!reply) return refuse(number, reply.error());
        auto answered = unpack<LaneAnswer>(*reply);
        if (!answered) return refuse(number, answered.error());
        protocol::LaneState message;
        message.request = number;
        message.high = answered->high;
        answer(message);
      });
  co_return Done{};
}

}  // namespace starling::node
