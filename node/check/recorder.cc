#include "node/check/recorder.h"

namespace starling::node::check {

std::string_view name(protocol::Grade grade) {
  switch (grade) {
    case protocol::Grade::kQuorum: return "quorum";
    case protocol::Grade::kAll: return "all";
    case protocol::Grade::kLocal: return "local";
    case protocol::Grade::kMemory: return "memory";
  }
  return "unknown";
}

Recorder::Recorder(std::string cluster, std::string recorder, std::int64_t wall_ms, Sink sink)
    : sink_(std::move(sink)) {
  Event header;
  header.kind = EventKind::kHeader;
  header.cluster = std::move(cluster);
  header.recorder = std::move(recorder);
  header.started_ms = wall_ms;
  sink_(header);
}

Recorder::Device Recorder::device(const std::string& user, const std::string& name,
                                  bool must_show) {
  Event event;
  event.kind = EventKind::kDevice;
  event.device = devices_;
  event.user = user;
  event.name = name;
  event.must_show = must_show;
  sink_(event);
  return devices_++;
}

void Recorder::group(const std::string& group, std::vector<std::string> users) {
  Event event;
  event.kind = EventKind::kGroup;
  event.to = group;
  event.users = std::move(users);
  sink_(event);
}

Event Recorder::event(EventKind kind, Device device, Instant now) {
  if (start_ == kNever) start_ = now;
  Event out;
  out.kind = kind;
  out.t = (now - start_).count() / 1000;
  out.device = device;
  return out;
}

std::uint64_t Recorder::sent(Device device, const std::string& to, View body, Instant now) {
  Event send = event(EventKind::kSend, device, now);
  send.to = to;
  send.number = ++lanes_[{device, to}];
  send.hash = body_hash(body);
  send.size = body.size();
  sink_(send);
  return send.number;
}

void Recorder::answered(Device device, const std::string& to, std::uint64_t number,
                        const Result<Sent>& result, protocol::Grade grade, Instant now) {
  auto kind = EventKind::kAck;
  if (!result) kind = is_retryable(result.code()) ? EventKind::kUnknown : EventKind::kRefused;
  Event answer = event(kind, device, now);
  answer.to = to;
  answer.number = number;
  if (result) {
    if (const auto id = parse_entry_id(result->id)) answer.id = *id;
    answer.grade = name(grade);
    answer.copies = result->copies;
    if (result->seq != number) answer.acked_as = result->seq;
  } else {
    answer.why = starling::name(result.code());
  }
  sink_(answer);
}

void Recorder::entry(EventKind kind, Device device, const protocol::EntryMessage& entry,
                     Instant now) {
  Event seen = event(kind, device, now);
  seen.by = entry.device;
  seen.from = entry.from;
  seen.to = entry.to;
  seen.number = entry.seq;
  seen.strange_lane = entry.lane != lane_to(mailbox_of(entry.to));
  if (const auto id = parse_entry_id(entry.id)) seen.id = *id;
  seen.hash = body_hash(entry.body.data);
  seen.size = entry.body.data.size();
  seen.dot = {WriterId{entry.writer}, entry.n};
  sink_(seen);
}

void Recorder::shown(Device device, const protocol::EntryMessage& e, Instant now) {
  entry(EventKind::kShown, device, e, now);
}

void Recorder::moved(Device device, const protocol::EntryMessage& e, Instant now) {
  entry(EventKind::kMoved, device, e, now);
}

void Recorder::taken_back(Device device, const protocol::EntryMessage& e, Instant now) {
  entry(EventKind::kVoid, device, e, now);
}

void Recorder::recall(Device device, const std::string& user, const std::string& to, const MessageKey& key, bool done,
                      Instant now) {
  Event out = event(done ? EventKind::kRecalled : EventKind::kRecall, device, now);
  out.by = key.device;
  out.from = user;
  out.to = to;
  out.number = key.seq;
  sink_(out);
}

void Recorder::end(Instant now) { sink_(event(EventKind::kEnd, 0, now)); }

}  // namespace starling::node::check
