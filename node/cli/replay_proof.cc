#include "node/cli/replay_proof.h"

#include <algorithm>
#include <cassert>
#include <map>

namespace starling::node::cli {
namespace {

constexpr std::size_t kFirstKept = 20;

std::string excerpt(const std::string& text) {
  return text.size() <= 40 ? text : text.substr(0, 40) + "...";
}

}  // namespace

ReplayProof::Conversation ReplayProof::add_conversation(std::string name) {
  conversations_.push_back({std::move(name), {}, {}});
  return static_cast<Conversation>(conversations_.size() - 1);
}

ReplayProof::Device ReplayProof::add_device(std::string name, const DeviceId& id) {
  DeviceRecords device;
  device.name = std::move(name);
  devices_.push_back(std::move(device));
  if (!id.is_zero()) senders_.insert(id);
  return static_cast<Device>(devices_.size() - 1);
}

void ReplayProof::follow(Device device, Conversation conversation) {
  auto& follows = devices_[device].follows;
  if (std::find(follows.begin(), follows.end(), conversation) != follows.end()) return;
  follows.push_back(conversation);
  conversations_[conversation].devices.push_back(device);
  for (const Message message : conversations_[conversation].messages) {
    if (messages_[message].outcome == Outcome::kAcked) ++expected_;
  }
}

ReplayProof::Message ReplayProof::sent(Conversation conversation, const DeviceId& sender,
                                       const std::string& from, const std::string& to,
                                       std::string body) {
  const auto message = static_cast<Message>(messages_.size());
  MessageKey key{sender, lane_to(mailbox_of(to)), 0};
  key.seq = ++lanes_[key];
  by_key_.emplace(key, message);
  messages_.push_back({key, conversation, Outcome::kOpen, from, to, std::move(body)});
  conversations_[conversation].messages.push_back(message);
  return message;
}

void ReplayProof::acked(Message message) {
  auto& item = messages_[message];
  assert(item.outcome == Outcome::kOpen);
  item.outcome = Outcome::kAcked;
  expected_ += conversations_[item.conversation].devices.size();
}

void ReplayProof::refused(Message message) {
  auto& item = messages_[message];
  item.outcome = Outcome::kRefused;
  // A void takes back what was pushed before the refusal.
  for (const Device device : conversations_[item.conversation].devices) {
    delivered_ -= devices_[device].have.contains(message) ? 1 : 0;
  }
}

std::optional<ReplayProof::Message> ReplayProof::received(Device device,
                                                          const protocol::EntryMessage& entry) {
  auto& to = devices_[device];
  const auto note = [this, &to](std::uint64_t& counter, const std::string& what) {
    ++counter;
    if (running_.first.size() < kFirstKept) running_.first.push_back(to.name + " " + what);
  };
  const auto it = by_key_.find({entry.device, entry.lane, entry.seq});
  if (it == by_key_.end()) {
    if (!senders_.contains(entry.device)) {
      ++running_.foreign;
    } else {
      note(running_.invented, "got a message of " + entry.from + " that was never sent: \"" +
                                  excerpt(entry.body.data) + "\"");
    }
    return std::nullopt;
  }
  const SentMessage& message = messages_[it->second];
  const auto& conversation = conversations_[message.conversation];
  const std::string what = "message " + std::to_string(message.key.seq) + " of " + message.from +
                           " to " + message.to;
  if (++to.have[it->second] > 1) {
    note(running_.duplicate, "got " + what + " again");
    return std::nullopt;
  }
  if (std::find(to.follows.begin(), to.follows.end(), message.conversation) == to.follows.end()) {
    note(running_.misplaced, "got " + what + ", but does not follow " + conversation.name);
    return std::nullopt;
  }
  if (entry.body.data != message.body || entry.from != message.from || entry.to != message.to) {
    note(running_.altered, "got " + what + " altered: \"" + excerpt(entry.body.data) + "\"");
  }
  const auto id = parse_entry_id(entry.id);
  if (!id) note(running_.altered, "got " + what + " with the broken id '" + entry.id + "'");
  const EntryId position = id ? *id : EntryId{};
  auto& highest = to.highest[message.conversation];
  if (position < highest) ++running_.late_inserts;
  highest = std::max(highest, position);
  to.records.push_back({it->second, position});
  if (message.outcome != Outcome::kRefused) ++delivered_;
  return it->second;
}

void ReplayProof::repositioned(Device device, const protocol::EntryMessage& entry) {
  const auto message = by_key_.find({entry.device, entry.lane, entry.seq});
  const auto id = parse_entry_id(entry.id);
  if (message == by_key_.end() || !id) return;
  for (auto& record : devices_[device].records) {
    if (record.message == message->second) record.id = std::min(record.id, *id);
  }
}

// One pass over the conversations; adds to the report what only the whole shows.
class ReplayProof::Checker {
 public:
  Checker(const ReplayProof& proof, Report& report, std::size_t first_max)
      : proof_(proof), report_(report), first_max_(first_max) {}

