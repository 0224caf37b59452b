// States and ids as the operator's answers name them.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "overlay/gossip/member_table.h"
#include "overlay/ring/ring_version.h"
#include "storage/ids.h"

namespace starling::node {

inline std::string state_name(overlay::MemberState state) {
  switch (state) {
    case overlay::MemberState::kAlive: return "alive";
    case overlay::MemberState::kSuspect: return "suspect";
    case overlay::MemberState::kDead: return "dead";
    case overlay::MemberState::kLeft: return "left";
  }
  return "unknown";
}

inline std::string state_name(overlay::RingMemberState state) {
  switch (state) {
    case overlay::RingMemberState::kServing: return "serving";
    case overlay::RingMemberState::kJoining: return "joining";
    case overlay::RingMemberState::kLeaving: return "leaving";
    case overlay::RingMemberState::kRemoving: return "removing";
    case overlay::RingMemberState::kLeft: return "left";
    case overlay::RingMemberState::kRemoved: return "removed";
  }
  return "unknown";
}

inline std::string change_name(overlay::RingChange change) {
  switch (change) {
    case overlay::RingChange::kNone: return "";
    case overlay::RingChange::kJoin: return "join";
    case overlay::RingChange::kLeave: return "leave";
    case overlay::RingChange::kRemove: return "remove";
    case overlay::RingChange::kWeight: return "weight";
    case overlay::RingChange::kReplace: return "replace";
    case overlay::RingChange::kRule: return "rebalance";
    case overlay::RingChange::kSites: return "sites";
  }
  return "";
}

inline nlohmann::json short_names(const std::vector<NodeId>& nodes) {
  auto out = nlohmann::json::array();
  for (const auto& node : nodes) out.push_back(short_text(node));
  return out;
}

inline std::string writer_text(WriterId writer) {
  Bytes bytes;
  BytesWriter(bytes).u64be(writer.value);
  return hex(bytes);
}

}  // namespace starling::node
