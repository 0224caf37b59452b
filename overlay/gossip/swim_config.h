// SwimConfig: every knob of the failure detector, with what turning it costs.
//
// Thread: any; value types.
#pragma once

#include "overlay/loop/clock.h"

namespace starling::overlay {

struct SwimConfig {
  // One member is probed per interval, so a dead one is first missed after about one interval,
  // whatever the size of the cluster. Shorter finds deaths sooner and costs packets.
  Duration probe_interval = 500ms;
  // How long a direct ping may take before others are asked: the 99th percentile of the round trip.
  Duration probe_timeout = 200ms;
  // How many others are asked. One lossy path then condemns nobody.
  int indirect_probes = 3;

  // A suspect has at least suspicion_mult * max(1, log10(n)) * probe_interval to speak up: 2 s up
  // to ten nodes. Raising it forgives longer pauses and delays the news of real deaths.
  int suspicion_mult = 4;
  // With one accuser the suspect gets this many times the minimum (Lifeguard).
  int suspicion_max_mult = 3;
  // Local health may stretch probe interval and timeout up to this factor.
  int awareness_max = 8;

  // Updates wait for a packet to ride on, at most this long, and then go to this many members.
  Duration gossip_interval = 100ms;
  int gossip_nodes = 3;
  // Each update is sent retransmit_mult * ceil(log10(n + 1)) times.
  int retransmit_mult = 4;
  // The newly dead still get gossip, so that one who lives learns of the claim and refutes it.
  Duration gossip_to_the_dead = 30s;

  // Whole-table exchange with a random member; repairs what gossip missed. Stretched by log2(n /
  // 32) in clusters over 32 nodes.
  Duration push_pull_interval = 15s;
  // A random dead member or unheard seed gets a push-pull: how a healed partition merges by itself.
  Duration reconnect_interval = 5s;
  // While nobody is alive, a random seed is tried this often; until somebody told us of all, a random member.
  Duration join_interval = 1s;

  // A leaver keeps answering and gossiping this long.
  Duration leave_linger = 1s;
  // Woken this much too late, the node itself was paused: what it missed meanwhile proves nothing.
  // Not longer than probe_timeout: a probe that a pause ran into must never count as failed.
  Duration oversleep = 200ms;

  // One site, round trips of a few milliseconds.
  static SwimConfig lan() { return {}; }
};

}  // namespace starling::overlay
