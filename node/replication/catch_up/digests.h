// Digests: what two nodes compare before they compare vectors.
//
// Of a partition: its vector, and what was written off of it as lost, because another owner may still have that.
// Of a span of partitions: the digests of those that both nodes own and that have something. Of all spans
// together a request is a few hundred bytes, so that a round between equal nodes costs next to nothing,
// and an idle partition nothing at all (hazards F44).
// Thread: pure; calls of the view's loop.
#pragma once

#include <cstdint>
#include <vector>

#include "node/replication/messages.h"
#include "node/replication/view.h"

namespace starling::node {

std::uint64_t digest_of(const storage::Store& store, PartitionId partition);

// Of what `peer` and we both own. REQUIRES: in a ring.
std::vector<CompareRequest::Span> spans_with(const ClusterView& view, const NodeId& peer);

// Spans of `asker` in which something differs here, or of which we hold what it owns and we do not. Ascending.
// REQUIRES: in a ring, and the asker is at the same ring version.
std::vector<std::uint16_t> differing_spans(const ClusterView& view, const NodeId& asker,
                                           const std::vector<CompareRequest::Span>& theirs);

inline std::uint16_t span_of(PartitionId partition) {
  return static_cast<std::uint16_t>(partition.value / kSpanPartitions);
}

}  // namespace starling::node
