#include "node/cli/node_options.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "node/cli/sites.h"
#include "overlay/loop/log.h"
#include "overlay/ring/ring_version.h"

namespace starling::node::cli {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;
constexpr std::uint64_t kRetentionMaxDays = 36'500;

std::string token_path(const std::string& data) { return data + "/join-token"; }

po::typed_value<std::string>* text(const std::string& value, const char* kind) {
  return po::value<std::string>()->default_value(value)->value_name(kind);
}

po::typed_value<std::uint64_t>* number(std::uint64_t value) {
  return po::value<std::uint64_t>()->default_value(value)->value_name("N");
}

Error wrong(const std::string& option, const std::string& takes) {
  return {Errc::kInvalid, "--" + option + " takes " + takes};
}

Result<overlay::Endpoint> listening(const Arguments& arguments, const std::string& option) {
  auto endpoint = resolve_endpoint(arguments.text(option));
  if (!endpoint) return Error{endpoint.code(), "--" + option + ": " + endpoint.error().text};
  if (endpoint->host.starts_with("unix:")) return wrong(option, "an address and port, as 127.0.0.1:7400");
  return endpoint;
}

Result<std::uint64_t> within(const Arguments& arguments, const std::string& option, std::uint64_t low,
                             std::uint64_t high) {
  const std::uint64_t value = arguments.number(option);
  if (value >= low && value <= high) return value;
  return wrong(option, "a number from " + std::to_string(low) + " to " + std::to_string(high) + ", not " +
                           std::to_string(value));
}

// The other nodes need an address that leads here.
Status advertise(const Arguments& arguments, Config& config) {
  const std::string host = arguments.text("advertise");
  if (!host.empty()) {
    auto address = resolve_endpoint((host.find(':') == std::string::npos ? host : "[" + host + "]") + ":1");
    if (!address) return Error{address.code(), "--advertise: " + address.error().text};
    config.advertise = address->host;
  } else if (config.link.host == "0.0.0.0" || config.link.host == "::") {
    return Error{Errc::kInvalid, "--link " + config.link.text() +
                                     " tells other nodes no address to reach this one: add --advertise HOST"};
  }
  return ok_status();
}

Status client_advertise(const Arguments& arguments, Config& config) {
  if (arguments.text("client-advertise").empty()) return ok_status();
  TRY_ASSIGN(const auto address, listening(arguments, "client-advertise"));
  if (address.port == 0) return wrong("client-advertise", "an address with its port, as 192.0.2.7:7400");
  config.client_advertise = address.text();
  return ok_status();
}

Status cluster_choices(const Arguments& arguments, Config& config) {
  TRY_ASSIGN(const std::uint64_t copies, within(arguments, "copies", 1, overlay::kCopiesMax));
  TRY_ASSIGN(const std::uint64_t synced, within(arguments, "synced", 0, copies));
  TRY_ASSIGN(const std::uint64_t partitions, within(arguments, "partitions", 1, overlay::kPartitionsMax));
  if (!std::has_single_bit(partitions)) return wrong("partitions", "a power of two, as 4096");
  config.copies = static_cast<std::uint8_t>(copies);
  config.synced = static_cast<std::uint8_t>(synced);
  config.partitions = static_cast<std::uint32_t>(partitions);
  const auto sites = parse_sites(arguments.text("sites"), arguments.text("home-site"));
  if (!sites) return Error{Errc::kInvalid, "--sites: " + sites.error().text};
  config.sites = *sites;
  if (config.sites.on() && synced > config.sites.home) {
    return wrong("synced", "at most the copies at home, " + std::to_string(config.sites.home) + ", with --sites");
  }
  return ok_status();
}

Error io_error(const std::string& what, const std::string& path) {
  return {Errc::kIo, "cannot " + what + " " + path + ": " + std::strerror(errno)};
}

// The token, and in a second line the node to be replaced.
Status read_token(Config& config) {
  std::ifstream file(token_path(config.data));
  std::string dead;
  if (!file || !(file >> config.join_token) || !(file >> dead)) return ok_status();
  const auto replaces = parse_node_id(dead);
  if (!replaces) return Error{Errc::kCorrupt, token_path(config.data) + " does not name the node that is to be replaced"};
  config.replaces = *replaces;
  return ok_status();
}

// Where loop `number` listens, or tells devices to come; port 0 takes a free one for each.
overlay::Endpoint of_loop(overlay::Endpoint first, unsigned number) {
  if (first.port != 0) first.port = static_cast<std::uint16_t>(first.port + kLoopPorts * (number - 1));
  return first;
}

// A zone that only this machine has, so that copies are put on others, too.
Status loops(const Arguments& arguments, Config& config) {
  TRY_ASSIGN(const std::uint64_t loops, within(arguments, "loops", 1, kLoopsMax));
  config.loops = static_cast<unsigned>(loops);
  if (loops == 1) return ok_status();
  if (config.sites.on()) return wrong("loops", "1 with --sites: zones are sites then, and two copies of one could lie on this machine");
  TRY(check_loops(config, config.loops));
  std::array<char, 256> host{};
  if (arguments.given("zone") || ::gethostname(host.data(), host.size() - 1) != 0 || host[0] == 0) return ok_status();
  const std::string name = host.data();
  config.zone = name.substr(name.size() - std::min(name.size(), overlay::kZoneSizeMax));  // Long ones differ at their ends.
  return ok_status();
}

}  // namespace

