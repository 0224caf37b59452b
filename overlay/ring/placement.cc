#include "overlay/ring/placement.h"

#include <algorithm>
#include <cassert>
#include <map>
#include <set>
#include <utility>

#include <xxhash.h>

#include "overlay/ring/claims.h"
#include "overlay/ring/matching.h"

namespace starling::overlay {
namespace {

constexpr std::uint64_t kBoundTenths = 11;  // 1.1; changing it moves partitions of every cluster.

Claims claims_of(const std::vector<PlacementNode>& nodes, std::uint32_t partitions,
                 PlacementRule rule) {
  Claims claims(partitions, rule);
  for (const auto& node : nodes) claims.add(node.id, node.weight);
  return claims;
}

std::uint32_t ceil_divide(std::uint64_t a, std::uint64_t b) {
  return static_cast<std::uint32_t>((a + b - 1) / b);
}

struct Bounds {
  std::vector<std::uint32_t> copies;
  std::vector<std::uint32_t> firsts;
};

// A fair share is in proportion to the weight, but no node can own a partition twice: what a heavy
// node cannot take falls to the others. The bound for being first also never lies below the share
// of copies over N: with it an assignment exists, whatever the owners are (max flow over the
// owners).
Bounds bounds_of(std::span<const std::uint32_t> weights, std::uint64_t partitions,
                 std::uint64_t copies) {
  Bounds out;
  std::uint64_t all_weight = 0;
  for (const auto w : weights) all_weight += w;
  std::uint64_t rest = partitions * copies;
  std::uint64_t weight = all_weight;
  std::vector<bool> owns_all(weights.size(), false);
  for (bool again = true; again;) {
    again = false;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      if (owns_all[i] || rest * weights[i] < partitions * weight) continue;
      owns_all[i] = again = true;
      rest -= partitions;
      weight -= weights[i];
    }
  }
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const std::uint64_t w = weights[i];
    const std::uint64_t share = owns_all[i] ? partitions : rest * w;
    const std::uint64_t over = owns_all[i] ? 1 : weight;
    const auto limit = static_cast<std::uint32_t>(partitions);
    out.copies.push_back(std::min(limit, ceil_divide(share * kBoundTenths, over * 10)));
    const auto by_copies = ceil_divide(share * kBoundTenths, over * 10 * copies);
    const auto by_weight = ceil_divide(partitions * w * kBoundTenths, all_weight * 10);
    out.firsts.push_back(std::min(limit, std::max(by_copies, by_weight)));
  }
  return out;
}

// Zones as numbers; a node without a zone is one of its own.
std::vector<MemberIndex> zone_numbers(const std::vector<PlacementNode>& nodes, std::size_t& count) {
  std::map<std::string, MemberIndex> known;
  std::vector<MemberIndex> out;
  count = 0;
  for (const auto& node : nodes) {
    const auto next = static_cast<MemberIndex>(count);
    const auto number = node.zone.empty() ? next : known.emplace(node.zone, next).first->second;
    count += number == next ? 1 : 0;
    out.push_back(number);
  }
  return out;
}

// Zones whose nodes together have no room for a copy of every partition. kHashed knows none.
std::vector<bool> scarce_zones(const Placement& placement, std::span<const MemberIndex> zones,
                               std::size_t zone_count, PlacementRule rule) {
  if (rule == PlacementRule::kHashed) return {};
  std::vector<std::uint64_t> room(zone_count, 0);
  for (std::size_t i = 0; i < zones.size(); ++i) room[zones[i]] += placement.bound[i];
  std::vector<bool> out;
  for (const auto sum : room) out.push_back(sum < placement.partitions);
  return out;
}

void list_shared_zones(Placement& out, std::span<const MemberIndex> zones, std::size_t zone_count) {
  const std::size_t possible = std::min(out.copies, zone_count);
  for (std::uint32_t p = 0; p < out.partitions; ++p) {
    std::set<MemberIndex> used;
    for (const auto owner : out.of(p)) used.insert(zones[owner]);
    if (used.size() < possible) out.zones_shared.push_back({static_cast<std::uint16_t>(p)});
  }
}

