#include <cassert>

#include "overlay/loop/uv_socket.h"

namespace starling::overlay {
namespace {

constexpr std::size_t kGatherMax = 64;  // Buffers offered to the kernel at once.

UvConnection* connection_of(uv_stream_t* stream) {
  return static_cast<UvConnection*>(stream->data);
}

uv_buf_t buffer_of(const Shared& bytes, std::size_t offset) {
  return uv_buf_init(const_cast<char*>(bytes->data()) + offset,
                     static_cast<unsigned>(bytes->size() - offset));
}

}  // namespace

struct UvConnection::Write {
  uv_write_t request;
  UvConnection* connection;
  std::vector<Shared> bytes;  // Alive until the kernel took them.
};

UvConnection::UvConnection(UvTransport& transport, bool unix_socket)
    : transport_(transport), unix_(unix_socket) {
  const int status = unix_ ? uv_pipe_init(transport.loop_.uv(), &handle_.pipe, 0)
                           : uv_tcp_init(transport.loop_.uv(), &handle_.tcp);
  assert(status == 0);
  (void)status;
  handle_.stream.data = this;
  ++transport_.open_streams_;
}

// Runs one of our callbacks. It may destroy the owner, and with it events_: that waits until here.
template <class Fn, class... Args>
void UvConnection::tell(const Fn& fn, Args&&... args) {
  if (!fn) return;
  assert(!calling_);
  calling_ = true;
  fn(std::forward<Args>(args)...);
  calling_ = false;
  if (closing_ || released_) events_ = {};
}

void UvConnection::start(Stream::Events events) {
  assert(!started_);
  started_ = true;
  events_ = std::move(events);
  read_start();
}

void UvConnection::read_start() {
  if (closing_ || told_ || !started_ || paused_) return;
  uv_read_start(
      stream(),
      [](uv_handle_t* h, std::size_t, uv_buf_t* buffer) {
        auto& shared = static_cast<UvConnection*>(h->data)->transport_.read_buffer_;
        *buffer = uv_buf_init(shared.data(), static_cast<unsigned>(shared.size()));
      },
      [](uv_stream_t* s, ssize_t size, const uv_buf_t* b) { connection_of(s)->read(size, b); });
}

void UvConnection::read(ssize_t size, const uv_buf_t* buffer) {
  if (size > 0) {
    // Once shut, we only wait for the peer to have read everything.
    if (!flushing_) tell(events_.on_data, View(buffer->base, static_cast<std::size_t>(size)));
    return;
  }
  if (size == 0) return;
  fail(size == UV_EOF ? Error{Errc::kIo, "closed by peer"}
                      : uv_failure("reading from " + peer().text(), static_cast<int>(size)));
}

void UvConnection::pause() {
  paused_ = true;
  if (!closing_ && started_) uv_read_stop(stream());
}

void UvConnection::resume() {
  if (!paused_) return;
  paused_ = false;
  read_start();
}

void UvConnection::write(Shared bytes) {
  if (closing_ || told_ || flushing_ || bytes->empty()) return;
  out_bytes_ += bytes->size();
  out_.push_back(std::move(bytes));
  if (dirty_ || writing_) return;
  dirty_ = true;
  if (transport_.dirty_.empty()) {
    transport_.loop_.defer(Loop::Stage::kWrite, [transport = &transport_] { transport->flush_all(); });
  }
  transport_.dirty_.push_back(this);
}

std::size_t UvConnection::queued() const {
  if (closing_ || told_) return 0;
  return out_bytes_ + uv_stream_get_write_queue_size(&handle_.stream);
}

void UvConnection::flush() {
  if (closing_ || told_ || writing_) return;
  if (!out_.empty()) {
    if (!try_write()) return;
    if (!out_.empty()) return write_rest();
  }
  drained();
}

// False after a failure.
bool UvConnection::try_write() {
  std::size_t done = 0;
  while (done < out_.size()) {
    uv_buf_t buffers[kGatherMax];
    std::size_t count = 0;
    std::size_t offered = 0;
    for (std::size_t i = done; i < out_.size() && count < kGatherMax; ++i) {
      buffers[count] = buffer_of(out_[i], i == done ? first_offset_ : 0);
      offered += buffers[count++].len;
    }
    const int taken = uv_try_write(stream(), buffers, static_cast<unsigned>(count));
    if (taken == UV_EAGAIN) break;
    if (taken < 0) {
      fail(uv_failure("writing to " + peer().text(), taken));
      return false;
    }
    std::size_t left = static_cast<std::size_t>(taken);
    out_bytes_ -= left;
    while (left > 0) {
      const std::size_t size = out_[done]->size() - first_offset_;
      if (left < size) {
        first_offset_ += left;
        break;
      }
      left -= size;
      first_offset_ = 0;
      ++done;
    }
    if (static_cast<std::size_t>(taken) < offered) break;
  }
  if (done == out_.size()) {
    std::vector<Shared>().swap(out_);
  } else {
    out_.erase(out_.begin(), out_.begin() + static_cast<std::ptrdiff_t>(done));
  }
  return true;
}

void UvConnection::write_rest() {
  auto* write = new Write{{}, this, std::move(out_)};
  out_.clear();
  std::vector<uv_buf_t> buffers;
  buffers.reserve(write->bytes.size());
  for (const auto& bytes : write->bytes) {
    buffers.push_back(buffer_of(bytes, buffers.empty() ? first_offset_ : 0));
  }
  out_bytes_ = 0;
  first_offset_ = 0;
  writing_ = true;
  write->request.data = write;
  const int status = uv_write(&write->request, stream(), buffers.data(),
                              static_cast<unsigned>(buffers.size()), [](uv_write_t* w, int status) {
                                auto* write = static_cast<Write*>(w->data);
                                write->connection->wrote(write, status);
                              });
  if (status != 0) {
    writing_ = false;
    delete write;
    fail(uv_failure("writing to " + peer().text(), status));
  }
}

void UvConnection::wrote(Write* write, int status) {
  delete write;
  writing_ = false;
  if (closing_) return;
  if (status != 0) return fail(uv_failure("writing to " + peer().text(), status));
  flush();
}

void UvConnection::drained() {
  if (flushing_) return finish_flush();
  tell(events_.on_drained);
}

void UvConnection::close_after_flush() {
  if (closing_ || told_ || flushing_) return;
  flushing_ = true;
  flush_timer_ = transport_.loop_.after(kFlushTimeout, [this] { close(); });
  // Read on, or unread bytes would turn our close into a reset that eats what we flushed.
  paused_ = false;
  started_ = true;
  read_start();
  // The object is still there then: closing callbacks run after what was deferred.
  if (!dirty_ && !writing_) transport_.loop_.defer([this] { flush(); });
}

// Everything was taken by the kernel: say so to the peer, then wait for its end.
void UvConnection::finish_flush() {
  if (shut_) return;
  shut_ = true;
  auto* request = new uv_shutdown_t;
  const int status = uv_shutdown(request, stream(), [](uv_shutdown_t* r, int) { delete r; });
  if (status == 0) return;
  delete request;
  close();
}

void UvConnection::fail(Error error) {
  if (closing_ || told_) return;
  if (flushing_) return close();
  told_ = true;
  uv_read_stop(stream());
  std::vector<Shared>().swap(out_);
  out_bytes_ = 0;
  tell(events_.on_close, error);
}

void UvConnection::release() {
  released_ = true;
  if (closed_) {
    delete this;
    return;
  }
  if (closing_) return;
  if (!flushing_) return close();
  if (!calling_) events_ = {};
  next_ = transport_.detached_;
  back_ = &transport_.detached_;
  if (next_ != nullptr) next_->back_ = &next_;
  transport_.detached_ = this;
}

void UvConnection::unlink() {
  if (back_ == nullptr) return;
  *back_ = next_;
  if (next_ != nullptr) next_->back_ = back_;
  back_ = nullptr;
}

void UvConnection::close() {
  if (closing_) return;
  closing_ = true;
  unlink();
  if (!calling_) events_ = {};
  flush_timer_.cancel();
  std::vector<Shared>().swap(out_);
  out_bytes_ = 0;
  --transport_.open_streams_;
  uv_close(reinterpret_cast<uv_handle_t*>(stream()), [](uv_handle_t* h) {
    auto* self = static_cast<UvConnection*>(h->data);
    self->closed_ = true;
    if (self->released_) delete self;
  });
}

void UvConnection::learn_peer() {
  if (unix_) {
    char path[128];
    std::size_t size = sizeof path;
    peer_unix_ = "unix:";
    if (uv_pipe_getpeername(pipe(), path, &size) == 0) peer_unix_.append(path, size);
    return;
  }
  int size = sizeof peer_;
  if (uv_tcp_getpeername(tcp(), &peer_.any, &size) != 0) peer_ = {};
}

Endpoint UvConnection::peer() const {
  return unix_ ? Endpoint{peer_unix_, 0} : to_endpoint(&peer_.any);
}

}  // namespace starling::overlay
