#include "tests/sim/world/sim_connection.h"

#include <algorithm>
#include <cassert>
#include <cstdio>

#include <xxhash.h>

namespace starling::sim::network_detail {

using overlay::Stream;

namespace {

class SimStream final : public Stream {
 public:
  SimStream(std::shared_ptr<Connection> connection, int end)
      : connection_(std::move(connection)), end_(end) {}
  ~SimStream() override { connection_->release(end_); }

  void start(Events events) override { connection_->start(end_, std::move(events)); }
  void write(Shared bytes) override { connection_->write(end_, std::move(bytes)); }
  void write(Bytes bytes) override { write(std::make_shared<const Bytes>(std::move(bytes))); }
  [[nodiscard]] std::size_t queued() const override {
    const bool hidden = connection_->net.options().hides_queues && connection_->leads_to_device(end_);
    return hidden ? 0 : connection_->dirs[end_].queue_bytes;
  }
  void pause() override { connection_->ends[end_].paused = true; }
  void resume() override { connection_->resume(end_); }
  void close_after_flush() override { connection_->close_after_flush(end_); }
  [[nodiscard]] overlay::Endpoint peer() const override {
    return connection_->ends[1 - end_].address;
  }

 private:
  std::shared_ptr<Connection> connection_;
  const int end_;
};

}  // namespace

std::unique_ptr<Stream> make_stream(std::shared_ptr<Connection> connection, int end) {
  return std::make_unique<SimStream>(std::move(connection), end);
}

void Connection::start(int i, Stream::Events events) {
  assert(!ends[i].started);
  ends[i].started = true;
  ends[i].events = std::make_shared<Stream::Events>(std::move(events));
  resume(i);
}

void Connection::write(int i, Shared bytes) {
  End& end = ends[i];
  if (!end.alive || end.lingering || bytes->empty()) return;
  Direction& dir = dirs[i];
  dir.queue_bytes += bytes->size();
  if (leads_to_device(i)) net.stats_.waits_for_device = std::max(net.stats_.waits_for_device, dir.queue_bytes);
  dir.queue.push_back(std::move(bytes));
  if (std::exchange(end.flush_pending, true)) return;
  end.loop->defer(overlay::Loop::Stage::kWrite, [self = shared_from_this(), i] {
    self->ends[i].flush_pending = false;
    self->pump(i);
  });
}

void Connection::resume(int i) {
  ends[i].paused = false;
  const Direction& in = dirs[1 - i];
  if (!ends[i].started) return;
  if (ends[i].failure) {
    ends[i].loop->post([self = shared_from_this(), i] {
      self->tell_closed(i, *self->ends[i].failure);
    });
    return;
  }
  if (in.unread.empty() && !in.end_received) return;
  ends[i].loop->post([self = shared_from_this(), i] { self->consume(i); });
}

void Connection::close_after_flush(int i) {
  End& end = ends[i];
  if (!end.alive || end.lingering) return;
  end.lingering = true;
  end.owned = false;
  dirs[i].end_queued = true;
  dirs[1 - i].unread.clear();
  end.loop->defer([self = shared_from_this(), i] { self->pump(i); });
}

void Connection::release(int i) {
  End& end = ends[i];
  end.owned = false;
  end.events.reset();
  if (!end.alive || end.lingering) return;
  end.alive = false;
  const bool unread = !dirs[1 - i].unread.empty();
  send_end(i, unread ? Segment::Kind::kReset : Segment::Kind::kEnd);
}

void Connection::drop(int i, bool silent) {
  End& end = ends[i];
  end.owned = false;
  end.events.reset();
  if (!std::exchange(end.alive, false)) return;
  dirs[1 - i].unread.clear();
  if (silent) {
    dirs[i].queue.clear();
    dirs[i].queue_bytes = 0;
  } else {
    send_end(i, Segment::Kind::kReset);
  }
}

void Connection::wake() {
  for (int i : {0, 1}) {
    if (blocked(i)) continue;
    if (!blocked(1 - i)) dirs[i].stuck_since = kNever;
    pump(i);
    schedule(i);
  }
}

bool Connection::blocked(int i) const {
  return net.is_cut(ends[i].ip, ends[1 - i].ip, SimNetwork::Kind::kStreams) || net.without_power_.contains(ends[1 - i].ip);
}

// Takes what the window lets through from the queue, gathered as one system call would.
void Connection::pump(int i) {
  Direction& dir = dirs[i];
  if (!ends[i].alive) return;
  const bool had = dir.queue_bytes > 0;
  while (dir.queue_bytes > 0 && dir.window_used < SimNetwork::kWindow) {
    Segment segment;
    while (!dir.queue.empty() && segment.data.size() < SimNetwork::kSegment) {
      const View rest = View(*dir.queue.front()).substr(dir.queue_offset);
      const View part = rest.substr(0, SimNetwork::kSegment - segment.data.size());
      segment.data.append(part);
      dir.queue_offset += part.size();
      if (part.size() == rest.size()) {
        dir.queue.pop_front();
        dir.queue_offset = 0;
      }
    }
    const std::size_t size = segment.data.size();
    dir.queue_bytes -= size;
    dir.window_used += size;
    Duration transfer{0};
    if (net.options_.bytes_per_second > 0) {
      transfer = Duration(size * 1'000'000'000 / net.options_.bytes_per_second);
    }
    dir.link_free = std::max(net.world_.now(), dir.link_free) + transfer;
    dir.last_arrival =
        std::max(dir.link_free + net.latency(ends[i].ip, ends[1 - i].ip), dir.last_arrival);
    segment.arrives = dir.last_arrival;
    dir.wire.push_back(std::move(segment));
  }
  if (had && dir.queue_bytes == 0 && ends[i].owned && ends[i].events &&
      ends[i].events->on_drained) {
    ends[i].loop->post([self = shared_from_this(), i] {
      const auto events = self->ends[i].events;
      if (self->ends[i].owned && events && self->dirs[i].queue_bytes == 0) events->on_drained();
    });
  }
  if (dir.queue_bytes == 0 && std::exchange(dir.end_queued, false)) {
    send_end(i, Segment::Kind::kEnd);
  } else {
    schedule(i);
  }
}

// Says after everything on the wire that no more comes. What was only queued is dropped.
void Connection::send_end(int i, Segment::Kind kind) {
  Direction& dir = dirs[i];
  dir.queue.clear();
  dir.queue_bytes = 0;
  dir.queue_offset = 0;
  dir.end_queued = false;
  Segment segment;
  segment.kind = kind;
  segment.arrives = std::max(net.world_.now() + net.latency(ends[i].ip, ends[1 - i].ip),
                             dir.last_arrival);
  dir.last_arrival = segment.arrives;
  dir.wire.push_back(std::move(segment));
  schedule(i);
}

void Connection::schedule(int i) {
  Direction& dir = dirs[i];
  if (dir.wire.empty() || dir.delivering) return;
  if (blocked(i)) return stuck(i);
  dir.delivering = true;
  net.world_.at(dir.wire.front().arrives, [self = shared_from_this(), i] { self->arrive(i); });
}

// The front of the wire reaches the other host.
void Connection::arrive(int i) {
  Direction& dir = dirs[i];
  dir.delivering = false;
  if (dir.wire.empty()) return;
  if (blocked(i)) return stuck(i);
  Segment segment = std::move(dir.wire.front());
  dir.wire.pop_front();
  const int j = 1 - i;
  End& to = ends[j];
  ++net.stats_.segments;
  net.stats_.bytes += segment.data.size();
  char text[160];
  std::snprintf(text, sizeof text, "stream %llu from %s: %zu bytes %016llx%s",
                static_cast<unsigned long long>(id), ends[i].ip.c_str(), segment.data.size(),
                static_cast<unsigned long long>(
                    XXH3_64bits(segment.data.data(), segment.data.size())),
                segment.kind == Segment::Kind::kData ? ""
                : segment.kind == Segment::Kind::kEnd ? " end"
                                                      : " reset");
  net.world_.note(to.ip, text);
  if (blocked(j)) {
    stuck(i);  // It arrived, but no acknowledgement comes back.
  } else {
    dir.stuck_since = kNever;
  }

  if (segment.kind == Segment::Kind::kReset) {
    if (to.alive) fail(j, {Errc::kIo, "connection reset by peer"});
  } else if (segment.kind == Segment::Kind::kEnd) {
    dir.end_received = true;
    if (to.lingering) to.alive = false;
    if (to.alive) to.loop->enter([self = shared_from_this(), j] { self->consume(j); });
  } else if (!to.alive) {
    dir.window_used -= segment.data.size();
    send_end(j, Segment::Kind::kReset);
  } else if (to.lingering) {
    dir.window_used -= segment.data.size();
  } else {
    dir.unread.push_back(std::move(segment.data));
    to.loop->enter([self = shared_from_this(), j] { self->consume(j); });
  }
  schedule(i);
}

// In a turn of end j's loop: hands over what has arrived.
void Connection::consume(int j) {
  End& end = ends[j];
  Direction& in = dirs[1 - j];
  const auto self = shared_from_this();
  while (end.alive && end.owned && end.started && !end.paused && !in.unread.empty()) {
    const Bytes data = std::move(in.unread.front());
    in.unread.pop_front();
    in.window_used -= data.size();
    const auto events = end.events;
    events->on_data(data);
  }
  if (in.queue_bytes > 0 && in.window_used < SimNetwork::kWindow) {
    net.world_.after(net.latency(end.ip, ends[1 - j].ip), [self, j] { self->pump(1 - j); });
  }
  if (end.alive && end.owned && end.started && !end.paused && in.unread.empty() &&
      in.end_received) {
    tell_closed(j, {Errc::kIo, "closed by peer"});
  }
}

// The kernel of end i gives the stream up; the other side learns by a reset, if one gets through.
void Connection::fail(int i, Error error) {
  End& end = ends[i];
  if (!std::exchange(end.alive, false)) return;
  ++net.stats_.resets;
  dirs[i].wire.clear();
  dirs[1 - i].unread.clear();
  if (!blocked(i) && ends[1 - i].alive) send_end(i, Segment::Kind::kReset);
  if (!end.owned) return;
  if (!end.started) {
    end.failure = std::move(error);
    return;
  }
  end.loop->enter([self = shared_from_this(), i, error = std::move(error)] {
    self->tell_closed(i, error);
  });
}

void Connection::tell_closed(int i, Error error) {
  End& end = ends[i];
  if (!std::exchange(end.owned, false)) return;
  const auto events = std::exchange(end.events, nullptr);
  // The peer's end is final for this kernel too: whoever reads nothing more writes nothing more.
  if (std::exchange(end.alive, false)) send_end(i, Segment::Kind::kEnd);
  if (events && events->on_close) events->on_close(error);
}

void Connection::stuck(int i) {
  Direction& dir = dirs[i];
  if (dir.stuck_since == kNever) dir.stuck_since = net.world_.now();
  if (std::exchange(dir.stuck_timer, true)) return;
  net.world_.at(dir.stuck_since + SimNetwork::kStreamTimeout,
                [self = shared_from_this(), i] { self->check_stuck(i); });
}

void Connection::check_stuck(int i) {
  Direction& dir = dirs[i];
  dir.stuck_timer = false;
  if (dir.stuck_since == kNever || !ends[i].alive) return;
  if (net.world_.now() - dir.stuck_since < SimNetwork::kStreamTimeout) return stuck(i);
  fail(i, {Errc::kIo, "connection timed out"});
}

}  // namespace starling::sim::network_detail
