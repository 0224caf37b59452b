// The options of a run as text: what `sim` takes, what a failing run prints, a line of seeds.txt.
//
//   --seed 7 --nodes 5 --both --seconds 20
//
// Only what differs from default_run() is written, so the same text gives the same run.
// Thread: any; pure.
#pragma once

#include <string>
#include <vector>

#include "crypto/result.h"
#include "tests/sim/run.h"

namespace starling::sim {

// Three nodes, rough datagrams, every kind of fault but those of `more`.
RunOptions default_run();
// kInvalid names the option.
Result<RunOptions> parse_run(const std::vector<std::string>& words);
std::string text_of(const RunOptions& options);
// The options with a line each.
std::string run_usage();

}  // namespace starling::sim
