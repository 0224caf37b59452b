#include "tests/sim/people/crowd.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <nlohmann/json.hpp>

namespace starling::sim {

using node::Client;
using node::ClientPhase;

namespace {

constexpr std::size_t kPhonesPerHost = 250;
constexpr std::size_t kFriends = 30;
constexpr std::size_t kAccountsAtOnce = 200;
constexpr std::size_t kQuestionsAtOnce = 4;    // Of one node.
constexpr std::size_t kComeAtOnce = 2000;
constexpr double kGroupExponent = 1.2;         // Pareto; sizes from kGroupMin, few are large.
constexpr std::size_t kGroupMin = 3;
constexpr std::size_t kGroupMax = 500;
constexpr std::size_t kBodyMax = 200;          // 100 bytes on average.
constexpr int kTries = 20;

std::string name_of(std::uint32_t person) { return "@p" + std::to_string(person); }
std::string group_name(std::size_t group) { return "#c" + std::to_string(group); }

}  // namespace

struct Crowd::Host {
  Host(World& world, SimNetwork& network, const std::string& ip)
      : loop(world, ip), transport(network.attach(loop, ip)) {}
  SimLoop loop;
  std::unique_ptr<overlay::Transport> transport;
};

class Crowd::Phone final : public node::ClientHandler {
 public:
  Phone(Crowd& crowd, Host& host, node::ClientOptions options, node::ClientState state)
      : crowd_(crowd), host_(host),
        client_(host.loop, *host.transport, crowd.random_, std::move(options), std::move(state), *this) {}

  void start() {
    host_.loop.enter([this] { client_.start(); });
  }
  void send(const std::string& to, Bytes body) {
    host_.loop.enter([&] {
      ++crowd_.counts_.written;
      const Status taken = client_.send(to, std::move(body), {}, [this](const Result<node::Sent>& sent) {
        ++(sent ? crowd_.counts_.acked : crowd_.counts_.refused);
      });
      if (!taken) ++crowd_.counts_.refused;
    });
  }
  [[nodiscard]] bool idle() const { return client_.phase() == ClientPhase::kReady && client_.open_sends() == 0; }
  [[nodiscard]] node::ClientState state() const { return client_.state(); }
  // Ends it in a turn of its loop.
  static void end(std::unique_ptr<Phone> phone) {
    SimLoop& loop = phone->host_.loop;
    loop.enter([&phone] { phone.reset(); });
  }

 private:
  void on_entry(const node::protocol::EntryMessage&, bool) override { ++crowd_.counts_.shown; }
  void on_phase(ClientPhase phase, const Error* why) override {
    if (phase == ClientPhase::kReady && !came_) {
      came_ = true;
      ++crowd_.counts_.came;
    }
    if (why != nullptr) ++crowd_.counts_.connections_lost;
  }

