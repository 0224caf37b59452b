// ReplayProof: compares what every device has with what was sent and acknowledged.
//
// The expectation comes from the senders alone: a device that follows a conversation must have
// every acknowledged message of it, exactly once, with the same bytes, in the order of the
// positions (entry ids); that order must keep each sender's own order and be the same on every
// device. Messages of devices that are not part of this run are counted and left alone. A message
// that came later than one that stands behind it (a late insert after a failover) is counted, not a
// fault.
// Thread: value type, pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "node/session/protocol.h"
#include "storage/ids.h"

namespace starling::node::cli {

class ReplayProof {
 public:
  using Conversation = std::uint32_t;
  using Device = std::uint32_t;
  using Message = std::uint32_t;

  struct Report {
    bool pass = false;
    std::uint64_t sent = 0;
    std::uint64_t acked = 0;
    std::uint64_t refused = 0;
    std::uint64_t expected = 0;      // Deliveries: acked messages x devices that follow.
    std::uint64_t delivered = 0;     // Of those.
    std::uint64_t unacknowledged = 0;
    std::uint64_t missing = 0;
    std::uint64_t duplicate = 0;
    std::uint64_t altered = 0;
    std::uint64_t misplaced = 0;     // On a device that does not follow the conversation.
    std::uint64_t invented = 0;      // From one of our devices, but never sent.
    std::uint64_t sender_order = 0;
    std::uint64_t total_order = 0;
    std::uint64_t late_inserts = 0;  // For information.
    std::uint64_t repositioned = 0;  // Messages whose position differs between devices.
    std::uint64_t foreign = 0;       // Of other runs.
    std::vector<std::string> first;  // The first discrepancies, as sentences.
  };

  Conversation add_conversation(std::string name);
  // A device that must get what is said in the conversations it follows. `id` is the zero id for
  // one that never sends.
  Device add_device(std::string name, const DeviceId& id);
  void follow(Device device, Conversation conversation);

  // REQUIRES: (sender, to) numbers rise by one, as in a lane.
  Message sent(Conversation conversation, const DeviceId& sender, const std::string& from,
               const std::string& to, std::string body);
  void acked(Message message);
  void refused(Message message);

  // A device got a message, or the same one again under another position (below). The message,
  // when it is new and expected.
  std::optional<Message> received(Device device, const protocol::EntryMessage& entry);
  void repositioned(Device device, const protocol::EntryMessage& entry);

  // Deliveries that acknowledged messages still lack; cheap.
  [[nodiscard]] std::uint64_t expected() const { return expected_; }
  [[nodiscard]] std::uint64_t delivered() const { return delivered_; }
  [[nodiscard]] Report check(std::size_t first_max = 10) const;

 private:
  enum class Outcome : std::uint8_t { kOpen, kAcked, kRefused };
  struct SentMessage {
    MessageKey key;
    Conversation conversation = 0;
    Outcome outcome = Outcome::kOpen;
    std::string from;
    std::string to;
    std::string body;
  };
  struct Record {
    Message message = 0;
    EntryId id;
  };
  struct DeviceRecords {
    std::string name;
    std::vector<Conversation> follows;
    std::vector<Record> records;              // In order of arrival.
    std::unordered_map<Message, std::uint32_t> have;  // -> times
    std::unordered_map<Conversation, EntryId> highest;
  };
  struct ConversationState {
    std::string name;
    std::vector<Device> devices;
    std::vector<Message> messages;
  };
  class Checker;

  std::vector<ConversationState> conversations_;
  std::vector<DeviceRecords> devices_;
  std::vector<SentMessage> messages_;
  std::unordered_map<MessageKey, Message> by_key_;
  std::unordered_map<MessageKey, std::uint64_t> lanes_;  // seq 0 -> highest number
  std::unordered_set<DeviceId> senders_;
  std::uint64_t expected_ = 0;
  std::uint64_t delivered_ = 0;
  Report running_;  // What can be seen at once.
};

}  // namespace starling::node::cli
