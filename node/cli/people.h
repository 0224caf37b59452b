// What the commands about users and those about groups share: options, answers by name, long lists.
//
// Thread: the main thread; calls to the admin door block.
#pragma once

#include <string>
#include <vector>

#include "node/cli/admin_client.h"
#include "node/cli/commands.h"

namespace starling::node::cli {

// Of what timed out, under one nonce: whichever try created it, it is ours.
inline constexpr int kTriesMax = 3;

// Prints one line per name; the exit code of the first that failed.
int report(const Json& results, const char* done);
// Pages through a list of the admin door until its end.
int list_all(const Arguments& arguments, const std::string& method, Json question, const char* field,
             Json& rows);
void admin_and_json(po::options_description& options);
po::typed_value<std::vector<std::string>>* words();

}  // namespace starling::node::cli
