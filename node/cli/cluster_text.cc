#include "node/cli/cluster_text.h"

#include <cstdio>
#include <iostream>

#include "node/cli/admin_client.h"
#include "node/cli/names.h"

namespace starling::node::cli {

Cell state_cell(const Json& member) {
  const std::string state = text_of(member, "state");
  const std::string in_ring = text_of(member, "ring_state");
  if (state == "alive" && !in_ring.empty() && in_ring != "serving") return {in_ring, Tone::kBad};
  if (state == "alive" || state == "serving") {
    if (flag_of(member, "catching_up")) return {"catching up", Tone::kBad};
    if (flag_of(member, "draining")) return {"drained", Tone::kQuiet};
    if (member.contains("reachable") && !flag_of(member, "reachable")) return {"unreachable", Tone::kBad};
    return {state, Tone::kGood};
  }
  return {state, Tone::kBad};
}

std::string percent(double share) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %%", share * 100);
  return text;
}

void print_sites(const Json& sites, bool colour) {
  const Json policy = object_of(sites, "policy");
  if (number_of(policy, "home") == 0) return;
  std::cout << "Sites: ";
  if (!flag_of(sites, "in_force")) {
    std::cout << paint("the policy rests", Tone::kBad, colour) << ", no zone has " << number_of(policy, "home")
              << " nodes: all copies count\n";
    return;
  }
  std::cout << number_of(sites, "home_copies") << " copies at home count, " << number_of(sites, "away_copies")
            << " away follow; home of partitions:";
  for (const Json& zone : list_of(sites, "zones")) {
    const auto homes = number_of(zone, "home_of");
    if (homes > 0) std::cout << " " << text_of(zone, "zone") << " " << thousands(homes);
  }
  std::cout << "\n";
}

std::string partitions_text(const Json& cluster) {
  const auto partitions = number_of(cluster, "partitions"), units = number_of(cluster, "units");
  return thousands(partitions) + " partitions" +
         (units == 0 || units == partitions ? "" : ", placed as " + thousands(units));
}

// What the node lacks of what it should have.

std::string joined(const Json& names) {
  std::string out;
  for (const Json& name : names) {
    if (name.is_string()) out += (out.empty() ? "" : " ") + name.get<std::string>();
  }
  return out;
}

}  // namespace starling::node::cli
