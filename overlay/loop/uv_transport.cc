#include "overlay/loop/uv_transport.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cassert>
#include <utility>

#include "overlay/loop/uv_socket.h"

namespace starling::overlay {
namespace {

constexpr int kBacklog = 1024;
constexpr int kDatagramBufferSize = 1 << 20;

template <class Handle>
uv_handle_t* handle_of(Handle* handle) {
  return reinterpret_cast<uv_handle_t*>(handle);
}

// The files that the store may have open (storage/engine), logs, doors and what else a process has.
constexpr std::uint64_t kFilesOfANode = 512 + 64;
std::atomic<std::uint64_t> nodes_here = 1;

// Descriptors are handed out lowest first, so a high number means that few are left. Some are kept
// back for files and for links that we dial ourselves: without a descriptor the store would stop the node.
bool descriptors_are_short(int fd) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  const std::uint64_t max = limit.rlim_cur;
  const std::uint64_t kept = kFilesOfANode * nodes_here.load(std::memory_order_relaxed);
  const std::uint64_t files = max >= 2 * kept ? kept : max / 10;
  return static_cast<std::uint64_t>(fd) + std::max(8 + max / 20, files) >= max;
}

bool descriptors_are_short() {
  const int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return true;
  ::close(fd);
  return descriptors_are_short(fd);
}

// Blocks for no longer than the kernel needs to look at the backlog.
bool somebody_answers(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return true;
  const bool refused = ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 &&
                       errno == ECONNREFUSED;
  ::close(fd);
  return !refused;
}

}  // namespace

void UvTransport::keep_files_for(unsigned nodes) { nodes_here = nodes; }

class UvListener final : public Listener {
 public:
  // What outlives the Listener until libuv lets go.
  struct State {
    UvTransport& transport;
    union {
      uv_stream_t stream;
      uv_tcp_t tcp;
      uv_pipe_t pipe;
    } handle;
    bool is_unix;
    std::function<void(std::unique_ptr<Stream>)> on_accept;
    Timer retry;
    Endpoint local{};
    bool closing = false;

    void close() {
      closing = true;
      retry.cancel();
      uv_close(handle_of(&handle), [](uv_handle_t* h) { delete static_cast<State*>(h->data); });
    }
    Status open(const Endpoint& at);
    Status open_tcp(const Endpoint& at);
    Status open_unix(const Endpoint& at);
    void accept();
    void on_connection(int status);
  };

  explicit UvListener(State* state) : state_(state) {}
  ~UvListener() override { state_->close(); }
  [[nodiscard]] Endpoint local() const override { return state_->local; }

 private:
  State* state_;
};

Status UvListener::State::open(const Endpoint& at) {
  TRY(is_unix ? open_unix(at) : open_tcp(at));
  const int status = uv_listen(&handle.stream, kBacklog, [](uv_stream_t* s, int status) {
    static_cast<State*>(s->data)->on_connection(status);
  });
  if (status == UV_EADDRINUSE) return address_in_use(at);
  if (status != 0) return uv_failure("listening on " + at.text(), status);
  return ok_status();
}

Status UvListener::State::open_tcp(const Endpoint& at) {
  TRY_ASSIGN(const sockaddr_storage address, to_sockaddr(at));
  // libuv sets SO_REUSEADDR.
  int status = uv_tcp_bind(&handle.tcp, reinterpret_cast<const sockaddr*>(&address), 0);
  sockaddr_storage bound{};
  int size = sizeof bound;
  if (status == 0) {
    status = uv_tcp_getsockname(&handle.tcp, reinterpret_cast<sockaddr*>(&bound), &size);
  }
  // A bind that found the port taken is reported here.
  if (status == UV_EADDRINUSE) return address_in_use(at);
  if (status != 0) return uv_failure("binding " + at.text(), status);
  local = to_endpoint(reinterpret_cast<sockaddr*>(&bound));
  return ok_status();
}

