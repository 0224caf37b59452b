// ReplayReport: what a replay found out, told to people or to programs.
//
// Thread: value type.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "node/check/checker.h"
#include "node/cli/load/histogram.h"
#include "overlay/loop/clock.h"

namespace starling::node::cli {

struct ReplayReport {
  check::Report proof;
  bool interrupted = false;
  std::size_t rooms = 0;
  std::size_t users = 0;
  std::size_t devices = 0;
  std::size_t fresh_devices = 0;
  Duration played_for{};
  std::uint64_t retried = 0;       // Messages that were written more than once,
  std::uint64_t retry_frames = 0;  // and how often again.
  std::uint64_t reconnects = 0;
  std::uint64_t copies = 0;        // Further copies of messages, dropped by the devices.
  std::map<std::string, std::uint64_t> refusals;  // By the name of the error.
  Histogram ack_latency;           // Microseconds.
  Histogram delivery_latency;
  Histogram outages;               // From the loss of a session until the device has caught up again.
};

// Prints it; the exit code of the command.
int tell(const ReplayReport& report, bool as_json);

}  // namespace starling::node::cli