void add_node_options(po::options_description& options) {
  const Config config;
  add_data_option(options);
  options.add_options()
      ("client", text(config.client.text(), "HOST:PORT"), "where clients connect; port 0 takes a free one")
      ("link", text(config.link.text(), "HOST:PORT"), "where other nodes connect, TCP and UDP")
      ("admin", text(config.admin.text(), "HOST:PORT"), "/metrics, /healthz and /readyz over HTTP")
      ("advertise", text("", "HOST"), "how other nodes reach this one, when not by the host of --link")
      ("client-advertise", text("", "HOST:PORT"), "where devices are told to find this node, when not by --client; "
                                                  "behind a balancer, that one's address")
      ("zone", text(config.zone, "NAME"), "copies are put in different zones where possible; with --loops the host's name")
      ("loops", number(config.loops), "nodes in this process, each on a core, with its own ports: the next ones are 10 higher")
      ("weight", number(config.weight), "share of the data, relative to the other nodes")
      ("copies", number(config.copies), "copies of everything, when this node starts a new cluster")
      ("synced", number(config.synced),
       "copies that must be on disk before a message is acknowledged; 0: a majority; for a new cluster")
      ("partitions", number(config.partitions), "a power of two; for a new cluster")
      ("sites", text("", "HOME+AWAY"), "copies in the home zone of a mailbox, which are waited for, and in others; for a "
                                       "new cluster, instead of --copies (starling sites)")
      ("home-site", text("", "ZONE"), "with --sites: the home of everything; none: the homes are spread")
      ("retention", po::value<std::uint64_t>()->value_name("DAYS")->default_value(config.retention_ms / kDayMs),
       "how long history is kept; the same on every node, at least 3")
      ("free-space-min", po::value<std::uint64_t>()->value_name("MIB")->default_value(
                             config.free_space_min / kMiB),
       "read-only below this much free disk")
      ("log-level", text(config.log_level, "LEVEL"), "trace, debug, info, warn, error or off")
      ("log-file", text("", "FILE"), "instead of standard error; rotated")
      ("log-json", po::bool_switch(), "one JSON object per log line");
}

namespace {

// A line of starling.conf ends at #, and says nothing of blanks at its ends.
Status fits_a_line(const Arguments& arguments, const std::string& option) {
  const std::string text = arguments.text(option);
  const bool odd = std::any_of(text.begin(), text.end(), [](unsigned char c) { return c == '#' || c < 0x20 || c == 0x7F; });
  if (!odd && !text.starts_with(' ') && !text.ends_with(' ')) return ok_status();
  return wrong(option, "a text without '#', control characters and blanks at its ends");
}

}  // namespace

