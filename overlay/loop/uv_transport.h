// UvTransport: TCP, Unix sockets and UDP on a UvLoop.
//
// An idle connection owns no buffer: all of a loop's reads land in one shared 64 KiB buffer, and
// writes are gathered until the end of the turn and offered to the kernel in one call; only what it
// does not take is handed to libuv. A connection is under 600 bytes.
//
// A stream destroyed after close_after_flush() goes on flushing for at most kFlushTimeout.
//
// When the process runs low on descriptors, listeners stop accepting and look again a little later.
//
// A Unix socket has mode 0600; a socket file that nobody answers on is replaced.
//
// Thread: the loop's. Streams, listeners and sockets are destroyed before the transport.
#pragma once

#include <array>
#include <vector>

#include "overlay/loop/transport.h"
#include "overlay/loop/uv_loop.h"

namespace starling::overlay {

inline constexpr std::size_t kReadBufferSize = 64 << 10;
inline constexpr Duration kFlushTimeout = 5s;
inline constexpr Duration kAcceptRetry = 100ms;

class UvTransport final : public Transport {
 public:
  explicit UvTransport(UvLoop& loop);
  // So many nodes of this process keep descriptors free for their stores; 1 at first. Any thread.
  static void keep_files_for(unsigned nodes);
  ~UvTransport() override;
  UvTransport(const UvTransport&) = delete;
  UvTransport& operator=(const UvTransport&) = delete;

  Result<std::unique_ptr<Datagrams>> bind(
      const Endpoint& at,
      std::function<void(const Endpoint& from, View packet)> on_packet) override;
  Result<std::unique_ptr<Listener>> listen(
      const Endpoint& at, std::function<void(std::unique_ptr<Stream>)> on_accept) override;
  [[nodiscard]] std::unique_ptr<Connecting> connect(
      const Endpoint& to, Duration timeout,
      std::function<void(Result<std::unique_ptr<Stream>>)> done) override;

  // Connections that are open, those still flushing included.
  [[nodiscard]] std::size_t open_streams() const { return open_streams_; }

 private:
  friend class UvConnection;
  friend class UvStream;
  friend class UvListener;
  friend class UvDatagrams;
  friend class UvConnecting;

  void flush_all();

  UvLoop& loop_;
  std::array<char, kReadBufferSize> read_buffer_;
  std::vector<class UvConnection*> dirty_;  // Wrote in this turn.
  class UvConnection* detached_ = nullptr;  // Flushing without an owner, newest first.
  std::size_t open_streams_ = 0;
};

}  // namespace starling::overlay
