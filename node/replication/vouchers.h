// Vouchers: whose answers show that this node knows every change that was acknowledged before a ring version.
//
// What W owners acknowledged is at one of any N-W+1 of them. That holds for the owners of the time: right after
// a change newcomers could else vouch for each other, while what the old owners acknowledged last is with
// those alone (decision 0031). So, until this node has compared with enough owners of every ring version since
// it last did, it goes on catching up. Who was removed is not asked for: a removal leaves enough others, or
// the operator accepted the loss.
// The version of the last cover is on disk, so a restart in between forgets nothing.
// Thread: one loop.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "node/replication/view.h"

namespace starling::node {

inline constexpr std::size_t kVouchersMax = 16;  // Ring versions; the oldest give way.

class Vouchers {
 public:
  explicit Vouchers(ClusterView& view) : view_(view) {}

  // The version whose owners, and those of all later ones, have to answer; nothing on a first start.
  [[nodiscard]] std::optional<RingNumber> covered_at() const;
  // Its owners acknowledged changes that we may lack.
  void add(RingPtr ring);
  // We know all that was acknowledged before the present version, and go on knowing.
  void cover();
  [[nodiscard]] bool open() const { return !rings_.empty(); }

  // Why those that answered are too few for these partitions; empty when they will do. `patient`: those that
  // left and are down are waited for, too.
  [[nodiscard]] std::string lacking(const std::vector<PartitionId>& partitions,
                                    const std::set<NodeId>& answered, bool patient) const;

 private:
  [[nodiscard]] std::string lacking(const overlay::Ring& then, PartitionId partition,
                                    const std::set<NodeId>& answered, bool patient) const;

  ClusterView& view_;
  std::vector<RingPtr> rings_;
};

}  // namespace starling::node
