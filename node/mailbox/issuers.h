// Issuers: whose tokens hold.
//
// Those of members; and those of a node that left or was removed for as long as a token lives, reckoned from when this
// node first knew it gone: nobody is logged out because a machine goes, and whoever finds its disk years later logs
// nobody in. Of a revoked node none hold. When it went is kept on disk (decision 0061), once our clock is trusted;
// until then they hold.
// Thread: one loop.
#pragma once

#include <map>
#include <optional>

#include "crypto/access/identity.h"
#include "node/replication/view.h"

namespace starling::node {

class Issuers {
 public:
  explicit Issuers(ClusterView& view);
  [[nodiscard]] std::optional<PublicKey> key_of(const NodeId& node) const;

 private:
  void look();

  ClusterView& view_;
  overlay::Timer again_;
  std::map<NodeId, std::int64_t> gone_since_;  // Wall clock, milliseconds. Members that are gone, which are bounded.
};

}  // namespace starling::node
