#include "node/repair/upkeep.h"

#include <algorithm>

#include "node/layout.h"

namespace starling::node {

using overlay::Task;
using storage::Store;

namespace {

constexpr Duration kExpiryEvery = 10s;
constexpr Duration kTendEvery = 12h;         // storage::kCompactionPeriodSeconds
constexpr Duration kScrubEvery = 24h;        // From the begin of a walk to that of the next.
constexpr Duration kScrubPause = 100ms;      // Between steps: 2.5 MiB/s, 200 GiB a day.
constexpr std::size_t kScrubBytes = 256 << 10;
constexpr int kStepsPerMark = 256;           // The place in a walk outlives a restart.
constexpr Duration kUpkeepRest = 1h;               // Looks at the calendar this often.

}  // namespace

Upkeep::Upkeep(ClusterView& view, Clock lowest_clock)
    : view_(view), lowest_clock_(std::move(lowest_clock)), scope_(view.loop) {
  expiry_timer_ = view_.loop.after(kExpiryEvery, [this] { move_expiry(); });
  scope_.spawn(run());
}

void Upkeep::move_expiry() {
  expiry_timer_ = view_.loop.after(kExpiryEvery, [this] { move_expiry(); });
  const auto lowest = lowest_clock_();
  if (!lowest || view_.read_only) return;
  if (!start_) start_ = Start{static_cast<std::uint64_t>(view_.loop.wall_ms()), view_.loop.now()};
  const auto elapsed = static_cast<std::uint64_t>(to_ms(view_.loop.now() - start_->at));
  view_.store.set_expiry_time(std::min(*lowest, start_->wall_ms + elapsed));
}

// A node that is started anew every day still scrubs: a walk that was under way goes on.
Task<Done> Upkeep::run() {
  overlay::Timer timer;
  Instant tended = view_.loop.now();
  for (;;) {
    co_await overlay::sleep(view_.loop, kUpkeepRest, timer);
    const auto cursor = view_.store.get(Store::Family::kNode, kScrubKey);
    const bool under_way = cursor && !cursor->empty();
    if (!scrubbing_ && (under_way || walk_is_due())) {
      scope_.spawn(scrub(cursor.value_or(Bytes()), kScrubPause));
    }
    if (view_.loop.now() - tended < kTendEvery) continue;
    tended = view_.loop.now();
    view_.store.tend();
  }
}

// By wall time, so that restarts do not put it off for ever.
bool Upkeep::walk_is_due() {
  const auto last = view_.store.get(Store::Family::kNode, kScrubbedKey);
  const std::int64_t now = view_.loop.wall_ms();
  const auto began = static_cast<std::int64_t>((last ? parse_row_number(*last) : std::nullopt).value_or(0));
  if (began <= now && now - began < to_ms(kScrubEvery)) return false;
  view_.store.put(Store::Family::kNode, kScrubbedKey, row_number(static_cast<std::uint64_t>(now)));
  return true;
}

bool Upkeep::scrub_step(Bytes& cursor) {
  auto step = view_.store.scrub(cursor, kScrubBytes);
  if (!step && step.code() == Errc::kOverloaded) return true;
  if (!step) {
    view_.log.warn("the scrub met an error", {{"cause", step.error()}});
    return false;
  }
  scrubbed_.share = step->share;
  scrubbed_.rows += step->rows;
  scrubbed_.bytes += step->bytes;
  scrubbed_.mended += step->mended;
  scrubbed_.damaged += step->damaged;
  cursor = std::move(step->cursor);
  return !cursor.empty();
}

bool Upkeep::scrub_now() {
  if (scrubbing_) return false;
  scope_.spawn(scrub({}, 0s));
  return true;
}

Task<Done> Upkeep::scrub(Bytes cursor, Duration pause) {
  scrubbing_ = true;
  scrubbed_ = {};
  overlay::Timer timer;
  for (int steps = 1; scrub_step(cursor); ++steps) {
    if (steps % kStepsPerMark == 0) view_.store.put(Store::Family::kNode, kScrubKey, cursor);
    co_await overlay::sleep(view_.loop, pause, timer);
  }
  view_.store.put(Store::Family::kNode, kScrubKey, {});
  scrubbing_ = false;
  co_return Done{};
}

}  // namespace starling::node
