// What each scenario of `starling bench` does.
#include <algorithm>

#include <sys/resource.h>

#include "node/cli/load/bench.h"
#include "node/cli/terminal/table.h"

namespace starling::node::cli {
namespace {

constexpr Duration kTick = 5ms;
constexpr Duration kDrainTick = 5ms;
constexpr Duration kLookEvery = 250ms;
constexpr auto kGrade = protocol::Grade::kQuorum;
constexpr double kLagProbes = 200;  // A second, where no schedule of sends shows our own lag.

std::uint64_t us_between(Instant then, Instant now) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(0, (now - then).count()) / 1000);
}

// Each device is a connection; those that find no file to be one would try for ever.
Status may_open(std::size_t devices) {
  constexpr std::size_t kOwnFiles = 64;
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || devices + kOwnFiles <= limit.rlim_max) return ok_status();
  return Error{Errc::kInvalid, thousands(devices) + " devices need as many open files, and this process may have " +
                                   thousands(limit.rlim_max) + ": raise that (ulimit -n), or take fewer --users"};
}

}  // namespace

void Bench::User::on_phase(ClientPhase phase, const Error* why) {
  if (phase == ClientPhase::kFailed) ++bench->errors_["login " + std::string(name(why->code))];
  if (phase != ClientPhase::kReady || !bench->connecting_) return;
  ++bench->logins_;
  came = true;
  if (bench->measuring_) bench->login_.record(us_between(login_at, bench->loop_.clock_now()));
  bench->burn();
  // The client is in the middle of its own callback: the next login is a turn of its own.
  bench->loop_.defer([this] { bench->connected(*this); });
}

std::string Bench::user_name(std::size_t number) const {
  return "@bench-" + tag_ + "-" + std::to_string(number);
}

Status Bench::create_users(std::size_t count) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < count; ++i) names.push_back(user_name(i));
  return swarm_.add_users(names, [this](std::size_t done, std::size_t all) {
    progress_.show(static_cast<double>(done) / static_cast<double>(all),
                   "creating users: " + thousands(done) + " of " + thousands(all), loop_.clock_now());
  });
}

Status Bench::add_device(const std::string& name, bool follow) {
  const std::size_t number = users_.size();
  TRY_ASSIGN(auto state, swarm_.new_device(name, "bench"));
  auto user = std::make_unique<User>();
  user->bench = this;
  user->number = record_ ? recording_.recorder().device(name, state.device, follow)
                         : static_cast<std::uint32_t>(number);
  user->address = name;
  auto options = swarm_.client_options(number);
  options.follow = follow;
  user->client = std::make_unique<Client>(loop_, transport_, random_, std::move(options), std::move(state), *user);
  users_.push_back(std::move(user));
  return ok_status();
}

