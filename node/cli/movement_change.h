// What every command that changes the ring does: begin, tell what moves, wait until it has.
//
// Thread: the main thread.
#pragma once

#include <functional>
#include <string>

#include "node/cli/admin_client.h"
#include "node/cli/movement_step.h"
#include "node/cli/options.h"

namespace starling::node::cli {

// Calls `method` with `question` and follows the change, at the node that is asked unless by `follow`; `ending` says what it
// came to, by the answer with which it began. One that was taken back meanwhile failed. An exit code.
using Follow = std::function<int(const Json& begun, Json& movement)>;
using Ending = std::function<std::string(const Json& begun)>;
int change_ring(const Arguments& arguments, const std::string& method, const Json& question, const Ending& ending,
                const Follow& follow = {});
inline std::string done(const Json&) { return "done"; }
// Asks `movement` with `question` how far it is, and shows it, until `look` at an answer finds nothing open. Ctrl-C ends the
// following and nothing else.
using Look = std::function<MoveStep(const Json& movement)>;
int follow_change(const Arguments& arguments, const Json& question, const Look& look, Json& movement);
// What a change moves, node by node and in all, from `moves` of an answer; what it does to the home sites, and what is at
// stake.
void print_moves(const Json& moves, bool colour);
// Which nodes settle still after a doubling of the partitions, from `doubling` of an answer of `movement`; nothing
// when none does.
void print_settling(const Json& doubling, bool colour);
std::string settled_text(double share);  // "34 %"; 100 only when it is all.
// --dry-run, --no-wait, and how the node is reached.
void add_change_options(po::options_description& options);

}  // namespace starling::node::cli
