// HTTP: just enough of HTTP/1.1 to be asked by operators, probes and Prometheus.
//
// HttpParser cuts bytes into requests and knows no socket; HttpServer binds it to streams; Router finds
// the handler. Requests of one connection are answered one by one, in order; while one is being
// answered the connection is not read, so a client that pipelines waits in its own socket.
// Every error is a JSON object {"error": {"code", "name", "text"}}.
// Thread: one loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "crypto/bytes.h"
#include "crypto/result.h"
#include "node/gateway/newcomers.h"
#include "overlay/loop/loop.h"
#include "overlay/loop/transport.h"

namespace starling::node {

inline constexpr std::size_t kHttpHeaderMax = 8 << 10;        // 431
inline constexpr std::size_t kHttpBodyMax = 1 << 20;          // 413
inline constexpr std::size_t kHttpQueuedMax = 1 << 20;        // Unsent answers of one connection.
inline constexpr std::size_t kHttpConnectionsMax = 256;       // Then one that waits for a request gives way.
inline constexpr Duration kHttpFirstRequest = 3s;             // From the connection to the first byte.
inline constexpr Duration kHttpIdle = 30s;                    // Between requests.
inline constexpr Duration kHttpRequestTimeout = 10s;          // From its first byte to its last: 408
inline constexpr Duration kHttpHandlerTimeout = 60s;          // Then 504.

struct HttpRequest {
  std::string method;  // "GET"
  std::string path;    // "/v1/status", as sent, without the query.
  std::string query;   // Behind the '?'.
  Bytes body;
  bool keep_alive = true;
};

struct HttpResponse {
  unsigned status = 200;
  std::string type = "application/json";
  Bytes body;
  std::string allow;  // Sent as Allow when not empty.
};

HttpResponse http_json(unsigned status, std::string json);
HttpResponse http_text(unsigned status, std::string text);
HttpResponse http_error(const Error& error);
HttpResponse http_error(unsigned status, const Error& error);
Bytes serialize(const HttpResponse& response, bool keep_alive, bool head_only);

class HttpParser {
 public:
  HttpParser();
  ~HttpParser();
  // Bytes as they come; holds no more than one request's limits and what was fed last.
  void feed(View bytes);
  // The next whole request; nothing while it is incomplete, or once refusal() is set.
  std::optional<HttpRequest> next();
  // What to answer, before closing, to bytes that are no request or too many.
  [[nodiscard]] const std::optional<HttpResponse>& refusal() const { return refusal_; }
  // A request has begun and is not complete.
  [[nodiscard]] bool in_request() const { return !held_.empty() || started_; }

 private:
  struct Impl;
  void refuse(unsigned status, std::string text);

  std::unique_ptr<Impl> impl_;  // The request being read.
  Bytes held_;
  bool started_ = false;
  std::optional<HttpResponse> refusal_;
};

// Called once, now or later; calls after the connection is gone are ignored.
using HttpRespond = std::function<void(HttpResponse)>;
using HttpHandler = std::function<void(const HttpRequest&, HttpRespond)>;

class HttpRouter {
 public:
  // A path that ends in "/*" takes everything below it.
  void add(std::string method, std::string path, HttpHandler handler);
  // Answers 404 and 405 itself. HEAD is answered as GET.
  void handle(const HttpRequest& request, HttpRespond respond) const;

 private:
  std::map<std::string, std::map<std::string, HttpHandler>> routes_;  // By path, by method.
};

class HttpServer {
 public:
  HttpServer(overlay::Loop& loop, overlay::Transport& transport, HttpRouter router);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // kAddressInUse, kIo.
  Status listen(const overlay::Endpoint& at);
  [[nodiscard]] overlay::Endpoint local() const;
  [[nodiscard]] std::size_t connections() const { return connections_.size(); }

 private:
  class Connection;
  void accept(std::unique_ptr<overlay::Stream> stream);

  overlay::Loop& loop_;
  overlay::Transport& transport_;
  const HttpRouter router_;
  std::map<std::uint64_t, std::shared_ptr<Connection>> connections_;
  Newcomers waiting_{kHttpConnectionsMax};  // For a request, the first or the next.
  std::uint64_t next_id_ = 1;
  std::unique_ptr<overlay::Listener> listener_;
};

}  // namespace starling::node
