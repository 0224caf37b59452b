#include "node/admin/http.h"

#include <boost/beast/http.hpp>
#include <nlohmann/json.hpp>

namespace starling::node {
namespace {

namespace http = boost::beast::http;

unsigned status_of(Errc code) {
  switch (code) {
    case Errc::kInvalid: return 400;
    case Errc::kUnauthenticated: return 401;
    case Errc::kDenied: return 403;
    case Errc::kNotFound: return 404;
    case Errc::kExists:
    case Errc::kSequenceReused:
    case Errc::kLaneGap: return 409;
    case Errc::kTooLarge: return 413;
    case Errc::kOverloaded: return 429;
    case Errc::kUnsupported: return 501;
    case Errc::kNotOwner:
    case Errc::kStaleRing:
    case Errc::kCatchingUp:
    case Errc::kUnavailable: return 503;
    case Errc::kTimeout: return 504;
    case Errc::kFull: return 507;
    default: return 500;
  }
}

}  // namespace

HttpResponse http_json(unsigned status, std::string json) {
  json += '\n';
  return {status, "application/json", std::move(json), {}};
}

HttpResponse http_text(unsigned status, std::string text) {
  return {status, "text/plain; charset=utf-8", std::move(text), {}};
}

HttpResponse http_error(unsigned status, const Error& error) {
  const nlohmann::json json = {{"error",
                                {{"code", static_cast<int>(error.code)},
                                 {"name", std::string(name(error.code))},
                                 {"text", error.text}}}};
  // Texts may quote what a stranger sent, so they need not be UTF-8.
  return http_json(status, json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

HttpResponse http_error(const Error& error) { return http_error(status_of(error.code), error); }

Bytes serialize(const HttpResponse& response, bool keep_alive, bool head_only) {
  const View reason = http::obsolete_reason(http::int_to_status(response.status)).data();
  Bytes out = "HTTP/1.1 " + std::to_string(response.status) + " ";
  out.append(reason).append("\r\nContent-Type: ").append(response.type);
  out.append("\r\nContent-Length: ").append(std::to_string(response.body.size()));
  out.append("\r\nCache-Control: no-store");
  if (!response.allow.empty()) out.append("\r\nAllow: ").append(response.allow);
  if (!keep_alive) out.append("\r\nConnection: close");
  out.append("\r\n\r\n");
  if (!head_only) out.append(response.body);
  return out;
}

struct HttpParser::Impl {
  http::request_parser<http::string_body> parser;
  Impl() {
    parser.header_limit(kHttpHeaderMax);
    parser.body_limit(kHttpBodyMax);
    parser.eager(true);
  }
};

HttpParser::HttpParser() : impl_(std::make_unique<Impl>()) {}
HttpParser::~HttpParser() = default;

void HttpParser::feed(View bytes) {
  if (!refusal_) held_.append(bytes);
}

void HttpParser::refuse(unsigned status, std::string text) {
  const Errc code = status == 400 ? Errc::kInvalid : Errc::kTooLarge;
  refusal_ = http_error(status, {code, std::move(text)});
  Bytes().swap(held_);
}

std::optional<HttpRequest> HttpParser::next() {
  if (refusal_) return std::nullopt;
  auto& parser = impl_->parser;
  while (!held_.empty() && !parser.is_done()) {
    boost::beast::error_code error;
    const std::size_t used = parser.put(boost::asio::buffer(held_), error);
    held_.erase(0, used);
    started_ = started_ || used > 0;
    if (error == http::error::need_more) {
      // An incomplete header is kept whole; the parser counts only what it has read.
      if (used > 0 || held_.size() <= kHttpHeaderMax) break;
      error = http::error::header_limit;
    }
    if (error == http::error::header_limit) {
      refuse(431, "the header is larger than " + std::to_string(kHttpHeaderMax) + " bytes");
    } else if (error == http::error::body_limit) {
      refuse(413, "the body is larger than " + std::to_string(kHttpBodyMax) + " bytes");
    } else if (error) {
      refuse(400, "this is not an HTTP/1.1 request: " + error.message());
    }
    if (error) return std::nullopt;
  }
  if (!parser.is_done()) return std::nullopt;

  auto message = parser.release();
  HttpRequest request;
  request.method = std::string(message.method_string());
  const std::string target(message.target());
  const std::size_t mark = std::min(target.find('?'), target.size());
  request.path = target.substr(0, mark);
  if (mark < target.size()) request.query = target.substr(mark + 1);
  request.keep_alive = message.keep_alive();
  request.body = std::move(message.body());
  impl_ = std::make_unique<Impl>();
  started_ = false;
  if (held_.empty()) Bytes().swap(held_);  // An idle connection holds no buffer.
  return request;
}

void HttpRouter::add(std::string method, std::string path, HttpHandler handler) {
  routes_[std::move(path)][std::move(method)] = std::move(handler);
}

void HttpRouter::handle(const HttpRequest& request, HttpRespond respond) const {
  auto route = routes_.find(request.path);
  if (route == routes_.end()) {
    route = routes_.find(request.path.substr(0, request.path.rfind('/') + 1) + "*");
  }
  if (route == routes_.end()) {
    return respond(http_error({Errc::kNotFound, "there is nothing at " + request.path}));
  }
  auto handler = route->second.find(request.method == "HEAD" ? "GET" : request.method);
  if (handler == route->second.end()) {
    std::string allowed;
    for (const auto& [method, unused] : route->second) {
      allowed += (allowed.empty() ? "" : ", ") + method;
    }
    HttpResponse response = http_error(
        405, {Errc::kUnsupported, request.path + " takes " + allowed + ", not " + request.method});
    response.allow = allowed;
    return respond(std::move(response));
  }
  handler->second(request, std::move(respond));
}

}  // namespace starling::node
