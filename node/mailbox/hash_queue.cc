#include "node/mailbox/hash_queue.h"

namespace starling::node {

using overlay::Completer;
using overlay::Task;

Result<HashQueue::Place> HashQueue::take_place(const std::string& from) {
  const std::size_t room = kHashesAtOnceMax + kHashesWaitingMax - (from.empty() ? 0 : kHashPlacesOfOperator);
  const auto held = state_->held.find(from);
  const bool many = !from.empty() && held != state_->held.end() && held->second >= kHashPlacesOfAddressMax;
  if (state_->places >= room || many) {
    return Error{Errc::kOverloaded, "too many logins by password at once; try again in a second"};
  }
  ++state_->places;
  ++state_->held[from];
  return Place(nullptr, [state = std::weak_ptr(state_), from](void*) {
    const auto left = state.lock();
    if (!left) return;
    --left->places;
    const auto it = left->held.find(from);
    if (--it->second == 0) left->held.erase(it);
  });
}

Task<bool> HashQueue::run(Place place, std::function<void()> job) {
  const auto wanted = std::make_shared<bool>(true);  // As long as this task is awaited.
  auto [done, future] = Completer<bool>::make(state_->loop);
  state_->waiting.push_back({std::move(place), wanted, std::move(job), std::move(done)});
  start(state_);
  const bool ran = co_await future;
  co_return ran;
}

void HashQueue::start(const std::shared_ptr<State>& state) {
  while (state->running < kHashesAtOnceMax && !state->waiting.empty()) {
    auto next = std::make_shared<Waiting>(std::move(state->waiting.front()));
    state->waiting.pop_front();
    if (next->wanted.expired()) continue;
    ++state->running;
    state->loop.work([next] { next->job(); },
                     [state, next] {
                       --state->running;
                       next->place.reset();
                       next->done.set(true);
                       start(state);
                     });
  }
}

}  // namespace starling::node
