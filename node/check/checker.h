// Checker: judges what the clients of a run did and saw, event by event, against the promises.
//
// A device's view is what its application shows: the messages that came, less those a void took
// back, plus its own sends acknowledged at grade quorum or all. The promises, by their numbers in docs/architecture.md:
//   1  what was acknowledged at grade quorum or all is in the view of every device of every reader,
//      and what one device shows of a message, all show. A device owes what its own file sent, and
//      of other files what was acknowledged kHandOverMs before the end of its own;
//   2  a device shows a message once; a send has one answer;
//   3  in the order of positions, a sender's numbers rise. What was voided stands behind nothing: nobody is told any more
//      that a smaller position of it was found;
//   4  all devices have one order of positions. The position of a message on a device is the
//      smallest id that the device heard for it;
//   7  what is shown was sent, so, by that device, to that reader; nothing refused, or taken back by its sender's user,
//      stays shown, and nobody else takes it back;
//   8  a dot of a mailbox is one change.
// A weaker grade promises nothing, not even the position that its acknowledgement names: what was lost with the node
// that gave it may come again at another one.
// Who left a group may show what it shows, and owes nothing of it.
// What its user asked to take back, without an answer, may be shown by all or by none.
// Legal: a message without an answer that appears, or not; one that takes its place above ones
// already shown (a late insert); a second position; messages of devices that no file declares,
// unless the world is said to be closed.
// Memory: about 150 bytes a message, one bit a delivery; the limits below end a history with
// kTooLarge. 10 million events stay under 1 GB.
// Thread: value type, pure. Files may be fed in any order: what is said twice is said once.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "node/check/history.h"

namespace starling::node::check {

inline constexpr std::size_t kMessagesMax = 5'000'000;
inline constexpr std::size_t kDotsMax = 8'000'000;
inline constexpr std::size_t kDevicesMax = 1'000'000;
inline constexpr std::size_t kConversationsMax = 1'000'000;
inline constexpr std::size_t kSeatsMax = 4'000'000;  // A device in a conversation.
inline constexpr std::int64_t kHandOverMs = 10'000;
inline constexpr std::size_t kViolationsKept = 50;   // Of each fault; the rest is counted.

enum class Fault : std::uint8_t {
  kLost,          // Acknowledged, and a device lacks it.
  kPartlyShown,   // Some devices show it, others do not.
  kTwice,         // One message twice on a device.
  kAnsweredTwice,
  kSenderOrder,
  kTotalOrder,
  kInvented,      // Nobody sent it.
  kAltered,       // Other content, sender, address or number than was sent.
  kMisplaced,     // On a device of somebody who may not read it.
  kRefusedShown,
  kDotReused,
  kRecalledShown,
};
inline constexpr std::size_t kFaults = 12;
std::string_view name(Fault fault);       // "lost"
int promise_of(Fault fault);              // 1 .. 8

// A message as a history names it.
struct MessageName {
  DeviceId by;
  std::string to;
  std::uint64_t number = 0;
  friend auto operator<=>(const MessageName&, const MessageName&) = default;
};

struct Violation {
  Fault fault = Fault::kLost;
  std::string text;      // One sentence.
  MessageName message;
  std::uint64_t hash = 0;  // Of its body, when known.
};

struct Report {
  std::uint64_t events = 0, files = 0, cut_files = 0;
  std::uint64_t devices = 0, conversations = 0, restarts = 0;
  std::uint64_t sent = 0, acked = 0, refused = 0, unknown = 0, open = 0;
  std::uint64_t recalled = 0;       // Taken back, of those.
  std::uint64_t weak = 0;           // Acked at a grade that may lose; not in `acked`.
  std::uint64_t expected = 0;       // Acked messages x devices that owe them.
  std::uint64_t delivered = 0;      // Of those.
  std::uint64_t shown = 0;          // Events.
  std::uint64_t late_inserts = 0, moved = 0, foreign = 0;
  std::uint64_t faults[kFaults] = {};
  std::vector<Violation> violations;  // By fault, at most kViolationsKept each.

  [[nodiscard]] std::uint64_t broken(int promise) const;
  [[nodiscard]] bool passed() const;  // No faults.
};

struct CheckerOptions {
  bool closed = false;    // Nobody else writes on this cluster: what is foreign is invented.
  bool partial = false;   // A cut file is no error: its devices owe nothing.
};

class Checker {
 public:
  explicit Checker(CheckerOptions options = {}) : options_(options) {}

  // kCorrupt, kUnsupported: with the number of the line in its file. kForeign: another cluster.
  // kTooLarge: over a limit above. After an error the checker is of no more use.
  Status feed_line(View line);
  Status feed(const Event& event);

  // Deliveries that acknowledged messages need, and have, so far; cheap.
  [[nodiscard]] std::uint64_t expected() const { return expected_; }
  [[nodiscard]] std::uint64_t delivered() const { return delivered_; }

  // What is wrong, if this was all. May be asked again after more events.
  [[nodiscard]] Report report() const;

 private:
  using DeviceIndex = std::uint32_t;
  using ConversationIndex = std::uint32_t;
  using LaneIndex = std::uint32_t;
  using MessageIndex = std::uint32_t;
  using SeatIndex = std::uint32_t;
  enum class Outcome : std::uint8_t { kOpen, kAcked, kWeak, kRefused, kUnknown };

