// What status and ring say alike of the members and the cluster.
#pragma once

#include <string>

#include "node/cli/terminal/table.h"
#include "node/node.h"

namespace starling::node::cli {

Cell state_cell(const Json& member);
std::string percent(double share);
std::string joined(const Json& names);  // By blanks.
// How many partitions there are, and in how many units they are placed where that is not the same.
std::string partitions_text(const Json& cluster);
// One line, where there is a policy of sites.
void print_sites(const Json& sites, bool colour);

}  // namespace starling::node::cli
