// The operator's methods about who may speak: the cluster's keys, and nodes that are believed no more.
#include "crypto/text.h"
#include "node/admin/admin_api.h"
#include "node/node_impl.h"

namespace starling::node {

using overlay::RingVersion;
using overlay::Task;

namespace {

Json short_names(const std::vector<NodeId>& nodes) {
  Json out = Json::array();
  for (const auto& node : nodes) out.push_back(short_text(node));
  return out;
}

}  // namespace

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
                 {"away", short_names(rotation.away)}};
}

Task<Result<Json>> AdminApi::revoke(Json arguments) {
  const std::string text = arguments.value("node", "");
  CO_TRY_ASSIGN(const NodeId node, find_node(text));
  if (node == node_.view_->self) {
    co_return Error{Errc::kInvalid, "a node cannot revoke itself: ask another one"};
  }
  if (node_.view_->ring().version().is_revoked(node)) {
    co_return Error{Errc::kExists, short_text(node) + " is revoked already"};
  }
  auto build = [node](const RingVersion& before) { return overlay::next_intent_revoke(before, {&node, 1}); };
  auto changing = node_.ring_->change(build);
  CO_TRY(co_await changing);
  co_return Json{{"node", short_text(node)}, {"ring", node_.view_->ring().number().value}};
}

}  // namespace starling::node
