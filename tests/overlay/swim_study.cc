#include "tests/overlay/swim_study.h"

#include <algorithm>
#include <set>

#include "tests/overlay/swim_net.h"

namespace starling::overlay {
namespace {

using Kind = MemberEvent::Kind;

constexpr Duration kSettle = 5s;
constexpr Duration kHeal = 60s;

std::optional<Duration> first_of(SwimNet& net, int observer, Kind kind, int about, Duration since) {
  for (const auto& seen : net.events(observer)) {
    if (seen.at >= since && seen.event.kind == kind && seen.event.node == net.id(about)) {
      return seen.at - since;
    }
  }
  return {};
}

Errors errors_of(SwimNet& net, const std::set<int>& troubled) {
  std::set<NodeId> paused;
  for (const int i : troubled) paused.insert(net.id(i));
  Errors out;
  for (int i = 0; i < net.size(); ++i) {
    for (const auto& seen : net.events(i)) {
      if (seen.event.kind == Kind::kSuspected) ++out.suspicions;
      if (seen.event.kind != Kind::kDied) continue;
      ++(paused.contains(seen.event.node) ? out.troubled_dead : out.healthy_dead);
    }
  }
  return out;
}

}  // namespace

std::vector<Detection> study_detection(int members, int crashes, std::uint64_t seed) {
  SwimNet net(members, seed);
  net.boot_acquainted();
  net.run_for(kSettle);
  std::vector<Detection> out;
  for (int dead = members - 1; dead >= members - crashes; --dead) {
    const Duration since = net.elapsed();
    net.crash(dead);
    net.run_for(20s);
    Detection found{1h, 1h, {}};
    for (int i = 0; i < dead; ++i) {
      const auto suspected = first_of(net, i, Kind::kSuspected, dead, since);
      const auto died = first_of(net, i, Kind::kDied, dead, since);
      found.suspected = std::min(found.suspected, suspected.value_or(1h));
      found.first = std::min(found.first, died.value_or(1h));
      found.all = std::max(found.all, died.value_or(1h));
    }
    out.push_back(found);
  }
  return out;
}

Cost study_cost(int members, Duration time, std::uint64_t seed) {
  SwimNet net(members, seed);
  net.boot_acquainted();
  net.run_for(kSettle);
  const auto before = net.traffic();
  net.run_for(time);
  const auto& after = net.traffic();
  const double node_seconds = members * static_cast<double>(to_ms(time)) / 1000;
  return {static_cast<double>(after.packets - before.packets) / node_seconds,
          static_cast<double>(after.packet_bytes - before.packet_bytes) / node_seconds,
          static_cast<double>(after.push_pull_bytes - before.push_pull_bytes) / node_seconds};
}

Errors study_loss(int members, double loss, Duration time, std::uint64_t seed) {
  SwimNet net(members, seed);
  net.boot_acquainted();
  net.run_for(kSettle);
  net.set_loss(loss);
  net.run_for(time);
  Errors out = errors_of(net, {});
  net.set_loss(0);
  net.run_for(kHeal);
  out.healed = net.converged();
  return out;
}

Errors study_pauses(int members, int paused, Duration pause, Duration between, Duration time,
                    std::uint64_t seed, const SwimConfig& config) {
  SwimNet net(members, seed, config);
  net.boot_acquainted();
  net.run_for(kSettle);
  std::set<int> troubled;
  for (int k = 0; k < paused; ++k) troubled.insert(k * members / paused);
  const Duration end = net.elapsed() + time;
  while (net.elapsed() < end) {
    for (const int i : troubled) net.pause(i);
    net.run_for(pause);
    for (const int i : troubled) net.resume(i);
    net.run_for(between);
  }
  Errors out = errors_of(net, troubled);
  net.run_for(kHeal);
  out.healed = net.converged();
  return out;
}

}  // namespace starling::overlay
