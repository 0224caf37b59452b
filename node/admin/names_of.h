// States and ids as the operator's answers name them.
#pragma once

#include <string>

#include "overlay/gossip/member_table.h"
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

inline std::string writer_text(WriterId writer) {
  Bytes bytes;
  BytesWriter(bytes).u64be(writer.value);
  return hex(bytes);
}

}  // namespace starling::node
