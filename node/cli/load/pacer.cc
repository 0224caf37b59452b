#include "node/cli/load/pacer.h"

#include <sys/timerfd.h>
#include <unistd.h>

#include <cassert>

namespace starling::node::cli {

namespace {

constexpr std::size_t kBurstMax =
    1'000;  // Sends in one turn when we are late; answers must come in too.

}  // namespace

struct Pacer::Handle {
  uv_poll_t poll{};
  int fd = -1;
  Pacer* pacer = nullptr;  // Null while it closes.
};

Pacer::Pacer(uv_loop_t* loop) : handle_(new Handle) {
  handle_->fd = ::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  handle_->pacer = this;
  handle_->poll.data = handle_;
  [[maybe_unused]] int status = uv_poll_init(loop, &handle_->poll, handle_->fd);
  assert(handle_->fd >= 0 && status == 0);
  status = uv_poll_start(&handle_->poll, UV_READABLE, [](uv_poll_t* poll, int, int) {
    auto* handle = static_cast<Handle*>(poll->data);
    std::uint64_t times = 0;
    if (::read(handle->fd, &times, sizeof times) == sizeof times) handle->pacer->fired();
  });
  assert(status == 0);
}

Pacer::~Pacer() {
  handle_->pacer = nullptr;
  uv_close(reinterpret_cast<uv_handle_t*>(&handle_->poll), [](uv_handle_t* poll) {
    auto* handle = static_cast<Handle*>(poll->data);
    ::close(handle->fd);
    delete handle;
  });
}

Instant Pacer::clock() { return Instant{Duration(static_cast<std::int64_t>(uv_hrtime()))}; }

Instant Pacer::due_at(std::uint64_t number) const {
  return start_ + std::chrono::duration_cast<Duration>(
                      std::chrono::duration<double>(static_cast<double>(number) / per_second_));
}

void Pacer::start(double per_second, Due due) {
  assert(per_second > 0);
  due_ = std::move(due);
  per_second_ = per_second;
  next_ = 0;
  start_ = clock();
  fired();
}

void Pacer::stop() {
  per_second_ = 0;
  arm();
}

void Pacer::fired() {
  for (std::size_t burst = 0; per_second_ > 0 && burst < kBurstMax; ++burst) {
    const Instant due = due_at(next_);
    const Instant now = clock();
    if (due > now) break;
    lateness_.record(static_cast<std::uint64_t>((now - due).count()) / 1000);
    due_(next_++, due);
  }
  arm();
}

void Pacer::arm() {
  itimerspec when{};  // Zero: never.
  if (per_second_ > 0) {
    const auto ns = due_at(next_).time_since_epoch().count();
    when.it_value = {static_cast<time_t>(ns / 1'000'000'000),
                     static_cast<long>(ns % 1'000'000'000)};
  }
  ::timerfd_settime(handle_->fd, TFD_TIMER_ABSTIME, &when, nullptr);
}

}  // namespace starling::node::cli
