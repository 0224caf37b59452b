// Names, as an operator asks for them.
//
// Thread: one.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "tests/sim/world/cluster.h"

namespace starling::sim {

// What node `at` says of one user to be created; empty when it does not answer.
inline Json create_name(SimCluster& cluster, std::size_t at, const Json& user) {
  const auto answer = cluster.admin(at, "user.add", {{"users", Json::array({user})}});
  return answer ? answer->at("results").at(0) : Json::object();
}

// Of so many names, which lie in many partitions, those that could be created.
inline std::size_t create_names(SimCluster& cluster, std::size_t at, const std::string& prefix, int count) {
  std::size_t created = 0;
  for (int i = 0; i < count; ++i) {
    const Json user{{"name", "@" + prefix + std::to_string(i)}, {"password", "secret"}};
    created += create_name(cluster, at, user).value("created", false) ? 1 : 0;
  }
  return created;
}

}  // namespace starling::sim
