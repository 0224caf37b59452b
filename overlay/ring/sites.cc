#include "overlay/ring/sites.h"

#include <algorithm>
#include <map>

namespace starling::overlay {

Sites sites_of(const SitePolicy& policy, std::size_t copies, std::span<const SiteNode> nodes) {
  Sites out;
  if (policy.on()) {
    std::map<View, Sites::Site> zones;
    for (const auto& node : nodes) {
      if (node.zone.empty()) continue;
      auto& site = zones[node.zone];
      ++site.nodes;
      site.weight += node.weight;
    }
    for (auto& [zone, site] : zones) {
      if (site.nodes < policy.home) continue;
      site.zone = zone;
      out.homes.push_back(site);
    }
    const auto named = std::find_if(out.homes.begin(), out.homes.end(),
                                    [&](const Sites::Site& site) { return site.zone == policy.only; });
    if (named != out.homes.end()) out.homes = {*named};
  }
  if (out.homes.empty()) {
    out.home = std::min(copies, nodes.size());
    return out;
  }
  out.home = policy.home;
  out.away = policy.away;
  for (const auto& site : out.homes) out.away = std::min(out.away, nodes.size() - site.nodes);
  return out;
}

}  // namespace starling::overlay
