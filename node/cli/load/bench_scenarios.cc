// What each scenario of `starling bench` does.
#include <algorithm>

#include "node/cli/load/bench.h"
#include "node/cli/terminal/table.h"

namespace starling::node::cli {
namespace {

constexpr Duration kTick = 1ms;
constexpr Duration kDrainTick = 20ms;
constexpr auto kGrade = protocol::Grade::kQuorum;
constexpr std::uint64_t kBurstMax = 5'000;  // Sends in one tick, when we are late.

std::uint64_t us_between(Instant then, Instant now) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(0, (now - then).count()) / 1000);
}

Duration to_duration(double seconds) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

}  // namespace

void Bench::User::on_phase(ClientPhase phase, const Error* why) {
  if (phase == ClientPhase::kFailed) ++bench->errors_["login " + std::string(name(why->code))];
  if (phase != ClientPhase::kReady || !bench->connecting_) return;
  ++bench->logins_;
  if (bench->measuring_) bench->login_.record(us_between(login_at, bench->loop_.clock_now()));
  // The client is in the middle of its own callback: the next login is a turn of its own.
  bench->loop_.defer([this] { bench->connect_next(*this); });
}

Status Bench::make_users(std::size_t count, bool follow) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < count; ++i) names.push_back("@bench-" + std::to_string(i));
  TRY(swarm_.add_users(names, [this](std::size_t done, std::size_t all) {
    progress_.show(0, "creating users: " + thousands(done) + " of " + thousands(all), loop_.clock_now());
  }));
  for (std::size_t i = 0; i < count; ++i) {
    TRY_ASSIGN(auto state, swarm_.new_device(names[i], "bench-" + tag_));
    auto user = std::make_unique<User>();
    user->bench = this;
    user->number = record_ ? recording_.recorder().device(names[i], state.device, follow)
                           : static_cast<std::uint32_t>(i);
    user->address = names[i];
    auto options = swarm_.client_options(i);
    options.follow = follow;
    user->client = std::make_unique<Client>(loop_, transport_, random_, std::move(options),
                                            std::move(state), *user);
    users_.push_back(std::move(user));
    progress_.show(0, "minting tokens: " + thousands(i + 1) + " of " + thousands(count),
                   loop_.clock_now());
  }
  return ok_status();
}

Status Bench::log_in(std::vector<User*> users) {
  std::vector<Client*> clients;
  for (User* user : users) clients.push_back(user->client.get());
  Launcher launcher(loop_, std::move(clients));
  launcher.start(
      [this](std::size_t ready, std::size_t all) {
        progress_.show(0, "logging in: " + thousands(ready) + " of " + thousands(all), loop_.clock_now());
      },
      [this] { loop_.stop(); });
  loop_.run();
  if (interrupted_) return Error{Errc::kUnavailable, "interrupted while logging in"};
  for (const User* user : users) {
    if (user->client->phase() != ClientPhase::kReady) {
      return Error{Errc::kDenied, user->address + " could not log in"};
    }
  }
  return ok_status();
}

// Sending.

void Bench::send_from(std::size_t sender, Instant due) {
  User& user = *senders_[sender];
  const bool counted = measuring_;
  Bytes body = bench_body(due, user.number, payload_);
  const Bytes recorded = record_ ? body : Bytes();
  const auto number = std::make_shared<std::uint64_t>(0);
  const auto accepted = user.client->send(
      targets_[sender], std::move(body), {kGrade, storage::EntryType::kBinary},
      [this, sender, due, counted, number, to = targets_[sender]](const Result<Sent>& result) {
        if (record_) {
          recording_.recorder().answered(senders_[sender]->number, to, *number, result, kGrade,
                                         loop_.clock_now());
        }
        --senders_[sender]->open;
        if (result) {
          ++acked_all_;
          if (measuring_) ++acked_;
          if (counted) ack_.record(us_between(due, loop_.clock_now()));
        }
        if (sending_ && rate_ <= 0) refill(sender);
      });
  if (accepted) {
    ++user.open;
    if (record_) {
      *number = recording_.recorder().sent(user.number, targets_[sender], recorded, loop_.clock_now());
    }
  } else {
    ++errors_["not sent: " + std::string(name(accepted.code()))];
  }
}

