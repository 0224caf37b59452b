#include "tests/sim/name_races.h"

#include <algorithm>

namespace starling::sim {

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
