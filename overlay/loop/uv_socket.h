// Helpers that the files of UvTransport share: addresses, the connection behind a UvStream.
//
// Invariants: (1) a UvConnection is freed when its owner released it and libuv called back its
//                 close, so callbacks on the stack may always return through it;
//             (2) at most one uv_write is under way; what is written meanwhile waits in out_.
// Thread: the loop's.
#pragma once

#include <sys/socket.h>

#include <string>
#include <vector>

#include <uv.h>

#include "overlay/loop/uv_transport.h"

namespace starling::overlay {

bool is_unix(const Endpoint& endpoint);
std::string unix_path(const Endpoint& endpoint);
Result<sockaddr_storage> to_sockaddr(const Endpoint& endpoint);
Endpoint to_endpoint(const sockaddr* address);
Error uv_failure(const std::string& what, int status);
Error address_in_use(const Endpoint& at);

class UvConnection {
 public:
  UvConnection(UvTransport& transport, bool unix_socket);
  UvConnection(const UvConnection&) = delete;
  UvConnection& operator=(const UvConnection&) = delete;

  void start(Stream::Events events);
  void write(Shared bytes);
  void close_after_flush();
  void pause();
  void resume();
  // The owner lets go: closes now, or lets a flush under way finish.
  void release();
  // No callback follows; frees the object later.
  void close();

  [[nodiscard]] std::size_t queued() const;
  // Reads the peer's address; before anything else, while the kernel still knows it.
  void learn_peer();
  [[nodiscard]] Endpoint peer() const;
  [[nodiscard]] uv_stream_t* stream() { return &handle_.stream; }
  [[nodiscard]] uv_tcp_t* tcp() { return &handle_.tcp; }
  [[nodiscard]] uv_pipe_t* pipe() { return &handle_.pipe; }

 private:
  friend class UvTransport;
  struct Write;

  void flush();
  bool try_write();
  void write_rest();
  void wrote(Write* write, int status);
  void drained();
  void read(ssize_t size, const uv_buf_t* buffer);
  void fail(Error error);
  void finish_flush();
  void read_start();
  template <class Fn, class... Args>
  void tell(const Fn& fn, Args&&... args);
  void unlink();

  UvTransport& transport_;
  union {
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
  } handle_;
  Stream::Events events_;
  std::vector<Shared> out_;
  std::size_t out_bytes_ = 0;
  std::size_t first_offset_ = 0;  // Bytes of out_[0] that the kernel took.
  UvConnection* next_ = nullptr;  // Among the detached.
  UvConnection** back_ = nullptr;
  Timer flush_timer_;
  std::string peer_unix_;
  union {
    sockaddr any;
    sockaddr_in v4;
    sockaddr_in6 v6;
  } peer_{};
  bool unix_ : 1;
  bool started_ : 1 = false;
  bool paused_ : 1 = false;
  bool dirty_ : 1 = false;
  bool writing_ : 1 = false;
  bool flushing_ : 1 = false;  // close_after_flush() was called.
  bool shut_ : 1 = false;      // Our side is closed; waits for the peer's.
  bool told_ : 1 = false;      // on_close came.
  bool calling_ : 1 = false;   // A callback is on the stack.
  bool closing_ : 1 = false;
  bool closed_ : 1 = false;    // libuv is done with it.
  bool released_ : 1 = false;  // The owner is done with it.
};
static_assert(sizeof(UvConnection) < 600, "many idle connections are cheap");

class UvStream final : public Stream {
 public:
  explicit UvStream(UvConnection* connection) : connection_(connection) {}
  ~UvStream() override { connection_->release(); }
  void start(Events events) override { connection_->start(std::move(events)); }
  void write(Shared bytes) override { connection_->write(std::move(bytes)); }
  void write(Bytes bytes) override {
    connection_->write(std::make_shared<const Bytes>(std::move(bytes)));
  }
  [[nodiscard]] std::size_t queued() const override { return connection_->queued(); }
  void pause() override { connection_->pause(); }
  void resume() override { connection_->resume(); }
  void close_after_flush() override { connection_->close_after_flush(); }
  [[nodiscard]] Endpoint peer() const override { return connection_->peer(); }

 private:
  UvConnection* connection_;
};

}  // namespace starling::overlay
