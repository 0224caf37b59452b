// ProcessUse: what a process has taken of the machine, read from /proc.
//
// "Wanted" is the time that a thread ran or was ready to: a server that waits for a core which
// others hold is busy, though its processor time does not say so. Thread: any.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

namespace starling::node::cli {

struct ProcessUse {
  double cpu_s = 0;
  std::uint64_t rss = 0;           // Bytes.
  std::uint64_t written = 0;       // Bytes that went or will go to a disk, since its start.
  std::map<int, double> wanted_s;  // By thread.
};
// Nothing for a process that is gone, or for 0.
std::optional<ProcessUse> use_of(int pid);
ProcessUse own_use();

// Between two looks at one process; threads that ended in between are not counted.
struct WantedTime {
  double busiest_s = 0;  // Of the thread that wanted most.
  double all_s = 0;
};
WantedTime wanted_between(const ProcessUse& before, const ProcessUse& after);

// Seconds that all cores of this machine were busy, whoever had them.
double machine_busy_s();

}  // namespace starling::node::cli
