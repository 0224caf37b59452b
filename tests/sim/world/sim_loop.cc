#include "tests/sim/world/sim_loop.h"

#include <cassert>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "overlay/loop/deferred.h"

namespace starling::sim {
namespace {

// How long work() keeps the (simulated) thread pool busy.
constexpr Duration kWorkMin = 50us;
constexpr Duration kWorkMax = 2ms;

// The world runs in one thread, so one variable says whose turn it is.
thread_local const void* current_core = nullptr;

}  // namespace

struct SimLoop::Core {
  World& world;
  const std::string name;
  bool alive = true;
  bool paused = false;
  std::deque<std::function<void()>> held;      // Fell due while paused.
  overlay::DeferredQueue deferred;
  double offset_ms = 0;
  double drift_ppm = 0;
  Instant drift_since;
};

class SimLoop::TimerImpl final : public overlay::Timer::Impl {
 public:
  struct State {
    std::function<void()> fn;
    bool cancelled = false;
  };
  TimerImpl(World& world, World::EventId event, std::shared_ptr<State> state)
      : world_(world), event_(event), state_(std::move(state)) {}
  ~TimerImpl() override {
    state_->cancelled = true;
    world_.cancel(event_);
  }

 private:
  World& world_;
  World::EventId event_;
  std::shared_ptr<State> state_;
};

SimLoop::SimLoop(World& world, std::string name)
    : core_(std::make_shared<Core>(world, std::move(name))) {
  core_->drift_since = world.now();
}

SimLoop::~SimLoop() { kill(); }

Instant SimLoop::now() const { return core_->world.now(); }

std::int64_t SimLoop::wall_ms() const {
  const auto drifted = static_cast<double>((now() - core_->drift_since).count()) / 1e6 *
                       core_->drift_ppm / 1e6;
  return core_->world.wall_ms() + static_cast<std::int64_t>(std::floor(core_->offset_ms + drifted));
}

overlay::Timer SimLoop::after(Duration delay, std::function<void()> fn) {
  if (!core_->alive) return overlay::Timer();
  auto state = std::make_shared<TimerImpl::State>();
  state->fn = std::move(fn);
  const auto event = turn_at(now() + delay, [state] {
    if (state->cancelled) return;
    // The function may destroy its own timer, and with it whatever it has captured.
    auto run = std::move(state->fn);
    run();
  });
  return overlay::Timer(std::make_unique<TimerImpl>(core_->world, event, std::move(state)));
}

void SimLoop::defer(Stage stage, std::function<void()> fn) {
  if (!core_->alive) return;
  if (current_core != core_.get()) return post(std::move(fn));  // Outside of a turn: the next one.
  core_->deferred.push(stage, std::move(fn));
}

void SimLoop::post(std::function<void()> fn) { turn_at(now(), std::move(fn)); }

void SimLoop::work(std::function<void()> job, std::function<void()> done) {
  if (!core_->alive) return;
  const Duration busy = core_->world.between(kWorkMin, kWorkMax);
  turn_at(now() + busy, [job = std::move(job), done = std::move(done)] {
    job();
    done();
  });
}

void SimLoop::assert_current() const {
  if (current_core == nullptr || current_core == core_.get()) return;
  std::fprintf(stderr, "an object of loop %s was called from another loop\n", core_->name.c_str());
  std::abort();
}

World::EventId SimLoop::turn_at(Instant when, std::function<void()> fn) {
  if (!core_->alive) return {};
  return core_->world.at(when, [core = core_, fn = std::move(fn)]() mutable {
    turn(core, std::move(fn));
  });
}

void SimLoop::turn(const std::shared_ptr<Core>& core, std::function<void()> fn) {
  if (!core->alive) return;
  if (core->paused) {
    core->held.push_back(std::move(fn));
    return;
  }
  assert(current_core == nullptr);
  current_core = core.get();
  fn();
  fn = nullptr;  // What it captured goes while the turn still counts as this loop's.
  // What a deferred function defers still belongs to this turn.
  while (core->alive && core->deferred.pop(fn)) {
    fn();
    fn = nullptr;
  }
  current_core = nullptr;
}

void SimLoop::enter(std::function<void()> fn) { turn(core_, std::move(fn)); }

void SimLoop::kill() {
  core_->alive = false;
  // Destroying a function may destroy objects that give something to this loop: it refuses.
  auto held = std::move(core_->held);
  auto deferred = std::exchange(core_->deferred, {});
  core_->held.clear();
}

void SimLoop::pause() { core_->paused = true; }

void SimLoop::resume() {
  core_->paused = false;
  auto held = std::move(core_->held);
  core_->held.clear();
  for (auto& fn : held) post(std::move(fn));
}

bool SimLoop::alive() const { return core_->alive; }
bool SimLoop::paused() const { return core_->paused; }

void SimLoop::step_clock(std::chrono::milliseconds by) {
  core_->offset_ms += static_cast<double>(by.count());
}

void SimLoop::set_drift(double drift_ppm) {
  core_->offset_ms += static_cast<double>((now() - core_->drift_since).count()) / 1e6 *
                      core_->drift_ppm / 1e6;
  core_->drift_since = now();
  core_->drift_ppm = drift_ppm;
}

const std::string& SimLoop::name() const { return core_->name; }
World& SimLoop::world() const { return core_->world; }

}  // namespace starling::sim
