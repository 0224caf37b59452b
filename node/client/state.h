// ClientState: what one device must remember between two runs; the rest the cluster knows.
//
// Cursors are stored together with the keys of the messages they cover, and a send is stored before
// its number is used for the first time: an owner that persists the state inside the callbacks of
// Client keeps both promises over a crash. One that loses it says so by `lanes_known = false`, and
// the client asks the cluster for its numbers.
// Thread: value type.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "node/client/key_index.h"
#include "storage/version_vector.h"

namespace starling::node {

inline constexpr std::uint32_t kClientStateFormat = 1;

// A send that is not acknowledged yet, or is ahead of one that is not. Its number follows from its place in
// the lane.
struct SavedSend {
  Blob body;
  std::uint8_t content = 1;
  std::uint8_t grade = 0;
  std::uint8_t flags = 0;  // protocol::kSendRetry, kSendVoid
  std::uint32_t lifetime_s = 0;
  bool closed = false;     // Acknowledged, so its body is gone: never sent again.
  std::uint8_t refusal = 0;  // An Errc: why, where that is still to be told.
  std::string reason;
  FIELDS(body, content, grade, flags, lifetime_s, closed, refusal, reason)
};

struct SavedLane {
  std::string to;
  std::uint64_t acked = 0;       // Numbers 1..acked are closed.
  bool known = true;             // False: ask the cluster before giving numbers.
  std::string floor;             // Highest entry id seen or acknowledged in the conversation.
  std::vector<SavedSend> sends;  // Numbers acked+1, acked+2, ...
  FIELDS(to, acked, known, floor, sends)
};

struct SavedCursor {
  std::string mailbox;
  storage::VersionVector cursor;
  FIELDS(mailbox, cursor)
};

struct ClientState {
  std::uint32_t format = kClientStateFormat;
  std::string user;    // "@alice"
  std::string device;  // Name chosen by the device.
  std::string token;
  LineageId lineage;         // Of the cursors.
  bool lanes_known = true;   // A lane that is not listed was never used.
  std::vector<SavedCursor> cursors;
  std::vector<SavedLane> lanes;
  std::vector<KeyIndex::Row> seen;
  FIELDS(format, user, device, token, lineage, lanes_known, cursors, lanes, seen)
};

}  // namespace starling::node
