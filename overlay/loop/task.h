// Task<T>: a service that takes several steps, written top to bottom with co_await.
//
// Invariants: (1) lazy: nothing runs until it is awaited or spawned; (2) destroying a Task cancels it
// where it waits, and what it holds is destroyed; (3) a Future resumes its waiter on the loop, at
// the end of the turn in which it was completed, never inside the completer.
// Rules for g++ 12: bind arguments to named variables before co_await (no temporaries with
// destructors inside a co_await expression's argument list beyond moves); no co_await inside `?:`.
// A coroutine takes its parameters by value: a reference parameter must outlive the task.
// Thread: one loop.
#pragma once

#include <cassert>
#include <coroutine>
#include <exception>
#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>

#include "overlay/loop/loop.h"

namespace starling::overlay {

template <class T>
class [[nodiscard]] Task {
 public:
  struct promise_type {
    std::optional<T> value;
    std::exception_ptr thrown;  // Only libraries throw; it goes on to whoever awaits.
    std::coroutine_handle<> waiter;

    Task get_return_object() {
      return Task(std::coroutine_handle<promise_type>::from_promise(*this));
    }
    std::suspend_always initial_suspend() noexcept { return {}; }
    struct Final {
      bool await_ready() noexcept { return false; }
      std::coroutine_handle<> await_suspend(std::coroutine_handle<promise_type> self) noexcept {
        auto waiter = self.promise().waiter;
        return waiter ? waiter : std::noop_coroutine();
      }
      void await_resume() noexcept {}
    };
    Final final_suspend() noexcept { return {}; }
    template <class U>
    void return_value(U&& v) {
      value.emplace(std::forward<U>(v));
    }
    void unhandled_exception() noexcept { thrown = std::current_exception(); }
  };

  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      if (handle_) handle_.destroy();
      handle_ = std::exchange(other.handle_, {});
    }
    return *this;
  }
  ~Task() {
    if (handle_) handle_.destroy();
  }

  bool await_ready() const noexcept { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> waiter) noexcept {
    handle_.promise().waiter = waiter;
    return handle_;
  }
  T await_resume() {
    if (handle_.promise().thrown) std::rethrow_exception(handle_.promise().thrown);
    assert(handle_.promise().value);
    return std::move(*handle_.promise().value);
  }

 private:
  explicit Task(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
  std::coroutine_handle<promise_type> handle_;
};

// One-shot: a Completer sets it, one coroutine awaits the Future. A Completer destroyed without a
// value leaves its waiter waiting: give it a deadline (see with_deadline in the callers) or an owner.
template <class T>
class Future;

template <class T>
class Completer {
 public:
  Completer() = default;
  // Both halves of one future.
  static std::pair<Completer, Future<T>> make(Loop& loop);
  // The first value wins; later ones are ignored.
  void set(T value);
  [[nodiscard]] bool valid() const { return state_ != nullptr; }

  struct State {
    Loop* loop;
    std::optional<T> value;
    std::coroutine_handle<> waiter;
  };

 private:
  friend class Future<T>;
  std::shared_ptr<State> state_;
};

template <class T>
class [[nodiscard]] Future {
 public:
  explicit Future(std::shared_ptr<typename Completer<T>::State> state) : state_(std::move(state)) {}
  Future(Future&&) noexcept = default;
  Future& operator=(Future&&) noexcept = default;
  ~Future() {
    if (state_) state_->waiter = {};
  }
  bool await_ready() const noexcept { return state_->value.has_value(); }
  void await_suspend(std::coroutine_handle<> waiter) noexcept { state_->waiter = waiter; }
  T await_resume() { return std::move(*state_->value); }

 private:
  std::shared_ptr<typename Completer<T>::State> state_;
};

template <class T>
std::pair<Completer<T>, Future<T>> Completer<T>::make(Loop& loop) {
  Completer completer;
  completer.state_ = std::make_shared<State>();
  completer.state_->loop = &loop;
  auto state = completer.state_;
  return {std::move(completer), Future<T>(std::move(state))};
}

template <class T>
void Completer<T>::set(T value) {
  if (!state_ || state_->value) return;
  state_->value.emplace(std::move(value));
  if (!state_->waiter) return;
  state_->loop->defer([state = state_] {
    if (auto waiter = std::exchange(state->waiter, {})) waiter.resume();
  });
}

// Waits `delay`.
inline Future<bool> sleep(Loop& loop, Duration delay, Timer& timer) {
  auto [completer, future] = Completer<bool>::make(loop);
  timer = loop.after(delay, [completer = std::move(completer)]() mutable { completer.set(true); });
  return std::move(future);
}

// Scope owns the tasks nobody awaits. Destroying it cancels them all, so a component that declares
// its Scope last is never outlived by its own work.
class Scope {
 public:
  explicit Scope(Loop& loop) : loop_(loop) {}
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;
  ~Scope() {
    *alive_ = false;
    auto running = std::move(running_);
    running_.clear();
    for (auto& [id, handle] : running) handle.destroy();
  }

  // Starts `task` now, inside the caller; its result is dropped.
  template <class T>
  void spawn(Task<T> task) {
    const std::uint64_t id = next_id_++;
    Detached detached = run(this, id, std::move(task));
    running_.emplace(id, detached.handle);
    detached.handle.resume();
  }
  [[nodiscard]] std::size_t running() const { return running_.size(); }

 private:
  struct Detached {
    struct promise_type {
      Detached get_return_object() {
        return {std::coroutine_handle<promise_type>::from_promise(*this)};
      }
      std::suspend_always initial_suspend() noexcept { return {}; }
      std::suspend_always final_suspend() noexcept { return {}; }
      void return_void() noexcept {}
      void unhandled_exception() noexcept { std::terminate(); }
    };
    std::coroutine_handle<promise_type> handle;
  };
  template <class T>
  static Detached run(Scope* scope, std::uint64_t id, Task<T> task) {
    (void)co_await task;
    scope->retire(id);
  }
  // The frame is still running: it is destroyed at the end of the turn.
  void retire(std::uint64_t id) {
    auto it = running_.find(id);
    if (it == running_.end()) return;
    loop_.defer([this, alive = alive_, id] {
      if (!*alive) return;
      auto it = running_.find(id);
      if (it == running_.end()) return;
      auto handle = it->second;
      running_.erase(it);
      handle.destroy();
    });
  }

  Loop& loop_;
  std::unordered_map<std::uint64_t, std::coroutine_handle<Detached::promise_type>> running_;
  std::uint64_t next_id_ = 1;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace starling::overlay
