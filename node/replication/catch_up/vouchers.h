// Vouchers: whose answers show that this node knows every change that was acknowledged before a ring version.
//
// What W owners acknowledged is at one of any N-W+1 of them. That holds for the owners of the time: right after
// a change newcomers could else vouch for each other, while what the old owners acknowledged last is with
// those alone (decision 0031). So, until this node has compared with enough owners of every ring version since
// it last did, it goes on catching up. Who was removed is not asked for: a removal leaves enough others, or
// the operator accepted the loss. Nor is who left, once everybody has what it held. Of partitions that had a home site (overlay/ring/sites.h) its owners there are
// asked; where a lost site took all of those away, every away owner that is left: what they hold is all there is.
// The version of the last cover is on disk, so a restart in between forgets nothing.
// Thread: one loop.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "node/replication/view.h"

namespace starling::node {

inline constexpr std::size_t kVouchersMax = 16;  // Ring versions; the oldest give way.

class Vouchers {
 public:
  // `is_safe`: it left, and every owner of then has what it held (repair/farewell.h).
  using IsSafe = std::function<bool(const NodeId&)>;
  Vouchers(ClusterView& view, IsSafe is_safe) : view_(view), is_safe_(std::move(is_safe)) {}

  // The version whose owners, and those of all later ones, have to answer; nothing on a first start.
  [[nodiscard]] std::optional<RingNumber> covered_at() const;
  // Its owners acknowledged changes that we may lack.
  void add(RingPtr ring);
  // We know all that was acknowledged before the present version, and go on knowing.
  void cover();
  [[nodiscard]] bool open() const { return !rings_.empty(); }
  // Who is away, and without whom (or another one of them) too few of those who owned these partitions are there.
  [[nodiscard]] std::vector<NodeId> needs(const std::vector<PartitionId>& partitions) const;

  // Why those that answered are too few for these partitions; empty when they will do. `patient`: those that
  // left and are down are waited for, too.
  [[nodiscard]] std::string lacking(const std::vector<PartitionId>& partitions,
                                    const std::set<NodeId>& answered, bool patient) const;

 private:
  struct Asked {  // The owners of a partition in one of those versions.
    std::size_t there = 0;     // Those that answer,
    std::size_t least = 0;     // and how many of them it takes.
    std::vector<NodeId> silent;  // The others, but for those that were removed.
  };
  [[nodiscard]] Asked ask(const overlay::Ring& then, PartitionId partition,
                          const std::function<bool(const NodeId&)>& answers, bool patient) const;
  [[nodiscard]] std::string lacking(const overlay::Ring& then, PartitionId partition,
                                    const std::set<NodeId>& answered, bool patient) const;

  ClusterView& view_;
  const IsSafe is_safe_;
  std::vector<RingPtr> rings_;
};

}  // namespace starling::node