// `want` owners of each partition, strongest first.
void sort_by_claim(std::vector<MemberIndex>& owners, std::size_t want, const Claims& claims) {
  for (std::uint32_t p = 0; p * want < owners.size(); ++p) {
    const auto first = owners.begin() + static_cast<std::ptrdiff_t>(p * want);
    std::sort(first, first + static_cast<std::ptrdiff_t>(want), [&](MemberIndex a, MemberIndex b) {
      return std::pair(claims.key(p, a), a) < std::pair(claims.key(p, b), b);
    });
  }
}

// The one to coordinate comes first, by the bound for that.
void put_firsts_first(Placement& out, Candidates& owners, const Claims& claims) {
  const auto firsts = Matching(claims, owners, out.partitions, 1, out.first_bound, {}, {},
                               /*any_node=*/false)
                          .run();
  for (std::uint32_t p = 0; p < out.partitions; ++p) {
    const auto begin = owners.list.begin() + static_cast<std::ptrdiff_t>(p * owners.width);
    const auto at = std::find(begin, begin + static_cast<std::ptrdiff_t>(owners.width), firsts[p]);
    std::rotate(begin, at, at + 1);
  }
}

void place_anywhere(Placement& out, const Claims& claims, PlacementRule rule) {
  std::vector<std::uint32_t> weights;
  for (const auto& node : out.nodes) weights.push_back(node.weight);
  auto bounds = bounds_of(weights, out.partitions, out.copies);
  out.bound = std::move(bounds.copies);
  out.first_bound = std::move(bounds.firsts);
  std::size_t zone_count = 0;
  const auto zones = zone_numbers(out.nodes, zone_count);
  const bool zones_matter = zone_count > 1 && zone_count < out.nodes.size();
  const auto considered = zones_matter ? std::span(zones) : std::span<const MemberIndex>();
  const Matching::Zones avoiding{considered, scarce_zones(out, considered, zone_count, rule)};
  const Candidates everyone = strongest(claims, out.partitions, {});
  Candidates owners{out.copies, Matching(claims, everyone, out.partitions, out.copies, out.bound,
                                         avoiding, {}, /*any_node=*/true)
                                    .run()};
  sort_by_claim(owners.list, owners.width, claims);
  put_firsts_first(out, owners, claims);
  out.owners = std::move(owners.list);
  list_shared_zones(out, zones, zone_count);
}

// --- By site. ---

constexpr MemberIndex kNoSite = UINT16_MAX;

// Each partition's home, in proportion to the sites' weights, by claims as those of nodes.
std::vector<MemberIndex> home_sites(const Sites& sites, std::uint32_t partitions,
                                    PlacementRule rule) {
  std::uint64_t heaviest = 1;
  for (const auto& site : sites.homes) heaviest = std::max<std::uint64_t>(heaviest, site.weight);
  Claims claims(partitions, rule);
  std::vector<std::uint32_t> weights;
  for (const auto& site : sites.homes) {
    const std::uint64_t scaled = site.weight * std::uint64_t{kWeightMax} / heaviest;
    weights.push_back(static_cast<std::uint32_t>(std::max<std::uint64_t>(1, scaled)));
    NodeId id;
    const std::uint64_t name = XXH64(site.zone.data(), site.zone.size(), 0);
    for (std::size_t i = 0; i < 8; ++i) id.raw[i] = static_cast<std::uint8_t>(name >> (8 * i));
    claims.add(id, weights.back());
  }
  const auto bounds = bounds_of(weights, partitions, 1);
  const Candidates all = strongest(claims, partitions, {});
  return Matching(claims, all, partitions, 1, bounds.copies, {}, {}, /*any_node=*/true).run();
}

// A node's share of the home copies is by its weight within its site, its share of the away copies
// by its weight among all that are elsewhere. With bounds over these an assignment exists: the
// shares are one, in fractions.
struct SiteBounds {
  std::vector<std::uint32_t> home, away, first;
};
SiteBounds site_bounds(const Placement& out, const Area& area, const Sites& sites) {
  const std::size_t count = out.nodes.size();
  SiteBounds bounds{std::vector<std::uint32_t>(count, 0), std::vector<std::uint32_t>(count, 0),
                    std::vector<std::uint32_t>(count, 0)};
  std::vector<std::uint32_t> partitions(sites.homes.size(), 0);
  for (const auto site : area.of_partition) ++partitions[site];
  for (std::size_t site = 0; site < sites.homes.size(); ++site) {
    for (const bool within : {true, false}) {
      const std::size_t copies = within ? sites.home : sites.away;
      std::vector<std::size_t> which;
      std::vector<std::uint32_t> weights;
      for (std::size_t i = 0; i < count; ++i) {
        if ((area.of_node[i] == site) != within) continue;
        which.push_back(i);
        weights.push_back(out.nodes[i].weight);
      }
      if (copies == 0 || partitions[site] == 0) continue;
      const auto shares = bounds_of(weights, partitions[site], copies);
      for (std::size_t k = 0; k < which.size(); ++k) {
        (within ? bounds.home : bounds.away)[which[k]] += shares.copies[k];
        if (within) bounds.first[which[k]] += shares.firsts[k];
      }
    }
  }
  return bounds;
}