Status Bench::make_users(std::size_t count, bool follow) {
  TRY(may_open(count));
  TRY(create_users(count));
  for (std::size_t i = 0; i < count; ++i) {
    TRY(add_device(user_name(i), follow));
    progress_.show(static_cast<double>(i + 1) / static_cast<double>(count),
                   "minting tokens: " + thousands(i + 1) + " of " + thousands(count), loop_.clock_now());
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

void Bench::send_from(std::size_t sender, const std::string& to, Instant due) {
  User& user = *senders_[sender];
  const bool counted = measuring_;
  const auto post = static_cast<std::uint32_t>(user.posts.size());
  Bytes body = stamped_body({due, user.number, post}, payload_);
  const Bytes recorded = record_ ? body : Bytes();
  user.posts.push_back({due, fan_out_});
  const auto number = std::make_shared<std::uint64_t>(0);
  const auto accepted = user.client->send(
      to, std::move(body), {kGrade, storage::EntryType::kBinary, lifetime_s_},
      [this, &user, post, counted, number, to = record_ ? to : std::string()](const Result<Sent>& result) {
        if (record_) recording_.recorder().answered(user.number, to, *number, result, kGrade, loop_.clock_now());
        answered(user, post, counted, result.ok());
      });
  if (!accepted) {
    ++errors_["not sent: " + std::string(name(accepted.code()))];
    user.posts.pop_back();
    return;
  }
  ++user.open;
  ++posted_;
  if (record_) *number = recording_.recorder().sent(user.number, to, recorded, loop_.clock_now());
}

void Bench::answered(User& sender, std::uint32_t number, bool counted, bool good) {
  burn();
  Post& post = sender.posts[number];
  if (series_) series_->answered(post.due, loop_.clock_now(), good);
  tally_.answered(post, good);
  if (good) {  // Else the error has been counted.
    if (measuring_) ++acked_;
    if (counted) ack_.record(us_between(post.due, loop_.clock_now()));
  }
  settle(sender, post);
}

void Bench::settle(User& sender, const Post& post) {
  if (!post.answered || (post.left > 0 && !by_ack_)) return;
  --sender.open;
  if (!sending_ || rate_ > 0) return;
  // In pairs and groups a sender's place is its number.
  by_ack_ ? refill_store() : refill(sender.number);
}

void Bench::refill(std::size_t sender) {
  while (sending_ && senders_[sender]->open < in_flight_) {
    const std::size_t before = senders_[sender]->open;
    send_from(sender, targets_[sender], loop_.clock_now());
    if (senders_[sender]->open == before) return;
  }
}

void Bench::drive(const std::vector<User*>& senders, std::vector<std::string> targets) {
  senders_ = senders;
  targets_ = std::move(targets);
  sending_ = true;
  start_ = loop_.clock_now();
  if (rate_ > 0 && !senders_.empty()) {
    paced_ = rate_;
    pacer_.start(rate_, [this](std::uint64_t number, Instant due) {
      const std::size_t sender = number % senders_.size();
      send_from(sender, targets_[sender], due);
    });
  } else {
    pacer_.start(kLagProbes, [](std::uint64_t, Instant) {});
    for (std::size_t i = 0; i < senders_.size(); ++i) refill(i);
  }
  tick();
  loop_.run();
  sending_ = false;
  pacer_.stop();
  end_measuring();
  drain([this] {
    return std::all_of(senders_.begin(), senders_.end(), [](User* u) { return u->open == 0; });
  });
}

void Bench::follow_burst(Duration measured) {
  if (burst_.factor <= 0) return;
  const bool in = measured >= burst_.from && measured < burst_.until;
  const double rate = in ? rate_ * burst_.factor : rate_;
  if (std::exchange(paced_, rate) != rate) pacer_.set_rate(rate);
}

void Bench::look_at_nodes() {
  const Instant now = loop_.clock_now();
  if (!series_ || now - looked_at_ < kLookEvery) return;
  looked_at_ = now;
  std::uint64_t rss = 0, written = 0;
  for (const auto& door : swarm_.doors()) {
    const auto use = use_of(door.pid).value_or(ProcessUse{});
    rss += use.rss;
    written += use.written;
  }
  series_->nodes(now, rss, written);
}

void Bench::tick() {
  const double at = std::chrono::duration<double>(loop_.clock_now() - start_).count();
  const double warm_up = seconds("warm-up");
  if (!measuring_ && at >= warm_up) begin_measuring();
  if (at >= warm_up + seconds("duration")) return loop_.stop();
  if (measuring_) follow_burst(loop_.clock_now() - measure_from_);
  look_at_nodes();
  show();
  timer_ = loop_.after(kTick, [this] { tick(); });
}

void Bench::burn() const {
  const auto until = loop_.clock_now() + std::chrono::microseconds(arguments_.number("client-burn"));
  while (loop_.clock_now() < until) {
  }
}

// Waits for `done`, as long as things go on, and then for as long as our patience.
void Bench::drain(const std::function<bool()>& done) {
  if (interrupted_) return;
  drained_ = done;
  std::uint64_t seen = 0;
  const std::function<void()> look = [this, &look, &seen] {
    show();
    look_at_nodes();
    const std::uint64_t progress = tally_.acked() + tally_.refused() + tally_.delivered() + 1;
    if (std::exchange(seen, progress) != progress) {
      drain_until_ = loop_.clock_now() + to_duration(seconds("patience"));
    }
    if (drained_() || loop_.clock_now() >= drain_until_) return loop_.stop();
    timer_ = loop_.after(kDrainTick, look);
  };
  look();
  loop_.run();
  timer_.cancel();
}

void Bench::on_entry(User& user, const protocol::EntryMessage& entry, bool live) {
  if (record_) recording_.recorder().shown(user.number, entry, loop_.clock_now());
  // Our own copy, or what an earlier run left behind.
  if (scenario_ != "group" && entry.to != user.address) return;
  const auto stamp = read_stamp(entry.body.data);
  if (!stamp) {
    ++altered_;
    return;
  }
  if (stamp->sender >= users_.size()) return;
  User& sender = *users_[stamp->sender];
  if (entry.device != sender.client->device() || stamp->number >= sender.posts.size()) return;
  Post& post = sender.posts[stamp->number];
  burn();
  const auto arrival = tally_.arrived(post);
  if (arrival == Tally::Arrival::kAgain) {
    ++errors_["delivered once more"];
    return;
  }
  --user.owed;
  if (arrival == Tally::Arrival::kRefused) return;
  if (measuring_) ++delivered_;
  if (stamp->due >= measure_from_ && measure_from_ != Instant{} && (live || !live_only_)) {
    end_to_end_.record(us_between(stamp->due, loop_.clock_now()));
  }
  if (!by_ack_) settle(sender, post);
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

// Writers keep in_flight_ each under way, over all the users who are away; then all of these come back.
Status Bench::offline() {
  const std::size_t away = std::max<std::size_t>(1, arguments_.number("users"));
  const std::size_t writers = std::max<std::size_t>(1, arguments_.number("writers"));
  TRY(make_users(away + writers, true));
  std::vector<User*> back, writing;
  for (const auto& user : users_) {
    auto& list = back.size() < away ? back : writing;
    list.push_back(user.get());
    if (targets_.size() < away) targets_.push_back(user->address);
  }
  TRY(log_in(writing));
  to_store_ = away * std::max<std::size_t>(1, arguments_.number("messages"));
  senders_ = writing;
  by_ack_ = sending_ = true;
  start_ = loop_.clock_now();
  begin_measuring();
  pacer_.start(kLagProbes, [](std::uint64_t, Instant) {});
  refill_store();
  drain([this] { return tally_.acked() + tally_.refused() == to_store_; });
  end_measuring();
  extra_["storing"] = meter_.report();  // Judged by itself: what follows is measured anew.
  extra_["stored"] = tally_.acked();
  extra_["stored_per_s"] = static_cast<double>(tally_.acked()) / std::max(meter_.seconds(), 1e-9);
  sending_ = false;
  acked_ = 0;
  begin_measuring();
  const Instant from = loop_.clock_now();
  TRY(log_in(back));
  drain([this] { return tally_.missing() == 0; });
  end_measuring();
  pacer_.stop();
  const double drain_s = std::chrono::duration<double>(loop_.clock_now() - from).count();
  extra_["drain_s"] = drain_s;
  extra_["drained_per_s"] = static_cast<double>(tally_.delivered()) / drain_s;
  return ok_status();
}

void Bench::refill_store() {
  for (std::size_t i = 0; i < senders_.size(); ++i) {
    while (posted_ < to_store_ && senders_[i]->open < in_flight_) {
      const auto before = posted_;
      send_from(i, targets_[posted_ % targets_.size()], loop_.clock_now());
      if (posted_ == before) return;
    }
  }
  if (posted_ == to_store_ && tally_.acked() + tally_.refused() == to_store_) loop_.stop();
}

}  // namespace starling::node::cli