Status UvListener::State::open_unix(const Endpoint& at) {
  const std::string path = unix_path(at);
  int status = uv_pipe_bind(&handle.pipe, path.c_str());
  if (status == UV_EADDRINUSE) {
    struct stat found {};
    const bool stale = lstat(path.c_str(), &found) == 0 && S_ISSOCK(found.st_mode) &&
                       !somebody_answers(path) && unlink(path.c_str()) == 0;
    if (!stale) return address_in_use(at);
    status = uv_pipe_bind(&handle.pipe, path.c_str());
  }
  // Nobody can connect between the bind and the listen, so there is no moment with a wider mode.
  if (status == 0 && chmod(path.c_str(), 0600) != 0) status = uv_translate_sys_error(errno);
  if (status != 0) return uv_failure("binding " + at.text(), status);
  local = at;
  return ok_status();
}

// Until uv_accept takes the waiting connection, libuv does not poll the listener.
void UvListener::State::on_connection(int status) {
  if (status != 0 || closing) return;
  if (!descriptors_are_short(static_cast<int>(handle.stream.accepted_fd))) return accept();
  retry = transport.loop_.after(kAcceptRetry, [this] {
    if (descriptors_are_short()) return on_connection(0);
    accept();
  });
}

void UvListener::State::accept() {
  auto* connection = new UvConnection(transport, is_unix);
  auto stream = std::make_unique<UvStream>(connection);
  if (uv_accept(&handle.stream, connection->stream()) != 0) return;
  if (!is_unix) uv_tcp_nodelay(connection->tcp(), 1);
  connection->learn_peer();
  on_accept(std::move(stream));
}

Result<std::unique_ptr<Listener>> UvTransport::listen(
    const Endpoint& at, std::function<void(std::unique_ptr<Stream>)> on_accept) {
  auto* state = new UvListener::State{*this, {}, is_unix(at), std::move(on_accept), {}};
  if (state->is_unix) {
    uv_pipe_init(loop_.uv(), &state->handle.pipe, 0);
  } else {
    uv_tcp_init(loop_.uv(), &state->handle.tcp);
  }
  state->handle.stream.data = state;
  auto listener = std::make_unique<UvListener>(state);
  TRY(state->open(at));
  return std::unique_ptr<Listener>(std::move(listener));
}

class UvDatagrams final : public Datagrams {
 public:
  struct State {
    UvTransport& transport;
    uv_udp_t udp;
    std::function<void(const Endpoint&, View)> on_packet;
    Endpoint local{};
    bool closing = false;

    void close() {
      closing = true;
      uv_close(handle_of(&udp), [](uv_handle_t* h) { delete static_cast<State*>(h->data); });
    }
    Status open(const Endpoint& at);
  };

  explicit UvDatagrams(State* state) : state_(state) {}
  ~UvDatagrams() override { state_->close(); }
  void send(const Endpoint& to, View packet) override {
    const auto address = to_sockaddr(to);
    if (!address) return;
    const uv_buf_t buffer =
        uv_buf_init(const_cast<char*>(packet.data()), static_cast<unsigned>(packet.size()));
    uv_udp_try_send(&state_->udp, &buffer, 1, reinterpret_cast<const sockaddr*>(&*address));
  }
  [[nodiscard]] Endpoint local() const override { return state_->local; }

 private:
  State* state_;
};

Status UvDatagrams::State::open(const Endpoint& at) {
  TRY_ASSIGN(const sockaddr_storage address, to_sockaddr(at));
  int status = uv_udp_bind(&udp, reinterpret_cast<const sockaddr*>(&address), 0);
  if (status == UV_EADDRINUSE) return address_in_use(at);
  sockaddr_storage bound{};
  int size = sizeof bound;
  if (status == 0) status = uv_udp_getsockname(&udp, reinterpret_cast<sockaddr*>(&bound), &size);
  if (status != 0) return uv_failure("binding udp " + at.text(), status);
  local = to_endpoint(reinterpret_cast<sockaddr*>(&bound));
  int wanted = kDatagramBufferSize;
  uv_recv_buffer_size(handle_of(&udp), &wanted);
  status = uv_udp_recv_start(
      &udp,
      [](uv_handle_t* h, std::size_t, uv_buf_t* buffer) {
        auto& shared = static_cast<State*>(h->data)->transport.read_buffer_;
        *buffer = uv_buf_init(shared.data(), static_cast<unsigned>(shared.size()));
      },
      [](uv_udp_t* h, ssize_t size, const uv_buf_t* buffer, const sockaddr* from, unsigned flags) {
        auto* state = static_cast<State*>(h->data);
        if (size < 0 || from == nullptr || (flags & UV_UDP_PARTIAL) != 0 || state->closing) return;
        state->on_packet(to_endpoint(from), View(buffer->base, static_cast<std::size_t>(size)));
      });
  if (status != 0) return uv_failure("receiving on udp " + at.text(), status);
  return ok_status();
}

