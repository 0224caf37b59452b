// Node options: the flags and settings of a node, and the Config that they make.
//
// `run`, `init` and `join` take the same ones; starling.conf holds them as `option = value`.
// Thread: the main thread.
#pragma once

#include "node/cli/options.h"
#include "node/config.h"

namespace starling::node::cli {

void add_node_options(po::options_description& options);

// kInvalid names the option and what it takes.
Result<Config> make_config(const Arguments& arguments);

// The settings of the process's loop `number`, from 2 on (loops.h): a folder in <data>/loops, ports kLoopPorts further for
// each. The token is the one that is kept there.
Config config_of_loop(const Config& first, unsigned number);
// Are there ports and socket paths for loops 1 to `last`? kInvalid.
Status check_loops(const Config& first, unsigned last);

// The settings of `config` as the text of a starling.conf.
std::string config_text(const Config& config);

// A token to join with and the node to replace, kept in the data folder (mode 0600) until the node serves, so that a node
// that was stopped before goes on joining instead of starting a cluster of its own.
Status keep_join_token(const Config& config);
void drop_join_token(const Config& config);

// The command line with which a node goes on that began by these words: `join` and `replace` become `run`, without
// the token and the node to be replaced: both are kept in the folder until it serves.
std::vector<std::string> words_to_go_on(std::vector<std::string> words);

// Creates `folder` (mode 0700) with its parents. kIo.
Status create_folder(const std::string& folder);
// Takes a node's folder from others of the machine, who could read keys and messages in it, if it was open to them. One
// that may not be closed (its owner is another user) or that other things lie in is left as it is: then a warning.
std::string close_folder(const std::string& folder);
// Writes all of `text` or nothing: a file beside it first, then a rename. kIo.
Status write_file(const std::string& path, const std::string& text, unsigned mode);

}  // namespace starling::node::cli
