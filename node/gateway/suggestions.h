// Suggestions: where the sessions go that a node asks to go away.
//
// Each is sent to the node with the fewest sessions, those counted that were sent there and that the node has not
// told of yet; among equals by chance. So they spread evenly, and a node that has just been restarted fills up.
// Thread: one loop; pure.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "crypto/random.h"
#include "storage/ids.h"

namespace starling::node {

inline constexpr std::size_t kSuggestedMax = 16;  // The first is the suggestion, the others are for when it fails.

class Suggestions {
 public:
  struct Node {
    NodeId id;
    std::string client;          // Address.
    std::uint32_t sessions = 0;  // That it told of last.
  };

  // For one session. Empty when there is no node.
  std::vector<std::string> next(const std::vector<Node>& nodes, Random& random);

 private:
  struct Given {
    std::uint32_t told = 0;
    std::uint32_t sent = 0;  // Since then.
  };
  std::uint64_t load(const Node& node);

  std::map<NodeId, Given> given_;  // Few: members of the ring.
};

}  // namespace starling::node
