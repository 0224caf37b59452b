// Options that several commands share, and the addresses behind them.
#include <netdb.h>

#include <fstream>
#include <memory>

#include <nlohmann/json.hpp>

#include "node/cli/options.h"

namespace starling::node::cli {
namespace {

// What `starling run` wrote next to its data.
Result<overlay::Endpoint> client_of(const std::string& data) {
  const std::string path = data + "/addresses.json";
  std::ifstream file(path);
  if (!file) {
    return Error{Errc::kNotFound, "no node runs in " + data +
                                      ": give --client HOST:PORT, or start one with: starling run --data " +
                                      data};
  }
  const auto json = nlohmann::json::parse(file, nullptr, false);
  if (!json.is_object() || !json.contains("client") || !json["client"].is_string()) {
    return Error{Errc::kInvalid, path + " is damaged: restart the node, or give --client HOST:PORT"};
  }
  return overlay::Endpoint::parse(json["client"].get<std::string>());
}

}  // namespace

void add_data_option(po::options_description& options) {
  options.add_options()("data",
                        po::value<std::string>()->value_name("FOLDER")->default_value("./starling-data"),
                        "the node's data folder");
}

void add_json_option(po::options_description& options) {
  options.add_options()("json", po::bool_switch(), "print JSON instead of a table");
}

void add_admin_options(po::options_description& options) {
  add_data_option(options);
  options.add_options()("admin", po::value<std::string>()->value_name("unix:PATH"),
                        "the node's admin socket, instead of <data>/admin.sock")(
      "timeout", po::value<std::uint64_t>()->value_name("SECONDS")->default_value(30),
      "give up after this long");
}

void add_client_options(po::options_description& options) {
  add_data_option(options);
  options.add_options()("client", po::value<std::vector<std::string>>()->value_name("HOST:PORT,..."),
                        "client addresses of nodes or of a balancer; without it, the node that runs in "
                        "--data");
}

Result<overlay::Endpoint> resolve_endpoint(View text) {
  auto numeric = overlay::Endpoint::parse(text);
  const std::size_t colon = text.rfind(':');
  if (numeric || text.starts_with("unix:") || text.starts_with('[') || colon == View::npos || colon == 0) {
    return numeric;
  }
  const std::string host(text.substr(0, colon));
  auto port = overlay::Endpoint::parse("0.0.0.0" + std::string(text.substr(colon)));
  if (!port) return numeric;
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (error != 0) {
    return Error{Errc::kInvalid, "the host name '" + host + "' is not known (" + gai_strerror(error) +
                                     "): check the spelling, or give its address"};
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owned(found, freeaddrinfo);
  // Nodes listen on IPv4 unless told otherwise, so of "localhost" that one.
  const addrinfo* best = found;
  while (best != nullptr && best->ai_family != AF_INET) best = best->ai_next;
  if (best == nullptr) best = found;
  char numeric_host[NI_MAXHOST] = "";
  if (getnameinfo(best->ai_addr, best->ai_addrlen, numeric_host, sizeof numeric_host, nullptr, 0,
                  NI_NUMERICHOST) != 0) {
    return numeric;
  }
  return overlay::Endpoint{numeric_host, port->port};
}

Result<std::vector<overlay::Endpoint>> client_endpoints(const Arguments& arguments) {
  std::vector<overlay::Endpoint> endpoints;
  for (const std::string& item : arguments.list("client")) {
    for (std::size_t at = 0; at <= item.size();) {
      const std::size_t comma = std::min(item.find(',', at), item.size());
      if (comma > at) {
        TRY_ASSIGN(auto endpoint, resolve_endpoint(View(item).substr(at, comma - at)));
        endpoints.push_back(std::move(endpoint));
      }
      at = comma + 1;
    }
  }
  if (!endpoints.empty()) return endpoints;
  TRY_ASSIGN(auto endpoint, client_of(arguments.text("data")));
  return std::vector<overlay::Endpoint>{endpoint};
}

}  // namespace starling::node::cli
