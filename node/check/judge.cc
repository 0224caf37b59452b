// The end of a Checker: what only the whole shows.
#include <algorithm>
#include <unordered_set>

#include "node/check/checker.h"

namespace starling::node::check {
namespace {

constexpr std::string_view kFaultNames[kFaults] = {
    "lost",        "partly_shown", "twice",   "answered_twice", "sender_order", "total_order",
    "invented",    "altered",      "misplaced", "refused_shown", "dot_reused",
    "recalled_shown"};

}  // namespace

std::string_view name(Fault fault) { return kFaultNames[static_cast<std::size_t>(fault)]; }

int promise_of(Fault fault) {
  switch (fault) {
    case Fault::kLost:
    case Fault::kPartlyShown: return 1;
    case Fault::kTwice:
    case Fault::kAnsweredTwice: return 2;
    case Fault::kSenderOrder: return 3;
    case Fault::kTotalOrder: return 4;
    case Fault::kDotReused: return 8;
    default: return 7;
  }
}

std::uint64_t Report::broken(int promise) const {
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < kFaults; ++i) {
    if (promise_of(static_cast<Fault>(i)) == promise) count += faults[i];
  }
  return count;
}

bool Report::passed() const {
  return cut_files == 0 && std::all_of(std::begin(faults), std::end(faults),
                                       [](std::uint64_t count) { return count == 0; });
}

class Checker::Judge {
 public:
  Judge(const Checker& checker, Report& report) : c_(checker), report_(report) {}

  void run() {
    std::vector<std::vector<MessageIndex>> several(c_.conversations_.size());
    for (const auto& [message, positions] : c_.positions_) {
      several[c_.lanes_[c_.messages_[message].lane].conversation].push_back(message);
    }
    for (std::size_t i = 0; i < c_.conversations_.size(); ++i) {
      for (const MessageIndex message : c_.conversations_[i].messages) {
        judge(c_.conversations_[i], message);
      }
      std::sort(several[i].begin(), several[i].end());
      order(c_.conversations_[i], several[i]);
    }
  }

 private:
  [[nodiscard]] bool declared(const Message& message) const {
    return c_.device_by_id_.contains(c_.lanes_[message.lane].by);
  }
  [[nodiscard]] bool is_sender(const Seat& seat, const Message& message) const {
    return c_.devices_[seat.device].id == c_.lanes_[message.lane].by;
  }
  [[nodiscard]] bool shows(const Seat& seat, MessageIndex index) const {
    const Message& message = c_.messages_[index];
    const bool shown = (message.place < seat.shown.size() && seat.shown[message.place]) ||
                       (message.outcome == Outcome::kAcked && is_sender(seat, message));
    return shown && !c_.voids_.contains({seat.device, index});
  }
  // A device of a file that is cut may have seen more than the file says; one whose file ended
  // early was not there for what others sent later.
  [[nodiscard]] bool owes(const Seat& seat, const Message& message) const {
    if (!c_.owes(seat)) return false;
    const std::uint32_t mine = c_.devices_[seat.device].file;
    const File& file = c_.files_[mine];
    if (!file.ended) return !c_.options_.partial;
    const auto sender = c_.device_by_id_.find(c_.lanes_[message.lane].by);
    if (c_.devices_[sender->second].file == mine) return true;
    return message.outcome == Outcome::kAcked &&
           c_.files_.front().started_ms + message.acked_ms + kHandOverMs <= file.end_ms;
  }
  void violate(Fault fault, const std::string& text, MessageIndex message) {
    c_.violate(report_, fault, text, message);
  }

  void judge(const Conversation& conversation, MessageIndex index) {
    const Message& message = c_.messages_[index];
    if (!declared(message)) {
      ++report_.foreign;
      if (c_.options_.closed) {
        violate(Fault::kInvented, c_.text(message) + " is of a device that no history knows", index);
      }
      return;
    }
    if (!message.offered) {
      violate(Fault::kInvented, c_.text(message) + " was never sent, but " +
                                    (message.heard ? "is shown" : "is answered"), index);
      return;
    }
    count(message);
    for (const Seat& seat : conversation.seats) {
      if (!shows(seat, index)) continue;
      if (!seat.reader) {
        violate(Fault::kMisplaced, c_.text(seat.device) + " shows " + c_.text(message) +
                                       ", which its user may not read", index);
      }
      if (message.outcome == Outcome::kRefused && !seat.left) {  // Who left is told of no void any more.
        violate(Fault::kRefusedShown,
                c_.text(seat.device) + " shows " + c_.text(message) + ", which was refused", index);
      }
      if (message.recalled && !seat.left && c_.owes(seat)) {
        violate(Fault::kRecalledShown,
                c_.text(seat.device) + " shows " + c_.text(message) + ", which was taken back", index);
      }
    }
    presence(conversation, index);
  }

  void count(const Message& message) {
    ++report_.sent;
    report_.recalled += message.recalled;
    switch (message.outcome) {
      case Outcome::kOpen: ++report_.open; break;
      case Outcome::kAcked: ++report_.acked; break;
      case Outcome::kWeak: ++report_.weak; break;
      case Outcome::kRefused: ++report_.refused; break;
      case Outcome::kUnknown: ++report_.unknown; break;
    }
  }

