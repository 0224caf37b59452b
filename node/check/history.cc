#include "node/check/history.h"

#include <array>
#include <charconv>
#include <cinttypes>
#include <cstdio>

#include <nlohmann/json.hpp>
#include <xxhash.h>

#include "crypto/text.h"

namespace starling::node::check {
namespace {

using Json = nlohmann::json;

constexpr std::array<std::string_view, 15> kEventNames = {
    "", "device", "group", "send", "ack", "refused", "unknown", "shown", "moved", "void", "restart",
    "end", "left", "recall", "recalled"};

// Declarations: without time and device.
bool names_users(EventKind kind) { return kind == EventKind::kGroup || kind == EventKind::kLeft; }
bool recalls(EventKind kind) { return kind == EventKind::kRecall || kind == EventKind::kRecalled; }
bool names_message(EventKind kind) {
  return (kind >= EventKind::kSend && kind <= EventKind::kVoid) || recalls(kind);
}
bool from_a_node(EventKind kind) { return kind >= EventKind::kShown && kind <= EventKind::kVoid; }

// Reads fields and remembers the first that is missing or of a wrong kind.
class Fields {
 public:
  explicit Fields(const Json& json) : json_(json) {}

  std::string text(const char* field, bool needed = true) {
    const auto it = json_.find(field);
    if (it == json_.end() && !needed) return {};
    if (it == json_.end() || !it->is_string()) return bad(field), std::string();
    return it->get<std::string>();
  }
  std::uint64_t number(const char* field, bool needed = true) {
    const auto it = json_.find(field);
    if (it == json_.end() && !needed) return 0;
    if (it == json_.end() || !it->is_number_unsigned()) return bad(field), 0;
    return it->get<std::uint64_t>();
  }
  bool flag(const char* field, bool otherwise) {
    const auto it = json_.find(field);
    if (it == json_.end()) return otherwise;
    if (!it->is_boolean()) return bad(field), otherwise;
    return it->get<bool>();
  }
  std::vector<std::string> texts(const char* field) {
    std::vector<std::string> out;
    const auto it = json_.find(field);
    if (it == json_.end() || !it->is_array()) return bad(field), out;
    for (const auto& item : *it) {
      if (!item.is_string()) return bad(field), out;
      out.push_back(item.get<std::string>());
    }
    return out;
  }
  std::uint64_t hash(const char* field) {
    std::uint64_t out = 0;
    const std::string digits = text(field);
    const auto end = digits.data() + digits.size();
    if (digits.size() != 16 || std::from_chars(digits.data(), end, out, 16).ptr != end) bad(field);
    return out;
  }
  std::string address(const char* field) {
    std::string out = text(field);
    if (!check_address(out)) bad(field);
    return out;
  }
  EntryId id(const char* field) {
    const auto parsed = parse_entry_id(text(field));
    if (!parsed) return bad(field), EntryId{};
    return *parsed;
  }
  DeviceId device(const char* field) {
    DeviceId out;
    const auto bytes = parse_hex(text(field));
    if (!bytes || !DeviceId::from(*bytes, out)) bad(field);
    return out;
  }
  Dot dot(const char* field) {
    const std::string words = text(field, false);
    if (words.empty()) return {};
    Dot out;
    const auto end = words.data() + words.size();
    const auto writer = std::from_chars(words.data(), end, out.writer.value);
    if (writer.ptr == end || *writer.ptr != ':' ||
        std::from_chars(writer.ptr + 1, end, out.n).ptr != end) {
      bad(field);
    }
    return out;
  }
  void bad(const char* field) {
    if (wrong_.empty()) wrong_ = field;
  }
  [[nodiscard]] const std::string& wrong() const { return wrong_; }

