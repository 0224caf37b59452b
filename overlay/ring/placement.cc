#include "overlay/ring/placement.h"

#include <algorithm>
#include <cassert>
#include <deque>
#include <map>
#include <set>
#include <utility>

#include "overlay/ring/claims.h"

namespace starling::overlay {
namespace {

constexpr std::uint64_t kBoundTenths = 11;  // 1.1; changing it moves partitions of every cluster.
// A partition asks its 64 strongest nodes in turn; that all of them are full does not happen at a
// bound of 1.1, and if it did, make_room() looks at every node.
constexpr std::size_t kCandidatesMax = 64;

constexpr MemberIndex kNobody = UINT16_MAX;

// The strongest nodes of each partition, `width` of them, strongest first.
struct Candidates {
  std::size_t width = 0;
  std::vector<MemberIndex> list;
  [[nodiscard]] std::span<const MemberIndex> of(std::uint32_t partition) const {
    return {list.data() + partition * width, width};
  }
};

Candidates strongest(const Claims& claims, std::uint32_t partitions) {
  Candidates out{std::min(claims.nodes(), kCandidatesMax), {}};
  out.list.reserve(out.width * partitions);
  std::vector<std::pair<std::uint64_t, MemberIndex>> keys(claims.nodes());
  for (std::uint32_t p = 0; p < partitions; ++p) {
    for (std::size_t i = 0; i < keys.size(); ++i) {
      const auto node = static_cast<MemberIndex>(i);
      keys[i] = {claims.key(p, node), node};
    }
    const auto end = keys.begin() + static_cast<std::ptrdiff_t>(out.width);
    if (end != keys.end()) std::nth_element(keys.begin(), end, keys.end());
    std::sort(keys.begin(), end);
    for (auto at = keys.begin(); at != end; ++at) out.list.push_back(at->second);
  }
  return out;
}

// Gives every partition `want` of its candidates so that no node passes its bound.
class Matching {
 public:
  // Without zones, pass none. `any_node`: when its candidates are full a partition may go
  // elsewhere.
  Matching(const Claims& claims, const Candidates& candidates, std::uint32_t partitions,
           std::size_t want, const std::vector<std::uint32_t>& bound,
           std::span<const MemberIndex> zones, const std::vector<bool>& scarce, bool any_node)
      : claims_(claims),
        candidates_(candidates),
        want_(want),
        bound_(bound),
        zones_(zones),
        scarce_(scarce),
        any_node_(any_node),
        holders_(partitions * want, kNobody),
        asked_(partitions, 0),
        held_(claims.nodes()) {}

  // `want` holders for each partition, in no order.
  std::vector<MemberIndex> run() && {
    std::vector<std::uint32_t> stuck;
    const auto partitions = static_cast<std::uint32_t>(asked_.size());
    for (std::uint32_t p = 0; p < partitions; ++p) open_.push_back(p);
    while (!open_.empty()) {
      const std::uint32_t p = open_.front();
      open_.pop_front();
      if (!fill(p)) stuck.push_back(p);
    }
    for (const auto p : stuck) {
      while (free_place(p) != nullptr) make_room(p);
    }
    return std::move(holders_);
  }

 private:
  // Asks candidates until the partition has all it wants; false when no one is left to ask.
  bool fill(std::uint32_t p) {
    while (free_place(p) != nullptr) {
      const std::size_t choice = next_choice(p);
      if (choice == candidates_.width) return false;
      asked_[p] |= std::uint64_t{1} << choice;
      const MemberIndex node = candidates_.of(p)[choice];
      auto& held = held_[node];
      if (held.size() >= bound_[node]) {
        const auto [weakest_key, weakest] = *held.rbegin();
        if (std::pair(claims_.key(p, node), p) > std::pair(weakest_key, weakest)) continue;
        drop(weakest, node);
        open_.push_back(weakest);
      }
      give(p, node);
    }
    return true;
  }