  Crowd& crowd_;
  Host& host_;
  Client client_;
  bool came_ = false;
};

Crowd::Crowd(World& world, SimCluster& cluster, CrowdOptions options)
    : world_(world), cluster_(cluster), options_(options), random_(options.seed), people_(options.people) {
  const auto phones = static_cast<std::size_t>(static_cast<double>(options.people) * options.online);
  for (std::size_t i = 0; i <= phones / kPhonesPerHost; ++i) {
    const std::string ip = std::string(SimNetwork::kDevices) + std::to_string(i / 250) + "." + std::to_string(i % 250 + 1);
    hosts_.push_back(std::make_unique<Host>(world_, cluster_.network(), ip));
  }
  double liked = 0;
  for (std::size_t k = 0; k < kFriends; ++k) {
    shifts_.push_back(static_cast<PersonIndex>(random_.below(people_.size())));
    liking_.push_back(liked += 1.0 / static_cast<double>(k + 1));
  }
  draw_groups();
}

Crowd::~Crowd() {
  *alive_ = false;
  for (auto& person : people_) {
    if (person.phone) Phone::end(std::move(person.phone));
  }
}

void Crowd::draw_groups() {
  const auto wanted = static_cast<std::size_t>(options_.memberships * static_cast<double>(people_.size()));
  while (memberships_ < wanted) {
    const double drawn = static_cast<double>(kGroupMin) * std::pow(1 - random_.unit(), -1 / kGroupExponent);
    const std::size_t size = std::min({static_cast<std::size_t>(drawn), kGroupMax, people_.size()});
    std::set<PersonIndex> members;
    while (members.size() < size) members.insert(static_cast<PersonIndex>(random_.below(people_.size())));
    for (const auto member : members) people_[member].groups.push_back(static_cast<std::uint32_t>(groups_.size()));
    groups_.emplace_back(members.begin(), members.end());
    memberships_ += size;
  }
}

// `count` questions to the operators' doors of all nodes; each again until nothing in its answer failed.
Status Crowd::ask_all(std::size_t count, const std::string& method, const std::function<Json(std::size_t)>& arguments,
                      const std::function<void(double)>& progress) {
  std::size_t next = 0, done = 0, tries = 0;
  Status failed = ok_status();
  const auto has_failed = [](const Result<Json>& answer) -> std::optional<Error> {
    if (!answer) return answer.error();
    if (!answer->contains("results")) return std::nullopt;
    for (const auto& item : answer->at("results")) {
      if (item.contains("error") && !item.at("error").is_null()) return Error{Errc::kUnavailable, item.dump()};
    }
    return std::nullopt;
  };
  std::function<void(std::size_t, std::size_t, int)> ask = [&](std::size_t node, std::size_t i, int left) {
    cluster_.ask(node, method, arguments(i), [&, node, i, left](const Result<Json>& answer) {
      const auto error = has_failed(answer);
      if (error && left > 0) {
        ++tries;
        world_.after(500ms, [&ask, node, i, left] { ask(node, i, left - 1); });
        return;
      }
      if (error) failed = *error;
      ++done;
      if (next < count) {
        world_.after(Duration(0), [&ask, node, i = next++] { ask(node, i, kTries); });
      }
    });
  };
  for (std::size_t k = 0; k < kQuestionsAtOnce; ++k) {
    for (std::size_t node = 0; node < cluster_.size() && next < count; ++node) ask(node, next++, kTries);
  }
  while (done < count) {
    world_.run_for(1s);
    progress(static_cast<double>(done) / static_cast<double>(count));
  }
  return failed;
}

Status Crowd::set_up(const std::function<void(double)>& progress) {
  const std::size_t batches = (people_.size() + kAccountsAtOnce - 1) / kAccountsAtOnce;
  TRY(ask_all(batches, "user.add", [this](std::size_t batch) {
    Json users = Json::array();
    for (std::size_t i = batch * kAccountsAtOnce; i < std::min(people_.size(), (batch + 1) * kAccountsAtOnce); ++i) {
      const std::string name = name_of(static_cast<PersonIndex>(i));
      users.push_back({{"name", name}, {"password", "secret of " + name}});
    }
    return Json{{"users", std::move(users)}};
  }, [&](double share) { progress(share / 3); }));
  TRY(ask_all(groups_.size(), "group.create", [this](std::size_t group) {
    Json members = Json::array();
    for (std::size_t i = 1; i < groups_[group].size(); ++i) members.push_back(name_of(groups_[group][i]));
    return Json{{"group", group_name(group)}, {"owner", name_of(groups_[group].front())}, {"members", std::move(members)},
                {"nonce", group + 1}};
  }, [&](double share) { progress((1 + share) / 3); }));
  const auto wanted = static_cast<std::size_t>(options_.online * static_cast<double>(people_.size()));
  while (online_.size() < wanted) {
    for (std::size_t i = 0; i < kComeAtOnce && online_.size() < wanted; ++i) {
      const auto person = static_cast<PersonIndex>(random_.below(people_.size()));
      if (!people_[person].phone) come(person);
    }
    if (!settle(120s)) return Error{Errc::kTimeout, "those who come do not come to be ready"};
    progress((2 + static_cast<double>(online_.size()) / static_cast<double>(wanted)) / 3);
  }
  return ok_status();
}

bool Crowd::settle(Duration limit) {
  const auto settled = [this] {
    return std::all_of(online_.begin(), online_.end(), [this](PersonIndex person) { return people_[person].phone->idle(); });
  };
  const Instant end = world_.now() + limit;
  while (!settled() && world_.now() < end) world_.run_for(500ms);
  return settled();
}

void Crowd::come(PersonIndex index) {
  Person& person = people_[index];
  node::ClientOptions options;
  for (std::size_t i = 0; i < cluster_.size(); ++i) options.endpoints.push_back(cluster_.client_address(i));
  options.first_endpoint = random_.below(cluster_.size());
  options.password = "secret of " + name_of(index);
  node::ClientState state;
  if (person.kept) {
    state = std::move(*person.kept);
    person.kept.reset();
  } else {
    state.user = name_of(index);
    state.device = "phone";
  }
  person.phone = std::make_unique<Phone>(*this, *hosts_[index % hosts_.size()], std::move(options), std::move(state));
  online_.push_back(index);
  person.phone->start();
}

void Crowd::go(std::size_t place) {
  Person& person = people_[online_[place]];
  person.kept = std::make_unique<node::ClientState>(person.phone->state());
  Phone::end(std::move(person.phone));
  online_[place] = online_.back();
  online_.pop_back();
}

Duration Crowd::poisson(double per_second) {
  const double seconds = -std::log(1 - random_.unit()) / per_second;
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

void Crowd::come_and_go(bool on) {
  if (on && !std::exchange(changing_, true)) next_change();
  changing_ = on;
}

void Crowd::write(bool on) {
  if (on && !std::exchange(writing_, true)) next_message();
  writing_ = on;
}

// One goes, another comes.
void Crowd::next_change() {
  const double rate = static_cast<double>(online_.size()) / std::chrono::duration<double>(options_.session).count();
  world_.after(poisson(rate), [this, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired() || !changing_) return;
    next_change();
    const std::size_t place = random_.below(online_.size());
    if (!people_[online_[place]].phone->idle()) return;
    go(place);
    PersonIndex person = 0;
    do person = static_cast<PersonIndex>(random_.below(people_.size()));
    while (people_[person].phone);
    come(person);
  });
}

void Crowd::next_message() {
  constexpr double kDay = 24 * 3600;
  world_.after(poisson(static_cast<double>(people_.size()) * options_.a_day * options_.busy / kDay),
               [this, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired() || !writing_) return;
    next_message();
    write_one();
  });
}

std::string Crowd::friend_of(PersonIndex person) {
  const double drawn = random_.unit() * liking_.back();
  std::size_t k = static_cast<std::size_t>(std::upper_bound(liking_.begin(), liking_.end(), drawn) - liking_.begin());
  const auto count = static_cast<PersonIndex>(people_.size());
  const auto of = [&](std::size_t nth) { return (shifts_[nth % kFriends] + count - person) % count; };
  if (of(k) == person) ++k;
  return name_of(of(k));
}

void Crowd::write_one() {
  const PersonIndex index = online_[random_.below(online_.size())];
  const auto& in = people_[index].groups;
  const bool group = !in.empty() && random_.unit() < options_.to_groups;
  const std::string to = group ? group_name(in[random_.below(in.size())]) : friend_of(index);
  Bytes body(1 + random_.below(kBodyMax), '\0');
  for (auto& byte : body) byte = static_cast<char>('a' + random_.below(26));
  people_[index].phone->send(to, std::move(body));
}

}  // namespace starling::sim
