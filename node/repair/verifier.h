// Verifier: do the owners of a partition hold the same? Compares the digests of their canonical exports
// (storage/export.h, architecture invariant 5) while they serve.
//
// Owners with different vectors are not compared: they are on their way to each other. Equal vectors with different digests are a difference,
// which must not be.
// Thread: one loop.
#pragma once

#include <vector>

#include "node/replication/messages.h"
#include "node/replication/view.h"
#include "overlay/loop/task.h"

namespace starling::node {

inline constexpr std::size_t kExportsAtOnceMax = 8;  // Asked of this node.

class Verifier {
 public:
  enum class Outcome { kSame, kBehind, kDiffers, kDamaged, kUnreachable };
  struct Finding {
    PartitionId partition;
    Outcome outcome = Outcome::kSame;
    std::vector<NodeId> nodes;       // Owners concerned: behind, damaged, silent, or all that differ.
    std::vector<Dot> damaged, lost;  // At any owner.
    std::uint64_t rows = 0;          // Compared, of one owner.
  };
  explicit Verifier(ClusterView& view);

  // One partition at all its owners, once. kBehind and kDamaged may pass by themselves.
  overlay::Task<Finding> verify(PartitionId partition);

 private:
  overlay::Task<Done> answer(VerifyRequest request, overlay::Reply reply);

  ClusterView& view_;
  std::size_t exports_ = 0;  // Under way.
  overlay::Scope scope_;
};

}  // namespace starling::node
