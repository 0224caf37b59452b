// The operator's methods about who may speak: the cluster's keys, and nodes that are believed no more.
#include "crypto/text.h"
#include "node/admin/admin_api.h"
#include "node/admin/names_of.h"
#include "node/node_impl.h"
#include "node/ring/movement.h"
#include "overlay/ring/ring_change.h"

namespace starling::node {

using overlay::RingVersion;
using overlay::Task;

Task<Result<Json>> AdminApi::key_list(Json) {
  Json keys = Json::array();
  bool primary = true;
  for (const auto& key : node_.keys_->keys()) {
    const bool in_use = std::exchange(primary, false);
    keys.push_back({{"id", hex(key.id.view())},
                    {"state", in_use ? "primary" : key.used > 0 ? "old" : "new"},
                    {"retire_at_ms", in_use ? 0 : key.retire_at_ms}});
  }
  co_return Json{{"keys", std::move(keys)}};
}

Task<Result<Json>> AdminApi::key_rotate(Json arguments) {
  const std::int64_t live_s = arguments.value("retire_after_s", kKeysLiveDefaultMs / 1000);
  if (live_s < 0 || live_s > kKeysLiveMaxMs / 1000) {
    co_return Error{Errc::kInvalid,
                    "retire_after_s is 0 to " + std::to_string(kKeysLiveMaxMs / 1000)};
  }
  auto rotating = node_.keys_->rotate(live_s * 1000);
  CO_TRY_ASSIGN(const auto rotation, co_await rotating);
  co_return Json{{"key", hex(rotation.key.view())},
                 {"retire_at_ms", rotation.others_retire_at_ms},
                 {"taken", short_names(rotation.taken)},
                 {"away", short_names(rotation.away)},
                 {"going", short_names(rotation.going)}};
}

Task<Result<Json>> AdminApi::revoke(Json arguments) {
  const std::string text = arguments.value("node", "");
  CO_TRY_ASSIGN(const NodeId node, find_node(text));
  if (node == node_.view_->self) {
    co_return Error{Errc::kInvalid, "a node cannot revoke itself: ask another one"};
  }
  const bool force = arguments.value("force", false);
  auto asking = node_.ring_->may_do_without({node});
  const Status spared = co_await asking;
  const auto& ring = node_.view_->ring();
  const auto* member = ring.member(node);  // Another command may have taken it back meanwhile.
  if (member == nullptr) co_return Error{Errc::kNotFound, short_text(node) + " is no member any more"};
  const bool gone = member->gone();
  if (ring.version().is_revoked(node) && (gone || !force)) {
    co_return Error{Errc::kExists, short_text(node) + (gone ? " is revoked already" : " is being revoked already")};
  }
  const bool dry_run = arguments.value("dry_run", false);
  if (force) {
    const auto kept = may_remove(ring, {node});
    const std::string lost = !spared ? spared.error().text : !kept ? kept.error().text : "";
    if (dry_run) {
      CO_TRY(node_.ring_->may_force_out({node}));
      co_return Json{{"node", short_text(node)}, {"dry_run", true}, {"forced", true}, {"lost", lost}};
    }
    auto forcing = node_.ring_->force_out({node}, /*revoke=*/true);
    CO_TRY(co_await forcing);
    co_await node_.view_->durable();
    co_return Json{{"node", short_text(node)},
                   {"ring", node_.view_->ring().number().value},
                   {"lineage", hex(node_.view_->ring().lineage().view())},
                   {"lost", lost}};
  }
  if (!gone) CO_TRY(spared);
  auto build = [this, node](const RingVersion& before) -> Result<RingVersion> {
    const auto* member = before.find(node);
    if (member != nullptr && member->gone()) return overlay::next_revoke_gone(before, {&node, 1});
    TRY_ASSIGN(const auto next, overlay::next_intent_revoke(before, {&node, 1}));
    if (auto keeps = keeps_majority(next, live_members()); !keeps) {
      return Error{keeps.code(), keeps.error().text + "; or do without agreement, under a new lineage, with --force"};
    }
    TRY_ASSIGN(const auto then, overlay::Ring::make(next));
    TRY(may_remove(*then, {node}));
    return next;
  };
  auto changing = change(build, dry_run);
  CO_TRY_ASSIGN(Json answer, co_await changing);
  answer["node"] = short_text(node);
  co_return answer;
}

}  // namespace starling::node
