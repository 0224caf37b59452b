// Prompt: passwords, from wherever the user keeps them.
//
// Thread: the main thread of a command; it blocks.
#pragma once

#include "node/cli/options.h"

namespace starling::node::cli {

// --password, --password-file.
void add_password_options(po::options_description& options);

// The password of the options: --password, or the first line of --password-file ("-" is standard input);
// else `what` ("password of @alice") is asked for on the terminal, without echo, twice when `twice`.
// kInvalid when there is none of these, kIo.
Result<std::string> read_password(const Arguments& arguments, const std::string& what, bool twice);

// Twenty characters nobody guesses. REQUIRES: crypto_init().
std::string random_password();

}  // namespace starling::node::cli