  void run() {
    // Records of each device, split by conversation and sorted by position.
    std::vector<std::map<Device, std::vector<Record>>> split(proof_.conversations_.size());
    for (Device d = 0; d < proof_.devices_.size(); ++d) {
      for (const auto& record : proof_.devices_[d].records) {
        split[proof_.messages_[record.message].conversation][d].push_back(record);
      }
    }
    for (Conversation c = 0; c < proof_.conversations_.size(); ++c) {
      for (auto& [device, records] : split[c]) {
        std::sort(records.begin(), records.end(),
                  [](const Record& a, const Record& b) { return a.id < b.id; });
      }
      check_presence(c);
      check_positions(c, split[c]);
    }
  }

 private:
  using ByDevice = std::map<Device, std::vector<Record>>;

  void note(std::uint64_t& counter, const std::string& what) {
    ++counter;
    if (report_.first.size() < first_max_) report_.first.push_back(what);
  }
  [[nodiscard]] std::string describe(Message message) const {
    const auto& m = proof_.messages_[message];
    return "message " + std::to_string(m.key.seq) + " of " + m.from + " to " + m.to + " (\"" +
           excerpt(m.body) + "\")";
  }

  void check_presence(Conversation c) {
    const auto& conversation = proof_.conversations_[c];
    for (const Message message : conversation.messages) {
      switch (proof_.messages_[message].outcome) {
        case Outcome::kRefused: ++report_.refused; continue;
        case Outcome::kOpen:
          note(report_.unacknowledged, describe(message) + " was never acknowledged");
          continue;
        case Outcome::kAcked: ++report_.acked;
      }
      report_.expected += conversation.devices.size();
      for (const Device device : conversation.devices) {
        if (proof_.devices_[device].have.contains(message)) {
          ++report_.delivered;
        } else {
          note(report_.missing, proof_.devices_[device].name + " lacks " + describe(message));
        }
      }
    }
  }

  void check_positions(Conversation c, const ByDevice& split) {
    // The position of a message is the smallest that any device knows.
    std::unordered_map<Message, EntryId> positions;
    std::unordered_set<Message> moved;
    for (const auto& [device, records] : split) {
      for (const auto& record : records) {
        const auto [it, fresh] = positions.emplace(record.message, record.id);
        if (fresh || it->second == record.id) continue;
        it->second = std::min(it->second, record.id);
        moved.insert(record.message);
      }
    }
    report_.repositioned += moved.size();
    for (const auto& [device, records] : split) {
      check_order(c, device, records, positions);
    }
  }

  void check_order(Conversation c, Device device, const std::vector<Record>& records,
                   const std::unordered_map<Message, EntryId>& positions) {
    const std::string& name = proof_.devices_[device].name;
    const std::string& where = proof_.conversations_[c].name;
    std::unordered_map<MessageKey, std::uint64_t> last;  // seq 0 of a lane -> highest number
    const Record* before = nullptr;
    for (const auto& record : records) {
      MessageKey lane = proof_.messages_[record.message].key;
      const std::uint64_t seq = std::exchange(lane.seq, 0);
      auto& highest = last[lane];
      if (seq < highest) {
        note(report_.sender_order,
             name + " in " + where + " has " + describe(record.message) + " behind number " +
                 std::to_string(highest) + " of the same sender");
      }
      highest = std::max(highest, seq);
      if (before != nullptr &&
          !(positions.at(before->message) < positions.at(record.message))) {
        note(report_.total_order, name + " in " + where + " has " + describe(record.message) +
                                      " behind " + describe(before->message) +
                                      ", others the other way round");
      }
      before = &record;
    }
  }

  const ReplayProof& proof_;
  Report& report_;
  std::size_t first_max_;
};

ReplayProof::Report ReplayProof::check(std::size_t first_max) const {
  Report report = running_;
  if (report.first.size() > first_max) report.first.resize(first_max);
  report.sent = messages_.size();
  Checker(*this, report, first_max).run();
  report.pass = report.unacknowledged == 0 && report.missing == 0 && report.duplicate == 0 &&
                report.altered == 0 && report.misplaced == 0 && report.invented == 0 &&
                report.sender_order == 0 && report.total_order == 0 && report.acked > 0;
  return report;
}

}  // namespace starling::node::cli