  // The strongest candidate not asked yet, of a zone that holds no copy if there is one. A second
  // copy goes to a scarce zone last: there it would take the place of another partition's only one.
  [[nodiscard]] std::size_t next_choice(std::uint32_t p) const {
    const auto list = candidates_.of(p);
    std::size_t fallback = list.size();
    bool fallback_scarce = true;
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (asked_[p] >> i & 1) continue;
      if (zones_.empty() || !zone_taken(p, zones_[list[i]])) return i;
      const bool scarce = !scarce_.empty() && scarce_[zones_[list[i]]];
      if (fallback != list.size() && (scarce || !fallback_scarce)) continue;
      fallback = i;
      fallback_scarce = scarce;
    }
    return fallback;
  }

  [[nodiscard]] bool zone_taken(std::uint32_t p, MemberIndex zone) const {
    for (const auto holder : places(p)) {
      if (holder != kNobody && zones_[holder] == zone) return true;
    }
    return false;
  }

  // Every node that may take p is full: finds the shortest chain of partitions that each move on by
  // one node and end at one with room. By the choice of the bounds there is a chain always.
  void make_room(std::uint32_t p) {
    struct Step {
      bool seen = false;
      MemberIndex from = kNobody;   // The node that gives ...
      std::uint32_t partition = 0;  // ... this partition to the node that has the step.
    };
    std::vector<Step> steps(held_.size());
    std::deque<MemberIndex> queue;
    const auto reach = [&](MemberIndex from, std::uint32_t partition) {
      for (std::size_t i = 0; i < held_.size(); ++i) {
        const auto node = static_cast<MemberIndex>(i);
        if (steps[i].seen || !may_take(partition, node)) continue;
        steps[i] = {true, from, partition};
        queue.push_back(node);
      }
    };
    reach(kNobody, p);
    for (; !queue.empty(); queue.pop_front()) {
      const MemberIndex node = queue.front();
      if (held_[node].size() < bound_[node]) {
        for (MemberIndex to = node; to != kNobody; to = steps[to].from) {
          const Step& step = steps[to];
          if (step.from != kNobody) drop(step.partition, step.from);
          give(step.partition, to);
        }
        return;
      }
      for (auto at = held_[node].rbegin(); at != held_[node].rend(); ++at) reach(node, at->second);
    }
    assert(false && "the bounds leave room for every copy");
  }

  [[nodiscard]] bool may_take(std::uint32_t p, MemberIndex node) const {
    const auto now = places(p);
    if (std::find(now.begin(), now.end(), node) != now.end()) return false;
    const auto list = candidates_.of(p);
    return any_node_ || std::find(list.begin(), list.end(), node) != list.end();
  }

  void give(std::uint32_t p, MemberIndex node) {
    *free_place(p) = node;
    held_[node].emplace(claims_.key(p, node), p);
  }
  void drop(std::uint32_t p, MemberIndex node) {
    for (auto& holder : places(p)) {
      if (holder == node) holder = kNobody;
    }
    held_[node].erase({claims_.key(p, node), p});
  }
  MemberIndex* free_place(std::uint32_t p) {
    for (auto& holder : places(p)) {
      if (holder == kNobody) return &holder;
    }
    return nullptr;
  }
  std::span<MemberIndex> places(std::uint32_t p) { return {holders_.data() + p * want_, want_}; }
  [[nodiscard]] std::span<const MemberIndex> places(std::uint32_t p) const {
    return {holders_.data() + p * want_, want_};
  }

  // Set at construction.
  const Claims& claims_;
  const Candidates& candidates_;
  const std::size_t want_;
  const std::vector<std::uint32_t>& bound_;
  const std::span<const MemberIndex> zones_;
  const std::vector<bool>& scarce_;  // Of each zone. Empty: none is.
  const bool any_node_;

