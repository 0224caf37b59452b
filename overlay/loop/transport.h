// Transport: best-effort datagrams and reliable byte streams, and nothing else.
//
// Datagrams may be lost, repeated, reordered. A stream delivers bytes in order until it closes;
// on_close comes exactly once, last, and never from inside a call made by the owner of the stream.
// Destroying a Stream, Listener or Datagrams closes it and no callback follows.
// A callback may destroy the object that called it.
// Thread: the loop that the transport was built on.
// Two kinds: UvTransport (sockets) and the simulator's network.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "crypto/bytes.h"
#include "crypto/result.h"
#include "overlay/loop/clock.h"

namespace starling::overlay {

// A numeric address and port, or "unix:/path" with port 0.
struct Endpoint {
  std::string host;
  std::uint16_t port = 0;

  [[nodiscard]] std::string text() const;  // "127.0.0.1:7400", "[::1]:7400", "unix:/path"
  static Result<Endpoint> parse(View text);  // kInvalid. A host name is resolved by the caller first.
  friend bool operator==(const Endpoint&, const Endpoint&) = default;
  friend auto operator<=>(const Endpoint&, const Endpoint&) = default;
};

class Stream {
 public:
  struct Events {
    std::function<void(View)> on_data;               // The view ends with the call.
    std::function<void(const Error&)> on_close;      // kIo; text "closed by peer" for a clean end.
    std::function<void()> on_drained;                // queued() fell to 0 after a write. May be empty.
  };
  virtual ~Stream() = default;
  // Sets the callbacks and starts reading. Called once, before anything else.
  virtual void start(Events events) = 0;
  // Queues bytes; they leave at the end of the turn, gathered into one system call. After a close
  // they are dropped.
  virtual void write(Shared bytes) = 0;
  virtual void write(Bytes bytes) = 0;
  // Bytes queued here and not yet taken by the kernel (or the simulated link).
  [[nodiscard]] virtual std::size_t queued() const = 0;
  // While paused nothing is read, so the peer's sender feels it.
  virtual void pause() = 0;
  virtual void resume() = 0;
  // Flushes what is queued, then closes; on_close does not come.
  virtual void close_after_flush() = 0;
  [[nodiscard]] virtual Endpoint peer() const = 0;
};

class Listener {
 public:
  virtual ~Listener() = default;
  [[nodiscard]] virtual Endpoint local() const = 0;
};

class Datagrams {
 public:
  virtual ~Datagrams() = default;
  // Best effort: an error is dropped, as the network would.
  virtual void send(const Endpoint& to, View packet) = 0;
  [[nodiscard]] virtual Endpoint local() const = 0;
};

class Transport {
 public:
  virtual ~Transport() = default;
  // Port 0 takes a free one; local() tells. kAddressInUse, kIo.
  virtual Result<std::unique_ptr<Datagrams>> bind(
      const Endpoint& at, std::function<void(const Endpoint& from, View packet)> on_packet) = 0;
  virtual Result<std::unique_ptr<Listener>> listen(
      const Endpoint& at, std::function<void(std::unique_ptr<Stream>)> on_accept) = 0;
  // Calls `done` once, in a later turn: a stream not yet started, or kIo / kTimeout. Destroying the
  // returned handle cancels, and `done` does not come.
  class Connecting {
   public:
    virtual ~Connecting() = default;
  };
  [[nodiscard]] virtual std::unique_ptr<Connecting> connect(
      const Endpoint& to, Duration timeout,
      std::function<void(Result<std::unique_ptr<Stream>>)> done) = 0;
};

}  // namespace starling::overlay
