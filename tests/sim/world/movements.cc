#include "tests/sim/world/movements.h"

#include <algorithm>

#include <nlohmann/json.hpp>

namespace starling::sim {
namespace {

constexpr Duration kLookEvery = 500ms;
constexpr std::int64_t kWeights[] = {50, 80, 100, 130, 200};

}  // namespace

void Movements::later(Duration delay, std::function<void()> fn) {
  world_.after(delay, [this, fn = std::move(fn), alive = alive_] {
    if (*alive) fn();
  });
}

void Movements::start(Duration length) {
  if (options_.count == 0) return;
  running_ = true;
  gap_ = length / static_cast<int>(options_.count);
  look();
  next();
}

void Movements::next() {
  const auto half = static_cast<std::uint64_t>(gap_.count() / 2) + 1;
  later(gap_ / 2 + Duration(static_cast<Duration::rep>(random_.below(2 * half))), [this] {
    if (!running_ || begun_ >= options_.count) return;
    move();
    next();
  });
}

// What the ring is, and who may go.
void Movements::look() {
  later(kLookEvery, [this] { look(); });
  for (std::size_t i = 0; i < cluster_.size(); ++i) {
    if (cluster_.departed(i) && !cluster_.retired(i)) {
      ++done_["switched off"];
      cluster_.retire(i);
    }
  }
  for (std::size_t i = 0; i < cluster_.size(); ++i) {
    if (!cluster_.up(i) || !cluster_.node(i).serving()) continue;
    cluster_.ask(i, "ring", Json::object(), [this, alive = alive_](Result<Json> ring) {
      if (!*alive || !ring) return;
      states_.clear();
      changing_ = !ring->at("change").get<std::string>().empty();
      for (const auto& member : ring->at("members")) {
        states_[member.at("short").get<std::string>()] = member.at("state").get<std::string>();
      }
    });
    return;
  }
}

std::size_t Movements::members() const {
  return static_cast<std::size_t>(std::count_if(states_.begin(), states_.end(), [](const auto& member) {
    return member.second == "serving" || member.second == "joining";
  }));
}

std::optional<std::size_t> Movements::any(bool up) {
  std::vector<std::size_t> from;
  for (std::size_t i = 0; i < cluster_.size(); ++i) {
    const auto state = states_.find(cluster_.id(i));
    const bool member = state != states_.end() && state->second == "serving";
    if (member && !cluster_.retired(i) && cluster_.up(i) == up) from.push_back(i);
  }
  if (from.empty()) return std::nullopt;
  return from[random_.below(from.size())];
}

void Movements::move() {
  ++begun_;
  if (changing_ && random_.below(4) == 0) return abort();
  switch (random_.below(8)) {
    case 0:
    case 1:
    case 2: return members() < options_.nodes_max ? join() : leave();
    case 3:
    case 4: return members() > options_.nodes_min ? leave() : join();
    case 5:
    case 6: return members() > options_.nodes_min ? remove() : weight();
    default: return weight();
  }
}

void Movements::ask_for(const std::string& kind, const std::string& method, const Json& arguments) {
  const auto at = any(true);
  if (!at) return;
  ++done_[kind];
  world_.note("movements", kind + " by " + cluster_.ip(*at) + ": " + arguments.dump());
  cluster_.ask(*at, method, arguments, [this, kind, alive = alive_](Result<Json> answer) {
    if (!*alive) return;
    if (answer) ++done_[kind + " agreed"];
    world_.note("movements", kind + (answer ? " agreed" : " refused: " + answer.error().text));
  });
}

void Movements::join() {
  const auto inviter = any(true);
  if (!inviter) return;
  cluster_.ask(*inviter, "invite", {{"expires_s", 86'400}}, [this, alive = alive_](Result<Json> invite) {
    if (!*alive || !invite) return;
    const auto token = invite->at("token").get<std::string>();
    later(Duration(0), [this, token] {
      ++done_["join"];
      const auto joining = cluster_.begin_join(token);
      world_.note("movements", joining ? "join of " + cluster_.ip(*joining) : joining.error().text);
    });
  });
}

void Movements::leave() {
  const auto node = any(true);
  if (node) ask_for("leave", "leave", {{"nodes", {cluster_.id(*node)}}});
}

// One that is down, or is made to be; asked for once the others know. It comes back, at the latest when the
// faults end, and finds that it is a holder.
void Movements::remove() {
  auto node = any(false);
  if (!node) {
    node = any(true);
    if (!node) return;
    cluster_.crash(*node, Crash::kPower);
  }
  for (const Duration after : {6s, 9s, 12s}) {
    later(after, [this, id = cluster_.id(*node)] {
      if (running_ && states_[id] == "serving") ask_for("remove", "remove", {{"nodes", {id}}});
    });
  }
  later(20s, [this, i = *node] {
    if (running_) (void)cluster_.restart(i);
  });
}

void Movements::weight() {
  const auto node = any(true);
  if (!node) return;
  const auto weight = kWeights[random_.below(std::size(kWeights))];
  ask_for("weight", "weight", {{"nodes", {cluster_.id(*node)}}, {"weight", weight}});
}

void Movements::abort() { ask_for("abort", "abort", Json::object()); }

bool Movements::settled() {
  if (options_.count == 0) return true;
  if (changing_) return false;
  for (std::size_t i = 0; i < cluster_.size(); ++i) {
    const auto state = states_.find(cluster_.id(i));
    if (!cluster_.retired(i) && (state == states_.end() || state->second != "serving")) return false;
  }
  return true;
}

}  // namespace starling::sim
