// The connect scenario of `starling bench`: logins by token, again and again, of all users in turn.
#include <algorithm>

#include "node/cli/load/bench.h"

namespace starling::node::cli {
namespace {

constexpr Duration kLoginsEvery = 5ms;  // Of a schedule.

}  // namespace

// Each of `in_flight` users logs in, leaves and hands on to the next one that is out.
Status Bench::connect() {
  TRY(make_users(std::max<std::size_t>(1, arguments_.number("users")), false));
  connecting_ = true;
  sending_ = true;
  start_ = loop_.clock_now();
  if (rate_ <= 0) {
    for (const auto& user : users_) out_.push_back(user.get());
    for (std::size_t at = 0; at < in_flight_; ++at) connect_next();
  }
  std::uint64_t begun = 0;
  overlay::Timer pace;
  const std::function<void()> begin = [&] {
    const double elapsed = std::chrono::duration<double>(loop_.clock_now() - start_).count();
    while (rate_ > 0 && begun < static_cast<std::uint64_t>(elapsed * rate_)) {
      User& user = *users_[begun % users_.size()];
      const auto phase = user.client->phase();
      if (phase == ClientPhase::kIdle || phase == ClientPhase::kStopped) {
        user.login_at = start_ + to_duration(static_cast<double>(begun) / rate_);
        user.client->start();
      } else {
        ++errors_["no user free: more --users"];
      }
      ++begun;
    }
    pace = loop_.after(kLoginsEvery, begin);
  };
  begin();
  tick();
  loop_.run();
  sending_ = false;
  end_measuring();
  extra_["logins"] = logins_;
  extra_["users_who_came"] = std::count_if(users_.begin(), users_.end(), [](const auto& user) { return user->came; });
  return ok_status();
}

void Bench::connected(User& user) {
  if (user.client->phase() == ClientPhase::kReady) user.client->stop();
  if (rate_ > 0) return;
  out_.push_back(&user);
  connect_next();
}

// Whoever has been out for longest: so all of them come, and not a few whose accounts are known by then.
void Bench::connect_next() {
  if (!sending_ || out_.empty()) return;
  User& user = *out_.front();
  out_.pop_front();
  user.login_at = loop_.clock_now();
  user.client->start();
}

}  // namespace starling::node::cli
