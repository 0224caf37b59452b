// Two sites, 40 ms apart: what sites_test.cc and sites_loss_test.cc share.
//
// The home of #g is the site of a and b; c, in the other, keeps the away copy. alice is connected at
// home, bob in the other site.
// Thread: one.
#pragma once

#include "tests/sim/moves/moves.h"

namespace starling::sim {

inline ClusterOptions two_sites(std::size_t nodes, overlay::SitePolicy policy, std::uint32_t partitions) {
  ClusterOptions out;
  out.nodes = nodes;
  out.partitions = partitions;
  out.zones = {"east", "west"};
  out.sites = std::move(policy);
  out.network.between_sites = 40ms;
  return out;
}

class TwoSites : public Moves {
 protected:
  explicit TwoSites(std::size_t nodes = 6, overlay::SitePolicy policy = {2, 1, ""}, std::uint32_t partitions = 16)
      : Moves(two_sites(nodes, std::move(policy), partitions)) {}

  [[nodiscard]] std::string home() const { return cluster.zone(a); }
  [[nodiscard]] std::string other() const { return cluster.zone(c); }
  std::vector<std::size_t> nodes_in(const std::string& zone) {
    std::vector<std::size_t> out;
    for (std::size_t i = 0; i < cluster.size(); ++i) {
      if (cluster.zone(i) == zone && !cluster.retired(i)) out.push_back(i);
    }
    return out;
  }
  // The sites do not hear each other, nor do devices of one reach the other; each takes the other for dead.
  void cut_apart(const std::vector<SimDevice*>& at_home, const std::vector<SimDevice*>& elsewhere) {
    cluster.cut_zone(home());
    const auto near = nodes_in(home()), far = nodes_in(other());
    for (const auto* devices : {&at_home, &elsewhere}) {
      for (const auto* device : *devices) {
        for (const auto i : devices == &at_home ? far : near) {
          cluster.network().cut(device->identity().ip, cluster.ip(i));
          cluster.network().cut(cluster.ip(i), device->identity().ip);
        }
      }
    }
    for (const auto i : near) believes_dead(c, i);
    for (const auto i : far) believes_dead(a, i);
    world.run_for(SimNetwork::kStreamTimeout + 1s);  // What hangs in a stream would arrive after the heal.
  }
  // From the send to its acknowledgement.
  Duration time_of(SimDevice& device, node::SendOptions with = {}) {
    const Instant begin = world.now();
    const auto sent = device.send("#g", work.body(device), with);
    EXPECT_TRUE(acked(sent));
    return world.now() - begin;
  }
  // What node i has synced of #g's partition is what a has.
  bool has_all(std::size_t i) { return cluster.vectors(i)[partition] == cluster.vectors(a)[partition]; }
  void change_is_complete(std::size_t seen_by) {
    for (int turn = 0; turn < 600 && !open_change(seen_by).empty(); ++turn) world.run_for(200ms);
    ASSERT_EQ(open_change(seen_by), "") << waits_for(seen_by);
  }
  Json where(std::size_t asked) {
    const auto answer = cluster.admin(asked, "where", {{"address", "#g"}});
    return answer ? *answer : Json::object();
  }
};

}  // namespace starling::sim
