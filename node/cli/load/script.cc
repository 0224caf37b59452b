#include "node/cli/load/script.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <unordered_map>

#include <nlohmann/json.hpp>

#include "crypto/text.h"
#include "storage/ids.h"

namespace starling::node::cli {
namespace {

constexpr std::size_t kNickSizeMax = 60;

// Gives each name a number and an address.
class NameTable {
 public:
  NameTable(char sigil, std::vector<std::string>& addresses) : sigil_(sigil), addresses_(addresses) {}
  std::uint32_t of(const std::string& name) {
    const auto [it, fresh] = numbers_.emplace(name, static_cast<std::uint32_t>(addresses_.size()));
    if (fresh) addresses_.push_back(sigil_ + escape_name(name));
    return it->second;
  }
  [[nodiscard]] std::uint32_t find(const std::string& name) const {
    const auto it = numbers_.find(name);
    return it == numbers_.end() ? Line::kNobody : it->second;
  }

 private:
  char sigil_;
  std::vector<std::string>& addresses_;
  std::unordered_map<std::string, std::uint32_t> numbers_;
};

// The nick that `text` is addressed to, or "".
std::string addressee(const std::string& text) {
  const std::size_t end = text.find_first_of(":, ");
  if (end == std::string::npos || end == 0 || end > kNickSizeMax) return "";
  if (text[end] == ' ' || end + 1 >= text.size() || text[end + 1] != ' ') return "";
  return text.substr(0, end);
}

struct RawLine {
  double t;
  std::string room, from, text;
};

Result<RawLine> parse_line(const std::string& line, std::size_t number) {
  const auto object = nlohmann::json::parse(line, nullptr, false);
  const auto bad = [number](const char* why) {
    return Error{Errc::kInvalid, "line " + std::to_string(number) + " of the script " + why};
  };
  if (object.is_discarded() || !object.is_object()) return bad("is not a JSON object");
  for (const char* field : {"room", "from", "text"}) {
    if (!object.contains(field) || !object[field].is_string()) {
      return bad("needs the texts \"room\", \"from\" and \"text\"");
    }
  }
  if (!object.contains("t") || !object["t"].is_number()) return bad("needs the number \"t\"");
  RawLine raw{object["t"], object["room"], object["from"], object["text"]};
  if (raw.room.empty() || raw.from.empty()) return bad("has an empty name");
  return raw;
}

std::set<std::string> busiest(const std::vector<RawLine>& lines, std::size_t count) {
  std::map<std::string, std::size_t> sizes;
  for (const auto& line : lines) ++sizes[line.room];
  std::vector<std::pair<std::size_t, std::string>> order;
  for (const auto& [room, size] : sizes) order.emplace_back(size, room);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  std::set<std::string> chosen;
  for (std::size_t i = 0; i < std::min(count, order.size()); ++i) chosen.insert(order[i].second);
  return chosen;
}

}  // namespace

std::string escape_name(View name) {
  std::string out;
  View rest = name;
  while (!rest.empty()) {
    const View before = rest;
    const bool decoded = next_code_point(rest).has_value();
    const std::size_t size = decoded ? before.size() - rest.size() : 1;
    const View character = before.substr(0, size);
    if (!decoded) rest.remove_prefix(1);
    if (decoded && character != "~" && check_address("@" + std::string(character))) {
      out += character;
      continue;
    }
    for (const char byte : character) out += "~" + hex(View(&byte, 1));
  }
  return out;
}

std::string unescape_name(View name) {
  std::string out;
  for (std::size_t i = 0; i < name.size(); ++i) {
    const auto byte = name[i] == '~' && i + 2 < name.size() ? parse_hex(name.substr(i + 1, 2))
                                                                : Result<Bytes>(Bytes());
    if (name[i] != '~' || !byte || byte->size() != 1) {
      out += name[i];
      continue;
    }
    out += *byte;
    i += 2;
  }
  return out;
}

Result<Script> parse_script(View text, const ScriptLimits& limits) {
  std::vector<RawLine> raw;
  std::istringstream in{std::string(text)};
  std::string line;
  for (std::size_t number = 1; std::getline(in, line); ++number) {
    if (line.empty()) continue;
    TRY_ASSIGN(auto parsed, parse_line(line, number));
    raw.push_back(std::move(parsed));
  }
  std::stable_sort(raw.begin(), raw.end(),
                   [](const RawLine& a, const RawLine& b) { return a.t < b.t; });
  const auto rooms = busiest(raw, limits.rooms);
  Script script;
  NameTable room_names('#', script.rooms);
  NameTable speaker_names('@', script.speakers);
  std::set<std::pair<std::uint32_t, std::uint32_t>> spoke;  // (room, speaker)
  for (auto& item : raw) {
    if (script.lines.size() >= limits.lines) break;
    if (!rooms.contains(item.room)) continue;
    Line out;
    out.t = item.t;
    out.room = room_names.of(item.room);
    out.from = speaker_names.of(item.from);
    const std::string nick = addressee(item.text);
    const std::uint32_t other = nick.empty() ? Line::kNobody : speaker_names.find(nick);
    if (other != out.from && spoke.contains({out.room, other})) out.direct = other;
    spoke.insert({out.room, out.from});
    out.text = std::move(item.text);
    script.lines.push_back(std::move(out));
  }
  if (script.lines.empty()) return Error{Errc::kInvalid, "the script has no lines"};
  const double start = script.lines.front().t;
  for (auto& out : script.lines) out.t -= start;
  for (const auto* names : {&script.rooms, &script.speakers}) {
    for (const auto& address : *names) TRY(check_address(address));
  }
  return script;
}

Result<Script> load_script(const std::string& path, const ScriptLimits& limits) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return Error{Errc::kIo, "cannot read " + path + "; give the path of a .jsonl file"};
  std::ostringstream text;
  text << in.rdbuf();
  return parse_script(text.view(), limits);
}

}  // namespace starling::node::cli
