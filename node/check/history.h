// History: what the clients of a run did and saw, as lines of JSON.
//
// A file is a header and then one event a line, in the order in which they happened:
//
//   {"starling_history":1,"cluster":LINEAGE,"by":"replay","started_ms":N}
//   {"e":"device","d":0,"user":"@alice","name":"phone"}   "must_show":false: it does not follow
//   {"e":"group","to":"#ops","users":["@alice","@bob"]}   several lines of one group add up
//   {"e":"left","to":"#ops","users":["@carol"]}           were in it for a while, so may show what was sent meanwhile
//                                                         and owe nothing; stronger than any "group", wherever it stands
//   {"e":"send","t":US,"d":0,"to":"#ops","n":7,"hash":HEX,"size":100}
//   {"e":"ack","t":US,"d":0,"to":"#ops","n":7,"id":ID,"grade":"quorum","copies":2}
//   {"e":"refused","t":US,"d":0,"to":"#ops","n":7,"why":"denied"}      never to be shown
//   {"e":"unknown","t":US,"d":0,"to":"#ops","n":7,"why":"timeout"}     may have happened
//   {"e":"shown","t":US,"d":1,"by":DEVICE,"from":"@alice","to":"#ops","n":7,"id":ID,"hash":HEX,
//    "size":100,"dot":"WRITER:N"}
//   {"e":"moved",...as shown}  a message that the device has stands at this id from now on
//   {"e":"void",...as shown}   ... was taken back by its sender
//   {"e":"recall","t":US,"d":1,"by":DEVICE,"from":"@alice","to":"#ops","n":7}   is asked to be taken back,
//   {"e":"recalled",...as recall}                                               and is
//   {"e":"restart","t":US,"d":1}                          "forgot":true: with an empty memory
//   {"e":"end","t":US}         the run waited for everything that was due; without it the file is cut
//
// "d" is a device of this file, "n" the number in the lane of (device, to), "t" microseconds since
// the header's "started_ms". A device declared in any file owes everything that its user may read.
// Fields and events are never renamed; a reader refuses versions and events that it does not know.
// Thread: value types; a HistoryWriter belongs to one thread.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "crypto/result.h"
#include "storage/ids.h"

namespace starling::node::check {

inline constexpr int kHistoryVersion = 1;
inline constexpr std::size_t kHistoryLineMax = 4u << 20;  // A group of 50,000 names fits.

enum class EventKind : std::uint8_t {
  kHeader, kDevice, kGroup, kSend, kAck, kRefused, kUnknown, kShown, kMoved, kVoid, kRestart, kEnd,
  kLeft, kRecall, kRecalled
};

struct Event {
  EventKind kind = EventKind::kEnd;
  std::int64_t t = 0;            // Microseconds since started_ms.
  std::uint32_t device = 0;      // That it happened on.
  std::string to;                // Address of the message; of kGroup and kLeft, the group.
  std::uint64_t number = 0;
  std::string why;               // kRefused, kUnknown: name of the error.

  // kSend, kShown, kMoved, kVoid.
  std::uint64_t hash = 0;        // XXH3 of the body.
  std::uint64_t size = 0;
  // kAck, kShown, kMoved, kVoid.
  EntryId id;
  // kAck.
  std::string grade;             // "quorum", "all", "local", "memory".
  std::uint8_t copies = 0;
  std::uint64_t acked_as = 0;    // The number that the ack names; 0: the same.
  // kShown, kMoved, kVoid, kRecall, kRecalled.
  DeviceId by;
  std::string from;
  bool strange_lane = false;     // The key's lane is not the one that leads to `to`.
  Dot dot;                       // Zero: not recorded.
  // kDevice, kRestart.
  std::string user;
  std::string name;
  bool must_show = true;
  bool forgot = false;
  // kGroup, kLeft.
  std::vector<std::string> users;
  // kHeader.
  std::string cluster;
  std::string recorder;
  std::int64_t started_ms = 0;
};

std::uint64_t body_hash(View body);
std::string hash_text(std::uint64_t hash);  // 16 hex digits.

std::string encode(const Event& event);     // Without the newline.
// kUnsupported: a later version. kCorrupt: anything else that no recorder writes.
Result<Event> decode(View line);

// Events to a file.
class HistoryWriter {
 public:
  Status open(const std::string& path);
  void write(const Event& event);
  // Everything is in the file, or the first error.
  Status close();

 private:
  std::string path_;
  std::ofstream out_;
};

}  // namespace starling::node::check
