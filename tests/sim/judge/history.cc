#include "tests/sim/judge/history.h"

#include <algorithm>
#include <cassert>

#include "node/client/lane.h"

namespace starling::sim {

using node::check::Event;
using node::check::EventKind;

namespace {

std::int64_t us(Instant at) { return at.time_since_epoch().count() / 1000; }

Event event_of(EventKind kind, DeviceIndex device, Instant at) {
  Event event;
  event.kind = kind;
  event.device = static_cast<std::uint32_t>(device);
  event.t = us(at);
  return event;
}

EntryId id_of(const std::string& text) {
  const auto id = parse_entry_id(text);
  return id ? *id : EntryId{};
}

void add_send(const SendRecord& send, bool owed, std::vector<Event>& out) {
  Event offered = event_of(EventKind::kSend, send.device, send.invoked);
  offered.to = send.to;
  offered.number = send.number;
  offered.hash = send.hash;
  offered.size = send.size;
  out.push_back(offered);
  if (send.outcome == Outcome::kPending) return;
  auto kind = EventKind::kAck;
  if (send.outcome == Outcome::kRefused) kind = EventKind::kRefused;
  if (send.outcome == Outcome::kUnknown) kind = EventKind::kUnknown;
  Event answer = event_of(kind, send.device, send.ended);
  answer.to = send.to;
  answer.number = send.number;
  if (kind == EventKind::kAck) {
    answer.id = id_of(send.id);
    answer.grade = owed ? "quorum" : "local";
    answer.copies = send.copies;
    answer.acked_as = send.seq == send.number ? 0 : send.seq;
  } else {
    answer.why = name(send.error);
  }
  out.push_back(answer);
}

Event event_of(const Delivery& d) {
  const auto kind = d.is_void ? EventKind::kVoid : d.again ? EventKind::kMoved : EventKind::kShown;
  Event event = event_of(kind, d.device, d.at);
  event.by = d.key.device;
  event.from = d.from;
  event.to = d.to;
  event.number = d.key.seq;
  event.strange_lane = d.key.lane != lane_to(mailbox_of(d.to));
  event.id = id_of(d.id);
  event.hash = d.hash;
  event.size = d.size;
  event.dot = d.dot;
  return event;
}

void add_recall(const History& history, const RecallRecord& recall, std::vector<Event>& out) {
  const SendRecord& send = history.sends()[recall.send];
  if (send.number == 0) return;
  Event event = event_of(EventKind::kRecall, recall.device, recall.asked);
  event.by = history.devices()[send.device].id;
  event.from = history.devices()[send.device].user;
  event.to = send.to;
  event.number = send.number;
  out.push_back(event);
  if (recall.outcome != Outcome::kAcked) return;
  event.kind = EventKind::kRecalled;
  event.t = us(recall.ended);
  out.push_back(event);
}

// A device erases what expired, so in the end it shows nothing of it.
void add_erasures(const History& history, std::vector<Event>& out) {
  const auto at = out.back().t;
  const auto erase = [&](Event event) {
    event.kind = EventKind::kVoid;
    event.t = at;
    out.push_back(std::move(event));
  };
  for (const auto& send : history.sends()) {
    if (send.lifetime_s == 0 || send.outcome != Outcome::kAcked) continue;
    Event own;
    own.device = static_cast<std::uint32_t>(send.device);
    own.by = history.devices()[send.device].id;
    own.from = history.devices()[send.device].user;
    own.to = send.to;
    own.number = send.number;
    own.id = id_of(send.id);
    erase(own);
  }
  for (const auto& delivery : history.deliveries()) {
    const auto* send = history.send_of(delivery.hash);
    if (send != nullptr && send->lifetime_s > 0) erase(event_of(delivery));
  }
}

}  // namespace

std::vector<Event> events(const History& history, const std::string& cluster) {
  std::vector<Event> out(1);
  out[0].kind = EventKind::kHeader;
  out[0].cluster = cluster;
  out[0].recorder = "sim";
  for (DeviceIndex i = 0; i < history.devices().size(); ++i) {
    Event device = event_of(EventKind::kDevice, i, Instant{});
    device.user = history.devices()[i].user;
    device.name = history.devices()[i].name;
    out.push_back(device);
  }
  for (const auto& [group, members] : history.groups()) {
    Event event;
    event.kind = EventKind::kGroup;
    event.to = group;
    event.users.assign(members.begin(), members.end());
    out.push_back(event);
  }
  for (const auto& group : history.rosters().groups()) {
    Event members, left;
    members.kind = EventKind::kGroup;
    left.kind = EventKind::kLeft;
    members.to = left.to = group;
    const auto now = history.rosters().members(group);
    for (const auto& user : history.rosters().ever(group)) (now.contains(user) ? members : left).users.push_back(user);
    out.push_back(left);
    out.push_back(members);
  }
  const auto first = static_cast<std::ptrdiff_t>(out.size());
  for (const auto& send : history.sends()) {
    if (send.number != 0) add_send(send, history.lives(send), out);
  }
  for (const auto& recall : history.recalls()) add_recall(history, recall, out);
  std::unordered_map<std::uint64_t, EntryId> stands;  // By body: the smallest id of what is left.
  for (const auto& delivery : history.deliveries()) {
    if (history.is_written_off(delivery)) continue;
    const auto [at, first] = stands.try_emplace(delivery.hash, id_of(delivery.id));
    if (!first) at->second = std::min(at->second, id_of(delivery.id));
  }
  for (const auto& delivery : history.deliveries()) {
    out.push_back(event_of(delivery));
    if (!history.is_written_off(delivery)) continue;
    const auto left = stands.find(delivery.hash);
    out.back().id = left != stands.end() ? left->second : EntryId{};  // Zero stands nowhere.
  }
  std::stable_sort(out.begin() + first, out.end(),
                   [](const Event& a, const Event& b) { return a.t < b.t; });
  add_erasures(history, out);
  Event end;
  end.t = out.back().t;
  out.push_back(end);
  return out;
}

std::uint64_t body_hash(View body) { return node::check::body_hash(body); }

DeviceIndex History::add_device(const std::string& user, const std::string& name) {
  devices_.push_back({user, name, device_of(mailbox_of(user), name)});
  return devices_.size() - 1;
}

void History::add_group(const std::string& group, std::set<std::string> members) {
  groups_[group] = std::move(members);
}

SendIndex History::invoke(DeviceIndex device, const std::string& to, View body, Instant now,
                          node::protocol::Grade grade, std::uint32_t lifetime_s) {
  SendRecord send;
  send.grade = grade;
  send.lifetime_s = lifetime_s;
  send.device = device;
  send.to = to;
  send.hash = body_hash(body);
  send.size = body.size();
  send.number = ++lanes_[{device, to}];
  send.invoked = now;
  const SendIndex index = sends_.size();
  const bool fresh = by_hash_.emplace(send.hash, index).second;
  assert(fresh && "bodies name their send");
  (void)fresh;
  sends_.push_back(std::move(send));
  return index;
}

void History::acked(SendIndex index, std::uint64_t seq, const std::string& id, std::uint8_t copies,
                    Instant now) {
  SendRecord& send = sends_[index];
  send.outcome = Outcome::kAcked;
  send.seq = seq;
  send.id = id;
  send.copies = copies;
  send.ended = now;
}

void History::failed(SendIndex index, Outcome outcome, Errc error, Instant now) {
  SendRecord& send = sends_[index];
  send.outcome = outcome;
  send.error = error;
  send.ended = now;
}

void History::not_taken(SendIndex index, Errc error, Instant now) {
  assert(index + 1 == sends_.size());
  failed(index, Outcome::kRefused, error, now);
  --lanes_[{sends_[index].device, sends_[index].to}];
  sends_[index].number = 0;
}

History::RecallIndex History::recall(DeviceIndex device, SendIndex send, Instant now) {
  recalls_.push_back({device, send, now, {}, Outcome::kPending, {}, {}});
  if (devices_[device].user == devices_[sends_[send].device].user) sends_[send].recalling = true;
  return recalls_.size() - 1;
}

void History::recalled(RecallIndex index, const Result<std::string>& id, Instant now) {
  RecallRecord& recall = recalls_[index];
  recall.ended = now;
  recall.outcome = id ? Outcome::kAcked : node::is_retryable(id.code()) ? Outcome::kUnknown : Outcome::kRefused;
  if (id) {
    recall.id = *id;
  } else {
    recall.error = id.code();
  }
}

const SendRecord* History::send_of(std::uint64_t hash) const {
  const auto it = by_hash_.find(hash);
  return it == by_hash_.end() ? nullptr : &sends_[it->second];
}

MessageKey History::key_of(const SendRecord& send) const {
  assert(send.outcome == Outcome::kAcked);
  return {devices_[send.device].id, lane_to(mailbox_of(send.to)), send.seq};
}

bool History::may_be_lost(const SendRecord& send) const {
  const auto found = destroyed_.find(send.hash);
  if (found == destroyed_.end() || send.outcome != Outcome::kAcked) return false;
  return std::any_of(found->second.begin(), found->second.end(),
                     [&](const auto& mailbox) { return mailbox.second.size() >= send.copies; });
}

bool History::is_owed(const SendRecord& send) const { return lives(send) && !send.recalling; }

bool History::lives(const SendRecord& send) const {
  return send.outcome == Outcome::kAcked && send.lifetime_s == 0 && lasts(send) && !may_be_lost(send);
}

bool History::lasts(const SendRecord& send) const {
  using node::protocol::Grade;
  if (send.grade == Grade::kMemory) return memory_lasts_;
  return send.grade != Grade::kLocal || local_lasts_;
}

void History::gave_up(DeviceIndex device, const std::string& to, std::uint64_t last) {
  auto& used = lanes_[{device, to}];
  if (used <= last) return;
  used = last;
  for (auto& send : sends_) {
    if (send.device == device && send.to == to && send.number > last) send.number = 0;
  }
}

bool History::may_be_refused(const SendRecord& send) const {
  if (send.error == Errc::kOverloaded) return true;
  if (send.error == Errc::kSequenceReused && send.lifetime_s > 0) return true;  // It came and went, unanswered.
  if (send.error == Errc::kUnauthenticated) return shut_out_.contains(send.device);
  return send.error == Errc::kDenied &&
         rosters_.may_be_out(send.to, devices_[send.device].user, send.invoked, send.ended);
}

bool History::is_written_off(const Delivery& delivery) const {
  const auto found = written_off_.find(delivery.dot);
  if (found == written_off_.end()) return false;
  const auto mailbox = mailbox_of(delivery.mailbox);
  return std::any_of(found->second.begin(), found->second.end(), [&](const Part& part) { return part.holds(mailbox); });
}

void note_written_off(History& history, const ClusterExport& stores, const std::set<WriterId>& abandoned) {
  for (const auto& node : stores.nodes) {
    for (const auto& [partition, held] : node.partitions) {
      for (const auto& dot : held.lost) history.written_off({partition, node.partition_count}, dot);
    }
  }
  for (const auto& delivery : history.deliveries()) {
    if (!abandoned.contains(delivery.dot.writer)) continue;
    const Slot slot = slot_of(mailbox_of(delivery.mailbox));
    const PartitionId partition = partition_of(slot, stores.partition_count);
    const auto owners = stores.owners.find(partition);
    const bool known = owners != stores.owners.end() &&
                       std::any_of(owners->second.begin(), owners->second.end(), [&](std::size_t owner) {
                         const NodeExport& node = stores.nodes[owner];
                         const auto held = node.partitions.find(partition_of(slot, node.partition_count));
                         return held != node.partitions.end() && held->second.vector.covers(delivery.dot);
                       });
    if (!known) history.written_off({partition, stores.partition_count}, delivery.dot);
  }
}

std::size_t History::count(Outcome outcome) const {
  std::size_t n = 0;
  for (const auto& send : sends_) n += send.outcome == outcome;
  return n;
}

std::string History::text(DeviceIndex device) const {
  return devices_[device].user + "/" + devices_[device].name;
}

std::string History::text(const SendRecord& send) const {
  std::string out = text(send.device) + " to " + send.to;
  if (send.outcome == Outcome::kAcked) {
    out += " #" + std::to_string(send.seq) + " id " + send.id;
  }
  return out + " body " + hash_text(send.hash);
}

std::string hash_text(std::uint64_t hash) {
  return hex({reinterpret_cast<const char*>(&hash), sizeof hash});
}

}  // namespace starling::sim
