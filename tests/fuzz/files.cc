// What operators write, and what the commands read: starling.conf, scripts for `replay`, the node's answers as JSON,
// bodies that `bench` stamped.
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

Result<Config> config_of(View text) {
  static const Folder folder;
  static const Command command{.name = "run", .usage = "run", .options = add_node_options, .starts_node = true};
  std::ofstream(folder.path / "starling.conf", std::ios::binary | std::ios::trunc) << text;
  TRY_ASSIGN(const auto arguments, parse_arguments(command, {"--data", folder.path.string()},
                                                   [](const std::string&) -> const char* { return nullptr; }));
  return make_config(arguments);
}

void settings(View in) {
  const auto config = fuzz::bounded(in, config_of);
  if (!config) return;
  const std::string text = config_text(*config);
  const auto again = config_of(text);
  fuzz::require(again && config_text(*again) == text, "settings do not survive writing");
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
