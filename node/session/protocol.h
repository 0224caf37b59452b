// The client wire: what a client and the node that serves it say to each other.
//
// frame := size:u32le body[size]          body := one msgpack array [type, request, field ...]
//
// `request` is chosen by the client (from 1) and repeated in the answer; 0 marks an event. Fields are
// positional; new ones go to the end and unknown trailing ones are ignored. Text is msgpack str, raw
// bytes are bin. Addresses are "@alice" and "#ops". An entry id is its 26-character text.
// docs/client-protocol.md says the same in prose, with examples. Numbers are never reused.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "crypto/msgpack.h"
#include "storage/change.h"
#include "storage/version_vector.h"

namespace starling::node::protocol {

inline constexpr std::uint16_t kVersionMin = 1;
inline constexpr std::uint16_t kVersionMax = 1;
inline constexpr std::size_t kFrameHeaderSize = 4;
inline constexpr std::size_t kFrameSizeMax = 1 << 20;     // To the server. Above: kTooLarge, closed.
inline constexpr std::size_t kLoginFrameSizeMax = 8 << 10;  // The same, before the login.
inline constexpr std::size_t kFrameSizeToClientMax = 4 << 20;
static_assert(storage::kBodySizeMax + 1024 < kFrameSizeMax, "the largest send fits one frame");

enum class Type : std::uint8_t {
  // Client to server.
  kLogin = 1,
  kSync = 2,
  kSend = 3,
  kHistory = 4,
  kLane = 5,
  kGroupCreate = 6,
  kGroupAdd = 7,
  kGroupRemove = 8,
  kGroupMembers = 9,
  kGroups = 10,
  kPing = 11,
  kPassword = 12,
  kLogout = 13,
  kRecall = 14,
  // Server to client.
  kLoggedIn = 65,
  kError = 66,
  kAck = 67,
  kEntry = 68,    // event
  kSynced = 69,   // event: one mailbox has caught up
  kSyncDone = 70,
  kHistoryPage = 71,
  kLaneState = 72,
  kOk = 73,
  kMembers = 74,
  kGroupList = 75,
  kPong = 76,
  kJoined = 77,   // event: this device now follows a group
  kLeft = 78,     // event: and now no longer
  kGoAway = 79,   // event: this node drains; connect to another
  kLost = 80,     // event: a message of which no node has a copy any more
};

struct Head {
  std::uint8_t type = 0;
  std::uint64_t request = 0;
  FIELDS(type, request)
};

struct Login {
  std::uint8_t type = static_cast<std::uint8_t>(Type::kLogin);
  std::uint64_t request = 0;
  std::uint16_t version_min = kVersionMin;
  std::uint16_t version_max = kVersionMax;
  std::string client;    // "starling/0.1.0", for the log.
  std::string user;      // "@alice"
  std::string device;    // 1..64 bytes, chosen once by the device and kept.
  std::string password;  // One of password and token; the other is empty.
  std::string token;
  FIELDS(type, request, version_min, version_max, client, user, device, password, token)
};

struct LoggedIn {
  std::uint8_t type = static_cast<std::uint8_t>(Type::kLoggedIn);
  std::uint64_t request = 0;
  std::uint16_t version = 0;
  std::string node;           // Short id of the serving node.
  LineageId lineage;          // Cursors belong to it; when it changes, drop them.
  DeviceId device;            // First part of the keys of this device's messages.
  std::string token;          // Log in with it next time.
  std::int64_t token_expires_wall_ms = 0;
  std::uint32_t heartbeat_s = 0;  // Send something (a ping will do) at least this often.
  std::int64_t wall_ms = 0;
  FIELDS(type, request, version, node, lineage, device, token, token_expires_wall_ms,
                       heartbeat_s, wall_ms)
};

struct ErrorMessage {
  std::uint8_t type = static_cast<std::uint8_t>(Type::kError);
  std::uint64_t request = 0;
  std::uint8_t code = 0;          // Errc
  std::string name;               // "lane_gap"
  std::string text;               // For people.
  std::uint32_t retry_after_ms = 0;  // 0: no advice.
  FIELDS(type, request, code, name, text, retry_after_ms)
};

// Catches up on our own mailbox and every group we are in, then keeps following them.
struct Sync {
  struct Mailbox {
    std::string address;
    storage::VersionVector cursor;
    FIELDS(address, cursor)
  };
  std::uint8_t type = static_cast<std::uint8_t>(Type::kSync);
  std::uint64_t request = 0;
  LineageId lineage;               // Of the cursors; zero when there are none.
  std::vector<Mailbox> mailboxes;  // Absent ones start at the beginning of what is kept.
  FIELDS(type, request, lineage, mailboxes)
};

struct Synced {
  std::uint8_t type = static_cast<std::uint8_t>(Type::kSynced);
  std::uint64_t request = 0;
  std::string mailbox;
  storage::VersionVector cursor;  // Replaces the one the device keeps for this mailbox.
  FIELDS(type, request, mailbox, cursor)
};

inline constexpr std::uint8_t kSendRetry = 1;  // This number may have been sent before.
inline constexpr std::uint8_t kSendVoid = 2;   // Closes the number without content.
inline constexpr std::uint8_t kSendUnanswered = 4;  // With kSendRetry: what became of an earlier attempt is not known.
enum class Grade : std::uint8_t { kQuorum = 0, kAll = 1, kLocal = 2, kMemory = 3 };

struct Send {
  std::uint8_t type = static_cast<std::uint8_t>(Type::kSend);
  std::uint64_t request = 0;
  std::string to;
  std::uint64_t seq = 0;       // Number in the lane (this device, to): 1, 2, 3 ... none skipped.
  std::uint64_t acked = 0;     // Every number up to here is acknowledged.
  std::string floor;           // Highest entry id seen or acknowledged in this conversation, or "".
  std::uint8_t flags = 0;
  std::uint8_t grade = 0;
  std::uint8_t content = 1;    // EntryType
  Blob body;
  std::uint32_t lifetime_s = 0;  // Burn after; 0: as long as the cluster keeps history.
  FIELDS(type, request, to, seq, acked, floor, flags, grade, content, body, lifetime_s)
};

struct Ack {
  std::uint8_t type = static_cast<std::uint8_t>(Type::kAck);
  std::uint64_t request = 0;
  std::uint64_t seq = 0;
  std::string id;            // Position of the message.
  std::uint8_t copies = 0;   // Synced copies at the time of the ack.
  FIELDS(type, request, seq, id, copies)
};

// Takes a message back everywhere: asked by any device of the user who sent it. Answered by an Ack, of the message's
// number and position, also when it was taken back before.
struct Recall {
  std::uint8_t type = static_cast<std::uint8_t>(Type::kRecall);
  std::uint64_t request = 0;
  std::string to;            // It was sent to,
  DeviceId device;           // by this device,
  std::uint64_t seq = 0;     // under this number of its lane.
  FIELDS(type, request, to, device, seq)
};

// One entry, as an event or inside a history page (there without type and request meaning anything).
struct EntryMessage {
  std::uint8_t type = static_cast<std::uint8_t>(Type::kEntry);
  std::uint64_t request = 0;
  std::string mailbox;       // The mailbox that it was read from: yours, or the group's.
  std::uint64_t writer = 0;  // Cursor: raise `writer` to `n` in the cursor of `mailbox`,
  std::uint64_t n = 0;       // in one transaction with storing the message.
  std::string id;
  DeviceId device;           // Key: keep one message per (device, lane, seq).
  std::uint64_t lane = 0;
  std::uint64_t seq = 0;
  std::string from;
  std::string to;
  std::uint8_t content = 0;  // EntryType, or 0 for a void: given up or taken back; drop the message with this key.
  Blob body;
  std::uint64_t expires_wall_ms = 0;  // Then a device erases its copy, too. 0: never.
  FIELDS(type, request, mailbox, writer, n, id, device, lane, seq, from, to, content,
                       body, expires_wall_ms)
};

struct HistoryRequest {
  std::uint8_t type = static_cast<std::uint8_t>(Type::kHistory);
  std::uint64_t request = 0;
  std::string with;          // The group, or the other user.
  std::string before;        // Entry id, or "" for the newest.
  std::uint32_t limit = 50;  // At most 500.
  FIELDS(type, request, with, before, limit)
};

// A message that was written off because no copy of it was left, as an event or inside a history page. What it said, and
// who sent it, nobody knows any more. A device that has it keeps it; should a copy turn up, it comes as an Entry.
struct LostMessage {
  std::uint8_t type = static_cast<std::uint8_t>(Type::kLost);
  std::uint64_t request = 0;
  std::string mailbox;
  std::uint64_t writer = 0;  // Cursor: as in an Entry.
  std::uint64_t n = 0;
  std::string id;
  DeviceId device;           // Key: as in an Entry.
  std::uint64_t lane = 0;
  std::uint64_t seq = 0;
  MailboxId conversation;    // Id of the address of the group, or of the other user.
  FIELDS(type, request, mailbox, writer, n, id, device, lane, seq, conversation)
};

struct HistoryPage {
  std::uint8_t type = static_cast<std::uint8_t>(Type::kHistoryPage);
  std::uint64_t request = 0;
  std::vector<EntryMessage> entries;  // Newest first.
  bool more = false;
  std::vector<LostMessage> lost;      // That would stand among them. Newest first.
  FIELDS(type, request, entries, more, lost)
};

struct LaneRequest {
  std::uint8_t type = static_cast<std::uint8_t>(Type::kLane);
  std::uint64_t request = 0;
  std::string to;
  FIELDS(type, request, to)
};
struct LaneState {
  std::uint8_t type = static_cast<std::uint8_t>(Type::kLaneState);
  std::uint64_t request = 0;
  std::uint64_t high = 0;  // Highest number known of this device's lane.
  FIELDS(type, request, high)
};

// kGroupCreate: group. kGroupAdd, kGroupRemove: group, user. kGroupMembers: group, and the user after
// whom the page begins, or the version of the roster that the device has whole.
struct GroupRequest {
  std::uint8_t type = 0;
  std::uint64_t request = 0;
  std::string group;
  std::string user;
  std::uint8_t role = 0;     // 0 member, 1 moderator, 2 owner.
  std::uint32_t limit = 500;
  std::uint64_t nonce = 0;   // kGroupCreate: drawn once, the same in every retry of it; 0: no retries.
  std::uint64_t known = 0;   // kGroupMembers: if the roster is of this version, no member is sent again.
  FIELDS(type, request, group, user, role, limit, nonce, known)
};
struct MemberItem {
  std::string user;
  std::uint8_t role = 0;
  FIELDS(user, role)
};
struct Members {
  std::uint8_t type = static_cast<std::uint8_t>(Type::kMembers);
  std::uint64_t request = 0;
  std::vector<MemberItem> members;
  bool more = false;
  std::uint64_t version = 0;  // Of the whole roster, the same at every node; 0: it changes at the moment.
  FIELDS(type, request, members, more, version)
};
struct GroupList {
  std::uint8_t type = static_cast<std::uint8_t>(Type::kGroupList);
  std::uint64_t request = 0;
  std::vector<std::string> groups;
  FIELDS(type, request, groups)
};

struct PasswordChange {
  std::uint8_t type = static_cast<std::uint8_t>(Type::kPassword);
  std::uint64_t request = 0;
  std::string old_password;
  std::string new_password;
  FIELDS(type, request, old_password, new_password)
};

struct JoinedOrLeft {
  std::uint8_t type = static_cast<std::uint8_t>(Type::kJoined);
  std::uint64_t request = 0;
  std::string group;
  FIELDS(type, request, group)
};

struct GoAway {
  std::uint8_t type = static_cast<std::uint8_t>(Type::kGoAway);
  std::uint64_t request = 0;
  std::string text;
  std::vector<std::string> nodes;  // Client addresses to try.
  FIELDS(type, request, text, nodes)
};

// Length prefix and body. REQUIRES: the body fits the limits above.
template <class T>
Bytes frame(const T& message) {
  Bytes out(kFrameHeaderSize, '\0');
  pack_into(out, message);
  const auto size = static_cast<std::uint32_t>(out.size() - kFrameHeaderSize);
  for (int i = 0; i < 4; ++i) out[static_cast<std::size_t>(i)] = static_cast<char>(size >> (8 * i));
  return out;
}

// Cuts a byte stream into frame bodies. Pure; holds only the bytes of an unfinished frame.
class FrameReader {
 public:
  explicit FrameReader(std::size_t size_max) : size_max_(size_max) {}
  void set_size_max(std::size_t size_max) { size_max_ = size_max; }
  // Calls `on_body(View) -> bool` for every whole frame; false stops (the object may be gone then).
  // kTooLarge as soon as a header announces more than size_max.
  template <class OnBody>
  Status feed(View bytes, OnBody on_body) {
    if (!held_.empty()) {
      held_.append(bytes);
      bytes = held_;
    }
    std::size_t at = 0;
    while (bytes.size() - at >= kFrameHeaderSize) {
      const std::size_t size = BytesReader(bytes.substr(at)).u32le();
      if (size > size_max_) {
        return Error{Errc::kTooLarge, "a frame of " + std::to_string(size) + " bytes; the limit is " +
                                          std::to_string(size_max_)};
      }
      if (bytes.size() - at - kFrameHeaderSize < size) break;
      if (!on_body(bytes.substr(at + kFrameHeaderSize, size))) return ok_status();
      at += kFrameHeaderSize + size;
    }
    if (at == bytes.size()) {
      Bytes().swap(held_);  // An idle connection holds no buffer.
    } else if (held_.empty()) {
      held_.assign(bytes.substr(at));
    } else {
      held_.erase(0, at);
    }
    return ok_status();
  }

 private:
  std::size_t size_max_;
  Bytes held_;
};

}  // namespace starling::node::protocol
