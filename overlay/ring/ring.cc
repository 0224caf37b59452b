#include "overlay/ring/ring.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace starling::overlay {

bool NodeList::contains(const NodeId& id) const { return std::find(begin(), end(), id) != end(); }

Result<std::shared_ptr<const Ring>> Ring::make(RingVersion version) {
  TRY(validate(version));
  return std::shared_ptr<const Ring>(new Ring(std::move(version)));
}

Ring::Ring(RingVersion version) : version_(std::move(version)), voters_(overlay::voters(version_)) {
  for (const auto& member : version_.members) ids_.push_back(member.id);

  const Placement current = current_placement(version_);
  copies_ = current.copies;
  home_ = home_next_ = current.home;
  const Sites sites = version_.site_counts();
  homes_ = sites.homes;
  w_ = std::min<std::size_t>(version_.synced, sites.home);
  const std::uint32_t in_unit = version_.partitions / version_.placed();
  for (const auto unit : current.zones_shared) {
    for (std::uint32_t i = 0; i < in_unit; ++i) {
      zones_shared_.push_back({static_cast<std::uint16_t>(unit.value * in_unit + i)});
    }
  }
  const auto current_index = member_indexes(current);
  for (std::uint32_t p = 0; p < version_.partitions; ++p) {
    for (const auto owner : current.of(p / in_unit)) owners_.items.push_back(current_index[owner]);
    owners_.close();
  }
  partitions_of_ = by_member(owners_, ids_.size());
  if (!changing()) return;

  const Placement next = next_placement(version_);
  const auto next_index = member_indexes(next);
  home_next_ = next.home;
  for (std::uint32_t p = 0; p < version_.partitions; ++p) {
    const auto now = owners_.of(p);
    for (std::size_t i = 0; i < next.copies; ++i) {
      const MemberIndex member = next_index[next.of(p / in_unit)[i]];
      owners_next_.items.push_back(member);
      const auto same = i < next.home ? now.first(home_) : now;
      if (std::find(same.begin(), same.end(), member) == same.end()) {
        owners_to_be_.items.push_back(member);
      }
    }
    owners_next_.close();
    owners_to_be_.close();
  }
  partitions_to_be_of_ = by_member(owners_to_be_, ids_.size());
}

NodeList Ring::owners(PartitionId partition) const {
  assert(partition.value < version_.partitions);
  return {ids_.data(), owners_.of(partition.value)};
}

NodeList Ring::home(PartitionId partition) const {
  assert(partition.value < version_.partitions);
  return {ids_.data(), owners_.of(partition.value).first(home_)};
}

NodeList Ring::owners_to_be(PartitionId partition) const {
  assert(partition.value < version_.partitions);
  if (!changing()) return {};
  return {ids_.data(), owners_to_be_.of(partition.value)};
}

NodeList Ring::owners_next(PartitionId partition) const {
  if (!changing()) return owners(partition);
  assert(partition.value < version_.partitions);
  return {ids_.data(), owners_next_.of(partition.value)};
}

NodeList Ring::home_next(PartitionId partition) const {
  if (!changing()) return home(partition);
  assert(partition.value < version_.partitions);
  return {ids_.data(), owners_next_.of(partition.value).first(home_next_)};
}

bool Ring::is_home(PartitionId partition, const NodeId& node) const {
  return home(partition).contains(node);
}

bool Ring::is_owner(PartitionId partition, const NodeId& node) const {
  return owners(partition).contains(node);
}

bool Ring::is_owner_to_be(PartitionId partition, const NodeId& node) const {
  return owners_to_be(partition).contains(node);
}

std::span<const PartitionId> Ring::partitions_of(const NodeId& node) const {
  return of_node(partitions_of_, node);
}

std::span<const PartitionId> Ring::partitions_to_be_of(const NodeId& node) const {
  if (!changing()) return {};
  return of_node(partitions_to_be_of_, node);
}

double Ring::share(const NodeId& node) const {
  return static_cast<double>(partitions_of(node).size()) /
         static_cast<double>(owners_.items.size());
}

// Where the nodes of a placement stand among the members.
std::vector<MemberIndex> Ring::member_indexes(const Placement& placement) const {
  std::vector<MemberIndex> out;
  for (const auto& node : placement.nodes) {
    const auto at = std::lower_bound(ids_.begin(), ids_.end(), node.id);
    assert(at != ids_.end() && *at == node.id);
    out.push_back(static_cast<MemberIndex>(at - ids_.begin()));
  }
  return out;
}

Ring::Lists<PartitionId> Ring::by_member(const Lists<MemberIndex>& lists, std::size_t members) {
  std::vector<std::vector<PartitionId>> gathered(members);
  for (std::size_t p = 0; p + 1 < lists.starts.size(); ++p) {
    for (const auto member : lists.of(p)) {
      gathered[member].push_back({static_cast<std::uint16_t>(p)});
    }
  }
  Lists<PartitionId> out;
  for (const auto& list : gathered) {
    out.items.insert(out.items.end(), list.begin(), list.end());
    out.close();
  }
  return out;
}

std::span<const PartitionId> Ring::of_node(const Lists<PartitionId>& lists,
                                           const NodeId& node) const {
  const auto at = std::lower_bound(ids_.begin(), ids_.end(), node);
  if (at == ids_.end() || *at != node) return {};
  return lists.of(static_cast<std::size_t>(at - ids_.begin()));
}

}  // namespace starling::overlay