  void presence(const Conversation& conversation, MessageIndex index) {
    const Message& message = c_.messages_[index];
    if (message.outcome == Outcome::kWeak) return;
    if (message.recalled) return;
    const bool acked = c_.is_due(message);
    const Seat* with = nullptr;
    for (const Seat& seat : conversation.seats) {
      if (owes(seat, message) && shows(seat, index)) with = &seat;
    }
    if (!acked && with == nullptr) return;
    for (const Seat& seat : conversation.seats) {
      if (!owes(seat, message)) continue;
      const bool has = shows(seat, index);
      report_.expected += acked;
      report_.delivered += acked && has;
      if (has) continue;
      if (acked) {
        violate(Fault::kLost, c_.text(seat.device) + " lacks " + c_.text(message) +
                                  ", which was acknowledged", index);
      } else if (!is_sender(seat, message)) {
        violate(Fault::kPartlyShown, c_.text(seat.device) + " lacks " + c_.text(message) +
                                         ", which " + c_.text(with->device) + " shows", index);
      }
    }
  }

  void order(const Conversation& conversation, const std::vector<MessageIndex>& several) {
    std::vector<MessageIndex> list;
    for (const MessageIndex message : conversation.messages) {
      const Message& m = c_.messages_[message];
      if (!m.id.is_zero() && m.outcome != Outcome::kRefused) list.push_back(message);
    }
    std::sort(list.begin(), list.end(), [this](MessageIndex a, MessageIndex b) {
      return std::tie(c_.messages_[a].id, a) < std::tie(c_.messages_[b].id, b);
    });
    std::unordered_map<LaneIndex, std::uint64_t> last;
    std::unordered_map<MessageIndex, std::size_t> rank;  // Needed where positions differ only.
    for (std::size_t i = 0; i < list.size(); ++i) {
      const Message& message = c_.messages_[list[i]];
      auto& highest = last[message.lane];
      // A void keeps from devices the smaller position of a copy that comes later, which moved the others of its lane.
      const bool settled = !message.recalled && !message.voided;
      if (settled && message.number < highest) {
        violate(Fault::kSenderOrder, "in " + conversation.name + " " + c_.text(message) +
                                         " stands behind number " + std::to_string(highest) +
                                         " of the same sender", list[i]);
      }
      highest = std::max(highest, message.number);
      if (i > 0 && c_.messages_[list[i - 1]].id == message.id) {
        violate(Fault::kTotalOrder, c_.text(message) + " and " +
                                        c_.text(c_.messages_[list[i - 1]]) +
                                        " stand at one position", list[i]);
      }
      if (!several.empty()) rank.emplace(list[i], i);
    }
    if (!several.empty()) orders_of_devices(conversation, several, list, rank);
  }

  [[nodiscard]] EntryId position(DeviceIndex device, MessageIndex message) const {
    const auto positions = c_.positions_.find(message);
    if (positions == c_.positions_.end()) return c_.messages_[message].id;
    const auto later = positions->second.later.find(device);
    return later == positions->second.later.end() ? positions->second.first : later->second;
  }

  // A device that heard of fewer positions than others may show another order.
  void orders_of_devices(const Conversation& conversation, const std::vector<MessageIndex>& several,
                         const std::vector<MessageIndex>& list,
                         const std::unordered_map<MessageIndex, std::size_t>& rank) {
    std::unordered_set<MessageIndex> differing;
    for (const Seat& seat : conversation.seats) {
      bool differs = false;
      for (const MessageIndex message : several) {
        if (!shows(seat, message)) continue;
        if (position(seat.device, message) == c_.messages_[message].id) continue;
        differs = true;
        differing.insert(message);
      }
      if (differs && c_.owes(seat)) order_of(conversation, seat, list, rank);
    }
    report_.moved += differing.size();
  }

  void order_of(const Conversation& conversation, const Seat& seat,
                const std::vector<MessageIndex>& list,
                const std::unordered_map<MessageIndex, std::size_t>& rank) {
    std::vector<std::pair<EntryId, MessageIndex>> mine;
    for (const MessageIndex message : list) {
      if (shows(seat, message)) mine.emplace_back(position(seat.device, message), message);
    }
    std::sort(mine.begin(), mine.end());
    for (std::size_t i = 1; i < mine.size(); ++i) {
      if (rank.at(mine[i - 1].second) < rank.at(mine[i].second)) continue;
      violate(Fault::kTotalOrder,
              c_.text(seat.device) + " in " + conversation.name + " shows " +
                  c_.text(c_.messages_[mine[i].second]) + " behind " +
                  c_.text(c_.messages_[mine[i - 1].second]) + ", others the other way round",
              mine[i].second);
    }
  }

  const Checker& c_;
  Report& report_;
};

Report Checker::report() const {
  Report report = running_;
  report.files = files_.size();
  report.devices = devices_.size();
  report.conversations = conversations_.size();
  if (!options_.partial) {
    report.cut_files = static_cast<std::uint64_t>(std::count_if(
        files_.begin(), files_.end(), [](const File& file) { return !file.ended; }));
  }
  Judge(*this, report).run();
  std::stable_sort(report.violations.begin(), report.violations.end(),
                   [](const Violation& a, const Violation& b) { return a.fault < b.fault; });
  return report;
}

}  // namespace starling::node::check
