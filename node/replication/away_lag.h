// AwayLag: how far the away owners of other sites (overlay/ring/sites.h) are behind what this node accepted at home.
//
// Nobody waits for them, so nothing else tells. Of each that lacks something of our writer a mark is kept: how far we
// had come, and when. Until it has come so far it has lacked something since then.
// What other nodes accepted they tell themselves; what a dead node did, nobody, until it was compared.
// Thread: one loop.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "node/replication/view.h"

namespace starling::node {

inline constexpr Duration kLagsAfter = 1s;  // Who lacks something for so long lags.

class AwayLag {
 public:
  using Copy = std::pair<PartitionId, NodeId>;
  struct Lag {
    std::uint64_t changes = 0;
    Duration age{};
  };

  explicit AwayLag(ClusterView& view);

  // We have 1..held of our writer, and it has 1..has.
  void note(PartitionId partition, const NodeId& owner, std::uint64_t has, std::uint64_t held);
  // Has it been lacking something for a while?
  [[nodiscard]] bool lags(const Copy& copy) const;
  // Up to `most` of those, in turn.
  std::vector<Copy> some(std::size_t most);
  // By site, those that keep up included. Of several copies in one site the furthest counts.
  [[nodiscard]] std::map<std::string, Lag> by_site() const;

 private:
  struct Mark {
    std::uint64_t has = 0;
    std::uint64_t held = 0;
    std::uint64_t n = 0;  // What we had
    Instant since{};      // then.
  };

  [[nodiscard]] bool is_away(const Copy& copy) const;

  ClusterView& view_;
  std::map<Copy, Mark> marks_;  // Of those that lack something.
  Copy last_;                   // Of some().
};

}  // namespace starling::node
