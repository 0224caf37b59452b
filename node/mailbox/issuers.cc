#include "node/mailbox/issuers.h"

#include <algorithm>

#include "crypto/access/token.h"
#include "node/layout.h"

namespace starling::node {

using storage::Store;

namespace {
constexpr Duration kLookAgainAfter = std::chrono::minutes(1);  // For a clock that is trusted.

Bytes row_of(const NodeId& node) { return row_key(kGoneIssuerPrefix, node); }
}  // namespace

Issuers::Issuers(ClusterView& view) : view_(view) {
  look();
  view_.on_ring([this] { look(); });
}

void Issuers::look() {
  if (!view_.in_ring()) return;
  const auto& version = view_.ring().version();
  const std::int64_t now = view_.loop.wall_ms();
  for (const auto& member : version.members) {
    if (!member.gone() || gone_since_.contains(member.id)) continue;
    const auto stored = view_.store.get(Store::Family::kNode, row_of(member.id));
    std::int64_t since = (stored ? parse_gone_issuer(*stored) : std::nullopt).value_or(now + 1);
    if (since > now) {  // Or by a clock that was ahead.
      if (!view_.clock_trusted()) {  // By one that is behind, its tokens would end as soon as that is set right.
        again_ = view_.loop.after(kLookAgainAfter, [this] { look(); });
        continue;
      }
      since = now;
      view_.store.put(Store::Family::kNode, row_of(member.id), gone_issuer_value(now));
    }
    gone_since_.emplace(member.id, since);
  }
  std::erase_if(gone_since_, [&](const auto& item) {
    if (const auto* member = version.find(item.first); member != nullptr && member->gone()) return false;
    view_.store.put(Store::Family::kNode, row_of(item.first), "");
    return true;
  });
}

std::optional<PublicKey> Issuers::key_of(const NodeId& node) const {
  if (!view_.in_ring() || view_.ring().version().is_revoked(node)) return std::nullopt;
  const auto* member = view_.ring().version().find(node);
  if (member == nullptr) return std::nullopt;
  if (member->gone()) {
    const auto gone = gone_since_.find(node);
    const bool known = gone != gone_since_.end();
    if (known && view_.loop.wall_ms() - gone->second > kTokenLifeMaxMs) return std::nullopt;
  }
  return member->key;
}

}  // namespace starling::node
