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

void Pacer::start(double per_second, Due due) {
  assert(per_second > 0);
  due_ = std::move(due);
  schedule_.emplace(per_second, clock());
  fired();
}

void Pacer::set_rate(double per_second) {
  schedule_->set_rate(per_second, clock());
  arm();
}

void Pacer::stop() {
  schedule_.reset();
  arm();
}

void Pacer::fired() {
  for (std::size_t burst = 0; schedule_ && burst < kBurstMax; ++burst) {
    const std::uint64_t number = schedule_->number();
    const Instant due = schedule_->due();
    const Instant now = clock();
    if (due > now) break;
    lateness_.record(static_cast<std::uint64_t>((now - due).count()) / 1000);
    schedule_->said();
    due_(number, due);
  }
  arm();
}

void Pacer::arm() {
  itimerspec when{};  // Zero: never.
  if (schedule_) {
    const auto ns = schedule_->due().time_since_epoch().count();
    when.it_value = {static_cast<time_t>(ns / 1'000'000'000),
                     static_cast<long>(ns % 1'000'000'000)};
  }
  ::timerfd_settime(handle_->fd, TFD_TIMER_ABSTIME, &when, nullptr);
}

}  // namespace starling::node::cli
