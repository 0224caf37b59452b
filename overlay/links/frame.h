// Frames: what a link carries (layout in wire.h), and the queue in which they wait for their turn.
//
// A FrameQueue has three classes: agreement (membership, ring, Paxos) leaves before data, and data
// before transfer. Inside a class frames keep their order; a frame is never interrupted by another.
// Pure.   Thread: one loop.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <set>

#include "crypto/result.h"
#include "overlay/links/wire.h"
#include "overlay/loop/clock.h"

namespace starling::overlay {

struct Frame {
  FrameType type = FrameType::kNotice;
  std::uint8_t flags = 0;
  Method method{};
  std::uint64_t request = 0;
  Instant deadline = kNever;  // A request that has not left by then stays here.
  Bytes body;
};

struct FrameView {
  FrameType type{};
  std::uint8_t flags = 0;
  Method method{};
  std::uint64_t request = 0;
  View body;
};

void append_frame(Bytes& out, const Frame& frame);

// The first frame of `in`; nullopt when there is not enough yet; kCorrupt as soon as the header
// shows a size over kFrameBodySizeMax or an unknown type.
Result<std::optional<FrameView>> parse_frame(View in);

enum class FrameClass : std::uint8_t { kAgreement, kData, kTransfer };
inline constexpr std::size_t kFrameClasses = 3;
FrameClass class_of(FrameType type, Method method);

class FrameQueue {
 public:
  void push(Frame frame);
  // Moves frames to the end of `out`, encoded, until it holds `budget` bytes or more. A request
  // whose deadline has passed is left out.
  void pop_into(Bytes& out, std::size_t budget, Instant now);
  [[nodiscard]] bool empty() const { return bytes_ == 0; }
  // Headers included.
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  void clear();
  // What belongs to one connection and not to the peer.
  void drop_responses();
  // The numbers of the requests that have not left.
  [[nodiscard]] std::set<std::uint64_t> requests() const;

 private:
  std::array<std::deque<Frame>, kFrameClasses> classes_;
  std::size_t bytes_ = 0;
};

}  // namespace starling::overlay