  // The matching so far.
  std::vector<MemberIndex> holders_;
  std::vector<std::uint64_t> asked_;  // One bit per candidate; none is asked twice.
  std::vector<std::set<std::pair<std::uint64_t, std::uint32_t>>> held_;  // Of each node, by key.
  std::deque<std::uint32_t> open_;
};

Claims claims_of(const std::vector<PlacementNode>& nodes, std::uint32_t partitions,
                 PlacementRule rule) {
  Claims claims(partitions, rule);
  for (const auto& node : nodes) claims.add(node.id, node.weight);
  return claims;
}

std::uint32_t ceil_divide(std::uint64_t a, std::uint64_t b) {
  return static_cast<std::uint32_t>((a + b - 1) / b);
}

// A fair share is in proportion to the weight, but no node can own a partition twice: what a heavy
// node cannot take falls to the others. The bound for being first also never lies below the share
// of copies over N: with it an assignment exists, whatever the owners are (max flow over the
// owners).
void set_bounds(Placement& out) {
  const std::uint64_t partitions = out.partitions;
  std::uint64_t all_weight = 0;
  for (const auto& node : out.nodes) all_weight += node.weight;
  std::uint64_t rest = partitions * out.copies;
  std::uint64_t weight = all_weight;
  std::vector<bool> owns_all(out.nodes.size(), false);
  for (bool again = true; again;) {
    again = false;
    for (std::size_t i = 0; i < out.nodes.size(); ++i) {
      if (owns_all[i] || rest * out.nodes[i].weight < partitions * weight) continue;
      owns_all[i] = again = true;
      rest -= partitions;
      weight -= out.nodes[i].weight;
    }
  }
  for (std::size_t i = 0; i < out.nodes.size(); ++i) {
    const std::uint64_t w = out.nodes[i].weight;
    const std::uint64_t share = owns_all[i] ? partitions : rest * w;
    const std::uint64_t over = owns_all[i] ? 1 : weight;
    const auto limit = static_cast<std::uint32_t>(partitions);
    out.bound.push_back(std::min(limit, ceil_divide(share * kBoundTenths, over * 10)));
    const auto by_copies = ceil_divide(share * kBoundTenths, over * 10 * out.copies);
    const auto by_weight = ceil_divide(partitions * w * kBoundTenths, all_weight * 10);
    out.first_bound.push_back(std::min(limit, std::max(by_copies, by_weight)));
  }
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
                            std::size_t copies, PlacementRule rule) {
  assert(!nodes.empty() && nodes.size() <= kRingMembersMax);
  assert(partitions >= 1 && partitions <= kPartitionsMax && copies >= 1);
  Placement out;
  out.nodes = std::move(nodes);
  out.partitions = partitions;
  out.copies = std::min(copies, out.nodes.size());
  set_bounds(out);

  const Claims claims = claims_of(out.nodes, partitions, rule);
  std::size_t zone_count = 0;
  const auto zones = zone_numbers(out.nodes, zone_count);
  const bool zones_matter = zone_count > 1 && zone_count < out.nodes.size();
  const auto considered = zones_matter ? std::span(zones) : std::span<const MemberIndex>();
  const auto scarce = scarce_zones(out, considered, zone_count, rule);
  const Candidates everyone = strongest(claims, partitions);
  Candidates owners{out.copies, Matching(claims, everyone, partitions, out.copies, out.bound,
                                         considered, scarce, /*any_node=*/true)
                                    .run()};
  for (std::uint32_t p = 0; p < partitions; ++p) {
    const auto first = owners.list.begin() + static_cast<std::ptrdiff_t>(p * out.copies);
    std::sort(first, first + static_cast<std::ptrdiff_t>(out.copies),
              [&](MemberIndex a, MemberIndex b) {
                return std::pair(claims.key(p, a), a) < std::pair(claims.key(p, b), b);
              });
  }

  const auto firsts =
      Matching(claims, owners, partitions, 1, out.first_bound, {}, {}, /*any_node=*/false).run();
  out.owners = owners.list;
  for (std::uint32_t p = 0; p < partitions; ++p) {
    const auto begin = out.owners.begin() + static_cast<std::ptrdiff_t>(p * out.copies);
    const auto at = std::find(begin, begin + static_cast<std::ptrdiff_t>(out.copies), firsts[p]);
    std::rotate(begin, at, at + 1);
  }
  list_shared_zones(out, zones, zone_count);
  return out;
}

Placement current_placement(const RingVersion& version) {
  return compute_placement(nodes_of(version, /*next=*/false), version.partitions, version.copies,
                           version.rule);
}

Placement next_placement(const RingVersion& version) {
  return compute_placement(nodes_of(version, /*next=*/true), version.partitions, version.copies,
                           version.next_rule());
}

}  // namespace starling::overlay
