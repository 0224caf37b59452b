// Doubling the partitions of a live cluster, step by step: what doubling_test.cc and its like share.
//
// Thread: one.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "tests/sim/hazards/hazards.h"
#include "tests/sim/world/node_parts.h"

namespace starling::sim {

class Doubling : public Hazards {
 protected:
  explicit Doubling(std::size_t nodes = 3) : Hazards(nodes) {}
  explicit Doubling(ClusterOptions with) : Hazards(std::move(with)) {}

  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Hazards::SetUp());
    start(*alice, b);
    start(*bob, c);
    for (const char* to : {"#g", "@bob"}) ASSERT_TRUE(acked(send(*alice, to)));
    ASSERT_TRUE(acked(send(*bob, "@alice")));
  }
  [[nodiscard]] storage::Store& store(std::size_t i) { return node::NodeParts::store(cluster.node(i)); }
  // Of the ring version that node i is at, which are those of its store.
  std::uint32_t count(std::size_t i) {
    const auto* ring = node::NodeParts::ring(cluster.node(i));
    EXPECT_TRUE(ring != nullptr && ring->partitions() == cluster.partitions(i));
    return cluster.partitions(i);
  }
  // Node `at` proposes it; nobody waits.
  void propose(std::size_t at) {
    cluster.propose_doubled(at, [this](const Status& done) {
      agreed = done;
      world.note("doubling", done ? "agreed" : done.error().text);
    });
  }
  // Every node that is up has twice the partitions.
  void double_at(std::size_t at) {
    const auto before = count(at);
    propose(at);
    const auto all = [&] {
      for (std::size_t i = 0; i < cluster.size(); ++i) {
        if (cluster.up(i) && cluster.partitions(i) != 2 * before) return false;
      }
      return true;
    };
    ASSERT_TRUE(until(all, 30s)) << world.trace().text("", 60);
    for (std::size_t i = 0; i < cluster.size(); ++i) {
      if (cluster.up(i)) {
        EXPECT_EQ(count(i), 2 * before);
      }
    }
  }
  [[nodiscard]] bool all_settled() {
    for (std::size_t i = 0; i < cluster.size(); ++i) {
      if (cluster.up(i) && !cluster.settled(i)) return false;
    }
    return true;
  }
  // Until every row of every node lies in its place.
  void settle() {
    for (int turn = 0; turn < 600 && !all_settled(); ++turn, world.run_for(50ms)) {
      for (std::size_t i = 0; i < cluster.size(); ++i) {
        cluster.ask(i, "status", Json::object(), [this, i](const Result<Json>&) { (void)store(i).settle_split(16 << 10); });
      }
    }
    ASSERT_TRUE(all_settled());
  }

  Status agreed = ok_status();
};

}  // namespace starling::sim
