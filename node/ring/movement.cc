#include "node/ring/movement.h"

#include <algorithm>
#include <map>

#include "overlay/ring/ring_change.h"

namespace starling::node {

using overlay::Ring;

namespace {

PartitionId partition(std::uint32_t number) { return {static_cast<std::uint16_t>(number)}; }

Error waits_for(const NodeId& node, const std::string& why) {
  return {Errc::kUnavailable, "node " + short_text(node) + ", which " + why +
                                  ", is away: start it again, or take the change back with `starling abort`"};
}

bool contains(std::span<const overlay::Sites::Site> sites, const std::string& zone) {
  return std::any_of(sites.begin(), sites.end(), [&](const auto& site) { return site.zone == zone; });
}

void add_homes(const Ring& ring, Moves& out) {
  const auto then = overlay::next_complete(ring.version());
  if (!ring.changing() || !then) return;
  const auto next = then->site_counts().homes;
  const auto now = ring.home_sites();
  for (const auto& site : now) {
    if (!contains(next, site.zone)) out.ends.push_back(site.zone);
  }
  for (const auto& site : next) {
    if (!contains(now, site.zone)) out.begins.push_back(site.zone);
  }
  out.rests = !now.empty() && next.empty();
  for (std::uint32_t i = 0; !now.empty() && !next.empty() && i < ring.partitions(); ++i) {
    const auto* home = ring.member(ring.home(partition(i)).front());
    const auto* home_then = ring.member(ring.home_next(partition(i)).front());
    out.homes_moved += home->zone != home_then->zone ? 1 : 0;
  }
}

}  // namespace

Moves moves_of(const Ring& ring) {
  std::map<NodeId, Moves::Item> nodes;
  Moves out;
  for (std::uint32_t i = 0; i < ring.partitions(); ++i) {
    const auto now = ring.owners(partition(i));
    const auto next = ring.owners_next(partition(i));
    for (const auto& owner : now) {
      ++nodes[owner].now;
      nodes[owner].loses += next.contains(owner) ? 0 : 1;
    }
    for (const auto& owner : next) {
      const bool gained = !now.contains(owner);
      ++nodes[owner].next;
      nodes[owner].gains += gained ? 1 : 0;
      out.moved += gained ? 1 : 0;
      ++out.copies;
    }
  }
  for (auto& [node, item] : nodes) {
    item.node = node;
    out.nodes.push_back(item);
  }
  add_homes(ring, out);
  return out;
}

Status may_remove(const Ring& ring, const std::vector<NodeId>& removed) {
  std::uint32_t poor = 0, first = 0;
  for (std::uint32_t i = 0; i < ring.partitions(); ++i) {
    const auto owners = ring.home(partition(i)).to_vector();
    const auto left = static_cast<std::size_t>(std::count_if(owners.begin(), owners.end(), [&](const auto& owner) {
      return std::find(removed.begin(), removed.end(), owner) == removed.end();
    }));
    // One of every majority that chose a name, and one of every W that acknowledged a message.
    const std::size_t needed = std::max(owners.size() - owners.size() / 2, ring.enough_to_know());
    if (left < needed && poor++ == 0) first = i;
  }
  if (poor == 0) return ok_status();
  return Error{Errc::kDenied,
               std::to_string(poor) + " partitions (" + std::to_string(first) +
                   " is the first) would keep too few of their " + std::to_string(ring.home_copies()) +
                   (ring.by_site() ? " home" : "") + " owners to know every acknowledged message and every name: bring one of these nodes "
                   "back, or accept the loss of what only they hold with --force"};
}

Status keeps_majority(const overlay::RingVersion& next, const std::set<NodeId>& alive) {
  const auto voters = overlay::voters(next);
  const NodeId* away = nullptr;
  std::size_t there = 0;
  for (const auto& voter : voters) {
    there += alive.contains(voter) ? 1 : 0;
    if (!alive.contains(voter) && away == nullptr) away = &voter;
  }
  if (there * 2 > voters.size()) return ok_status();
  return Error{Errc::kDenied, "of the " + std::to_string(voters.size()) + " nodes that would vote then only " +
                                  std::to_string(there) + " can be reached, so the ring could not be changed any "
                                  "more: start node " + short_text(*away) + " again, or remove it first"};
}

namespace {

// Rule 2.
Status all_have_installed(const Ring& ring, const std::set<NodeId>& alive, const std::set<NodeId>& installed) {
  for (const auto& member : ring.members()) {
    if (member.state == overlay::RingMemberState::kJoining && !alive.contains(member.id)) {
      return waits_for(member.id, "joins");
    }
    const bool gains = !ring.partitions_to_be_of(member.id).empty();
    if (gains && alive.contains(member.id) && !installed.contains(member.id)) {
      return Error{Errc::kUnavailable, "node " + short_text(member.id) + " still fetches what it shall own"};
    }
  }
  return ok_status();
}

}  // namespace

Status may_complete(const Ring& ring, const std::set<NodeId>& alive, const std::set<NodeId>& installed) {
  TRY(all_have_installed(ring, alive, installed));
  TRY_ASSIGN(const auto next, overlay::next_complete(ring.version()));
  if (keeps_majority(ring.version(), alive)) {
    if (auto keeps = keeps_majority(next, alive); !keeps) {
      return Error{Errc::kUnavailable, keeps.error().text + "; or take the change back with `starling abort`"};
    }
  }
  const std::size_t needed = next.needed();
  for (std::uint32_t i = 0; i < ring.partitions(); ++i) {
    const PartitionId p = partition(i);
    std::size_t now = 0, then = 0;
    bool moves = false;
    for (const auto& owner : ring.home(p)) now += alive.contains(owner) ? 1 : 0;
    for (const auto& owner : ring.home_next(p)) moves = moves || !ring.is_home(p, owner);
    // A site that is only cut off has no say in it, so its homes stay.
    if (ring.by_site() && moves && now < ring.enough_to_know()) {
      return Error{Errc::kUnavailable, "too few of the home owners of partition " + std::to_string(i) +
                                           " can be reached, and its home would move: bring them back, take the "
                                           "change back with `starling abort`, or remove them"};
    }
    const NodeId* away = nullptr;
    for (const auto& owner : ring.home_next(p)) {
      then += alive.contains(owner) ? 1 : 0;
      if (!alive.contains(owner)) away = &owner;
    }
    const std::size_t wanted = now >= ring.w() ? needed : std::min(now, needed);
    if (then < wanted && away != nullptr) return waits_for(*away, "shall own partition " + std::to_string(i));
  }
  return ok_status();
}

}  // namespace starling::node