void Bench::refill(std::size_t sender) {
  while (sending_ && senders_[sender]->open < in_flight_) {
    const std::size_t before = senders_[sender]->open;
    send_from(sender, loop_.clock_now());
    if (senders_[sender]->open == before) return;
  }
}

void Bench::drive(const std::vector<User*>& senders, std::vector<std::string> targets) {
  senders_ = senders;
  targets_ = std::move(targets);
  sending_ = true;
  start_ = loop_.clock_now();
  if (rate_ <= 0) {
    for (std::size_t i = 0; i < senders_.size(); ++i) refill(i);
  }
  tick();
  loop_.run();
  sending_ = false;
  end_measuring();
  drain([this] {
    return delivered_all_ >= acked_all_ * fan_out_ &&
           std::all_of(senders_.begin(), senders_.end(), [](User* u) { return u->open == 0; });
  });
}

void Bench::tick() {
  const Instant now = loop_.clock_now();
  const double at = std::chrono::duration<double>(now - start_).count();
  const double warm_up = seconds("warm-up");
  if (!measuring_ && at >= warm_up) begin_measuring();
  if (at >= warm_up + seconds("duration")) return loop_.stop();
  if (rate_ > 0 && !senders_.empty()) {
    const auto due = static_cast<std::uint64_t>(at * rate_);
    for (std::uint64_t burst = 0; due_ < due && burst < kBurstMax; ++burst, ++due_) {
      send_from(due_ % senders_.size(),
                start_ + to_duration(static_cast<double>(due_) / rate_));
    }
  }
  show();
  timer_ = loop_.after(kTick, [this] { tick(); });
}

// Waits for `done`, at most as long as our patience.
void Bench::drain(const std::function<bool()>& done) {
  if (interrupted_) return;
  drained_ = done;
  drain_until_ = loop_.clock_now() + to_duration(seconds("patience"));
  const std::function<void()> look = [this, &look] {
    show();
    if (drained_() || loop_.clock_now() >= drain_until_) return loop_.stop();
    timer_ = loop_.after(kDrainTick, look);
  };
  look();
  loop_.run();
  timer_.cancel();
}

void Bench::on_entry(User& user, const protocol::EntryMessage& entry, bool) {
  if (record_) recording_.recorder().shown(user.number, entry, loop_.clock_now());
  // Our own copy, or what an earlier run left behind.
  if (scenario_ != "group" && entry.to != user.address) return;
  const auto stamp = read_bench_body(entry.body.data);
  if (!stamp) {
    ++altered_;
    return;
  }
  if (stamp->due < start_ || stamp->sender >= users_.size() ||
      entry.device != users_[stamp->sender]->client->device()) {
    return;
  }
  ++delivered_all_;
  if (measuring_) ++delivered_;
  if (stamp->due >= measure_from_ && measure_from_ != Instant{}) {
    end_to_end_.record(us_between(stamp->due, loop_.clock_now()));
  }
}

// Scenarios.

Status Bench::pairs() {
  const std::size_t count = std::max<std::size_t>(2, arguments_.number("users") / 2 * 2);
  TRY(make_users(count, true));
  std::vector<User*> all;
  std::vector<std::string> targets;
  for (std::size_t i = 0; i < count; ++i) {
    all.push_back(users_[i].get());
    targets.push_back(users_[i ^ 1]->address);
  }
  TRY(log_in(all));
  drive(all, std::move(targets));
  return ok_status();
}