  struct Device {
    std::string user, name;
    DeviceId id;
    bool must_show = true;
    std::uint32_t file = 0;
  };
  struct Message {
    LaneIndex lane = 0;
    std::uint32_t place = 0;         // In its conversation.
    std::uint64_t number = 0;
    std::uint64_t hash = 0;
    std::uint32_t size = 0;
    std::int32_t acked_ms = 0;       // Since the start of the first file.
    Outcome outcome = Outcome::kOpen;
    bool offered = false;            // Its send is known.
    bool heard = false;              // `hash` and `size` are known.
    bool recalling = false;          // Its user asked to take it back,
    bool recalled = false;           // and it was.
    bool voided = false;             // A device was told of its void.
    EntryId id;                      // The smallest that anybody heard.
  };
  struct Seat {
    DeviceIndex device = 0;
    bool reader = false;             // Its user may read the conversation,
    bool left = false;               // and owes nothing: it was a reader for a while.
    std::vector<bool> shown;         // By place.
    EntryId highest;
  };
  struct Conversation {
    std::string name;
    std::vector<Seat> seats;
    std::unordered_map<DeviceIndex, SeatIndex> seat_of;
    std::vector<MessageIndex> messages;
  };
  struct Lane {
    DeviceId by;
    std::string from, to;
    ConversationIndex conversation = 0;
  };
  // Positions of a message that has several: those heard before the second one came had `first`.
  struct Positions {
    EntryId first;
    std::map<DeviceIndex, EntryId> later;
  };
  struct LaneMessage {
    LaneIndex lane = 0;
    std::uint64_t number = 0;
    friend bool operator==(const LaneMessage&, const LaneMessage&) = default;
  };
  struct MailboxDot {
    std::uint32_t mailbox = 0;
    Dot dot;
    friend bool operator==(const MailboxDot&, const MailboxDot&) = default;
  };
  struct Hash {
    std::size_t operator()(const LaneMessage& m) const noexcept {
      return m.lane * 0x9E3779B97F4A7C15ULL ^ m.number * 0xC2B2AE3D27D4EB4FULL;
    }
    std::size_t operator()(const MailboxDot& d) const noexcept {
      return std::hash<Dot>{}(d.dot) ^ d.mailbox * 0xC2B2AE3D27D4EB4FULL;
    }
  };
  using DeviceMessage = std::pair<DeviceIndex, MessageIndex>;
  class Judge;

  Status on_header(const Event& event);
  Status on_device(const Event& event);
  Status on_group(const Event& event);
  Status on_left(const Event& event);
  Status on_send(const Event& event, DeviceIndex device);
  Status on_answer(const Event& event, DeviceIndex device);
  Status on_entry(const Event& event, DeviceIndex device);
  Status on_recall(const Event& event, DeviceIndex device);
  void on_restart(const Event& event, DeviceIndex device);

  Result<LaneIndex> lane_of(const DeviceId& by, const std::string& from, const std::string& to);
  Result<ConversationIndex> conversation_of(const std::string& name);
  Result<MessageIndex> message_of(LaneIndex lane, std::uint64_t number);
  Status add_reader(ConversationIndex conversation, const std::string& user);
  Result<SeatIndex> seat_of(ConversationIndex conversation, DeviceIndex device, bool reader);
  Status note_dot(const Event& event, DeviceIndex device, MessageIndex message);
  void content(MessageIndex message, std::uint64_t hash, std::uint64_t size, DeviceIndex device);
  void show(ConversationIndex conversation, SeatIndex seat, MessageIndex message,
            const Event& event);
  void hear(MessageIndex message, DeviceIndex device, const EntryId& id, bool heard_before);
  void take_back(Seat& seat, MessageIndex message);
  // Acknowledged at a grade that lasts, and nobody asked to take it back: whoever reads it owes it.
  [[nodiscard]] static bool is_due(const Message& message) {
    return message.outcome == Outcome::kAcked && !message.recalling;
  }
  void count_message(MessageIndex message, int sign);
  void count_all(const Conversation& conversation, const Seat& seat, int sign);
  [[nodiscard]] bool has_acked(const Seat& seat, MessageIndex message) const;
  [[nodiscard]] bool owes(const Seat& seat) const;
  [[nodiscard]] Conversation& conversation_of(const Message& message) {
    return conversations_[lanes_[message.lane].conversation];
  }

  void violate(Report& report, Fault fault, const std::string& text, MessageIndex message) const;
  [[nodiscard]] std::string text(DeviceIndex device) const;
  [[nodiscard]] std::string text(const Message& message) const;

  const CheckerOptions options_;
  std::uint64_t line_ = 0;            // Of the file at hand.
  std::string cluster_;
  struct File {
    bool ended = false;
    std::int64_t started_ms = 0;
    std::int64_t end_ms = 0;
  };
  std::vector<File> files_;
  std::unordered_map<std::uint32_t, DeviceIndex> numbered_;  // Devices of the file at hand.

  std::vector<Device> devices_;
  std::unordered_map<DeviceId, DeviceIndex> device_by_id_;
  std::map<std::string, std::vector<DeviceIndex>> devices_of_;   // By user.
  std::map<std::string, std::vector<ConversationIndex>> reads_;  // By user.
  std::set<std::pair<ConversationIndex, std::string>> left_;     // Users.
  std::vector<Conversation> conversations_;
  std::map<std::string, ConversationIndex> conversation_by_name_;
  std::vector<Lane> lanes_;
  std::map<std::pair<DeviceId, std::string>, LaneIndex> lane_by_key_;
  std::vector<Message> messages_;
  std::unordered_map<LaneMessage, MessageIndex, Hash> message_by_key_;
  std::unordered_map<MessageIndex, Positions> positions_;
  std::map<DeviceMessage, bool> voids_;
  std::map<std::string, std::uint32_t> mailboxes_;
  std::unordered_map<MailboxDot, MessageIndex, Hash> dots_;
  std::size_t seats_ = 0;

  std::uint64_t expected_ = 0;
  std::uint64_t delivered_ = 0;
  Report running_;  // What can be seen at once.
};

}  // namespace starling::node::check
