#include "node/check/story.h"

#include <algorithm>
#include <cstdio>

namespace starling::node::check {
namespace {

std::string what(const Event& event, const std::string& device) {
  const std::string at = " at " + to_text(event.id);
  const std::string content = " content " + hash_text(event.hash) + ", " +
                              std::to_string(event.size) + " bytes";
  switch (event.kind) {
    case EventKind::kSend: return device + " sends it:" + content;
    case EventKind::kAck:
      return "acknowledged to " + device + " as " + event.grade + at + ", " +
             std::to_string(event.copies) + " copies";
    case EventKind::kRefused: return "refused to " + device + ": " + event.why;
    case EventKind::kUnknown: return "given up by " + device + ": " + event.why;
    case EventKind::kShown: return device + " shows it" + at + content;
    case EventKind::kMoved: return device + " moves it" + at;
    case EventKind::kVoid: return device + " drops it";
    case EventKind::kRecall: return device + " asks to take it back";
    case EventKind::kRecalled: return device + " has taken it back";
    default: return {};
  }
}

}  // namespace

Story::Story(const std::vector<MessageName>& messages) {
  for (const auto& message : messages) lines_[message];
}

void Story::feed(const Event& event) {
  if (event.kind == EventKind::kHeader) {
    started_us_ = event.started_ms * 1000;
    devices_.clear();
  }
  if (event.kind == EventKind::kDevice) {
    devices_[event.device] = {event.user + "/" + event.name,
                              device_of(mailbox_of(event.user), event.name)};
  }
  if (event.number == 0) return;
  const Device& device = devices_[event.device];
  const bool seen = event.kind >= EventKind::kShown;
  const auto at = lines_.find({seen ? event.by : device.id, event.to, event.number});
  if (at == lines_.end()) return;
  if (at->second.kept.size() >= kStoryLinesMax) {
    ++at->second.more;
  } else {
    at->second.kept.push_back({started_us_ + event.t, what(event, device.text)});
  }
}

std::vector<std::string> Story::of(const MessageName& message) const {
  std::vector<std::string> out;
  const auto found = lines_.find(message);
  if (found == lines_.end()) return out;
  auto kept = found->second.kept;
  std::stable_sort(kept.begin(), kept.end(),
                   [](const Line& a, const Line& b) { return a.us < b.us; });
  for (const auto& line : kept) {
    char time[32];
    std::snprintf(time, sizeof time, "%+12.6f s  ",
                  static_cast<double>(line.us - kept.front().us) / 1e6);
    out.push_back(time + line.text);
  }
  if (found->second.more > 0) {
    out.push_back("and " + std::to_string(found->second.more) + " more lines");
  }
  return out;
}

}  // namespace starling::node::check
