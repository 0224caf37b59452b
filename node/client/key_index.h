// KeyIndex: which messages a device has, and where they stand.
//
// The identity of a message is its key; an entry id is only a position. So of two copies with one
// key the device keeps one, at the smaller of the two ids, and a void beats a content whichever
// comes first (hazards F7, F8).
// The numbers of a lane have no gaps, so what was seen of one is nearly always a single interval:
// the index costs one entry per (device, lane) that ever wrote to us. Positions are kept for the
// newest numbers of each lane; an older message stays where it was shown.
// Thread: value type.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "crypto/msgpack.h"
#include "storage/ids.h"

namespace starling::node {

inline constexpr std::size_t kLanePositionsMax = 1'024;  // 24 bytes each.

// What an entry means to a device that has heard others before.
enum class Heard : std::uint8_t {
  kNew,     // A message that it did not have.
  kMoved,   // One that it has, at a smaller id than before.
  kVoided,  // One that it has was given up, or taken back, by its sender.
  kKnown,   // Nothing to tell: a further copy, or of a message that is void and was never shown.
};

class KeyIndex {
 public:
  Heard hear(const MessageKey& key, const EntryId& id, bool is_void);
  // A message of this device is acknowledged, so it is shown here, whether its copy comes or not. False: it was taken
  // back meanwhile.
  bool acknowledge(const MessageKey& key);
  [[nodiscard]] bool contains(const MessageKey& key) const;  // As a content or as a void.
  [[nodiscard]] std::size_t intervals() const;

  struct Interval {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    FIELDS(first, last)
  };
  struct Position {
    std::uint64_t seq = 0;
    EntryId id;  // The smallest.
    FIELDS(seq, id)
  };
  // What is known of one lane; each list is sorted, intervals lie apart.
  struct Row {
    DeviceId device;
    std::uint64_t lane = 0;
    std::vector<Interval> heard;
    std::vector<Interval> voids;  // Of those.
    std::vector<Position> positions;
    std::vector<Interval> acked;  // Of this device's own lanes.
    FIELDS(device, lane, heard, voids, positions, acked)
  };
  // Sorted, so that equal indexes have equal bytes.
  [[nodiscard]] std::vector<Row> rows() const;
  static KeyIndex from(std::vector<Row> rows);

 private:
  struct Lane {
    DeviceId device;
    std::uint64_t lane = 0;
    friend bool operator==(const Lane&, const Lane&) = default;
  };
  struct LaneHash {
    std::size_t operator()(const Lane& l) const noexcept {
      return std::hash<std::string_view>{}(l.device.view()) ^ (l.lane * 0x9E3779B97F4A7C15ULL);
    }
  };
  std::unordered_map<Lane, Row, LaneHash> lanes_;
};

}  // namespace starling::node
