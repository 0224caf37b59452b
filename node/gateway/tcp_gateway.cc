#include "node/gateway/tcp_gateway.h"

#include <algorithm>

namespace starling::node {

using overlay::Stream;

namespace {
constexpr Duration kSweepEvery = 5s;
constexpr Duration kShedEvery = 200ms;
constexpr Duration kDrainEvery = 50ms;
constexpr std::size_t kDrainAtOnceMin = 50;
constexpr Duration kShedAfter = 2s;  // A session that comes while we shed may collect what waits for it.
}  // namespace

class TcpGateway::Connection final : public Door {
 public:
  Connection(TcpGateway& gateway, std::uint64_t id, std::unique_ptr<Stream> stream)
      : gateway_(gateway),
        id_(id),
        stream_(std::move(stream)),
        address_(network_of(stream_->peer().host)),
        reader_(protocol::kLoginFrameSizeMax),
        session_(gateway.services_, *this) {}

  void start() {
    stream_->start({[this](View bytes) { received(bytes); },
                    [this](const Error&) { gateway_.retire(id_); },
                    [this] { drained(); }});
  }

  void write(Shared frame) override {
    if (!closed_) stream_->write(std::move(frame));
  }
  void write(Bytes frame) override {
    if (!closed_) stream_->write(std::move(frame));
  }
  [[nodiscard]] std::size_t queued() const override { return stream_->queued(); }
  void close() override {
    if (std::exchange(closed_, true)) return;
    stream_->close_after_flush();
    gateway_.retire(id_);
  }

  void proven() override { gateway_.newcomers_.remove(id_); }
  [[nodiscard]] std::string address() const override { return address_; }

  Session& session() { return session_; }

 private:
  void received(View bytes) {
    if (session_.logged_in()) reader_.set_size_max(protocol::kFrameSizeMax);
    const auto read = reader_.feed(bytes, [this](View body) {
      session_.receive(body);
      return !closed_;
    });
    if (closed_) return;
    // Whoever does not read our answers is not read either.
    if (queued() > kSessionQueueBytesMax && !std::exchange(paused_, true)) stream_->pause();
    if (read) return;
    ++gateway_.services_.view.counters.frames_refused["too_large"];
    protocol::ErrorMessage message;
    message.code = static_cast<std::uint8_t>(read.code());
    message.name = std::string(name(read.code()));
    message.text = read.error().text;
    stream_->write(protocol::frame(message));
    close();
  }

  void drained() {
    if (closed_) return;
    if (std::exchange(paused_, false)) stream_->resume();
    session_.on_drained();
  }

  TcpGateway& gateway_;
  const std::uint64_t id_;
  bool closed_ = false;
  bool paused_ = false;
  std::unique_ptr<Stream> stream_;
  const std::string address_;
  protocol::FrameReader reader_;
  Session session_;
};

TcpGateway::TcpGateway(SessionServices services, overlay::Transport& transport)
    : services_(services), transport_(transport) {
  sweep();
}

TcpGateway::~TcpGateway() { *alive_ = false; }

Status TcpGateway::listen(const overlay::Endpoint& at) {
  TRY_ASSIGN(listener_, transport_.listen(at, [this](std::unique_ptr<Stream> stream) {
    accept(std::move(stream));
  }));
  local_ = listener_->local();
  return ok_status();
}

void TcpGateway::accept(std::unique_ptr<Stream> stream) {
  if (connections_.size() >= kConnectionsMax || newcomers_.size() >= kConnectionsNotLoggedInMax) {
    const auto oldest = newcomers_.to_give_way();
    if (!oldest) return;  // Destroying the stream closes it.
    connections_.at(*oldest)->close();
  }
  const std::uint64_t id = next_id_++;
  auto connection = std::make_unique<Connection>(*this, id, std::move(stream));
  auto& started = *connection;
  newcomers_.add(id, started.address());
  connections_.emplace(id, std::move(connection));
  started.start();
}

void TcpGateway::retire(std::uint64_t id) {
  newcomers_.remove(id);
  retired_.push_back(id);
  if (retired_.size() > 1) return;
  services_.view.loop.defer([this, alive = alive_] {
    if (!*alive) return;
    for (const auto retired : std::exchange(retired_, {})) connections_.erase(retired);
  });
}

void TcpGateway::sweep() {
  sweep_ = services_.view.loop.after(kSweepEvery, [this] { sweep(); });
  const Instant now = services_.view.loop.now();
  for (auto& [id, connection] : connections_) {
    Session& session = connection->session();
    session.recheck_account();
    const bool late = !session.logged_in() && now - session.opened() > kLoginDeadline;
    if (late || now - session.heard() > kSilenceMax) connection->close();
  }
}

void TcpGateway::send_away(std::vector<std::uint64_t> ids, const std::vector<Suggestions::Node>& nodes) {
  for (const auto id : ids) {
    connections_.at(id)->session().go_away(shed_text_, suggestions_.next(nodes, services_.view.random));
  }
}

void TcpGateway::drain(const std::string& text, Others nodes, std::function<void()> done) {
  listener_.reset();
  shed_.cancel();
  shed_text_ = text;
  others_ = std::move(nodes);
  drained_ = std::move(done);
  shed_until_ = services_.view.loop.now() + kDrainOver;
  drain_some();
}

void TcpGateway::drain_some() {
  auto& loop = services_.view.loop;
  std::vector<std::uint64_t> ids;
  for (const auto& [id, connection] : connections_) {
    if (!connection->session().closed()) ids.push_back(id);
  }
  std::sort(ids.begin(), ids.end());
  const Duration left = std::max(shed_until_ - loop.now(), Duration(0));
  const auto turns = static_cast<std::size_t>(left / kDrainEvery) + 1;
  const std::size_t now = std::min(ids.size(), std::max(kDrainAtOnceMin, (ids.size() + turns - 1) / turns));
  const bool all = now == ids.size();
  ids.resize(now);
  send_away(std::move(ids), others_());
  if (!all) {
    shed_ = loop.after(kDrainEvery, [this] { drain_some(); });
  } else if (drained_) {
    std::exchange(drained_, nullptr)();
  }
}

void TcpGateway::shed(const std::string& text, Others nodes) {
  if (shedding()) return;
  shed_text_ = text;
  others_ = std::move(nodes);
  shed_until_ = services_.view.loop.now() + kShedOver;
  shed_some();
}

void TcpGateway::stop_shedding() {
  if (listener_ == nullptr) return;  // Draining is for good.
  others_ = nullptr;
  shed_.cancel();
}

void TcpGateway::shed_some() {
  auto& loop = services_.view.loop;
  shed_ = loop.after(kShedEvery, [this] { shed_some(); });
  std::vector<std::uint64_t> ids;
  for (const auto& [id, connection] : connections_) {
    const Session& session = connection->session();
    if (session.logged_in() && loop.now() - session.opened() >= kShedAfter) ids.push_back(id);
  }
  if (ids.empty()) return;
  std::sort(ids.begin(), ids.end());
  const Duration left = std::max(shed_until_ - loop.now(), Duration(0));
  const auto turns = static_cast<std::size_t>(left / kShedEvery) + 1;
  ids.resize((ids.size() + turns - 1) / turns);
  const auto nodes = others_();
  if (!nodes.empty()) send_away(std::move(ids), nodes);
}

}  // namespace starling::node
