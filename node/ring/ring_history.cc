// Earlier ring versions: on disk, or asked for at others; and what came of a change, as the one behind it tells.
#include "node/layout.h"
#include "node/ring/ring_service.h"

namespace starling::node {

using overlay::Method;
using overlay::RingVersion;
using overlay::Task;
using storage::Store;

std::optional<Bytes> RingService::remembered(RingNumber number) const {
  auto stored = view_.store.get(Store::Family::kNode, ring_history_key(number));
  if (stored && stored->empty()) return std::nullopt;  // Forgotten.
  return stored;
}

std::optional<RingVersion> RingService::known(RingNumber number) const {
  const auto stored = remembered(number);
  if (!stored) return std::nullopt;
  auto version = overlay::decode_ring_version(*stored);
  if (!version) return std::nullopt;
  return std::move(*version);
}

// Kept when it is a step from the one before or to the one after; refused when we have one and it is none.
Status RingService::keep_if_it_fits(const RingVersion& version) {
  const auto before = known({version.number.value - 1});
  const auto after = known({version.number.value + 1});
  if (before) TRY(overlay::succeeds(*before, version));
  if (after) TRY(overlay::succeeds(version, *after));
  if (before || after) {
    view_.store.put(Store::Family::kNode, ring_history_key(version.number), overlay::encode(version));
  }
  return ok_status();
}

// Who is gone knows what was before; it is believed where that is a step to a version that is known here.
Task<Result<RingVersion>> RingService::recall(RingNumber number, std::optional<NodeId> first) {
  if (const auto stored = remembered(number)) co_return overlay::decode_ring_version(*stored);
  std::vector<NodeId> asked, gone;
  if (first) asked.push_back(*first);
  bool silent = false;
  const RingVersion now = view_.ring().version();
  for (const auto& member : now.members) {
    if (member.id == view_.self || member.id == first) continue;
    if (!view_.alive(member.id)) {
      silent = silent || !member.gone();
    } else if (!now.is_revoked(member.id)) {
      (member.gone() ? gone : asked).push_back(member.id);
    }
  }
  if (known({number.value + 1})) {
    asked.insert(asked.end(), gone.begin(), gone.end());
  } else {
    silent = silent || !gone.empty();
  }
  for (const auto& node : asked) {
    auto asking = overlay::call(view_.loop, view_.rpc, node, Method::kRingGet,
                                pack(RingGetRequest{number}), kRingAskDeadline);
    const auto body = co_await asking;
    silent = silent || body || body.code() != Errc::kNotFound;  // Also where it knows another.
    const auto answer = body ? unpack<RingAnswer>(*body) : Result<RingAnswer>(body.error());
    if (!answer) continue;
    auto version = overlay::decode_ring_version(answer->ring.data);
    if (version && version->number == number && keep_if_it_fits(*version)) co_return version;
  }
  co_return Error{silent ? Errc::kUnavailable : Errc::kNotFound,
                  "no member that answers knows ring version " + std::to_string(number.value) +
                      ", or one that is a step from those known here"};
}

std::optional<RingNumber> RingService::kept_after(RingNumber number) const {
  const auto rows = view_.store.scan(Store::Family::kNode, kRingHistoryPrefix, ring_history_key(number), 1);
  if (rows.empty()) return std::nullopt;
  return parse_ring_history_key(rows[0].first);
}

// An intent has the owners of the version before it.
std::vector<RingPtr> RingService::since(RingNumber number) const {
  std::vector<RingPtr> rings;
  for (RingNumber at = number; at < view_.ring().number(); ++at.value) {
    const auto version = known(at);
    if (!version || (at != number && version->change != overlay::RingChange::kNone)) continue;
    if (auto ring = overlay::Ring::make(*version)) rings.push_back(std::move(*ring));
  }
  return rings;
}

Task<Result<RingService::Outcome>> RingService::outcome(RingNumber intent) {
  if (!view_.in_ring() || view_.ring().number() < intent) co_return Outcome::kOpen;
  if (view_.ring().number() == intent) co_return view_.ring().changing() ? Outcome::kOpen : Outcome::kDone;
  auto asking = recall(intent);
  CO_TRY_ASSIGN(const RingVersion opened, co_await asking);
  auto asking_next = recall({intent.value + 1});
  CO_TRY_ASSIGN(const RingVersion after, co_await asking_next);
  co_return overlay::fulfilled(opened, after) ? Outcome::kDone : Outcome::kTakenBack;
}

}  // namespace starling::node
