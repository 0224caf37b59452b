// AdminClient: asks the node of a data folder, over its admin socket, and waits for the answer.
//
// Thread: the main thread of a command; it blocks.
#pragma once

#include <nlohmann/json.hpp>

#include "node/cli/options.h"

namespace starling::node::cli {

using Json = nlohmann::json;

// Of commands that wait for something to come about.
inline constexpr auto kPollEvery = std::chrono::milliseconds(300);
inline constexpr int kAskTries = 5;  // Looking does no harm: a node that is busy is asked again.

// One call of node/admin/api.h. `socket` is "unix:PATH". An error of the node keeps its code. When no node
// answers, `reached` is false and the error says what to do.
Result<Json> admin_call(const std::string& socket, const std::string& method, const Json& arguments,
                        Duration timeout, bool& reached);

// The same for a command with add_admin_options(): complains and returns the exit code. `tries` above 1 only
// for what may be asked twice: then a node that answers "unavailable" or "timeout" is asked again.
int admin_call(const Arguments& options, const std::string& method, const Json& arguments, Json& answer,
               int tries = 1);
int admin_call(const Arguments& options, const std::string& socket, const std::string& method, const Json& arguments,
               Json& answer, int tries = 1);
// The socket that such a command asks, then those of the other loops that run in its process (loops.h).
std::vector<std::string> admin_sockets(const Arguments& options);

// Fields of an answer; a default when the node that answers is older or newer and has none.
std::string text_of(const Json& json, const char* field);
std::uint64_t number_of(const Json& json, const char* field);
double real_of(const Json& json, const char* field);
bool flag_of(const Json& json, const char* field);
// An empty object, an empty array when absent.
const Json& object_of(const Json& json, const char* field);
const Json& list_of(const Json& json, const char* field);

}  // namespace starling::node::cli
