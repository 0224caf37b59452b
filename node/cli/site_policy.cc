// A policy of sites as operators write it.
#include "node/cli/sites.h"

#include "overlay/ring/ring_version.h"

namespace starling::node::cli {

Result<overlay::SitePolicy> parse_sites(const std::string& text, const std::string& only) {
  overlay::SitePolicy policy;
  if (text.empty() && only.empty()) return policy;
  const bool shaped = text.size() == 3 && text[1] == '+' && text[0] >= '1' && text[0] <= '6' && text[2] >= '1' &&
                      text[2] <= '6' && (text[0] - '0') + (text[2] - '0') <= overlay::kCopiesMax;
  if (!shaped) {
    return Error{Errc::kInvalid, "a policy of sites is HOME+AWAY, as 2+1: at least one copy each, seven in all at most"};
  }
  policy.home = static_cast<std::uint8_t>(text[0] - '0');
  policy.away = static_cast<std::uint8_t>(text[2] - '0');
  policy.only = only;
  return policy;
}

}  // namespace starling::node::cli
