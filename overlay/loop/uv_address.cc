#include <arpa/inet.h>

#include "overlay/loop/uv_socket.h"

namespace starling::overlay {

bool is_unix(const Endpoint& endpoint) { return endpoint.host.starts_with("unix:"); }

std::string unix_path(const Endpoint& endpoint) { return endpoint.host.substr(5); }

Result<sockaddr_storage> to_sockaddr(const Endpoint& endpoint) {
  sockaddr_storage out{};
  auto* v4 = reinterpret_cast<sockaddr_in*>(&out);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&out);
  if (uv_ip4_addr(endpoint.host.c_str(), endpoint.port, v4) == 0) return out;
  out = {};
  if (uv_ip6_addr(endpoint.host.c_str(), endpoint.port, v6) == 0) return out;
  return Error{Errc::kInvalid, "'" + endpoint.host + "' is not a numeric address"};
}

Endpoint to_endpoint(const sockaddr* address) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address->sa_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(address);
    uv_ip4_name(v4, text, sizeof text);
    return {text, ntohs(v4->sin_port)};
  }
  if (address->sa_family == AF_INET6) {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(address);
    uv_ip6_name(v6, text, sizeof text);
    return {text, ntohs(v6->sin6_port)};
  }
  return {};
}

Error uv_failure(const std::string& what, int status) {
  return {Errc::kIo, what + ": " + uv_strerror(status)};
}

Error address_in_use(const Endpoint& at) {
  return {Errc::kAddressInUse,
          at.text() + " is taken by another process: stop it or choose another address"};
}

}  // namespace starling::overlay
