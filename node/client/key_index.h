// KeyIndex: which message keys a device has, so that it shows each message once (hazards F8).
//
// The numbers of a lane have no gaps, so what was seen of one is nearly always a single interval:
// the index costs one entry per (device, lane) that ever wrote to us, not one per message.
// Thread: value type.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "crypto/msgpack.h"
#include "storage/ids.h"

namespace starling::node {

class KeyIndex {
 public:
  // False when the key was there already.
  bool insert(const MessageKey& key);
  [[nodiscard]] bool contains(const MessageKey& key) const;
  [[nodiscard]] std::size_t intervals() const;

  struct Interval {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    MSGPACK_DEFINE_ARRAY(first, last)
  };
  struct Row {
    DeviceId device;
    std::uint64_t lane = 0;
    std::vector<Interval> intervals;
    MSGPACK_DEFINE_ARRAY(device, lane, intervals)
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
  std::unordered_map<Lane, std::vector<Interval>, LaneHash> lanes_;  // Intervals: sorted, apart.
};

}  // namespace starling::node