void place_by_site(Placement& out, const Claims& claims, PlacementRule rule, const Sites& sites) {
  Area area{home_sites(sites, out.partitions, rule), {}, true};
  for (const auto& node : out.nodes) {
    const auto site = std::find_if(sites.homes.begin(), sites.homes.end(),
                                   [&](const auto& home) { return home.zone == node.zone; });
    area.of_node.push_back(site == sites.homes.end()
                               ? kNoSite
                               : static_cast<MemberIndex>(site - sites.homes.begin()));
  }
  const auto bounds = site_bounds(out, area, sites);
  out.first_bound = bounds.first;
  for (std::size_t i = 0; i < out.nodes.size(); ++i) {
    out.bound.push_back(bounds.home[i] + bounds.away[i]);
  }
  const Candidates near = strongest(claims, out.partitions, area);
  Candidates home{sites.home, Matching(claims, near, out.partitions, sites.home, bounds.home, {},
                                       area, /*any_node=*/true)
                                  .run()};
  sort_by_claim(home.list, home.width, claims);
  put_firsts_first(out, home, claims);

  area.within = false;
  std::size_t zone_count = 0;
  const auto zones = zone_numbers(out.nodes, zone_count);
  const Candidates far = strongest(claims, out.partitions, area);
  auto away = Matching(claims, far, out.partitions, sites.away, bounds.away, {zones, {}}, area,
                       /*any_node=*/true)
                  .run();
  sort_by_claim(away, std::max<std::size_t>(1, sites.away), claims);
  for (std::uint32_t p = 0; p < out.partitions; ++p) {
    const auto at_home = home.of(p);
    out.owners.insert(out.owners.end(), at_home.begin(), at_home.end());
    const auto first = away.begin() + static_cast<std::ptrdiff_t>(p * sites.away);
    out.owners.insert(out.owners.end(), first, first + static_cast<std::ptrdiff_t>(sites.away));
  }
}

std::vector<PlacementNode> nodes_of(const RingVersion& version, bool next) {
  std::vector<PlacementNode> out;
  for (const auto& member : version.members) {
    if (next ? !member.will_own() : !member.owns()) continue;
    const bool reweighted = next && member.next_weight != 0;
    out.push_back({member.id, member.zone, reweighted ? member.next_weight : member.weight});
  }
  return out;
}

}  // namespace

Placement compute_placement(std::vector<PlacementNode> nodes, std::uint32_t partitions,
                            std::size_t copies, PlacementRule rule, const SitePolicy& policy) {
  assert(!nodes.empty() && nodes.size() <= kRingMembersMax);
  assert(partitions >= 1 && partitions <= kPartitionsMax && copies >= 1);
  Placement out;
  out.nodes = std::move(nodes);
  out.partitions = partitions;
  std::vector<SiteNode> in_zones;
  for (const auto& node : out.nodes) in_zones.push_back({node.zone, node.weight});
  const Sites sites = sites_of(policy, copies, in_zones);
  out.home = sites.home;
  out.copies = sites.home + sites.away;
  out.by_site = !sites.homes.empty();
  const Claims claims = claims_of(out.nodes, partitions, rule);
  if (out.by_site) {
    place_by_site(out, claims, rule, sites);
  } else {
    place_anywhere(out, claims, rule);
  }
  return out;
}

Placement current_placement(const RingVersion& version) {
  return compute_placement(nodes_of(version, /*next=*/false), version.placed(), version.copies,
                           version.rule, version.sites);
}

Placement next_placement(const RingVersion& version) {
  return compute_placement(nodes_of(version, /*next=*/true), version.placed(),
                           version.next_copies(), version.next_rule(), version.next_policy());
}

}  // namespace starling::overlay
