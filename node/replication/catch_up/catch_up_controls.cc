#include "node/replication/catch_up/catch_up_controls.h"

#include <algorithm>
#include <limits>

#include "node/layout.h"

namespace starling::node {

using overlay::Access;
using overlay::Method;
using overlay::Reply;
using overlay::Task;
using storage::Store;

bool merge(MoveSettings& ours, const MoveSettings& theirs) {
  bool changed = false;
  if (theirs.paused_said > ours.paused_said) {
    ours.paused = theirs.paused;
    ours.paused_said = theirs.paused_said;
    changed = true;
  }
  if (theirs.rate_said > ours.rate_said) {
    ours.rate = theirs.rate;
    ours.rate_said = theirs.rate_said;
    changed = true;
  }
  return changed;
}

MoveControls::MoveControls(ClusterView& view) : view_(view), scope_(view.loop) {
  look_around();
  if (const auto stored = view_.store.get(Store::Family::kNode, kMoveSettingsKey)) {
    if (auto settings = unpack<MoveSettings>(*stored)) settings_ = std::move(*settings);
  }
  serve();
}

void MoveControls::serve() {
  view_.rpc.serve(Method::kMoveSettings, Access::kMembers, [this](const NodeId&, View body, Reply reply) {
    const auto theirs = unpack<MoveSettings>(body);
    if (!theirs) return reply(theirs.error());
    if (auto heard = hear(*theirs); !heard) return reply(heard.error());
    reply(pack(settings_));
  });
}

// Later than what we know to be said, whatever the clocks. The node's HLC stays out of it: a wrong clock, which
// coordinates nothing, must not get in there.
EntryId MoveControls::now_after(const EntryId& said) const {
  const auto wall_ms = std::clamp<std::int64_t>(view_.loop.wall_ms(), 0, kWallMsMax);
  const Hlc now = hlc_at(static_cast<std::uint64_t>(wall_ms));
  const Hlc later = said.time == std::numeric_limits<Hlc>::max() ? said.time : said.time + 1;
  return {std::max(now, later), view_.store.writer()};
}

// From a peer. Nothing could be said after a time at the end of all time. A clock that is not trusted judges none.
Status MoveControls::hear(const MoveSettings& theirs) {
  const auto wall_ms = std::clamp<std::int64_t>(view_.loop.wall_ms(), 0, kWallMsMax - kSaidAheadMaxMs);
  const Hlc latest = hlc_at(static_cast<std::uint64_t>(wall_ms + kSaidAheadMaxMs));
  const Hlc last = hlc_at(static_cast<std::uint64_t>(kWallMsMax - kSaidAheadMaxMs));
  const Hlc limit = view_.clock_trusted() ? latest : last;
  if (std::max(theirs.paused_said.time, theirs.rate_said.time) > limit) {
    return Error{Errc::kClock, "what operators said of the copying is dated far in the future"};
  }
  take(theirs);
  return ok_status();
}

void MoveControls::take(const MoveSettings& theirs) {
  const bool was_paused = settings_.paused;
  const std::uint64_t had_rate = rate();
  if (!merge(settings_, theirs)) return;
  save();
  if (settings_.paused != was_paused) {
    view_.log.info(settings_.paused ? "changes of the ring copy no data from now on"
                                    : "changes of the ring copy data again");
  }
  if (rate() != had_rate) view_.log.info("another bandwidth for changes of the ring", {{"bytes_s", rate()}});
}

void MoveControls::save() { view_.store.put(Store::Family::kNode, kMoveSettingsKey, pack(settings_)); }

Task<MoveControls::Told> MoveControls::pause(bool paused) {
  MoveSettings said = settings_;
  said.paused = paused;
  said.paused_said = now_after(settings_.paused_said);
  take(said);
  auto telling = tell_members();
  co_return co_await telling;
}

Task<Result<MoveControls::Told>> MoveControls::set_rate(std::uint64_t rate) {
  if (rate != 0 && (rate < kMoveRateMin || rate > kMoveRateMax)) {
    co_return Error{Errc::kInvalid, "a rate is " + std::to_string(kMoveRateMin) + " to " +
                                        std::to_string(kMoveRateMax) +
                                        " bytes a second, or 0 for none; to stop the copying use `starling pause`"};
  }
  MoveSettings said = settings_;
  said.rate = rate;
  said.rate_said = now_after(settings_.rate_said);
  take(said);
  auto telling = tell_members();
  co_return co_await telling;
}

Task<MoveControls::Told> MoveControls::tell_members() {
  co_await view_.durable();
  Told out;
  out.taken.push_back(view_.self);
  std::vector<std::pair<NodeId, overlay::Future<Result<Bytes>>>> calls;
  for (const auto& member : view_.ring().members()) {
    if (member.id == view_.self || member.gone()) continue;
    // Who seems dead as well: it may be back already, with a link that is up.
    calls.emplace_back(member.id, overlay::call(view_.loop, view_.rpc, member.id, Method::kMoveSettings,
                                                pack(settings_), kControlsDeadline));
  }
  for (auto& [node, call] : calls) {
    const auto answer = co_await call;
    (answer ? out.taken : out.away).push_back(node);
  }
  co_return out;
}

Task<Status> MoveControls::exchange(NodeId peer) {
  auto asking = overlay::call(view_.loop, view_.rpc, peer, Method::kMoveSettings, pack(settings_), kControlsDeadline);
  CO_TRY_ASSIGN(const Bytes body, co_await asking);
  CO_TRY_ASSIGN(const auto theirs, unpack<MoveSettings>(body));
  co_return hear(theirs);
}

// Who waits asks now and then whether it still has to.
void MoveControls::look_around() {
  timer_ = view_.loop.after(kPausedLookEvery, [this] { look_around(); });
  if (!settings_.paused || !view_.in_ring()) return;
  std::vector<NodeId> alive;
  for (const auto& member : view_.ring().members()) {
    if (member.id != view_.self && !member.gone() && view_.alive(member.id)) alive.push_back(member.id);
  }
  if (!alive.empty()) scope_.spawn(exchange_in_background(alive[view_.random.below(alive.size())]));
}

Task<Done> MoveControls::exchange_in_background(NodeId peer) {
  auto exchanging = exchange(peer);
  (void)co_await exchanging;  // The next link, or who copies, asks again.
  co_return Done{};
}

// Of the two, the one with the smaller id asks.
void MoveControls::meet(const NodeId& peer) {
  if (!view_.in_ring() || peer < view_.self) return;
  const auto* member = view_.ring().member(peer);
  if (member != nullptr && !member->gone()) scope_.spawn(exchange_in_background(peer));
}

}  // namespace starling::node
