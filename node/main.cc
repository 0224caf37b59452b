// starling: everything a node, its operator and its users can do. The table is in node/cli/commands.cc; the
// node itself is put together in node/cli/node_process.cc and node/node.cc.
#include <cstdlib>

#include "node/cli/commands.h"

int main(int argc, char** argv) {
  using namespace starling::node::cli;
  return run_command_line(all_commands(), std::vector<std::string>(argv + 1, argv + argc),
                          [](const std::string& name) { return std::getenv(name.c_str()); });
}
