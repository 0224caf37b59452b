// The policy of sites in the words of the operator: "2+1", two copies at home and one away.
//
// Thread: any; pure.
#pragma once

#include <string>

#include "crypto/result.h"
#include "overlay/ring/sites.h"

namespace starling::node::cli {

// Empty: no policy. `only`: the one home site, or empty. kInvalid, with the text to show.
Result<overlay::SitePolicy> parse_sites(const std::string& text, const std::string& only);

}  // namespace starling::node::cli