Result<Config> make_config(const Arguments& arguments) {
  Config config;
  for (const char* option : {"zone", "home-site", "log-file"}) TRY(fits_a_line(arguments, option));
  config.data = arguments.text("data");
  if (config.data.empty()) return wrong("data", "the name of a folder");
  while (config.data.size() > 1 && config.data.back() == '/') config.data.pop_back();
  TRY(overlay::Endpoint::parse("unix:" + config.data + "/admin.sock"));
  TRY_ASSIGN(config.client, listening(arguments, "client"));
  TRY_ASSIGN(config.link, listening(arguments, "link"));
  TRY_ASSIGN(config.admin, listening(arguments, "admin"));
  TRY(advertise(arguments, config));
  TRY(client_advertise(arguments, config));
  config.zone = arguments.text("zone");
  if (config.zone.size() > overlay::kZoneSizeMax) {
    return wrong("zone", "a name of up to " + std::to_string(overlay::kZoneSizeMax) + " bytes");
  }
  TRY_ASSIGN(const std::uint64_t weight, within(arguments, "weight", 1, overlay::kWeightMax));
  config.weight = static_cast<std::uint32_t>(weight);
  TRY(cluster_choices(arguments, config));
  TRY(loops(arguments, config));
  TRY_ASSIGN(const std::uint64_t free_space, within(arguments, "free-space-min", 0, std::uint64_t{1} << 30));
  config.free_space_min = free_space * kMiB;
  TRY_ASSIGN(const std::uint64_t days, within(arguments, "retention", kRetentionMinMs / kDayMs, kRetentionMaxDays));
  config.retention_ms = days * kDayMs;
  config.log_level = arguments.text("log-level");
  TRY(overlay::parse_log_level(config.log_level));
  config.log_file = arguments.text("log-file");
  config.log_json = arguments.flag("log-json");
  TRY(read_token(config));
  return config;
}

std::string config_text(const Config& config) {
  std::ostringstream out;
  out << "# Settings of this node. Flags and STARLING_* variables win over them; see starling run --help.\n"
      << "client = " << config.client.text() << "\nlink = " << config.link.text()
      << "\nadmin = " << config.admin.text() << "\n";
  if (!config.advertise.empty()) out << "advertise = " << config.advertise << "\n";
  if (!config.client_advertise.empty()) out << "client-advertise = " << config.client_advertise << "\n";
  if (config.loops != 1) out << "loops = " << config.loops << "\n";
  out << "zone = " << config.zone << "\nweight = " << config.weight
      << "\nretention = " << config.retention_ms / kDayMs
      << "\nfree-space-min = " << config.free_space_min / kMiB << "\nlog-level = " << config.log_level << "\n";
  if (!config.log_file.empty()) out << "log-file = " << config.log_file << "\n";
  if (config.log_json) out << "log-json = true\n";
  out << "# These count only while the node starts a cluster of its own.\n"
      << "copies = " << unsigned{config.copies} << "\nsynced = " << unsigned{config.synced}
      << "\npartitions = " << config.partitions << "\n";
  if (config.sites.on()) {
    out << "sites = " << unsigned{config.sites.home} << "+" << unsigned{config.sites.away} << "\n";
    if (!config.sites.only.empty()) out << "home-site = " << config.sites.only << "\n";
  }
  return out.str();
}

Status check_loops(const Config& first, unsigned last) {
  if (first.link.port == 0) return wrong("loops", "a --link with a port: with port 0 they would not find each other after a restart");
  const int stretch = kLoopPorts * static_cast<int>(last - 1);
  const std::array<int, 3> ports = {first.client.port, first.link.port, first.admin.port};
  for (const int port : ports) {
    if (port + stretch > UINT16_MAX) {
      return wrong("loops", "ports up to 65535: loop " + std::to_string(last) + " would listen on " + std::to_string(port + stretch));
    }
    for (const int other : ports) {
      if (port == 0 || other <= port || (other - port) % kLoopPorts != 0 || other - port > stretch) continue;
      return wrong("loops", "--client, --link and --admin that are no multiple of " + std::to_string(kLoopPorts) + " apart: " +
                                std::to_string(other) + " would be used twice");
    }
  }
  TRY(overlay::Endpoint::parse("unix:" + loop_folder(first.data, last) + "/admin.sock"));
  return ok_status();
}

