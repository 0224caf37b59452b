// Children: what is noted by partition, when the partitions are doubled (docs/decisions/0025).
//
// p becomes 2p and 2p + 1. Dots stay what they are, so what was noted of 1..n of a writer in p is true in both.
// Thread: pure.
#pragma once

#include <array>
#include <utility>

#include "storage/ids.h"

namespace starling::node {

inline std::array<PartitionId, 2> children_of(PartitionId parent) {
  const auto lower = static_cast<std::uint16_t>(2 * parent.value);
  return {PartitionId{lower}, PartitionId{static_cast<std::uint16_t>(lower + 1)}};
}

namespace children_detail {

inline PartitionId& partition_in(PartitionId& key) { return key; }
template <class T>
PartitionId& partition_in(std::pair<PartitionId, T>& key) {
  return key.first;
}

}  // namespace children_detail

// Of a map or a set whose keys are partitions, or pairs that begin with one: each child has what its parent had.
template <class Noted>
void split_keys(Noted& noted) {
  Noted out;
  for (const auto& item : noted) {
    typename Noted::key_type key;
    if constexpr (requires { typename Noted::mapped_type; }) {
      key = item.first;
    } else {
      key = item;
    }
    auto& partition = children_detail::partition_in(key);
    for (const auto child : children_of(PartitionId(partition))) {
      partition = child;
      if constexpr (requires { typename Noted::mapped_type; }) {
        out.emplace(key, item.second);
      } else {
        out.insert(key);
      }
    }
  }
  noted = std::move(out);
}

}  // namespace starling::node
