#include "node/gateway/suggestions.h"

#include <algorithm>

namespace starling::node {

// Who has arrived is counted by the node itself from then on.
std::uint64_t Suggestions::load(const Node& node) {
  Given& given = given_[node.id];
  const std::uint32_t arrived = node.sessions > given.told ? node.sessions - given.told : 0;
  given.sent -= std::min(given.sent, arrived);
  given.told = node.sessions;
  return std::uint64_t{given.told} + given.sent;
}

std::vector<std::string> Suggestions::next(const std::vector<Node>& nodes, Random& random) {
  std::vector<const Node*> order;
  for (const auto& node : nodes) order.push_back(&node);
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  const auto best = std::min_element(order.begin(), order.end(),
                                     [this](const Node* a, const Node* b) { return load(*a) < load(*b); });
  if (best == order.end()) return {};
  std::rotate(order.begin(), best, best + 1);
  ++given_[order.front()->id].sent;
  order.resize(std::min(order.size(), kSuggestedMax));
  std::vector<std::string> addresses;
  for (const auto* node : order) addresses.push_back(node->client);
  return addresses;
}

}  // namespace starling::node