Result<std::unique_ptr<Datagrams>> UvTransport::bind(
    const Endpoint& at, std::function<void(const Endpoint& from, View packet)> on_packet) {
  auto* state = new UvDatagrams::State{*this, {}, std::move(on_packet)};
  uv_udp_init(loop_.uv(), &state->udp);
  state->udp.data = state;
  auto datagrams = std::make_unique<UvDatagrams>(state);
  TRY(state->open(at));
  return std::unique_ptr<Datagrams>(std::move(datagrams));
}

class UvConnecting final : public Transport::Connecting {
 public:
  // Kept alive by the handle and, through `self`, by the request that libuv holds.
  struct State {
    std::unique_ptr<UvStream> stream{};
    UvConnection* connection = nullptr;
    uv_connect_t request{};
    std::string what{};
    Timer timer{};  // The deadline, or the later turn of an immediate failure.
    std::function<void(Result<std::unique_ptr<Stream>>)> done{};
    std::shared_ptr<State> self{};

    void finish(Result<std::unique_ptr<Stream>> result) {
      timer.cancel();
      if (auto call = std::exchange(done, nullptr)) call(std::move(result));
    }
    void connected(int status) {
      auto keep = std::move(self);
      if (!done) return;
      if (status != 0) {
        stream.reset();
        return finish(uv_failure(what, status));
      }
      connection->learn_peer();
      finish(std::unique_ptr<Stream>(std::move(stream)));
    }
    int begin(const Endpoint& to);
  };

  explicit UvConnecting(std::shared_ptr<State> state) : state_(std::move(state)) {}
  ~UvConnecting() override {
    state_->timer.cancel();
    state_->done = nullptr;
    state_->stream.reset();
  }

 private:
  std::shared_ptr<State> state_;
};

int UvConnecting::State::begin(const Endpoint& to) {
  request.data = this;
  const auto on_connect = [](uv_connect_t* r, int status) {
    static_cast<State*>(r->data)->connected(status);
  };
  if (is_unix(to)) {
    uv_pipe_connect(&request, connection->pipe(), unix_path(to).c_str(), on_connect);
    return 0;
  }
  const auto address = to_sockaddr(to);
  if (!address) return UV_EINVAL;
  uv_tcp_nodelay(connection->tcp(), 1);
  return uv_tcp_connect(&request, connection->tcp(), reinterpret_cast<const sockaddr*>(&*address),
                        on_connect);
}

std::unique_ptr<Transport::Connecting> UvTransport::connect(
    const Endpoint& to, Duration timeout,
    std::function<void(Result<std::unique_ptr<Stream>>)> done) {
  auto state = std::make_shared<UvConnecting::State>();
  state->connection = new UvConnection(*this, is_unix(to));
  state->stream = std::make_unique<UvStream>(state->connection);
  state->what = "connecting to " + to.text();
  state->done = std::move(done);
  const int status = state->begin(to);
  if (status == 0) state->self = state;
  // The handle cancels the timer, so the state is there when it fires.
  state->timer = loop_.after(status == 0 ? timeout : Duration::zero(), [s = state.get(), status] {
    s->stream.reset();
    if (status != 0) return s->finish(uv_failure(s->what, status));
    s->finish(Error{Errc::kTimeout, s->what + ": no answer in time"});
  });
  return std::make_unique<UvConnecting>(std::move(state));
}

UvTransport::UvTransport(UvLoop& loop) : loop_(loop) {}

UvTransport::~UvTransport() {
  loop_.assert_current();
  while (detached_ != nullptr) detached_->close();
  assert(open_streams_ == 0);
}

void UvTransport::flush_all() {
  for (auto* connection : std::exchange(dirty_, {})) {
    connection->dirty_ = false;
    connection->flush();
  }
}

}  // namespace starling::overlay
