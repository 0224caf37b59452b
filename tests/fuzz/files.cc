// What operators write, and what the commands read: starling.conf, scripts for `replay`, the node's answers as JSON,
// bodies that `bench` stamped.
#include <netdb.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "crypto/text.h"
#include "node/cli/load/script.h"
#include "node/cli/load/stamp.h"
#include "node/cli/movement_step.h"
#include "node/cli/node_options.h"
#include "node/cli/sites.h"
#include "overlay/loop/log.h"
#include "tests/fuzz/fuzz.h"

// No name of a host is asked for.
extern "C" int getaddrinfo(const char*, const char*, const addrinfo*, addrinfo**) { return EAI_NONAME; }

using namespace starling;
using namespace starling::node;
using namespace starling::node::cli;

namespace {

struct Folder {
  Folder() {
    const char* memory = "/dev/shm";
    const auto parent = std::filesystem::exists(memory) ? memory : std::filesystem::temp_directory_path();
    path = parent / ("starling-fuzz-" + std::to_string(::getpid()));
    std::filesystem::create_directories(path);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::filesystem::path path;
};

// From a starling.conf, and the flags behind --data.
Result<Config> config_of(View text, std::vector<std::string> flags = {}) {
  static const Folder folder;
  static const Command command{.name = "run", .usage = "run", .options = add_node_options, .starts_node = true};
  std::ofstream(folder.path / "starling.conf", std::ios::binary | std::ios::trunc) << text;
  flags.insert(flags.begin(), {"--data", folder.path.string()});
  TRY_ASSIGN(const auto arguments,
             parse_arguments(command, flags, [](const std::string&) -> const char* { return nullptr; }));
  return make_config(arguments);
}

void survives(const Result<Config>& config) {
  if (!config) return;
  const std::string text = config_text(*config);
  const auto again = config_of(text);
  fuzz::require(again && config_text(*again) == text, "settings do not survive writing");
  fuzz::require(again->zone == config->zone && again->log_file == config->log_file, "a text does not survive writing");
}

void settings(View in) {
  survives(fuzz::bounded(in, [](View text) { return config_of(text); }));
  survives(config_of("", {"--zone=" + std::string(in.substr(0, 16)), "--log-file=" + std::string(in)}));
}

void script(View in) {
  const auto read = fuzz::bounded(in, [](View text) { return parse_script(text, {}); });
  if (!read) return;
  for (const auto& line : read->lines) {
    fuzz::require(line.room < read->rooms.size() && line.from < read->speakers.size(), "a line of nobody");
  }
  fuzz::require(unescape_name(escape_name(in)) == in, "a name does not survive escaping");
}

void answers(View in) {
  const Json json = Json::parse(in, nullptr, false);
  if (json.is_discarded()) return;
  (void)number_of(json, "ring");
  (void)real_of(json, "share");
  (void)text_of(json, "waits_for");
  (void)flag_of(json, "open");
  (void)list_of(json, "nodes");
  (void)move_step(json, json);
  (void)own_move_step(json);
  (void)settle_step(json);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const View in = fuzz::view(data, size);
  settings(in);
  script(in);
  answers(in);
  (void)parse_sites(std::string(in), "");
  (void)overlay::parse_log_level(in);
  if (const auto stamp = read_stamp(in)) {
    fuzz::require(stamped_body(*stamp, size) == in, "a stamped body is not as it was written");
  }
  return 0;
}
