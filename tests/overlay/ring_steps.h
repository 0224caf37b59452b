// Steps of a ring in few words, for the tests of versions and of changes.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <vector>

#include "tests/overlay/ring_fixture.h"

namespace starling::overlay {

inline std::vector<NodeId> ids(std::initializer_list<std::uint32_t> list) {
  std::vector<NodeId> out;
  for (const auto i : list) out.push_back(test_id(i));
  return out;
}
inline RingMember& member(RingVersion& version, std::uint32_t i) {
  return *std::find_if(version.members.begin(), version.members.end(),
                       [&](const RingMember& m) { return m.id == test_id(i); });
}
inline RingVersion joined(const RingVersion& before, std::vector<NewMember> nodes) {
  return must(next_intent_join(before, nodes));
}
inline RingVersion leaving(const RingVersion& before, std::initializer_list<std::uint32_t> nodes) {
  return must(next_intent_leave(before, ids(nodes), true));
}
inline RingVersion removing(const RingVersion& before, std::initializer_list<std::uint32_t> nodes) {
  return must(next_intent_remove(before, ids(nodes)));
}

// As the founder of a cluster of format 1 wrote it.
inline RingVersion of_format_1(RingVersion version) {
  version.format = 1;
  version.rule = PlacementRule::kHashed;
  return version;
}

}  // namespace starling::overlay
