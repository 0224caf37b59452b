// What `starling where ADDRESS MESSAGE` answers, in short.
// Pure.
#pragma once

#include <map>
#include <string>

#include <nlohmann/json.hpp>

namespace starling::sim {

// Of the owners' copies: state -> how many.
inline std::map<std::string, int> states(const nlohmann::json& where) {
  std::map<std::string, int> out;
  for (const auto& owner : where.at("owners")) {
    if (owner.at("answered") == false) {
      ++out["no answer"];
    } else {
      for (const auto& copy : owner.at("copies")) ++out[copy.at("state")];
    }
  }
  return out;
}

}  // namespace starling::sim
