#include "node/cli/admin_client.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include <boost/beast/http.hpp>

#include "node/config.h"

namespace starling::node::cli {
namespace {

namespace http = boost::beast::http;

constexpr std::size_t kAnswerMax = 64 << 20;

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Socket() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_;
};

Result<Socket> connect_to(const std::string& path, Duration timeout) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return Error{Errc::kInvalid, "the socket path " + path +
                                     " is longer than 107 bytes: use a shorter --data, or a relative one"};
  }
  path.copy(address.sun_path, path.size());
  Socket socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto microseconds = std::chrono::duration_cast<std::chrono::microseconds>(timeout).count();
  const timeval limit{microseconds / 1'000'000, microseconds % 1'000'000};
  setsockopt(socket.fd(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(socket.fd(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (socket.fd() < 0 ||
      ::connect(socket.fd(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    const int cause = errno;
    if (cause == EACCES || cause == EPERM) {
      return Error{Errc::kDenied, "you may not open " + path + ": run this as the user of the node"};
    }
    return Error{Errc::kIo, "no node answers at " + path + " (" + std::strerror(cause) +
                                "): start it with `starling run`, or name its folder with --data"};
  }
  return socket;
}

Error broken(const std::string& path) {
  if (errno == EAGAIN || errno == EWOULDBLOCK) {
    return {Errc::kTimeout, "the node at " + path +
                                " did not answer in time; the outcome is unknown: look with "
                                "`starling status`, or wait longer with --timeout"};
  }
  return {Errc::kIo, "the node at " + path + " closed the connection: see its log"};
}

Result<std::string> exchange(const Socket& socket, const std::string& path, std::string_view request) {
  while (!request.empty()) {
    const ssize_t n = ::send(socket.fd(), request.data(), request.size(), MSG_NOSIGNAL);
    if (n <= 0) return broken(path);
    request.remove_prefix(static_cast<std::size_t>(n));
  }
  std::string answer;
  char buffer[16 << 10];
  while (answer.size() < kAnswerMax) {
    errno = 0;
    const ssize_t n = ::recv(socket.fd(), buffer, sizeof buffer, 0);
    if (n == 0) return answer;
    if (n < 0) return broken(path);
    answer.append(buffer, static_cast<std::size_t>(n));
  }
  return Error{Errc::kTooLarge, "the node at " + path + " sent too long an answer"};
}

Error error_of(const Json& body, unsigned status) {
  if (!body.is_object() || !body.contains("error") || !body["error"].is_object()) {
    return {Errc::kIo, "the node answered with HTTP status " + std::to_string(status)};
  }
  return {static_cast<Errc>(number_of(body["error"], "code")), text_of(body["error"], "text")};
}

std::string admin_socket(const Arguments& options) {
  return options.has("admin") ? options.text("admin") : "unix:" + options.text("data") + "/admin.sock";
}

}  // namespace

Result<Json> admin_call(const std::string& socket, const std::string& method, const Json& arguments,
                        Duration timeout, bool& reached) {
  reached = false;
  if (!socket.starts_with("unix:")) {
    return Error{Errc::kInvalid, "'" + socket + "' is no admin socket: write unix:/path/to/admin.sock"};
  }
  const std::string path = socket.substr(5);
  TRY_ASSIGN(const Socket connection, connect_to(path, timeout));
  const std::string body = arguments.dump(-1, ' ', false, Json::error_handler_t::replace);
  const std::string request = "POST /v1/" + method + " HTTP/1.1\r\nHost: starling\r\nConnection: close\r\n" +
                              "Content-Type: application/json\r\nContent-Length: " +
                              std::to_string(body.size()) + "\r\n\r\n" + body;
  TRY_ASSIGN(const std::string bytes, exchange(connection, path, request));

  http::response_parser<http::string_body> parser;
  parser.eager(true);
  parser.body_limit(kAnswerMax);
  boost::beast::error_code error;
  parser.put(boost::asio::buffer(bytes), error);
  const auto& answer = parser.get();
  const Json json = Json::parse(answer.body(), nullptr, false);
  if (error || !parser.is_done() || !json.is_object()) {
    return Error{Errc::kIo, "what answers at " + path + " is not a Starling node"};
  }
  reached = true;
  if (answer.result_int() != 200) return error_of(json, answer.result_int());
  return json;
}

int admin_call(const Arguments& options, const std::string& method, const Json& arguments, Json& answer,
               int tries) {
  return admin_call(options, admin_socket(options), method, arguments, answer, tries);
}

std::vector<std::string> admin_sockets(const Arguments& options) {
  std::vector<std::string> out = {admin_socket(options)};
  if (options.has("admin")) return out;
  for (unsigned number = 2; number <= kLoopsMax; ++number) {
    const std::string path = loop_folder(options.text("data"), number) + "/admin.sock";
    if (connect_to(path, std::chrono::seconds(1)).ok()) out.push_back("unix:" + path);
  }
  return out;
}

int admin_call(const Arguments& options, const std::string& socket, const std::string& method, const Json& arguments,
               Json& answer, int tries) {
  bool reached = false;
  auto result = admin_call(socket, method, arguments, std::chrono::seconds(options.number("timeout")),
                           reached);
  const bool unsure = !result && reached &&
                      (result.code() == Errc::kUnavailable || result.code() == Errc::kTimeout);
  if (unsure && tries > 1) return admin_call(options, socket, method, arguments, answer, tries - 1);
  if (!result) {
    const bool silent = !reached && result.code() == Errc::kIo;
    return complain(silent ? kExitUnreachable : exit_code(result.error()), result.error().text);
  }
  answer = std::move(*result);
  return kExitOk;
}

std::string text_of(const Json& json, const char* field) {
  const auto it = json.find(field);
  if (it == json.end()) return "";
  if (it->is_string()) return it->get<std::string>();
  return it->is_null() ? "" : it->dump();
}

std::uint64_t number_of(const Json& json, const char* field) {
  const auto it = json.find(field);
  if (it == json.end() || !it->is_number()) return 0;
  if (!it->is_number_float()) return it->get<std::uint64_t>();
  const double number = it->get<double>();
  return number >= 0 && number < 0x1p64 ? static_cast<std::uint64_t>(number) : 0;
}

double real_of(const Json& json, const char* field) {
  const auto it = json.find(field);
  return it == json.end() || !it->is_number() ? 0 : it->get<double>();
}

bool flag_of(const Json& json, const char* field) {
  const auto it = json.find(field);
  return it != json.end() && it->is_boolean() && it->get<bool>();
}

const Json& object_of(const Json& json, const char* field) {
  static const Json empty = Json::object();
  const auto it = json.find(field);
  return it == json.end() || !it->is_object() ? empty : *it;
}

const Json& list_of(const Json& json, const char* field) {
  static const Json empty = Json::array();
  const auto it = json.find(field);
  return it == json.end() || !it->is_array() ? empty : *it;
}

}  // namespace starling::node::cli
