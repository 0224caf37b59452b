// Who is on the other side: the login, and whether the account is still as it was then.
#include "node/session/session.h"

namespace starling::node {

using overlay::Task;

namespace {
constexpr int kEpochTries = 5;
constexpr Duration kEpochAgain = 200ms;
}  // namespace

void Session::log_in(std::uint64_t number, View body) {
  auto login = unpack<protocol::Login>(body);
  if (!login) return refuse_frame(number, login.error());
  if (logged_in() || logging_in_) {
    return refuse_and_close(number, {Errc::kInvalid, "logged in already"});
  }
  if (login->version_min > protocol::kVersionMax || login->version_max < protocol::kVersionMin) {
    return refuse_and_close(number,
                            {Errc::kUnsupported, "this node speaks protocol version " +
                                                     std::to_string(protocol::kVersionMax)});
  }
  if (login->device.empty() || login->device.size() > kTokenDeviceSizeMax) {
    return refuse_and_close(number, {Errc::kInvalid, "a device name has 1 to 64 bytes"});
  }
  if (!check_address(login->user).ok() || login->user.front() != '@') {
    return refuse_and_close(number, {Errc::kInvalid, "a user's name begins with @"});
  }
  logging_in_ = true;
  in_hand().scope.spawn(check_login(std::move(*login)));
}

Task<Done> Session::check_login(protocol::Login login) {
  Result<Accounts::Login> account = Error{Errc::kUnauthenticated, "a password or a token is needed"};
  if (!services_.view.in_ring()) {
    account = Error{Errc::kUnavailable, "this node is still joining the cluster"};
  } else if (!login.token.empty()) {
    const auto claims = services_.accounts.check(login.token);
    if (!claims) {
      account = claims.error();
    } else if (claims->user != login.user || claims->device != login.device) {
      account = Error{Errc::kUnauthenticated, "the token is of another user or device"};
    } else {
      account = Accounts::Login{login.token, claims->expires_ms, claims->epoch};
    }
  } else if (!login.password.empty()) {
    auto checking = services_.accounts.log_in(login.user, login.device, login.password, door_.address());
    account = co_await checking;
  }
  logging_in_ = false;
  if (closed_) co_return Done{};
  if (!account) {
    ++services_.view.counters.login_failures;
    refuse_and_close(login.request, account.error());
    co_return Done{};
  }
  logged_in(login, *account);
  co_return Done{};
}

void Session::logged_in(const protocol::Login& login, const Accounts::Login& account) {
  ++services_.view.counters.logins;
  ++services_.view.counters.sessions;
  door_.proven();
  user_ = login.user;
  device_name_ = login.device;
  mailbox_ = mailbox_of(user_);
  device_ = device_of(mailbox_, device_name_);
  epoch_ = account.epoch;
  protocol::LoggedIn message;
  message.request = login.request;
  message.version = protocol::kVersionMax;
  message.node = short_text(services_.view.self);
  message.lineage = services_.view.ring().lineage();
  message.device = device_;
  message.token = account.token;
  message.token_expires_wall_ms = account.expires_ms;
  message.heartbeat_s = kHeartbeatSeconds;
  message.wall_ms = services_.view.loop.wall_ms();
  answer(message);
  checked_ = services_.view.loop.now();
  const auto part = std::hash<DeviceId>{}(device_) % static_cast<std::uint64_t>(kCursorsEvery.count());
  cursors_told_ = checked_ - Duration(part);  // Not all in one minute.
  if (!login.token.empty()) in_hand().scope.spawn(check_epoch());
}

void Session::recheck_account() {
  let_go();
  const Instant now = services_.view.loop.now();
  if (!logged_in() || closed_ || now - checked_ < kRecheckEvery) return;
  checked_ = now;
  in_hand().scope.spawn(check_epoch());
  recheck_claims();
  tell_cursors();
}

// A token is believed at once and its epoch checked behind it, so that a login costs no look-up. Later
// changes arrive through the mailbox (apply_register).
Task<Done> Session::check_epoch() {
  overlay::Timer timer;
  for (int attempt = 0; attempt < kEpochTries && !closed_; ++attempt) {
    auto checking = services_.accounts.has_ended(user_, epoch_);
    const auto ended = co_await checking;
    if (ended && *ended) revoke();
    if (ended) break;
    co_await overlay::sleep(services_.view.loop, kEpochAgain, timer);  // Nobody can tell at the moment.
  }
  co_return Done{};
}

void Session::revoke() {
  if (closed_) return;
  refuse_and_close(0, {Errc::kUnauthenticated,
                       "the password was changed or the account disabled; log in again"});
}

}  // namespace starling::node
