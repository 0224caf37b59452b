#include "node/check/checker.h"

#include <algorithm>
#include <cassert>

namespace starling::node::check {
namespace {

Error too_many(const char* what, std::size_t limit) {
  return {Errc::kTooLarge, "a history of more than " + std::to_string(limit) + " " + what +
                               ": check the files of one run at a time, or a shorter run"};
}

bool is_group(const std::string& address) { return address.starts_with("#"); }

}  // namespace

std::string Checker::text(DeviceIndex device) const {
  return devices_[device].user + "/" + devices_[device].name;
}

std::string Checker::text(const Message& message) const {
  const Lane& lane = lanes_[message.lane];
  const auto sender = device_by_id_.find(lane.by);
  return "message " + std::to_string(message.number) + " of " +
         (sender == device_by_id_.end() ? lane.from : text(sender->second)) + " to " + lane.to;
}

void Checker::violate(Report& report, Fault fault, const std::string& text,
                      MessageIndex message) const {
  if (++report.faults[static_cast<std::size_t>(fault)] > kViolationsKept) return;
  const Message& m = messages_[message];
  const Lane& lane = lanes_[m.lane];
  report.violations.push_back({fault, text, {lane.by, lane.to, m.number}, m.hash});
}

// Feeding.

Status Checker::feed_line(View line) {
  ++line_;
  const auto event = decode(line);
  Status fed = event ? feed(*event) : Status(event.error());
  if (fed) {
    if (event->kind == EventKind::kHeader) line_ = 1;
    return fed;
  }
  return Error{fed.code(), "line " + std::to_string(line_) + ": " + fed.error().text};
}

Status Checker::feed(const Event& event) {
  if (event.kind == EventKind::kHeader) return on_header(event);
  if (files_.empty()) return Error{Errc::kCorrupt, "a history begins with its header"};
  ++running_.events;
  if (event.kind == EventKind::kDevice) return on_device(event);
  if (event.kind == EventKind::kGroup) return on_group(event);
  if (event.kind == EventKind::kLeft) return on_left(event);
  if (event.kind == EventKind::kEnd) {
    files_.back().ended = true;
    files_.back().end_ms = files_.back().started_ms + event.t / 1000;
    return ok_status();
  }
  const auto at = numbered_.find(event.device);
  if (at == numbered_.end()) {
    return Error{Errc::kCorrupt, "device " + std::to_string(event.device) + " was not declared"};
  }
  const DeviceIndex device = at->second;
  switch (event.kind) {
    case EventKind::kSend: return on_send(event, device);
    case EventKind::kAck:
    case EventKind::kRefused:
    case EventKind::kUnknown: return on_answer(event, device);
    case EventKind::kRestart: on_restart(event, device); return ok_status();
    case EventKind::kRecall:
    case EventKind::kRecalled: return on_recall(event, device);
    default: return on_entry(event, device);
  }
}

Status Checker::on_header(const Event& event) {
  if (files_.empty()) {
    cluster_ = event.cluster;
  } else if (event.cluster != cluster_) {
    return Error{Errc::kForeign, "a history of cluster " + event.cluster + " after one of " +
                                     cluster_ + ": files of one run belong together"};
  }
  files_.push_back({false, event.started_ms, 0});
  numbered_.clear();
  return ok_status();
}

Status Checker::on_device(const Event& event) {
  const DeviceId id = device_of(mailbox_of(event.user), event.name);
  const auto file = static_cast<std::uint32_t>(files_.size() - 1);
  if (const auto known = device_by_id_.find(id); known != device_by_id_.end()) {
    devices_[known->second].file = file;
    numbered_[event.device] = known->second;
    return ok_status();
  }
  if (devices_.size() >= kDevicesMax) return too_many("devices", kDevicesMax);
  const auto device = static_cast<DeviceIndex>(devices_.size());
  devices_.push_back({event.user, event.name, id, event.must_show, file});
  device_by_id_.emplace(id, device);
  numbered_[event.device] = device;
  devices_of_[event.user].push_back(device);
  if (const auto conversations = reads_.find(event.user); conversations != reads_.end()) {
    for (const auto c : conversations->second) {
      if (auto seat = seat_of(c, device, true); !seat) return seat.error();
    }
  }
  return ok_status();
}

Status Checker::on_group(const Event& event) {
  TRY_ASSIGN(const auto conversation, conversation_of(event.to));
  for (const auto& user : event.users) TRY(add_reader(conversation, user));
  return ok_status();
}

Status Checker::on_left(const Event& event) {
  TRY_ASSIGN(const auto index, conversation_of(event.to));
  for (const auto& user : event.users) {
    if (!left_.emplace(index, user).second) continue;
    TRY(add_reader(index, user));
    Conversation& conversation = conversations_[index];
    for (const auto device : devices_of_[user]) {
      Seat& seat = conversation.seats[conversation.seat_of.at(device)];
      if (owes(seat)) count_all(conversation, seat, -1);
      seat.left = true;
    }
  }
  return ok_status();
}

Status Checker::on_send(const Event& event, DeviceIndex device) {
  const Device& sender = devices_[device];
  TRY_ASSIGN(const auto lane, lane_of(sender.id, sender.user, event.to));
  TRY_ASSIGN(const auto index, message_of(lane, event.number));
  if (messages_[index].offered) {
    return Error{Errc::kCorrupt, text(messages_[index]) + " is sent a second time"};
  }
  messages_[index].offered = true;
  content(index, event.hash, event.size, device);
  return ok_status();
}

Status Checker::on_answer(const Event& event, DeviceIndex device) {
  const Device& sender = devices_[device];
  TRY_ASSIGN(const auto lane, lane_of(sender.id, sender.user, event.to));
  TRY_ASSIGN(const auto index, message_of(lane, event.number));
  Message& message = messages_[index];
  const bool again = message.outcome != Outcome::kOpen && message.outcome != Outcome::kUnknown;
  if (again) {
    violate(running_, Fault::kAnsweredTwice, text(message) + " was answered a second time", index);
    return ok_status();
  }
  if (event.kind == EventKind::kRefused) message.outcome = Outcome::kRefused;
  if (event.kind == EventKind::kUnknown) message.outcome = Outcome::kUnknown;
  if (event.kind != EventKind::kAck) return ok_status();
  if (event.acked_as != 0 && event.acked_as != event.number) {
    violate(running_, Fault::kAltered, text(message) + " was acknowledged as number " +
                                           std::to_string(event.acked_as), index);
  }
  const bool strong = event.grade == "quorum" || event.grade == "all";
  message.acked_ms = static_cast<std::int32_t>(files_.back().started_ms + event.t / 1000 -
                                               files_.front().started_ms);
  message.outcome = strong ? Outcome::kAcked : Outcome::kWeak;
  TRY_ASSIGN(const auto seat, seat_of(lanes_[lane].conversation, device, false));
  const auto& shown = conversation_of(message).seats[seat].shown;
  if (strong) hear(index, device, event.id, message.place < shown.size() && shown[message.place]);
  if (is_due(message)) count_message(index, 1);
  return ok_status();
}

// A recall by somebody else says nothing, but that it must not be acknowledged.
Status Checker::on_recall(const Event& event, DeviceIndex device) {
  TRY_ASSIGN(const auto lane, lane_of(event.by, event.from, event.to));
  TRY_ASSIGN(const auto index, message_of(lane, event.number));
  Message& message = messages_[index];
  const bool done = event.kind == EventKind::kRecalled;
  if (devices_[device].user != lanes_[lane].from) {
    if (done) violate(running_, Fault::kAltered, text(device) + " took back " + text(message), index);
    return ok_status();
  }
  if (is_due(message)) count_message(index, -1);
  message.recalling = true;
  message.recalled |= done;
  return ok_status();
}

Status Checker::on_entry(const Event& event, DeviceIndex device) {
  TRY_ASSIGN(const auto lane, lane_of(event.by, event.from, event.to));
  TRY_ASSIGN(const auto index, message_of(lane, event.number));
  const ConversationIndex conversation = lanes_[lane].conversation;
  TRY_ASSIGN(const auto seat_index, seat_of(conversation, device, false));
  if (lanes_[lane].from != event.from || event.strange_lane) {
    violate(running_, Fault::kAltered,
            text(device) + " shows " + text(messages_[index]) + " as of " + event.from +
                (event.strange_lane ? ", with the key of another lane" : ""), index);
  }
  TRY(note_dot(event, device, index));
  Seat& seat = conversations_[conversation].seats[seat_index];
  if (event.kind == EventKind::kVoid) {
    take_back(seat, index);
    return ok_status();
  }
  content(index, event.hash, event.size, device);
  const auto place = messages_[index].place;
  const bool had = place < seat.shown.size() && seat.shown[place];
  const bool own = device_by_id_.contains(event.by) && device_by_id_[event.by] == device &&
                   messages_[index].outcome == Outcome::kAcked;
  if (event.kind == EventKind::kShown) show(conversation, seat_index, index, event);
  hear(index, device, event.id, had || own);
  return ok_status();
}

void Checker::on_restart(const Event& event, DeviceIndex device) {
  ++running_.restarts;
  if (!event.forgot) return;
  for (auto& conversation : conversations_) {
    const auto at = conversation.seat_of.find(device);
    if (at == conversation.seat_of.end()) continue;
    Seat& seat = conversation.seats[at->second];
    for (std::size_t place = 0; place < seat.shown.size(); ++place) {
      const MessageIndex message = conversation.messages[place];
      const bool own = lanes_[messages_[message].lane].by == devices_[device].id;
      if (seat.shown[place] && owes(seat) && !own && !voids_.contains({device, message}) &&
          is_due(messages_[message])) {
        --delivered_;
      }
    }
    seat.shown.clear();
    seat.highest = {};
  }
}

// What there is.

Result<Checker::ConversationIndex> Checker::conversation_of(const std::string& name) {
  const auto known = conversation_by_name_.find(name);
  if (known != conversation_by_name_.end()) return known->second;
  if (conversations_.size() >= kConversationsMax) {
    return too_many("conversations", kConversationsMax);
  }
  const auto index = static_cast<ConversationIndex>(conversations_.size());
  conversations_.emplace_back();
  conversations_.back().name = name;
  conversation_by_name_.emplace(name, index);
  return index;
}

Result<Checker::LaneIndex> Checker::lane_of(const DeviceId& by, const std::string& from,
                                            const std::string& to) {
  const auto known = lane_by_key_.find({by, to});
  if (known != lane_by_key_.end()) return known->second;
  const std::string name =
      is_group(to) ? to : std::min(from, to) + " and " + std::max(from, to);
  TRY_ASSIGN(const auto conversation, conversation_of(name));
  if (!is_group(to)) {
    TRY(add_reader(conversation, from));
    TRY(add_reader(conversation, to));
  }
  const auto index = static_cast<LaneIndex>(lanes_.size());
  lanes_.push_back({by, from, to, conversation});
  lane_by_key_.emplace(std::pair(by, to), index);
  return index;
}

Result<Checker::MessageIndex> Checker::message_of(LaneIndex lane, std::uint64_t number) {
  const auto known = message_by_key_.find({lane, number});
  if (known != message_by_key_.end()) return known->second;
  if (messages_.size() >= kMessagesMax) return too_many("messages", kMessagesMax);
  const auto index = static_cast<MessageIndex>(messages_.size());
  auto& conversation = conversations_[lanes_[lane].conversation];
  Message message;
  message.lane = lane;
  message.number = number;
  message.place = static_cast<std::uint32_t>(conversation.messages.size());
  conversation.messages.push_back(index);
  messages_.push_back(message);
  message_by_key_.emplace(LaneMessage{lane, number}, index);
  return index;
}

Status Checker::add_reader(ConversationIndex conversation, const std::string& user) {
  auto& conversations = reads_[user];
  if (std::find(conversations.begin(), conversations.end(), conversation) != conversations.end()) {
    return ok_status();
  }
  conversations.push_back(conversation);
  for (const auto device : devices_of_[user]) {
    if (auto seat = seat_of(conversation, device, true); !seat) return seat.error();
  }
  return ok_status();
}

Result<Checker::SeatIndex> Checker::seat_of(ConversationIndex index, DeviceIndex device,
                                            bool reader) {
  Conversation& conversation = conversations_[index];
  const auto next = static_cast<SeatIndex>(conversation.seats.size());
  const auto [at, fresh] = conversation.seat_of.try_emplace(device, next);
  if (fresh) {
    if (++seats_ > kSeatsMax) return too_many("devices in conversations", kSeatsMax);
    conversation.seats.push_back({device, false, {}, {}});
  }
  Seat& seat = conversation.seats[at->second];
  if (!reader || seat.reader) return at->second;
  seat.reader = true;
  seat.left = left_.contains({index, devices_[device].user});
  if (!owes(seat)) return at->second;
  count_all(conversation, seat, 1);
  return at->second;
}

bool Checker::owes(const Seat& seat) const {
  return seat.reader && !seat.left && devices_[seat.device].must_show;
}

// What it means.

void Checker::content(MessageIndex index, std::uint64_t hash, std::uint64_t size,
                      DeviceIndex device) {
  Message& message = messages_[index];
  if (!message.heard) {
    message.heard = true;
    message.hash = hash;
    message.size = static_cast<std::uint32_t>(size);
  } else if (message.hash != hash || message.size != size) {
    violate(running_, Fault::kAltered,
            text(message) + " has other content on " + text(device) + ": " + hash_text(hash) +
                " of " + std::to_string(size) + " bytes instead of " + hash_text(message.hash) +
                " of " + std::to_string(message.size), index);
  }
}

Status Checker::note_dot(const Event& event, DeviceIndex device, MessageIndex message) {
  if (event.dot.n == 0) return ok_status();
  const std::string& mailbox = is_group(event.to) ? event.to : devices_[device].user;
  const auto number = static_cast<std::uint32_t>(mailboxes_.size());
  const MailboxDot dot{mailboxes_.try_emplace(mailbox, number).first->second, event.dot};
  const auto [at, fresh] = dots_.try_emplace(dot, message);
  if (dots_.size() > kDotsMax) return too_many("dots", kDotsMax);
  if (!fresh && at->second != message) {
    violate(running_, Fault::kDotReused,
            "dot " + to_text(event.dot) + " of " + mailbox + " is both " +
                text(messages_[at->second]) + " and " + text(messages_[message]), message);
  }
  return ok_status();
}

void Checker::show(ConversationIndex conversation, SeatIndex seat_index, MessageIndex index,
                   const Event& event) {
  ++running_.shown;
  Seat& seat = conversations_[conversation].seats[seat_index];
  const Message& message = messages_[index];
  if (message.place >= seat.shown.size()) seat.shown.resize(message.place + 1);
  if (seat.shown[message.place]) {
    violate(running_, Fault::kTwice, text(seat.device) + " shows " + text(message) + " twice",
            index);
    return;
  }
  seat.shown[message.place] = true;
  if (event.id < seat.highest) ++running_.late_inserts;
  seat.highest = std::max(seat.highest, event.id);
  const bool own = event.by == devices_[seat.device].id;
  if (is_due(message) && owes(seat) && !own &&
      !voids_.contains({seat.device, index})) {
    ++delivered_;
  }
}

void Checker::hear(MessageIndex index, DeviceIndex device, const EntryId& id, bool heard_before) {
  Message& message = messages_[index];
  if (message.id.is_zero()) {
    message.id = id;
    return;
  }
  auto at = positions_.find(index);
  if (at == positions_.end()) {
    if (id == message.id) return;
    at = positions_.try_emplace(index, Positions{message.id, {}}).first;
  }
  auto& positions = at->second;
  const EntryId mine = heard_before ? std::min(id, positions.first) : id;
  const auto [own, fresh] = positions.later.try_emplace(device, mine);
  if (!fresh) own->second = std::min(own->second, id);
  message.id = std::min(message.id, id);
}

void Checker::take_back(Seat& seat, MessageIndex index) {
  if (!voids_.try_emplace({seat.device, index}, true).second) return;
  Message& message = messages_[index];
  message.voided = true;
  const bool own = lanes_[message.lane].by == devices_[seat.device].id;
  const bool shown = message.place < seat.shown.size() && seat.shown[message.place];
  if (is_due(message) && owes(seat) && (shown || own)) --delivered_;
}

// The sender's own device has an acknowledged message by the ack.
bool Checker::has_acked(const Seat& seat, MessageIndex index) const {
  const Message& message = messages_[index];
  const bool shown = message.place < seat.shown.size() && seat.shown[message.place];
  const bool own = lanes_[message.lane].by == devices_[seat.device].id;
  return (shown || own) && !voids_.contains({seat.device, index});
}

// All that a seat owes, and has, by now: counted when it begins to, taken back when it ends.
void Checker::count_all(const Conversation& conversation, const Seat& seat, int sign) {
  for (const MessageIndex index : conversation.messages) {
    if (!is_due(messages_[index])) continue;
    expected_ += static_cast<std::uint64_t>(sign);
    if (has_acked(seat, index)) delivered_ += static_cast<std::uint64_t>(sign);
  }
}

void Checker::count_message(MessageIndex index, int sign) {
  for (const Seat& seat : conversation_of(messages_[index]).seats) {
    if (!owes(seat)) continue;
    expected_ += static_cast<std::uint64_t>(sign);
    if (has_acked(seat, index)) delivered_ += static_cast<std::uint64_t>(sign);
  }
}

}  // namespace starling::node::check
