#include "tests/sim/judge/watch.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "tests/sim/world/node_parts.h"

namespace starling::sim {

using node::NodeParts;

void Watch::start() {
  look();
  world_.after(kWatchEvery, [this, alive = alive_] {
    if (*alive) start();
  });
}

void Watch::look() {
  for (std::size_t i = 0; i < cluster_.size(); ++i) {
    if (cluster_.up(i)) look_at(i);
  }
}

// Both answers come at once; a node that is paused, or not in a ring yet, gives none.
void Watch::look_at(std::size_t i) {
  const auto ask = [&](const char* method, void (Watch::*see)(std::size_t, const Json&)) {
    cluster_.ask(i, method, Json::object(), [this, i, see, alive = alive_](Result<Json> answer) {
      if (*alive && answer) (this->*see)(i, *answer);
    });
  };
  ask("queues", &Watch::see_queues);
  // What a run says of a version does not change.
  const auto* ring = NodeParts::ring(cluster_.node(i));
  const Told now{&cluster_.node(i), ring == nullptr ? 0 : ring->number().value};
  if (ring == nullptr || told_[i] != now) ask("ring", &Watch::see_ring);
  told_[i] = now;
}

void Watch::see_queues(std::size_t i, const Json& answer) {
  const std::string node = "n" + std::to_string(i);
  for (const auto& queue : answer.at("queues")) {
    const auto name = queue.at("name").get<std::string>();
    const auto size = queue.at("size").get<std::uint64_t>();
    const auto limit = queue.at("limit").get<std::uint64_t>();
    auto& highest = highest_[name];
    highest = std::max(highest, size);
    if (size > limit) {
      wrong(9, node + ": " + std::to_string(size) + " in queue '" + name + "', which takes " +
                   std::to_string(limit),
            node + " queue " + name);
    }
    if (!queue.at("transient").get<bool>()) continue;
    if (size > 0) world_.note(node, node + " queue " + name + " " + std::to_string(size));
    auto& lowest = lowest_.try_emplace({i, name}, size).first->second;
    lowest = std::min(lowest, size);
  }
}

void Watch::see_ring(std::size_t i, const Json& answer) {
  const auto number = answer.at("number").get<std::uint64_t>();
  const auto [known, fresh] = rings_.try_emplace(number, Version{answer.dump(), i});
  if (fresh) {
    world_.note("n" + std::to_string(i), "ring version " + std::to_string(number) + ", change '" +
                                             answer.at("change").get<std::string>() + "'");
  } else if (known->second.text != answer.dump()) {
    wrong(11, "ring version " + std::to_string(number) + " is one at n" +
                  std::to_string(known->second.seen_at) + " and another at n" + std::to_string(i),
          "ring version");
  }
}

void Watch::wrong(int invariant, const std::string& text, const std::string& needle) {
  world_.note("watch", needle + ": " + text);
  const bool known = std::any_of(violations_.begin(), violations_.end(),
                                 [&](const Violation& v) { return v.needle == needle; });
  if (!known) violations_.push_back({invariant, text, needle});
}

void Watch::expect_rest() {
  lowest_.clear();
  look();
  const auto busy = [this] {
    return std::any_of(lowest_.begin(), lowest_.end(), [](const auto& q) { return q.second > 0; });
  };
  for (const Instant end = world_.now() + kRestWithin; busy() && world_.now() < end; look()) {
    world_.run_for(100ms);
  }
  for (const auto& [queue, size] : lowest_) {
    if (size == 0) continue;
    const std::string node = "n" + std::to_string(queue.first);
    wrong(9, node + ": queue '" + queue.second + "' does not empty, " + std::to_string(size) +
                 " are left while the cluster is quiet",
          node + " queue " + queue.second);
  }
}

}  // namespace starling::sim
