// Changes of the ring by an operator, step by step: what moves_test.cc and ring_steps_test.cc share.
//
// Thread: one.
#pragma once

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tests/sim/hazards/hazards.h"

namespace starling::sim {

class Moves : public Hazards {
 protected:
  explicit Moves(std::size_t nodes = 4) : Hazards(nodes) {}
  explicit Moves(ClusterOptions with) : Hazards(std::move(with)) {}

  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Hazards::SetUp());
    start(*alice, b);
    start(*bob, c);
    say();
  }
  void say() {
    const auto said = send(*alice);
    EXPECT_TRUE(acked(said));
  }
  // Asks until it is agreed on: another change may be under way.
  [[nodiscard]] Status change(std::size_t at, const std::string& method, const std::vector<std::size_t>& nodes,
                              Json more = Json::object()) {
    more["nodes"] = Json::array();
    for (const auto i : nodes) more["nodes"].push_back(cluster.id(i));
    Status last = ok_status();
    for (int attempt = 0; attempt < 40; ++attempt) {
      const auto answer = cluster.admin(at, method, more);
      if (answer) return ok_status();
      last = answer.error();
      if (last.error().text.find("another change") == std::string::npos) break;
      world.run_for(1s);
    }
    return last;
  }
  std::string state_of(std::size_t i, std::size_t seen_by) {
    const auto ring = cluster.admin(seen_by, "ring", Json::object());
    if (!ring) return "?";
    for (const auto& member : ring->at("members")) {
      if (member.at("short") == cluster.id(i)) return member.at("state");
    }
    return "";
  }
  std::string open_change(std::size_t seen_by) {
    const auto ring = cluster.admin(seen_by, "ring", Json::object());
    return ring ? ring->at("change").get<std::string>() : "?";
  }
  bool comes_to(std::size_t i, const std::string& state, std::size_t seen_by, Duration limit = 120s) {
    for (const Instant end = world.now() + limit; world.now() < end; world.run_for(200ms)) {
      if (state_of(i, seen_by) == state) return true;
    }
    return false;
  }
  bool departs(std::size_t i, Duration limit = 120s) {
    return until([&] { return cluster.departed(i); }, limit);
  }
  void believes_dead(std::size_t seen_by, std::size_t i) {
    for (int turn = 0; turn < 300; ++turn, world.run_for(100ms)) {
      const auto status = cluster.admin(seen_by, "status", Json::object());
      if (!status) continue;
      for (const auto& member : status->at("members")) {
        if (member.at("short") == cluster.id(i) && member.at("state") == "dead") return;
      }
    }
    ADD_FAILURE() << "nobody misses node " << i;
  }
  void believes_alive(std::size_t seen_by, std::size_t i) {
    for (int turn = 0; turn < 300; ++turn, world.run_for(100ms)) {
      const auto status = cluster.admin(seen_by, "status", Json::object());
      if (!status) continue;
      for (const auto& member : status->at("members")) {
        if (member.at("short") == cluster.id(i) && member.at("state") == "alive") return;
      }
    }
    ADD_FAILURE() << "nobody hears node " << i;
  }
  // It is listed no more.
  void believes_gone(std::size_t seen_by, std::size_t i) {
    for (int turn = 0; turn < 300; ++turn, world.run_for(100ms)) {
      const auto status = cluster.admin(seen_by, "status", Json::object());
      if (!status) continue;
      const auto& members = status->at("members");
      const auto is_it = [&](const Json& member) { return member.at("short") == cluster.id(i); };
      if (std::none_of(members.begin(), members.end(), is_it)) return;
    }
    ADD_FAILURE() << "node " << i << " is still listed";
  }
  std::size_t other_than(const std::set<std::size_t>& not_these) {
    for (std::size_t i = 0; i < cluster.size(); ++i) {
      if (!not_these.contains(i) && cluster.up(i)) return i;
    }
    return 0;
  }
  [[nodiscard]] std::string waits_for(std::size_t at) {
    const auto movement = cluster.admin(at, "movement", Json::object());
    return movement ? movement->at("waits_for").get<std::string>() : movement.error().text;
  }
};

}  // namespace starling::sim
