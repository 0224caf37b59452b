#include "node/repair/settling.h"

namespace starling::node {

using overlay::Task;

namespace {

constexpr Duration kSettleRetryEvery = 10s;  // What the store refused.

}  // namespace

Settling::Settling(ClusterView& view) : view_(view), scope_(view.loop) { scope_.spawn(run()); }

Task<Done> Settling::run() {
  overlay::Timer timer;
  for (;;) {
    co_await overlay::sleep(view_.loop, kSettleLook, timer);
    if (view_.store.is_split_settled()) continue;
    auto settling = settle();
    co_await settling;
  }
}

Task<Done> Settling::settle() {
  overlay::Timer timer;
  const Instant began = view_.loop.now();
  std::uint64_t rows = 0, moved = 0;
  for (;;) {
    if (view_.read_only) {
      note("no disk space: nothing is written");
      co_await overlay::sleep(view_.loop, kSettleLook, timer);
      continue;
    }
    const auto step = view_.store.settle_split(kSettleBytes);
    if (!step && step.code() == Errc::kOverloaded) {
      co_await view_.durable();  // The disk sets the pace.
      continue;
    }
    note(step ? "" : step.error().text);
    if (!step) {
      co_await overlay::sleep(view_.loop, kSettleRetryEvery, timer);
      continue;
    }
    rows += step->rows;
    moved += step->moved;
    share_ = step->share;
    if (step->done) break;
    co_await overlay::sleep(view_.loop, rest(*step), timer);
  }
  view_.log.info("everything stored is where it belongs since the partitions were doubled",
                 {{"rows", rows}, {"moved", moved}, {"ms", to_ms(view_.loop.now() - began)}});
  share_ = 0;  // Of the next walk.
  co_return Done{};
}

Duration Settling::rest(const storage::SplitStep& step) const {
  const bool serves = view_.in_ring() && !view_.is_holder() && !view_.catching_up;
  return serves && !step.hints ? kSettleRest : Duration(0);
}

void Settling::note(std::string why) {
  if (why == waits_for_) return;
  waits_for_ = std::move(why);
  if (!waits_for_.empty()) {
    view_.log.warn("what was stored before the partitions were doubled is not moved to its place",
                   {{"cause", waits_for_}});
  }
}

}  // namespace starling::node
