#include "tests/sim/people/name_races.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "tests/sim/people/workload.h"

namespace starling::sim {
namespace {

constexpr std::size_t kTriedMax = 3;  // Names of a run.
constexpr Duration kLoginLimit = 20s;

}  // namespace

void NameRaces::start(Duration pause) {
  running_ = true;
  next(pause);
}

void NameRaces::next(Duration pause) {
  const auto span = static_cast<std::uint64_t>(pause.count());
  const Duration wait = pause / 2 + Duration(static_cast<Duration::rep>(random_.below(span + 1)));
  world_.after(wait, [this, pause, alive = alive_] {
    if (!*alive || !running_) return;
    const std::size_t one = random_.below(cluster_.size());
    race(one, (one + 1 + random_.below(cluster_.size() - 1)) % cluster_.size());
    next(pause);
  });
}

void NameRaces::race(std::size_t one, std::size_t other) {
  auto race = std::make_shared<NameRace>();
  race->name = "@race" + std::to_string(races_.size());
  race->claims = {{one, "first of " + race->name}, {other, "second of " + race->name}};
  races_.push_back(race);
  for (std::size_t which = 0; which < race->claims.size(); ++which) claim(race, which);
}

void NameRaces::claim(const std::shared_ptr<NameRace>& race, std::size_t which) {
  const auto& claim = race->claims[which];
  if (!cluster_.up(claim.node)) return;
  const std::string node = "n" + std::to_string(claim.node);
  world_.note(node, "asked for " + race->name);
  const Json account{{"name", race->name}, {"password", claim.password}};
  cluster_.ask(claim.node, "user.add", {{"users", Json::array({account})}},
               [this, race, which, node, alive = alive_](Result<Json> answer) {
                 if (!*alive) return;
                 world_.note(node, "said of " + race->name + ": " +
                                       (answer ? answer->dump() : answer.error().text));
                 if (!answer) return;
                 const auto& result = answer->at("results").at(0);
                 if (result.at("created") == true) {
                   race->claims[which].told = NameRace::Told::kYes;
                 } else if (result.at("error").at("code") == static_cast<int>(Errc::kExists)) {
                   race->claims[which].told = NameRace::Told::kTaken;
                 }
               });
}

bool NameRaces::logs_in(const NameRace& race, const NameRace::Claim& claim) {
  History history;
  std::vector<overlay::Endpoint> doors;
  for (std::size_t i = 0; i < cluster_.size(); ++i) {
    if (!cluster_.retired(i)) doors.push_back(cluster_.client_address(i));
  }
  SimDevice device(world_, cluster_.network(), history,
                   SimDevice::Identity{race.name, claim.password.substr(0, 5), claim.password,
                                       "10.3.0.1"},
                   [doors] { return doors; });
  device.start(claim.node);
  world_.run_until(
      [&] { return device.ready() || device.client().phase() == node::ClientPhase::kFailed; },
      kLoginLimit);
  return device.ready();
}

Violations NameRaces::try_passwords() {
  Violations out;
  std::size_t tried = 0;
  for (auto it = races_.rbegin(); it != races_.rend() && tried < kTriedMax; ++it) {
    const auto& race = **it;
    const bool owned = std::any_of(race.claims.begin(), race.claims.end(), [](const auto& claim) {
      return claim.told == NameRace::Told::kYes;
    });
    if (!owned) continue;
    ++tried;
    for (const auto& claim : race.claims) {
      const bool yes = claim.told == NameRace::Told::kYes;
      if (logs_in(race, claim) == yes) continue;
      out.push_back({10, "the " + claim.password + (yes ? " was told yes and cannot" : " can") +
                             " log in",
                     race.name});
    }
  }
  return out;
}

Violations check_names(const std::vector<std::shared_ptr<NameRace>>& races) {
  Violations out;
  for (const auto& race : races) {
    const auto told = [&race](NameRace::Told what) {
      return std::count_if(race->claims.begin(), race->claims.end(),
                           [what](const auto& claim) { return claim.told == what; });
    };
    const auto yes = told(NameRace::Told::kYes);
    if (yes > 1) {
      out.push_back({10, std::to_string(yes) + " people were told that " + race->name +
                             " is theirs, at n" + std::to_string(race->claims[0].node) +
                             " and n" + std::to_string(race->claims[1].node),
                     race->name});
    } else if (yes == 0 && told(NameRace::Told::kNothing) == 0) {
      out.push_back({10, "everybody was told that " + race->name + " is somebody else's",
                     race->name});
    }
  }
  return out;
}

}  // namespace starling::sim
