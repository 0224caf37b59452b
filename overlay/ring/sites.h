// Sites: zones that lie far apart, and what a cluster's policy about them comes to with its nodes.
//
// Without a policy any W of the N owners of a partition make an acknowledgement. With zones far
// apart each would wait for another one. Under a policy `home` owners lie in one site, the home of
// the partition: they alone are counted, vote and coordinate. `away` owners lie elsewhere, get the
// same changes, and nobody waits for them (docs/decisions/0051).
// A zone is a home while it has `home` nodes; where `only` names one that is, it is the home of
// everything. While no zone is large enough the policy rests, and all owners are at home. Nodes
// without a zone are in no site: they are away for everybody.
// Thread: value types; pure.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "crypto/bytes.h"
#include "crypto/msgpack.h"

namespace starling::overlay {

struct SitePolicy {
  std::uint8_t home = 0;  // Copies in the home site of a partition; 0: there is no policy.
  std::uint8_t away = 0;  // Copies elsewhere.
  std::string only;       // The one site that is home; empty: every one that can be.

  [[nodiscard]] bool on() const { return home > 0; }
  [[nodiscard]] std::uint8_t copies() const { return static_cast<std::uint8_t>(home + away); }
  friend bool operator==(const SitePolicy&, const SitePolicy&) = default;
  FIELDS(home, away, only)
};

struct Sites {
  struct Site {
    std::string zone;
    std::uint32_t nodes = 0;
    std::uint32_t weight = 0;  // Of all of them.
  };
  std::vector<Site> homes;  // Sorted by zone. Empty: no policy, or it rests.
  std::size_t home = 0;     // Owners of each partition that count,
  std::size_t away = 0;     // and the others; fewer than the policy says while nodes are missing.
};

struct SiteNode {
  View zone;
  std::uint32_t weight = 0;
};
// `copies`: of each partition where there is no policy.
Sites sites_of(const SitePolicy& policy, std::size_t copies, std::span<const SiteNode> nodes);

}  // namespace starling::overlay
