#include "overlay/loop/uv_loop.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cassert>
#include <csignal>
#include <cstdlib>
#include <utility>

namespace starling::overlay {

class UvLoop::TimerImpl final : public Timer::Impl {
 public:
  TimerImpl(UvLoop& loop, TimerKey key) : loop_(loop), key_(key) {}
  // Extracted first: what the callback holds may own other timers.
  ~TimerImpl() override { auto node = loop_.timers_.extract(key_); }

 private:
  UvLoop& loop_;
  TimerKey key_;
};

struct UvLoop::Job {
  uv_work_t request;
  UvLoop* loop;
  std::function<void()> job;
  std::function<void()> done;
};

struct UvLoop::Signal {
  uv_signal_t handle;
  std::function<void()> fn;
};

namespace {

constexpr int kWorkNicer = 5;  // Than the loop.

// Jobs burn CPU: where the cores are full the loop comes first. Of this thread of the pool, once.
void give_way() {
  const auto thread = static_cast<id_t>(gettid());
  thread_local const int done = setpriority(PRIO_PROCESS, thread, getpriority(PRIO_PROCESS, thread) + kWorkNicer);
  (void)done;
}

template <class Handle>
UvLoop* loop_of(Handle* handle) {
  return static_cast<UvLoop*>(handle->data);
}

template <class Handle>
void close(Handle* handle) {
  uv_close(reinterpret_cast<uv_handle_t*>(handle), nullptr);
}

void must(int status) {
  assert(status == 0);
  (void)status;
}

}  // namespace

UvLoop::UvLoop() : owner_(std::this_thread::get_id()) {
  // A write to a closed socket is an error value, not the end of the process.
  std::signal(SIGPIPE, SIG_IGN);
  must(uv_loop_init(&uv_));
  must(uv_prepare_init(&uv_, &prepare_));
  must(uv_check_init(&uv_, &check_));
  must(uv_timer_init(&uv_, &timer_));
  must(uv_async_init(&uv_, &async_, [](uv_async_t* h) { loop_of(h)->run_posted(); }));
  prepare_.data = check_.data = timer_.data = async_.data = this;
  must(uv_prepare_start(&prepare_, [](uv_prepare_t* h) {
    loop_of(h)->run_deferred();
    loop_of(h)->arm();
  }));
  must(uv_check_start(&check_, [](uv_check_t* h) { loop_of(h)->run_deferred(); }));
}

UvLoop::~UvLoop() {
  assert_current();
  closing_ = true;
  std::exchange(deferred_, {});
  std::exchange(timers_, {}).clear();
  close(&prepare_);
  close(&check_);
  close(&timer_);
  close(&async_);
  for (auto& signal : signals_) close(&signal->handle);
  uv_run(&uv_, UV_RUN_DEFAULT);
  // Fails when a stream, listener or socket outlives its loop.
  must(uv_loop_close(&uv_));
}

void UvLoop::run() {
  owner_ = std::this_thread::get_id();
  now_known_ = false;
  uv_run(&uv_, UV_RUN_DEFAULT);
}

void UvLoop::stop() {
  post([this] { uv_stop(&uv_); });
}

Instant UvLoop::now() const {
  if (!now_known_) {
    now_ = clock_now();
    now_known_ = true;
  }
  return now_;
}

Instant UvLoop::clock_now() const {
  return Instant(Duration(static_cast<std::int64_t>(uv_hrtime())));
}

std::int64_t UvLoop::wall_ms() const {
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(since).count();
}

Timer UvLoop::after(Duration delay, std::function<void()> fn) {
  const Instant start = now();
  if (delay < Duration::zero()) delay = Duration::zero();
  const TimerKey key{delay > kNever - start ? kNever : start + delay, next_timer_++};
  timers_.emplace(key, std::move(fn));
  return Timer(std::make_unique<TimerImpl>(*this, key));
}

void UvLoop::defer(Stage stage, std::function<void()> fn) { deferred_.push(stage, std::move(fn)); }

void UvLoop::post(std::function<void()> fn) {
  bool wake = false;
  {
    std::lock_guard lock(mutex_);
    wake = posted_.empty();
    posted_.push_back(std::move(fn));
  }
  if (wake) uv_async_send(&async_);
}

void UvLoop::work(std::function<void()> job, std::function<void()> done) {
  auto* item = new Job{{}, this, std::move(job), std::move(done)};
  item->request.data = item;
  must(uv_queue_work(
      &uv_, &item->request,
      [](uv_work_t* w) {
        give_way();
        static_cast<Job*>(w->data)->job();
      },
      [](uv_work_t* w, int) {
        std::unique_ptr<Job> item(static_cast<Job*>(w->data));
        if (!item->loop->closing_ && item->done) item->done();
      }));
}

void UvLoop::assert_current() const {
  if (std::this_thread::get_id() != owner_) std::abort();
}

void UvLoop::on_signal(int signum, std::function<void()> fn) {
  auto signal = std::make_unique<Signal>();
  signal->fn = std::move(fn);
  must(uv_signal_init(&uv_, &signal->handle));
  signal->handle.data = signal.get();
  must(uv_signal_start(
      &signal->handle, [](uv_signal_t* h, int) { static_cast<Signal*>(h->data)->fn(); }, signum));
  signals_.push_back(std::move(signal));
}

// Those set while these run have a higher number, so they wait for the next turn.
void UvLoop::run_timers() {
  armed_ = kNever;
  const TimerKey end{now(), next_timer_};
  while (!timers_.empty() && timers_.begin()->first < end) {
    auto node = timers_.extract(timers_.begin());
    node.mapped()();
  }
}

void UvLoop::run_deferred() {
  for (std::function<void()> fn; deferred_.pop(fn);) fn();
  now_known_ = false;
}

void UvLoop::run_posted() {
  std::vector<std::function<void()>> batch;
  {
    std::lock_guard lock(mutex_);
    batch.swap(posted_);
  }
  for (auto& fn : batch) fn();
}

// libuv counts whole milliseconds: rounding up means that a timer is never early by our clock.
void UvLoop::arm() {
  const Instant next = timers_.empty() ? kNever : timers_.begin()->first.first;
  if (next == armed_) return;
  armed_ = next;
  if (next == kNever) {
    uv_timer_stop(&timer_);
    return;
  }
  uv_update_time(&uv_);
  const Duration left = next - now();
  now_known_ = false;
  const std::int64_t ms = left <= Duration::zero() ? 0 : (left.count() + 999'999) / 1'000'000;
  must(uv_timer_start(
      &timer_, [](uv_timer_t* h) { loop_of(h)->run_timers(); }, static_cast<std::uint64_t>(ms), 0));
}

}  // namespace starling::overlay
