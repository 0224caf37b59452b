#include "tests/node/fake_cluster.h"

#include <algorithm>
#include <cassert>

namespace starling::node {
namespace {

using protocol::Type;

constexpr std::uint64_t kFakeWriter = 7;
constexpr std::uint64_t kOtherWriter = 9;

bool is_group(const std::string& address) { return !address.empty() && address.front() == '#'; }

}  // namespace

struct FakeCluster::Session {
  std::size_t door = 0;
  std::uint64_t number = 0;
  std::unique_ptr<overlay::Stream> stream;
  protocol::FrameReader reader{protocol::kFrameSizeMax};
  std::string user;
  DeviceId device;
  bool following = false;
};

FakeCluster::~FakeCluster() = default;

overlay::Endpoint FakeCluster::open_door(overlay::Transport& transport,
                                         const overlay::Endpoint& at) {
  const std::size_t door = doors_.size();
  doors_.emplace_back();
  auto listener = transport.listen(
      at, [this, door](std::unique_ptr<overlay::Stream> stream) { accept(door, std::move(stream)); });
  assert(listener.ok());
  doors_[door].listener = std::move(*listener);
  doors_[door].at = doors_[door].listener->local();
  return doors_[door].at;
}

void FakeCluster::close_door(std::size_t door) {
  doors_[door].listener.reset();
  doors_[door].sessions.clear();
}

void FakeCluster::drop_connections(std::size_t door) { doors_[door].sessions.clear(); }

void FakeCluster::go_away(std::size_t door, std::vector<std::string> nodes) {
  protocol::GoAway message;
  message.type = static_cast<std::uint8_t>(Type::kGoAway);
  message.nodes = std::move(nodes);
  for (auto& [number, session] : doors_[door].sessions) answer(*session, message);
}

std::size_t FakeCluster::sessions() const {
  std::size_t count = 0;
  for (const auto& door : doors_) count += door.sessions.size();
  return count;
}

void FakeCluster::add_user(const std::string& user, const std::string& password) {
  passwords_[user] = password;
}

void FakeCluster::add_group(const std::string& group, const std::vector<std::string>& members) {
  groups_[group].insert(members.begin(), members.end());
}

void FakeCluster::leave_group(const std::string& group, const std::string& user) {
  groups_[group].erase(user);
  protocol::JoinedOrLeft message;
  message.type = static_cast<std::uint8_t>(Type::kLeft);
  message.group = group;
  for (auto& door : doors_) {
    for (auto& [number, session] : door.sessions) {
      if (session->user == user) answer(*session, message);
    }
  }
}

template <class T>
void FakeCluster::answer(Session& session, const T& message) {
  if (!mute) session.stream->write(protocol::frame(message));
}

void FakeCluster::refuse(Session& session, std::uint64_t request, Errc code,
                         std::uint32_t retry_after_ms) {
  protocol::ErrorMessage message;
  message.request = request;
  message.code = static_cast<std::uint8_t>(code);
  message.name = name(code);
  message.text = "the test says so";
  message.retry_after_ms = retry_after_ms;
  answer(session, message);
}

void FakeCluster::accept(std::size_t door, std::unique_ptr<overlay::Stream> stream) {
  auto session = std::make_shared<Session>();
  session->door = door;
  session->number = next_session_++;
  session->stream = std::move(stream);
  const std::uint64_t number = session->number;
  doors_[door].sessions[number] = session;
  std::weak_ptr<Session> weak = session;
  session->stream->start({[this, weak](View bytes) {
                            auto self = weak.lock();
                            if (!self) return;
                            (void)self->reader.feed(
                                bytes, [this, &self](View body) { return on_frame(self, body); });
                          },
                          [this, door, number](const Error&) { hang_up(door, number); },
                          {}});
}

void FakeCluster::hang_up(std::size_t door, std::uint64_t session) {
  doors_[door].sessions.erase(session);
}

bool FakeCluster::on_frame(const std::shared_ptr<Session>& session, View body) {
  const auto head = unpack<protocol::Head>(body);
  assert(head.ok());
  switch (static_cast<Type>(head->type)) {
    case Type::kLogin: on_login(*session, *unpack<protocol::Login>(body)); break;
    case Type::kSync: on_sync(*session, *unpack<protocol::Sync>(body)); break;
    case Type::kSend: return on_send(session, *unpack<protocol::Send>(body));
    case Type::kHistory: on_history(*session, *unpack<protocol::HistoryRequest>(body)); break;
    case Type::kLane: {
      const auto request = *unpack<protocol::LaneRequest>(body);
      protocol::LaneState state;
      state.request = request.request;
      state.high = lanes_[{session->device, request.to}].high;
      answer(*session, state);
      break;
    }
    case Type::kPing:
      ++pings_;
      answer(*session, protocol::Head{static_cast<std::uint8_t>(Type::kPong), head->request});
      break;
    case Type::kPassword:
      passwords_[session->user] = unpack<protocol::PasswordChange>(body)->new_password;
      answer(*session, protocol::Head{static_cast<std::uint8_t>(Type::kOk), head->request});
      break;
    case Type::kGroups: {
      protocol::GroupList list;
      list.request = head->request;
      for (const auto& [group, members] : groups_) {
        if (members.contains(session->user)) list.groups.push_back(group);
      }
      answer(*session, list);
      break;
    }
    default: on_group(*session, *unpack<protocol::GroupRequest>(body));
  }
  return true;
}

void FakeCluster::on_login(Session& session, const protocol::Login& message) {
  const auto account = passwords_.find(message.user);
  const std::string token = "token of " + message.user + " " + message.device;
  const bool by_token = message.token == token && !revoked_tokens.contains(token);
  const bool by_password = account != passwords_.end() && message.token.empty() &&
                           account->second == message.password;
  if (account == passwords_.end() || (!by_token && !by_password)) {
    return refuse(session, message.request, Errc::kUnauthenticated);
  }
  ++logins_;
  session.user = message.user;
  session.device = device_of(mailbox_of(message.user), message.device);
  protocol::LoggedIn answered;
  answered.request = message.request;
  answered.version = protocol::kVersionMax;
  answered.node = "fake-" + std::to_string(session.door);
  answered.lineage = lineage;
  answered.device = session.device;
  answered.token = token;
  answered.heartbeat_s = heartbeat_s;
  answered.wall_ms = loop_.wall_ms();
  answer(session, answered);
}

std::vector<std::string> FakeCluster::follows(const std::string& user) const {
  std::vector<std::string> out{user};
  for (const auto& [group, members] : groups_) {
    if (members.contains(user)) out.push_back(group);
  }
  return out;
}

void FakeCluster::on_sync(Session& session, const protocol::Sync& message) {
  for (const auto& address : follows(session.user)) {
    storage::VersionVector cursor;
    if (message.lineage == lineage) {
      for (const auto& item : message.mailboxes) {
        if (item.address == address) cursor = item.cursor;
      }
    }
    for (const auto& stored : mailboxes_[address]) {
      if (!cursor.covers({WriterId{stored.entry.writer}, stored.entry.n})) {
        answer(session, stored.entry);
        cursor.raise(WriterId{stored.entry.writer}, stored.entry.n);
      }
    }
    protocol::Synced synced;
    synced.mailbox = address;
    synced.cursor = cursor;
    answer(session, synced);
  }
  session.following = true;
  answer(session, protocol::Head{static_cast<std::uint8_t>(Type::kSyncDone), message.request});
}

bool FakeCluster::on_send(const std::shared_ptr<Session>& session, const protocol::Send& message) {
  sends_.push_back(message);
  const Verdict verdict = judge ? judge(message, session->door) : Verdict{};
  switch (verdict.fate) {
    case Fate::kServe: {
      auto ack = store(*session, message);
      if (ack) {
        answer(*session, *ack);
      } else {
        refuse(*session, message.request, ack.code());
      }
      return true;
    }
    case Fate::kRefuse:
      refuse(*session, message.request, verdict.code, verdict.retry_after_ms);
      return true;
    case Fate::kStoreAndRefuse:
      (void)store(*session, message);
      refuse(*session, message.request, verdict.code, verdict.retry_after_ms);
      return true;
    case Fate::kIgnore: return true;
    case Fate::kStoreAndForget: (void)store(*session, message); return true;
    case Fate::kStoreAndHangUp: (void)store(*session, message); [[fallthrough]];
    case Fate::kHangUp: hang_up(session->door, session->number); return false;
  }
  return true;
}

std::string FakeCluster::next_id(const std::string& floor) {
  clock_ = std::max<Hlc>(clock_ + 1, hlc_at(static_cast<std::uint64_t>(loop_.wall_ms())));
  if (auto above = parse_entry_id(floor)) clock_ = std::max(clock_, above->time + 1);
  return to_text(EntryId{clock_, WriterId{kFakeWriter}});
}

Result<protocol::Ack> FakeCluster::store(Session& session, const protocol::Send& message) {
  LaneState& lane = lanes_[{session.device, message.to}];
  protocol::Ack ack;
  ack.request = message.request;
  ack.seq = message.seq;
  ack.copies = 2;
  const bool is_void = (message.flags & protocol::kSendVoid) != 0;
  if (const auto old = lane.stored.find(message.seq); old != lane.stored.end()) {
    if (!is_void && old->second.first != message.body.data) {
      return Error{Errc::kSequenceReused, "other content"};
    }
    ack.id = old->second.second;
    return ack;
  }
  if (message.seq > 1 && !lane.stored.contains(message.seq - 1) && message.acked < message.seq - 1) {
    return Error{Errc::kLaneGap, "number before is unknown"};
  }
  ack.id = next_id(message.floor);
  lane.stored[message.seq] = {message.body.data, ack.id};
  lane.high = std::max(lane.high, message.seq);
  protocol::EntryMessage entry;
  entry.id = ack.id;
  entry.device = session.device;
  entry.lane = lane_to(mailbox_of(message.to));
  entry.seq = message.seq;
  entry.from = session.user;
  entry.to = message.to;
  entry.content = is_void ? 0 : message.content;
  entry.body = message.body;
  append(message.to, entry);
  if (!is_group(message.to) && message.to != session.user) append(session.user, entry);
  return ack;
}

void FakeCluster::append(const std::string& mailbox, protocol::EntryMessage entry) {
  auto& list = mailboxes_[mailbox];
  if (entry.writer == 0) entry.writer = kFakeWriter;
  entry.mailbox = mailbox;
  entry.n = 1;
  for (const auto& stored : list) {
    if (stored.entry.writer == entry.writer) ++entry.n;
  }
  list.push_back({std::move(entry)});
  push(mailbox, list.back());
}

void FakeCluster::push(const std::string& mailbox, const Stored& stored) {
  for (auto& door : doors_) {
    for (auto& [number, session] : door.sessions) {
      if (!session->following) continue;
      const auto follow = follows(session->user);
      if (std::find(follow.begin(), follow.end(), mailbox) == follow.end()) continue;
      answer(*session, stored.entry);
    }
  }
}

void FakeCluster::deliver(const std::string& mailbox, protocol::EntryMessage entry) {
  entry.writer = kOtherWriter;
  append(mailbox, std::move(entry));
}

void FakeCluster::on_history(Session& session, const protocol::HistoryRequest& message) {
  const std::string& mailbox = is_group(message.with) ? message.with : session.user;
  protocol::HistoryPage page;
  page.request = message.request;
  auto list = mailboxes_[mailbox];
  std::sort(list.begin(), list.end(),
            [](const Stored& a, const Stored& b) { return a.entry.id > b.entry.id; });
  for (const auto& stored : list) {
    const auto& entry = stored.entry;
    const bool ours = is_group(message.with) || entry.from == message.with || entry.to == message.with;
    if (!ours || entry.content == 0) continue;
    if (!message.before.empty() && entry.id >= message.before) continue;
    if (page.entries.size() == message.limit) {
      page.more = true;
      break;
    }
    page.entries.push_back(entry);
  }
  answer(session, page);
}

void FakeCluster::on_group(Session& session, const protocol::GroupRequest& message) {
  const auto type = static_cast<Type>(message.type);
  const bool exists = groups_.contains(message.group);
  if (type == Type::kGroupCreate) {
    if (exists) return refuse(session, message.request, Errc::kExists);
    groups_[message.group].insert(session.user);
  } else if (!exists) {
    return refuse(session, message.request, Errc::kNotFound);
  } else if (type == Type::kGroupMembers) {
    protocol::Members members;
    members.request = message.request;
    for (const auto& user : groups_[message.group]) members.members.push_back({user, 0});
    return answer(session, members);
  } else if (type == Type::kGroupRemove) {
    leave_group(message.group, message.user);
  } else {
    groups_[message.group].insert(message.user);
  }
  answer(session, protocol::Head{static_cast<std::uint8_t>(Type::kOk), message.request});
  if (type == Type::kGroupRemove) return;
  const std::string& member = type == Type::kGroupCreate ? session.user : message.user;
  protocol::JoinedOrLeft joined;
  joined.group = message.group;
  for (auto& door : doors_) {
    for (auto& [number, other] : door.sessions) {
      if (other->user == member) answer(*other, joined);
    }
  }
}

std::vector<std::string> FakeCluster::bodies(const std::string& address) const {
  auto list = mailbox(address);
  std::sort(list.begin(), list.end(),
            [](const Stored& a, const Stored& b) { return a.entry.id < b.entry.id; });
  std::vector<std::string> out;
  for (const auto& stored : list) {
    if (stored.entry.content != 0) out.push_back(stored.entry.body.data);
  }
  return out;
}

const std::vector<FakeCluster::Stored>& FakeCluster::mailbox(const std::string& address) const {
  static const std::vector<Stored> kNone;
  const auto it = mailboxes_.find(address);
  return it == mailboxes_.end() ? kNone : it->second;
}

}  // namespace starling::node
