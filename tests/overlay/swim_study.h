// SwimStudy: what the failure detector costs and how well it sees, measured in virtual time.
//
// Each question is asked of a fresh network from one seed, whose members all know each other. The
// same functions serve the suite (small, with bounds) and the program swim_study (docs/benchmarks.md).
// Thread: one.
#pragma once

#include <cstdint>
#include <vector>

#include "overlay/gossip/swim_config.h"
#include "overlay/loop/clock.h"

namespace starling::overlay {

struct Detection {
  Duration suspected{};  // From the crash to the first suspicion,
  Duration first{};      // to the first member that holds it for dead,
  Duration all{};        // to the last.
};
// `crashes` members crash one after the other, each when the one before is known to all.
std::vector<Detection> study_detection(int members, int crashes, std::uint64_t seed);

struct Cost {
  double packets = 0;          // Per node and second.
  double packet_bytes = 0;
  double push_pull_bytes = 0;
};
Cost study_cost(int members, Duration time, std::uint64_t seed);

struct Errors {
  std::uint64_t suspicions = 0;      // Of members that are up, in the eyes of one each.
  std::uint64_t healthy_dead = 0;    // Declared dead, by one each, though up and never paused;
  std::uint64_t troubled_dead = 0;   // of those that were paused.
  bool healed = false;               // A minute later all hold all for alive.
};
// Every packet is lost by that chance.
Errors study_loss(int members, double loss, Duration time, std::uint64_t seed);
// `paused` members stand still for `pause` and run for `between`, again and again.
Errors study_pauses(int members, int paused, Duration pause, Duration between, Duration time,
                    std::uint64_t seed, const SwimConfig& config = SwimConfig::lan());

}  // namespace starling::overlay