Config config_of_loop(const Config& first, unsigned number) {
  Config out = first;
  out.data = loop_folder(first.data, number);
  out.client = of_loop(first.client, number);
  out.link = of_loop(first.link, number);
  out.admin = of_loop(first.admin, number);
  const auto advertised = overlay::Endpoint::parse(first.client_advertise);
  // Ours, seen from outside; else it is a balancer's, and that of all loops.
  const bool own = advertised && advertised->port == first.client.port &&
                   (advertised->host == first.client.host || advertised->host == first.advertise);
  if (own) out.client_advertise = of_loop(*advertised, number).text();
  out.may_found = false;
  out.join_token.clear();
  out.replaces = {};
  if (auto token = read_token(out); !token) out.join_token.clear();
  return out;
}

std::vector<std::string> words_to_go_on(std::vector<std::string> words) {
  if (words.size() < 2 || (words[1] != "join" && words[1] != "replace")) return words;
  po::options_description options;
  add_node_options(options);
  options.add_options()("token", po::value<std::string>())("node", po::value<std::string>())(
      "place", po::value<std::vector<std::string>>());
  po::positional_options_description places;
  places.add("place", -1);
  std::vector<std::string> out = {words[0], "run"};
  const auto parsed =
      po::command_line_parser(std::vector<std::string>(words.begin() + 2, words.end())).options(options).positional(places).run();
  for (const auto& option : parsed.options) {
    if (option.string_key == "place" || option.string_key == "token" || option.string_key == "node") continue;
    out.insert(out.end(), option.original_tokens.begin(), option.original_tokens.end());
  }
  return out;
}

Status keep_join_token(const Config& config) {
  const std::string dead = config.replaces.is_zero() ? "" : to_text(config.replaces) + "\n";
  return write_file(token_path(config.data), config.join_token + "\n" + dead, 0600);
}

void drop_join_token(const Config& config) { ::unlink(token_path(config.data).c_str()); }

Status create_folder(const std::string& folder) {
  const std::filesystem::path path(folder);
  std::error_code error;
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), error);
  if (!error && ::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return io_error("create", folder);
  if (error || !std::filesystem::is_directory(path, error)) {
    return Error{Errc::kIo, "cannot create the folder " + folder + ": " +
                                (error ? error.message() : "it is a file") + "; choose another --data"};
  }
  return ok_status();
}

std::string close_folder(const std::string& folder) {
  struct stat found {};
  const mode_t others = S_IRWXG | S_IRWXO;
  if (::stat(folder.c_str(), &found) != 0 || (found.st_mode & others) == 0) return {};
  std::error_code error;
  const std::filesystem::path path(folder);
  const bool is_a_nodes = std::filesystem::is_empty(path, error) || std::filesystem::exists(path / "store", error) ||
                          std::filesystem::exists(path / "starling.conf", error);
  if (is_a_nodes && ::chmod(folder.c_str(), found.st_mode & ~others & 07777) == 0) return {};
  return "the folder " + folder + " is open to others of this machine, and " +
         (is_a_nodes ? "this user may not close it" : "is not a node's alone") +
         ". New files in it are closed to them; files of earlier versions may not be";
}

Status write_file(const std::string& path, const std::string& text, unsigned mode) {
  const std::string beside = path + ".new";
  const int fd = ::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
  if (fd < 0) return io_error("write", beside);
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
                       ::fsync(fd) == 0;
  const bool closed = ::close(fd) == 0;
  if (!written || !closed || ::rename(beside.c_str(), path.c_str()) != 0) return io_error("write", path);
  return ok_status();
}

}  // namespace starling::node::cli
