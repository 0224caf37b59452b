// Connection: both kernels' view of one simulated stream. Internal to sim_network.
//
// dirs[i] carries bytes from ends[i] to ends[1 - i]:
//   queue  written, not yet taken by the link;   wire  sent, in order, one delivery event at a
// time;
//   unread at the receiver, while it is paused or not started.
// Invariant: `window_used` is the size of wire + unread, at most kWindow + kSegment.
// Thread: the world's.
#pragma once

#include <deque>
#include <memory>
#include <optional>

#include "tests/sim/world/sim_network.h"

namespace starling::sim::network_detail {

struct Segment {
  enum class Kind { kData, kEnd, kReset };
  Instant arrives;
  Kind kind = Kind::kData;
  Bytes data;
};

struct Direction {
  std::deque<Shared> queue;
  std::size_t queue_bytes = 0;
  std::size_t queue_offset = 0;  // Into the first of queue.
  std::deque<Segment> wire;
  std::deque<Bytes> unread;
  std::size_t window_used = 0;
  Instant link_free;             // When the link has taken what was sent so far.
  Instant last_arrival;
  bool delivering = false;       // The event for wire.front() is scheduled.
  Instant stuck_since = kNever;  // Something is not acknowledged since then.
  bool stuck_timer = false;
  bool end_queued = false;       // An end follows the queue.
  bool end_received = false;
};

struct End {
  SimLoop* loop = nullptr;
  std::string ip;
  overlay::Endpoint address;
  bool alive = true;             // The kernel knows the stream.
  bool owned = true;             // Somebody holds the SimStream and waits for callbacks.
  bool started = false;
  bool paused = false;
  bool flush_pending = false;
  bool lingering = false;        // close_after_flush was called.
  std::optional<Error> failure;  // Before start().
  std::shared_ptr<overlay::Stream::Events> events;
};

struct Connection : std::enable_shared_from_this<Connection> {
  Connection(SimNetwork& network, std::uint64_t number) : net(network), id(number) {}

  [[nodiscard]] bool leads_to_device(int i) const { return ends[1 - i].ip.starts_with(SimNetwork::kDevices); }

  // Calls of the owner of end i.
  void start(int i, overlay::Stream::Events events);
  void write(int i, Shared bytes);
  void resume(int i);
  void close_after_flush(int i);
  void release(int i);

  // The process of end i is gone.
  void drop(int i, bool silent);
  // A cut or a power loss may have ended.
  void wake();

  void pump(int i);
  void send_end(int i, Segment::Kind kind);
  void schedule(int i);
  void arrive(int i);
  void consume(int j);
  void fail(int i, Error error);
  void tell_closed(int i, Error error);
  void stuck(int i);
  void check_stuck(int i);
  [[nodiscard]] bool blocked(int i) const;  // From end i to the other.

  SimNetwork& net;
  const std::uint64_t id;
  End ends[2];
  Direction dirs[2];
};

// A port of a process: datagrams, or a listener.
struct Socket {
  SimLoop* loop = nullptr;
  std::string ip;
  overlay::Endpoint at;
  bool open = true;
  std::function<void(const overlay::Endpoint&, View)> on_packet;
  std::function<void(std::unique_ptr<overlay::Stream>)> on_accept;
};

std::unique_ptr<overlay::Stream> make_stream(std::shared_ptr<Connection> connection, int end);

}  // namespace starling::sim::network_detail
