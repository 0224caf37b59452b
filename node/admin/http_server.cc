#include "node/admin/http.h"

namespace starling::node {

// Owned by the server; handlers hold it weakly, so an answer that comes too late goes nowhere.
class HttpServer::Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(HttpServer& server, std::uint64_t id, std::unique_ptr<overlay::Stream> stream)
      : server_(server), id_(id), stream_(std::move(stream)), address_(network_of(stream_->peer().host)) {}

  void start() {
    server_.waiting_.add(id_, address_);
    wait(kHttpFirstRequest);
    stream_->start({
        .on_data = [this](View bytes) { on_data(bytes); },
        .on_close = [this](const Error&) { close(); },
        .on_drained = [this] { on_drained(); },
    });
  }

  // The object is gone once the caller lets go of it.
  void close() {
    if (closed_) return;
    const auto self = shared_from_this();
    closed_ = true;
    timer_.cancel();
    answering_ = 0;
    server_.waiting_.remove(id_);
    server_.connections_.erase(id_);
  }

 private:
  enum class Deadline { kIdle, kRequest, kHandler };

  void on_data(View bytes) {
    const auto self = shared_from_this();
    parser_.feed(bytes);
    serve();
  }

  // Takes up the next whole request, if none is being answered.
  void serve() {
    if (answering_) return;
    auto request = parser_.next();
    if (parser_.refusal()) return finish(*parser_.refusal());
    if (!request) {
      if (parser_.in_request() && deadline_ != Deadline::kRequest) {
        wait(kHttpRequestTimeout, Deadline::kRequest);
      }
      return;
    }
    answering_ = ++answer_;
    server_.waiting_.remove(id_);
    keep_alive_ = request->keep_alive;
    head_only_ = request->method == "HEAD";
    stream_->pause();
    wait(kHttpHandlerTimeout, Deadline::kHandler);
    server_.router_.handle(*request, [weak = weak_from_this(), number = answer_](HttpResponse response) {
      if (auto self = weak.lock()) self->answer(number, std::move(response));
    });
  }

  void answer(std::uint64_t number, HttpResponse response) {
    if (answering_ != number) return;
    answering_ = 0;
    if (!keep_alive_) return finish(response);
    stream_->write(serialize(response, true, head_only_));
    server_.waiting_.add(id_, address_);
    wait(kHttpIdle);
    // In a turn of its own, so that pipelined requests do not recurse.
    server_.loop_.defer([weak = weak_from_this()] {
      if (auto self = weak.lock()) self->go_on();
    });
  }

  // A client that asks and does not read is not served further.
  void go_on() {
    if (closed_) return;
    blocked_ = stream_->queued() > kHttpQueuedMax;
    if (blocked_) return;
    stream_->resume();
    serve();
  }

  void on_drained() {
    const auto self = shared_from_this();
    if (blocked_) go_on();
  }

  void wait(Duration limit, Deadline deadline = Deadline::kIdle) {
    deadline_ = deadline;
    timer_ = server_.loop_.after(limit, [this] { expired(); });
  }

  void expired() {
    const auto self = shared_from_this();
    if (deadline_ == Deadline::kIdle) return close();
    const bool handler = deadline_ == Deadline::kHandler;
    finish(http_error(handler ? 504 : 408,
                      {Errc::kTimeout, handler ? "the node took too long to answer; the outcome is unknown"
                                               : "the request did not arrive in time"}));
  }

  // The last response of this connection.
  void finish(const HttpResponse& response) {
    stream_->write(serialize(response, false, head_only_));
    stream_->close_after_flush();
    close();
  }

  HttpServer& server_;
  const std::uint64_t id_;
  HttpParser parser_;
  std::uint64_t answer_ = 0;     // Number of the newest request.
  std::uint64_t answering_ = 0;  // Its number while it is being answered, else 0.
  bool keep_alive_ = true;
  bool head_only_ = false;
  bool blocked_ = false;
  bool closed_ = false;
  Deadline deadline_ = Deadline::kIdle;
  overlay::Timer timer_;
  std::unique_ptr<overlay::Stream> stream_;
  const std::string address_;
};

HttpServer::HttpServer(overlay::Loop& loop, overlay::Transport& transport, HttpRouter router)
    : loop_(loop), transport_(transport), router_(std::move(router)) {}

HttpServer::~HttpServer() {
  listener_.reset();
  connections_.clear();
}

Status HttpServer::listen(const overlay::Endpoint& at) {
  TRY_ASSIGN(listener_, transport_.listen(at, [this](auto stream) { accept(std::move(stream)); }));
  return ok_status();
}

overlay::Endpoint HttpServer::local() const { return listener_->local(); }

void HttpServer::accept(std::unique_ptr<overlay::Stream> stream) {
  if (connections_.size() >= kHttpConnectionsMax) {
    const auto oldest = waiting_.to_give_way();
    if (!oldest) return;  // Destroying the stream closes it.
    const auto connection = connections_.at(*oldest);
    connection->close();
  }
  const std::uint64_t id = next_id_++;
  auto connection = std::make_shared<Connection>(*this, id, std::move(stream));
  connections_.emplace(id, connection);
  connection->start();
}

}  // namespace starling::node