 private:
  const Json& json_;
  std::string wrong_;
};

void read_header(Fields& in, Event& out) {
  out.kind = EventKind::kHeader;
  out.cluster = in.text("cluster");
  out.recorder = in.text("by");
  out.started_ms = static_cast<std::int64_t>(in.number("started_ms"));
}

void read_message(Fields& in, Event& out) {
  out.to = in.address("to");
  out.number = in.number("n");
  if (out.number == 0) in.bad("n");
  if (out.kind == EventKind::kSend || from_a_node(out.kind)) {
    out.hash = in.hash("hash");
    out.size = in.number("size");
  }
  if (out.kind == EventKind::kAck) {
    out.id = in.id("id");
    out.grade = in.text("grade");
    out.copies = static_cast<std::uint8_t>(in.number("copies"));
    out.acked_as = in.number("as", false);
  }
  if (out.kind == EventKind::kRefused || out.kind == EventKind::kUnknown) out.why = in.text("why");
  if (from_a_node(out.kind) || recalls(out.kind)) {
    out.by = in.device("by");
    out.from = in.text("from");
  }
  if (from_a_node(out.kind)) {
    out.id = in.id("id");
    out.dot = in.dot("dot");
    out.strange_lane = in.flag("strange", false);
  }
}

void read_event(Fields& in, Event& out) {
  if (out.kind != EventKind::kDevice && !names_users(out.kind)) {
    out.t = static_cast<std::int64_t>(in.number("t"));
  }
  if (!names_users(out.kind) && out.kind != EventKind::kEnd) {
    const auto number = in.number("d");
    if (number > UINT32_MAX) in.bad("d");
    out.device = static_cast<std::uint32_t>(number);
  }
  if (names_message(out.kind)) read_message(in, out);
  if (out.kind == EventKind::kDevice) {
    out.user = in.address("user");
    out.name = in.text("name");
    out.must_show = in.flag("must_show", true);
  }
  if (names_users(out.kind)) {
    out.to = in.address("to");
    out.users = in.texts("users");
  }
  if (out.kind == EventKind::kRestart) out.forgot = in.flag("forgot", false);
}

}  // namespace

std::uint64_t body_hash(View body) { return XXH3_64bits(body.data(), body.size()); }

std::string hash_text(std::uint64_t hash) {
  char out[17];
  std::snprintf(out, sizeof out, "%016" PRIx64, hash);
  return out;
}

std::string encode(const Event& event) {
  Json out;
  if (event.kind == EventKind::kHeader) {
    out = {{"starling_history", kHistoryVersion}, {"cluster", event.cluster},
           {"by", event.recorder}, {"started_ms", event.started_ms}};
    return out.dump();
  }
  out["e"] = kEventNames[static_cast<std::size_t>(event.kind)];
  if (event.kind != EventKind::kDevice && !names_users(event.kind)) out["t"] = event.t;
  if (!names_users(event.kind) && event.kind != EventKind::kEnd) out["d"] = event.device;
  if (names_message(event.kind)) {
    out["to"] = event.to;
    out["n"] = event.number;
  }
  if (event.kind == EventKind::kSend || from_a_node(event.kind)) {
    out["hash"] = hash_text(event.hash);
    out["size"] = event.size;
  }
  switch (event.kind) {
    case EventKind::kDevice:
      out["user"] = event.user;
      out["name"] = event.name;
      if (!event.must_show) out["must_show"] = false;
      break;
    case EventKind::kGroup:
    case EventKind::kLeft:
      out["to"] = event.to;
      out["users"] = event.users;
      break;
    case EventKind::kAck:
      out["id"] = to_text(event.id);
      out["grade"] = event.grade;
      out["copies"] = event.copies;
      if (event.acked_as != 0) out["as"] = event.acked_as;
      break;
    case EventKind::kRefused:
    case EventKind::kUnknown: out["why"] = event.why; break;
    case EventKind::kShown:
    case EventKind::kMoved:
    case EventKind::kVoid:
      out["by"] = hex(event.by.view());
      out["from"] = event.from;
      out["id"] = to_text(event.id);
      if (event.dot.n != 0) {
        out["dot"] = std::to_string(event.dot.writer.value) + ":" + std::to_string(event.dot.n);
      }
      if (event.strange_lane) out["strange"] = true;
      break;
    case EventKind::kRecall:
    case EventKind::kRecalled:
      out["by"] = hex(event.by.view());
      out["from"] = event.from;
      break;
    case EventKind::kRestart:
      if (event.forgot) out["forgot"] = true;
      break;
    default: break;
  }
  // A name that is no UTF-8 can only come from a broken node; the history still says that it came.
  return out.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<Event> decode(View line) {
  if (line.size() > kHistoryLineMax) {
    return Error{Errc::kCorrupt, "a line of over " + std::to_string(kHistoryLineMax) + " bytes"};
  }
  const Json json = Json::parse(line, nullptr, false);
  if (!json.is_object()) return Error{Errc::kCorrupt, "not a JSON object"};
  Event out;
  Fields in(json);
  if (json.contains("starling_history")) {
    if (const auto version = in.number("starling_history"); version != kHistoryVersion) {
      return Error{Errc::kUnsupported, "a history of version " + std::to_string(version) +
                                           "; this build reads " + std::to_string(kHistoryVersion)};
    }
    read_header(in, out);
  } else {
    const std::string kind = in.text("e");
    std::size_t at = 1;
    while (at < kEventNames.size() && kEventNames[at] != kind) ++at;
    if (at == kEventNames.size()) return Error{Errc::kCorrupt, "no such event: '" + kind + "'"};
    out.kind = static_cast<EventKind>(at);
    read_event(in, out);
  }
  if (!in.wrong().empty()) {
    return Error{Errc::kCorrupt, "the field '" + in.wrong() + "' is missing or wrong"};
  }
  return out;
}

Status HistoryWriter::open(const std::string& path) {
  path_ = path;
  out_.open(path, std::ios::binary | std::ios::trunc);
  if (!out_) return Error{Errc::kIo, "cannot write " + path + ": is the folder there?"};
  return ok_status();
}

void HistoryWriter::write(const Event& event) {
  if (out_.is_open()) out_ << encode(event) << '\n';
}

Status HistoryWriter::close() {
  if (!out_.is_open()) return ok_status();
  out_.close();
  if (!out_) return Error{Errc::kIo, "writing " + path_ + " failed: is the disk full?"};
  return ok_status();
}

}  // namespace starling::node::check
