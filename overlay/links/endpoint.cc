#include <arpa/inet.h>
#include <sys/un.h>

#include <charconv>

#include "overlay/loop/transport.h"

namespace starling::overlay {
namespace {

constexpr View kUnixPrefix = "unix:";
constexpr std::size_t kUnixPathSizeMax = sizeof(sockaddr_un::sun_path) - 1;

Error bad(View text, const char* why) {
  return {Errc::kInvalid, "'" + Bytes(text) + "' is not an address: " + why +
                              "; write 127.0.0.1:7400, [::1]:7400 or unix:/path"};
}

bool is_numeric(int family, const std::string& host) {
  in6_addr parsed;
  return host.find('\0') == std::string::npos && inet_pton(family, host.c_str(), &parsed) == 1;
}

}  // namespace

std::string Endpoint::text() const {
  if (host.starts_with(kUnixPrefix)) return host;
  if (host.find(':') != std::string::npos) return "[" + host + "]:" + std::to_string(port);
  return host + ":" + std::to_string(port);
}

Result<Endpoint> Endpoint::parse(View text) {
  if (text.starts_with(kUnixPrefix)) {
    const View path = text.substr(kUnixPrefix.size());
    if (path.empty() || path.find('\0') != View::npos) return bad(text, "the path is empty");
    if (path.size() > kUnixPathSizeMax) return bad(text, "the path is longer than 107 bytes");
    return Endpoint{Bytes(text), 0};
  }
  const std::size_t colon = text.rfind(':');
  if (colon == View::npos) return bad(text, "the port is missing");
  const View digits = text.substr(colon + 1);
  Endpoint out;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out.port);
  if (error != std::errc() || end != digits.data() + digits.size()) {
    return bad(text, "the port is not a number up to 65535");
  }
  View host = text.substr(0, colon);
  const bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  out.host = Bytes(host);
  if (!is_numeric(bracketed ? AF_INET6 : AF_INET, out.host)) {
    return bad(text, "the host is not a numeric address");
  }
  return out;
}

}  // namespace starling::overlay
