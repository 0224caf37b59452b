// What every command that changes the ring does: begin, tell what moves, wait until it has.
//
// Thread: the main thread.
#pragma once

#include <string>

#include "node/cli/admin_client.h"
#include "node/cli/options.h"

namespace starling::node::cli {

// Calls `method` with `question` and follows the change; `done` says what it came to. An exit code.
int change_ring(const Arguments& arguments, const std::string& method, const Json& question, const std::string& done);
// What a change does to the home sites, from `homes` of its moves; one line each, none without a policy of sites.
std::string homes_text(const Json& moves);
// --dry-run, --no-wait, and how the node is reached.
void add_change_options(po::options_description& options);

}  // namespace starling::node::cli
