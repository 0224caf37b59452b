// AwayLag: how far the away owners of other sites (overlay/ring/sites.h) are behind what this node accepted at home.
//
// Nobody waits for them, so nothing else tells. Of each that lacks something of our writer a mark is kept: how far we
// had come, and when. Until it has come so far it has lacked something since then. Marks follow what owners acknowledge
// and, for all partitions at once, what a comparison finds. In a new run nothing is known of a site before that.
// What other nodes accepted they tell themselves; what a dead node did, nobody, until it was compared.
// Thread: one loop.
#pragma once

#include <map>
#include <optional>
#include <set>
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
  // A comparison of all partitions with it, begun then, is through. Where it lacks something that was noted since then.
  void compared(const NodeId& owner, Instant begun);
  // Has it been lacking something for a while?
  [[nodiscard]] bool lags(const Copy& copy) const;
  // Up to `most` of those that can be reached, in turn.
  std::vector<Copy> some(std::size_t most);
  // By site, those that keep up included. Of several copies in one site the furthest counts. Nothing: not known yet,
  // since of some partition no owner there was heard in this run.
  [[nodiscard]] std::map<std::string, std::optional<Lag>> by_site() const;

 private:
  struct Mark {
    std::uint64_t has = 0;
    std::uint64_t held = 0;
    std::uint64_t n = 0;  // What we had
    Instant since{};      // then.
    Instant noted{};      // Last.
  };

  [[nodiscard]] bool is_away(const Copy& copy) const;
  // Sites with away owners of a partition that we are at home for, of which none was heard.
  [[nodiscard]] std::set<std::string> unheard_sites() const;

  ClusterView& view_;
  std::map<Copy, Mark> marks_;  // Of those that lack something.
  std::set<NodeId> heard_;      // Compared in this run.
  Copy last_;                   // Of some().
};

}  // namespace starling::node