Status Bench::group() {
  const std::size_t count = std::max<std::size_t>(1, arguments_.number("users"));
  const std::size_t posters = std::clamp<std::size_t>(arguments_.number("posters"), 1, count);
  TRY(make_users(count, true));
  const std::string group = "#bench-" + tag_;
  std::vector<std::string> members;
  std::vector<User*> all;
  for (const auto& user : users_) {
    members.push_back(user->address);
    all.push_back(user.get());
  }
  TRY(swarm_.add_group(group, members));
  if (record_) recording_.recorder().group(group, members);
  TRY(log_in(all));
  fan_out_ = count;
  extra_["group"] = group;
  extra_["posters"] = posters;
  drive({all.begin(), all.begin() + static_cast<std::ptrdiff_t>(posters)},
        std::vector<std::string>(posters, group));
  return ok_status();
}

Status Bench::idle() {
  TRY(make_users(std::max<std::size_t>(1, arguments_.number("users")), true));
  std::uint64_t before = 0, after = 0;
  for (const auto& door : swarm_.doors()) before += use_of(door.pid).value_or(ProcessUse{}).rss;
  std::vector<User*> all;
  for (const auto& user : users_) all.push_back(user.get());
  TRY(log_in(all));
  drive({}, {});
  for (const auto& door : swarm_.doors()) after += use_of(door.pid).value_or(ProcessUse{}).rss;
  extra_["connections"] = users_.size();
  if (before > 0) {
    const auto grown = static_cast<double>(after) - static_cast<double>(before);
    extra_["node_bytes_per_connection"] = grown / static_cast<double>(users_.size());
  }
  return ok_status();
}

Status Bench::offline() {
  const std::size_t away = std::max<std::size_t>(1, arguments_.number("users"));
  const std::size_t each = std::max<std::size_t>(1, arguments_.number("messages"));
  TRY(make_users(away + 1, true));
  User* writer = users_.back().get();
  TRY(log_in({writer}));
  start_ = loop_.clock_now();
  senders_ = {writer};
  targets_ = {""};
  // Store: one writer, many lanes.
  std::uint64_t stored = 0;
  const std::uint64_t all = away * each;
  begin_measuring();
  drain([&] {
    // Each wait for room is a tick of the drain; its patience counts from the last of them.
    while (stored < all && writer->open < in_flight_ * 64) {
      targets_[0] = users_[stored % away]->address;
      const std::size_t before = writer->open;
      send_from(0, loop_.clock_now());
      if (writer->open == before) break;
      ++stored;
    }
    if (stored < all) drain_until_ = loop_.clock_now() + to_duration(seconds("patience"));
    return stored == all && writer->open == 0;
  });
  end_measuring();
  extra_["stored"] = acked_all_;
  extra_["stored_per_s"] = static_cast<double>(acked_all_) / std::max(measured_s_, 1e-9);
  // Come back, all at once.
  acked_ = 0;
  begin_measuring();
  const Instant from = loop_.clock_now();
  std::vector<User*> back;
  for (std::size_t i = 0; i < away; ++i) back.push_back(users_[i].get());
  TRY(log_in(back));
  drain([this] { return delivered_all_ >= acked_all_; });
  end_measuring();
  extra_["drain_s"] = std::chrono::duration<double>(loop_.clock_now() - from).count();
  return ok_status();
}

// Each of `in_flight` users logs in, leaves and hands on to the next one that is out.
Status Bench::connect() {
  TRY(make_users(std::max<std::size_t>(1, arguments_.number("users")), false));
  connecting_ = true;
  sending_ = true;
  start_ = loop_.clock_now();
  std::size_t at = 0;
  if (rate_ <= 0) {
    for (; at < std::min(in_flight_, users_.size()); ++at) connect_next(*users_[at]);
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
    pace = loop_.after(kTick, begin);
  };
  begin();
  tick();
  loop_.run();
  sending_ = false;
  end_measuring();
  return ok_status();
}

void Bench::connect_next(User& user) {
  if (user.client->phase() == ClientPhase::kReady) user.client->stop();
  if (rate_ > 0 || !sending_) return;
  user.login_at = loop_.clock_now();
  user.client->start();
}

}  // namespace starling::node::cli
